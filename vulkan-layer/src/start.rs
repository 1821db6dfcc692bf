//! The library's beginning in a process, and what it inherits. Preloaded into a
//! render server it shuts that in before the server's main(): no byte of a guest's has
//! been read. The shells and loaders that start the server have the library too; they
//! are left alone.
#![allow(unsafe_code, reason = "constructors, and calls that no crate wraps")]

use std::ffi::{CStr, c_char, c_int};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use paravane_protocol::vulkan::ENV_SOCKET;
use rustix::process::{Signal, set_parent_process_death_signal};

/// The program that is shut in.
const SERVER: &[u8] = b"virgl_render_server";

/// What glibc hands to constructors.
type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

#[used]
#[unsafe(link_section = ".init_array")]
static START: Constructor = start;

extern "C" fn start(count: c_int, arguments: *const *const c_char, _: *const *const c_char) {
    if count < 1 || arguments.is_null() {
        return;
    }
    // SAFETY: main()'s arguments, of which there is one at least.
    let first = unsafe { *arguments };
    if first.is_null() {
        return;
    }
    // SAFETY: a string of main()'s.
    let program = unsafe { CStr::from_ptr(first) };
    if is_server(program) && let Err(error) = shut_in() {
        let _ = writeln!(io::stderr(), "paravane-vulkan-layer: the render server cannot be shut in: {error}");
        // SAFETY: ends the process without its handlers.
        unsafe { libc::_exit(1) }
    }
}

fn is_server(program: &CStr) -> bool {
    program.to_bytes().rsplit(|byte| *byte == b'/').next() == Some(SERVER)
}

fn shut_in() -> io::Result<()> {
    die_with_parent()?;
    // SAFETY: the function lives as long as the library, which nobody unloads: it is preloaded.
    let refused = unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    if refused != 0 {
        return Err(io::Error::from_raw_os_error(refused));
    }
    paravane_sandbox::enter()
}

/// The server's processes end with it, as it ends with the renderer.
unsafe extern "C" fn forked() {
    // Else the process ends when its socket does.
    let _ = die_with_parent();
}

fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// The socket to the renderer.
pub(crate) fn inherited() -> io::Result<BorrowedFd<'static>> {
    let number = number().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{ENV_SOCKET} names no socket")))?;
    // SAFETY: by its environment the process has inherited it, and nothing closes it. If it has
    // not, calls on it fail.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

#[cfg(test)]
use crate::tests::inherited as number;

#[cfg(not(test))]
fn number() -> Option<std::os::fd::RawFd> {
    std::env::var(ENV_SOCKET).ok()?.parse().ok().filter(|number| *number >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_is_shut_in() {
        for (program, is_it) in
            [(c"virgl_render_server", true), (c"/usr/libexec/virgl_render_server", true), (c"/bin/sh", false), (c"", false)]
        {
            assert_eq!(is_server(program), is_it, "{program:?}");
        }
        assert!(!is_server(c"/x/virgl_render_server/sh"));
    }
}
