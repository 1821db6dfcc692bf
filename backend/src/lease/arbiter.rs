//! The arbiter of one GPU: [`Leases`] with a clock, pages and a thread. It runs
//! in a backend that is alone on its GPU, else in paravaned. Workers kick it by
//! eventfd; it sleeps until then, or until the moment that it has set itself.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use paravane_scheduler::{Nanos, Settings, SettingsError, VmId};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

pub use super::leases::VmFigures;
use super::copies::{Copies, CopyPages, Copying};
use super::hearing::Hearing;
use super::leases::{Leases, Pages};
use super::page::{Grant, VmPage, Wants, now_ns};
use super::residence::{Residence, Rooms};
use super::room::Held;

/// A VM's page and the eventfd by which its workers call.
#[derive(Debug)]
struct Place {
    page: VmPage,
    kick: Arc<OwnedFd>,
}

#[derive(Debug, Default)]
struct Places(BTreeMap<VmId, Place>);

impl Pages for Places {
    fn wants(&mut self, vm: VmId) -> Wants {
        self.0.get(&vm).map(|place| place.page.wants()).unwrap_or_default()
    }

    fn budget_ns(&mut self, vm: VmId) -> i64 {
        self.0.get(&vm).map_or(0, |place| place.page.budget_ns())
    }

    fn grant(&mut self, vm: VmId, grant: Grant, budget_ns: Nanos) {
        if let Some(place) = self.0.get(&vm) {
            place.page.grant(grant, budget_ns);
        }
    }

    fn set_flight(&mut self, vm: VmId, flight_ns: Nanos) {
        if let Some(place) = self.0.get(&vm) {
            place.page.set_flight(flight_ns);
        }
    }

    fn overlap_ns(&mut self, vm: VmId) -> Nanos {
        self.0.get(&vm).map_or(0, |place| place.page.overlap_ns())
    }

    fn set_overlap(&mut self, vm: VmId, overlap_ns: Nanos) {
        if let Some(place) = self.0.get(&vm) {
            place.page.set_overlap(overlap_ns);
        }
    }

    fn set_capped(&mut self, vm: VmId, capped: bool) {
        if let Some(place) = self.0.get(&vm) {
            place.page.set_capped(capped);
        }
    }
}

impl CopyPages for Places {
    fn copying(&mut self, vm: VmId) -> Copying {
        self.0.get(&vm).map(|place| place.page.copying()).unwrap_or_default()
    }

    fn is_low(&mut self, vm: VmId) -> bool {
        self.0.get(&vm).is_some_and(|place| place.page.is_low())
    }

    fn allow(&mut self, vm: VmId, more: i64) {
        if let Some(place) = self.0.get(&vm) {
            place.page.allow_copies(more);
        }
    }
}

impl Rooms for Places {
    fn held(&mut self, vm: VmId) -> Held {
        self.0.get(&vm).map(|place| place.page.held()).unwrap_or_default()
    }

    fn moves(&mut self, vm: VmId) -> bool {
        self.0.get(&vm).is_some_and(|place| place.page.swap_bytes() > 0)
    }

    fn is_busy(&mut self, vm: VmId) -> bool {
        let wants = Pages::wants(self, vm);
        wants.in_flight || wants.waiting > 0
    }

    fn allowed(&mut self, vm: VmId) -> u64 {
        self.0.get(&vm).map_or(0, |place| place.page.allowed())
    }

    fn allow(&mut self, vm: VmId, bytes: u64) {
        if let Some(place) = self.0.get(&vm) {
            place.page.allow(bytes);
        }
    }

