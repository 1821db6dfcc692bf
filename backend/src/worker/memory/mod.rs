//! What this process has of its VM's memory budget, and for what. Rows that take
//! or free memory pass here on their way (`rows`): known sizes are taken from the
//! budget before the library is called, what only the library knows (contexts,
//! modules) is measured around the call (`measured`), pools tell what they keep
//! (`pool`), physical memory goes with its last handle and mapping (`physical`).

mod figure;
mod measured;
mod physical;
mod pool;
mod rows;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use paravane_protocol::cuda_types::*;

use super::libcuda::Answer;
use super::process::Process;
use super::swap::Swap;
use crate::account::{AccountPage, Gauge};
use crate::budget::{Figures, Share, UNLIMITED};
use crate::lease::Holdings;
use physical::Physical;
pub(super) use figure::{figures, memory_of_device};
pub(super) use measured::*;
// They pass here from a place of their own.
pub(super) use super::primary::{cuDevicePrimaryCtxRelease_v2, cuDevicePrimaryCtxReset_v2, cuDevicePrimaryCtxRetain};
pub(super) use rows::*;

/// What memory is allocated in: the library rounds a size up to this.
const GRANULE: u64 = 512;
/// NVIDIA's library gives larger allocations pages of their own.
const LARGE: u64 = 1 << 20;
const LARGE_GRANULE: u64 = 2 << 20;

/// More than any device has.
const ABSURD: u64 = 1 << 46;

/// Between looks at what the host's NVML says of this process.
const LOOK: Duration = Duration::from_secs(1);

/// What memory is charged to: with it, it ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// An allocation that begins there.
    Address(u64),
    /// A guest's object: context, module, library, array.
    Id(u64),
    /// Pinned host memory in this area.
    Area(u16),
    /// A context's limit on memory that the library takes for kernels.
    Limit(u64, u32),
}

/// A charge.
#[derive(Clone, Copy, Default)]
struct Charge {
    bytes: u64,
    /// The context that it ends with; 0 for none.
    context: u64,
    /// The library's pool that it is charged to instead, while that lives; 0 for none.
    pool: u64,
    is_pinned: bool,
    /// The number of the device's lease.
    device: usize,
}

/// What a pool is charged with.
#[derive(Clone, Copy, Default)]
struct Kept {
    bytes: u64,
    under_way: u64,
    /// The number of the lease of the device that it was first used on.
    device: usize,
}

/// What is on one device.
struct OnDevice {
    /// Sum of what is charged.
    known: u64,
    /// What the library has beside that, where it tells.
    other: u64,
    /// Of the known: what can be moved to the host, wherever it is.
    swappable: u64,
    holdings: Arc<Holdings>,
}

impl Kept {
    /// What to charge where `taken` bytes are taken for an allocation that has
    /// succeeded, and the pool keeps `now`. What it has grown by beyond that is
    /// first of all the others' that are under way, whose bytes are taken too.
    fn charge(self, taken: u64, now: u64) -> u64 {
        let mine = self.bytes.saturating_add(taken);
        match now.checked_sub(mine) {
            Some(grown) => mine.saturating_add(grown.saturating_sub(self.under_way)),
            None => now,
        }
    }
}

struct Ledger {
    share: Share,
    account: AccountPage,
    charges: HashMap<Key, Charge>,
    physical: Physical,
    /// What each of the library's pools keeps, in use or not, and what is taken
    /// beside that for allocations from it that are under way.
    pools: HashMap<u64, Kept>,
    /// Sums of all above, by the devices' leases.
    devices: Vec<OnDevice>,
    /// Sum of all above that is pinned.
    pinned: u64,
}

/// The account of a process's memory.
pub(super) struct Memory {
    ledger: Mutex<Ledger>,
    /// Calls that change memory: between these two the library's own figure and
    /// the ledger do not belong together.
    begun: AtomicU64,
    ended: AtomicU64,
    /// Pools may have given memory back since they were asked.
    are_pools_stale: AtomicBool,
    looked: Mutex<Option<Instant>>,
}

/// A call that changes memory, from before to behind it.
pub(super) struct Change<'a>(&'a Memory);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Bytes taken from the budget for a call that is under way; given back if that
/// fails.
struct Room<'a> {
    memory: &'a Memory,
    bytes: u64,
    /// The number of the lease of the device that it is of.
    device: usize,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.ledger().give_back(self.bytes);
        }
    }
}

