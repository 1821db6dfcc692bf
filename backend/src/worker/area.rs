//! Areas: guest pages, scattered in guest memory, mapped contiguously here.
//! An area is mapped when its use is known, since host memory wants the
//! guest's own address.
#![allow(unsafe_code, reason = "mmap")]

use std::collections::HashMap;
use std::ffi::c_void;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use paravane_protocol::shared::SharedPages;

use crate::control::{Piece, Region};

/// How long a command waits for an area that the backend has not told of yet:
/// its message and the guest's command travel different ways.
const ARRIVAL: Duration = Duration::from_secs(2);

/// Where an area's pages lie.
struct Known {
    bytes: u64,
    pieces: Vec<Piece>,
    mapped: Option<Arc<Mapping>>,
}

/// At whose addresses an area is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Reserved for it.
    Own,
    /// The library's, which has lent them: they are never unmapped.
    Lent,
}

/// An area mapped in this process.
pub(super) struct Mapping {
    pages: SharedPages,
    place: Place,
}

impl Mapping {
    pub(super) fn pages(&self) -> SharedPages {
        self.pages
    }

    /// `bytes` from `offset`, if the area has them.
    pub(super) fn address(&self, offset: u64, bytes: u64) -> Option<*mut u8> {
        let end = offset.checked_add(bytes)?;
        if end > self.pages.bytes() as u64 {
            return None;
        }
        Some(self.pages.at(usize::try_from(offset).ok()?, usize::try_from(bytes).ok()?))
    }

    /// Puts private zero pages in the area's place: whoever still uses the
    /// mapping touches no page of the guest's.
    fn sever(&self) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let base = self.pages.at(0, 0).cast::<c_void>();
        map(base, self.pages.bytes(), libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0).map(|_| ())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.place == Place::Lent {
            return;
        }
        // SAFETY: mapped by place(); the last user is gone.
        unsafe { libc::munmap(self.pages.at(0, 0).cast(), self.pages.bytes()) };
    }
}

fn map(at: *mut c_void, bytes: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> io::Result<*mut c_void> {
    // SAFETY: a fixed address is only given within a range reserved here.
    let address = unsafe { libc::mmap(at, bytes, protection, flags, fd, offset) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address) }
}

/// All areas of the process.
pub(super) struct Areas {
    table: Mutex<Table>,
    arrived: Condvar,
}

struct Table {
    regions: Vec<Region>,
    known: HashMap<u16, Known>,
}

