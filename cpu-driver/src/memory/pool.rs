//! Pools of stream-ordered memory. A block that is freed in a stream's order stays the stream's
//! until its turn comes: only allocations of the same stream may take it before; then it is kept for
//! any stream, or goes back to the arena beyond the release threshold.

use super::arena::{GRANULE, NO_DEVICE, Owner, Sort, arena};
use super::physical;
use crate::device::Device;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// A block that waits for its stream.
struct Pending {
    ticket: u64,
    stream: u64,
    address: u64,
    size: u64,
}

#[derive(Default)]
struct Blocks {
    /// Allocated, by address.
    used: HashMap<u64, u64>,
    /// Kept, each free for anybody.
    kept: Vec<(u64, u64)>,
    pending: Vec<Pending>,
    next_ticket: u64,
    /// The devices whose kernels reach the blocks.
    reach: u8,
    figures: Figures,
    closed: bool,
}

/// What a pool's attributes tell, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub release_threshold: u64,
    pub reserved: u64,
    pub reserved_high: u64,
    pub used: u64,
    pub used_high: u64,
    /// Reuse along events, opportunistic, by internal dependencies: what a program set. This pool
    /// reuses within a stream and after the work is done, which all of them allow.
    pub reuse: [u32; 3],
}

pub struct Pool {
    /// Whose memory it has.
    pub device: Device,
    /// 0: as much as the device has.
    pub max_size: u64,
    pub handle_types: u32,
    pub is_default: bool,
    /// What names it in other processes, where it can be shared.
    pub token: Option<[u8; 16]>,
    /// Another process's, from which nothing is allocated here.
    pub is_imported: bool,
    /// Its handle, while it has one.
    pub handle: AtomicU64,
    blocks: Mutex<Blocks>,
}

/// Name and size of the file that names a pool.
const FILE_NAME: &str = "paravane-cpu-memory-pool";
const FILE_BYTES: u64 = 4096;
/// What is in it: the pool's token and its device's number.
const NAME_BYTES: usize = 17;

/// Which pool each live block is of, also after the pool's handle has ended.
static LIVE: LazyLock<Mutex<HashMap<u64, Arc<Pool>>>> = LazyLock::new(Mutex::default);

fn live() -> MutexGuard<'static, HashMap<u64, Arc<Pool>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A free on its stream.
pub struct Freed {
    pool: Arc<Pool>,
    ticket: u64,
}

impl Freed {
    /// The stream has come by: nothing on it uses the block any more.
    pub fn settle(&self) {
        let mut blocks = self.pool.lock();
        if let Some(at) = blocks.pending.iter().position(|pending| pending.ticket == self.ticket) {
            let Pending { address, size, .. } = blocks.pending.swap_remove(at);
            blocks.keep_or_release(address, size);
        }
    }
}

/// Whether a block of `size` bytes may serve a request: no more than as much again is wasted.
fn fits(size: u64, wanted: u64) -> bool {
    size >= wanted && size / 2 <= wanted
}

impl Blocks {
    fn keep_or_release(&mut self, address: u64, size: u64) {
        self.figures.used -= size;
        if self.closed || self.figures.reserved > self.figures.release_threshold {
            self.figures.reserved -= size;
            arena().release(address);
        } else {
            arena().set_reach(address, size, NO_DEVICE);
            self.kept.push((address, size));
        }
    }

    /// Releases kept blocks until no more than `keep` bytes are reserved.
    fn trim(&mut self, keep: u64) {
        while self.figures.reserved > keep
            && let Some((address, size)) = self.kept.pop()
        {
            self.figures.reserved -= size;
            arena().release(address);
        }
    }

    fn count_use(&mut self, address: u64, size: u64) {
        self.used.insert(address, size);
        let figures = &mut self.figures;
        figures.used += size;
        figures.used_high = figures.used_high.max(figures.used);
        figures.reserved_high = figures.reserved_high.max(figures.reserved);
    }

