//! VMs on several devices, by a host whose back ends are the test's own.

use std::os::fd::{AsFd, OwnedFd};

use paravane_backend::devices::Device;
use paravane_backend::lease::{VmId, VmPage};
use paravane_backend::register::message::{Hello, ToBackend, receive};
use paravane_backend::register::wanted::Wanted;
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::super::Tick;
use super::*;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::view::VmView;
use crate::vm::Peer;

const GPUS: [&str; 3] = ["GPU-a", "GPU-b", "GPU-c"];

struct World {
    host: Host,
    tick: Tick,
    _folder: tempfile::TempDir,
}

/// A back end's end of the connection.
struct Backend {
    id: VmId,
    socket: OwnedFd,
    devices: Vec<String>,
}

impl Backend {
    /// The next message that says so.
    fn hears<T>(&self, want: impl Fn(ToBackend) -> Option<T>) -> T {
        loop {
            let (heard, _) = receive(self.socket.as_fd()).unwrap();
            if let Some(found) = want(heard) {
                return found;
            }
        }
    }

    fn shares(&self) -> Vec<(String, u32)> {
        self.hears(|heard| match heard {
            ToBackend::Shares { thousandths } => Some(thousandths.into_iter().collect()),
            _ => None,
        })
    }
}

impl World {
    fn new(file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paravaned.toml");
        std::fs::write(&path, file).unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.db"), 1).unwrap();
        let host = Host::new(Config::parse(file).unwrap(), path, ledger).unwrap();
        Self { host, tick: Tick::default(), _folder: folder }
    }

    fn try_to_come(&self, name: &str, gpus: &[&str], fds: usize) -> Result<Backend, String> {
        let device = |uuid: &&str| Device { uuid: uuid.to_string(), ..Device::default() };
        let hello = Hello {
            boot: name.into(),
            name: Some(name.into()),
            devices: gpus.iter().map(device).collect(),
            ..Hello::default()
        };
        let kick = || eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let leases = (0..fds).map(|_| (VmPage::create().unwrap().0, kick())).collect();
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let id = self.host.register(hello, Peer::default(), leases, pair.0)?;
        let mut backend = Backend { id, socket: pair.1, devices: Vec::new() };
        backend.devices = backend.hears(|heard| match heard {
            ToBackend::Welcome { devices, .. } => Some(devices),
            _ => None,
        });
        Ok(backend)
    }

    fn comes(&self, name: &str) -> Backend {
        self.try_to_come(name, &GPUS, GPUS.len()).unwrap()
    }

    fn look(&mut self) {
        self.host.tick(&mut self.tick);
    }

    fn vm(&self, name: &str) -> VmView {
        self.host.snapshot(false).vms.into_iter().find(|vm| vm.name == name).unwrap()
    }

    /// A VM's devices with what it is entitled to and guaranteed, in percent.
    fn on(&self, name: &str) -> Vec<(String, f64, f64)> {
        let on = self.vm(name).devices.into_iter();
        on.map(|on| (on.uuid, on.entitled.into(), on.minimum.into())).collect()
    }

    fn set(&self, name: &str, json: &str) -> Result<Wanted, String> {
        self.host.set(name, &serde_json::from_str(json).unwrap(), false).map_err(|why| why.to_string())
    }

    fn events(&self, words: &str) -> usize {
        let (kept, _) = self.host.events.follow();
        kept.iter().filter(|event| event.text.contains(words)).count()
    }
}

fn row(uuid: &str, entitled: f64, minimum: f64) -> (String, f64, f64) {
    (uuid.into(), entitled, minimum)
}

