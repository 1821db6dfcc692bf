//! What crosses the boundary between a guest and its host: the CUDA API table,
//! the types in it, how calls become bytes, the ring that carries them, the
//! channel's layout and virtio-gpu's structures. Both sides compile against
//! this crate; [`PROTOCOL_HASH`] tells at the handshake when they did not.
#![deny(missing_docs)]
#![allow(non_camel_case_types, reason = "CUDA's names")]

pub mod arg;
mod array_types;
pub mod channel;
pub mod codec;
pub mod cuda_api;
mod cuda_result;
pub mod cuda_types;
pub mod frame;
mod graph_nodes;
mod green_types;
pub mod internal;
pub mod limits;
pub mod managed;
mod memory_types;
pub mod nvml_api;
pub mod nvml_arg;
pub mod nvml_types;
pub mod opcode;
pub mod patience;
pub mod ring;
pub mod shared;
pub mod virtio_gpu;
pub mod visible;
pub mod vulkan;

/// Raised when bytes change their meaning without the table changing.
pub const PROTOCOL_VERSION: u32 = 1;

/// The CUDA version of the interface in the table (cuda.h's CUDA_VERSION).
pub const CUDA_VERSION: i32 = 13_050;

macro_rules! hash_rows {
    ($($rows:tt)*) => {
        /// FNV-1a over the tables' text, the layout and the version: equal only
        /// where both sides agree on every row and every bound.
        pub const PROTOCOL_HASH: u64 =
            fnv1a(stringify!($($rows)*).as_bytes(), NVML_HASH);
    };
}
cuda_api!(hash_rows);

macro_rules! hash_nvml {
    ($($rows:tt)*) => {
        const NVML_HASH: u64 = fnv1a(stringify!($($rows)*).as_bytes(), layout_hash());
    };
}
nvml_api!(hash_nvml);

/// The numbers that both sides must share, hashed together.
const fn layout_hash() -> u64 {
    const LAYOUT: [u64; 9] = [
        PROTOCOL_VERSION as u64,
        limits::RING_BYTES as u64,
        limits::FRAME_BYTES_MAX as u64,
        limits::REPLY_BYTES_MAX as u64,
        limits::RINGS_PER_AREA as u64,
        limits::STAGING_SLOT_BYTES as u64,
        limits::STAGING_SLOTS as u64,
        limits::DEVICE_ATTRIBUTE_MAX as u64,
        channel::RING_AREA_BYTES as u64,
    ];
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < LAYOUT.len() {
        hash = fnv1a(&LAYOUT[at].to_le_bytes(), hash);
        at += 1;
    }
    hash
}

const fn fnv1a(bytes: &[u8], mut hash: u64) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x100_0000_01b3);
        at += 1;
    }
    hash
}
