//! What a command will cost, learned from what it has cost: work in flight is bounded by these figures, because a turn is
//! shorter than the time until its use is measured.

use std::collections::HashMap;

use crate::{MS, Nanos};

/// Before anything is known.
const UNKNOWN: Nanos = MS / 20;
/// A new measurement's part: one eighth, and one fourth for the deviation, as in RFC 6298.
const MEAN_SHIFT: u32 = 3;
const DEVIATION_SHIFT: u32 = 2;
/// Shapes remembered in each of two generations.
const REMEMBERED: usize = 4096;

/// A command's kind and size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shape {
    /// The kernel, the graph or the kind of copy.
    pub kind: u64,
    /// Threads of a launch or bytes of a copy.
    pub size: u64,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    mean: Nanos,
    deviation: Nanos,
}

impl Estimate {
    fn of(first: Nanos) -> Self {
        Estimate { mean: first, deviation: first / 2 }
    }

    fn learn(&mut self, cost: Nanos) {
        let off = self.mean.abs_diff(cost);
        self.deviation = self.deviation - (self.deviation >> DEVIATION_SHIFT) + (off >> DEVIATION_SHIFT);
        self.mean = self.mean - (self.mean >> MEAN_SHIFT) + (cost >> MEAN_SHIFT);
    }

    fn cautious(&self) -> Nanos {
        self.mean.saturating_add(self.deviation)
    }
}

/// The costs of one VM's commands. What was not used for long is forgotten: a VM's kernels take bounded room.
#[derive(Debug, Default)]
pub struct Estimates {
    young: HashMap<Shape, Estimate>,
    old: HashMap<Shape, Estimate>,
    /// By kind alone: cost of 1024 threads or bytes.
    kinds: HashMap<u64, Estimate>,
}

impl Estimates {
    pub fn new() -> Self {
        Self::default()
    }

    /// What a command will probably not exceed, in nanoseconds. For a new size of a known kind, in proportion.
    pub fn predict(&self, shape: Shape) -> Nanos {
        let known = self.young.get(&shape).or_else(|| self.old.get(&shape));
        if let Some(estimate) = known {
            return estimate.cautious();
        }
        let kilo = u128::from(shape.size.div_ceil(1024).max(1));
        let by_kind = |estimate: &Estimate| u128::from(estimate.cautious()) * kilo;
        self.kinds.get(&shape.kind).map_or(UNKNOWN, |estimate| u64::try_from(by_kind(estimate)).unwrap_or(Nanos::MAX))
    }

    /// Whether such a command, or one of its kind, has been measured.
    pub fn knows(&self, shape: Shape) -> bool {
        self.young.contains_key(&shape) || self.old.contains_key(&shape) || self.kinds.contains_key(&shape.kind)
    }

    /// A command has cost so much.
    pub fn learn(&mut self, shape: Shape, cost: Nanos) {
        let known = self.young.get(&shape).or_else(|| self.old.get(&shape)).copied();
        let mut estimate = known.unwrap_or(Estimate::of(cost));
        estimate.learn(cost);
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(shape, estimate);
        if self.kinds.len() >= REMEMBERED {
            self.kinds.clear();
        }
        let each = cost / shape.size.div_ceil(1024).max(1);
        self.kinds.entry(shape.kind).or_insert(Estimate::of(each)).learn(each);
    }

    /// Commands that ran one after the other, so many of each shape, have cost so much together. What that differs from what was
    /// expected is divided by how much of the sum each shape was, squared: so slices of different mixtures tell shapes apart, and a
    /// long command's noise is not taken for a short one's cost (a Kalman filter's step, with errors in proportion to the costs).
    pub fn learn_together(&mut self, commands: &[(Shape, u32)], cost: Nanos) {
        let expected: Vec<f64> = commands.iter().map(|(shape, _)| self.mean(*shape).max(1) as f64).collect();
        let parts = || commands.iter().zip(&expected).map(|((_, count), each)| f64::from(*count) * each);
        let off = cost as f64 - parts().sum::<f64>();
        let squares: f64 = parts().map(|part| part * part).sum();
        for ((shape, count), each) in commands.iter().zip(&expected).filter(|((_, count), _)| *count > 0) {
            let own = each + off * each * each * f64::from(*count) / squares;
            // It was not less than nothing, and a cast to an integer saturates.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            self.learn(*shape, own.max(0.0) as Nanos);
        }
    }