#[test]
fn a_vm_has_a_share_of_each_of_its_devices() {
    let mut world = World::new(
        "[vm.both]\ngpu = [\"GPU-c\", \"GPU-a\"]\nweight = 300\n[vm.one]\ngpu = \"GPU-a\"\n[vm.two]\ndevices = 2\n",
    );
    let both = world.comes("both");
    assert_eq!(both.devices, ["GPU-c", "GPU-a"], "in the operator's order");
    assert_eq!(world.comes("one").devices, ["GPU-a"]);
    assert_eq!(world.comes("two").devices, ["GPU-a", "GPU-b"]);
    world.look();
    assert_eq!(both.shares(), [("GPU-a".into(), 600), ("GPU-c".into(), 1000)]);
    assert_eq!(world.on("both"), [row("GPU-c", 100.0, 0.0), row("GPU-a", 60.0, 0.0)]);
    assert_eq!(world.on("two"), [row("GPU-a", 20.0, 0.0), row("GPU-b", 100.0, 0.0)]);
    assert_eq!(f64::from(world.vm("both").entitled), 80.0, "the mean of its devices");
    world.set("both", r#"{"weight": 200}"#).unwrap();
    world.look();
    assert_eq!(both.shares(), [("GPU-a".into(), 500), ("GPU-c".into(), 1000)]);
    let vms: Vec<u32> = world.host.snapshot(false).gpus.iter().map(|gpu| gpu.vms).collect();
    assert_eq!(vms, [3, 1, 1]);
    world.host.leave(both.id, "gone");
    world.look();
    assert_eq!(world.on("two"), [row("GPU-a", 50.0, 0.0), row("GPU-b", 100.0, 0.0)]);
}

#[test]
fn everything_is_all_devices_as_the_library_has_them() {
    let mut world = World::new("placement = \"everything\"\n[vm.all]\ngpu = [\"GPU-a\", \"GPU-b\", \"GPU-c\"]\n");
    let (first, second) = (world.comes("a"), world.comes("all"));
    assert!(first.devices.is_empty() && second.devices.is_empty(), "that needs no word");
    world.look();
    assert_eq!(first.shares(), GPUS.map(|uuid| (uuid.to_string(), 500)));
    assert_eq!(world.vm("a").devices.len(), 3);
}

#[test]
fn a_guarantee_is_given_where_it_has_room() {
    let mut world = World::new(
        "[vm.a]\ngpu = \"GPU-a\"\nminimum = 70\nweight = 7\n\
         [vm.b]\ngpu = [\"GPU-a\", \"GPU-b\"]\nminimum = 30\nweight = 3\n",
    );
    let (first, _second) = (world.comes("a"), world.comes("b"));
    world.look();
    assert_eq!(world.on("b"), [row("GPU-a", 30.0, 30.0), row("GPU-b", 100.0, 30.0)]);
    // What is set on all devices or on none.
    let why = world.set("b", r#"{"minimum": 40}"#).unwrap_err();
    assert_eq!(why, "on GPU-a: the minimums of the GPU's VMs add up to 110%");
    assert_eq!(world.on("b"), [row("GPU-a", 30.0, 30.0), row("GPU-b", 100.0, 30.0)]);
    world.look();
    assert_eq!(world.on("b"), [row("GPU-a", 30.0, 30.0), row("GPU-b", 100.0, 30.0)], "the arbiters too");

    // Nobody is refused for a guarantee that has no room.
    world.host.state().config = Config::parse("[vm.c]\ngpu = [\"GPU-b\", \"GPU-a\"]\nminimum = 60\n").unwrap();
    let _third = world.comes("c");
    assert_eq!(world.events("its minimum of 60% is not guaranteed on GPU-a"), 1);
    assert_eq!(world.events("is not guaranteed on GPU-b"), 0);
    let minimums = |world: &World| world.on("c").into_iter().map(|(_, _, minimum)| minimum).collect::<Vec<_>>();
    assert_eq!(minimums(&world), [60.0, 0.0]);
    world.set("c", r#"{"weight": 500}"#).unwrap();
    assert_eq!(minimums(&world), [60.0, 0.0], "nor for another setting");
    assert!(world.set("c", r#"{"minimum": 50}"#).is_err());
    world.host.leave(first.id, "gone");
    assert_eq!(minimums(&world), [60.0, 60.0], "there is room now");
    assert_eq!(world.events("its minimum of 60% is guaranteed on GPU-a now"), 1);
    world.look();
    assert_eq!(world.on("b"), [row("GPU-a", 30.0, 30.0), row("GPU-b", 30.0, 30.0)], "not less than guaranteed");
}

#[test]
fn equal_shares_are_equal_on_each_device() {
    let mut world = World::new(
        "[defaults]\nmode = \"equal-share\"\n[vm.a]\ngpu = [\"GPU-a\", \"GPU-b\"]\n[vm.b]\ngpu = \"GPU-a\"\n",
    );
    let (_first, second) = (world.comes("a"), world.comes("b"));
    world.look();
    assert_eq!(world.on("a"), [row("GPU-a", 50.0, 50.0), row("GPU-b", 100.0, 100.0)]);
    world.host.leave(second.id, "gone");
    world.look();
    assert_eq!(world.on("a"), [row("GPU-a", 100.0, 100.0), row("GPU-b", 100.0, 100.0)]);
}

#[test]
fn who_cannot_come_leaves_nothing_behind() {
    let mut world = World::new("[vm.a]\ngpu = [\"GPU-a\", \"GPU-b\"]\nminimum = 80\n[vm.many]\ndevices = 4\n");
    // A hello with fewer leases than devices does not come from the socket; this stands for an arbiter that fails.
    let why = world.try_to_come("a", &GPUS, 1).err();
    assert_eq!(why.as_deref(), Some("GPU-b: it has no lease"));
    let why = world.try_to_come("a", &["GPU-a"], 1).err();
    assert_eq!(why.as_deref(), Some("its device GPU-b is not in its libcuda"));
    let why = world.try_to_come("many", &GPUS, 3).err();
    assert_eq!(why.as_deref(), Some("it is to have 4 devices, and its libcuda has 3"));
    let _vm = world.comes("a");
    world.look();
    assert_eq!(world.on("a"), [row("GPU-a", 100.0, 80.0), row("GPU-b", 100.0, 80.0)]);
}
