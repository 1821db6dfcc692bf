//! How often a VM's kicks are heard: a guest can have its workers call without
//! end, and each call costs the arbiter a look at all VMs. So the looks that the
//! kicks of one VM cause are counted. Whoever calls more often is not listened to
//! until the millisecond is over; what it has called for is then seen all the
//! same, because an eventfd keeps it, or at the look that another VM causes.

use std::collections::BTreeMap;

use paravane_scheduler::{MS, Nanos, VmId};

/// Looks that the kicks of one VM cause within [`PERIOD`]. A thread that waits
/// for each of its kernels polls for some 60 us before it calls.
pub(super) const LOOKS: u32 = 20;
pub(super) const PERIOD: Nanos = MS;

#[derive(Debug)]
struct Heard {
    /// The period's begin, and the looks in it.
    since: Nanos,
    looks: u32,
}

impl Heard {
    fn is_over(&self, now: Nanos) -> bool {
        now.saturating_sub(self.since) >= PERIOD
    }
}

/// What was heard of each VM.
#[derive(Debug, Default)]
pub(super) struct Hearing(BTreeMap<VmId, Heard>);

impl Hearing {
    /// A VM has kicked, which causes a look.
    pub(super) fn hears(&mut self, vm: VmId, now: Nanos) {
        let heard = self.0.entry(vm).or_insert(Heard { since: now, looks: 0 });
        if heard.is_over(now) {
            *heard = Heard { since: now, looks: 0 };
        }
        heard.looks = heard.looks.saturating_add(1);
    }

    /// Since when on a VM is listened to: `None`, now.
    pub(super) fn deaf_until(&self, vm: VmId, now: Nanos) -> Option<Nanos> {
        let heard = self.0.get(&vm)?;
        let is_enough = heard.looks >= LOOKS && !heard.is_over(now);
        is_enough.then(|| heard.since.saturating_add(PERIOD))
    }

    /// Forgets those that are not there any more.
    pub(super) fn retain(&mut self, is_there: impl Fn(VmId) -> bool) {
        self.0.retain(|vm, _| is_there(*vm));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks that a VM causes in a second that kicks again at once.
    fn looks(vm: u32, hearing: &mut Hearing, now: &mut Nanos, look: Nanos) -> u64 {
        let (end, mut looks) = (*now + 1000 * MS, 0);
        while *now < end {
            match hearing.deaf_until(VmId(vm), *now) {
                Some(until) => *now = until,
                None => {
                    hearing.hears(VmId(vm), *now);
                    looks += 1;
                    *now += look;
                }
            }
        }
        looks
    }

    #[test]
    fn whoever_calls_without_end_is_heard_so_often() {
        let (mut hearing, mut now) = (Hearing::default(), 5 * MS);
        assert_eq!(looks(1, &mut hearing, &mut now, 1), 1000 * u64::from(LOOKS));
        // Whoever calls every 60 us is heard each time.
        assert_eq!(looks(2, &mut hearing, &mut now, 60_000), 16_667);
        hearing.retain(|vm| vm == VmId(2));
        assert_eq!(hearing.0.len(), 1);
    }

    #[test]
    fn one_vms_calls_are_not_anothers() {
        let mut hearing = Hearing::default();
        (0..LOOKS).for_each(|_| hearing.hears(VmId(1), 3));
        assert_eq!((hearing.deaf_until(VmId(1), 4), hearing.deaf_until(VmId(2), 4)), (Some(3 + PERIOD), None));
        assert_eq!(hearing.deaf_until(VmId(1), 3 + PERIOD), None);
    }
}
