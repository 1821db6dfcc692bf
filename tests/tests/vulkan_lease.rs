//! Vulkan under leases: what the layer in a render server's processes asks for is
//! the VM's. The render server is a stand-in that asks as the layer does,
//! everything else is the product's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use paravane_protocol::virtio_gpu::{CAPSET_VENUS, ctrl};
use paravane_tests::backend::{Backend, eventually, kill};
use paravane_tests::daemon::Daemon;
use paravane_tests::frontend::FrontEnd;
use paravane_tests::gl::{Renderer, context_for, gl, put, stream, submit};
use rustix::process::Signal;
use serde_json::Value;
use zerocopy::IntoBytes;

const CONTEXT: u32 = 5;
const QUOTA: u32 = 1 << 20;

/// A VM called vm at a daemon of its own, with a program of Vulkan's.
struct Vm {
    daemon: Daemon,
    renderer: Renderer,
    backend: Backend,
    guest: FrontEnd,
}

impl Vm {
    fn start(arguments: &[&str]) -> Self {
        let (daemon, renderer) = (Daemon::start(""), Renderer::new(env!("CARGO_BIN_EXE_timed-renderer")));
        let (socket, quota) = (daemon.socket(), QUOTA.to_string());
        let registered = ["--name", "vm", "--paravaned", socket.to_str().unwrap()];
        let vulkan = ["--vulkan", "--vulkan-window", "64M", "--memory-quota", &quota];
        let backend = renderer.backend(&[arguments, &registered, &vulkan].concat());
        let (mut guest, ..) = FrontEnd::with_window(&backend.socket());
        assert_eq!(context_for(&mut guest, CONTEXT, CAPSET_VENUS, "vkcube"), ctrl::OK_NODATA);
        eventually("it is registered", || daemon.vm("vm").is_some());
        Self { daemon, renderer, backend, guest }
    }

    /// Submits so much work of a context behind an allocation, and waits for it.
    fn work(&mut self, context: u32, milliseconds: u32, bytes: u32) {
        assert_eq!(submit(&mut self.guest, context, 1, [milliseconds, bytes].as_bytes()), ctrl::OK_NODATA);
    }

    fn row(&self, name: &str) -> Option<Value> {
        let vm = self.daemon.vm("vm")?;
        vm["processes"].as_array()?.iter().find(|process| process["name"] == name).cloned()
    }

    fn time(&self, name: &str) -> Option<u64> {
        self.row(name)?["used"]["gpu_time_ns"].as_u64()
    }

    fn memory(&self, name: &str) -> Option<u64> {
        self.row(name)?["memory_bytes"].as_u64()
    }
}

#[test]
fn a_programs_work_is_charged_and_shown_as_vulkans() {
    let mut vm = Vm::start(&[]);
    (0..3).for_each(|_| vm.work(CONTEXT, 20, 1000));
    eventually("the program's row shows its time", || vm.time("Vulkan: vkcube").is_some_and(|time| time >= 60_000_000));
    eventually("and Vulkan's the memory", || vm.memory("Vulkan") == Some(3000));
    // Nothing of it is OpenGL's.
    assert_eq!((vm.time("OpenGL"), vm.memory("OpenGL"), vm.time("Vulkan")), (Some(0), Some(0), Some(0)));
}

#[test]
fn memory_is_of_the_vms_quota_and_ends_with_its_process() {
    let mut vm = Vm::start(&[]);
    vm.work(CONTEXT, 1, QUOTA - 10);
    vm.work(CONTEXT, 1, 11);
    eventually("what is there is shown", || vm.memory("Vulkan") == Some((QUOTA - 10).into()));
    // Who decides whose memory is on the device knows of it.
    assert_eq!(vm.backend.lease_page().held().resident, u64::from(QUOTA - 10));
    assert_eq!(gl(&mut vm.guest, ctrl::CTX_DESTROY, CONTEXT, 0, &[0_u8; 0][..]), ctrl::OK_NODATA);
    eventually("it is back", || vm.memory("Vulkan") == Some(0));
    assert_eq!(context_for(&mut vm.guest, 6, CAPSET_VENUS, "vkcube"), ctrl::OK_NODATA);
    vm.work(6, 1, QUOTA);
    let [most, all] = [QUOTA - 10, QUOTA].map(|bytes| format!("allocates {bytes}: true"));
    let expected = [most, "allocates 11: false".to_owned(), all];
    assert_eq!(vm.renderer.told(), expected);
}

#[test]
fn who_has_no_lease_does_not_submit_and_a_renderer_that_is_killed_gives_everything_back() {
    let mut vm = Vm::start(&["--cap", "0.1"]);
    vm.work(CONTEXT, 300, 7);
    put(&mut vm.guest, ctrl::SUBMIT_3D, CONTEXT, 2, &stream([1_u32, 0].as_bytes())[..]);
    vm.guest.kick(0);
    eventually("it waits at the gate", || vm.daemon.vm("vm").unwrap()["waiting"] == 1);
    let pid = vm.row("Vulkan").unwrap()["worker"].as_u64().unwrap();
    kill(u32::try_from(pid).unwrap(), Signal::KILL);
    assert_eq!(vm.guest.wait(0).kind, ctrl::ERR_UNSPEC);
    eventually("nothing of it waits", || vm.daemon.vm("vm").unwrap()["waiting"] == 0 && vm.row("Vulkan").is_none());
}
