//! Executes decoded PTX. A launch is a `Grid`; the executor's threads make a `Cta` each and run it;
//! a CTA runs its warps; a warp runs operations on 32 lanes at a time.
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "registers, shared and device memory are raw bytes that operations address by decoded offsets"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "hosts are 64-bit, lanes are numbered below 32, and PTX cuts values to their width"
)]

pub mod access;
pub mod address;
pub mod atomic;
pub mod barrier;
pub mod builtin;
pub mod call;
pub mod control;
pub mod cta;
pub mod fault;
pub mod float;
pub mod float8;
pub mod frame;
pub mod function;
pub mod grid;
pub mod lanes;
pub mod matrix;
pub mod mbarrier;
pub mod op;
pub mod surface;
pub mod sync;
pub mod texture;
pub mod warp;
