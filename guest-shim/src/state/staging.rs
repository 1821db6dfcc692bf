//! Staging: slots in shared pages through which pageable memory is copied.
//! The guest fills one slot while the host drains others. One thread stages
//! at a time; the area is made at the first copy that needs it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use paravane_protocol::internal;
use paravane_protocol::limits::{STAGING_SLOT_BYTES, STAGING_SLOTS};

use crate::boundary::Answer;
use crate::connection::{self, Area, ThreadRing};
use crate::pointer;

/// Bytes of one slot.
pub(crate) const SLOT: usize = STAGING_SLOT_BYTES as usize;
/// Number of slots.
pub(crate) const SLOTS: usize = STAGING_SLOTS as usize;

static STAGING: Mutex<Option<Area>> = Mutex::new(None);

/// The slots, held by one thread for one copy.
pub(crate) struct Staging {
    area: Area,
    /// The ring's frame that uses a slot last; `None` while it is free.
    used_by: [Option<u32>; SLOTS],
    _held: MutexGuard<'static, Option<Area>>,
}

/// Takes the slots. All are free at the start, and again when the copy's last
/// frame is done.
pub(crate) fn take(ring: &mut ThreadRing) -> Answer<Staging> {
    let mut held = STAGING.lock().unwrap_or_else(PoisonError::into_inner);
    let area = match *held {
        Some(area) => area,
        None => {
            let area = connection::get()?.create_area(SLOT * SLOTS)?;
            ring.call(
                internal::STAGING_ADD,
                |to| {
                    to.word(u64::from(area.index));
                    Ok(())
                },
                |_| (),
            )?;
            *held.insert(area)
        }
    };
    Ok(Staging { area, used_by: [None; SLOTS], _held: held })
}

impl Staging {
    /// The area's index, for operands.
    pub(crate) fn area(&self) -> u16 {
        self.area.index
    }

    /// Offset of a slot in the area.
    pub(crate) fn offset(slot: usize) -> usize {
        slot * SLOT
    }

    /// Waits until the host is done with a slot.
    pub(crate) fn wait(&mut self, ring: &ThreadRing, slot: usize) -> Answer {
        match self.used_by[slot].take() {
            Some(frame) => ring.wait_done(frame),
            None => Ok(()),
        }
    }

    /// The frame that was just sent uses a slot.
    pub(crate) fn uses(&mut self, ring: &ThreadRing, slot: usize) {
        self.used_by[slot] = Some(ring.sent());
    }

    /// A slot's first `bytes`. Not while the host uses it.
    pub(crate) fn bytes(&self, slot: usize, bytes: usize) -> Answer<&'static mut [u8]> {
        pointer::bytes_mut(self.area.pages.at(Self::offset(slot), bytes), bytes)
    }
}
