//! Copies between host and device, which VMs share apart from the device's time:
//! by bytes and weight, in rounds. Each VM may copy so much in a round; who has
//! copied all of it waits for the others that copy, but not for longer than they
//! would have needed, had they as much to copy. Who copies a little now and then
//! is waited for by nobody.

use std::collections::BTreeMap;

use paravane_scheduler::{MS, Nanos, VmId};

/// What the heaviest VM may copy in a round, in bytes: some milliseconds of a
/// bus's time.
pub const QUANTUM: i64 = 32 << 20;
/// With so little left a VM calls: alone, it gets more before it has to wait.
pub const LOW: i64 = QUANTUM / 4;
/// What the lightest may.
const QUANTUM_LEAST: i64 = 1 << 20;
/// Copies are issued whole, so a VM may owe; at most so much is remembered.
const DEBT_MAX: i64 = 8 * QUANTUM;
/// Nobody waits longer in one round.
const HOLD_MAX: Nanos = 50 * MS;
/// Others are looked at so often while somebody waits.
const LOOK: Nanos = MS / 2;
/// Who has copied less than this part of what the one that waits has is not
/// waited for.
const PART: u64 = 4;
/// Who has copied this many times what others have is alone.
const ALONE: u64 = 16;
/// Nor is who has copied no more than this, where the one that waits owes.
const LITTLE: u64 = 256 << 10;

/// What a VM's page shows of its copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copying {
    /// Bytes so far.
    pub bytes: u64,
    /// What is left of its round.
    pub budget: i64,
    /// Threads that wait for the next.
    pub waiting: bool,
}

/// Where the VMs' pages are.
pub trait CopyPages {
    /// What a VM copies.
    fn copying(&mut self, vm: VmId) -> Copying;
    /// Whether little or nothing is left of its round: the quick look.
    fn is_low(&mut self, vm: VmId) -> bool;
    /// Adds to its budget, and lets in who waits.
    fn allow(&mut self, vm: VmId, more: i64);
}

#[derive(Clone, Copy, Debug)]
struct Vm {
    weight: u32,
    /// Its bytes when the round began, and what it copied in the last one.
    before: u64,
    last: u64,
    /// When it was first seen to wait in this round.
    spent_at: Option<Nanos>,
}

/// A VM as one look sees it.
struct Seen {
    id: VmId,
    copying: Copying,
    /// Bytes in this round, and those of this one or the last: a copy is counted when
    /// it is done.
    moved: u64,
    lately: u64,
    weight: u64,
    spent_at: Option<Nanos>,
}

/// The rounds of one device.
#[derive(Debug, Default)]
pub struct Copies {
    vms: BTreeMap<VmId, Vm>,
    since: Nanos,
}

impl Copies {
    /// A VM comes, or has another weight.
    pub fn set(&mut self, vm: VmId, weight: u32) {
        self.vms.entry(vm).or_insert(Vm { weight, before: 0, last: 0, spent_at: None }).weight = weight.max(1);
    }

    /// A VM has gone.
    pub fn remove(&mut self, vm: VmId) {
        self.vms.remove(&vm);
    }

    /// Lets in whose turn it is; when to look again, if nobody calls before.
    pub fn look(&mut self, now: Nanos, pages: &mut impl CopyPages) -> Option<Nanos> {
        if !self.vms.keys().any(|vm| pages.is_low(*vm)) {
            return None;
        }
        let mut all = Vec::with_capacity(self.vms.len());
        for (id, vm) in &mut self.vms {
            let copying = pages.copying(*id);
            if copying.waiting && copying.budget <= 0 {
                vm.spent_at.get_or_insert(now);
            }
            let moved = copying.bytes.wrapping_sub(vm.before);
            let lately = moved.max(vm.last);
            all.push(Seen { id: *id, copying, moved, lately, weight: vm.weight.into(), spent_at: vm.spent_at });
        }
        let Some(first) = all.iter().filter(|seen| seen.spent_at.is_some()).max_by_key(|seen| seen.moved) else {
            let most = all.iter().map(|seen| seen.moved).max().unwrap_or(0);
            let others = all.iter().filter(|seen| seen.lately > most / ALONE).count();
            // One that is low and has had most of a round is alone.
            if most > QUANTUM.unsigned_abs() / 2 && others == 1 {
                self.begin(now, most / ALONE, &all, pages);
            }
            return None;
        };
        // Who still owes then waits for the next round.
        let soon = now.saturating_add(LOOK);
        match self.held_until(now, first, &all) {
            Some(deadline) if now < deadline => Some(deadline.min(soon)),
            _ => {
                self.begin(now, first.moved / PART, &all, pages);
                Some(soon)
            }
        }
    }

    /// Up to when those that have copied their part, the most of them `first`,
    /// wait for others; `None` if there are no others.
    fn held_until(&self, now: Nanos, first: &Seen, all: &[Seen]) -> Option<Nanos> {
        let spent_at = first.spent_at.unwrap_or(now);
        // Who owes has copied nothing in this round to compare others with.
        let owes = first.moved == 0;
        if owes && now < spent_at.saturating_add(LOOK) {
            return Some(spent_at.saturating_add(LOOK));
        }
        let least = if owes { LITTLE } else { first.moved / PART };
        let is_other = |seen: &&Seen| seen.spent_at.is_none() && seen.lately > least;
        let mut others = all.iter().filter(is_other).peekable();
        others.peek()?;
        let left = |seen: &Seen| u64::try_from(seen.copying.budget.min(QUANTUM)).unwrap_or(0);
        let round = |seen: &Seen| left(seen).saturating_add(seen.moved).min(2 * QUANTUM.unsigned_abs());
        let rounds = others.map(round).fold(0, u64::saturating_add);
        let took = spent_at.saturating_sub(self.since);
        // Half as long again: paces differ from moment to moment.
        let needed = u128::from(took) * u128::from(rounds) * 3 / 2 / u128::from(first.moved.max(1));
        let needed = u64::try_from(needed).unwrap_or(u64::MAX);
        let hold = if owes { HOLD_MAX } else { needed.saturating_sub(took).clamp(LOOK, HOLD_MAX) };
        Some(spent_at.saturating_add(hold))
    }

    /// A new round. What somebody owes is kept if others have copied more than
    /// `least`.
    fn begin(&mut self, now: Nanos, least: u64, all: &[Seen], pages: &mut impl CopyPages) {
        let copied = |seen: &&Seen| seen.spent_at.is_some() || seen.lately > least.max(LITTLE);
        let several = all.iter().filter(copied).count() > 1;
        let heaviest = all.iter().filter(copied).map(|seen| seen.weight).max().unwrap_or(0);
        for seen in all {
            let quantum = quantum(seen.weight, heaviest);
            let owed = if several { seen.copying.budget.clamp(-DEBT_MAX, 0) } else { 0 };
            pages.allow(seen.id, (owed + quantum).saturating_sub(seen.copying.budget));
            if let Some(vm) = self.vms.get_mut(&seen.id) {
                *vm = Vm { before: seen.copying.bytes, last: seen.moved, spent_at: None, ..*vm };
            }
        }
        self.since = now;
    }
}

/// A weight's part of what the heaviest may copy.
fn quantum(weight: u64, heaviest: u64) -> i64 {
    let part = QUANTUM.unsigned_abs().saturating_mul(weight) / heaviest.max(1);
    i64::try_from(part).unwrap_or(QUANTUM).clamp(QUANTUM_LEAST, QUANTUM)
}

#[cfg(test)]
#[path = "copies_tests.rs"]
mod tests;
