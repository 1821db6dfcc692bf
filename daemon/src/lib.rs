//! paravaned's parts, and paravanectl's: one daemon per host that gives every VM its share of the GPU, keeps the
//! account of it, and shows both.
#![deny(unsafe_code)]

pub mod config;
pub mod counters;
pub mod events;
pub mod ledger;
