//! Machines that are compared take turns: each runs for a moment, with its device, while the others stand still. So what
//! else the host does falls on all of them alike, and none is slowed down by another: neither by its guest nor by what that
//! has queued.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Many frames long, and short beside what is measured.
const TURN: Duration = Duration::from_millis(250);

struct Machine {
    /// A descriptor of its process, which names nobody else when it has ended.
    qemu: OwnedFd,
    /// The process group of its device.
    device: libc::pid_t,
}

/// The machines.
#[derive(Default)]
pub(crate) struct Turns {
    machines: Mutex<Vec<Machine>>,
    over: AtomicBool,
}

/// A machine's part in them.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) turns: &'a Turns,
    /// The device's process. It leads a group, of all that it has started, and nobody waits for it before the turns are over.
    pub(crate) device: u32,
}

impl Part<'_> {
    /// QEMU takes part until it ends. Nobody must have waited for it yet.
    pub(crate) fn enter(&self, pid: u32) -> io::Result<()> {
        // SAFETY: pidfd_open takes no pointer.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call has just made it, and nobody else has it.
        let qemu = unsafe { OwnedFd::from_raw_fd(fd) };
        let device = libc::pid_t::try_from(self.device).map_err(io::Error::other)?;
        // SAFETY: getpgid takes no pointer.
        if device <= 1 || unsafe { libc::getpgid(device) } != device {
            return Err(io::Error::other(format!("process {device}, the device, leads no group")));
        }
        self.turns.machines().push(Machine { qemu, device });
        Ok(())
    }
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
    fn machines(&self) -> MutexGuard<'_, Vec<Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self) {
        let mut turn = 0;
        while !self.over.load(Ordering::Relaxed) {
            let machines = self.machines();
            turn += 1;
            // The turns of one that has ended pass unused: who is last must not be faster for it.
            let whose = turn % machines.len().max(1);
            for machine in machines.iter().enumerate().filter_map(|(number, machine)| (number != whose).then_some(machine)) {
                machine.signal(libc::SIGSTOP);
            }
            if let Some(machine) = machines.get(whose) {
                machine.signal(libc::SIGCONT);
            }
            drop(machines);
            std::thread::sleep(TURN);
        }
        self.machines().iter().for_each(|machine| machine.signal(libc::SIGCONT));
    }
}

impl Machine {
    /// Sends a signal to its processes that are there.
    fn signal(&self, number: libc::c_int) {
        let nothing = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and without a siginfo the call reads no memory.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.qemu.as_raw_fd(), number, nothing, 0) };
        // SAFETY: kill takes no pointer; the group is its leader's, for whom nobody has waited.
        unsafe { libc::kill(-self.device, number) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use super::*;

    fn state(pid: u32) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap()[..1].to_owned()
    }

    /// A device and what it has started.
    fn device() -> (Child, u32) {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 100 & echo $!; exec cat"]).process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (child, line.trim().parse().unwrap())
    }

    fn qemu() -> Child {
        Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn one_runs_with_its_device_while_the_other_stands_still() {
        let mut machines = [(qemu(), device()), (qemu(), device())];
        let ids = machines.each_ref().map(|(qemu, (device, started))| [qemu.id(), device.id(), *started]);
        during(|turns| {
            ids.iter().for_each(|[qemu, device, _]| Part { turns, device: *device }.enter(*qemu).unwrap());
            let mut seen = std::collections::BTreeSet::new();
            let since = Instant::now();
            while seen.len() < 2 && since.elapsed() < Duration::from_secs(20) {
                let states = ids.map(|ids| ids.map(state).concat());
                seen.extend(["TTTSSS", "SSSTTT"].into_iter().filter(|both| states.concat() == *both));
            }
            assert_eq!(seen.len(), 2);
            // Stopped ones end when they are let go on.
            for (qemu, _) in &mut machines {
                drop(qemu.stdin.take());
                assert!(qemu.wait().unwrap().success());
            }
        });
        for (_, (device, _)) in &mut machines {
            drop(device.stdin.take());
            assert!(device.wait().unwrap().success(), "nobody stands still when it is over");
        }
        ids.iter().for_each(|[.., started]| {
            // SAFETY: kill takes no pointer; the process is one that this test has started.
            unsafe { libc::kill(i32::try_from(*started).unwrap(), libc::SIGKILL) };
        });
    }

    #[test]
    fn a_device_without_a_group_of_its_own_is_refused() {
        let (mut qemu, mut device) = (qemu(), qemu());
        let turns = Turns::default();
        let refused = Part { turns: &turns, device: device.id() }.enter(qemu.id());
        assert!(refused.unwrap_err().to_string().contains("leads no group"));
        for child in [&mut qemu, &mut device] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
