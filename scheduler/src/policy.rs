//! The scheduler of one GPU. Its owner calls `ready` when a VM has work, `next` when the GPU can take work, lets that VM
//! issue as much as its turn is long, calls `charge` with what was really used, as soon as that is measured, and `over`
//! when the turn ends. Use beyond a turn is carried as debt: it moves the VM's next share away by as much.

use std::collections::{BTreeSet, HashMap};

use crate::account::{Account, State, Urgency, Virtual, virtual_time};
use crate::settings::{Minimums, Settings, SettingsError};
use crate::{Nanos, VmId};

/// A VM that is let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    pub vm: VmId,
    /// GPU time that it may issue, in nanoseconds.
    pub length: Nanos,
}

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Let a VM in.
    Run(Turn),
    /// All that have work are at their caps: ask again at this time.
    Wait(Nanos),
    /// Nobody has work.
    Nothing,
}

/// How a VM comes to have work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coming {
    /// It had none, or was at its cap: the share of that time is not owed to it.
    Fresh,
    /// It has had work all the time.
    Back,
}

/// Accounts and queues of one GPU. Every call costs the logarithm of the number of VMs.
#[derive(Debug, Default)]
pub struct Scheduler {
    accounts: HashMap<VmId, Account>,
    minimums: Minimums,
    /// What a VM of weight 1 would have used, had it always had work.
    virtual_now: Virtual,
    /// The weights of all that have work and are not at their caps.
    weight: u64,
    /// VMs with work, each in one: by when their share is due; by class and deadline; by the end of throttling.
    waiting: BTreeSet<(Virtual, VmId)>,
    eligible: BTreeSet<(Urgency, VmId)>,
    throttled: BTreeSet<(Nanos, VmId)>,
    /// Those of the first two with a guarantee, by how long it has been had.
    guaranteed: BTreeSet<(Nanos, VmId)>,
    running: BTreeSet<VmId>,
}

impl Scheduler {
    pub fn new() -> Self {
        Self::default()
    }

    /// A VM that may use the GPU; one that is known gets other settings.
    ///
    /// # Errors
    /// If the guarantees of all VMs together would be more than the GPU; then nothing changes.
    pub fn set(&mut self, vm: VmId, settings: Settings, now: Nanos) -> Result<(), SettingsError> {
        let old = self.accounts.get(&vm).map_or(0, |account| account.settings.minimum());
        self.minimums.replace(old, settings.minimum())?;
        let virtual_now = self.virtual_now;
        self.accounts.entry(vm).or_insert_with(|| Account::new(settings, virtual_now, now));
        self.change(vm, |account| account.set(settings, now));
        self.enforce_cap(vm, now);
        Ok(())
    }

    /// A VM has gone, with its guarantee and its debt.
    pub fn remove(&mut self, vm: VmId) {
        self.leave(vm);
        if let Some(account) = self.accounts.remove(&vm) {
            // A smaller sum is always possible.
            self.minimums.replace(account.settings.minimum(), 0).ok();
        }
    }

    /// A VM has work. Answers whether it should be let in before the turn that is running is over. Nothing for a VM that
    /// has work already, or that is not known.
    pub fn ready(&mut self, vm: VmId, now: Nanos) -> bool {
        if self.accounts.get(&vm).is_none_or(|account| account.state != State::Idle) {
            return false;
        }
        self.enter(vm, Coming::Fresh, now);
        self.goes_before_the_running(vm, now)
    }

    /// A VM has no work any more, whether let in or not.
    pub fn idle(&mut self, vm: VmId) {
        self.leave(vm);
    }

    /// Whom to let in.
    pub fn next(&mut self, now: Nanos) -> Decision {
        self.release(now);
        let Some(vm) = self.behind(now).or_else(|| self.due()) else {
            return self.throttled.first().map_or(Decision::Nothing, |(until, _)| Decision::Wait(*until));
        };
        self.unlist(vm);
        let Some(account) = self.accounts.get_mut(&vm) else { return Decision::Nothing };
        account.state = State::Running;
        self.running.insert(vm);
        Decision::Run(Turn { vm, length: account.turn() })
    }

    /// A VM has used the GPU for `used`; at any time, more than once a turn or after it.
    pub fn charge(&mut self, vm: VmId, used: Nanos, now: Nanos) {
        if !self.accounts.contains_key(&vm) {
            return;
        }
        self.virtual_now += if self.weight == 0 { 0 } else { virtual_time(used, self.weight) };
        self.change(vm, |account| account.charge(used, now));
        self.enforce_cap(vm, now);
    }

    /// A turn has ended and its VM still has work.
    pub fn over(&mut self, vm: VmId, now: Nanos) {
        if self.running.contains(&vm) {
            self.leave(vm);
            self.enter(vm, Coming::Back, now);
        }
    }

    /// Whether a VM that is let in would be let in again, if its turn ended now and it had work.
    pub fn is_due(&mut self, vm: VmId, now: Nanos) -> bool {
        if !self.running.contains(&vm) {
            return false;
        }
        self.over(vm, now);
        if let Decision::Run(turn) = self.next(now) {
            if turn.vm == vm {
                return true;
            }
            self.over(turn.vm, now);
        }
        // It is let in still.
        self.unlist(vm);
        if let Some(account) = self.accounts.get_mut(&vm) {
            if matches!(account.state, State::Throttled(_)) {
                self.weight += account.weight();
            }
            account.state = State::Running;
            self.running.insert(vm);
        }
        false
    }

