//! The window: a region of shared memory of the device (virtio 1.3, 5.7.7), in
//! which the guest sees blobs of the host's memory. The front end has it and maps
//! files there, when it is asked to (`front_end.rs`).
#![deny(clippy::indexing_slicing)]

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use paravane_protocol::limits::WINDOW_PLACES_MAX;
use paravane_protocol::virtio_gpu::SHM_HOST_VISIBLE;
use vhost::vhost_user::message::VhostUserShMemConfig;

use crate::fence::Ticket;
use crate::front_end::{Order, Requests};
use crate::memory::{Identity, PAGE_BYTES};
use crate::response::Refusal;
use crate::told::Regions;

/// A place in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From the window's start.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
}

/// A place that a resource has taken; numbers tell one taking from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    resource: u32,
    /// Where.
    pub place: Place,
    number: u64,
    /// What is mapped there, or soon will be.
    pub file: Option<Identity>,
}

/// The window of one connection.
#[derive(Debug, Default)]
pub struct Window {
    bytes: u64,
    /// The front end has asked for its size: it has the region.
    there: bool,
    requests: Option<Requests>,
    /// Bytes that are taken, by where they start.
    taken: BTreeMap<u64, u64>,
    places: HashMap<u32, Taken>,
    /// Counts places that were taken.
    number: u64,
    /// Files that are mapped, and the last ones that were, with how often: the front
    /// end tells of them as of guest memory, before it answers and after.
    files: HashMap<Identity, usize>,
    last: VecDeque<Identity>,
}

/// Files that are remembered when they are not in the window any more.
const LAST_FILES: usize = 4096;

impl Window {
    /// One of so many bytes; 0: the device has none.
    pub fn new(bytes: u64) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// What the front end is told of it; from then on it is there.
    pub fn config(&mut self) -> VhostUserShMemConfig {
        self.there = self.bytes > 0;
        let mut sizes = [0; SHM_HOST_VISIBLE as usize + 1];
        if let Some(size) = sizes.last_mut() {
            *size = self.bytes;
        }
        VhostUserShMemConfig::new(u32::from(self.there), &sizes)
    }

    /// The front end can be asked from now on.
    pub fn open(&mut self, requests: Requests) {
        self.requests = Some(requests);
    }

    /// Whether a guest can see the host's memory.
    pub fn is_there(&self) -> bool {
        self.there && self.requests.is_some()
    }

    /// A resource takes a place.
    pub fn take(&mut self, resource: u32, place: Place) -> Result<(), Refusal> {
        let Place { offset, bytes } = place;
        let whole = offset % PAGE_BYTES == 0 && bytes % PAGE_BYTES == 0 && bytes > 0;
        let end = offset.checked_add(bytes).filter(|end| whole && *end <= self.bytes);
        let end = end.filter(|_| self.is_there()).ok_or(Refusal::InvalidParameter)?;
        let before = self.taken.range(..end).next_back();
        let free = before.is_none_or(|(start, bytes)| start + bytes <= offset);
        if !free || self.place_of(resource).is_some() {
            return Err(Refusal::InvalidParameter);
        }
        if self.places.len() >= WINDOW_PLACES_MAX {
            return Err(Refusal::OutOfMemory);
        }
        self.taken.insert(offset, bytes);
        self.number += 1;
        self.places.insert(resource, Taken { resource, place, number: self.number, file: None });
        Ok(())
    }

    /// Where a resource is.
    pub fn place_of(&self, resource: u32) -> Option<Place> {
        self.places.get(&resource).map(|taken| taken.place)
    }

    /// Nothing was mapped at a resource's place after all.
    pub fn give_back(&mut self, resource: u32) -> Option<Place> {
        let taken = self.places.remove(&resource)?;
        self.taken.remove(&taken.place.offset);
        self.was_mapped(taken.file);
        Some(taken.place)
    }

