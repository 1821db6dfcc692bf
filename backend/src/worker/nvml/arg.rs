//! The directions of NVML's table on the host's side: how an argument is read
//! from a frame, handed to NVML, and its result written into the reply.

use std::ffi::{c_char, c_void};

use paravane_protocol::arg::*;
use paravane_protocol::codec::{Decoder, Encoder};
use paravane_protocol::cuda_types::Word;
use paravane_protocol::limits::{NVML_STRUCT_MAX, NVML_TEXT_MAX};
use paravane_protocol::nvml_arg::*;
use paravane_protocol::nvml_types::*;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::host_device;
use crate::worker::process::Process;

type Answer<T = ()> = Result<T, nvmlReturn_t>;

/// A direction as the worker sees it. Everything is read before anything runs.
pub(super) trait HostArg: Arg {
    /// What is read from the frame.
    type Slot;
    /// Reads the argument; what is wrong with it fails the decoder.
    fn take(from: &mut Decoder) -> Self::Slot;
    /// Finds what the argument stands for on the host.
    fn resolve(_slot: &mut Self::Slot, _process: &Process) -> Answer {
        Ok(())
    }
    /// The argument as NVML takes it; the slot outlives the call.
    fn c(slot: &mut Self::Slot) -> Self::C;
    /// Writes the result.
    fn finish(_slot: &Self::Slot, _to: &mut Encoder) {}
}

impl<T: Word> HostArg for In<T> {
    type Slot = T;
    fn take(from: &mut Decoder) -> T {
        T::from_word(from.word())
    }
    fn c(slot: &mut T) -> T {
        *slot
    }
}

impl HostArg for On<nvmlDevice_t> {
    /// The ordinal, then the host's handle.
    type Slot = (u64, nvmlDevice_t);
    fn take(from: &mut Decoder) -> Self::Slot {
        (from.word(), nvmlDevice_t(0))
    }
    fn resolve(slot: &mut Self::Slot, process: &Process) -> Answer {
        slot.1 = host_device(process, slot.0)?.1;
        Ok(())
    }
    fn c(slot: &mut Self::Slot) -> nvmlDevice_t {
        slot.1
    }
}

impl<T: FromZeros + IntoBytes + Immutable> HostArg for Out<T> {
    type Slot = T;
    fn take(_: &mut Decoder) -> T {
        T::new_zeroed()
    }
    fn c(slot: &mut T) -> *mut T {
        slot
    }
    fn finish(slot: &T, to: &mut Encoder) {
        to.bytes(slot.as_bytes());
    }
}

impl<T: FromBytes + IntoBytes + Immutable> HostArg for InOut<T> {
    type Slot = T;
    fn take(from: &mut Decoder) -> T {
        T::read_from_bytes(from.bytes()).unwrap_or_else(|_| {
            from.fail();
            T::new_zeroed()
        })
    }
    fn c(slot: &mut T) -> *mut T {
        slot
    }
    fn finish(slot: &T, to: &mut Encoder) {
        to.bytes(slot.as_bytes());
    }
}

/// The text's length in the frame is the buffer's; the length that NVML is told
/// is the argument behind it. So the room is always the longest.
impl HostArg for OutText {
    type Slot = Vec<u8>;
    fn take(from: &mut Decoder) -> Vec<u8> {
        let claimed = from.word();
        if claimed > u64::from(NVML_TEXT_MAX) {
            from.fail();
        }
        vec![0; NVML_TEXT_MAX as usize]
    }
    fn c(slot: &mut Vec<u8>) -> *mut c_char {
        slot.as_mut_ptr().cast()
    }
    fn finish(slot: &Vec<u8>, to: &mut Encoder) {
        to.bytes(slot.split(|byte| *byte == 0).next().unwrap_or_default());
    }
}

/// Bytes that NVML reads and writes: in words, so that every struct is aligned,
/// and with room for the longest.
pub(super) struct Room {
    words: Vec<u64>,
    bytes: usize,
}

impl Room {
    fn take(from: &mut Decoder) -> Self {
        let bytes = from.bytes();
        let mut words = vec![0_u64; NVML_STRUCT_MAX as usize / size_of::<u64>()];
        match words.as_mut_bytes().get_mut(..bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => from.fail(),
        }
        Self { words, bytes: bytes.len() }
    }

    fn told(&self) -> &[u8] {
        self.words.as_bytes().get(..self.bytes).unwrap_or_default()
    }
}

impl<const BYTES: usize> HostArg for Versioned<BYTES> {
    type Slot = Room;
    fn take(from: &mut Decoder) -> Room {
        let room = Room::take(from);
        // NVML goes by the version's size, so it must be the size that was sent.
        let version = room.told().first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        if (version & 0xff_ffff) as usize != room.bytes {
            from.fail();
        }
        room
    }
    fn c(slot: &mut Room) -> *mut c_void {
        slot.words.as_mut_ptr().cast()
    }
    fn finish(slot: &Room, to: &mut Encoder) {
        to.bytes(slot.told());
    }
}

/// The count is the argument before it; it is compared in `check`.
impl<T> HostArg for InOutSlice<T> {
    type Slot = Room;
    fn take(from: &mut Decoder) -> Room {
        Room::take(from)
    }
    fn c(slot: &mut Room) -> *mut T {
        slot.words.as_mut_ptr().cast()
    }
    fn finish(slot: &Room, to: &mut Encoder) {
        to.bytes(slot.told());
    }
}

/// What a length in brackets demands of its slot.
pub(super) trait Length {
    /// Whether NVML, told `count` elements, stays inside the slot.
    fn holds(&self, count: u64, element: usize) -> bool;
}

impl Length for Vec<u8> {
    fn holds(&self, count: u64, _: usize) -> bool {
        count <= self.len() as u64
    }
}

impl Length for Room {
    fn holds(&self, count: u64, element: usize) -> bool {
        count.checked_mul(element as u64) == Some(self.bytes as u64)
    }
}

/// Bytes of one element of what a length in brackets counts.
pub(super) trait Element {
    const BYTES: usize;
}
impl Element for OutText {
    const BYTES: usize = 1;
}
impl<T> Element for InOutSlice<T> {
    const BYTES: usize = size_of::<T>();
}
