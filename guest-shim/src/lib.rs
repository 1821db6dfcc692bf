//! `libcuda.so.1` for guests. A program's CUDA calls arrive at the exports
//! made here from the API table; they are answered in the guest (`local`), or
//! sent through the calling thread's ring (`remote`) to the worker that makes
//! them on the host's libcuda. Nothing here panics, prints or exits inside
//! somebody's program: see `boundary`.
#![deny(unsafe_code)]
#![allow(non_snake_case, reason = "CUDA's names")]

mod boundary;
mod connection;
mod custom;
mod export;
mod handles;
mod journal;
mod local;
mod memory;
mod nvml;
mod output;
mod pointer;
mod remote;
mod state;
mod wrap;
