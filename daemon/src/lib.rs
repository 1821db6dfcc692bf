//! paravaned's parts, and paravanectl's: one daemon per host that gives every VM its share of the GPU, keeps the
//! account of it, and shows both.
#![deny(unsafe_code)]

pub mod config;
pub mod control;
pub mod counters;
pub mod ctl;
pub mod events;
pub mod gpus;
pub mod history;
pub mod host;
pub mod ledger;
pub mod metrics;
pub mod peer;
pub mod registration;
pub mod stream;
pub mod view;
pub mod vm;
