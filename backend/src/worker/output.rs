//! What kernels print. A libcuda writes it to its process's standard output,
//! which here is a pipe of bounded size; the guest takes it after a call that
//! waited for kernels, and writes it to its program's.
#![allow(unsafe_code, reason = "C's streams")]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use paravane_protocol::internal;
use paravane_protocol::limits::OUTPUT_BYTES_MAX;
use paravane_protocol::opcode;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// The reading end of standard output.
pub(super) struct Output {
    pipe: OwnedFd,
    /// Whether an image came whose kernels may print.
    may_print: AtomicBool,
}

/// Calls after which CUDA has told what kernels printed before.
fn waits(opcode: u16) -> bool {
    matches!(
        opcode,
        opcode::cuCtxSynchronize
            | opcode::cuStreamSynchronize
            | opcode::cuEventSynchronize
            | opcode::cuModuleUnload
            | opcode::cuLibraryUnload
            | opcode::cuCtxDestroy_v2
            | opcode::cuDevicePrimaryCtxRelease_v2
            | opcode::cuDevicePrimaryCtxReset_v2
            | internal::COPY
            | internal::COPY_2D
            | internal::COPY_REPLY
    )
}

/// Text that does not name the function does not print; what is no text might.
fn may_print(image: &[u8]) -> bool {
    const PRINTS: &[u8] = b"vprintf";
    let is_text = image.first().is_some_and(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
        && !image.starts_with(&[0x50, 0xed, 0x55, 0xba]);
    !is_text || memchr::memmem::find(image, PRINTS).is_some()
}

impl Output {
    /// Standard output becomes a pipe that this process reads itself.
    pub(super) fn begin() -> io::Result<Self> {
        let (pipe, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller pipe loses more of what is too much in any case.
        let _ = fcntl_setpipe_size(&pipe, OUTPUT_BYTES_MAX);
        rustix::stdio::dup2_stdout(&writing)?;
        Ok(Self { pipe, may_print: AtomicBool::new(false) })
    }

    /// An image has arrived.
    pub(super) fn note_image(&self, image: &[u8]) {
        if may_print(image) {
            self.may_print.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the guest has something to take after such a call.
    pub(super) fn waits_after(&self, opcode: u16) -> bool {
        if !self.may_print.load(Ordering::Relaxed) || !waits(opcode) {
            return false;
        }
        // SAFETY: NULL stands for every stream that is open for writing.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        rustix::io::ioctl_fionread(&self.pipe).is_ok_and(|bytes| bytes > 0)
    }

    /// Takes what fits into `into`.
    pub(super) fn take(&self, into: &mut [u8]) -> usize {
        rustix::io::read(&self.pipe, into).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_that_may_print_are_watched() {
        assert!(!may_print(b"\n.version 7.0\n.entry k() { ret; }\0"));
        assert!(may_print(b".extern .func vprintf;\0"));
        assert!(may_print(b"\x7fELF\x02"));
        assert!(may_print(&[0x50, 0xed, 0x55, 0xba, 1, 0]));
    }
}
