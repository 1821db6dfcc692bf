//! One front end from accept to hang-up: a device of its own, the two threads
//! that vhost-user-backend runs for it, and one that waits for its end.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error, ShutdownHandle, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use crate::device::{DeviceBackend, EVENTS};
use crate::host::Host;

/// Accepts the front end that waits at `listener` and serves it on threads of
/// its own. `slot` is dropped when the last of them has ended. The handle hangs
/// up.
pub fn accept<S: Send + Sync + 'static>(
    listener: &UnixListener,
    host: &Arc<Host>,
    number: u64,
    slot: S,
) -> io::Result<Option<ShutdownHandle>> {
    let backend = Arc::new(DeviceBackend::new(Arc::clone(host), number, slot)?);
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let name = format!("front end {number}");
    let daemon = VhostUserDaemon::new(name, Arc::clone(&backend), memory);
    let mut daemon = daemon.map_err(|error| io::Error::other(error.to_string()))?;
    let started = watch_events(&daemon, &backend).and_then(|()| {
        let mut listener = Listener::from(listener.try_clone()?);
        daemon.start(&mut listener).map_err(|error| io::Error::other(error.to_string()))
    });
    if let Err(error) = started {
        backend.end();
        return Err(error);
    }
    log::info!("connection {number}: a front end is here");
    let handle = daemon.shutdown_handle();
    let host = Arc::clone(host);
    let waiting = Arc::clone(&backend);
    let waiter = std::thread::Builder::new().name(format!("wait {number}")).spawn(move || {
        match daemon.wait() {
            Ok(()) | Err(Error::HandleRequest(VhostUserError::Disconnected)) => {
                log::info!("connection {number}: the front end has gone");
            }
            Err(error) => log::warn!("connection {number}: the front end is cut off: {error}"),
        }
        waiting.end();
        host.report_usage();
        // Before the slot: who waits for that takes the host to be its own, and
        // ends the spare worker with it.
        drop(host);
        drop(waiting);
    });
    if let Err(error) = waiter {
        backend.end();
        return Err(error);
    }
    Ok(handle)
}

type Daemon<S> = VhostUserDaemon<Arc<DeviceBackend<S>>>;

/// Has the device's own events reported with its queues'.
fn watch_events<S: Send + Sync + 'static>(
    daemon: &Daemon<S>,
    backend: &DeviceBackend<S>,
) -> io::Result<()> {
    for handler in daemon.get_epoll_handlers() {
        handler.register_listener(backend.events_fd(), EventSet::IN, EVENTS.into())?;
    }
    Ok(())
}
