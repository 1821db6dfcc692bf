//! A Vulkan layer for the processes of a render server, in which guests' Vulkan
//! runs. It asks the VM's renderer before each submit, which holds back what the VM's
//! lease does not allow, and tells it when a submit is over; and before each
//! allocation, which is of the VM's quota. Vulkan's loader finds it by the manifest
//! that lies beside it (`entry`, `device`); preloaded, it shuts the server in before
//! that (`start`). `protocol/src/vulkan.rs` has what it says to the renderer.
#![deny(unsafe_code, clippy::indexing_slicing)]

mod chain;
mod device;
mod entry;
mod fences;
mod lease;
mod memory;
mod registry;
mod start;
mod submit;

#[cfg(test)]
mod tests;