    /// A block that is there: one that this stream has freed, or one that is kept.
    fn reuse(&mut self, wanted: u64, stream: u64) -> Option<u64> {
        let of_stream = |pending: &Pending| pending.stream == stream && fits(pending.size, wanted);
        if let Some(at) = self.pending.iter().position(of_stream) {
            let Pending { address, size, .. } = self.pending.swap_remove(at);
            self.used.insert(address, size);
            return Some(address);
        }
        let best = (0..self.kept.len()).filter(|&at| fits(self.kept[at].1, wanted)).min_by_key(|&at| self.kept[at].1)?;
        let (address, size) = self.kept.swap_remove(best);
        arena().set_reach(address, size, self.reach);
        self.count_use(address, size);
        Some(address)
    }

    fn fresh(&mut self, device: Device, wanted: u64, max_size: u64) -> Option<u64> {
        if max_size > 0 && self.figures.reserved.saturating_add(wanted) > max_size {
            return None;
        }
        let address = arena().allocate(Owner::new(0, device, Sort::Pool, wanted))?;
        arena().set_reach(address, wanted, self.reach);
        self.figures.reserved += wanted;
        self.count_use(address, wanted);
        Some(address)
    }
}

impl Pool {
    pub fn new(device: Device, max_size: u64, handle_types: u32, is_default: bool) -> Arc<Self> {
        let figures = Figures { reuse: [1; 3], ..Figures::default() };
        let blocks = Blocks { figures, reach: device.bit(), ..Blocks::default() };
        let (token, is_imported) = ((handle_types != 0).then(super::ipc::token).flatten(), false);
        let handle = AtomicU64::new(0);
        Arc::new(Self { device, max_size, handle_types, is_default, token, is_imported, handle, blocks: Mutex::new(blocks) })
    }

    /// Another process's pool.
    pub fn imported(device: Device, token: [u8; 16]) -> Arc<Self> {
        let blocks = Mutex::new(Blocks { reach: device.bit(), ..Blocks::default() });
        let (max_size, handle_types, is_default) = (0, 0, false);
        let (token, is_imported, handle) = (Some(token), true, AtomicU64::new(0));
        Arc::new(Self { device, max_size, handle_types, is_default, token, is_imported, handle, blocks })
    }

    /// A descriptor that names the pool to other processes; None where it cannot be shared.
    pub fn export(&self) -> Option<OwnedFd> {
        let file = physical::named_file(FILE_NAME, FILE_BYTES)?;
        let mut name = [0; NAME_BYTES];
        name[..16].copy_from_slice(&self.token.filter(|_| !self.is_imported)?);
        name[16] = self.device.number();
        // SAFETY: the bytes are a local's.
        let written = unsafe { libc::pwrite(file.as_raw_fd(), name.as_ptr().cast(), name.len(), 0) };
        (usize::try_from(written) == Ok(name.len())).then_some(file)
    }

