//! The real paravaned and paravanectl, with back ends that the test plays itself: every command, what it refuses, and a
//! restart in between.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;

use paravane_backend::account::{AccountPage, Counter, Gauge};
use paravane_backend::devices::Device;
use paravane_backend::lease::VmPage;
use paravane_backend::lease::room::Holds;
use paravane_backend::register::message::{FromBackend, Hello, Last, ToBackend, VERSION, receive, send};
use paravane_backend::register::wanted::Wanted;
use paravane_tests::backend::{eventually, executable};
use paravane_tests::daemon::Daemon;
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::Value;

const GPU: &str = "GPU-00000000-0000-0000-0000-000000000001";

/// A back end of the test's own.
struct Backend(OwnedFd);

impl Backend {
    fn connect(daemon: &Daemon) -> OwnedFd {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let address = SocketAddrUnix::new(daemon.socket()).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        socket
    }

    fn hello(boot: &str, name: Option<&str>) -> Hello {
        let device = Device { uuid: GPU.into(), name: "Some GPU".into(), memory_bytes: 8 << 30, ..Device::default() };
        let name = name.map(str::to_owned);
        Hello { version: VERSION, boot: boot.into(), name, devices: vec![device], ..Hello::default() }
    }

    /// Of each device a page and an eventfd; and the pages.
    fn leases(devices: usize) -> (Vec<VmPage>, Vec<OwnedFd>) {
        let leases = (0..devices).map(|_| (VmPage::create().unwrap(), eventfd(0, EventfdFlags::NONBLOCK).unwrap()));
        let (pages, fds): (_, Vec<_>) = leases.map(|((page, file), kick)| (page, [file, kick])).unzip();
        (pages, fds.into_iter().flatten().collect())
    }

    fn fds() -> Vec<OwnedFd> {
        Self::leases(1).1
    }

    fn register(daemon: &Daemon, hello: Hello) -> (Self, String, Wanted) {
        let backend = Self(Self::connect(daemon));
        send(backend.0.as_fd(), &FromBackend::Hello(hello), Self::fds()).unwrap();
        let ToBackend::Welcome { name, wanted, .. } = backend.hear() else { panic!("no welcome") };
        (backend, name, wanted)
    }

    fn say(&self, message: &FromBackend, fds: Vec<OwnedFd>) {
        send(self.0.as_fd(), message, fds).unwrap();
    }

    fn hear(&self) -> ToBackend {
        receive(self.0.as_fd()).unwrap().0
    }

    /// The next of the messages that `want` takes.
    fn hear_that<T>(&self, want: impl Fn(ToBackend) -> Option<T>) -> T {
        loop {
            if let Some(found) = want(self.hear()) {
                return found;
            }
        }
    }

    fn begin(&self, number: u64, pid: u32) -> AccountPage {
        let (page, file) = AccountPage::create().unwrap();
        self.say(&FromBackend::Begins { number, pid, name: format!("p{pid}"), worker: 70 + pid }, vec![file]);
        page
    }

    fn end(&self, number: u64, pid: u32, kernels: u64) {
        let counters = [("kernels".to_string(), kernels)].into();
        let last = Last { number, pid, name: format!("p{pid}"), counters, ..Last::default() };
        self.say(&FromBackend::Ended(last), Vec::new());
    }

    fn booked(&self) -> Vec<u64> {
        self.hear_that(|heard| match heard {
            ToBackend::Booked { numbers } => Some(numbers),
            _ => None,
        })
    }
}

fn kernels(page: &AccountPage, sum: u64) {
    page.counter(Counter::Kernels).store(sum, Ordering::Relaxed);
}

