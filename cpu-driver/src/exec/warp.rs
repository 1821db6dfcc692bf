//! A warp: its frames, the group of lanes that runs now and the groups that wait. Divergence lives
//! here: lanes that disagree become groups of (frame, operation, mask); the deepest frame runs
//! first, then the lowest operation, and equal groups merge again.

use super::cta::CtaState;
use super::fault::{Fault, FaultKind};
use super::frame::Frame;
use super::op::Op;

/// Why `run` came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Every lane has exited.
    Done,
    /// Every lane that lives waits, at least one at a CTA barrier.
    Barrier,
    /// Every lane that lives waits for others of its own warp, which can come no more.
    Stuck,
    /// The budget of backward branches is spent; the warp can go on.
    Yield,
    /// `Warp::fault` says what happened.
    Fault,
}

/// What a waiting group waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Nothing,
    /// The CTA barrier of that number.
    Barrier(u8),
    /// Lanes of its own warp, at a `.sync` operation.
    Lanes,
}

/// Lanes that go on together.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    pub frame: u32,
    pub ip: *const Op,
    pub mask: u32,
    pub wait: Wait,
    /// When it last ran, for the rotation.
    pub ran: u32,
}

/// Backward branches between two looks at the world outside the warp.
const BUDGET: u32 = 1024;
/// Spent budgets after which a group that spins must let the others run.
const PATIENCE: u32 = 16;
/// What an operation on memory that others write costs of the budget: a spin is noticed sooner.
pub const SPIN_COST: u32 = 64;

pub struct Warp {
    /// Base of the current group's frame.
    pub regs: *mut u8,
    /// Lanes of the current group.
    pub mask: u32,
    /// Index in `frames` of the current group's frame.
    pub frame: u32,
    /// The CTA that this warp belongs to.
    pub cta: *mut CtaState,
    pub budget: u32,
    patience: u32,
    clock: u32,
    /// Run the current group on without looking for lower ones: it was let in out of turn.
    out_of_turn: u32,
    /// `others[0]` is to run next.
    rotated: bool,
    /// The next `.sync` operation goes ahead with the lanes that are there.
    pub force_sync: bool,
    /// Lanes that have not exited.
    pub live: u32,
    pub index: u32,
    pub others: Vec<Group>,
    pub frames: Vec<Frame>,
    /// Per-thread local memory: 32 stretches of `local_stride` bytes.
    pub local: *mut u8,
    pub local_stride: u64,
    pub stop: Stop,
    pub fault: Option<Box<Fault>>,
}

impl Warp {
    pub fn new(index: u32, cta: *mut CtaState) -> Self {
        Self {
            regs: std::ptr::null_mut(),
            mask: 0,
            frame: 0,
            cta,
            budget: BUDGET,
            patience: PATIENCE,
            clock: 0,
            out_of_turn: 0,
            rotated: false,
            force_sync: false,
            live: 0,
            index,
            others: Vec::new(),
            frames: Vec::new(),
            local: std::ptr::null_mut(),
            local_stride: 0,
            stop: Stop::Yield,
            fault: None,
        }
    }

    /// A predicate's slot.
    ///
    /// # Safety
    /// `slot` is a predicate slot of the current frame.
    #[inline(always)]
    pub unsafe fn predicate(&self, slot: u32) -> *mut u32 {
        // SAFETY: decode placed the slot inside the frame.
        unsafe { self.regs.add(slot as usize).cast() }
    }

    /// The lanes of a slot.
    ///
    /// # Safety
    /// `slot` holds 32 lanes of T in the current frame.
    #[inline(always)]
    pub unsafe fn lanes<T>(&self, slot: u32) -> *mut T {
        // SAFETY: decode placed the slot inside the frame.
        unsafe { self.regs.add(slot as usize).cast() }
    }

    pub fn cta(&self) -> &CtaState {
        // SAFETY: a warp lives inside the CTA that it points to, which does not move while it runs.
        unsafe { &*self.cta }
    }

    /// Puts every lane of `live` at the first operation of the kernel.
    pub fn start(&mut self, live: u32, ip: *const Op) {
        self.live = live;
        self.others.clear();
        self.others.push(Group { frame: 0, ip, mask: live, wait: Wait::Nothing, ran: 0 });
        self.fault = None;
        self.mask = 0;
        self.patience = PATIENCE;
        self.out_of_turn = 0;
        self.rotated = false;
        self.force_sync = false;
        self.stop = Stop::Yield;
    }

    /// Runs until the warp stops.
    pub fn run(&mut self) -> Stop {
        self.budget = BUDGET;
        let mut ip = if std::mem::take(&mut self.rotated) { self.resume(0) } else { self.pick() };
        while !ip.is_null() {
            // SAFETY: `ip` is an operation of the function of the current frame.
            ip = unsafe { ((*ip).run)(self, ip) };
        }
        self.stop
    }

    /// Whether group `a` is to run before group `b`.
    fn precedes(&self, a: &Group, b: &Group) -> bool {
        let depth = |group: &Group| self.frames.get(group.frame as usize).map_or(0, |frame| frame.depth);
        (depth(b), a.ip) < (depth(a), b.ip)
    }

