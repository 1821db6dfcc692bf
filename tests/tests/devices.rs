//! Two devices, as a program sees them: on cpu-driver alone, and through shim, backend and worker. What every part
//! expects is the same for both.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod devices {
    pub(crate) mod contexts;
    pub(crate) mod events;
    pub(crate) mod graphs;
    pub(crate) mod identity;
    pub(crate) mod memory;
    pub(crate) mod peers;
}

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use devices::contexts::Side;
use paravane_protocol::nvml_types::{NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_NOT_SUPPORTED};
use paravane_tests::backend::{Backend, executable};
use paravane_tests::cuda::Cuda;
use paravane_tests::must;
use paravane_tests::nvml::install;

/// Set in the process that makes the calls.
const CHILD: &str = "PARAVANE_DEVICES_CHILD";
/// Of each device.
const MEMORY: usize = 64 << 20;

fn load(library: &str) -> Cuda {
    Cuda::load(&executable().with_file_name(library))
}

/// What is asked of both devices.
type Part = fn(&Cuda, &[Side; 2]);

fn two_devices(cuda: &Cuda) {
    must!(cuda.cuInit(0));
    devices::identity::two(cuda);
    let sides = [0, 1].map(|ordinal| Side::new(cuda, ordinal));
    let parts: [(&str, Part); 9] = [
        ("both", devices::contexts::both),
        ("of_one", devices::contexts::of_one),
        ("budgets", devices::memory::budgets),
        ("pools", devices::memory::pools),
        ("mapped", devices::memory::mapped),
        ("managed", devices::memory::managed),
        ("across", devices::events::across),
        ("forked", devices::graphs::forked),
        ("copies", devices::peers::copies),
    ];
    let fails = |part: Part| catch_unwind(AssertUnwindSafe(|| part(cuda, &sides))).is_err();
    let failed: Vec<&str> = parts.into_iter().filter(|(_, part)| fails(*part)).map(|(name, _)| name).collect();
    assert_eq!(failed, Vec::<&str>::new());
    // Last, because it ends with a context that has failed.
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

/// Over a backend that has two devices and what else its operator sets.
fn through_a_worker(test: &str, operator: &[(&str, &str)], calls: impl FnOnce(&Cuda), prepare: impl FnOnce(&mut Command)) {
    let mut backend = None;
    in_a_process(test, "libcuda.so", calls, |child| {
        let backend = backend.insert(Backend::start_with(&[], |command| small(command.envs(operator.iter().copied()))));
        prepare(child.env("PARAVANE_SOCKET", backend.socket()));
    });
}

#[test]
fn on_cpu_driver_alone() {
    in_a_process("on_cpu_driver_alone", "libparavane_cpu.so", two_devices, small);
}

#[test]
fn through_shim_backend_and_worker() {
    through_a_worker("through_shim_backend_and_worker", &[], two_devices, |_| ());
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

#[test]
fn a_guest_sees_what_its_own_variable_names() {
    for (list, seen) in devices::identity::LISTS {
        through_a_worker("a_guest_sees_what_its_own_variable_names", &[], devices::identity::seen, |child| {
            child.env("CUDA_VISIBLE_DEVICES", list).env(devices::identity::SEEN, seen);
        });
    }
}

#[test]
fn a_guest_sees_no_more_than_its_operator_lets_it() {
    for (list, seen) in [("0", "w"), ("1", ""), ("GPU-70617261-7661-6e65-2d63-70752d646576", "")] {
        let operator = &[("CUDA_VISIBLE_DEVICES", "1")];
        through_a_worker("a_guest_sees_no_more_than_its_operator_lets_it", operator, devices::identity::seen, |child| {
            child.env("CUDA_VISIBLE_DEVICES", list).env(devices::identity::SEEN, seen);
        });
    }
}

#[test]
fn nvml_is_there_where_the_variable_keeps_the_order() {
    let [not_supported, none] =
        [NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_DRIVER_NOT_LOADED].map(|error| format!("error {}", error.0));
    let folder = tempfile::tempdir().unwrap();
    install(folder.path());
    let backend = Backend::start_with(&[], small);
    for (list, told) in [("0,1", "2"), ("0", "1"), ("1", &not_supported), ("1,0", &not_supported), ("", &none)] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_nvml-program"));
        program.arg("count").arg(folder.path()).env("PARAVANE_SOCKET", backend.socket()).env("CUDA_VISIBLE_DEVICES", list);
        let output = program.output().unwrap();
        assert!(output.status.success(), "{list:?}: {output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), told, "{list:?}");
    }
}
