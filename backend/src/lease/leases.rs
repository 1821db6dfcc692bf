//! Who holds the lease of a GPU: a function of the time and of what the VMs'
//! pages show. [`super::arbiter`] calls [`Leases::look`] whenever a worker has
//! kicked it or the moment has come that the last look named.
//!
//! A VM that nobody waits behind, and that has no cap, holds an open lease: its
//! workers issue without asking. Else leases have an end; whoever is let in
//! next waits until the last one's work has drained, or for [`DRAIN_MAX`].

use std::collections::BTreeMap;

use paravane_scheduler::{Decision, MS, Nanos, SECOND, Scheduler, Settings, SettingsError, VmId};

use super::claim::Claim;
pub use super::claim::VmFigures;
use super::entitled::entitled;
use super::page::{Grant, Wants};
pub use super::pages::Pages;
use super::pauses::{ANTICIPATION, Pauses};

/// The lease is given on, or renewed, so long before its time is used: the work
/// that is ahead then keeps the device busy meanwhile.
const EARLY: Nanos = MS / 10;
/// So long before its predicted end a VM's work is not waited for any more: the
/// next one's is issued meanwhile.
const HAND_OVER: Nanos = MS / 10;
/// How long the next VM waits for work of which nobody knows how long it is.
const DRAIN_UNKNOWN: Nanos = 5 * MS;
/// How long it waits at most; after that both run. A VM of a more urgent class
/// waits for nobody.
const DRAIN_MAX: Nanos = 60 * MS;
/// Work of a VM that may be in flight; and where a VM of a more urgent class may
/// come at any time.
const FLIGHT: Nanos = 4 * MS;
const FLIGHT_SHORT: Nanos = MS;
/// Time that the change of leases itself takes, which nobody is charged for.
const CHANGE: Nanos = MS / 5;
/// Work of which nothing is told for so long may only wait: it takes no time off
/// other VMs.
const SILENT: Nanos = SECOND;
/// What a lease of a VM alone may last for each nanosecond of its budget.
const ALONE: u64 = 4;
/// A lease that is kept open is looked at so often while something runs.
const HEARTBEAT: Nanos = SECOND / 4;

#[derive(Clone, Copy, Debug)]
struct Lease {
    from: Nanos,
    /// GPU time that may be issued; the contended lease's length too.
    length: Nanos,
    grant: Grant,
    /// What has been measured since `from`, what was ahead then, and how long
    /// others waited meanwhile.
    measured: Nanos,
    ahead: Nanos,
    contended: Nanos,
    /// How long the device had work of which nothing was told.
    silent: Nanos,
    linger: Option<Linger>,
}

/// The holder has no work.
#[derive(Clone, Copy, Debug)]
struct Linger {
    /// It is waited for until then,
    until: Nanos,
    /// also when its time is used: the next turn is its own too.
    due: bool,
}

