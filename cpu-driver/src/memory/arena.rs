//! The reserved stretch of address space that device memory is cut from. Pages are committed by
//! the kernel as they are touched, so an idle process holds none; the budget is counted here.

use super::heap::Heap;
use super::lent::Lent;
use super::physical::GRANULARITY;
use crate::device::{DEVICES_MAX, Device};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Bounds are checked in units of this many bytes; real allocators round like this.
pub const GRANULE: u64 = 512;
/// Where the arena goes if the place is free: a window that guest processes leave alone, so that a
/// device pointer means nothing else in the process that holds it.
const WINDOWS: [u64; 3] = [0x0300_0000_0000, 0x0500_0000_0000, 0x0700_0000_0000];
const DEFAULT_SIZE: u64 = 8 << 30;
/// Addresses for mappings: frameworks reserve more than a device has, more than once.
const MAPPED_SIZE: u64 = 256 << 30;
/// Freed ranges of at least this size are given back to the system at once.
const RETURN_SIZE: u64 = 1 << 20;

/// Marks of what kernels of every device reach, and of what those of none do.
pub const EVERY_DEVICE: u8 = u8::MAX;
pub const NO_DEVICE: u8 = 0;

/// What sort an allocation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Device memory that was allocated at once. It has pages of its own, because another process
    /// may come to share them.
    Device,
    /// A module's variable.
    Global,
    /// A module's managed variable, which the program reaches too. It has pages of its own, because they
    /// may be lent.
    Variable,
    /// Host memory, with cuMemHostAlloc's flags.
    Host(u32),
    /// Device memory that a pool holds.
    Pool,
    /// The device's own: what kernels allocate and work with.
    Heap,
    /// A graph's allocation node's.
    Graph,
    /// An array's, which no pointer reaches.
    Array,
    /// Memory that the program reaches too.
    Managed,
    /// Physical memory that a program has mapped.
    Mapped,
    /// Memory of another process.
    Attached,
}

/// Who owns an allocation and what sort it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Number of the context; 0 for none.
    pub context: u64,
    /// Whose memory it is; for host memory, the context's device.
    pub device: Device,
    pub sort: Sort,
    /// The size that was asked for.
    pub size: u64,
    /// A number that no other allocation of the process ever has; the arena gives it.
    pub number: u64,
}

impl Owner {
    /// Of an allocation that is to be made.
    pub fn new(context: u64, device: Device, sort: Sort, size: u64) -> Self {
        Self { context, device, sort, size, number: 0 }
    }

    /// cuMemHostAlloc's flags when it is host memory.
    pub fn host_flags(&self) -> Option<u32> {
        if let Sort::Host(flags) = self.sort { Some(flags) } else { None }
    }

    /// Whether the program reaches it as the device does.
    pub fn is_managed(&self) -> bool {
        matches!(self.sort, Sort::Managed | Sort::Variable)
    }
}

pub(super) struct State {
    pub(super) heap: Heap,
    pub(super) owners: HashMap<u64, Owner>,
    pub(super) lent: Lent,
    /// Addresses for mappings, behind those of allocations.
    addresses: Heap,
    mapped: BTreeMap<u64, Owner>,
}

pub struct Arena {
    base: u64,
    /// The devices' memory and as much again for the host as one of them has, so that pinned memory never takes a
    /// device's; then addresses that physical memory is mapped at.
    size: u64,
    /// Each device's.
    device_size: u64,
    /// For each granule the bits of the devices whose kernels reach it.
    granules: *const AtomicU8,
    device_used: [AtomicU64; DEVICES_MAX],
    /// For each device who reaches its memory: itself, and others for which that was enabled.
    reach: [AtomicU8; DEVICES_MAX],
    pub(super) state: Mutex<State>,
}

// SAFETY: the mapping is never unmapped, its marks are atomics, and the rest is behind a lock.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

static ARENA: LazyLock<Arena> = LazyLock::new(Arena::new);

/// The process's memory on all devices.
pub fn arena() -> &'static Arena {
    &ARENA
}

