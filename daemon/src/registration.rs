//! Where back ends come: a SOCK_SEQPACKET socket with a thread for each that is there. A back end is root's or the
//! group's, and yet nothing that it says is believed: lengths are bounded, descriptors are checked before they are
//! mapped, and what is too much ends the connection.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use paravane_backend::account::AccountPage;
use paravane_backend::devices::{DEVICES_MAX, Device};
use paravane_backend::lease::{VmId, VmPage};
use paravane_backend::packet::PacketError;
use paravane_backend::register::message::{self, FromBackend, ToBackend, VERSION};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::events::Kind;
use crate::host::Host;
use crate::peer;
use crate::vm::{Peer, printable};

/// A back end that connects says its hello at once.
const HELLO_MAX: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Packet(#[from] PacketError),
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("protocol: {0}")]
    Protocol(&'static str),
}

/// The socket, open for root, our own user and a group.
///
/// # Errors
/// If somebody listens there, or it cannot be made.
pub fn listen(path: &Path, group: Option<u32>) -> io::Result<OwnedFd> {
    let socket = || rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let address = SocketAddrUnix::new(path)?;
    let taken = socket().is_ok_and(|probe| rustix::net::connect(&probe, &address).is_ok());
    prepare(path, taken)?;
    let socket = socket()?;
    rustix::net::bind(&socket, &address)?;
    open_for(path, group)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Makes room for a socket at `path`: its folder, and no stale socket.
///
/// # Errors
/// If something else is there, or somebody listens.
pub fn prepare(path: &Path, taken: bool) -> io::Result<()> {
    if taken {
        return Err(io::Error::other("another process listens there"));
    }
    match fs::symlink_metadata(path) {
        Ok(data) if !data.file_type().is_socket() => Err(io::Error::other("there is a file that is no socket")),
        Ok(_) => fs::remove_file(path),
        Err(_) => path.parent().map_or(Ok(()), fs::create_dir_all),
    }
}

/// Only root, our own user and the group connect to a socket.
///
/// # Errors
/// If the group cannot be given.
pub fn open_for(path: &Path, group: Option<u32>) -> io::Result<()> {
    std::os::unix::fs::chown(path, None, group)?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Serves back ends for as long as the process lives.
///
/// # Errors
/// If there can be no thread.
pub fn start(host: Arc<Host>, socket: OwnedFd, group: Option<u32>) -> io::Result<()> {
    let serve = move || loop {
        match rustix::net::accept_with(&socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(arrived) => meet(&host, arrived, group),
            Err(error) => {
                log::error!("back ends cannot register: {error}");
                // Too many open files is what it may be; it passes or not.
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
    };
    std::thread::Builder::new().name("registration".into()).spawn(serve)?;
    Ok(())
}

fn meet(host: &Arc<Host>, socket: OwnedFd, group: Option<u32>) {
    const STACK_BYTES: usize = 512 << 10;
    let peer = match peer::of(&socket) {
        Ok(peer) => peer,
        Err(error) => return log::error!("a peer without credentials: {error}"),
    };
    if !peer::may_enter(peer, &peer::groups(&socket), group) {
        let text = format!("process {} of user {} may not register", peer.pid, peer.uid);
        return host.events.say(Kind::Refused, "", text);
    }
    let of_thread = Arc::clone(host);
    let thread = std::thread::Builder::new().name(format!("backend {}", peer.pid)).stack_size(STACK_BYTES);
    if let Err(error) = thread.spawn(move || serve(&of_thread, &socket, peer)) {
        log::error!("no thread for back end {}: {error}", peer.pid);
    }
}

fn serve(host: &Host, socket: &OwnedFd, peer: Peer) {
    let id = match greet(host, socket, peer) {
        Ok(id) => id,
        Err(why) => {
            let text = format!("process {} of user {}: {why}", peer.pid, peer.uid);
            host.events.say(Kind::Refused, "", text);
            // It may have gone.
            let _ = message::send(socket.as_fd(), &ToBackend::Refused { reason: why.to_string() }, Vec::new());
            return;
        }
    };
    let ended = loop {
        if let Err(ended) = wait(socket, None).and_then(|()| hear(host, id, socket)) {
            break ended;
        }
    };
    host.leave(id, &ended.to_string());
}

/// The hello and what follows from it.
fn greet(host: &Host, socket: &OwnedFd, peer: Peer) -> Result<VmId, Ended> {
    wait(socket, Some(&HELLO_MAX))?;
    let (heard, fds) = message::receive(socket.as_fd())?;
    let FromBackend::Hello(mut hello) = heard else { return Err(Ended::Protocol("no hello")) };
    if hello.version != VERSION {
        let said = format!("it speaks version {}, paravaned speaks {VERSION}", hello.version);
        return Err(Ended::Refused(said));
    }
    if hello.devices.len() > DEVICES_MAX || hello.boot.is_empty() {
        return Err(Ended::Protocol("a hello out of bounds"));
    }
    hello.devices.iter_mut().for_each(tidy);
    let different: BTreeSet<&str> = hello.devices.iter().map(|device| device.uuid.as_str()).collect();
    if different.len() < hello.devices.len() {
        return Err(Ended::Refused("two devices of its libcuda have one UUID".into()));
    }
    let leases = leases(hello.devices.len().max(1), fds)?;
    let ours = socket.try_clone()?;
    host.register(hello, peer, leases, ours).map_err(Ended::Refused)
}

/// Of each device the VM's page and the eventfd that calls its arbiter.
fn leases(devices: usize, fds: Vec<OwnedFd>) -> Result<Vec<(VmPage, OwnedFd)>, Ended> {
    if fds.len() != 2 * devices {
        return Err(Ended::Protocol("a hello has two descriptors for each device"));
    }
    let mut fds = fds.into_iter();
    let mut leases = Vec::new();
    while let (Some(page), Some(kick)) = (fds.next(), fds.next()) {
        // The arbiter reads it to nothing: it must not wait there.
        rustix::io::ioctl_fionbio(&kick, true).map_err(io::Error::from)?;
        leases.push((VmPage::map(&page)?, kick));
    }
    Ok(leases)
}

/// What a back end's driver says goes to logs, labels and terminals.
fn tidy(device: &mut Device) {
    for text in [&mut device.uuid, &mut device.name, &mut device.pci_bus_id] {
        *text = printable(text);
    }
}

fn wait(socket: &OwnedFd, limit: Option<&Timespec>) -> Result<(), Ended> {
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], limit) {
        Ok(0) => Err(Ended::Protocol("nothing is said")),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(Ended::System(errno.into())),
    }
}

fn hear(host: &Host, id: VmId, socket: &OwnedFd) -> Result<(), Ended> {
    let (heard, fds) = match message::receive(socket.as_fd()) {
        Ok(packet) => packet,
        Err(error) if error.would_block() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match heard {
        FromBackend::Begins { number, pid, name, worker } => {
            let [page]: [OwnedFd; 1] = fds.try_into().map_err(|_| Ended::Protocol("a process has one page"))?;
            let page = AccountPage::map(&page)?;
            let begun = host.begin(id, number, (pid, &name, worker), page);
            begun.then_some(()).ok_or(Ended::Protocol("a process that is known, or one too many"))
        }
        FromBackend::Ended(last) => {
            let ended = host.end(id, &last);
            ended.then_some(()).ok_or(Ended::Protocol("one process too many"))
        }
        FromBackend::Rest { counters } => {
            host.rest(id, &counters);
            Ok(())
        }
        FromBackend::Hello(_) => Err(Ended::Protocol("a second hello")),
    }
}
