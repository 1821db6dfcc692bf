//! What is set for a VM: on the back end's command line, in paravaned's file,
//! or live. Every setting may be absent; the next one down then counts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use paravane_scheduler as scheduler;
use serde::{Deserialize, Serialize};

use crate::devices::{Device, Multiprocessors};

/// Percent, to a tenth: 12.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Percent(u32);

impl Percent {
    /// Thousandths of the whole.
    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// From thousandths, 1000 at most.
    pub fn of_thousandths(thousandths: u32) -> Self {
        Self(thousandths.min(1000))
    }
}

impl TryFrom<f64> for Percent {
    type Error = String;

    fn try_from(percent: f64) -> Result<Self, String> {
        let thousandths = (0..=1000_u32).find(|n| (f64::from(*n) - percent * 10.0).abs() < 0.01);
        thousandths.map(Self).ok_or_else(|| format!("{percent}: must be percent from 0 to 100, to a tenth"))
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> f64 {
        f64::from(percent.0) / 10.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim_end_matches('%').parse::<f64>();
        number.map_err(|_| format!("{text:?}: must be percent from 0 to 100, to a tenth")).and_then(Self::try_from)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{}%", f64::from(*self))
    }
}

/// Bytes: a number, or "512M", "8G" and the like, in powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Spelled", into = "u64")]
pub struct Bytes(pub u64);

/// As a file or a packet spells bytes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelled {
    Number(u64),
    Text(String),
}

impl TryFrom<Spelled> for Bytes {
    type Error = String;

    fn try_from(spelled: Spelled) -> Result<Self, String> {
        match spelled {
            Spelled::Number(bytes) => Ok(Self(bytes)),
            Spelled::Text(text) => text.parse(),
        }
    }
}

impl From<Bytes> for u64 {
    fn from(bytes: Bytes) -> u64 {
        bytes.0
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: must be bytes, or a number with K, M, G or T");
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let shift = match text.get(digits.len()..).map(str::to_ascii_uppercase).as_deref() {
            Some("" | "B") => 0,
            Some("K" | "KIB") => 10,
            Some("M" | "MIB") => 20,
            Some("G" | "GIB") => 30,
            Some("T" | "TIB") => 40,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

/// How long a kernel may run: seconds, to a millisecond; 0.1 at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct KernelLimit(u64);

impl KernelLimit {
    /// The same, for a clock.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl TryFrom<f64> for KernelLimit {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, String> {
        let limit = Duration::try_from_secs_f64(seconds).ok().filter(|_| (0.1..=86_400.0).contains(&seconds));
        let ms = limit.and_then(|limit| u64::try_from(limit.as_millis()).ok());
        ms.map(Self).ok_or_else(|| format!("{seconds}: must be seconds from 0.1 to 86400"))
    }
}

impl From<KernelLimit> for f64 {
    fn from(limit: KernelLimit) -> f64 {
        limit.duration().as_secs_f64()
    }
}

impl FromStr for KernelLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim_end_matches('s').parse::<f64>();
        number.map_err(|error| format!("{text:?}: {error}")).and_then(Self::try_from)
    }
}

/// Who is let in sooner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Short turns, soon
    Interactive,
    /// Between the two
    #[default]
    Normal,
    /// Long turns, late
    Batch,
}

/// How a GPU's time is shared, in operators' words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// By weight, minimum and cap; what others leave is used
    #[default]
    BestEffort,
    /// As much as every other VM of the GPU, and no more
    EqualShare,
    /// The cap, guaranteed
    FixedShare,
    /// The minimum, and what others leave
    BurstShare,
}

