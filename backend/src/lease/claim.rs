//! What one VM is charged for: measured GPU time, as far as it can be true;
//! work that is ahead, before it is measured; work that is never told of.

use paravane_scheduler::{MS, Nanos, SECOND};

/// More predicted work than this is not charged before it is measured.
const AHEAD_MAX: Nanos = 20 * MS;
/// A worker that has work in flight and tells of none for so long is taken to
/// have used all the time since.
const SILENT: Nanos = 20 * MS;
/// But not more than this for each lease: a stream that waits for its own
/// program would never be let in again. What it really was is charged later.
const SILENT_MAX: Nanos = 100 * MS;
/// Time unaccounted for that a report may still claim.
const LATE: Nanos = 20 * MS;
/// Thousandths of a GPU's time.
const WHOLE: u128 = 1000;

/// What a VM has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmFigures {
    /// GPU time, in nanoseconds; what two VMs used at once is split between them.
    pub gpu_time_ns: u64,
    /// Time its threads waited for others' leases.
    pub waited_ns: u64,
    /// Time its threads waited because of its cap.
    pub throttled_ns: u64,
    /// Time its commands took beyond their leases.
    pub overrun_ns: u64,
    /// Bytes copied.
    pub copied_bytes: u64,
    /// Thousandths of the GPU's time over about the last second.
    pub share: u32,
    /// Threads at the gate now.
    pub waiting: u32,
    /// Whether the device has work of it now.
    pub in_flight: bool,
}

#[derive(Debug, Default)]
pub(super) struct Claim {
    /// GPU time in all: what is shared with another VM split.
    pub(super) gpu_ns: Nanos,
    /// Thousandths of the GPU over about the last second.
    pub(super) share: u32,
    /// Real time in which the VM may have used the device, not charged yet.
    claimable: Nanos,
    /// Charged before it was measured, because it was ahead; and what of that
    /// turned out to be too much.
    credit: Nanos,
    surplus: Nanos,
    /// Charged without a report, and since when there has been none.
    assumed: Nanos,
    reported: Nanos,
    /// What may still be assumed under this lease.
    silence: Nanos,
    sample: (Nanos, Nanos),
}

impl Claim {
    pub(super) fn new(now: Nanos) -> Self {
        Self { reported: now, sample: (now, 0), ..Self::default() }
    }

    /// The VM is let in.
    pub(super) fn lease_begins(&mut self) {
        self.silence = SILENT_MAX;
    }

    /// Whether something was used since the share was computed.
    pub(super) fn moves(&self) -> bool {
        self.gpu_ns != self.sample.1
    }

    /// The device has work of the VM that it did not have at the last look: the
    /// VM's silence begins now, and most of the time before was not its own.
    pub(super) fn begins(&mut self, now: Nanos) {
        self.reported = now;
    }

    /// A look: `delta` is reported, in `part` of the time since the last look
    /// the device may have worked for the VM, and has work of it still if it
    /// `flies`, of which `ahead` is predicted. What was used; what to charge.
    /// [`begins`](Self::begins) is called before for one that had none.
    pub(super) fn look(
        &mut self,
        delta: Nanos,
        part: Nanos,
        flies: bool,
        ahead: Nanos,
        now: Nanos,
    ) -> (Nanos, Nanos) {
        self.claimable = self.claimable.saturating_add(part).min(10 * SECOND);
        let known = delta.min(self.assumed);
        self.assumed -= known;
        let mut used = (delta - known).min(self.claimable);
        self.claimable -= used;
        self.gpu_ns = self.gpu_ns.saturating_add(known).saturating_add(used);
        if delta > 0 || !flies {
            self.reported = now;
            self.claimable = self.claimable.min(LATE);
        } else if now == self.reported {
            self.claimable = self.claimable.min(LATE);
        } else if now.saturating_sub(self.reported) > SILENT {
            let assumed = self.claimable.min(self.silence);
            used += assumed;
            self.silence -= assumed;
            self.assumed = self.assumed.saturating_add(assumed);
            self.claimable -= assumed;
        }
        if !flies {
            self.claimable = 0;
            // It was less after all.
            self.surplus = self.surplus.saturating_add(std::mem::take(&mut self.assumed));
        }
        let paid = used.min(self.credit);
        self.credit -= paid;
        let too_much = self.credit.saturating_sub(ahead);
        self.credit -= too_much;
        self.surplus = self.surplus.saturating_add(too_much);
        (used, self.give_back(used - paid))
    }