impl Areas {
    pub(super) fn new() -> Self {
        let table = Table { regions: Vec::new(), known: HashMap::new() };
        Self { table: Mutex::new(table), arrived: Condvar::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_memory(&self, regions: Vec<Region>) {
        self.lock().regions = regions;
    }

    /// The backend has told where an area lies.
    pub(super) fn add(&self, area: u16, bytes: u64, pieces: Vec<Piece>) {
        self.lock().known.insert(area, Known { bytes, pieces, mapped: None });
        self.arrived.notify_all();
    }

    /// The guest wants its pages back.
    pub(super) fn remove(&self, area: u16) -> io::Result<()> {
        match self.lock().known.remove(&area).and_then(|known| known.mapped) {
            Some(mapping) => mapping.sever(),
            None => Ok(()),
        }
    }

    /// The table, with the area in it if it comes at all.
    fn arrived(&self, area: u16) -> std::sync::MutexGuard<'_, Table> {
        let absent = |table: &mut Table| !table.known.contains_key(&area);
        let waited = self.arrived.wait_timeout_while(self.lock(), ARRIVAL, absent);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Lays an area that is not mapped yet over `bytes` that the library has lent,
    /// which must be as many as the area has; the bytes stay.
    pub(super) fn lay(&self, area: u16, lent: usize, bytes: u64) -> io::Result<Arc<Mapping>> {
        let mut table = self.arrived(area);
        let Table { regions, known } = &mut *table;
        let known = known.get_mut(&area).ok_or(io::ErrorKind::NotFound)?;
        if known.mapped.is_some() || known.bytes != bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let elsewhere = place(regions, known, None)?;
        let bytes = elsewhere.pages.bytes();
        let to = elsewhere.pages.at(0, bytes);
        // SAFETY: the lent pages, of which there are as many, are readable.
        unsafe { std::ptr::copy_nonoverlapping(lent as *const u8, to, bytes) };
        // SAFETY: the library keeps lent addresses; nothing refers to their pages.
        let mapping = Mapping { pages: unsafe { SharedPages::new(lent as *mut u8, bytes) }, place: Place::Lent };
        lay_pieces(regions, known, &mapping)?;
        Ok(Arc::clone(known.mapped.insert(Arc::new(mapping))))
    }

    /// Takes an area from lent pages, where private zero pages are then.
    pub(super) fn take_off(&self, area: u16) -> io::Result<()> {
        match self.lock().known.get_mut(&area).and_then(|known| known.mapped.take()) {
            Some(mapping) => mapping.sever(),
            None => Ok(()),
        }
    }

    /// An area, mapped now if it was not: at `wanted` if that is free.
    pub(super) fn map(&self, area: u16, wanted: Option<usize>) -> io::Result<Arc<Mapping>> {
        let mut table = self.arrived(area);
        let Table { regions, known } = &mut *table;
        let known = known.get_mut(&area).ok_or(io::ErrorKind::NotFound)?;
        if let Some(mapping) = &known.mapped {
            return Ok(Arc::clone(mapping));
        }
        let mapping = Arc::new(place(regions, known, wanted)?);
        Ok(Arc::clone(known.mapped.insert(mapping)))
    }

    /// An area that is mapped already.
    pub(super) fn mapped(&self, area: u16) -> Option<Arc<Mapping>> {
        self.lock().known.get(&area)?.mapped.clone()
    }
}

/// Reserves addresses and lays the pieces into them.
fn place(regions: &[Region], known: &Known, wanted: Option<usize>) -> io::Result<Mapping> {
    let bytes = usize::try_from(known.bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let reserve = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let at_wanted = wanted.map(|at| {
        let flags = reserve | libc::MAP_FIXED_NOREPLACE;
        map(at as *mut c_void, bytes, libc::PROT_NONE, flags, -1, 0)
    });
    let base = match at_wanted {
        Some(Ok(base)) => base,
        _ => map(std::ptr::null_mut(), bytes, libc::PROT_NONE, reserve, -1, 0)?,
    };
    // SAFETY: just reserved, page-aligned; unmapped only when this is dropped.
    let mapping = Mapping { pages: unsafe { SharedPages::new(base.cast(), bytes) }, place: Place::Own };
    lay_pieces(regions, known, &mapping)?;
    Ok(mapping)
}

/// Lays an area's pieces over the pages of a mapping, neighbours in the file as
/// one.
fn lay_pieces(regions: &[Region], known: &Known, mapping: &Mapping) -> io::Result<()> {
    let bytes = mapping.pages.bytes();
    let mut at = 0;
    for run in runs(&known.pieces) {
        let region = regions.get(run.region).ok_or(io::ErrorKind::InvalidData)?;
        let within = run.offset.checked_add(run.bytes).is_some_and(|end| end <= region.bytes);
        let fits = usize::try_from(run.bytes).ok().filter(|len| within && *len <= bytes - at);
        let len = fits.ok_or(io::ErrorKind::InvalidData)?;
        let offset = i64::try_from(region.file_offset + run.offset)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let target = mapping.pages.at(at, len).cast();
        map(target, len, protection, flags, region.file.as_raw_fd(), offset)?;
        at += len;
    }
    if at == bytes { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Pieces that lie behind each other in one region's file.
struct Run {
    region: usize,
    offset: u64,
    bytes: u64,
}

fn runs(pieces: &[Piece]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for piece in pieces {
        let (region, offset) = (piece.region.get() as usize, piece.offset.get());
        match runs.last_mut() {
            Some(run) if run.region == region && run.offset + run.bytes == offset => {
                run.bytes += piece.bytes.get();
            }
            _ => runs.push(Run { region, offset, bytes: piece.bytes.get() }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn piece(offset: u64, bytes: u64) -> Piece {
        Piece { region: 0.into(), pad: 0.into(), offset: offset.into(), bytes: bytes.into() }
    }

    #[test]
    fn scattered_pages_become_contiguous_and_are_given_back() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 * 4096).unwrap();
        for page in 0..8_u8 {
            file.write_all_at(&[page], u64::from(page) * 4096).unwrap();
        }
        let areas = Areas::new();
        let region = Region { file: file.try_clone().unwrap().into(), file_offset: 0, bytes: 8 * 4096 };
        areas.set_memory(vec![region]);
        areas.add(3, 4 * 4096, vec![piece(5 * 4096, 4096), piece(4096, 4096), piece(2 * 4096, 8192)]);
        let mapping = areas.map(3, None).unwrap();
        let first_bytes = [0, 1, 2, 3].map(|page| {
            let mut byte = [0];
            paravane_protocol::shared::Shared::read(&mapping.pages(), page * 4096, &mut byte);
            byte[0]
        });
        assert_eq!(first_bytes, [5, 1, 2, 3]);
        assert!(mapping.address(4096, 3 * 4096).is_some());
        assert!(mapping.address(4096, 3 * 4096 + 1).is_none());
        assert!(mapping.address(u64::MAX, 2).is_none());
        areas.remove(3).unwrap();
        paravane_protocol::shared::Shared::write(&mapping.pages(), 0, &[99]);
        let mut after = [0];
        file.read_exact_at(&mut after, 5 * 4096).unwrap();
        assert_eq!(after, [5], "a severed mapping reaches no page of the guest's");
    }

    #[test]
    fn pieces_outside_their_region_are_refused() {
        let areas = Areas::new();
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        areas.set_memory(vec![Region { file: file.into(), file_offset: 0, bytes: 4096 }]);
        areas.add(1, 8192, vec![piece(0, 8192)]);
        assert!(areas.map(1, None).is_err());
        areas.add(2, 8192, vec![piece(0, 4096)]);
        assert!(areas.map(2, None).is_err(), "shorter than it claims");
    }
}
