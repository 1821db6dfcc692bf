//! `libnvidia-ml.so.1` for guests. A program's NVML calls arrive at the exports
//! made here from the table (`protocol/src/nvml_api.rs`). They are answered by
//! what the VM itself has and uses (`local`), or from the host's NVML
//! (`remote`). The host is reached through libcuda.so.1 of the same package
//! (`shim`), so a process has one connection, whichever library it uses.
#![deny(unsafe_code)]
#![allow(non_snake_case, reason = "NVML's names")]

mod boundary;
mod export;
mod local;
mod pointer;
mod remote;
mod shim;
