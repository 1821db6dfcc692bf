//! What an operator may set for a VM, and what is refused.

use crate::{MS, Nanos};

/// Thousandths of a GPU's time.
pub(crate) const WHOLE: u32 = 1000;

/// Who is let in sooner, for less at a time: of those whose share is due, a class goes before the next. So it gets its share
/// sooner, and no more than that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Priority {
    /// Short turns, soon.
    Interactive,
    #[default]
    Normal,
    /// Long turns, late: the fewest changes.
    Batch,
}

impl Priority {
    /// How long a turn is, in nanoseconds. A VM's deadline is a turn at its weight after its share is due.
    pub const fn quantum(self) -> Nanos {
        match self {
            Priority::Interactive => MS / 2,
            Priority::Normal => 2 * MS,
            Priority::Batch => 8 * MS,
        }
    }
}

/// How a GPU's time is shared, in operators' words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// By weight; what others leave is used.
    #[default]
    BestEffort,
    /// As much as every other VM of the GPU, and no more when they are idle.
    EqualShare,
    /// These thousandths, and no more.
    FixedShare(u32),
    /// At least these thousandths, and what others leave.
    BurstShare(u32),
}

/// What a VM may have of a GPU's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    weight: u32,
    minimum: u32,
    cap: u32,
    priority: Priority,
}

/// Settings that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingsError {
    /// Weights are from 1 to 10,000.
    #[error("weight {0}: must be from 1 to {max}", max = Settings::WEIGHT_MAX)]
    Weight(u32),
    /// A cap is from 1 to 1000 thousandths.
    #[error("cap of {}%: must be from 0.1% to 100%", percent(.0))]
    Cap(u32),
    /// A minimum is from 0 to 1000 thousandths.
    #[error("minimum of {}%: must be from 0% to 100%", percent(.0))]
    Minimum(u32),
    /// Nobody can be guaranteed more than the cap allows.
    #[error("minimum of {}% is above the cap of {}%", percent(minimum), percent(cap))]
    MinimumAboveCap { minimum: u32, cap: u32 },
    /// All guarantees of a GPU together must be possible.
    #[error("the minimums of the GPU's VMs add up to {}%", percent(.0))]
    MinimumsTogether(u32),
}

/// As operators write thousandths.
fn percent(thousandths: &u32) -> f64 {
    f64::from(*thousandths) / 10.0
}

impl Default for Settings {
    fn default() -> Self {
        Settings { weight: 100, minimum: 0, cap: WHOLE, priority: Priority::Normal }
    }
}

impl Settings {
    /// The greatest weight.
    pub const WEIGHT_MAX: u32 = 10_000;

    /// Settings with weight from 1 to 10,000, guaranteed `minimum` and hard `cap` in thousandths of the GPU's time.
    ///
    /// # Errors
    /// Names the value that is out of its range.
    pub fn new(weight: u32, minimum: u32, cap: u32, priority: Priority) -> Result<Self, SettingsError> {
        if !(1..=Self::WEIGHT_MAX).contains(&weight) {
            return Err(SettingsError::Weight(weight));
        }
        if !(1..=WHOLE).contains(&cap) {
            return Err(SettingsError::Cap(cap));
        }
        if minimum > WHOLE {
            return Err(SettingsError::Minimum(minimum));
        }
        if minimum > cap {
            return Err(SettingsError::MinimumAboveCap { minimum, cap });
        }
        Ok(Settings { weight, minimum, cap, priority })
    }

    /// The settings that a mode means where `vms` share the GPU, the one in question included.
    ///
    /// # Errors
    /// As `new`.
    pub fn of_mode(mode: Mode, weight: u32, priority: Priority, vms: u32) -> Result<Self, SettingsError> {
        match mode {
            Mode::BestEffort => Self::new(weight, 0, WHOLE, priority),
            Mode::EqualShare => {
                let share = (WHOLE / vms.max(1)).max(1);
                Self::new(weight, share, share, priority)
            }
            Mode::FixedShare(share) => Self::new(weight, share, share, priority),
            Mode::BurstShare(share) => Self::new(weight, share, WHOLE, priority),
        }
    }

    /// By which time beyond guarantees is shared.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Guaranteed thousandths.
    pub fn minimum(&self) -> u32 {
        self.minimum
    }

    /// Thousandths never exceeded; 1000 for no cap.
    pub fn cap(&self) -> u32 {
        self.cap
    }

    /// How soon and how long at a time.
    pub fn priority(&self) -> Priority {
        self.priority
    }
}

/// The guarantees given on one GPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Minimums(u32);

impl Minimums {
    /// Replaces one VM's guarantee by another; 0 for none before, or none from now on.
    ///
    /// # Errors
    /// If all together would be more than the GPU.
    pub fn replace(&mut self, old: u32, new: u32) -> Result<(), SettingsError> {
        let sum = self.0.saturating_sub(old).saturating_add(new);
        if sum > WHOLE {
            return Err(SettingsError::MinimumsTogether(sum));
        }
        self.0 = sum;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let new = |weight, minimum, cap| Settings::new(weight, minimum, cap, Priority::Normal).map(|_| ());
        assert_eq!(new(0, 0, 1000), Err(SettingsError::Weight(0)));
        assert_eq!(new(10_001, 0, 1000), Err(SettingsError::Weight(10_001)));
        assert_eq!(new(1, 0, 0), Err(SettingsError::Cap(0)));
        assert_eq!(new(1, 1001, 1000), Err(SettingsError::Minimum(1001)));
        assert_eq!(new(1, 300, 200), Err(SettingsError::MinimumAboveCap { minimum: 300, cap: 200 }));
        assert_eq!(new(1, 300, 300), Ok(()));
        let said = SettingsError::MinimumAboveCap { minimum: 300, cap: 200 }.to_string();
        assert_eq!(said, "minimum of 30% is above the cap of 20%");
    }

    #[test]
    fn a_mode_is_a_minimum_and_a_cap() {
        let of = |mode| Settings::of_mode(mode, 100, Priority::Normal, 3).map(|set| (set.minimum(), set.cap()));
        assert_eq!(of(Mode::BestEffort), Ok((0, 1000)));
        assert_eq!(of(Mode::EqualShare), Ok((333, 333)));
        assert_eq!(of(Mode::FixedShare(250)), Ok((250, 250)));
        assert_eq!(of(Mode::BurstShare(250)), Ok((250, 1000)));
    }

    #[test]
    fn guarantees_beyond_the_gpu_are_refused_and_change_nothing() {
        let mut minimums = Minimums::default();
        minimums.replace(0, 600).unwrap();
        assert_eq!(minimums.replace(0, 500), Err(SettingsError::MinimumsTogether(1100)));
        minimums.replace(0, 400).unwrap();
        minimums.replace(600, 100).unwrap();
        minimums.replace(0, 500).unwrap();
    }
}
