//! The back end's parts. `main.rs` starts them; a worker is the same
//! executable in another process (`worker/`).
#![deny(unsafe_code)]

pub mod account;
pub mod control;
pub mod worker;
