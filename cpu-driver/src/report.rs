//! Where faults are told: the `log` facade, and standard error when PARAVANE_CPU_LOG asks for it,
//! because a program that loads libcuda has set up no logger.

use crate::exec::fault::Fault;
use paravane_protocol::cuda_types::CUresult;
use std::sync::LazyLock;

static TO_STDERR: LazyLock<bool> = LazyLock::new(|| std::env::var_os("PARAVANE_CPU_LOG").is_some());

/// Reads the configuration.
pub fn prepare() {
    LazyLock::force(&TO_STDERR);
}

/// Tells of a kernel that failed.
pub fn fault(code: CUresult, fault: &Fault) {
    log::error!("{code}: {fault}");
    if *TO_STDERR {
        eprintln!("paravane-cpu: {code}: {fault}");
    }
}

/// Tells of a call or an image that was refused.
pub fn refusal(what: &str) {
    log::warn!("{what}");
    if *TO_STDERR {
        eprintln!("paravane-cpu: {what}");
    }
}