    /// Makes the group that is next in turn the current one; null when none can run.
    pub fn pick(&mut self) -> *const Op {
        let mut best: Option<usize> = None;
        for (i, group) in self.others.iter().enumerate() {
            if group.wait == Wait::Nothing && best.is_none_or(|b| self.precedes(group, &self.others[b])) {
                best = Some(i);
            }
        }
        match best {
            Some(i) => self.resume(i),
            None => {
                self.mask = 0;
                let at_barrier = self.others.iter().any(|group| matches!(group.wait, Wait::Barrier(_)));
                self.stop = match (self.others.is_empty(), at_barrier) {
                    (true, _) => Stop::Done,
                    (_, true) => Stop::Barrier,
                    _ => return self.force(),
                };
                std::ptr::null()
            }
        }
    }

    /// Lets the first group at a `.sync` operation go ahead without the lanes that cannot come.
    pub fn force(&mut self) -> *const Op {
        match self.others.iter().position(|group| group.wait == Wait::Lanes) {
            Some(i) => {
                self.force_sync = true;
                self.resume(i)
            }
            None => {
                self.stop = Stop::Stuck;
                std::ptr::null()
            }
        }
    }

    fn resume(&mut self, i: usize) -> *const Op {
        let group = self.others.swap_remove(i);
        self.mask = group.mask;
        self.frame = group.frame;
        if let Some(frame) = self.frames.get(group.frame as usize) {
            self.regs = frame.regs();
        }
        self.clock = self.clock.wrapping_add(1);
        group.ip
    }

    /// Whether some group can run on without anything from outside the warp.
    pub fn can_run(&self) -> bool {
        let at_barrier = self.others.iter().any(|group| matches!(group.wait, Wait::Barrier(_)));
        self.others.iter().any(|group| match group.wait {
            Wait::Nothing => true,
            Wait::Lanes => !at_barrier,
            Wait::Barrier(_) => false,
        })
    }

    /// Files lanes as a group, merged with an equal one.
    pub fn file(&mut self, frame: u32, ip: *const Op, mask: u32, wait: Wait) {
        for group in &mut self.others {
            if group.frame == frame && group.ip == ip && group.wait == wait {
                group.mask |= mask;
                return;
            }
        }
        self.others.push(Group { frame, ip, mask, wait, ran: self.clock });
    }

    /// Merges groups that a barrier's release has made equal.
    pub fn merge_equal(&mut self) {
        for group in std::mem::take(&mut self.others) {
            self.file(group.frame, group.ip, group.mask, group.wait);
        }
    }

    /// The current group has come to `ip` by a branch or past a label: goes on there, or lets a
    /// group run that is before it in turn. Equal groups merge here.
    #[inline(always)]
    pub fn arrive(&mut self, ip: *const Op) -> *const Op {
        if self.others.is_empty() { ip } else { self.arrive_among_others(ip) }
    }

    fn arrive_among_others(&mut self, ip: *const Op) -> *const Op {
        if self.out_of_turn > 0 {
            self.out_of_turn -= 1;
            return ip;
        }
        self.file(self.frame, ip, self.mask, Wait::Nothing);
        self.pick()
    }

    /// As `arrive`, for a branch to a lower operation: spends budget.
    #[inline(always)]
    pub fn arrive_backward(&mut self, ip: *const Op) -> *const Op {
        self.budget = self.budget.saturating_sub(1);
        if self.budget == 0 { self.spent(ip) } else { self.arrive(ip) }
    }

    #[cold]
    fn spent(&mut self, ip: *const Op) -> *const Op {
        self.patience = self.patience.saturating_sub(1);
        self.file(self.frame, ip, self.mask, Wait::Nothing);
        if self.patience == 0 {
            self.patience = PATIENCE;
            self.rotate();
        }
        self.mask = 0;
        self.stop = Stop::Yield;
        std::ptr::null()
    }

    /// Lets the group run next that has waited longest, whatever its place: a lane that spins must
    /// not keep the lane that it waits for from running.
    fn rotate(&mut self) {
        let longest = (0..self.others.len())
            .filter(|&i| self.others[i].wait == Wait::Nothing)
            .max_by_key(|&i| self.clock.wrapping_sub(self.others[i].ran));
        let ready = self.others.iter().filter(|group| group.wait == Wait::Nothing).count();
        if let (Some(i), true) = (longest, ready > 1) {
            self.others.swap(0, i);
            self.rotated = true;
            self.out_of_turn = SPIN_COST;
        }
    }

    /// The current group's lanes end here; goes on with another group.
    pub fn exit_lanes(&mut self) -> *const Op {
        self.live &= !self.mask;
        self.pick()
    }

    /// Ends the kernel: `lane` broke the rule `kind` at `op`.
    #[cold]
    pub fn fail(&mut self, kind: FaultKind, op: &Op, lane: u32, address: u64, what: &str) -> *const Op {
        let cta = self.cta();
        self.fault = Some(Box::new(Fault {
            kind,
            what: what.to_owned(),
            kernel: cta.kernel_name().to_owned(),
            line: op.line,
            lane,
            address,
            cta: cta.cta_id,
            thread: cta.thread_of(self.index, lane),
        }));
        self.mask = 0;
        self.stop = Stop::Fault;
        std::ptr::null()
    }
}