    /// What a command has cost so far, without caution.
    fn mean(&self, shape: Shape) -> Nanos {
        let known = self.young.get(&shape).or_else(|| self.old.get(&shape));
        known.map_or_else(|| self.predict(shape), |estimate| estimate.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Shape = Shape { kind: 7, size: 1 << 20 };

    #[test]
    fn a_steady_cost_is_learned_and_a_change_is_followed() {
        let mut estimates = Estimates::new();
        (0..64).for_each(|_| estimates.learn(KERNEL, MS));
        let known = estimates.predict(KERNEL);
        assert!((MS * 99 / 100..MS * 11 / 10).contains(&known), "{known}");
        (0..64).for_each(|_| estimates.learn(KERNEL, 3 * MS));
        let changed = estimates.predict(KERNEL);
        assert!((MS * 29 / 10..MS * 33 / 10).contains(&changed), "{changed}");
    }

    #[test]
    fn a_new_size_is_judged_by_its_kind() {
        let mut estimates = Estimates::new();
        (0..64).for_each(|_| estimates.learn(KERNEL, MS));
        let double = estimates.predict(Shape { size: 2 << 20, ..KERNEL });
        assert!((MS * 19 / 10..MS * 23 / 10).contains(&double), "{double}");
        let unknown = Shape { kind: 8, size: 1 };
        assert_eq!((estimates.predict(unknown), estimates.knows(unknown)), (UNKNOWN, false));
    }

    #[test]
    fn parts_of_a_sum_find_their_own_costs() {
        let mut estimates = Estimates::new();
        let (short, long) = (Shape { kind: 1, size: 1024 }, Shape { kind: 2, size: 1024 });
        // Turns of different mixtures: only together do they tell the two apart.
        for turn in 0..400 {
            let shorts = 1 + turn % 4;
            let longs = 1 + turn % 3;
            let cost = u64::from(shorts) * MS / 10 + u64::from(longs) * MS;
            estimates.learn_together(&[(short, shorts), (long, longs)], cost);
        }
        let (short, long) = (estimates.predict(short), estimates.predict(long));
        assert!(long > 3 * short, "{short} {long}");
    }

    #[test]
    fn a_long_commands_noise_is_not_a_short_ones_cost() {
        let mut estimates = Estimates::new();
        let (short, long) = (Shape { kind: 1, size: 1024 }, Shape { kind: 2, size: 1024 });
        // As the gate has it: what nobody knows is measured by itself first.
        estimates.learn_together(&[(short, 1)], MS / 100);
        estimates.learn_together(&[(long, 1)], 50 * MS);
        for turn in 0..400 {
            // The long one takes 40 or 60 ms, the short ones 10 us each.
            let cost = MS + if turn % 2 == 0 { 40 * MS } else { 60 * MS };
            estimates.learn_together(&[(short, 100), (long, 1)], cost);
            estimates.learn_together(&[(short, 100)], MS);
        }
        let each = estimates.mean(short);
        assert!((MS / 125..MS / 80).contains(&each), "{each}");
        assert_eq!(estimates.predict(Shape { kind: 3, size: 0 }), UNKNOWN);
    }

    #[test]
    fn a_vm_with_ever_new_kernels_takes_bounded_room() {
        let mut estimates = Estimates::new();
        for kind in 0..100_000 {
            estimates.learn(Shape { kind, size: kind }, MS);
        }
        assert!(estimates.young.len() + estimates.old.len() <= 2 * REMEMBERED && estimates.kinds.len() <= REMEMBERED);
    }
}
