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

use paravane_tests::backend::{Backend, executable};
use paravane_tests::cuda::Cuda;
use paravane_tests::must;

fn built(name: &str) -> PathBuf {
    let path = executable().with_file_name(name);
    assert!(path.is_file(), "{} is missing: cargo build --release", path.display());
    path
}

fn every_row(cuda: &Cuda) {
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
    rows::ipc::handles(cuda);
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
    assert_eq!(cuda.left_out(), Vec::<&str>::new(), "rows that no part of this test calls");
}

/// In a process of its own: the device's memory is to lie nowhere in a process
/// that reaches it through the shim.
#[test]
fn on_cpu_driver_alone() {
    const CHILD: &str = "PARAVANE_ROWS_ALONE";
    if std::env::var_os(CHILD).is_some() {
        every_row(&Cuda::load(&built("libparavane_cpu.so")));
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child.args(["--exact", "on_cpu_driver_alone", "--nocapture"]).env(CHILD, "1");
    assert!(child.status().unwrap().success(), "what failed is above");
}

#[test]
fn through_shim_backend_and_worker() {
    let backend = Backend::start(&[]);
    // SAFETY: the shim reads it at cuInit, in this thread; the other test's
    // library does not read the environment meanwhile.
    #[allow(unsafe_code, reason = "environment")]
    unsafe {
        std::env::set_var("PARAVANE_SOCKET", backend.socket());
    }
    every_row(&Cuda::load(&built("libcuda.so")));
}
