//! A CTA: its warps, shared memory and barriers. The executor calls `run` until the CTA is done;
//! between calls it is an object at rest, so any CTA can be set aside for another stream's work.

use super::fault::{Fault, FaultKind};
use super::frame::Frame;
use super::function::Special;
use super::grid::Grid;
use super::lanes::LANES;
use super::warp::{Stop, Wait, Warp};
use std::sync::Arc;

/// Barriers that a CTA has (PTX ISA, `bar`).
pub const BARRIERS: usize = 16;

/// How a call of `run` ended.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// Alive, and ready to run on.
    Yield,
    Fault(Box<Fault>),
}

/// What `bar.red` combines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Barrier {
    /// Threads that have arrived.
    pub arrived: u32,
    /// Threads that must arrive; 0 for all that live.
    pub expected: u32,
    /// Of those that arrived, how many brought a true predicate.
    pub votes: u32,
    /// Slot and kind of the results that waiting threads expect, if any.
    pub result: Option<Reduction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    And(u32),
    Or(u32),
    Popc(u32),
}

/// What a CTA's warps share.
pub struct CtaState {
    pub grid: Arc<Grid>,
    pub cta_id: [u32; 3],
    pub shared: *mut u8,
    pub shared_size: u32,
    pub barriers: [Barrier; BARRIERS],
}

impl CtaState {
    pub fn kernel_name(&self) -> &str {
        &self.grid.function().name
    }

    /// threadIdx of a lane.
    pub fn thread_of(&self, warp: u32, lane: u32) -> [u32; 3] {
        let linear = warp * LANES as u32 + lane;
        let [x, y, _] = self.grid.block;
        [linear % x, linear / x % y, linear / x / y]
    }

    fn workspace(&self) -> u64 {
        self.grid.workspace.as_ref().map_or(0, crate::memory::Workspace::address)
    }

    /// Special values that are equal in all lanes.
    pub fn special(&self, special: Special) -> u32 {
        let at = |dims: &[u32; 3], axis: u8| dims.get(usize::from(axis)).copied().unwrap_or(0);
        match special {
            Special::NTid(axis) => at(&self.grid.block, axis),
            Special::CtaId(axis) => at(&self.cta_id, axis),
            Special::NCtaId(axis) => at(&self.grid.grid, axis),
            Special::NWarpId => self.grid.threads().div_ceil(LANES as u32),
            Special::GridId => self.grid.grid_id,
            Special::DynamicShared => self.grid.dynamic_shared,
            Special::TotalShared => self.shared_size,
            Special::StaticShared => self.grid.function().shared_size.next_multiple_of(16),
            Special::EnvReg(1) => (self.workspace() >> 32) as u32,
            Special::EnvReg(2) => self.workspace() as u32,
            Special::One => 1,
            _ => 0,
        }
    }
}

/// A CTA with all its state.
pub struct Cta {
    state: Box<CtaState>,
    warps: Vec<Warp>,
    shared: Vec<u128>,
    local: Vec<u128>,
}

// SAFETY: the raw pointers inside lead to memory that the CTA owns or that the grid keeps; one
// thread at a time runs a CTA.
unsafe impl Send for Cta {}

impl Cta {
    /// A CTA of `grid` with frames and memory, not yet started.
    pub fn new(grid: &Arc<Grid>) -> Self {
        let function = grid.function();
        let threads = grid.threads();
        let warps = threads.div_ceil(LANES as u32);
        let shared_size = function.shared_size.next_multiple_of(16) + grid.dynamic_shared;
        let mut shared = vec![0u128; (shared_size as usize).div_ceil(16) + 1];
        let stack = if function.has_calls { grid.stack_limit } else { 0 };
        let stride = u64::from(function.local_size.next_multiple_of(16)) + u64::from(stack);
        let warp_local = stride as usize * LANES;
        let mut local = vec![0u128; (warp_local * warps as usize).div_ceil(16)];
        let mut state = Box::new(CtaState {
            grid: Arc::clone(grid),
            cta_id: [0; 3],
            shared: shared.as_mut_ptr().cast(),
            shared_size,
            barriers: [Barrier::default(); BARRIERS],
        });
        let pointer: *mut CtaState = &raw mut *state;
        let mut all = Vec::with_capacity(warps as usize);
        for index in 0..warps {
            let mut warp = Warp::new(index, pointer);
            warp.local_stride = stride;
            warp.local = local.as_mut_ptr().cast::<u8>().wrapping_add(warp_local * index as usize);
            let frame = Frame::new(function);
            frame.set_specials(&state, index, false);
            warp.frames.push(frame);
            all.push(warp);
        }
        Self { state, warps: all, shared, local }
    }

