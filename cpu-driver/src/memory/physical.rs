//! Physical memory apart from addresses, reserved addresses, and mappings of the one at the other.
//! Physical memory is a memory file, so it can be mapped at several addresses at a time and handed
//! to another process.

use super::arena::{Arena, NO_DEVICE, Owner, Sort, arena};
use crate::device::Device;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Sizes and addresses are multiples of this.
pub const GRANULARITY: u64 = 2 << 20;
/// The name that a memory file of this driver carries.
pub const FILE_NAME: &str = "paravane-cpu-memory";
/// What follows where it is a whole piece of memory, before the device's number.
const OF_DEVICE: &str = "-of-device-";

/// Memory without an address.
pub struct Physical {
    /// Whose memory it is.
    pub device: Device,
    file: OwnedFd,
    pub size: u64,
    /// The handle types with which it may be exported.
    pub handle_types: u32,
    /// Whether it counts against the device's memory here: not where it was imported.
    is_charged: bool,
    /// Its handle while it has one, and how often that must be released.
    pub handle: Mutex<(u64, u32)>,
}

impl Physical {
    /// Takes memory from a device's budget; None when it is spent.
    pub fn create(device: Device, size: u64, handle_types: u32) -> Option<Arc<Self>> {
        let file = named_file(&format!("{FILE_NAME}{OF_DEVICE}{}", device.number()), size)?;
        if !arena().charge(device, size) {
            return None;
        }
        Some(Arc::new(Self { device, file, size, handle_types, is_charged: true, handle: Mutex::default() }))
    }

    /// Memory that another process has exported; None when the file is none of this driver's, or of a device that
    /// is not seen here.
    pub fn import(file: OwnedFd) -> Option<Arc<Self>> {
        let size = size_of_file(file.as_fd()).filter(|size| *size > 0 && size.is_multiple_of(GRANULARITY))?;
        let number = name_of_file(file.as_fd())?.split_once(OF_DEVICE)?.1.chars().next()?.to_digit(10)?;
        let device = Device::with_number(u8::try_from(number).ok()?)?;
        Some(Arc::new(Self { device, file, size, handle_types: 1, is_charged: false, handle: Mutex::default() }))
    }

    /// A descriptor of the memory for another process.
    pub fn export(&self) -> Option<OwnedFd> {
        self.file.try_clone().ok()
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        if self.is_charged {
            arena().uncharge(self.device, self.size);
        }
    }
}

/// A memory file of `size` zero bytes, which nobody can shorten; its name begins with [`FILE_NAME`].
pub(super) fn named_file(name: &str, size: u64) -> Option<OwnedFd> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a C string; the call makes a descriptor.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return None;
    }
    // SAFETY: just made, and owned by nobody else.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a descriptor of ours.
    if unsafe { libc::ftruncate(file.as_raw_fd(), i64::try_from(size).ok()?) } != 0 {
        return None;
    }
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: as above.
    (unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } == 0).then_some(file)
}

/// The name of a memory file.
fn name_of_file(file: BorrowedFd<'_>) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    link.to_string_lossy().strip_prefix("/memfd:").map(str::to_owned)
}

/// The size of a memory file that this driver has made, in whatever process; None for another file.
pub fn size_of_file(file: BorrowedFd<'_>) -> Option<u64> {
    if !name_of_file(file)?.starts_with(FILE_NAME) {
        return None;
    }
    // SAFETY: a descriptor that is borrowed.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 || seals & libc::F_SEAL_SHRINK == 0 {
        return None;
    }
    // SAFETY: an all-zero stat is one.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: writes the structure above.
    if unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) } != 0 {
        return None;
    }
    u64::try_from(stat.st_size).ok()
}

/// One mapping of physical memory.
struct Mapping {
    size: u64,
    physical: Arc<Physical>,
    /// The devices whose kernels reach it.
    reach: u8,
}

#[derive(Default)]
struct Space {
    /// Reserved addresses with their sizes.
    reserved: BTreeMap<u64, u64>,
    mapped: BTreeMap<u64, Mapping>,
}

static SPACE: LazyLock<Mutex<Space>> = LazyLock::new(Mutex::default);

fn space() -> MutexGuard<'static, Space> {
    SPACE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Space {
    /// Whether one reservation holds the whole range.
    fn is_reserved(&self, address: u64, size: u64) -> bool {
        let before = self.reserved.range(..=address).next_back();
        before.is_some_and(|(start, reserved)| {
            let within = address - start;
            within < *reserved && size <= reserved - within
        })
    }

    /// The mappings that make up the range from `address` exactly; None where there are others.
    fn exactly(&self, address: u64, size: u64) -> Option<Vec<u64>> {
        let end = address.checked_add(size)?;
        let mut at = address;
        let mut starts = Vec::new();
        while at < end {
            starts.push(at);
            at += self.mapped.get(&at)?.size;
        }
        (at == end && size > 0).then_some(starts)
    }

    fn overlaps(&self, address: u64, size: u64) -> bool {
        let before = self.mapped.range(..address.saturating_add(size)).next_back();
        before.is_some_and(|(start, mapping)| start + mapping.size > address)
    }
}

