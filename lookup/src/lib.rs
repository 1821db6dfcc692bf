//! What programs look up in a libcuda: symbols for the CUDA version that they
//! were built for (cuGetProcAddress), and export tables (cuGetExportTable),
//! through which NVIDIA's runtime asks its driver library for what has no
//! symbol. The guest's shim and cpu-driver answer both alike, from here; what
//! only they know they tell through [`Libcuda`]. What else both keep alike is
//! here too: [`storage`], [`old_launch`], [`error_log`], [`attached`] and what
//! [`image`]s hold.
#![deny(missing_docs, unsafe_code)]

pub mod attached;
pub mod error_log;
mod handshake;
pub mod image;
mod libcuda;
mod md2;
pub mod old_launch;
pub mod storage;
mod symbols;
mod tables;

pub use libcuda::{Answer, Identity, Libcuda};
pub use symbols::{Look, Symbols};
pub use tables::export_table;