impl Room<'_> {
    /// The call has succeeded: charges what it came to. More than was taken is
    /// taken now, quota or not.
    fn keep(mut self, key: Key, charge: Charge) {
        let charge = Charge { device: self.device, ..charge };
        let mut ledger = self.memory.ledger();
        let before = ledger.charges.insert(key, charge);
        let charged = if charge.pool == 0 { charge.bytes } else { 0 };
        ledger.resize(self.bytes, charged);
        ledger.count(Charge { bytes: charged, ..charge });
        // Ended without a call of its own.
        before.into_iter().for_each(|before| ledger.end(before));
        ledger.show();
        self.bytes = 0;
    }

    /// The call has succeeded, and what it took is the library's own.
    fn keep_as_other(mut self) {
        if let Some(on) = self.memory.ledger().devices.get_mut(self.device) {
            on.other += self.bytes;
        }
        self.bytes = 0;
    }

    /// Takes more or gives back, so that the room is of so many bytes.
    fn grow(&mut self, bytes: u64) -> Answer {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.memory.ledger().share.reserve(more) {
            return Err(CUDA_ERROR_OUT_OF_MEMORY);
        }
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }
}

impl Ledger {
    fn give_back(&mut self, bytes: u64) {
        self.share.give_back(bytes);
        self.show();
    }

    /// So many bytes are taken; makes them as many as are needed.
    fn resize(&mut self, taken: u64, needed: u64) {
        if needed > taken {
            self.share.force(needed - taken);
        } else if taken > needed {
            self.share.give_back(taken - needed);
        }
    }

    /// The sum that a charge is in.
    fn sum_of(&mut self, charge: Charge) -> Option<&mut u64> {
        if charge.is_pinned {
            return Some(&mut self.pinned);
        }
        self.devices.get_mut(charge.device).map(|on| &mut on.known)
    }

    fn count(&mut self, charge: Charge) {
        if let Some(sum) = self.sum_of(charge) {
            *sum += charge.bytes;
        }
    }

    fn known(&self) -> u64 {
        self.devices.iter().map(|on| on.known).sum()
    }

    /// Gives a charge back that is in no table any more.
    fn end(&mut self, charge: Charge) {
        if charge.pool != 0 {
            return;
        }
        self.uncount(charge);
        self.give_back(charge.bytes);
    }

    fn uncount(&mut self, charge: Charge) {
        if let Some(sum) = self.sum_of(charge) {
            *sum = sum.saturating_sub(charge.bytes);
        }
    }

    /// Ends all charges that are so.
    fn end_all(&mut self, is_ended: impl Fn(&Key, &Charge) -> bool) {
        let ended: Vec<Charge> =
            self.charges.extract_if(|key, charge| is_ended(key, charge)).map(|(_, charge)| charge).collect();
        ended.into_iter().for_each(|charge| self.end(charge));
    }

    /// Changes what is charged beside the known, on each device.
    fn set_others(&mut self, others: &[u64]) {
        let mut is_new = false;
        for (at, other) in others.iter().enumerate() {
            let Some(on) = self.devices.get_mut(at) else { continue };
            let before = std::mem::replace(&mut on.other, *other);
            self.resize(before, *other);
            is_new |= before != *other;
        }
        if is_new {
            self.show();
        }
    }

    /// Writes into the account and the budget what this process has.
    fn show(&self) {
        let on_devices = self.devices.iter().map(|on| on.known.saturating_add(on.other));
        let all = on_devices.fold(self.pinned, u64::saturating_add);
        self.share.show(all, self.pinned);
        for on in &self.devices {
            on.holdings.set_fixed(on.known.saturating_add(on.other).saturating_sub(on.swappable));
        }
        let has_quota = self.share.limit() != UNLIMITED;
        let bytes = if has_quota { all } else { all - self.pinned };
        self.account.gauge(Gauge::MemoryBytes).store(bytes, Ordering::Relaxed);
        self.account.gauge(Gauge::MemoryPeakBytes).fetch_max(bytes, Ordering::Relaxed);
    }
}

impl Memory {
    /// Of a process that has nothing yet; `holdings` are told what is on each device.
    pub(super) fn new(share: Share, account: AccountPage, holdings: impl Iterator<Item = Arc<Holdings>>) -> Self {
        let ledger = Ledger {
            share,
            account,
            charges: HashMap::new(),
            physical: Physical::default(),
            pools: HashMap::new(),
            devices: holdings.map(|holdings| OnDevice { known: 0, other: 0, swappable: 0, holdings }).collect(),
            pinned: 0,
        };
        Self {
            ledger: Mutex::new(ledger),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            are_pools_stale: AtomicBool::new(false),
            looked: Mutex::new(None),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that changes memory begins.
    pub(super) fn change(&self) -> Change<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Change(self)
    }

    /// Takes bytes from the budget, before the library is asked. Where they are
    /// not there, pools give back what they keep.
    fn room(&self, process: &Process, bytes: u64) -> Answer<Room<'_>> {
        if bytes > ABSURD {
            return Err(CUDA_ERROR_OUT_OF_MEMORY);
        }
        if self.ledger().share.reserve(bytes) || (self.trim(process) && self.ledger().share.reserve(bytes)) {
            return Ok(Room { memory: self, bytes, device: process.leases.here(&process.lib) });
        }
        Err(CUDA_ERROR_OUT_OF_MEMORY)
    }

