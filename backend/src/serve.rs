//! The back end's main thread: accepts front ends, bounds their number, and
//! ends everything on SIGTERM or SIGINT.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use paravane_protocol::limits::CONNECTIONS_MAX;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vhost_user_backend::ShutdownHandle;

use crate::connection;
use crate::host::Host;
use crate::relay;

/// How long connections may take to end after SIGTERM; whatever holds one up,
/// its workers die with this process.
const ENDING_MAX: Duration = Duration::from_secs(5);

/// Where front ends come from.
#[derive(Debug)]
pub enum Door {
    /// They connect here.
    Socket(UnixListener, PathBuf),
    /// The one at the other end of a descriptor.
    Connected(UnixListener),
}

impl Door {
    /// Listens at `path`. A socket there that nobody listens at is replaced.
    pub fn socket(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(data) if !data.file_type().is_socket() => {
                return Err(io::Error::other("there is a file that is no socket"));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(io::Error::other("another process listens there"));
            }
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        Ok(Self::Socket(UnixListener::bind(path)?, path.to_path_buf()))
    }

    /// Serves the front end at the other end of `fd`.
    pub fn connected(fd: OwnedFd) -> io::Result<Self> {
        let stream = UnixStream::from(fd);
        stream.peer_addr().map_err(|error| {
            io::Error::new(error.kind(), format!("not a connected Unix socket: {error}"))
        })?;
        Ok(Self::Connected(relay::listener_for(stream)?))
    }

    fn listener(&self) -> &UnixListener {
        match self {
            Self::Socket(listener, _) | Self::Connected(listener) => listener,
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Self::Socket(_, path) = self {
            // Somebody may have removed it; then it is gone as wanted.
            let _ = fs::remove_file(path);
        }
    }
}

/// Takes over the descriptor that `--fd` names, under a number of its own.
#[allow(unsafe_code)] // A number becomes an owned descriptor.
pub fn given_descriptor(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: asks about a number; nothing is changed.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: open, by the check above, and handed to this process by its
    // parent for this use; called before anything else is opened.
    let given = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(rustix::io::fcntl_dupfd_cloexec(&given, crate::control::LAST_FD + 1)?)
}

/// How many connections there are, and a bell for when one has ended.
#[derive(Debug)]
struct Count {
    connections: AtomicUsize,
    ended: OwnedFd,
}

/// One connection in the count.
struct Slot(Arc<Count>);

impl Slot {
    fn new(count: &Arc<Count>) -> Self {
        count.connections.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
        // Fails only when 2^64 - 2 ends have not been looked at.
        let _ = rustix::io::write(&self.0.ended, &1_u64.to_ne_bytes());
    }
}

/// Serves front ends until a signal; with a connected one, until it goes.
pub fn serve(door: &Door, host: &Arc<Host>) -> io::Result<()> {
    let (mut signals, signals_there) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, signals_there.try_clone()?)?;
    }
    let ended = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let count = Arc::new(Count { connections: AtomicUsize::new(0), ended });
    let mut handles: Vec<(u64, ShutdownHandle)> = Vec::new();
    let mut number = 0;
    loop {
        let (signalled, arrived) = wait(&signals, Some(door.listener()), &count, None)?;
        if signalled {
            // What it was does not matter.
            let _ = signals.read(&mut [0; 1]);
            log::info!("ends on a signal");
            break;
        }
        if arrived {
            number += 1;
            if let Some(handle) = accept(door, host, number, &count) {
                handles.push((number, handle));
            }
        }
        let connections = count.connections.load(Ordering::SeqCst);
        if matches!(door, Door::Connected(_)) && number > 0 && connections == 0 {
            break;
        }
        if connections == 0 {
            handles.clear();
        }
    }
    end(&handles, &signals, &count)
}

fn accept(
    door: &Door,
    host: &Arc<Host>,
    number: u64,
    count: &Arc<Count>,
) -> Option<ShutdownHandle> {
    if count.connections.load(Ordering::SeqCst) >= CONNECTIONS_MAX {
        host.faults.guest(number, format!("more than {CONNECTIONS_MAX} front ends"));
        drop(door.listener().accept());
        return None;
    }
    connection::accept(door.listener(), host, number, Slot::new(count)).unwrap_or_else(|error| {
        log::error!("connection {number}: {error}");
        // It must not wait for ever at the door.
        drop(door.listener().accept());
        None
    })
}

/// Hangs up on all front ends and waits until their threads have ended.
fn end(
    handles: &[(u64, ShutdownHandle)],
    signals: &UnixStream,
    count: &Arc<Count>,
) -> io::Result<()> {
    for (_, handle) in handles {
        handle.shutdown();
    }
    let start = Instant::now();
    while count.connections.load(Ordering::SeqCst) > 0 {
        let left = ENDING_MAX.saturating_sub(start.elapsed());
        if left.is_zero() {
            log::error!("connections did not end within {ENDING_MAX:?}");
            break;
        }
        wait(signals, None, count, Some(left))?;
    }
    Ok(())
}

/// Waits for a signal, a front end at the door, or the end of a connection.
/// Returns the first two.
fn wait(
    signals: &UnixStream,
    listener: Option<&UnixListener>,
    count: &Arc<Count>,
    timeout: Option<Duration>,
) -> io::Result<(bool, bool)> {
    let mut fds = vec![PollFd::new(&count.ended, PollFlags::IN)];
    match listener {
        Some(listener) => {
            fds.push(PollFd::new(signals, PollFlags::IN));
            fds.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        // While it ends, a second signal changes nothing.
        None => fds.truncate(1),
    }
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    if ready.first() == Some(&true) {
        // WouldBlock: nothing has ended after all.
        let _ = rustix::io::read(&count.ended, &mut [0; 8]);
    }
    Ok((ready.get(1) == Some(&true), ready.get(2) == Some(&true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let error = Door::socket(&path).unwrap_err();
        assert_eq!(error.to_string(), "another process listens there");
        drop(listener);
        let door = Door::socket(&path).unwrap();
        assert!(path.exists());
        drop(door);
        assert!(!path.exists());
        fs::write(&path, "data").unwrap();
        assert!(Door::socket(&path).is_err());
        assert!(path.exists());
    }
}