/// Reserves addresses for `size` bytes, at a multiple of `align`.
pub fn reserve(size: u64, align: u64) -> Option<u64> {
    let address = arena().reserve(size, align.max(GRANULARITY))?;
    space().reserved.insert(address, size);
    Some(address)
}

/// Gives reserved addresses back; false where nothing that large is reserved, or is mapped still.
pub fn unreserve(address: u64, size: u64) -> bool {
    let mut space = space();
    if space.reserved.get(&address) != Some(&size) || space.overlaps(address, size) {
        return false;
    }
    space.reserved.remove(&address);
    arena().unreserve(address);
    true
}

/// Maps physical memory at reserved addresses, where nothing may reach it yet.
pub fn map(address: u64, size: u64, offset: u64, physical: &Arc<Physical>) -> bool {
    let mut space = space();
    let fits = offset.checked_add(size).is_some_and(|end| end <= physical.size);
    if !fits || !space.is_reserved(address, size) || space.overlaps(address, size) {
        return false;
    }
    if !place(address, size, Some((physical.file.as_fd(), offset))) {
        return false;
    }
    arena().add_mapping(address, Owner::new(0, physical.device, Sort::Mapped, size));
    space.mapped.insert(address, Mapping { size, physical: Arc::clone(physical), reach: NO_DEVICE });
    true
}

/// Takes mappings away; they must make up the range exactly.
pub fn unmap(address: u64, size: u64) -> bool {
    let mut space = space();
    let Some(starts) = space.exactly(address, size) else { return false };
    arena().set_reach(address, size, NO_DEVICE);
    for start in starts {
        arena().remove_mapping(start);
        space.mapped.remove(&start);
    }
    place(address, size, None)
}

/// Lets a device reach mappings, which must make up the range exactly, or forbids it.
pub fn set_access(address: u64, size: u64, device: Device, reachable: bool) -> bool {
    let mut space = space();
    let Some(starts) = space.exactly(address, size) else { return false };
    for start in starts {
        if let Some(mapping) = space.mapped.get_mut(&start) {
            mapping.reach = if reachable { mapping.reach | device.bit() } else { mapping.reach & !device.bit() };
            arena().set_reach(start, mapping.size, mapping.reach);
        }
    }
    true
}

/// Which devices reach the mapping that holds `address`, and the memory behind it.
pub fn mapping_at(address: u64) -> Option<(u8, Arc<Physical>)> {
    let space = space();
    let (start, mapping) = space.mapped.range(..=address).next_back()?;
    (address - start < mapping.size).then(|| (mapping.reach, Arc::clone(&mapping.physical)))
}

/// Puts a file's pages, or fresh ones, at addresses of the arena that are whole pages of one owner.
pub(super) fn place(address: u64, size: u64, file: Option<(BorrowedFd<'_>, u64)>) -> bool {
    let at = std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0));
    let (flags, fd, offset) = match file {
        Some((file, offset)) => (libc::MAP_SHARED, file.as_raw_fd(), offset),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0),
    };
    let (Ok(length), Ok(offset)) = (usize::try_from(size), i64::try_from(offset)) else { return false };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: replaces pages of the arena's own stretch, which the caller holds alone.
    let mapped = unsafe { libc::mmap(at, length, protection, flags | libc::MAP_FIXED, fd, offset) };
    mapped != libc::MAP_FAILED
}

impl Arena {
    /// Pages of a file at addresses of their own, for memory of a device that another process has made. These
    /// devices reach it.
    pub fn attach(&self, file: BorrowedFd<'_>, size: u64, device: Device, reach: u8) -> Option<u64> {
        let whole = size.next_multiple_of(GRANULARITY);
        let address = self.reserve(whole, GRANULARITY)?;
        if !place(address, size.next_multiple_of(4096), Some((file, 0))) {
            self.unreserve(address);
            return None;
        }
        self.add_mapping(address, Owner::new(0, device, Sort::Attached, size));
        self.set_reach(address, size, reach);
        Some(address)
    }

    /// Undoes [`Arena::attach`]; false where nothing is attached.
    pub fn detach(&self, address: u64) -> bool {
        let Some((start, owner)) = self.find(address) else { return false };
        if start != address || owner.sort != Sort::Attached {
            return false;
        }
        self.set_reach(address, owner.size, NO_DEVICE);
        self.remove_mapping(address);
        place(address, owner.size.next_multiple_of(4096), None);
        self.unreserve(address);
        true
    }
}