    /// VMs that have work, throttled ones included.
    pub fn busy(&self) -> usize {
        self.waiting.len() + self.eligible.len() + self.throttled.len() + self.running.len()
    }

    /// How many have work, are not let in and not at their caps; and when the next of those that are at their caps may go on.
    pub fn wanting(&mut self, now: Nanos) -> (usize, Option<Nanos>) {
        self.release(now);
        (self.waiting.len() + self.eligible.len(), self.throttled.first().map(|(until, _)| *until))
    }

    /// Whether a VM has work and is at its cap.
    pub fn is_throttled(&self, vm: VmId) -> bool {
        self.accounts.get(&vm).is_some_and(|account| matches!(account.state, State::Throttled(_)))
    }

    /// Puts a VM that has work where it belongs.
    fn enter(&mut self, vm: VmId, coming: Coming, now: Nanos) {
        let virtual_now = self.virtual_now;
        let Some(account) = self.accounts.get_mut(&vm) else { return };
        if let Some(until) = account.free_at(now) {
            account.state = State::Throttled(until);
            self.throttled.insert((until, vm));
            return;
        }
        if coming == Coming::Fresh {
            account.wake(virtual_now, now);
        }
        account.state = if account.start <= virtual_now { State::Eligible } else { State::Waiting };
        self.weight += account.weight();
        self.list(vm);
    }

    /// Takes a VM out of everything.
    fn leave(&mut self, vm: VmId) {
        self.unlist(vm);
        self.running.remove(&vm);
        let Some(account) = self.accounts.get_mut(&vm) else { return };
        if !matches!(account.state, State::Idle | State::Throttled(_)) {
            self.weight -= account.weight();
        }
        account.state = State::Idle;
    }

    /// Puts a VM into the sets of its state.
    fn list(&mut self, vm: VmId) {
        let Some(account) = self.accounts.get(&vm) else { return };
        match account.state {
            State::Waiting => self.waiting.insert((account.start, vm)),
            State::Eligible => self.eligible.insert((account.urgency(), vm)),
            State::Throttled(until) => self.throttled.insert((until, vm)),
            State::Idle | State::Running => false,
        };
        if matches!(account.state, State::Waiting | State::Eligible) && account.settings.minimum() > 0 {
            self.guaranteed.insert((account.reserved, vm));
        }
    }

    fn unlist(&mut self, vm: VmId) {
        let Some(account) = self.accounts.get(&vm) else { return };
        match account.state {
            State::Waiting => self.waiting.remove(&(account.start, vm)),
            State::Eligible => self.eligible.remove(&(account.urgency(), vm)),
            State::Throttled(until) => self.throttled.remove(&(until, vm)),
            State::Idle | State::Running => false,
        };
        self.guaranteed.remove(&(account.reserved, vm));
    }

    /// Changes an account, whose places follow.
    fn change(&mut self, vm: VmId, change: impl FnOnce(&mut Account)) {
        self.unlist(vm);
        if let Some(account) = self.accounts.get_mut(&vm) {
            let counts = !matches!(account.state, State::Idle | State::Throttled(_));
            let before = account.weight();
            change(account);
            if counts {
                self.weight = self.weight - before + account.weight();
            }
            if account.state == State::Eligible && account.start > self.virtual_now {
                account.state = State::Waiting;
            }
        }
        self.list(vm);
    }

    /// A VM that has come to its cap without being let in, or whose cap has changed.
    fn enforce_cap(&mut self, vm: VmId, now: Nanos) {
        let state = self.accounts.get(&vm).map_or(State::Idle, |account| account.state);
        let coming = match state {
            State::Idle | State::Running => return,
            State::Throttled(_) => Coming::Fresh,
            State::Waiting | State::Eligible => Coming::Back,
        };
        self.leave(vm);
        self.enter(vm, coming, now);
    }

    /// Those whose throttling is over have work like the others.
    fn release(&mut self, now: Nanos) {
        while let Some(&(until, vm)) = self.throttled.first() {
            if until > now {
                break;
            }
            self.leave(vm);
            self.enter(vm, Coming::Fresh, now);
        }
    }

    /// The one furthest behind its guarantee.
    fn behind(&self, now: Nanos) -> Option<VmId> {
        self.guaranteed.first().filter(|(reserved, _)| *reserved <= now).map(|(_, vm)| *vm)
    }

    /// The most urgent of those whose share is due. If it is nobody's yet, somebody's is now: the GPU is not left idle.
    fn due(&mut self) -> Option<VmId> {
        if self.eligible.is_empty() {
            let (start, _) = self.waiting.first()?;
            self.virtual_now = self.virtual_now.max(*start);
        }
        while let Some(&(start, vm)) = self.waiting.first() {
            if start > self.virtual_now {
                break;
            }
            self.unlist(vm);
            if let Some(account) = self.accounts.get_mut(&vm) {
                account.state = State::Eligible;
            }
            self.list(vm);
        }
        self.eligible.first().map(|(_, vm)| *vm)
    }

    /// Whether a VM that has just come is ahead of all that are let in.
    fn goes_before_the_running(&self, vm: VmId, now: Nanos) -> bool {
        let Some(account) = self.accounts.get(&vm) else { return false };
        let may = match account.state {
            State::Eligible => true,
            State::Waiting => account.is_behind(now),
            _ => false,
        };
        let mut running = self.running.iter().filter_map(|vm| self.accounts.get(vm)).peekable();
        may && running.peek().is_some()
            && running.all(|other| {
                let first = account.is_behind(now) && !other.is_behind(now);
                first || (account.urgency() < other.urgency() && !other.is_behind(now))
            })
    }
}