    fn set_ceiling(&mut self, vm: VmId, bytes: u64) {
        if let Some(place) = self.0.get(&vm) {
            place.page.set_ceiling(bytes);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    leases: Leases,
    residence: Residence,
    copies: Copies,
    places: Places,
    /// Counts VMs that came and went: the thread's list of eventfds is old.
    changes: u64,
    /// Counts looks.
    looks: u64,
    ends: bool,
}

impl State {
    /// Reads the pages and changes what is to be changed; when to look again.
    fn look(&mut self) -> Option<Nanos> {
        self.looks += 1;
        let (Self { leases, copies, residence, places, .. }, now) = (self, now_ns());
        // Before the leases: who goes out has no work then.
        let room = residence.look(now, places);
        let moments = [room, leases.look(now, places), copies.look(now, places)];
        moments.into_iter().flatten().min()
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    called: OwnedFd,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self) {
        // Only a full counter could refuse, and then the thread knows already.
        let _ = rustix::io::write(&self.called, &1_u64.to_ne_bytes());
    }
}

/// An arbiter. Dropping it ends its thread and leaves all pages as they are.
#[derive(Debug)]
pub struct Arbiter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Arbiter {
    /// An arbiter without VMs, of a device whose memory is no concern of its.
    pub fn start() -> io::Result<Self> {
        Self::of_device(u64::MAX)
    }

    /// An arbiter of a device with so many bytes, which says whose memory is on it.
    pub fn of_device(bytes: u64) -> io::Result<Self> {
        let called = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let state = State { residence: Residence::new(bytes), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), called });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("arbiter".into()).spawn(move || serve(&of_thread))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A VM that may use the GPU from now on. `kick` is the eventfd that its
    /// workers write to; it should not block.
    ///
    /// # Errors
    /// If the guarantees of all VMs together would be more than the GPU.
    pub fn add(
        &self,
        vm: VmId,
        page: VmPage,
        kick: OwnedFd,
        settings: Settings,
    ) -> Result<(), SettingsError> {
        self.change(|state, now| {
            let State { leases, copies, residence, places, changes, .. } = state;
            let before = places.0.insert(vm, Place { page, kick: Arc::new(kick) });
            let set = leases.set(vm, settings, now, places);
            if set.is_err() {
                match before {
                    Some(before) => places.0.insert(vm, before),
                    None => places.0.remove(&vm),
                };
            } else {
                copies.set(vm, settings.weight());
                residence.set(vm, settings.weight(), now, places);
            }
            *changes += 1;
            set
        })
    }

    /// Other settings for a VM.
    ///
    /// # Errors
    /// As [`Arbiter::add`]. A VM that is not there gets none.
    pub fn set(&self, vm: VmId, settings: Settings) -> Result<(), SettingsError> {
        self.change(
            |State { leases, copies, residence, places, .. }, now| {
                if !places.0.contains_key(&vm) {
                    return Ok(());
                }
                leases.set(vm, settings, now, places)?;
                copies.set(vm, settings.weight());
                residence.set(vm, settings.weight(), now, places);
                Ok(())
            },
        )
    }

    /// A VM has gone, or is somebody else's from now on. Its page stays as it is.
    pub fn remove(&self, vm: VmId) {
        self.change(|state, _| {
            state.places.0.remove(&vm);
            let State { leases, places, .. } = state;
            leases.remove(vm, places);
            state.copies.remove(vm);
            state.residence.remove(vm);
            state.changes += 1;
        });
    }

    /// What a VM has used since it was added.
    pub fn figures(&self, vm: VmId) -> Option<VmFigures> {
        let mut state = self.shared.lock();
        let State { leases, places, .. } = &mut *state;
        leases.look(now_ns(), places);
        leases.figures(vm)
    }

    /// What a VM has of the device's memory, as its workers say.
    pub fn held(&self, vm: VmId) -> Option<Held> {
        self.shared.lock().places.0.get(&vm).map(|place| place.page.held())
    }

    /// VMs whose memory was to move and has not for a while: each once.
    pub fn stuck(&self) -> Vec<VmId> {
        self.shared.lock().residence.stuck(now_ns())
    }

    /// The thousandths of the GPU that each VM is entitled to, had all work.
    pub fn shares(&self) -> Vec<(VmId, u32)> {
        self.shared.lock().leases.shares()
    }

    /// The arbiter's thread looks again after each change.
    fn change<R>(&self, change: impl FnOnce(&mut State, Nanos) -> R) -> R {
        let result = change(&mut self.shared.lock(), now_ns());
        self.shared.call();
        result
    }
}

impl Drop for Arbiter {
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.call();
        if let Some(thread) = self.thread.take() {
            // The thread catches nothing and owns nothing that is not dropped.
            let _ = thread.join();
        }
    }
}

