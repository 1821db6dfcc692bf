//! What the device asks of the front end, over vhost-user's channel for that
//! (SET_BACKEND_REQ_FD; QEMU's docs/interop/vhost-user): to map files in the window,
//! and to know that the device has an object that others may ask for. A thread of
//! its own asks, because the front end answers only when it does not wait for the
//! device: so the device never waits for it either.
#![deny(clippy::indexing_slicing)]

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use paravane_protocol::virtio_gpu::{MapInfo, SHM_HOST_VISIBLE, ctrl};
use vhost::vhost_user::message::{VhostUserMMap, VhostUserMMapFlags, VhostUserSharedMsg};
use vhost::vhost_user::{Backend, VhostUserFrontendReqHandler};
use vm_memory::{ByteValued, FileOffset, MmapRegion};
use zerocopy::IntoBytes;

use crate::fence::Ticket;
use crate::memory::Identity;
use crate::objects::Uuid;
use crate::response::{Refusal, Response};
use crate::told::{self, Regions, Told};
use crate::window::{Place, Taken};

type Answers = Arc<Mutex<Vec<Done>>>;

/// What the thread is to do.
#[derive(Debug)]
pub enum Order {
    /// Map a file in the window; `info`: how the guest is to cache it.
    Map {
        /// Where.
        taken: Taken,
        /// It.
        file: File,
        /// Where it begins in that.
        from: u64,
        /// virtio-gpu's map_info.
        info: u32,
        /// What it answers.
        ticket: Ticket,
    },
    /// Take it out.
    Unmap {
        /// From where.
        place: Place,
        /// What it answers, if it does.
        ticket: Option<Ticket>,
    },
    /// Have an object known, if it is not.
    Add {
        /// It.
        uuid: Uuid,
        /// What it answers.
        ticket: Ticket,
    },
    /// Have it forgotten.
    Remove(Uuid),
}

/// What could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Nothing is mapped there.
    Map(Taken),
    /// Nobody knows this object.
    Add(Uuid),
}

/// What the thread has done.
#[derive(Debug)]
pub struct Done {
    /// What is answered.
    pub ticket: Ticket,
    /// So.
    pub response: Response,
    /// Where it is a refusal.
    pub failed: Option<Failed>,
}

/// The device's side. The thread ends when all of these are dropped.
#[derive(Clone, Debug)]
pub struct Requests {
    orders: Sender<Order>,
    answers: Answers,
    told: Arc<Told>,
}

impl Requests {
    /// Starts the thread. `nudge` is an eventfd, written when there are answers.
    pub fn start(front_end: Backend, nudge: OwnedFd, connection: u64) -> io::Result<Self> {
        let (sender, orders) = channel();
        let (answers, told) = (Answers::default(), Arc::new(Told::default()));
        let asker = Asker {
            front_end,
            answers: Arc::clone(&answers),
            told: Arc::clone(&told),
            nudge,
            connection,
            mapped: HashMap::new(),
            known: HashSet::new(),
        };
        std::thread::Builder::new().name(format!("front end {connection}")).spawn(move || asker.serve(&orders))?;
        Ok(Self { orders: sender, answers, told })
    }

    /// Leaves an order. `false`: nobody is there.
    pub fn order(&self, order: Order) -> bool {
        self.orders.send(order).is_ok()
    }

    /// What the front end tells of the window's files as of memory.
    pub fn tell(&self, regions: Regions) {
        self.told.set(regions);
    }

    /// What has been done since.
    pub fn done(&self) -> Vec<Done> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The thread's side.
struct Asker {
    front_end: Backend,
    answers: Answers,
    told: Arc<Told>,
    nudge: OwnedFd,
    connection: u64,
    /// What is mapped, by where it starts.
    mapped: HashMap<u64, Identity>,
    /// Objects that the front end knows.
    known: HashSet<Uuid>,
}

impl Asker {
    fn serve(mut self, orders: &Receiver<Order>) {
        for order in orders {
            let (ticket, response, of_refusal) = match order {
                Order::Map { taken, file, from, info, ticket } => {
                    (Some(ticket), self.map(taken, &file, from, info), Some(Failed::Map(taken)))
                }
                Order::Unmap { place, ticket } => (ticket, self.unmap(place), None),
                Order::Add { uuid, ticket } => (Some(ticket), self.add(uuid), Some(Failed::Add(uuid))),
                Order::Remove(uuid) => {
                    self.remove(uuid);
                    continue;
                }
            };
            let Some(ticket) = ticket else { continue };
            let failed = of_refusal.filter(|_| matches!(response, Response::Refused(_)));
            let done = Done { ticket, response, failed };
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(done);
            // Fails only when 2^64 - 2 nudges wait; then it is readable.
            let _ = rustix::io::write(&self.nudge, &1_u64.to_ne_bytes());
        }
    }