/// The settings, as far as they are set: on a command line, in a file, live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Weight by which the time beyond guarantees is shared, 1 to 10000 [default: 100]
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Guaranteed part of the GPU's time
    #[arg(long, value_name = "PERCENT")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Percent>,
    /// Part of the GPU's time that is never exceeded
    #[arg(long, value_name = "PERCENT")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Percent>,
    /// Who is let in sooner, for less at a time [default: normal]
    #[arg(long, value_enum)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// How the time is shared [default: best-effort]
    #[arg(long, value_enum)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The most device memory, pinned host memory included [default: no limit]
    #[arg(long, value_name = "BYTES[K|M|G|T]")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_quota: Option<Bytes>,
    /// How long one kernel may run; its process ends when it runs longer [default: no limit]
    #[arg(long, value_name = "SECONDS")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_limit: Option<KernelLimit>,
    /// How many of the device's multiprocessors kernels may use [default: all]
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms: Option<u32>,
    /// Host memory that the VM's device memory may lie in, while other VMs have the device's [default: none]
    #[arg(long, value_name = "BYTES[K|M|G|T]")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Bytes>,
}

/// Settings that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// The scheduler refuses them.
    #[error(transparent)]
    Scheduler(#[from] scheduler::SettingsError),
    /// A mode without the number that it is about.
    #[error("mode {0} needs {1}")]
    Lacks(&'static str, &'static str),
    /// The device's driver cannot divide its multiprocessors.
    #[error("sms = {0}: the driver of {1} has no green contexts, which CUDA 12.4 has brought")]
    Indivisible(u32, String),
    /// Not as it can divide them.
    #[error("sms = {0}: must be from {least} to {count} on {1}, a multiple of {step}", least = .2.least, count = .2.count, step = .2.step)]
    NoPart(u32, String, Multiprocessors),
}

impl Wanted {
    /// What `over` sets, else what is set here.
    pub fn under(&self, over: &Self) -> Self {
        Self {
            weight: over.weight.or(self.weight),
            minimum: over.minimum.or(self.minimum),
            cap: over.cap.or(self.cap),
            priority: over.priority.or(self.priority),
            mode: over.mode.or(self.mode),
            memory_quota: over.memory_quota.or(self.memory_quota),
            kernel_limit: over.kernel_limit.or(self.kernel_limit),
            sms: over.sms.or(self.sms),
            swap: over.swap.or(self.swap),
        }
    }

    /// What is set here and not there.
    pub fn without(&self, there: &Self) -> Self {
        fn only<T: Copy>(here: Option<T>, there: Option<T>) -> Option<T> {
            if there.is_some() { None } else { here }
        }
        Self {
            weight: only(self.weight, there.weight),
            minimum: only(self.minimum, there.minimum),
            cap: only(self.cap, there.cap),
            priority: only(self.priority, there.priority),
            mode: only(self.mode, there.mode),
            memory_quota: only(self.memory_quota, there.memory_quota),
            kernel_limit: only(self.kernel_limit, there.kernel_limit),
            sms: only(self.sms, there.sms),
            swap: only(self.swap, there.swap),
        }
    }

    /// Whether a device can give what is wanted.
    ///
    /// # Errors
    /// Says what it can give.
    pub fn check(&self, device: &Device) -> Result<(), WantedError> {
        let Some(sms) = self.sms else { return Ok(()) };
        let part = device.multiprocessors.ok_or_else(|| WantedError::Indivisible(sms, device.name.clone()))?;
        part.has(sms).then_some(()).ok_or_else(|| WantedError::NoPart(sms, device.name.clone(), part))
    }

