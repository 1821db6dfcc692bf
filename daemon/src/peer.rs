//! Who is at the other end of a Unix socket, as the kernel says it, and what the machine that runs there is called.
#![allow(unsafe_code)] // SO_PEERGROUPS has no safe wrapper.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::vm::{Peer, printable};

/// The process at the other end when it connected.
///
/// # Errors
/// If the descriptor is no Unix socket.
pub fn of(socket: impl AsFd) -> io::Result<Peer> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Peer { pid: peer.pid.as_raw_nonzero().get(), uid: peer.uid.as_raw(), gid: peer.gid.as_raw() })
}

/// The peer's other groups.
pub fn groups(socket: impl AsFd) -> Vec<u32> {
    const GROUPS_MAX: usize = 1024;
    let mut groups = vec![0_u32; GROUPS_MAX];
    let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(0);
    let raw = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `bytes` bytes into `groups`, which lives on.
    let result = unsafe {
        libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &raw mut bytes)
    };
    let there = if result == 0 { usize::try_from(bytes).unwrap_or(0) / size_of::<u32>() } else { 0 };
    groups.truncate(there);
    groups
}

/// Whether somebody may come in: root, our own user, or a member of the group.
pub fn may_enter(peer: Peer, groups: &[u32], group: Option<u32>) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    let member = |group: u32| peer.gid == group || groups.contains(&group);
    peer.uid == 0 || peer.uid == ours || group.is_some_and(member)
}

/// The number of a group.
///
/// # Errors
/// If /etc/group has none of this name.
pub fn group(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = fs::read_to_string("/etc/group").map_err(|error| format!("/etc/group: {error}"))?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name));
    let number = line.and_then(|line| line.split(':').nth(2)?.parse().ok());
    number.ok_or_else(|| format!("there is no group {name:?}"))
}

/// What a back end without `--name` is called: after its unit or its machine, else by its process.
pub fn name_of(pid: i32) -> String {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    from_cgroup(&cgroup).unwrap_or_else(|| format!("pid-{pid}"))
}

/// The machine or instance in the path of a cgroup.
fn from_cgroup(cgroup: &str) -> Option<String> {
    let last = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let units: Vec<String> = last.split('/').map(unescaped).collect();
    let name = units.iter().rev().find_map(|unit| {
        let machine = || {
            // libvirt's scopes: machine-qemu-NUMBER-NAME.scope
            let machine = unit.strip_prefix("machine-qemu-")?.strip_suffix(".scope")?;
            Some(machine.split_once('-').map_or(machine, |(_, name)| name))
        };
        let instance = || unit.strip_suffix(".service")?.split_once('@').map(|(_, instance)| instance);
        machine().or_else(instance).filter(|name| !name.is_empty())
    });
    // A login's own manager is not a VM.
    let login = units.iter().any(|unit| unit.starts_with("user@"));
    name.filter(|_| !login).map(printable)
}

/// systemd writes other bytes than letters, digits and some more as \xNN.
fn unescaped(unit: &str) -> String {
    let mut bytes = Vec::with_capacity(unit.len());
    let mut rest = unit;
    while let Some(at) = rest.find("\\x") {
        let (before, escape) = rest.split_at(at);
        bytes.extend_from_slice(before.as_bytes());
        match escape.get(2..4).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = escape.get(4..).unwrap_or_default();
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = escape.get(2..).unwrap_or_default();
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_and_instances_have_names() {
        let of = |path: &str| from_cgroup(&format!("0::{path}\n"));
        assert_eq!(of("/machine.slice/machine-qemu\\x2d3\\x2dweb\\x2d1.scope/libvirt/emulator"), Some("web-1".into()));
        assert_eq!(of("/system.slice/system-paravane.slice/paravane-backend@vm1.service"), Some("vm1".into()));
        assert_eq!(of("/user.slice/user-0.slice/user@0.service/app.slice/x.scope"), None);
        assert_eq!(of("/"), None);
        assert_eq!(from_cgroup("5:cpu:/a\n"), None);
        assert_eq!(unescaped("a\\x2db\\xzz\\x"), "a-b\\xzz\\x");
    }

    #[test]
    fn root_our_user_and_the_group_may_enter() {
        let peer = |uid, gid| Peer { pid: 1, uid, gid };
        let ours = rustix::process::geteuid().as_raw();
        assert!(may_enter(peer(0, 5), &[], None));
        assert!(may_enter(peer(ours, 5), &[], None));
        assert!(!may_enter(peer(4_000_000, 5), &[6], None));
        assert!(!may_enter(peer(4_000_000, 5), &[6], Some(7)));
        assert!(may_enter(peer(4_000_000, 7), &[], Some(7)));
        assert!(may_enter(peer(4_000_000, 5), &[6, 7], Some(7)));
    }

    #[test]
    fn a_socket_says_who_is_there() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = of(&here).unwrap();
        assert_eq!(peer.pid.unsigned_abs(), std::process::id());
        assert_eq!(group("root"), Ok(0));
        assert!(group("no-such-group").is_err());
    }
}