/// `PARAVANE_CPU_MEMORY`: bytes, or a number with K, M or G, for each device; else 8 GiB or half of RAM.
fn configured_size() -> u64 {
    let asked = std::env::var("PARAVANE_CPU_MEMORY").ok().and_then(|text| {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text.get(digits.len()..)?.to_ascii_uppercase().as_str() {
            "" => 1,
            "K" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(unit)
    });
    let size = asked.unwrap_or_else(|| DEFAULT_SIZE.min(physical_memory() / 2));
    size.clamp(1 << 20, 1 << 40).next_multiple_of(2 << 20)
}

fn physical_memory() -> u64 {
    // SAFETY: sysconf reads no memory of ours.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    // SAFETY: as above.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(pages).unwrap_or(0).saturating_mul(u64::try_from(page).unwrap_or(0)).max(64 << 20)
}

/// Reserves `size` bytes, at `hint` exactly or anywhere when it is 0.
fn reserve(hint: u64, size: u64) -> Option<u64> {
    let fixed = if hint == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let length = usize::try_from(size).ok()?;
    // SAFETY: an anonymous mapping; NOREPLACE never touches one that exists.
    let at = unsafe { libc::mmap(std::ptr::with_exposed_provenance_mut(hint as usize), length, protection, flags, -1, 0) };
    (at != libc::MAP_FAILED).then(|| at.expose_provenance() as u64)
}

/// Addresses for allocations: every device's, and the host's.
fn allocated(device_size: u64) -> u64 {
    device_size * (Device::count().max(1) as u64 + 1)
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Arena {
    fn new() -> Self {
        let device_size = configured_size();
        let size = allocated(device_size) + MAPPED_SIZE;
        let base = WINDOWS.iter().find_map(|&hint| reserve(hint, size)).or_else(|| reserve(0, size));
        let granules = reserve(0, size / GRANULE);
        let (Some(base), Some(granules)) = (base, granules) else {
            log::error!("no address space for {size} bytes of device memory");
            return Self::with(0, 0, 0, std::ptr::null());
        };
        Self::with(base, size, device_size, std::ptr::with_exposed_provenance(granules as usize))
    }

    fn with(base: u64, size: u64, device_size: u64, granules: *const AtomicU8) -> Self {
        let allocated = allocated(device_size);
        let first = (base + allocated).next_multiple_of(GRANULARITY);
        let addresses = Heap::at(first, (base + size).saturating_sub(first) / GRANULARITY * GRANULARITY);
        let heap = Heap::new(allocated);
        let state = State { heap, owners: HashMap::new(), lent: Lent::new(), addresses, mapped: BTreeMap::new() };
        let reach = std::array::from_fn(|place| AtomicU8::new(1 << place));
        Self { base, size, device_size, granules, device_used: Default::default(), reach, state: Mutex::new(state) }
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of a device's memory in all.
    pub fn device_size(&self) -> u64 {
        self.device_size
    }

    /// Bytes of a device's memory that are allocated.
    pub fn device_used(&self, device: Device) -> u64 {
        self.used(device).load(Ordering::Relaxed)
    }

    fn used(&self, device: Device) -> &AtomicU64 {
        &self.device_used[device.index()]
    }

    /// Who reaches an allocation from the first: pools, mappings and graphs say so themselves.
    fn reach_of(&self, owner: &Owner) -> u8 {
        match owner.sort {
            Sort::Host(_) | Sort::Managed | Sort::Variable => EVERY_DEVICE,
            Sort::Device | Sort::Global | Sort::Heap => self.reach[owner.device.index()].load(Ordering::Relaxed),
            Sort::Pool | Sort::Graph | Sort::Mapped | Sort::Attached => owner.device.bit(),
            Sort::Array => NO_DEVICE,
        }
    }

    pub(super) fn granules(&self) -> *const AtomicU8 {
        self.granules
    }

    /// Who reaches a device's memory from now on; what kernels are on their way see it too.
    pub fn set_peers(&self, device: Device, devices: u8) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let reach = devices | device.bit();
        if self.reach[device.index()].swap(reach, Ordering::Relaxed) == reach {
            return;
        }
        for (offset, owner) in state.owners.iter().filter(|(_, owner)| owner.device == device) {
            if matches!(owner.sort, Sort::Device | Sort::Global | Sort::Heap) {
                self.mark(*offset, owner.size.max(1).next_multiple_of(GRANULE), reach);
            }
        }
    }

    fn mark(&self, offset: u64, size: u64, value: u8) {
        let first = std::ptr::with_exposed_provenance_mut::<u8>(self.granules.expose_provenance());
        let (start, count) = ((offset / GRANULE) as usize, (size / GRANULE) as usize);
        // SAFETY: the range lies in the arena, which has a mark for every granule; readers use
        // single atomic loads and get the old or the new mark.
        unsafe { first.add(start).write_bytes(value, count) }
    }

    /// Says which devices' kernels may touch a range of an allocation; copies may where any may.
    pub fn set_reach(&self, address: u64, size: u64, devices: u8) {
        self.mark(address.wrapping_sub(self.base), size.next_multiple_of(GRANULE), devices);
    }

    /// Allocates for `owner`; None when the memory is spent. Device memory counts against the
    /// device's size, host memory against the arena's other half.
    pub fn allocate(&self, owner: Owner) -> Option<u64> {
        let size = owner.size.max(1).checked_next_multiple_of(GRANULE)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_device = owner.host_flags().is_none();
        let used = self.used(owner.device);
        if is_device && size > self.device_size - used.load(Ordering::Relaxed) {
            return None;
        }
        // Host memory begins on a page of its own, as programs expect of pinned memory.
        let has_pages = !is_device || matches!(owner.sort, Sort::Device | Sort::Variable | Sort::Pool);
        let (taken, align) = if has_pages { (size.checked_next_multiple_of(4096)?, 4096) } else { (size, GRANULE) };
        let offset = state.heap.allocate(taken, align)?;
        if is_device {
            used.fetch_add(size, Ordering::Relaxed);
        }
        self.mark(offset, size, self.reach_of(&owner));
        state.owners.insert(offset, Owner { number: next_number(), ..owner });
        Some(self.base + offset)
    }

    /// Takes addresses for `size` bytes, at a multiple of `align`.
    pub(super) fn reserve(&self, size: u64, align: u64) -> Option<u64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).addresses.allocate(size, align)
    }

    /// Gives addresses back that were taken.
    pub(super) fn unreserve(&self, address: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).addresses.release(address);
    }

    /// Something is mapped at addresses that were taken.
    pub(super) fn add_mapping(&self, address: u64, owner: Owner) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.mapped.insert(address, Owner { number: next_number(), ..owner });
    }

    pub(super) fn remove_mapping(&self, address: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).mapped.remove(&address);
    }

    /// Takes memory of a device that has no place in the arena; false when it is spent.
    pub(super) fn charge(&self, device: Device, size: u64) -> bool {
        let _state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self.used(device);
        if size > self.device_size - used.load(Ordering::Relaxed) {
            return false;
        }
        used.fetch_add(size, Ordering::Relaxed);
        true
    }

    /// Gives back what [`Arena::charge`] took.
    pub(super) fn uncharge(&self, device: Device, size: u64) {
        let _state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.used(device).fetch_sub(size, Ordering::Relaxed);
    }

    /// Frees what starts at `address`; None when nothing does. No launch may still use it.
    pub fn release(&self, address: u64) -> Option<Owner> {
        super::ipc::forget(address);
        let offset = address.wrapping_sub(self.base);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = state.owners.remove(&offset)?;
        let size = match state.lent.get_mut(&offset) {
            Some((size, was_freed)) => {
                *was_freed = true;
                *size
            }
            None => state.heap.release(offset)?,
        };
        let is_lent = state.lent.contains_key(&offset);
        self.mark(offset, size, 0);
        let charged = owner.size.max(1).next_multiple_of(GRANULE);
        if owner.host_flags().is_none() {
            self.used(owner.device).fetch_sub(charged, Ordering::Relaxed);
        }
        if size >= RETURN_SIZE && !is_lent {
            self.return_pages(address, size);
        }
        Some(owner)
    }

    /// Frees everything of one context.
    pub fn release_context(&self, context: u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let of_context = |(&offset, owner): (&u64, &Owner)| (owner.context == context).then_some(self.base + offset);
        let all: Vec<u64> = state.owners.iter().filter_map(of_context).collect();
        drop(state);
        for address in all {
            self.release(address);
        }
    }

    fn return_pages(&self, address: u64, size: u64) {
        let start = address.next_multiple_of(4096);
        let length = usize::try_from((address + size) / 4096 * 4096 - start).unwrap_or(0);
        let at = std::ptr::with_exposed_provenance_mut(start as usize);
        // SAFETY: whole pages of a range that nobody owns any more.
        if unsafe { libc::madvise(at, length, libc::MADV_DONTNEED) } != 0 {
            log::warn!("freed device memory stays resident: {}", std::io::Error::last_os_error());
        }
    }

    /// Start and owner of the allocation that holds `address`.
    pub fn find(&self, address: u64) -> Option<(u64, Owner)> {
        let offset = address.wrapping_sub(self.base);
        if offset >= self.size {
            return None;
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((start, _)) = state.heap.find(offset) else {
            let (start, owner) = state.mapped.range(..=address).next_back()?;
            return (address - start < owner.size).then_some((*start, *owner));
        };
        state.owners.get(&start).map(|owner| (self.base + start, *owner))
    }

    /// Whether every granule of the range is allocated.
    pub fn holds(&self, address: u64, size: u64) -> bool {
        let offset = address.wrapping_sub(self.base);
        if offset >= self.size || size > self.size - offset {
            return false;
        }
        let (first, last) = (offset / GRANULE, (offset + size.max(1) - 1) / GRANULE);
        // SAFETY: there is a mark for every granule of the arena.
        (first..=last).all(|i| unsafe { &*self.granules.add(i as usize) }.load(Ordering::Relaxed) != 0)
    }
}
