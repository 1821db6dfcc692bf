//! What the scheduler knows of one VM, and the arithmetic of its share.

use crate::Nanos;
use crate::bucket::Bucket;
use crate::settings::{Priority, Settings, WHOLE};

/// Virtual time: nanoseconds of use divided by weight, in 1/2^20. 128 bits last for ever.
pub(crate) type Virtual = u128;

/// Who goes first of those whose share is due.
pub(crate) type Urgency = (Priority, Virtual);

const SCALE_BITS: u32 = 20;
/// The shortest turn that a nearly exhausted cap leaves: less would be all changes.
const TURN_LEAST: Nanos = 100_000;

/// A time used, at a weight.
pub(crate) fn virtual_time(used: Nanos, weight: u64) -> Virtual {
    (Virtual::from(used) << SCALE_BITS) / Virtual::from(weight.max(1))
}

/// Where a VM stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It has no work.
    Idle,
    /// It has work and its share is not due yet.
    Waiting,
    /// It has work and its share is due.
    Eligible,
    /// It has work and is at its cap until then.
    Throttled(Nanos),
    /// It has been let in.
    Running,
}

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) settings: Settings,
    pub(crate) state: State,
    /// When the share of the next turn is due, and by when the turn should be over.
    pub(crate) start: Virtual,
    pub(crate) deadline: Virtual,
    /// Until when the guaranteed minimum has been had; real time.
    pub(crate) reserved: Nanos,
    bucket: Bucket,
}

impl Account {
    pub(crate) fn new(settings: Settings, virtual_now: Virtual, now: Nanos) -> Self {
        let bucket = Bucket::new(settings.cap(), now);
        let mut account =
            Account { settings, state: State::Idle, start: virtual_now, deadline: 0, reserved: now, bucket };
        account.aim();
        account
    }

    pub(crate) fn weight(&self) -> u64 {
        u64::from(self.settings.weight())
    }

    pub(crate) fn urgency(&self) -> Urgency {
        (self.settings.priority(), self.deadline)
    }

    /// The deadline of a whole turn from `start` on.
    fn aim(&mut self) {
        self.deadline = self.start + virtual_time(self.settings.priority().quantum(), self.weight());
    }

    /// It has work again: what it left unused while it had none is not owed to it; what it used too much still is.
    pub(crate) fn wake(&mut self, virtual_now: Virtual, now: Nanos) {
        self.start = self.start.max(virtual_now);
        self.reserved = self.reserved.max(now);
        self.aim();
    }

    pub(crate) fn set(&mut self, settings: Settings, now: Nanos) {
        self.settings = settings;
        self.bucket.set_rate(settings.cap(), now);
        self.aim();
    }

    /// Puts down a use.
    pub(crate) fn charge(&mut self, used: Nanos, now: Nanos) {
        self.start += virtual_time(used, self.weight());
        self.aim();
        self.bucket.drain(used, now);
        if let Some(covers) = (used.saturating_mul(u64::from(WHOLE))).checked_div(u64::from(self.settings.minimum())) {
            self.reserved = self.reserved.saturating_add(covers);
        }
    }

    /// When the cap lets it go on, if it does not now.
    pub(crate) fn free_at(&mut self, now: Nanos) -> Option<Nanos> {
        self.bucket.free_at(now)
    }

    /// The length of a turn now.
    pub(crate) fn turn(&self) -> Nanos {
        self.bucket.longest(self.settings.priority().quantum(), TURN_LEAST)
    }

    /// Whether it has a guarantee and is behind it.
    pub(crate) fn is_behind(&self, now: Nanos) -> bool {
        self.settings.minimum() > 0 && self.reserved <= now
    }
}
