//! Which calls are posted. PARAVANE_SYNC=1 makes every posted call an awaited
//! one, so that an error comes back from the call that caused it; and where a
//! kernel has failed, calls are awaited too.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use paravane_protocol::codec::Encoder;
use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use super::current;
use crate::connection::with_ring;

fn synchronous() -> bool {
    static SYNC: OnceLock<bool> = OnceLock::new();
    *SYNC.get_or_init(|| std::env::var_os("PARAVANE_SYNC").is_some_and(|value| value == "1"))
}

/// The context in which a kernel has failed; 0 for none. Every call fails there.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Notes an error that a call answered: some stay with their context.
pub(crate) fn note(error: CUresult) {
    const STAY: [CUresult; 14] = [
        CUDA_ERROR_ECC_UNCORRECTABLE,
        CUDA_ERROR_NVLINK_UNCORRECTABLE,
        CUDA_ERROR_CONTAINED,
        CUDA_ERROR_ILLEGAL_ADDRESS,
        CUDA_ERROR_LAUNCH_TIMEOUT,
        CUDA_ERROR_ASSERT,
        CUDA_ERROR_HARDWARE_STACK_ERROR,
        CUDA_ERROR_ILLEGAL_INSTRUCTION,
        CUDA_ERROR_MISALIGNED_ADDRESS,
        CUDA_ERROR_INVALID_ADDRESS_SPACE,
        CUDA_ERROR_INVALID_PC,
        CUDA_ERROR_LAUNCH_FAILED,
        CUDA_ERROR_TENSOR_MEMORY_LEAK,
        CUDA_ERROR_EXTERNAL_DEVICE,
    ];
    if STAY.contains(&error) {
        FAILED.store(current::number(), Ordering::Relaxed);
    }
}

/// A context was reset or has ended, and its failure with it.
pub(crate) fn forget(context: CUcontext) {
    let _ = FAILED.compare_exchange(context.0, 0, Ordering::Relaxed, Ordering::Relaxed);
}

/// Whether the current context has failed: then the host says so at once.
#[inline]
fn has_failed() -> bool {
    let failed = FAILED.load(Ordering::Relaxed);
    failed != 0 && failed == current::number()
}

/// Sends a command whose failure may surface later.
#[inline]
pub(crate) fn post_or_call(opcode: u16, encode: impl FnOnce(&mut Encoder) -> Answer) -> Answer {
    with_ring(|ring| {
        if synchronous() || has_failed() || super::capture::is_any() {
            ring.call(opcode, encode, |_| ())
        } else {
            ring.post(opcode, encode)
        }
    })
}