impl Lease {
    /// When it is over, where so many others want it.
    fn end(&self, wanting: usize) -> Nanos {
        match self.grant {
            Grant::Until(end) if wanting == 0 => end,
            _ => self.from.saturating_add(self.length - EARLY.min(self.length / 2)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing wanted and nothing granted.
    Idle,
    /// Threads wait at the gate.
    Waiting,
    Holding(Lease),
    /// The lease is over; its work is not, and keeps others out until then at
    /// most. Unless it is queued, the scheduler takes it to have nothing to issue.
    Draining {
        clear_at: Nanos,
        queued: bool,
    },
}

#[derive(Debug)]
struct Vm {
    settings: Settings,
    phase: Phase,
    wants: Wants,
    /// Whether the device had work of its at the last look, and since when
    /// nothing was told of it.
    flew: bool,
    told: Nanos,
    /// Some of what is in flight may not be in `wants.ahead_ns` yet: it was
    /// issued under an open lease.
    blind: bool,
    claim: Claim,
    pauses: Pauses,
    capped: bool,
    flight: Nanos,
    overlap: Nanos,
}

/// The leases of one GPU.
#[derive(Debug, Default)]
pub struct Leases {
    scheduler: Scheduler,
    vms: BTreeMap<VmId, Vm>,
    looked: Nanos,
    /// Whether anybody waited for the holder at the last look.
    contended: bool,
}

impl Leases {
    /// No VM yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A VM that may use the GPU; one that is known gets other settings.
    ///
    /// # Errors
    /// If the guarantees of all VMs together would be more than the GPU.
    pub fn set(
        &mut self,
        vm: VmId,
        settings: Settings,
        now: Nanos,
        pages: &mut impl Pages,
    ) -> Result<(), SettingsError> {
        self.scheduler.set(vm, settings, now)?;
        if let Some(known) = self.vms.get_mut(&vm) {
            known.settings = settings;
            if let Phase::Holding(lease) = &mut known.phase
                && settings.cap() < WHOLE
                && lease.grant == Grant::Open
            {
                lease.grant = Grant::Until(now);
            }
            self.set_flights(pages);
            return Ok(());
        }
        if self.vms.is_empty() {
            // Nobody has shared what has passed until now.
            self.looked = now;
        }
        pages.grant(vm, Grant::None, 0);
        let new = Vm {
            settings,
            phase: Phase::Idle,
            wants: pages.wants(vm),
            flew: false,
            told: now,
            blind: false,
            claim: Claim::new(now),
            pauses: Pauses::default(),
            capped: false,
            flight: 0,
            // Another arbiter may have told: workers take off what is beyond that.
            // It is never more than the clock; who writes more there only keeps
            // what comes next from being taken off its own time.
            overlap: pages.overlap_ns(vm).min(now),
        };
        self.vms.insert(vm, new);
        self.set_flights(pages);
        Ok(())
    }

    /// A VM has gone. Its page is left as it is.
    pub fn remove(&mut self, vm: VmId, pages: &mut impl Pages) {
        self.vms.remove(&vm);
        self.scheduler.remove(vm);
        self.set_flights(pages);
    }

    /// A VM that may come before others finds a short queue.
    fn set_flights(&mut self, pages: &mut impl Pages) {
        let first = self.vms.values().map(|vm| vm.settings.priority()).min();
        for (id, vm) in &mut self.vms {
            let flight = if Some(vm.settings.priority()) == first { FLIGHT } else { FLIGHT_SHORT };
            if flight != vm.flight {
                vm.flight = flight;
                pages.set_flight(*id, flight);
            }
        }
    }

    /// What a VM has used up to the last look.
    pub fn figures(&self, vm: VmId) -> Option<VmFigures> {
        let vm = self.vms.get(&vm)?;
        Some(VmFigures {
            gpu_time_ns: vm.claim.gpu_ns,
            waited_ns: vm.wants.waited_ns,
            throttled_ns: vm.wants.throttled_ns,
            overrun_ns: vm.wants.overrun_ns,
            copied_bytes: vm.wants.copied_bytes,
            share: vm.claim.share,
            waiting: vm.wants.waiting,
            in_flight: vm.wants.in_flight,
        })
    }

    /// The thousandths that each VM is entitled to, had all work.
    pub fn shares(&self) -> Vec<(VmId, u32)> {
        let settings: Vec<(VmId, Settings)> = self.vms.iter().map(|(id, vm)| (*id, vm.settings)).collect();
        entitled(&settings)
    }

    /// Reads the pages, ends and gives leases. Returns when to look again even
    /// if nobody kicks.
    pub fn look(&mut self, now: Nanos, pages: &mut impl Pages) -> Option<Nanos> {
        self.read(now, pages);
        let urgent = self.arrive(now);
        self.end_leases(now, urgent, pages);
        self.admit(now, pages);
        self.tell_capped(pages);
        self.looked = now;
        self.contended = self.scheduler.wanting(now).0 > 0;
        self.next_moment(now)
    }

    /// What has been used since the last look is charged. Nobody can have used
    /// more than the time that has passed, and what several used at once is
    /// split between them.
    fn read(&mut self, now: Nanos, pages: &mut impl Pages) {
        let passed = now.saturating_sub(self.looked);
        let mut used = Vec::with_capacity(self.vms.len());
        for (id, vm) in &mut self.vms {
            let wants = pages.wants(*id);
            let delta = wants.gpu_ns.wrapping_sub(vm.wants.gpu_ns);
            // A figure that runs backwards is worth nothing.
            let delta = if delta > u64::MAX / 2 { 0 } else { delta };
            let flew = vm.flew || wants.in_flight || delta > 0;
            if let Phase::Holding(lease) = &mut vm.phase
                && vm.flew
                && wants.in_flight
                && delta == 0
            {
                lease.silent += passed.min(now.saturating_sub(lease.from));
            }
            if delta > 0 || !vm.flew {
                vm.told = now;
            }
            if !vm.flew && wants.in_flight {
                vm.claim.begins(now);
            }
            vm.flew = wants.in_flight;
            vm.wants = wants;
            let open = matches!(vm.phase, Phase::Holding(Lease { grant: Grant::Open, .. }));
            vm.pauses.look(&vm.wants, open, now);
            if flew {
                used.push((*id, delta));
            }
        }
        self.note_overlap(now, &used, pages);
        let each = passed / u64::try_from(used.len()).unwrap_or(1).max(1);
        for (id, delta) in used {
            let Some(vm) = self.vms.get_mut(&id) else { continue };
            let (used, charge) = vm.claim.look(delta, each, vm.flew, vm.wants.ahead_ns, now);
            if let Phase::Holding(lease) = &mut vm.phase {
                lease.measured += used;
            }
            self.scheduler.charge(id, charge, now);
        }
        self.vms.values_mut().for_each(|vm| vm.claim.take_sample(now));
    }

    /// What VMs had of each other's time. Whose work only waits, so that nothing
    /// is told of it, takes nobody's.
    fn note_overlap(&mut self, now: Nanos, used: &[(VmId, Nanos)], pages: &mut impl Pages) {
        let passed = now.saturating_sub(self.looked);
        let told = |id: &VmId| self.vms.get(id).is_some_and(|vm| now.saturating_sub(vm.told) < SILENT);
        let at_work: Vec<VmId> = used.iter().map(|(id, _)| *id).filter(told).collect();
        let others = passed - passed / u64::try_from(at_work.len()).unwrap_or(1).max(1);
        for id in at_work.into_iter().filter(|_| others > 0) {
            let Some(vm) = self.vms.get_mut(&id) else { continue };
            vm.overlap = vm.overlap.saturating_add(others);
            pages.set_overlap(id, vm.overlap);
        }
    }

    /// VMs come to have work, or have drained. Whether one that has come goes
    /// before who holds the lease.
    fn arrive(&mut self, now: Nanos) -> bool {
        let mut urgent = false;
        for (id, vm) in &mut self.vms {
            match vm.phase {
                Phase::Idle if vm.wants.waiting > 0 => {
                    vm.phase = Phase::Waiting;
                    urgent |= self.scheduler.ready(*id, now);
                }
                Phase::Waiting if vm.wants.waiting == 0 => {
                    vm.phase = Phase::Idle;
                    self.scheduler.idle(*id);
                }
                Phase::Draining { clear_at, queued } => {
                    let waits = vm.wants.waiting > 0;
                    if waits && !queued {
                        urgent |= self.scheduler.ready(*id, now);
                    }
                    vm.phase = match (vm.wants.in_flight, waits) {
                        (true, _) => Phase::Draining { clear_at, queued: queued || waits },
                        (false, true) => Phase::Waiting,
                        (false, false) => Phase::Idle,
                    };
                    if matches!(vm.phase, Phase::Idle) {
                        self.scheduler.idle(*id);
                    }
                }
                _ => {}
            }
        }
        urgent
    }

    /// Ends the holder's lease, or lets it know that it has an end now.
    fn end_leases(&mut self, now: Nanos, urgent: bool, pages: &mut impl Pages) {
        let passed = now.saturating_sub(self.looked);
        let (wanting, _) = self.scheduler.wanting(now);
        let holder = self.vms.iter_mut().find_map(|(id, vm)| match vm.phase {
            Phase::Holding(lease) => Some((*id, lease, vm)),
            _ => None,
        });
        let Some((id, mut lease, vm)) = holder else { return };
        // Who has come since the last look has called for this one.
        if wanting > 0 && self.contended {
            lease.contended += passed.min(now.saturating_sub(lease.from));
        }
        if wanting == 0 && vm.settings.cap() >= WHOLE {
            if lease.grant != Grant::Open {
                lease.grant = Grant::Open;
                vm.blind = true;
                pages.grant(id, Grant::Open, 0);
            }
            vm.phase = Phase::Holding(Lease { linger: None, ..lease });
            return;
        }
        lease.linger = match lease.linger {
            _ if vm.wants.in_flight || vm.wants.waiting > 0 => None,
            None => {
                let worth = vm.pauses.worth();
                let due = wanting > 0 && worth > ANTICIPATION && self.scheduler.is_due(id, now);
                Some(Linger { until: now + if due { worth } else { ANTICIPATION }, due })
            }
            lingers => lingers,
        };
        let quiet = wanting > 0 && lease.linger.is_some_and(|linger| now >= linger.until);
        let spent_out = !vm.wants.in_flight && lease.grant != Grant::Open && pages.budget_ns(id) <= 0;
        let end = lease.end(wanting);
        let due = lease.linger.is_some_and(|linger| linger.due && now < linger.until);
        let is_over = quiet || (spent_out || now >= end) && !due;
        if !(is_over || urgent) {
            if lease.grant == Grant::Open {
                lease.grant = Grant::Until(end);
                pages.grant(id, lease.grant, end - now);
            }
            vm.phase = Phase::Holding(lease);
            return;
        }
        self.end_lease(id, lease, now, pages);
    }

    /// The holder's lease is over. If it is its turn again, it goes on at once.
    fn end_lease(&mut self, id: VmId, lease: Lease, now: Nanos, pages: &mut impl Pages) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        // What is ahead is charged now, so that it counts in who is next; and
        // how long the device stood still while others waited.
        let ahead = Claim::bounded(vm.wants.ahead_ns);
        let unpaid = vm.claim.pay_ahead(ahead);
        let worked = lease.measured.saturating_add(ahead).saturating_sub(lease.ahead);
        let idle = lease.contended.saturating_sub(CHANGE).saturating_sub(worked).saturating_sub(lease.silent);
        self.scheduler.charge(id, unpaid + idle, now);
        vm.phase = if !vm.wants.in_flight && vm.wants.waiting == 0 {
            self.scheduler.idle(id);
            pages.grant(id, Grant::None, 0);
            Phase::Idle
        } else {
            self.scheduler.over(id, now);
            let left = vm.wants.ahead_ns.saturating_sub(now.saturating_sub(vm.told.max(lease.from)));
            let unknown = if vm.blind { DRAIN_UNKNOWN } else { 0 };
            let clear_at = now.saturating_add(left.saturating_sub(HAND_OVER).clamp(unknown, DRAIN_MAX));
            // Who tells nothing is not waited for at the end of each lease.
            let clear_at = clear_at.min(vm.told.saturating_add(DRAIN_MAX));
            Phase::Draining { clear_at, queued: true }
        };
        match self.scheduler.next(now) {
            Decision::Run(turn) if turn.vm == id => self.let_in(id, turn.length, now, pages),
            Decision::Run(turn) => {
                self.scheduler.over(turn.vm, now);
                pages.grant(id, Grant::None, 0);
            }
            _ => pages.grant(id, Grant::None, 0),
        }
    }

    fn let_in(&mut self, id: VmId, length: Nanos, now: Nanos, pages: &mut impl Pages) {
        let (wanting, _) = self.scheduler.wanting(now);
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let open = wanting == 0 && vm.settings.cap() >= WHOLE;
        let lasts = if wanting == 0 { length.saturating_mul(ALONE) } else { length };
        let grant = if open { Grant::Open } else { Grant::Until(now.saturating_add(lasts)) };
        vm.blind = open || (vm.blind && vm.wants.in_flight);
        vm.claim.lease_begins();
        vm.phase = Phase::Holding(Lease {
            from: now,
            length,
            grant,
            measured: 0,
            ahead: Claim::bounded(vm.wants.ahead_ns),
            contended: 0,
            silent: 0,
            linger: None,
        });
        pages.grant(id, grant, length);
    }

    /// Gives the lease to whose turn it is, unless another's work is in the way.
    fn admit(&mut self, now: Nanos, pages: &mut impl Pages) {
        if self.vms.values().any(|vm| matches!(vm.phase, Phase::Holding(_))) {
            return;
        }
        while let Decision::Run(turn) = self.scheduler.next(now) {
            let Some(vm) = self.vms.get_mut(&turn.vm) else { return self.scheduler.remove(turn.vm) };
            match &mut vm.phase {
                Phase::Waiting => {}
                // Its own work is in nobody's way but others'.
                Phase::Draining { .. } if vm.wants.waiting > 0 => {}
                Phase::Draining { queued, .. } => {
                    *queued = false;
                    self.scheduler.idle(turn.vm);
                    continue;
                }
                Phase::Idle | Phase::Holding(_) => {
                    self.scheduler.idle(turn.vm);
                    continue;
                }
            }
            let class = vm.settings.priority();
            let in_the_way = |(id, other): (&VmId, &Vm)| match other.phase {
                Phase::Draining { clear_at, .. } => {
                    *id != turn.vm && now < clear_at && class >= other.settings.priority()
                }
                _ => false,
            };
            if self.vms.iter().any(in_the_way) {
                return self.scheduler.over(turn.vm, now);
            }
            return self.let_in(turn.vm, turn.length, now, pages);
        }
    }

    fn tell_capped(&mut self, pages: &mut impl Pages) {
        for (id, vm) in &mut self.vms {
            let capped = self.scheduler.is_throttled(*id);
            if capped != vm.capped {
                vm.capped = capped;
                pages.set_capped(*id, capped);
            }
        }
    }

    fn next_moment(&mut self, now: Nanos) -> Option<Nanos> {
        let (wanting, throttled) = self.scheduler.wanting(now);
        let of = |vm: &Vm| match vm.phase {
            Phase::Idle | Phase::Waiting => None,
            Phase::Holding(Lease { grant: Grant::Open, .. }) => None,
            Phase::Holding(lease) => {
                let end = lease.end(wanting);
                Some(match lease.linger {
                    Some(Linger { until, due: true }) if now < until => until,
                    Some(Linger { until, .. }) if wanting > 0 => end.min(until),
                    _ => end,
                })
            }
            Phase::Draining { clear_at, .. } => Some(clear_at).filter(|clear_at| now < *clear_at),
        };
        let moment = self.vms.values().filter_map(of).chain(throttled).min();
        let moves = self.vms.values().any(|vm| vm.wants.in_flight || vm.claim.moves());
        let beat = moves.then_some(now + HEARTBEAT);
        moment.into_iter().chain(beat).min().map(|at| at.max(now + 1))
    }
}

/// Thousandths of a GPU's time.
const WHOLE: u32 = 1000;
