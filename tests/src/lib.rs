//! What the tests share: the backend as a child process, and a guest that is
//! its own virtio driver.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod backend;
pub mod cuda;
pub mod daemon;
pub mod frontend;
pub mod gl;
pub mod guest;
pub mod nvml;
pub mod pause;
pub mod recording;
pub mod replay;
pub mod report;
pub mod spin;
pub mod steady;
pub mod window;
pub mod screen;
