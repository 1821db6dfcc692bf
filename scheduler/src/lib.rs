//! Whose turn it is on a GPU. Everything here is a function of the time and of
//! what VMs have used: no clock, lock or I/O, so that a simulated day passes in
//! seconds in a test. Who owns a GPU tells the scheduler when a VM has work
//! (`ready`), when it has none (`idle`) and what it has used (`charge`), and asks
//! whom to let in (`next`); see `policy`.
//!
//! Shares come from three rules, in this order: nobody above the hard cap; whoever
//! is behind the guaranteed minimum; then by weight: of those who are not ahead of
//! their share, the first class, and in it the earliest virtual deadline (earliest eligible virtual
//! deadline first: Stoica and Abdel-Wahab, 1995; minimum and cap as in mClock:
//! Gulati, Merchant and Varman, OSDI 2010).
#![forbid(unsafe_code)]

mod account;
mod bucket;
mod estimate;
mod policy;
mod settings;

pub use estimate::{Estimates, Shape};
pub use policy::{Decision, Scheduler, Turn};
pub use settings::{Minimums, Mode, Priority, Settings, SettingsError};

/// A VM, by a number that its owner gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VmId(pub u32);

/// Nanoseconds: a length of time, or a moment since any fixed one.
pub type Nanos = u64;

/// Nanoseconds in a millisecond.
pub const MS: Nanos = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: Nanos = 1_000 * MS;