    /// A file that is mapped no more is forgotten some time after.
    fn was_mapped(&mut self, file: Option<Identity>) {
        self.last.extend(file);
        if self.last.len() > LAST_FILES
            && let Some(oldest) = self.last.pop_front()
            && let Entry::Occupied(mut count) = self.files.entry(oldest)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Whether a file is in the window, or was.
    pub fn has(&self, file: Identity) -> bool {
        self.files.contains_key(&file)
    }

    /// What a memory table of the front end's has of the window's files.
    pub fn tell(&self, regions: Regions) {
        if let Some(requests) = &self.requests {
            requests.tell(regions);
        }
    }

    /// Maps a file, `from` a byte of it on, at the place that a resource has taken;
    /// the command is answered when that is done. `info`: how the guest is to cache
    /// it. `false`: the resource has no place any more.
    pub fn map(&mut self, resource: u32, (file, from): (OwnedFd, u64), info: u32, ticket: Ticket) -> bool {
        let file = File::from(file);
        let (Some(taken), Ok(data)) = (self.places.get_mut(&resource), file.metadata()) else { return false };
        let identity = (data.dev(), data.ino());
        taken.file = Some(identity);
        let taken = *taken;
        *self.files.entry(identity).or_default() += 1;
        self.order(Order::Map { taken, file, from, info, ticket })
    }

    /// Takes a resource out of the window, if it is there; `ticket` is then answered.
    pub fn unmap(&mut self, resource: u32, ticket: Option<Ticket>) -> bool {
        let Some(place) = self.give_back(resource) else { return false };
        self.order(Order::Unmap { place, ticket })
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.taken.clear();
        for taken in std::mem::take(&mut self.places).into_values() {
            self.was_mapped(taken.file);
            self.order(Order::Unmap { place: taken.place, ticket: None });
        }
    }

    fn order(&self, order: Order) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.order(order))
    }

    /// Nothing could be mapped there. Something else may have that place by now.
    pub fn is_not_mapped(&mut self, taken: Taken) {
        if self.places.get(&taken.resource) == Some(&taken) {
            self.give_back(taken.resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use vhost::vhost_user::Backend;

    use super::*;

    /// A window that the front end has, and the front end's end of the channel.
    fn window(bytes: u64) -> (Window, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        let nudge = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let mut window = Window::new(bytes);
        window.open(Requests::start(Backend::from_stream(here), nudge, 1).unwrap());
        window.config();
        (window, there)
    }

    #[test]
    fn the_region_has_the_number_that_a_guest_looks_for() {
        let mut window = Window::new(1 << 30);
        let config = window.config();
        assert_eq!((config.nregions, config.memory_sizes[0], config.memory_sizes[1]), (1, 0, 1 << 30));
        assert!(!window.is_there(), "nobody to map it");
        let mut none = Window::default();
        assert_eq!((none.config().nregions, none.is_there()), (0, false));
    }

    #[test]
    fn places_are_whole_pages_of_the_window_that_nobody_has() {
        let (mut window, _front_end) = window(0x10000);
        let mut take = |resource, offset, bytes| window.take(resource, Place { offset, bytes });
        assert_eq!(take(1, 0x4000, 0x2000), Ok(()));
        for (offset, bytes) in [(0x5000, 0x1000), (0x3000, 0x2000), (0, 0x10000), (0x4800, 0x1000), (0, 0x800), (0, 0)] {
            assert_eq!(take(2, offset, bytes), Err(Refusal::InvalidParameter), "{offset:#x} {bytes:#x}");
        }
        for (offset, bytes) in [(0xf000, 0x2000), (u64::MAX - 0xfff, 0x1000), (0x10000, 0x1000)] {
            assert_eq!(take(2, offset, bytes), Err(Refusal::InvalidParameter), "{offset:#x} {bytes:#x}");
        }
        assert_eq!(take(1, 0x8000, 0x1000), Err(Refusal::InvalidParameter), "one place each");
        assert_eq!(take(2, 0x6000, 0xa000), Ok(()));
        assert_eq!(window.place_of(1), Some(Place { offset: 0x4000, bytes: 0x2000 }));
        window.give_back(1);
        assert_eq!(window.take(3, Place { offset: 0, bytes: 0x6000 }), Ok(()));
    }

    #[test]
    fn files_are_known_while_they_are_mapped_and_for_some_time_after() {
        let (mut window, _front_end) = window(1 << 30);
        let ticket = crate::fence::Timelines::default().wait(None, ());
        let mapped = |window: &mut Window, resource: u32| {
            window.take(resource, Place { offset: u64::from(resource) * PAGE_BYTES, bytes: PAGE_BYTES }).unwrap();
            let file = tempfile::tempfile().unwrap();
            let data = file.metadata().unwrap();
            // It is kept open, so that no other has its number.
            assert!(window.map(resource, (file.try_clone().unwrap().into(), 0), 1, ticket));
            (file, (data.dev(), data.ino()))
        };
        let (_long, stays) = mapped(&mut window, 1);
        let (_short, goes) = mapped(&mut window, 2);
        window.give_back(2);
        assert!(window.has(stays) && window.has(goes));
        let (_other, other) = mapped(&mut window, 3);
        for _ in 0..=LAST_FILES {
            window.was_mapped(Some(other));
            *window.files.entry(other).or_default() += 1;
        }
        assert!(window.has(stays) && window.has(other) && !window.has(goes));
    }

    #[test]
    fn without_the_front_ends_region_nothing_is_mapped() {
        let mut window = Window::new(1 << 20);
        assert_eq!(window.take(1, Place { offset: 0, bytes: 0x1000 }), Err(Refusal::InvalidParameter));
        assert!(!window.unmap(1, None));
    }
}