    /// What a descriptor of [`Pool::export`] names, in whatever process; None also where the pool's device is
    /// not seen here.
    pub fn named_in(file: BorrowedFd<'_>) -> Option<(Device, [u8; 16])> {
        let mut name = [0; NAME_BYTES];
        if physical::size_of_file(file) != Some(FILE_BYTES) {
            return None;
        }
        // SAFETY: writes to a local of that length.
        let read = unsafe { libc::pread(file.as_raw_fd(), name.as_mut_ptr().cast(), name.len(), 0) };
        let token = *name.first_chunk().filter(|token| **token != super::ipc::NO_POOL)?;
        let device = Device::with_number(name[16])?;
        (usize::try_from(read) == Ok(name.len())).then_some((device, token))
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool of the live block that starts at `address`.
    pub fn of(address: u64) -> Option<Arc<Self>> {
        live().get(&address).cloned()
    }

    /// A block for work that comes after what is on the stream now; None when there is no memory
    /// even without what is kept.
    pub fn allocate(self: &Arc<Self>, size: u64, stream: u64) -> Option<u64> {
        let wanted = size.checked_next_multiple_of(GRANULE)?;
        let mut blocks = self.lock();
        let address = blocks.reuse(wanted, stream).or_else(|| blocks.fresh(self.device, wanted, self.max_size)).or_else(|| {
            blocks.trim(0);
            blocks.fresh(self.device, wanted, self.max_size)
        })?;
        drop(blocks);
        live().insert(address, Arc::clone(self));
        Some(address)
    }

    /// Takes a block from the program; what is returned belongs on the stream. None when no block
    /// of this pool starts there.
    pub fn free(self: &Arc<Self>, address: u64, stream: u64) -> Option<Freed> {
        let mut blocks = self.lock();
        let size = blocks.used.remove(&address)?;
        blocks.next_ticket += 1;
        let ticket = blocks.next_ticket;
        blocks.pending.push(Pending { ticket, stream, address, size });
        drop(blocks);
        live().remove(&address);
        Some(Freed { pool: Arc::clone(self), ticket })
    }

    /// Takes a block back that no work uses any more; false when none starts there.
    pub fn give_back(self: &Arc<Self>, address: u64) -> bool {
        let freed = self.free(address, 0);
        freed.map(|freed| freed.settle()).is_some()
    }

    /// Whether blocks wait for their streams.
    pub fn has_pending(&self) -> bool {
        !self.lock().pending.is_empty()
    }

    /// Releases what is kept beyond `keep` bytes.
    pub fn trim(&self, keep: u64) {
        self.lock().trim(keep);
    }

    /// The pool's handle ends: live blocks stay until they are freed.
    pub fn close(&self) {
        let mut blocks = self.lock();
        blocks.closed = true;
        blocks.trim(0);
    }

    /// The devices whose kernels reach the pool's memory.
    pub fn reach(&self) -> u8 {
        self.lock().reach
    }

    /// Changes who reaches it; its own device does in any case.
    pub fn set_reach(&self, devices: u8) {
        let mut blocks = self.lock();
        blocks.reach = devices | self.device.bit();
        for (address, size) in &blocks.used {
            arena().set_reach(*address, *size, blocks.reach);
        }
    }

    pub fn figures(&self) -> Figures {
        self.lock().figures
    }

    pub fn change(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.lock().figures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_block_is_its_streams_until_the_stream_has_come_by() {
        let pool = Pool::new(Device::any(), 0, 0, false);
        pool.change(|figures| figures.release_threshold = u64::MAX);
        let first = pool.allocate(10_000, 1).unwrap();
        let freed = pool.free(first, 1).unwrap();
        let elsewhere = pool.allocate(10_000, 2).unwrap();
        assert_ne!(elsewhere, first, "another stream took memory that is in use");
        assert_eq!(pool.allocate(10_000, 1), Some(first), "its own stream may have it at once");
        freed.settle();
        assert_eq!(pool.figures().used, 2 * 10_240, "the block is the program's again");
        assert!(pool.give_back(first) && pool.give_back(elsewhere) && !pool.give_back(first));
        let figures = pool.figures();
        assert_eq!((figures.used, figures.used_high, figures.reserved), (0, 2 * 10_240, 2 * 10_240));
        let again = pool.allocate(9_000, 3).unwrap();
        assert!(again == first || again == elsewhere, "kept memory serves every stream");
        pool.close();
        assert_eq!(pool.figures().reserved, 10_240);
        assert!(pool.give_back(again));
        assert_eq!(pool.figures().reserved, 0);
    }

    #[test]
    fn a_bound_holds_and_what_is_kept_gives_way() {
        let pool = Pool::new(Device::any(), 64 << 10, 0, false);
        pool.change(|figures| figures.release_threshold = u64::MAX);
        let large = pool.allocate(40 << 10, 1).unwrap();
        assert_eq!(pool.allocate(40 << 10, 1), None);
        assert!(pool.give_back(large));
        assert!(pool.allocate(60 << 10, 1).is_some(), "the kept block is released for a larger one");
    }
}