    fn map(&mut self, Taken { place, file: identity, .. }: Taken, file: &File, from: u64, info: u32) -> Response {
        if let Err(error) = can_be_mapped(file, from, place.bytes) {
            log::warn!("connection {}: a blob of {} bytes cannot be mapped: {error}", self.connection, place.bytes);
            return Refusal::Unspecified.into();
        }
        let request = VhostUserMMap { fd_offset: from, ..request(place, VhostUserMMapFlags::WRITABLE) };
        match self.front_end.shmem_map(&request, file) {
            Ok(_) => {
                self.wait_for_the_guest_to_see(place, identity);
                let info = MapInfo { map_info: info.into(), padding: 0.into() };
                Response::Data(ctrl::OK_MAP_INFO, info.as_bytes().to_vec())
            }
            Err(error) => {
                log::warn!("connection {}: the front end does not map {place:?}: {error}", self.connection);
                Refusal::OutOfMemory.into()
            }
        }
    }

    /// Waits until the guest would find the file there.
    fn wait_for_the_guest_to_see(&mut self, place: Place, file: Option<Identity>) {
        let Some(file) = file else { return };
        self.mapped.insert(place.offset, file);
        let times = self.mapped.values().filter(|mapped| **mapped == file).count();
        let answered = Instant::now();
        let is_told = self.told.wait(file, times, told::WAIT);
        let (said, waited) = (if is_told { "told" } else { "not told" }, answered.elapsed());
        log::debug!("connection {}: {said} of {place:?} as of memory, {waited:.1?} after it was mapped", self.connection);
    }

    fn unmap(&mut self, place: Place) -> Response {
        self.mapped.remove(&place.offset);
        // One that resets the device has taken it out by itself.
        if let Err(error) = self.front_end.shmem_unmap(&request(place, VhostUserMMapFlags::default())) {
            log::debug!("connection {}: the front end does not unmap {place:?}: {error}", self.connection);
        }
        Response::Done
    }

    fn add(&mut self, uuid: Uuid) -> Response {
        if !self.known.contains(&uuid) {
            if let Err(error) = self.front_end.shared_object_add(&named(uuid)) {
                log::warn!("connection {}: the front end does not take an object: {error}", self.connection);
                return Refusal::Unspecified.into();
            }
            self.known.insert(uuid);
        }
        Response::Data(ctrl::OK_RESOURCE_UUID, uuid.to_vec())
    }

    fn remove(&mut self, uuid: Uuid) {
        if self.known.remove(&uuid)
            && let Err(error) = self.front_end.shared_object_remove(&named(uuid))
        {
            log::debug!("connection {}: the front end does not forget an object: {error}", self.connection);
        }
    }
}

/// Whether a front end can do it. A page that the file does not have would be a fault
/// there, and QEMU closes the channel for good where it cannot map a file.
fn can_be_mapped(mut file: &File, from: u64, bytes: u64) -> io::Result<()> {
    // The length of a dma-buf is where its end is, and not in its metadata.
    let length = file.seek(SeekFrom::End(0)).unwrap_or(0);
    if length > 0 && length < bytes.saturating_add(from) {
        return Err(io::Error::other(format!("it begins at {from} in a file of {length} bytes")));
    }
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    let place = FileOffset::new(file.try_clone()?, from);
    MmapRegion::<()>::from_file(place, bytes).map(drop).map_err(io::Error::other)
}

fn request(Place { offset, bytes }: Place, flags: VhostUserMMapFlags) -> VhostUserMMap {
    VhostUserMMap { shmid: SHM_HOST_VISIBLE, shm_offset: offset, len: bytes, flags: flags.bits(), ..Default::default() }
}

fn named(uuid: Uuid) -> VhostUserSharedMsg {
    let mut message = VhostUserSharedMsg::default();
    message.as_mut_slice().copy_from_slice(&uuid);
    message
}
