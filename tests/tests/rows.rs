//! Every row of the API table, called as a program calls it: on cpu-driver
//! alone, and through shim, backend and worker. A symbol that no part calls
//! fails the test. What every part expects is the same for both.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(non_snake_case, reason = "CUDA's names")]

mod rows {
    pub(crate) mod affinity;
    pub(crate) mod capture;
    pub(crate) mod context;
    pub(crate) mod copy;
    pub(crate) mod device;
    pub(crate) mod error_log;
    pub(crate) mod export_table;
    pub(crate) mod graph;
    pub(crate) mod green;
    pub(crate) mod ipc;
    pub(crate) mod launch;
    pub(crate) mod link;
    pub(crate) mod managed;
    pub(crate) mod memory;
    pub(crate) mod memset;
    pub(crate) mod module;
    pub(crate) mod old;
    pub(crate) mod pool;
    pub(crate) mod stream;
    pub(crate) mod stream_state;
    pub(crate) mod texture;
    pub(crate) mod volume;
}

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use paravane_tests::backend::{Backend, executable};
use paravane_tests::cuda::Cuda;
use paravane_tests::must;

fn built(name: &str) -> PathBuf {
    let path = executable().with_file_name(name);
    assert!(path.is_file(), "{} is missing: cargo build --release", path.display());
    path
}

/// Rows that tell another process of cuMemAlloc's memory, which it cannot be told of where memory moves.
const OF_IPC: &[&str] = &[
    "cuIpcGetMemHandle",
    "cuIpcOpenMemHandle_v2",
    "cuIpcOpenMemHandle",
    "cuIpcCloseMemHandle",
    "cuIpcGetEventHandle",
    "cuIpcOpenEventHandle",
    "cuMemExportToShareableHandle",
    "cuMemImportFromShareableHandle",
    "cuMemPoolExportToShareableHandle",
    "cuMemPoolImportFromShareableHandle",
    "cuMemPoolExportPointer",
    "cuMemPoolImportPointer",
];

fn every_row(cuda: &Cuda, moves: bool) {
    rows::device::before_init(cuda);
    must!(cuda.cuInit(0));
    rows::device::devices(cuda);
    rows::device::symbols(cuda);
    rows::device::properties(cuda);
    rows::error_log::failed_calls(cuda);
    let context = rows::context::primary(cuda);
    rows::memory::device_memory(cuda);
    rows::memory::host_memory(cuda);
    rows::copy::linear(cuda);
    rows::copy::planes(cuda);
    rows::memset::all(cuda);
    rows::pool::all(cuda);
    rows::managed::managed(cuda);
    rows::managed::variables(cuda);
    rows::managed::mapped(cuda);
    rows::managed::absent_hardware(cuda);
    if !moves {
        rows::ipc::handles(cuda);
    }
    rows::volume::volumes(cuda);
    rows::volume::batches(cuda);
    rows::volume::pointers(cuda);
    rows::texture::arrays(cuda);
    rows::texture::objects(cuda);
    rows::texture::in_a_kernel(cuda);
    let module = rows::module::modules(cuda);
    rows::export_table::tables(cuda, context, module);
    rows::module::libraries(cuda);
    rows::link::links(cuda);
    rows::launch::launches(cuda, module);
    rows::old::launches(cuda, module);
    rows::old::clusters_and_profiler(cuda, module);
    rows::launch::occupancy(cuda, module);
    rows::stream::streams(cuda);
    rows::stream_state::attributes(cuda);
    rows::stream_state::memory_operations(cuda);
    rows::stream_state::between_contexts(cuda);
    rows::stream::events(cuda, module);
    rows::stream::host_functions(cuda);
    rows::graph::topology(cuda);
    rows::graph::kernel_nodes(cuda, module);
    rows::graph::copies(cuda);
    rows::graph::arrays(cuda);
    rows::graph::event_nodes(cuda);
    rows::graph::memory_operation_nodes(cuda);
    rows::graph::uniform(cuda);
    rows::graph::execution(cuda);
    rows::graph::kept(cuda);
    rows::capture::captured(cuda, module);
    rows::capture::forked(cuda);
    rows::capture::refused(cuda);
    rows::affinity::affinity(cuda);
    rows::green::resources(cuda);
    rows::green::contexts(cuda, context, module);
    rows::module::unload(cuda, module);
    rows::context::created(cuda, context);
    rows::export_table::destructors(cuda);
    rows::old::first_versions(cuda);
    rows::context::end(cuda);
    let left_out: Vec<&str> = cuda.left_out().into_iter().filter(|name| !moves || !OF_IPC.contains(name)).collect();
    assert_eq!(left_out, Vec::<&str>::new(), "rows that no part of this test calls");
}

/// In a process of its own: the device's memory is to lie nowhere in a process that reaches it
/// through the shim, and a process has one shim. `beside` is what the test does meanwhile.
fn in_a_process(test: &str, library: &str, moves: bool, beside: impl FnOnce(&mut Command) -> bool) {
    const CHILD: &str = "PARAVANE_ROWS_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return every_row(&Cuda::load(&built(library)), moves);
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(CHILD, "1");
    assert!(beside(&mut child), "what failed is above");
}

#[test]
fn on_cpu_driver_alone() {
    in_a_process("on_cpu_driver_alone", "libparavane_cpu.so", false, |child| child.status().unwrap().success());
}

#[test]
fn through_shim_backend_and_worker() {
    in_a_process("through_shim_backend_and_worker", "libcuda.so", false, |child| {
        let backend = Backend::start(&[]);
        child.env("PARAVANE_SOCKET", backend.socket()).status().unwrap().success()
    });
}

/// In what memory goes.
const PIECE: u64 = 2 << 20;

/// All memory of cuMemAlloc's goes to the host and comes back all the time.
#[test]
fn while_memory_moves() {
    in_a_process("while_memory_moves", "libcuda.so", true, |child| {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("usage.json");
        let mut backend = Backend::start(&["--swap", "4G", "--usage-json", report.to_str().unwrap()]);
        let page = backend.lease_page();
        let mut child = child.env("PARAVANE_SOCKET", backend.socket()).spawn().unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            page.allow(0);
            std::thread::sleep(Duration::from_millis(2));
            page.allow(u64::MAX);
            std::thread::sleep(Duration::from_millis(4));
        };
        backend.terminate();
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        let moved = report["totals"]["swapped_in_bytes"].as_u64().unwrap();
        assert!(moved >= 8 * PIECE || !status.success(), "only {moved} bytes have come back");
        status.success()
    });
}