    /// So much is ahead: what of it is to be charged now.
    pub(super) fn pay_ahead(&mut self, ahead: Nanos) -> Nanos {
        let unpaid = Self::bounded(ahead).saturating_sub(self.credit);
        self.credit += unpaid;
        self.give_back(unpaid)
    }

    /// As much of a prediction as counts.
    pub(super) fn bounded(ahead: Nanos) -> Nanos {
        ahead.min(AHEAD_MAX)
    }

    fn give_back(&mut self, charge: Nanos) -> Nanos {
        let given = self.surplus.min(charge);
        self.surplus -= given;
        charge - given
    }

    /// Computes the share of the last second, if one has passed.
    pub(super) fn take_sample(&mut self, now: Nanos) {
        let (since, before) = self.sample;
        if let Some(period) = now.checked_sub(since).filter(|period| *period >= SECOND) {
            let share = u128::from(self.gpu_ns - before) * WHOLE / u128::from(period);
            self.share = u32::try_from(share).unwrap_or(u32::MAX);
            self.sample = (now, self.gpu_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ahead_is_charged_once() {
        let mut claim = Claim::new(0);
        assert_eq!(claim.pay_ahead(2 * MS), 2 * MS);
        assert_eq!(claim.pay_ahead(2 * MS), 0);
        // It was less than predicted: the next is cheaper.
        assert_eq!(claim.look(MS, 3 * MS, false, 0, 3 * MS), (MS, 0));
        assert_eq!(claim.pay_ahead(2 * MS), MS);
    }

    #[test]
    fn nobody_uses_more_than_has_passed() {
        let mut claim = Claim::new(0);
        assert_eq!(claim.look(u64::MAX, 3 * MS, true, 0, 3 * MS).0, 3 * MS);
    }

    #[test]
    fn the_time_before_work_began_is_not_taken_for_work() {
        let mut claim = Claim::new(0);
        claim.lease_begins();
        // Idle for a second, and work at the look after it.
        claim.begins(1000 * MS);
        assert_eq!(claim.look(0, 1000 * MS, true, 0, 1000 * MS).0, 0);
        assert_eq!(claim.look(0, 10 * MS, true, 0, 1010 * MS).0, 0);
        assert!(claim.look(0, 11 * MS, true, 0, 1021 * MS).0 <= LATE + 21 * MS);
    }

    #[test]
    fn silence_is_taken_for_work_and_a_late_report_for_what_it_was() {
        let mut claim = Claim::new(0);
        claim.lease_begins();
        let used: Nanos = (1..=10).map(|at| claim.look(0, 10 * MS, true, 0, at * 10 * MS).0).sum();
        assert_eq!(used, 100 * MS);
        // Beyond the bound it waits for the report.
        assert_eq!(claim.look(0, 10 * MS, true, 0, 110 * MS).0, 0);
        assert_eq!(claim.look(105 * MS, MS, false, 0, 111 * MS).0, 5 * MS);
        assert_eq!(claim.gpu_ns, 105 * MS);
        // What was assumed too much is given back.
        claim.lease_begins();
        assert_eq!(claim.look(0, 40 * MS, true, 0, 151 * MS), (40 * MS, 40 * MS));
        assert_eq!(claim.look(10 * MS, MS, false, 0, 152 * MS), (0, 0));
        assert_eq!((claim.gpu_ns, claim.pay_ahead(30 * MS)), (115 * MS, 0));
    }
}
