//! What a process that runs what a guest wants gives up before it reads a guest
//! byte (workers, renderers, and render servers by the Vulkan layer): gaining
//! privileges by exec, being traced or dumped, changing the host's files, opening
//! its disks, signals to other processes, TCP, and the system calls that neither
//! NVIDIA's libraries, nor Mesa's, nor cpu-driver need once they are loaded.
#![forbid(unsafe_code)]
#![deny(missing_docs, clippy::indexing_slicing)]

mod files;

use std::collections::BTreeMap;
use std::io;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Refused with EPERM from here on.
const REFUSED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_open_by_handle_at,
];

/// Enters the sandbox: every thread of this process is in it, but for files, where
/// it is this one and those that it starts.
///
/// # Errors
/// The kernel refuses: the process must not go on.
pub fn enter() -> io::Result<()> {
    leave_files()?;
    leave_calls()
}

/// The operator's word that files, signals and TCP are left as they are.
pub const ENV_SANDBOX: &str = "PARAVANE_SANDBOX";
const WITHOUT_FILES: &str = "no-files";

/// The part of it that is about files, signals and TCP, for a process that still has
/// threads or programs to start before it enters the rest. A kernel before 6.12 does
/// less of it, one before 5.13 nothing.
///
/// # Errors
/// The kernel refuses.
pub fn leave_files() -> io::Result<()> {
    if std::env::var_os(ENV_SANDBOX).is_some_and(|word| word == WITHOUT_FILES) {
        return Ok(());
    }
    files::restrict().map_err(io::Error::other)
}

/// The rest.
///
/// # Errors
/// The kernel refuses.
pub fn leave_calls() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    let no_core = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, no_core)?;
    let program = filter().map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let rules: BTreeMap<_, _> = REFUSED.iter().map(|number| (*number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandboxed_thread_cannot_start_programs() {
        // A filter is for one thread and those it starts, so the others go on.
        let tried = std::thread::spawn(|| {
            seccompiler::apply_filter(&filter().unwrap()).unwrap();
            std::process::Command::new("/bin/true").status().map_err(|error| error.raw_os_error())
        });
        assert_eq!(tried.join().unwrap().err(), Some(Some(libc::EPERM)));
    }
}
