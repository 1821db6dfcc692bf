//! The command line, as QEMU's convention for vhost-user back ends has it, and
//! `--print-capabilities`.

use std::os::fd::RawFd;
use std::path::PathBuf;

use clap::{ArgGroup, Parser};
use log::LevelFilter;
use serde_json::{Value, json};

use crate::register::wanted::{Bytes, Wanted};

const EXAMPLES: &str = "\
Examples:
  A socket for one VM, or for the containers of one tenant:
    paravane-backend --socket-path /run/paravane/vm1.sock --name vm1

  In QEMU, for that socket:
    -object memory-backend-memfd,id=mem,size=4G,share=on -machine memory-backend=mem
    -chardev socket,id=gpu,path=/run/paravane/vm1.sock
    -device vhost-user-gpu-pci,chardev=gpu

  For a process on this host:
    PARAVANE_SOCKET=/run/paravane/vm1.sock LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/paravane ./program

  A quarter of the GPU's time at most, and soon when it is wanted:
    paravane-backend --socket-path vm1.sock --cap 25 --priority interactive

  Vulkan too, for a guest on QEMU's vhost-user-test-device-pci:
    paravane-backend --socket-path vm1.sock --vulkan

  Kernels on the CPU, whatever GPU there is:
    paravane-backend --socket-path vm1.sock --libcuda /usr/lib/paravane/libparavane_cpu.so";

/// A share of this host's GPU for a virtual machine or a container: a
/// vhost-user back end of a virtio-gpu device.
#[derive(Clone, Debug, Parser)]
#[command(name = "paravane-backend", version, after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true)
    .args(["socket_path", "fd", "print_capabilities"]))]
pub struct Options {
    /// Listen on this Unix socket; a stale one is replaced
    #[arg(long, value_name = "PATH")]
    pub socket_path: Option<PathBuf>,

    /// Serve the one front end that is connected to this descriptor, then end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..))]
    pub fd: Option<RawFd>,

    /// Print what this back end can do, as JSON for a management layer, and end
    #[arg(long)]
    pub print_capabilities: bool,

    /// The libcuda to execute calls with [default: NVIDIA's, else the CPU's]
    #[arg(long, value_name = "PATH")]
    pub libcuda: Option<PathBuf>,

    /// What draws OpenGL [default: paravane-renderer beside this program]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["no_gl", "no_3d"])]
    pub renderer: Option<PathBuf>,

    /// The GPU that draws OpenGL, as /dev/dri/renderD128 [default: virglrenderer chooses]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["no_gl", "no_3d"])]
    pub render_node: Option<PathBuf>,

    /// Vulkan for the guest, where the front end maps the host's memory (QEMU 11.1's vhost-user-test-device-pci)
    #[arg(long, conflicts_with_all = ["no_gl", "no_3d"])]
    pub vulkan: bool,

    /// How much of the host's memory a guest can see at once by Vulkan, a power of two
    #[arg(long, value_name = "SIZE", default_value = "8G", requires = "vulkan", value_parser = window)]
    pub vulkan_window: Bytes,

    /// Give front ends what OpenGL shows as dma-bufs: for QEMU's displays that draw with OpenGL themselves
    #[arg(long, conflicts_with_all = ["no_gl", "no_3d"])]
    pub dmabuf_scanout: bool,

    /// No OpenGL for the guest
    #[arg(long)]
    pub no_gl: bool,

    /// Offer the ring's features only: the guest has 2D, and CUDA by polling
    #[arg(long)]
    pub no_3d: bool,

    /// Keep a report of calls, bytes and GPU time in this file
    #[arg(long, value_name = "PATH")]
    pub usage_json: Option<PathBuf>,

    /// The VM's name, in log, report and account [default: as paravaned finds it; else vm]
    #[arg(long, value_name = "VM")]
    pub name: Option<String>,

