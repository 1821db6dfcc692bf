//! Which files a process that runs what a guest wants may open: it reads what
//! programs and libraries lie in, and writes to devices of GPUs and to memory.
//! Other files stay as they are, whoever it runs as: caches that drivers keep,
//! which processes of other VMs read, disks, settings of the kernel.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
    path_beneath_rules,
};

/// What is asked of the kernel; an older one does what it knows.
const NEWEST: ABI = ABI::V6;
/// Of devices: GPUs (NVIDIA's, those of DRM, AMD's), memory for them, shared memory, and what is no device.
const DEVICES: &[&str] =
    &["nvidia", "dri", "kfd", "udmabuf", "dma_heap", "shm", "null", "zero", "full", "random", "urandom"];

/// Restricts this thread and those that it starts.
pub(crate) fn restrict() -> Result<(), RulesetError> {
    let reads = AccessFs::from_read(NEWEST) & !BitFlags::from(AccessFs::Execute);
    let writes = AccessFs::from_write(NEWEST) & !BitFlags::from(AccessFs::IoctlDev);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(reads | writes)?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::Signal)?;
    ruleset
        .create()?
        .add_rules(path_beneath_rules(folders(), reads))?
        .add_rules(path_beneath_rules(devices(), reads | writes))?
        .add_rules(path_beneath_rules([Path::new("/proc/self")], reads | writes))?
        .restrict_self()?;
    Ok(())
}

/// All that lies in the root, but the devices.
fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir("/").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path != Path::new("/dev")).collect()
}

fn devices() -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let known = entries.filter(|entry| is_known(&entry.file_name().to_string_lossy()));
    known.map(|entry| entry.path()).collect()
}

fn is_known(name: &str) -> bool {
    DEVICES.contains(&name) || name.starts_with("nvidia")
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use super::*;

    /// In a thread of its own: nobody comes back from it.
    fn restricted<T: Send + 'static>(then: impl FnOnce() -> T + Send + 'static) -> T {
        let restricted = move || {
            restrict().unwrap();
            then()
        };
        std::thread::spawn(restricted).join().unwrap()
    }

    /// Whether this kernel has Landlock as new as all of this takes.
    fn is_whole() -> bool {
        let status = std::thread::spawn(|| {
            let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
            ruleset.handle_access(AccessFs::from_all(NEWEST)).and_then(|ruleset| ruleset.scope(Scope::Signal)).is_ok()
        });
        status.join().unwrap()
    }

    #[test]
    fn files_are_read_and_none_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "as it was").unwrap();
        let (of_thread, read) = (path.clone(), path.clone());
        let [written, made, removed, renamed] = restricted(move || {
            let kind = |done: std::io::Result<()>| done.err().map(|error| error.kind());
            [
                kind(OpenOptions::new().write(true).open(&of_thread).map(drop)),
                kind(File::create(of_thread.with_extension("new")).map(drop)),
                kind(fs::remove_file(&of_thread)),
                kind(fs::rename(&of_thread, of_thread.with_extension("new"))),
            ]
        });
        assert_eq!(restricted(move || fs::read_to_string(read)).unwrap(), "as it was");
        if is_whole() {
            assert_eq!([written, made, removed, renamed], [Some(ErrorKind::PermissionDenied); 4]);
            assert_eq!(fs::read_to_string(path).unwrap(), "as it was");
        }
    }

    #[test]
    fn devices_of_gpus_open_and_others_do_not() {
        let open = |path: &'static str| move || OpenOptions::new().read(true).write(true).open(path).map(drop);
        restricted(open("/dev/null")).unwrap();
        assert!(["nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-caps", "dri", "shm"].into_iter().all(is_known));
        assert!(!["sda", "vda", "nvme0n1", "mem", "kmsg", "kvm", "loop0"].into_iter().any(is_known));
        let shared = restricted(|| tempfile::tempfile_in("/dev/shm").map(drop));
        shared.unwrap();
        // One that anybody may open elsewhere.
        if is_whole() {
            assert_eq!(restricted(open("/dev/ptmx")).unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn settings_of_the_kernel_and_other_processes_are_out_of_reach() {
        if !is_whole() {
            return;
        }
        let denied = |path: &'static str| move || OpenOptions::new().write(true).open(path).unwrap_err().kind();
        assert_eq!(restricted(denied("/proc/sys/kernel/core_pattern")), ErrorKind::PermissionDenied);
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let id = i32::try_from(child.id()).unwrap();
        let killed = restricted(move || {
            let pid = rustix::process::Pid::from_raw(id).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        });
        assert_eq!(killed, Err(rustix::io::Errno::PERM));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(restricted(|| TcpListener::bind("127.0.0.1:0")).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_threads_own_name_can_be_written() {
        let name = || fs::write(format!("/proc/self/task/{}/comm", rustix::thread::gettid().as_raw_nonzero()), "named");
        restricted(name).unwrap();
    }
}