    /// Bytes of memory that this CTA holds.
    pub fn footprint(&self) -> usize {
        (self.shared.len() + self.local.len()) * 16
    }

    /// Makes this the CTA with number `number`, at its first operation.
    pub fn start(&mut self, number: u64) {
        self.state.cta_id = self.state.grid.cta_id(number);
        self.state.barriers = [Barrier::default(); BARRIERS];
        let threads = self.state.grid.threads();
        let entry = self.state.grid.function().ops.as_ptr();
        for warp in &mut self.warps {
            let first = warp.index * LANES as u32;
            let lanes = (threads - first).min(LANES as u32);
            let live = if lanes == 32 { u32::MAX } else { (1 << lanes) - 1 };
            for frame in warp.frames.iter_mut().skip(1) {
                frame.lanes = 0;
            }
            warp.frames[0].lanes = live;
            warp.frames[0].set_specials(&self.state, warp.index, true);
            warp.start(live, entry);
        }
    }

    /// Runs every warp until the CTA is done, a warp's budget is spent, or a fault.
    pub fn run(&mut self) -> Outcome {
        loop {
            let (mut progress, mut yielded) = (false, false);
            for warp in &mut self.warps {
                if !warp.can_run() {
                    continue;
                }
                progress = true;
                match warp.run() {
                    Stop::Fault => {
                        if let Some(fault) = warp.fault.take() {
                            return Outcome::Fault(fault);
                        }
                    }
                    Stop::Yield => yielded = true,
                    Stop::Done | Stop::Barrier | Stop::Stuck => {}
                }
            }
            progress |= self.release_barriers();
            if self.warps.iter().all(|warp| warp.live == 0) {
                return Outcome::Done;
            }
            if !progress && !self.force_one() {
                return Outcome::Fault(self.deadlock());
            }
            if yielded {
                return Outcome::Yield;
            }
        }
    }

    /// Lets the waiting threads of complete barriers go on.
    fn release_barriers(&mut self) -> bool {
        let live: u32 = self.warps.iter().map(|warp| warp.live.count_ones()).sum();
        let mut released = false;
        for number in 0..BARRIERS {
            let barrier = self.state.barriers[number];
            let needed = if barrier.expected == 0 { live } else { barrier.expected.min(live) };
            if barrier.arrived == 0 || barrier.arrived < needed {
                continue;
            }
            released = true;
            self.state.barriers[number] = Barrier::default();
            for warp in &mut self.warps {
                release(warp, number as u8, &barrier);
            }
        }
        released
    }

    /// No warp can go on by itself: lets a `.sync` operation go ahead without the lanes that wait
    /// at a barrier.
    fn force_one(&mut self) -> bool {
        for warp in &mut self.warps {
            if let Some(group) = warp.others.iter_mut().find(|group| group.wait == Wait::Lanes) {
                group.wait = Wait::Nothing;
                warp.force_sync = true;
                return true;
            }
        }
        false
    }

    fn deadlock(&self) -> Box<Fault> {
        let warp = self.warps.iter().find(|warp| warp.live != 0);
        let (index, lane) = warp.map_or((0, 0), |warp| (warp.index, warp.live.trailing_zeros()));
        Box::new(Fault {
            kind: FaultKind::LaunchFailed,
            what: "a barrier that no thread can complete".to_owned(),
            kernel: self.state.kernel_name().to_owned(),
            line: 0,
            lane,
            address: 0,
            cta: self.state.cta_id,
            thread: self.state.thread_of(index, lane),
        })
    }
}

fn release(warp: &mut Warp, number: u8, barrier: &Barrier) {
    for i in 0..warp.others.len() {
        let group = warp.others[i];
        if group.wait != Wait::Barrier(number) {
            continue;
        }
        warp.others[i].wait = Wait::Nothing;
        let Some(reduction) = barrier.result else { continue };
        let Some(frame) = warp.frames.get(group.frame as usize) else { continue };
        // SAFETY: decode placed the result's slot inside the frame of the waiting function.
        unsafe {
            match reduction {
                Reduction::Popc(slot) => {
                    let lanes = &mut *frame.regs().add(slot as usize).cast::<[u32; LANES]>();
                    for (lane, value) in lanes.iter_mut().enumerate() {
                        if group.mask >> lane & 1 != 0 {
                            *value = barrier.votes;
                        }
                    }
                }
                Reduction::And(slot) | Reduction::Or(slot) => {
                    let all = matches!(reduction, Reduction::And(_));
                    let truth = if all { barrier.votes == barrier.arrived } else { barrier.votes != 0 };
                    let bits = frame.regs().add(slot as usize).cast::<u32>();
                    *bits = (*bits & !group.mask) | if truth { group.mask } else { 0 };
                }
            }
        }
    }
    warp.merge_equal();
}
