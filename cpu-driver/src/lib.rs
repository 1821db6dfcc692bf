//! libcuda in software: the exports of the API table, executed on the CPU. `api` answers the calls;
//! `module` turns PTX (`ptx`, `decode`) into functions; `stream` orders work and hands launches to
//! the executor, whose threads run them in `exec` over the memory that `memory` maps.
#![deny(unsafe_code)]

pub mod api;
pub mod capture;
pub mod context;
pub mod decode;
pub mod device;
pub mod exec;
pub mod graph;
pub mod memory;
pub mod module;
pub mod objects;
pub mod peers;
pub mod ptx;
pub mod registry;
pub mod report;
pub mod stream;
pub mod transfer;