    /// Takes bytes for memory that can be moved to the host; they count wherever it is.
    pub(super) fn take_swappable(&self, process: &Process, bytes: u64, device: usize) -> Answer {
        let mut room = self.room(process, bytes)?;
        let mut ledger = self.ledger();
        if let Some(on) = ledger.devices.get_mut(device) {
            on.swappable += bytes;
        }
        ledger.count(Charge { bytes, device, ..Charge::default() });
        ledger.show();
        room.bytes = 0;
        Ok(())
    }

    /// Such memory is gone.
    pub(super) fn end_swappable(&self, bytes: u64, device: usize) {
        let mut ledger = self.ledger();
        if let Some(on) = ledger.devices.get_mut(device) {
            on.swappable = on.swappable.saturating_sub(bytes);
        }
        ledger.end(Charge { bytes, device, ..Charge::default() });
    }

    /// Takes a charge out of the table while the call that ends it is made: its
    /// key may come again before that call has returned.
    fn take(&self, key: Key) -> Option<Charge> {
        self.ledger().charges.remove(&key)
    }

    /// The call has ended what was charged, or has failed.
    fn took(&self, key: Key, charge: Option<Charge>, answer: Answer) -> Answer {
        let Some(charge) = charge else { return answer };
        let mut ledger = self.ledger();
        if answer.is_ok() {
            ledger.end(charge);
        } else {
            ledger.charges.insert(key, charge);
        }
        answer
    }

    /// What the VM has.
    fn vm(&self) -> Figures {
        self.ledger().share.figures()
    }

    /// What the library has beside what is known, from its own figure: `None`
    /// where it tells none, or where a call is under way that changes it. Counts
    /// `own` such calls, the caller's.
    fn untold(&self, process: &Process, own: u64) -> Option<u64> {
        let ledger = self.ledger();
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        let elsewhere = process.swap().map_or(0, Swap::elsewhere);
        let bytes = figure::own_bytes(process)?.saturating_add(elsewhere);
        let is_quiet = begun == ended + own && self.begun.load(Ordering::SeqCst) == begun;
        is_quiet.then(|| bytes.saturating_sub(ledger.known()))
    }

    /// The same for each device, where no call is under way that changes it.
    fn untold_each(&self, process: &Process) -> Option<Vec<u64>> {
        if process.leases.count() == 1 {
            return self.untold(process, 0).map(|bytes| vec![bytes]);
        }
        let ledger = self.ledger();
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        let told = process.leases.all().enumerate().zip(&ledger.devices).map(|((number, lease), on)| {
            let elsewhere = process.swap().map_or(0, |swap| swap.elsewhere_of(number));
            // Where nothing has been done there is nothing.
            let bytes = lease.device().map_or(Some(0), |device| figure::own_bytes_on(process, device))?;
            Some(bytes.saturating_add(elsewhere).saturating_sub(on.known))
        });
        let told: Option<Vec<u64>> = told.collect();
        let is_quiet = begun == ended && self.begun.load(Ordering::SeqCst) == begun;
        told.filter(|_| is_quiet)
    }

    /// Charges what the library has beside what is known.
    pub(super) fn settle(&self, process: &Process) {
        self.refresh(process);
        if let Some(others) = self.untold_each(process) {
            self.ledger().set_others(&others);
        }
    }

    /// Settles where that costs nothing; else [`Memory::look`] does.
    pub(super) fn settle_cheaply(&self, process: &Process) {
        if process.lib.memory_bytes.is_some() {
            self.settle(process);
        }
    }

    /// How long until the next look.
    pub(super) fn due(&self) -> Duration {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.map_or(Duration::ZERO, |looked| LOOK.saturating_sub(looked.elapsed()))
    }

    /// From time to time: what kernels and streams have changed since the last call.
    pub(super) fn look(&self, process: &Process) {
        if self.due().is_zero() {
            *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.settle(process);
        }
    }

    /// What pools have given back behind an awaited call.
    pub(super) fn after_wait(&self, process: &Process) {
        if self.are_pools_stale.load(Ordering::Relaxed) {
            self.refresh(process);
        }
    }
}

/// What an allocation of so many bytes takes.
fn granules(process: &Process, bytes: u64) -> u64 {
    let is_large = bytes > LARGE && process.lib.memory_bytes.is_none();
    let granule = if is_large { LARGE_GRANULE } else { GRANULE };
    bytes.checked_next_multiple_of(granule).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pools_growth_is_whose_bytes_are_taken_for_it() {
        let kept = Kept { bytes: 100, ..Kept::default() };
        assert_eq!(kept.charge(20, 120), 120);
        assert_eq!(kept.charge(20, 100), 100, "from what it keeps");
        assert_eq!(kept.charge(20, 160), 160, "more than was asked for");
        assert_eq!(kept.charge(0, 70), 70, "given back");
        let kept = Kept { under_way: 50, ..kept };
        assert_eq!(kept.charge(20, 120), 120);
        assert_eq!(kept.charge(20, 170), 120, "another has grown it by what it has taken");
        assert_eq!(kept.charge(20, 180), 130);
        assert_eq!(kept.charge(0, 70), 70);
    }
}
