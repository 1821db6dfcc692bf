//! Two devices, as a program sees them: on cpu-driver alone, and through shim, backend and worker. What every part
//! expects is the same for both.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod devices {
    pub(crate) mod contexts;
    pub(crate) mod events;
    pub(crate) mod identity;
    pub(crate) mod memory;
    pub(crate) mod peers;
}

use std::path::Path;
use std::process::Command;

use devices::contexts::Side;
use paravane_tests::backend::{Backend, executable};
use paravane_tests::cuda::Cuda;
use paravane_tests::must;

/// Set in the process that makes the calls.
const CHILD: &str = "PARAVANE_DEVICES_CHILD";
/// Of each device.
const MEMORY: usize = 64 << 20;

fn load(library: &str) -> Cuda {
    Cuda::load(&executable().with_file_name(library))
}

fn two_devices(cuda: &Cuda) {
    must!(cuda.cuInit(0));
    devices::identity::two(cuda);
    let sides = [0, 1].map(|ordinal| Side::new(cuda, ordinal));
    devices::contexts::both(cuda, &sides);
    devices::contexts::of_one(cuda, &sides);
    devices::memory::budgets(cuda, &sides);
    devices::memory::pools(cuda, &sides);
    devices::memory::mapped(cuda, &sides);
    devices::memory::managed(cuda, &sides);
    devices::events::across(cuda, &sides);
    devices::peers::copies(cuda, &sides);
    devices::peers::access(cuda, &sides);
    sides.into_iter().for_each(|side| side.end(cuda));
}

fn small(command: &mut Command) {
    command.env("PARAVANE_CPU_DEVICES", "2").env("PARAVANE_CPU_MEMORY", MEMORY.to_string()).env("PARAVANE_CPU_THREADS", "1");
}

/// Runs this test in a process of its own, with what `prepare` sets; in that process, runs `calls`.
fn in_a_process(test: &str, library: &str, calls: impl FnOnce(&Cuda), prepare: impl FnOnce(&mut Command)) {
    if std::env::var(CHILD).is_ok_and(|of| of == test) {
        return calls(&load(library));
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(CHILD, test);
    prepare(&mut child);
    assert!(child.status().unwrap().success(), "what failed is above");
}

/// Over a backend that has two devices.
fn through_a_worker(test: &str, calls: impl FnOnce(&Cuda), prepare: impl FnOnce(&mut Command)) {
    let mut backend = None;
    in_a_process(test, "libcuda.so", calls, |child| {
        let backend = backend.insert(Backend::start_with(&[], small));
        prepare(child.env("PARAVANE_SOCKET", backend.socket()));
    });
}

#[test]
fn on_cpu_driver_alone() {
    in_a_process("on_cpu_driver_alone", "libparavane_cpu.so", two_devices, small);
}

#[test]
fn through_shim_backend_and_worker() {
    through_a_worker("through_shim_backend_and_worker", two_devices, |_| ());
}

#[test]
fn each_device_counts_its_own_work() {
    let name = "each_device_counts_its_own_work";
    in_a_process(name, "libparavane_cpu.so", |cuda| devices::contexts::clocks(cuda, library()), small);
}

fn library() -> &'static Path {
    static PATH: std::sync::LazyLock<std::path::PathBuf> =
        std::sync::LazyLock::new(|| executable().with_file_name("libparavane_cpu.so"));
    &PATH
}

#[test]
fn a_process_sees_what_the_variable_names() {
    let name = "a_process_sees_what_the_variable_names";
    for (list, seen) in devices::identity::LISTS {
        in_a_process(name, "libparavane_cpu.so", devices::identity::seen, |child| {
            small(child.env("CUDA_VISIBLE_DEVICES", list).env(devices::identity::SEEN, seen));
        });
    }
}