/// The eventfds by which VMs call.
type Kicks = Vec<(VmId, Arc<OwnedFd>)>;

fn serve(shared: &Shared) {
    let (mut kicks, mut hearing) = (Kicks::new(), Hearing::default());
    let mut known = None;
    loop {
        let next = {
            let mut state = shared.lock();
            if state.ends {
                return;
            }
            if known != Some(state.changes) {
                known = Some(state.changes);
                kicks = state.places.0.iter().map(|(vm, place)| (*vm, Arc::clone(&place.kick))).collect();
                hearing.retain(|vm| state.places.0.contains_key(&vm));
            }
            state.look()
        };
        while !sleep(shared, &kicks, &mut hearing, next) {}
    }
}

/// Waits for a kick, a change, or the moment `next`; whether that has come. Who
/// has kicked too often is not listened to for a while.
fn sleep(shared: &Shared, kicks: &Kicks, hearing: &mut Hearing, next: Option<Nanos>) -> bool {
    let (now, mut until, mut heard) = (now_ns(), next, Vec::with_capacity(kicks.len()));
    for (vm, kick) in kicks {
        match hearing.deaf_until(*vm, now) {
            Some(deaf) => until = Some(until.map_or(deaf, |until| until.min(deaf))),
            None => heard.push((*vm, kick)),
        }
    }
    let mut fds = vec![PollFd::new(&shared.called, PollFlags::IN)];
    fds.extend(heard.iter().map(|(_, kick)| PollFd::new(&***kick, PollFlags::IN)));
    let limit = until.map(|until| std::time::Duration::from_nanos(until.saturating_sub(now)));
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    // Any error means: look again.
    let is_none = matches!(poll(&mut fds, limit.as_ref()), Ok(0));
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    let now = now_ns();
    let all = std::iter::once((None, shared.called.as_fd()));
    let all = all.chain(heard.iter().map(|(vm, kick)| (Some(*vm), kick.as_fd())));
    for ((vm, fd), _) in all.zip(ready).filter(|(_, ready)| *ready) {
        // An eventfd is 0 again once it is read; one that cannot be read is
        // not waited for in vain, but looked at again.
        let _ = rustix::io::read(fd, &mut [0_u8; 8]);
        vm.into_iter().for_each(|vm| hearing.hears(vm, now));
    }
    !is_none || next.is_some_and(|next| next <= now)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use paravane_scheduler::Priority;

    use super::super::hearing;
    use super::super::page::Count;
    use super::*;

    /// A worker that uses the device for 50 us at a time until it is told to
    /// end; what it has used, in nanoseconds.
    fn worker(page: &VmPage, kick: &OwnedFd, pid: u32, ends: &AtomicBool) -> u64 {
        let slot = page.take_slot(pid).unwrap();
        let mut used = 0;
        while !ends.load(Ordering::Relaxed) {
            let seen = page.epoch_now();
            let may = match page.granted() {
                Grant::None => false,
                Grant::Open => true,
                Grant::Until(end) => now_ns() < end && page.spend(50_000),
            };
            if may {
                slot.flying().store(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_micros(50));
                used += 50_000;
                slot.count(Count::GpuNs).fetch_add(50_000, Ordering::SeqCst);
                continue;
            }
            slot.flying().store(0, Ordering::SeqCst);
            slot.waiting().store(1, Ordering::SeqCst);
            rustix::io::write(kick, &1_u64.to_ne_bytes()).unwrap();
            page.wait(seen, Duration::from_millis(100));
            slot.waiting().store(0, Ordering::SeqCst);
        }
        slot.flying().store(0, Ordering::SeqCst);
        used
    }

    fn vm(arbiter: &Arbiter, number: u32, settings: Settings) -> (VmPage, OwnedFd) {
        let (page, file) = VmPage::create().unwrap();
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let mapped = VmPage::map(&file).unwrap();
        arbiter.add(VmId(number), mapped, kick.try_clone().unwrap(), settings).unwrap();
        (page, kick)
    }

    #[test]
    fn one_vm_alone_is_let_in_at_its_first_kick_and_stays() {
        let arbiter = Arbiter::start().unwrap();
        let (page, kick) = vm(&arbiter, 1, Settings::default());
        let ends = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| worker(&page, &kick, 7, &ends));
            while !page.is_open() {
                std::thread::yield_now();
            }
            ends.store(true, Ordering::Relaxed);
        });
        assert_eq!(page.granted(), Grant::Open);
        assert_eq!(arbiter.shares(), [(VmId(1), 1000)]);
    }

    #[test]
    fn three_vms_take_turns_and_a_dead_one_holds_nobody_up() {
        let arbiter = Arbiter::start().unwrap();
        let settings = Settings::new(100, 0, 1000, Priority::Normal).unwrap();
        let vms = [1, 2, 3].map(|number| vm(&arbiter, number, settings));
        let ends = AtomicBool::new(false);
        // The third has been killed while it held the lease.
        vms[2].0.take_slot(9).unwrap().flying().store(1, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for (pid, (page, kick)) in (1..).zip(&vms[..2]) {
                let ends = &ends;
                scope.spawn(move || worker(page, kick, pid, ends));
            }
            let used = |vm: u32| arbiter.figures(VmId(vm)).unwrap().gpu_time_ns;
            while used(1) < 5_000_000 || used(2) < 5_000_000 {
                std::thread::sleep(Duration::from_millis(1));
            }
            ends.store(true, Ordering::Relaxed);
        });
        assert!(arbiter.figures(VmId(3)).unwrap().in_flight);
        assert!(arbiter.figures(VmId(4)).is_none());
    }

    #[test]
    fn whoever_kicks_without_end_is_heard_so_often_and_the_others_as_ever() {
        let arbiter = Arbiter::start().unwrap();
        let [(other, flood), (page, kick)] = [1, 2].map(|number| vm(&arbiter, number, Settings::default()));
        other.take_slot(6).unwrap().waiting().store(1, Ordering::SeqCst);
        let (ends, since) = (AtomicBool::new(false), now_ns());
        let kicks = std::thread::scope(|scope| {
            let floods = scope.spawn(|| {
                let mut kicks = 0_u64;
                while !ends.load(Ordering::Relaxed) {
                    rustix::io::write(&flood, &1_u64.to_ne_bytes()).unwrap();
                    kicks += 1;
                }
                kicks
            });
            let slot = page.take_slot(7).unwrap();
            for turn in 1_u64..=50 {
                // It comes, is let in in its turn, and has done something.
                let seen = page.epoch_now();
                slot.waiting().store(1, Ordering::SeqCst);
                rustix::io::write(&kick, &1_u64.to_ne_bytes()).unwrap();
                while page.granted() == Grant::None {
                    page.wait(seen, Duration::from_secs(60));
                }
                slot.waiting().store(0, Ordering::SeqCst);
                slot.count(Count::GpuNs).store(turn, Ordering::SeqCst);
                while page.granted() != Grant::None {
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
            ends.store(true, Ordering::Relaxed);
            floods.join().unwrap()
        });
        let (looks, passed) = (arbiter.shared.lock().looks, now_ns() - since);
        // The others' kicks, changes and moments are far fewer.
        let periods = passed / hearing::PERIOD + 2;
        let most = periods * u64::from(hearing::LOOKS) + 2000;
        assert!(looks <= most && kicks > looks, "{looks} looks at {kicks} kicks, {most} in {passed} ns");
    }

    #[test]
    fn guarantees_beyond_the_gpu_are_refused_and_the_vm_is_not_added() {
        let arbiter = Arbiter::start().unwrap();
        let half = Settings::new(100, 600, 1000, Priority::Normal).unwrap();
        let _first = vm(&arbiter, 1, half);
        let (page, _file) = VmPage::create().unwrap();
        let kick = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        assert_eq!(arbiter.add(VmId(2), page, kick, half), Err(SettingsError::MinimumsTogether(1200)));
        assert!(arbiter.figures(VmId(2)).is_none());
        arbiter.remove(VmId(1));
        assert!(arbiter.set(VmId(1), half).is_ok() && arbiter.shares().is_empty());
    }
}
