//! virglrenderer's render server: a program of its own, in which Vulkan contexts
//! live, each in a process that it forks. It is started before the renderer enters
//! its sandbox, and ends with it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// Where virglrenderer installs it.
const PLACES: &[&str] = &["/usr/libexec/virgl_render_server", "/usr/local/libexec/virgl_render_server"];

/// The executable: the one that is named, or where virglrenderer installs it.
///
/// # Errors
/// There is none.
pub(super) fn find(named: Option<&Path>) -> io::Result<PathBuf> {
    let usual = || PLACES.iter().map(PathBuf::from).find(|path| path.exists());
    named.map(Path::to_owned).or_else(usual).ok_or_else(|| {
        let places = PLACES.join(" and ");
        io::Error::new(io::ErrorKind::NotFound, format!("no virgl_render_server (Debian: virgl-server) at {places}"))
    })
}

/// Starts it; its socket.
pub(super) fn start(program: &Path) -> io::Result<OwnedFd> {
    let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None)?;
    rustix::io::fcntl_setfd(&here, rustix::io::FdFlags::CLOEXEC)?;
    let mut command = Command::new(program);
    command.arg("--socket-fd").arg(there.as_raw_fd().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // Nobody waits for it: it ends when the other end of its socket is closed, and this process then ends too.
    let server = command.spawn();
    server.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
    Ok(here)
}
