//! A ring thread's part in its process's lease. While the lease is open a
//! command costs a look at the page and one at the shapes of the slice; all
//! else happens at a slice's edges.

use paravane_protocol::cuda_types::CUstream;
use paravane_scheduler::{Nanos, Shape};

use super::ProcessLease;
use super::slice::{Place, Slice};
use super::work::Work;
use crate::worker::process::Process;

/// A slice of so many commands ends, whatever they cost.
const COMMANDS_MAX: u32 = 16_384;
/// Shapes that a thread has at hand, and those that were put aside; more of one
/// slice end it.
const SHAPES: usize = 64;
const ASIDE_MAX: usize = 1024;

#[derive(Clone, Copy, Default)]
struct Entry {
    shape: Option<Shape>,
    cost: Nanos,
    count: u32,
}

/// What a thread has issued since the last edge.
pub(in crate::worker) struct Part {
    slice: Option<Slice>,
    /// The number of the device that the slice is of.
    device: usize,
    last: Place,
    predicted: Nanos,
    commands: u32,
    entries: [Entry; SHAPES],
}

impl Default for Part {
    fn default() -> Self {
        let entries = [Entry::default(); SHAPES];
        Self { slice: None, device: 0, last: Place::default(), predicted: 0, commands: 0, entries }
    }
}

fn place_of(shape: Shape) -> usize {
    let mixed = (shape.kind ^ shape.size.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 58) as usize
}

/// Where a command's work is done: a copy may name a stream of another context than
/// the current one.
fn home_of(process: &Process, here: Place) -> Place {
    let owner = process.handles.context_of(CUstream(here.stream));
    let is_here = owner == 0 || owner == process.handles.home(here.context);
    Place { context: if is_here { here.context } else { owner }, ..here }
}

impl Part {
    /// A command that makes the device work is about to be issued: waits until
    /// it may. `holds` is told when that begins and ends.
    #[inline]
    pub(in crate::worker) fn admit(
        &mut self,
        process: &Process,
        context: u64,
        work: Work,
        holds: impl FnMut(bool),
    ) {
        let (lease, place) = (process.leases.at(self.device), Place { context, stream: work.stream });
        let goes_on = self.slice.is_some()
            && self.last == place
            && self.predicted < lease.slice_ns()
            && self.commands < COMMANDS_MAX
            && lease.is_open();
        if goes_on && self.count_known(work.shape) {
            return;
        }
        self.admit_slowly(process, place, work.shape, holds);
    }

    #[inline]
    fn count_known(&mut self, shape: Shape) -> bool {
        let Some(entry) = self.entries.get_mut(place_of(shape)) else { return false };
        if entry.shape != Some(shape) {
            return false;
        }
        entry.count += 1;
        self.predicted += entry.cost;
        self.commands += 1;
        true
    }

    #[cold]
    fn admit_slowly(&mut self, process: &Process, here: Place, shape: Shape, holds: impl FnMut(bool)) {
        let (current, place) = (here.context, home_of(process, here));
        let device = process.leases.number_of(process, place.context, current);
        let lease = process.leases.at(device);
        if place.context == 0 || lease.is_captured_id(process, place.stream) {
            return;
        }
        self.make_room(shape);
        let aside = self.slice.as_ref().map_or(0, |slice| slice.commands.len());
        let is_full = self.predicted >= lease.slice_ns() || self.commands >= COMMANDS_MAX || aside >= ASIDE_MAX;
        if is_full || device != self.device {
            self.end(process, current);
            self.device = device;
        }
        let cost = self.cost(lease, shape);
        if !lease.pass(cost.0) {
            self.end(process, current);
            lease.wait(process, cost.0, holds);
        }
        let slice = self.slice.get_or_insert_with(|| lease.slice_begins());
        if let Some(end) = lease.end() {
            lease.add_ahead(cost.0);
            slice.ahead = slice.ahead.saturating_add(cost.0);
            slice.until = end;
        }
        slice.note(process, lease, place, current);
        self.last = here;
        // What nobody knows is measured by itself, and counts for a slice.
        let weight = if cost.1 { cost.0 } else { lease.slice_ns() };
        if let Some(entry) = self.entries.get_mut(place_of(shape)) {
            *entry = Entry { shape: Some(shape), cost: cost.0, count: entry.count + 1 };
        }
        self.predicted = self.predicted.saturating_add(weight);
        self.commands += 1;
    }

    /// Another shape of this slice may have the place of this one: that is put
    /// aside.
    fn make_room(&mut self, shape: Shape) {
        let entry = self.entries.get_mut(place_of(shape));
        if let Some(entry) = entry.filter(|entry| entry.shape != Some(shape)) {
            let Entry { shape, count, .. } = std::mem::take(entry);
            let aside = self.slice.iter_mut().zip(shape.filter(|_| count > 0));
            aside.for_each(|(slice, shape)| slice.commands.push((shape, count)));
        }
    }

    /// A prediction, and whether it is more than a guess.
    fn cost(&self, lease: &ProcessLease, shape: Shape) -> (Nanos, bool) {
        match self.entries.get(place_of(shape)) {
            Some(entry) if entry.shape == Some(shape) => (entry.cost, true),
            _ => lease.predict(shape),
        }
    }

    /// The slice ends here, if there is one. `current` is the thread's context.
    pub(in crate::worker) fn end(&mut self, process: &Process, current: u64) {
        let Some(mut slice) = self.slice.take() else { return };
        for entry in &mut self.entries {
            let Entry { shape, count, .. } = std::mem::take(entry);
            slice.commands.extend(shape.filter(|_| count > 0).map(|shape| (shape, count)));
        }
        slice.weight = std::mem::take(&mut self.predicted);
        self.commands = 0;
        let lease = process.leases.at(self.device);
        slice.record_ends(process, lease, current);
        lease.slice_ends(process, slice);
    }
}
