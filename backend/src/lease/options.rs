//! The options that say what a VM may have of a GPU's time.

use clap::{Args, ValueEnum};
use paravane_scheduler::{Mode, Priority, Settings, SettingsError};

/// As on the command line, so in the configuration file.
#[derive(Clone, Debug, Args)]
pub struct ShareOptions {
    /// Share of the GPU's time beyond guarantees, relative to other VMs' weights: 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub weight: u32,

    /// Guaranteed share of the GPU's time
    #[arg(long, value_name = "PERCENT", value_parser = thousandths)]
    pub minimum: Option<u32>,

    /// Never more of the GPU's time than this
    #[arg(long, value_name = "PERCENT", value_parser = thousandths)]
    pub cap: Option<u32>,

    /// Who is let in sooner, for less at a time
    #[arg(long, value_enum, default_value_t = PriorityOption::Normal)]
    pub priority: PriorityOption,

    /// How weight, minimum and cap are meant
    #[arg(long, value_enum, default_value_t = ModeOption::BestEffort)]
    pub mode: ModeOption,
}

/// [`Priority`], on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PriorityOption {
    /// Short turns, soon
    Interactive,
    Normal,
    /// Long turns, late
    Batch,
}

/// [`Mode`], on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeOption {
    /// By weight, minimum and cap as given; what others leave is used
    BestEffort,
    /// As much as every other VM, and no more
    EqualShare,
    /// Exactly the cap
    FixedShare,
    /// At least the minimum, and what others leave
    BurstShare,
}

/// Options that do not fit each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// A mode lacks what it is about.
    #[error("--mode {0} needs --{1}")]
    Missing(&'static str, &'static str),
    /// The values cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// Percent with at most one digit behind the point, in thousandths.
fn thousandths(text: &str) -> Result<u32, String> {
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let value = match (digits(whole), digits(tenth) && tenth.len() == 1) {
        (true, true) => whole.parse::<u32>().ok().zip(tenth.parse::<u32>().ok()),
        _ => None,
    };
    let value = value.and_then(|(whole, tenth)| whole.checked_mul(10)?.checked_add(tenth));
    value
        .filter(|value| *value <= 1000)
        .ok_or_else(|| "a percentage from 0 to 100, as 25 or 12.5".to_string())
}

impl ShareOptions {
    /// The scheduler's settings, where `vms` share the GPU.
    ///
    /// # Errors
    /// If they cannot be.
    pub fn settings(&self, vms: u32) -> Result<Settings, ShareError> {
        let priority = match self.priority {
            PriorityOption::Interactive => Priority::Interactive,
            PriorityOption::Normal => Priority::Normal,
            PriorityOption::Batch => Priority::Batch,
        };
        let mode = match self.mode {
            ModeOption::BestEffort => {
                let (minimum, cap) = (self.minimum.unwrap_or(0), self.cap.unwrap_or(1000));
                return Ok(Settings::new(self.weight, minimum, cap, priority)?);
            }
            ModeOption::EqualShare => Mode::EqualShare,
            ModeOption::FixedShare => {
                Mode::FixedShare(self.cap.ok_or(ShareError::Missing("fixed-share", "cap"))?)
            }
            ModeOption::BurstShare => {
                Mode::BurstShare(self.minimum.ok_or(ShareError::Missing("burst-share", "minimum"))?)
            }
        };
        Ok(Settings::of_mode(mode, self.weight, priority, vms)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        share: ShareOptions,
    }

    fn parse(line: &str) -> Option<Result<Settings, ShareError>> {
        let words = std::iter::once("test").chain(line.split_whitespace());
        Some(Line::try_parse_from(words).ok()?.share.settings(4))
    }

    #[test]
    fn shares_are_said_in_percent() {
        let told = |line: &str| parse(line).unwrap().map(|set| (set.weight(), set.minimum(), set.cap()));
        assert_eq!(told(""), Ok((100, 0, 1000)));
        assert_eq!(told("--weight 3 --minimum 12.5 --cap 25"), Ok((3, 125, 250)));
        assert_eq!(told("--mode equal-share"), Ok((100, 250, 250)));
        assert_eq!(told("--mode fixed-share --cap 40"), Ok((100, 400, 400)));
        assert_eq!(told("--mode burst-share --minimum 40"), Ok((100, 400, 1000)));
        assert_eq!(told("--mode fixed-share"), Err(ShareError::Missing("fixed-share", "cap")));
        assert!(told("--minimum 30 --cap 20").is_err() && told("--weight 0").is_err());
    }

    #[test]
    fn what_is_no_percentage_is_refused() {
        for wrong in ["101", "x", "-1", "1.25", ".", "1.", "99999999999", "100.1", "+5"] {
            assert!(thousandths(wrong).is_err(), "{wrong}");
        }
        assert_eq!(thousandths("100.0"), Ok(1000));
    }
}
