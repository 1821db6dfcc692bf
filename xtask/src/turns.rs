//! Machines that are compared take turns: each runs for a moment while the others stand still. So what else the host does
//! falls on all of them alike, and none is slowed down by another.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Many frames long, and short beside what is measured.
const TURN: Duration = Duration::from_millis(250);

/// The machines, by descriptors of their processes, which name nobody else when one has ended.
#[derive(Default)]
pub(crate) struct Turns {
    machines: Mutex<Vec<OwnedFd>>,
    over: AtomicBool,
}

/// Has machines take turns while `work` runs.
pub(crate) fn during<T>(work: impl FnOnce(&Turns) -> T) -> T {
    let turns = Turns::default();
    std::thread::scope(|scope| {
        scope.spawn(|| turns.give());
        let result = work(&turns);
        turns.over.store(true, Ordering::Relaxed);
        result
    })
}

impl Turns {
    fn machines(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process takes part until it ends. Nobody must have waited for it yet.
    pub(crate) fn enter(&self, pid: u32) -> io::Result<()> {
        // SAFETY: pidfd_open takes no pointer.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call has just made it, and nobody else has it.
        self.machines().push(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(())
    }

    fn give(&self) {
        let mut turn = 0;
        while !self.over.load(Ordering::Relaxed) {
            let machines = self.machines();
            turn += 1;
            // The turns of one that has ended pass unused: who is last must not be faster for it.
            let whose = turn % machines.len().max(1);
            for (number, machine) in machines.iter().enumerate() {
                signal(machine, if number == whose { libc::SIGCONT } else { libc::SIGSTOP });
            }
            drop(machines);
            std::thread::sleep(TURN);
        }
    }
}

/// Sends a signal, if the process is there.
fn signal(machine: &OwnedFd, number: libc::c_int) {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and without a siginfo the call reads no memory.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, machine.as_raw_fd(), number, nothing, 0) };
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;

    fn state(pid: u32) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap()[..1].to_owned()
    }

    #[test]
    fn one_runs_while_the_other_stands_still() {
        let start = || Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (mut one, mut other) = (start(), start());
        during(|turns| {
            [one.id(), other.id()].iter().for_each(|pid| turns.enter(*pid).unwrap());
            let mut seen = std::collections::BTreeSet::new();
            let since = Instant::now();
            while seen.len() < 2 && since.elapsed() < Duration::from_secs(20) {
                seen.extend([("T", "S"), ("S", "T")].into_iter().filter(|both| (&state(one.id())[..], &state(other.id())[..]) == *both));
            }
            assert_eq!(seen.len(), 2);
            for child in [&mut one, &mut other] {
                drop(child.stdin.take());
                assert!(child.wait().unwrap().success());
            }
        });
    }
}