    /// For the scheduler, where `vms` VMs share the GPU, this one included.
    ///
    /// # Errors
    /// Names what is out of its range or missing.
    pub fn settings(&self, vms: u32) -> Result<scheduler::Settings, WantedError> {
        let weight = self.weight.unwrap_or_else(|| scheduler::Settings::default().weight());
        let priority = match self.priority.unwrap_or_default() {
            Priority::Interactive => scheduler::Priority::Interactive,
            Priority::Normal => scheduler::Priority::Normal,
            Priority::Batch => scheduler::Priority::Batch,
        };
        let part = |part: Option<Percent>| part.map(Percent::thousandths);
        let mode = match self.mode.unwrap_or_default() {
            Mode::BestEffort => {
                let (minimum, cap) = (part(self.minimum).unwrap_or(0), part(self.cap).unwrap_or(1000));
                return Ok(scheduler::Settings::new(weight, minimum, cap, priority)?);
            }
            Mode::EqualShare => scheduler::Mode::EqualShare,
            Mode::FixedShare => {
                let share = part(self.cap).ok_or(WantedError::Lacks("fixed-share", "cap"))?;
                scheduler::Mode::FixedShare(share)
            }
            Mode::BurstShare => {
                let share = part(self.minimum).ok_or(WantedError::Lacks("burst-share", "minimum"))?;
                scheduler::Mode::BurstShare(share)
            }
        };
        Ok(scheduler::Settings::of_mode(mode, weight, priority, vms)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Wanted, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_set_above_counts() {
        let below = parse(r#"{"weight": 5, "cap": 50}"#).unwrap();
        let above = parse(r#"{"cap": 12.5, "priority": "batch", "memory_quota": "2G"}"#).unwrap();
        let both = below.under(&above);
        assert_eq!((both.weight, both.cap), (Some(5), Some(Percent(125))));
        assert_eq!(both.memory_quota, Some(Bytes(2 << 30)));
        assert_eq!(both.without(&above), below.without(&above));
        assert_eq!(both.without(&above).weight, Some(5));
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(parse(&text).unwrap(), both, "{text}");
        let settings = both.settings(1).unwrap();
        assert_eq!((settings.weight(), settings.cap(), settings.minimum()), (5, 125, 0));
    }

    #[test]
    fn modes_are_about_a_number() {
        let of = |json| parse(json).unwrap().settings(4).map(|set| (set.minimum(), set.cap()));
        assert_eq!(of(r#"{"mode": "fixed-share", "cap": 25}"#), Ok((250, 250)));
        assert_eq!(of(r#"{"mode": "burst-share", "minimum": 25}"#), Ok((250, 1000)));
        assert_eq!(of(r#"{"mode": "equal-share"}"#), Ok((250, 250)));
        let lacks = of(r#"{"mode": "fixed-share"}"#).unwrap_err().to_string();
        assert_eq!(lacks, "mode fixed-share needs cap");
        assert!(of(r#"{"minimum": 50, "cap": 40}"#).is_err());
    }

    #[test]
    fn multiprocessors_are_given_as_the_device_can_divide_them() {
        let wanted = |sms| Wanted { sms: Some(sms), ..Wanted::default() };
        let mut device = Device { name: "G".into(), ..Device::default() };
        assert!(Wanted::default().check(&device).is_ok());
        let why = wanted(8).check(&device).unwrap_err().to_string();
        assert_eq!(why, "sms = 8: the driver of G has no green contexts, which CUDA 12.4 has brought");
        device.multiprocessors = Some(Multiprocessors { count: 130, least: 8, step: 8 });
        let of = |sms| wanted(sms).check(&device).is_ok();
        assert_eq!([0, 4, 8, 12, 128, 130, 136].map(of), [false, false, true, false, true, true, false]);
        let why = wanted(12).check(&device).unwrap_err().to_string();
        assert_eq!(why, "sms = 12: must be from 8 to 130 on G, a multiple of 8");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for wrong in [r#"{"cap": 101}"#, r#"{"cap": 1.23}"#, r#"{"cap": -1}"#, r#"{"caps": 1}"#] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "-1", "0.01", "nan", "inf", "1e9", "x"] {
            assert!(wrong.parse::<KernelLimit>().is_err(), "{wrong}");
        }
        assert_eq!("2.5s".parse().map(KernelLimit::duration), Ok(Duration::from_millis(2500)));
        for wrong in ["", "G", "1X", "-1", "1.5G", "99999999T"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
        assert_eq!("64".parse(), Ok(Bytes(64)));
        assert_eq!("512MiB".parse(), Ok(Bytes(512 << 20)));
        assert_eq!("33.3%".parse(), Ok(Percent(333)));
    }
}
