//! The back end's parts. `main.rs` starts them; a worker is the same
//! executable in another process (`worker/`).
#![deny(unsafe_code)]

pub mod account;
pub mod backing;
pub mod budget;
pub mod capset;
pub mod channel;
pub mod channels;
pub mod command;
pub mod config;
pub mod connection;
pub mod context;
pub mod control;
pub mod device;
mod display;
pub mod devices;
pub mod edid;
pub mod events;
pub mod exchange;
pub mod fault_log;
pub mod fence;
pub mod gl;
pub mod host;
pub mod lease;
pub mod libcuda;
pub mod logging;
pub mod memory;
pub mod options;
pub mod packet;
pub mod page;
pub mod pixels;
pub mod process;
pub mod queue;
pub mod register;
pub mod relay;
#[cfg(feature = "gl")]
pub mod renderer;
pub mod resource;
pub mod response;
mod sandbox;
pub mod scanout;
pub mod screen;
pub mod serve;
pub mod sigbus;
pub mod turn;
mod unbooked;
pub mod usage;
pub mod visible;
pub mod worker;
pub mod worker_link;
pub mod worker_process;
