//! VMs on two devices of cpu-driver's under one paravaned: leases are those of the device that work is done on, also
//! while paravaned is away, and the bill says which one it was. Shares are ratios of accounts; their bounds are wide.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use paravane_tests::backend::{Backend, eventually, executable};
use paravane_tests::daemon::Daemon;

fn vm(daemon: &Daemon, name: &str) -> Backend {
    let socket = daemon.socket();
    Backend::start_with(&["--name", name, "--paravaned", socket.to_str().unwrap()], |command| {
        command.env("PARAVANE_CPU_DEVICES", "2");
    })
}

/// Launches on its VM's first device for some time.
fn program(vm: &Backend, milliseconds: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lease-program"));
    command.arg("stream").arg(executable().with_file_name("libcuda.so")).arg(milliseconds);
    command.env("PARAVANE_SOCKET", vm.socket()).stdout(Stdio::null());
    command.spawn().unwrap()
}

/// GPU time that is booked for a VM, by device.
fn booked(daemon: &Daemon, vm: &str) -> Vec<(String, f64)> {
    let rows = daemon.usage(&format!("{vm} --by device"));
    rows.iter().map(|row| (row["gpu"].as_str().unwrap().to_owned(), row["gpu_time_ns"].as_f64().unwrap())).collect()
}

/// Of the first one's program and the other's beside it: the first one's part of the device, by what is booked.
fn part(daemon: &Daemon, device: &str, vms: [(&str, &Backend); 2], milliseconds: &str) -> f64 {
    let time = |vm: &str| booked(daemon, vm).iter().filter(|(gpu, _)| gpu == device).map(|(_, ns)| *ns).sum::<f64>();
    let before = vms.map(|(name, _)| time(name));
    let programs = vms.map(|(_, backend)| program(backend, milliseconds));
    assert!(programs.into_iter().all(|mut program| program.wait().unwrap().success()));
    eventually("all has ended and is booked", || {
        vms.iter().all(|(name, _)| {
            let all: f64 = daemon.usage(name).iter().map(|row| row["gpu_time_ns"].as_f64().unwrap()).sum();
            let vm = daemon.vm(name);
            vm.is_some_and(|vm| vm["processes"].as_array().is_some_and(Vec::is_empty) && vm["used"]["gpu_time_ns"].as_f64() == Some(all))
        })
    });
    let [first, second] = [0, 1].map(|at| time(vms[at].0) - before[at]);
    first / (first + second)
}

#[test]
fn vms_share_each_device_that_they_are_placed_on() {
    let daemon = Daemon::start("");
    let scout = vm(&daemon, "scout");
    let mut devices = Vec::new();
    eventually("the devices are told of", || {
        let gpus = daemon.json("list")["gpus"].as_array().cloned().unwrap_or_default();
        devices = gpus.iter().map(|gpu| gpu["uuid"].as_str().unwrap().to_owned()).collect();
        devices.len() == 2
    });
    drop(scout);
    let [first, second] = [&devices[0], &devices[1]];
    // What "both" does is done on the second device, which it sees first.
    let placed = format!(
        "[vm.both]\ngpu = [{second:?}, {first:?}]\nweight = 300\n[vm.one]\ngpu = {first:?}\n[vm.two]\ngpu = {second:?}\n"
    );
    let file = std::fs::read_to_string(daemon.config()).unwrap();
    std::fs::write(daemon.config(), file + &placed).unwrap();
    daemon.said("reload");
    let [both, one, two] = ["both", "one", "two"].map(|name| vm(&daemon, name));
    eventually("all are registered", || daemon.vms().len() == 3);
    let entitled = |name: &str| {
        let vm = daemon.vm(name).unwrap_or_default();
        vm["devices"].as_array().map(|on| on.iter().map(|on| on["entitled"].as_f64().unwrap()).collect::<Vec<_>>())
    };
    eventually("they know their shares", || entitled("both") == Some(vec![75.0, 75.0]));

    // On the other device, and not beside the others: the machine may have few cores.
    assert!(program(&one, "500").wait().unwrap().success());
    let share = part(&daemon, second, [("both", &both), ("two", &two)], "2000");
    assert!((0.6..0.9).contains(&share), "{share}");
    let used = booked(&daemon, "both");
    assert!(used.len() == 1 && used[0].0 == *second, "{used:?}");
    eventually("what one has used is booked", || booked(&daemon, "one").iter().any(|(gpu, ns)| gpu == first && *ns > 0.0));
    assert_eq!(booked(&daemon, "one").len(), 1);

    daemon.said("set both --weight 50");
    eventually("they know their new shares", || entitled("two") == Some(vec![66.7]));
    let share = part(&daemon, second, [("both", &both), ("two", &two)], "2000");
    assert!((0.15..0.5).contains(&share), "{share} after another weight");

    let mut daemon = daemon;
    daemon.kill();
    let programs = [&both, &two].map(|vm| program(vm, "1500"));
    std::thread::sleep(Duration::from_millis(500));
    daemon.restart();
    assert!(programs.into_iter().all(|mut program| program.wait().unwrap().success()));
    eventually("all are back", || daemon.vms().len() == 3);
    let share = part(&daemon, second, [("both", &both), ("two", &two)], "2000");
    assert!((0.6..0.9).contains(&share), "{share} by the file's weight again");
}