    /// The VM's UUID, by which paravaned knows it whatever its name
    #[arg(long, value_name = "UUID")]
    pub uuid: Option<String>,

    /// Where paravaned listens [default: /run/paravane/paravaned.sock, if /run/paravane is there]
    #[arg(long, value_name = "PATH")]
    pub paravaned: Option<PathBuf>,

    #[command(flatten)]
    pub wanted: Wanted,

    /// What to log: off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LevelFilter,
}

/// A PCI BAR has a power of two of bytes, and Mesa's driver maps some tens of MiB at once.
fn window(text: &str) -> Result<Bytes, String> {
    const LEAST: u64 = 64 << 20;
    let size: Bytes = text.parse()?;
    if size.0.is_power_of_two() && size.0 >= LEAST { Ok(size) } else { Err(format!("{text:?}: must be a power of two from 64M")) }
}

/// QEMU's docs/interop/vhost-user.json for a back end of type gpu: `--render-node`
/// is there, `--virgl` is not, because OpenGL is on wherever it can be.
pub fn capabilities() -> Value {
    json!({ "type": "gpu", "features": ["render-node"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        let words = std::iter::once("paravane-backend").chain(line.split_whitespace());
        Options::try_parse_from(words)
    }

    #[test]
    fn one_way_to_the_front_end_is_named() {
        let options = parse("--socket-path /run/a.sock --no-3d").unwrap();
        assert_eq!(options.socket_path.unwrap().to_str(), Some("/run/a.sock"));
        assert!(options.no_3d);
        assert_eq!(options.log_level, LevelFilter::Info);
        assert_eq!(parse("--fd 7 --log-level debug").unwrap().fd, Some(7));
        for wrong in ["", "--fd 7 --socket-path a", "--fd 1", "--fd x", "--log-level loud"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_share_and_a_quota_are_told_with_their_units() {
        let wanted = parse("--fd 7 --memory-quota 64M --cap 12.5 --weight 300 --priority interactive").unwrap().wanted;
        assert_eq!(wanted.memory_quota.map(|quota| quota.0), Some(64 << 20));
        let settings = wanted.settings(1).unwrap();
        assert_eq!((settings.weight(), settings.cap()), (300, 125));
        for wrong in ["--memory-quota 1.5G", "--cap 101", "--weight x", "--mode loud"] {
            assert!(parse(&format!("--fd 7 {wrong}")).is_err(), "{wrong:?}");
        }
        assert_eq!(parse("--fd 7").unwrap().wanted, Wanted::default());
    }

    #[test]
    fn a_render_node_is_for_who_draws() {
        let options = parse("--fd 7 --render-node /dev/dri/renderD129").unwrap();
        assert_eq!(options.render_node.unwrap().to_str(), Some("/dev/dri/renderD129"));
        assert!(parse("--fd 7 --render-node /dev/dri/renderD129 --no-gl").is_err());
    }

    #[test]
    fn only_what_is_drawn_is_shared() {
        assert!(parse("--fd 7 --dmabuf-scanout").unwrap().dmabuf_scanout);
        assert!(parse("--fd 7 --dmabuf-scanout --no-gl").is_err() && parse("--fd 7 --no-3d --dmabuf-scanout").is_err());
    }

    #[test]
    fn vulkan_has_a_window_that_a_pci_device_can_have() {
        assert_eq!(parse("--fd 7").unwrap().vulkan_window, Bytes(8 << 30));
        assert_eq!(parse("--fd 7 --vulkan --vulkan-window 256M").unwrap().vulkan_window, Bytes(256 << 20));
        for wrong in ["--vulkan --vulkan-window 3G", "--vulkan --vulkan-window 4K", "--vulkan-window 4G", "--vulkan --no-gl"] {
            assert!(parse(&format!("--fd 7 {wrong}")).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn capabilities_name_the_type_that_qemu_knows() {
        assert_eq!(capabilities()["type"], "gpu");
    }
}
