//! What kernels print: it goes to the program's standard output through C's
//! stream, so that it stays in order with what the program itself prints.
#![allow(unsafe_code, reason = "C's streams")]

unsafe extern "C" {
    static stdout: *mut libc::FILE;
}

pub(crate) fn print(bytes: &[u8]) {
    // SAFETY: C's own stream; it is set before any library is loaded.
    let stream = unsafe { stdout };
    // SAFETY: so many bytes are readable. What cannot be written is lost, as
    // with any output that nobody takes.
    unsafe { libc::fwrite(bytes.as_ptr().cast(), 1, bytes.len(), stream) };
}
