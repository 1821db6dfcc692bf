//! virglrenderer's render server: a program of its own, in which Vulkan contexts
//! live, each in a process that it forks. It is started before the renderer enters
//! its sandbox, and ends with it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ash::vk;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::vulkan::{Counter, environment};

/// Where virglrenderer installs it.
const SERVERS: &[&str] = &["/usr/libexec/virgl_render_server", "/usr/local/libexec/virgl_render_server"];
/// Where the layer is, beside the renderer's own folder.
const LAYERS: &[&str] = &["/usr/lib/paravane/libparavane_vulkan_layer.so", "/usr/local/lib/paravane/libparavane_vulkan_layer.so"];

/// What Vulkan is drawn with.
#[derive(Clone, Debug)]
pub(super) struct Venus {
    server: PathBuf,
    layer: PathBuf,
}

impl Venus {
    /// The executable and the layer: those that are named, or where they are installed.
    ///
    /// # Errors
    /// One of them is not there.
    pub(super) fn find(server: Option<&Path>, layer: Option<&Path>) -> io::Result<Self> {
        let beside = std::env::current_exe()?.with_file_name("libparavane_vulkan_layer.so");
        let layers = std::iter::once(beside).chain(LAYERS.iter().map(PathBuf::from));
        Ok(Self {
            server: one("virgl_render_server (Debian: virgl-server)", server, SERVERS.iter().map(PathBuf::from))?,
            layer: one("Paravane's Vulkan layer", layer, layers)?,
        })
    }

    /// Starts the server; its socket, and who counts what its processes do.
    pub(super) fn start(&self) -> io::Result<(OwnedFd, Counter)> {
        let (counter, lease) = Counter::open()?;
        let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new(&self.server);
        command.arg("--socket-fd").arg(there.as_raw_fd().to_string());
        command.envs(environment(&self.layer, lease.as_fd())?);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // This process starts no other.
        [there.as_fd(), lease.as_fd()].into_iter().try_for_each(inherit)?;
        // Nobody waits for it: it ends with this process, and with its socket's other end.
        let started = command.spawn();
        started.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.server.display())))?;
        Ok((here, counter))
    }
}

/// The path that is named, or the first of the usual ones.
fn one(what: &str, named: Option<&Path>, mut usual: impl Iterator<Item = PathBuf> + Clone) -> io::Result<PathBuf> {
    let places: Vec<String> = usual.clone().map(|path| path.display().to_string()).collect();
    let found = named.map(Path::to_owned).or_else(|| usual.find(|path| path.exists()));
    let none = || format!("no {what} at {}", places.join(" or "));
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, none()))
}

fn inherit(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?)
}

/// The names of the host's Vulkan devices.
///
/// # Errors
/// There is no loader, no driver or no device.
#[allow(unsafe_code, reason = "Vulkan's functions")]
pub(super) fn devices() -> io::Result<Vec<String>> {
    // SAFETY: loads libvulkan.so.1, which runs its initialisers.
    let entry = unsafe { ash::Entry::load() }.map_err(|error| io::Error::other(format!("no Vulkan loader: {error}")))?;
    let no_driver = |result: vk::Result| io::Error::other(format!("no Vulkan driver: {result}"));
    // SAFETY: a structure without pointers; the instance is destroyed below.
    let instance = unsafe { entry.create_instance(&vk::InstanceCreateInfo::default(), None) }.map_err(no_driver)?;
    // SAFETY: the instance lives.
    let devices = unsafe { instance.enumerate_physical_devices() };
    let name = |device: &vk::PhysicalDevice| {
        // SAFETY: the device is the instance's.
        let properties = unsafe { instance.get_physical_device_properties(*device) };
        properties.device_name_as_c_str().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    let names = devices.map(|devices| devices.iter().map(name).collect::<Vec<_>>());
    // SAFETY: nothing of it is used any more.
    unsafe { instance.destroy_instance(None) };
    let names = names.map_err(no_driver)?;
    if names.is_empty() { Err(io::Error::other("no Vulkan device")) } else { Ok(names) }
}