#[test]
fn operators_see_and_set() {
    let daemon = Daemon::start("[vm.a]\nweight = 300\nminimum = 25 # a quarter\n");
    let mut hello = Backend::hello("boot-a", Some("a"));
    hello.wanted = serde_json::from_str(r#"{"weight": 7, "priority": "batch"}"#).unwrap();
    let (backend, name, wanted) = Backend::register(&daemon, hello);
    assert_eq!((name.as_str(), wanted.weight), ("a", Some(300)), "the file is above the command line");
    let (_second, name, _) = Backend::register(&daemon, Backend::hello("boot-b", Some("a")));
    assert_eq!(name, "a~2", "two VMs have two names");
    let page = backend.begin(1, 11);
    page.gauge(Gauge::MemoryBytes).store(512 << 20, Ordering::Relaxed);
    kernels(&page, 5);
    let mut vm = Value::Null;
    eventually("the process is there", || {
        vm = daemon.json("info a");
        vm["processes"][0]["pid"] == 11 && vm["memory_peak_bytes"] != 0
    });
    assert_eq!((&vm["set"]["priority"], &vm["set"]["minimum"]), (&"batch".into(), &25.0.into()));
    assert_eq!((&vm["used"]["kernels"], &vm["memory_bytes"]), (&5.into(), &(512_u64 << 20).into()));
    for word in ["a~2", "Some GPU", "8.0 GiB", "512 MiB", "25.0%"] {
        assert!(daemon.said("list").contains(word), "list lacks {word}");
    }
    for word in ["set by file", r#"{"weight":300,"minimum":25.0}"#, "p11", "batch, best-effort"] {
        assert!(daemon.said("info a").contains(word), "info lacks {word}:\n{}", daemon.said("info a"));
    }
    let said = daemon.said("set a --cap 62.5 --memory-quota 2G");
    assert!(said.contains("a: ") && said.contains("cap = 62.5") && said.contains("until paravaned or the VM ends"), "{said}");
    let set = backend.hear_that(|heard| match heard {
        ToBackend::Settings { wanted } => Some(wanted),
        _ => None,
    });
    assert_eq!(serde_json::to_value(&set).unwrap()["memory_quota"], 2_u64 << 30);
    assert_eq!(daemon.json("info a")["set"]["cap"], 62.5);
    assert!(daemon.refused("set a --cap 20").contains("above the cap"));
    assert!(daemon.refused("set a").contains("nothing to set"));
    assert!(daemon.refused("set a --cap much").contains("must be percent"));
    assert!(daemon.refused("top --once --size 80by24").contains("COLUMNSxLINES"));
    assert!(daemon.refused("set nobody --cap 20").contains("there is no VM nobody"));
    assert!(daemon.refused("set a~2 --minimum 80").contains("add up to"));
    daemon.said("set a --weight 400 --persistent");
    daemon.said("set later --mode fixed-share --cap 10 --persistent");
    let file = fs::read_to_string(daemon.config()).unwrap();
    assert!(file.contains("weight = 400\nminimum = 25 # a quarter") && file.contains("[vm.later]"), "{file}");
    let metrics = Command::new(executable().with_file_name("paravanectl")).arg("--help").output().unwrap();
    assert!(String::from_utf8_lossy(&metrics.stdout).contains("Examples:"));
}

#[test]
fn a_vm_on_two_devices_has_a_share_and_memory_of_each() {
    const OTHER: &str = "GPU-00000000-0000-0000-0000-000000000002";
    let mut daemon = Daemon::start(&format!("[vm.both]\ngpu = [{OTHER:?}, {GPU:?}]\nweight = 300\n[vm.second]\ndevices = 2\n"));
    let comes = |daemon: &Daemon, boot: &str| {
        let mut hello = Backend::hello(boot, Some(boot));
        let other = Device { uuid: OTHER.into(), memory_bytes: 4 << 30, ..hello.devices[0].clone() };
        hello.devices.push(other);
        let backend = Backend(Backend::connect(daemon));
        let (pages, fds) = Backend::leases(2);
        backend.say(&FromBackend::Hello(hello), fds);
        let ToBackend::Welcome { devices, .. } = backend.hear() else { panic!("no welcome") };
        (backend, pages, devices)
    };
    let shares = |backend: &Backend| {
        backend.hear_that(|heard| match heard {
            ToBackend::Shares { thousandths } => Some(thousandths.into_values().collect::<Vec<_>>()),
            _ => None,
        })
    };
    let (both, _pages, devices) = comes(&daemon, "both");
    assert_eq!(devices, [OTHER, GPU], "in the file's order");
    let (second, pages, devices) = comes(&daemon, "second");
    assert!(devices.is_empty(), "it has all that there are");
    while shares(&both) != [750, 750] {}
    assert_eq!(shares(&second), [250, 250]);
    // What its workers say that they hold, on the second device only.
    let slot = pages[1].take_slot(7).unwrap();
    slot.holds(Holds::Resident).store(1 << 30, Ordering::SeqCst);
    slot.waiting().store(2, Ordering::SeqCst);
    eventually("it is seen", || daemon.json("info second")["devices"][1]["memory_bytes"] == 1_u64 << 30);
    let vm = daemon.json("info second");
    let of = |name: &str| [0, 1].map(|at| vm["devices"][at][name].clone());
    assert_eq!(of("uuid"), [GPU, OTHER]);
    assert_eq!((of("entitled"), of("waiting")), ([25.0, 25.0].map(Value::from), [0, 2].map(Value::from)));
    let list = daemon.said("list");
    assert_eq!(list.lines().filter(|line| line.contains("75.0%")).count(), 2, "a line for each device\n{list}");
    let used: Vec<Value> = daemon.json("list")["gpus"].as_array().unwrap().iter().map(|gpu| gpu["memory_used_bytes"].clone()).collect();
    assert_eq!(used, [0, 1_u64 << 30].map(Value::from), "in the order in which they were told of");
    for word in ["device 0", "device 1", OTHER, "1.0 GiB", "25.0% entitled"] {
        assert!(daemon.said("info second").contains(word), "info lacks {word}:\n{}", daemon.said("info second"));
    }
    // GPU time by device: of a process that runs, and of one that has ended.
    let page = second.begin(1, 11);
    page.add_gpu_time(0, 3_000_000_000);
    page.add_gpu_time(1, 1_000_000_000);
    let counters = [("gpu_time_ns".to_string(), 500_000_000)].into();
    let last = Last { number: 2, pid: 12, counters, gpu_time_ns_on: vec![0, 500_000_000], ..Last::default() };
    second.say(&FromBackend::Ended(last), Vec::new());
    assert_eq!(second.booked(), [2]);
    let used = |daemon: &Daemon| -> Vec<_> {
        let rows = daemon.usage("second --by device");
        rows.iter().map(|row| (row["gpu"].clone(), row["gpu_time_ns"].clone())).collect()
    };
    let all = [(GPU, 3_000_000_000_u64), (OTHER, 1_500_000_000)].map(|(gpu, ns)| (gpu.into(), ns.into()));
    eventually("both are booked", || used(&daemon) == all);
    assert!(daemon.said("usage --by device --csv").contains(&format!("second,,{OTHER},1500000000\r\n")));
    assert!(daemon.said("usage --by device").contains("1.50 s") && daemon.said("info second").contains("1.50 s"));
    daemon.said("set both --weight 100");
    while shares(&second) != [500, 500] {}
    assert!(daemon.refused("set both --sms 1").contains("no green contexts"));
    daemon.kill();
    daemon.restart();
    let (both, ..) = comes(&daemon, "both");
    drop(second);
    let (_second, ..) = comes(&daemon, "second");
    while shares(&both) != [750, 750] {}
    assert_eq!(used(&daemon), all);
    assert_eq!(daemon.json("info second")["devices"][1]["gpu_time_ns"], 500_000_000, "of processes that have ended");
}

#[test]
fn operators_end_processes_and_hear_what_happens() {
    let daemon = Daemon::start("");
    let (backend, ..) = Backend::register(&daemon, Backend::hello("boot-a", Some("a")));
    let pages = [backend.begin(1, 11), backend.begin(2, 12), backend.begin(3, 12)];
    eventually("the processes are there", || daemon.json("info a")["processes"].as_array().unwrap().len() == pages.len());
    let killed = || {
        backend.hear_that(|heard| match heard {
            ToBackend::Kill { number } => Some(number),
            _ => None,
        })
    };
    daemon.said("kill a --pid 11");
    assert_eq!(killed(), Some(1));
    assert!(daemon.refused("kill a --pid 12").contains("--number"));
    daemon.said("kill a --number 3");
    assert_eq!(killed(), Some(3));
    daemon.said("kill a");
    assert_eq!(killed(), None);
    assert!(daemon.refused("kill a --number 9").contains("runs no process number 9"));
    assert!(daemon.refused("kill b").contains("there is no VM b"));
    drop(backend);
    eventually("the VM is gone", || daemon.said("list").contains("No VM is registered"));
    let events = daemon.said("events");
    let at = |word: &str| events.find(word).unwrap_or_else(|| panic!("no {word} in\n{events}"));
    assert!(at("started") < at("registered") && at("process-began") < at("killed") && at("killed") < at("left"));
    assert!(daemon.said("-o json events").lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[test]
fn a_restart_neither_loses_nor_doubles() {
    let mut daemon = Daemon::start("");
    let (backend, ..) = Backend::register(&daemon, Backend::hello("boot-a", Some("a")));
    let (first, second) = (backend.begin(1, 11), backend.begin(2, 12));
    kernels(&first, 100);
    kernels(&second, 10);
    backend.end(1, 11, 100);
    assert_eq!(backend.booked(), [1]);
    let sum = |daemon: &Daemon| {
        let rows = daemon.usage("a --by process");
        rows.iter().map(|row| row["kernels"].as_u64().unwrap()).sum::<u64>()
    };
    eventually("both are booked", || sum(&daemon) == 110);
    daemon.kill();
    kernels(&second, 25);
    daemon.restart();
    let (backend, ..) = Backend::register(&daemon, Backend::hello("boot-a", Some("a")));
    // It has not heard that the first was booked, and one has come and gone meanwhile.
    backend.end(1, 11, 100);
    backend.end(3, 13, 1000);
    backend.say(
        &FromBackend::Begins { number: 2, pid: 12, name: "p12".into(), worker: 82 },
        vec![file_with(25)],
    );
    let mut booked: Vec<u64> = backend.booked();
    while booked.len() < 2 {
        booked.extend(backend.booked());
    }
    booked.sort_unstable();
    assert_eq!(booked, [1, 3]);
    eventually("all is booked", || sum(&daemon) == 1125);
    eventually("the account goes on", || daemon.json("info a")["used"]["kernels"] == 1125);
    drop(backend);
    eventually("the last one has ended", || {
        daemon.usage("a --by process").iter().filter(|row| row["number"] != 0).all(|row| row["ended"] == true)
    });
    assert_eq!(daemon.usage("a")[0]["kernels"], 1125);
    let csv = daemon.said("usage --by process --csv");
    assert_eq!(csv.lines().filter(|line| line.contains(",p1")).count(), 3, "{csv}");
    assert!(daemon.said("usage --from 1h").contains("1.1 k"));
    assert!(daemon.said("usage --to 2020-01-01").contains("Nothing was used."));
    assert!(daemon.refused("usage --from yesterday").contains("is no moment"));
    assert!(daemon.refused("usage --from 2026-01-02 --to 2026-01-01").contains("must be before"));
    assert!(daemon.said("usage nobody").contains("called nobody"));
}

/// A page with so many kernels.
fn file_with(sum: u64) -> OwnedFd {
    let (page, file) = AccountPage::create().unwrap();
    kernels(&page, sum);
    file
}

#[test]
fn who_breaks_the_protocol_is_shown_out() {
    let daemon = Daemon::start("[vm.placed]\ngpu = \"GPU-of-another-host\"\n");
    let refusal = |hello: Hello, fds: Vec<OwnedFd>| {
        let socket = Backend::connect(&daemon);
        send(socket.as_fd(), &FromBackend::Hello(hello), fds).unwrap();
        let ToBackend::Refused { reason } = receive(socket.as_fd()).unwrap().0 else { panic!("not refused") };
        reason
    };
    let hello = || Backend::hello("b", Some("a"));
    assert!(refusal(Hello { version: 99, ..hello() }, Backend::fds()).contains("version 99"));
    assert!(refusal(Hello { boot: String::new(), ..hello() }, Backend::fds()).contains("out of bounds"));
    assert!(refusal(hello(), Vec::new()).contains("two descriptors"));
    let not_sealed = || OwnedFd::from(tempfile::tempfile().unwrap());
    refusal(hello(), vec![not_sealed(), not_sealed()]);
    let twice = Hello { devices: [hello().devices, hello().devices].concat(), ..hello() };
    assert!(refusal(twice.clone(), Backend::fds()).contains("one UUID"));
    let other = Device { uuid: "GPU-2".into(), ..Device::default() };
    let several = Hello { devices: [hello().devices, vec![other]].concat(), ..hello() };
    assert!(refusal(several, Backend::fds()).contains("two descriptors for each device"));
    assert!(refusal(Backend::hello("b", Some("placed")), Backend::fds()).contains("GPU-of-another-host"));
    let socket = Backend::connect(&daemon);
    rustix::net::send(&socket, b"no JSON", rustix::net::SendFlags::empty()).unwrap();
    let ToBackend::Refused { .. } = receive(socket.as_fd()).unwrap().0 else { panic!("not refused") };
    let (backend, ..) = Backend::register(&daemon, hello());
    let _page = backend.begin(1, 1);
    // The same number again: out, and the others stay.
    let (other, ..) = Backend::register(&daemon, Backend::hello("c", Some("b")));
    let _again = backend.begin(1, 1);
    eventually("it is out", || {
        let vms = daemon.json("list");
        vms["vms"].as_array().unwrap().len() == 1 && vms["vms"][0]["name"] == "b"
    });
    drop(other);
}

#[test]
fn a_wrong_file_is_told_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    fs::write(&path, "[vm.a]\nweight = \"much\"\n").unwrap();
    let check = |path: &PathBuf| {
        let mut command = Command::new(executable().with_file_name("paravaned"));
        command.arg("--check-config").arg("--config").arg(path).output().unwrap()
    };
    let output = check(&path);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("bad.toml") && said.contains("line 2") && said.contains("weight = "), "{said}");
    fs::write(&path, "[vm.a]\nweight = 5\n").unwrap();
    assert!(check(&path).status.success());
    assert!(!check(&folder.path().join("missing.toml")).status.success());
}
