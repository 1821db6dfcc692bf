//! Allocations that other processes open. An allocation's own pages are replaced, once, by those of
//! a memory file with the same bytes; the file is what the other process maps. A handle names the
//! process, its descriptor and a random token that is the file's name too, so a handle that somebody
//! has made up opens nothing.

use super::arena::arena;
use super::physical;
use crate::device::Device;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// What a handle holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    pub process: u32,
    pub descriptor: i32,
    pub size: u64,
    pub token: [u8; 16],
    /// Of memory of a pool, what names the pool; else 0.
    pub pool: [u8; 16],
    /// The number of the memory's device.
    pub device: u8,
}

const MAGIC: [u8; 8] = *b"PVCPUIPC";
/// Memory that was allocated by itself.
pub const NO_POOL: [u8; 16] = [0; 16];

impl Name {
    pub fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.process.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.descriptor.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.token);
        bytes[40..56].copy_from_slice(&self.pool);
        bytes[56] = self.device;
        bytes
    }

    /// None for bytes that are no handle of this driver's.
    pub fn from_bytes(bytes: &[u8; 64]) -> Option<Self> {
        let part = |from: usize, to: usize| bytes.get(from..to);
        if part(0, 8)? != MAGIC || bytes[57..].iter().any(|byte| *byte != 0) {
            return None;
        }
        Some(Self {
            process: u32::from_le_bytes(part(8, 12)?.try_into().ok()?),
            descriptor: i32::from_le_bytes(part(12, 16)?.try_into().ok()?),
            size: u64::from_le_bytes(part(16, 24)?.try_into().ok()?),
            token: part(24, 40)?.try_into().ok()?,
            pool: part(40, 56)?.try_into().ok()?,
            device: bytes[56],
        })
    }

    /// The name that the memory file carries.
    fn file_name(&self) -> String {
        let hex: String = self.token.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{hex}", physical::FILE_NAME)
    }
}

struct Opened {
    address: u64,
    times: u32,
    /// The devices that reach it.
    reach: u8,
}

#[derive(Default)]
struct Shared {
    /// This process's allocations, by their addresses.
    exported: HashMap<u64, (Name, OwnedFd)>,
    /// Descriptors that came by another way than the handle's own.
    adopted: HashMap<[u8; 16], OwnedFd>,
    opened: HashMap<Name, Opened>,
}

static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(Mutex::default);

fn shared() -> MutexGuard<'static, Shared> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A random name.
pub(super) fn token() -> Option<[u8; 16]> {
    let mut token = [0; 16];
    // SAFETY: fills a local of that length.
    let got = unsafe { libc::getrandom(token.as_mut_ptr().cast(), token.len(), 0) };
    (usize::try_from(got) == Ok(token.len())).then_some(token)
}

/// Makes an allocation of whole pages one that others can open, where they have the pool if it is of
/// one. No work may use it meanwhile.
pub fn export(address: u64, size: u64, device: Device, pool: [u8; 16]) -> Option<Name> {
    let mut shared = shared();
    if let Some((name, _)) = shared.exported.get(&address) {
        return Some(*name);
    }
    let (process, token, device) = (std::process::id(), token()?, device.number());
    let mut name = Name { process, descriptor: -1, size, token, pool, device };
    let file = physical::named_file(&name.file_name(), size.next_multiple_of(4096))?;
    let from = std::ptr::with_exposed_provenance::<u8>(usize::try_from(address).ok()?);
    let mut done = 0;
    while done < usize::try_from(size).ok()? {
        let rest = usize::try_from(size).ok()? - done;
        let at = i64::try_from(done).ok()?;
        // SAFETY: the allocation holds so many bytes from there.
        let written = unsafe { libc::pwrite(file.as_raw_fd(), from.add(done).cast(), rest, at) };
        done += usize::try_from(written).ok().filter(|written| *written > 0)?;
    }
    if !physical::place(address, size.next_multiple_of(4096), Some((file.as_fd(), 0))) {
        return None;
    }
    name.descriptor = file.as_raw_fd();
    shared.exported.insert(address, (name, file));
    Some(name)
}

