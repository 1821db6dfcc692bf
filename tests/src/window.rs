//! A front end's side of the device's window and objects: it maps what SHMEM_MAP brings and knows what SHARED_OBJECT_ADD
//! names, as QEMU does, and holds requests against the protocol (QEMU's docs/interop/vhost-user).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use vhost::VhostUserMemoryRegionInfo;
use vhost::vhost_user::message::{VhostUserMMap, VhostUserSharedMsg};
use vhost::vhost_user::{Frontend, FrontendReqHandler, HandlerResult, VhostUserFrontend, VhostUserFrontendReqHandler};

use crate::frontend::FrontEnd;
use crate::pause::Pause;

/// A file, from where on, and how many bytes.
struct Mapped {
    file: File,
    from: u64,
    bytes: u64,
}

/// What the device has not been told of yet, as of memory: a place, and what is mapped there.
struct Change {
    offset: u64,
    mapped: Mapped,
    is_there: bool,
}

/// Where the window begins in the guest's address space, and in the front end's: no ring lies in it, so nobody goes there.
const WINDOW_AT: u64 = 1 << 36;
const WINDOW_AT_HERE: u64 = 1 << 46;

/// The window as the guest would see it: files by their places.
#[derive(Default)]
pub struct Window {
    files: Mutex<BTreeMap<u64, Mapped>>,
    objects: Mutex<BTreeSet<[u8; 16]>>,
    /// Nothing is answered while this is held.
    pub pause: Pause,
    changes: Mutex<Vec<Change>>,
    vhost: Mutex<Option<Frontend>>,
    /// Nothing is told of as of memory while this is held.
    pub telling: Pause,
    /// Nothing ever is.
    pub is_silent: AtomicBool,
}

/// The front end goes, and tells nothing more: the connection may close.
pub(crate) struct Leaves(Arc<Window>);

impl Drop for Leaves {
    fn drop(&mut self) {
        *self.0.vhost.lock().unwrap() = None;
        self.0.telling.hold(false);
    }
}

impl Window {
    /// Where something is mapped, and how many bytes.
    pub fn places(&self) -> Vec<(u64, u64)> {
        self.files.lock().unwrap().iter().map(|(offset, mapped)| (*offset, mapped.bytes)).collect()
    }

    /// The UUIDs of objects that the device has.
    pub fn objects(&self) -> BTreeSet<[u8; 16]> {
        self.objects.lock().unwrap().clone()
    }

    /// What a guest reads there.
    pub fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let files = self.files.lock().unwrap();
        let (start, mapped) = files.range(..=offset).next_back().expect("nothing is mapped there");
        assert!(offset + bytes as u64 <= start + mapped.bytes, "beyond what is mapped");
        let mut read = vec![0; bytes];
        mapped.file.read_exact_at(&mut read, mapped.from + offset - start).unwrap();
        read
    }

    /// The file that is mapped there from its start.
    pub fn file(&self, offset: u64) -> File {
        self.files.lock().unwrap()[&offset].file.try_clone().unwrap()
    }
}

impl Window {
    /// Tells the device of what has come and gone, as QEMU does: as of guest memory, and after the answer.
    fn tell(&self) {
        self.telling.wait();
        for Change { offset, mapped, is_there } in std::mem::take(&mut *self.changes.lock().unwrap()) {
            let region = VhostUserMemoryRegionInfo {
                guest_phys_addr: WINDOW_AT + offset,
                memory_size: mapped.bytes,
                userspace_addr: WINDOW_AT_HERE + offset,
                mmap_offset: mapped.from,
                mmap_handle: mapped.file.as_raw_fd(),
            };
            let vhost = self.vhost.lock().unwrap().clone().filter(|_| !self.is_silent.load(Ordering::Relaxed));
            // One that has ended needs not be told.
            match vhost {
                Some(mut vhost) if is_there => drop(vhost.add_mem_region(&region)),
                Some(mut vhost) => drop(vhost.remove_mem_region(&region)),
                None => (),
            }
        }
    }
}

impl VhostUserFrontendReqHandler for Window {
    fn shmem_map(&self, request: &VhostUserMMap, fd: &dyn AsRawFd) -> HandlerResult<u64> {
        self.pause.wait();
        let VhostUserMMap { shmid, fd_offset, shm_offset, len, flags, .. } = *request;
        assert_eq!((shmid, flags), (1, 1), "region 1, writable");
        // SAFETY: the handler keeps it open during the call.
        let file = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        let file = File::from(file.try_clone_to_owned().unwrap());
        let mut files = self.files.lock().unwrap();
        // As QEMU does: a file that ends before that is not mapped.
        assert!(fd_offset + len <= file.metadata().unwrap().len(), "the file ends before that");
        let overlaps = files.iter().any(|(start, mapped)| *start < shm_offset + len && shm_offset < start + mapped.bytes);
        if overlaps {
            return Err(io::Error::other("something is mapped there"));
        }
        let mapped = || Mapped { file: file.try_clone().unwrap(), from: fd_offset, bytes: len };
        files.insert(shm_offset, mapped());
        self.changes.lock().unwrap().push(Change { offset: shm_offset, mapped: mapped(), is_there: true });
        Ok(0)
    }

    fn shared_object_add(&self, named: &VhostUserSharedMsg) -> HandlerResult<u64> {
        self.pause.wait();
        assert!(self.objects.lock().unwrap().insert(*named.uuid.as_bytes()), "QEMU refuses what it knows");
        Ok(0)
    }

    fn shared_object_remove(&self, named: &VhostUserSharedMsg) -> HandlerResult<u64> {
        self.pause.wait();
        assert!(self.objects.lock().unwrap().remove(named.uuid.as_bytes()), "nobody has named that");
        Ok(0)
    }

    fn shmem_unmap(&self, request: &VhostUserMMap) -> HandlerResult<u64> {
        self.pause.wait();
        let (offset, bytes) = (request.shm_offset, request.len);
        match self.files.lock().unwrap().remove(&offset) {
            Some(mapped) if mapped.bytes == bytes => {
                self.changes.lock().unwrap().push(Change { offset, mapped, is_there: false });
                Ok(0)
            }
            _ => Err(io::Error::other("nothing is mapped there")),
        }
    }
}

impl FrontEnd {
    /// Connects as QEMU's vhost-user-test-device-pci does: with a channel for the device's own requests, and a region of
    /// shared memory where the device has one. How large it is.
    pub fn with_window(socket: &Path) -> (Self, Arc<Window>, u64) {
        let mut front_end = Self::negotiate(Frontend::connect(socket, 2).unwrap());
        let window = Arc::new(Window::default());
        let mut handler = FrontendReqHandler::new(Arc::clone(&window)).unwrap();
        handler.set_reply_ack_flag(true);
        // SAFETY: the handler keeps it open, and lives as long as its thread.
        let channel = unsafe { BorrowedFd::borrow_raw(handler.get_tx_raw_fd()) };
        front_end.vhost.set_backend_request_fd(&channel).unwrap();
        // A device without the region does not know the question.
        let bytes = front_end.vhost.get_shmem_config().map_or(0, |config| config.memory_sizes[1]);
        front_end.start_queues();
        *window.vhost.lock().unwrap() = Some(front_end.vhost.clone());
        front_end.leaves = Some(Leaves(Arc::clone(&window)));
        let tells = Arc::clone(&window);
        std::thread::spawn(move || {
            while handler.handle_request().is_ok() {
                tells.tell();
            }
        });
        (front_end, window, bytes)
    }
}