/// The name of an allocation that is exported.
pub fn name_of(address: u64) -> Option<Name> {
    shared().exported.get(&address).map(|(name, _)| *name)
}

/// The allocation is freed: fresh pages take the place of those that others may hold still.
pub(super) fn forget(address: u64) {
    let Some((name, _)) = shared().exported.remove(&address) else { return };
    physical::place(address, name.size.next_multiple_of(4096), None);
}

/// A descriptor of what a handle of this process names.
pub fn file_of(name: &Name) -> Option<OwnedFd> {
    let shared = shared();
    let (_, file) = shared.exported.values().find(|(known, _)| known == name)?;
    file.try_clone().ok()
}

/// The descriptor with which a handle of another process is to be opened.
pub fn adopt(name: &Name, file: OwnedFd) {
    shared().adopted.insert(name.token, file);
}

/// Opens the other process's descriptor by way of /proc, if it is the file that the handle names.
fn reach(name: &Name) -> Option<OwnedFd> {
    let path = format!("/proc/{}/fd/{}", name.process, name.descriptor);
    let link = std::fs::read_link(&path).ok()?;
    if !link.to_string_lossy().starts_with(&format!("/memfd:{}", name.file_name())) {
        return None;
    }
    let path = std::ffi::CString::new(path).ok()?;
    // SAFETY: a C string; the call makes a descriptor.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    // SAFETY: just made, and owned by nobody else.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Why memory cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is this process's own.
    Own,
    Unknown,
    NoAddresses,
}

/// Maps what a handle names, where a device reaches it; opened again, it is the same address.
pub fn open(name: &Name, by: Device) -> Result<u64, Refusal> {
    let device = Device::with_number(name.device).ok_or(Refusal::Unknown)?;
    let mut shared = shared();
    // A pool may be imported where it comes from.
    if name.pool == NO_POOL && name.process == std::process::id() && shared.exported.values().any(|(known, _)| known == name) {
        return Err(Refusal::Own);
    }
    if let Some(opened) = shared.opened.get_mut(name) {
        opened.times += 1;
        opened.reach |= by.bit();
        arena().set_reach(opened.address, name.size, opened.reach);
        return Ok(opened.address);
    }
    let adopted = shared.adopted.remove(&name.token);
    let file = adopted.or_else(|| reach(name)).ok_or(Refusal::Unknown)?;
    let whole = name.size.checked_next_multiple_of(4096).ok_or(Refusal::Unknown)?;
    if physical::size_of_file(file.as_fd()) != Some(whole) {
        return Err(Refusal::Unknown);
    }
    let reach = device.bit() | by.bit();
    let address = arena().attach(file.as_fd(), name.size, device, reach).ok_or(Refusal::NoAddresses)?;
    shared.opened.insert(*name, Opened { address, times: 1, reach });
    Ok(address)
}

/// Undoes one [`open`]; false where nothing is open at the address, or not of a pool's.
pub fn close(address: u64, of_pool: bool) -> bool {
    let mut shared = shared();
    let is_it = |name: &Name, opened: &Opened| opened.address == address && (name.pool != NO_POOL) == of_pool;
    let Some((name, opened)) = shared.opened.iter_mut().find(|(name, opened)| is_it(name, opened)) else {
        return false;
    };
    opened.times -= 1;
    if opened.times == 0 {
        let name = *name;
        shared.opened.remove(&name);
        return arena().detach(address);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_handle_of_this_driver_is_one() {
        let name = Name { process: 7, descriptor: 3, size: 5000, token: [9; 16], pool: [4; 16], device: 5 };
        assert_eq!(Name::from_bytes(&name.to_bytes()), Some(name));
        assert_eq!(Name::from_bytes(&[0; 64]), None);
        let mut longer = name.to_bytes();
        longer[60] = 1;
        assert_eq!(Name::from_bytes(&longer), None);
    }

    #[test]
    fn a_handle_that_was_made_up_opens_nothing() {
        let (process, token, by) = (std::process::id(), [1; 16], Device::any());
        let made_up = Name { process, descriptor: 0, size: 4096, token, pool: NO_POOL, device: by.number() };
        assert_eq!(open(&made_up, by), Err(Refusal::Unknown));
    }
}
