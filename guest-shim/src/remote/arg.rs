//! The directions of the table on the guest's side: what is checked before a
//! call is sent, what is written into its frame, what is read from its reply,
//! and what happens to ids when it has ended.

use paravane_protocol::arg::*;
use paravane_protocol::codec::{Decoder, Encoder};
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::NAME_BYTES_MAX;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::boundary::Answer;
use crate::{handles, pointer, state};

/// A direction as the shim sends it. `count` is the length in brackets in the
/// table's row, 1 where there is none.
pub(crate) trait SendArg: Arg {
    /// Writes the argument, or refuses it.
    fn encode(value: &Self::C, count: usize, to: &mut Encoder) -> Answer;
    /// Reads the argument's result.
    fn decode(_value: &Self::C, _count: usize, _from: &mut Decoder) -> Answer {
        Ok(())
    }
    /// The call has ended: with success or not.
    fn settle(_value: &Self::C, _succeeded: bool) {}
}

impl<T: Word> SendArg for In<T> {
    #[inline]
    fn encode(value: &T, _: usize, to: &mut Encoder) -> Answer {
        to.word(value.to_word());
        Ok(())
    }
}

impl SendArg for On<CUstream> {
    #[inline]
    fn encode(value: &CUstream, _: usize, to: &mut Encoder) -> Answer {
        let stream = state::stream::resolve(*value);
        state::stream::mark_busy(stream);
        to.word(stream.0);
        Ok(())
    }
}

impl SendArg for Of<CUstream> {
    #[inline]
    fn encode(value: &CUstream, _: usize, to: &mut Encoder) -> Answer {
        to.word(state::stream::resolve(*value).0);
        Ok(())
    }
}

fn must_be_there<T>(pointer: *const T) -> Answer {
    if pointer.is_null() { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
}

impl<T: Word> SendArg for Out<T> {
    fn encode(value: &*mut T, _: usize, _: &mut Encoder) -> Answer {
        must_be_there(*value)
    }
    fn decode(value: &*mut T, _: usize, from: &mut Decoder) -> Answer {
        pointer::put(*value, T::from_word(from.word()))
    }
}

impl<T: Word> SendArg for OutOpt<T> {
    /// One word tells whether the result is wanted.
    fn encode(value: &*mut T, _: usize, to: &mut Encoder) -> Answer {
        to.word(u64::from(!value.is_null()));
        Ok(())
    }
    fn decode(value: &*mut T, _: usize, from: &mut Decoder) -> Answer {
        pointer::put_opt(*value, T::from_word(from.word()));
        Ok(())
    }
}

impl<T: Word> SendArg for InOut<T> {
    fn encode(value: &*mut T, _: usize, to: &mut Encoder) -> Answer {
        to.word(pointer::get(*value)?.to_word());
        Ok(())
    }
    fn decode(value: &*mut T, _: usize, from: &mut Decoder) -> Answer {
        pointer::put(*value, T::from_word(from.word()))
    }
}

impl<T: IntoBytes + Immutable> SendArg for InSlice<T> {
    fn encode(value: &*const T, count: usize, to: &mut Encoder) -> Answer {
        let len = count.checked_mul(size_of::<T>()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        to.bytes(pointer::bytes(value.cast(), len)?);
        Ok(())
    }
}

impl<T: FromBytes> SendArg for OutSlice<T> {
    fn encode(value: &*mut T, count: usize, to: &mut Encoder) -> Answer {
        must_be_there(*value)?;
        to.word(count as u64);
        Ok(())
    }
    fn decode(value: &*mut T, count: usize, from: &mut Decoder) -> Answer {
        let reply = from.bytes();
        let room = pointer::bytes_mut(value.cast(), count * size_of::<T>())?;
        let taken = reply.len().min(room.len());
        room[..taken].copy_from_slice(&reply[..taken]);
        Ok(())
    }
}

impl<T: IntoBytes + FromBytes + Immutable> SendArg for InOutSlice<T> {
    fn encode(value: &*mut T, count: usize, to: &mut Encoder) -> Answer {
        <InSlice<T> as SendArg>::encode(&value.cast_const(), count, to)
    }
    fn decode(value: &*mut T, count: usize, from: &mut Decoder) -> Answer {
        <OutSlice<T> as SendArg>::decode(value, count, from)
    }
}

impl SendArg for InStr {
    fn encode(value: &Self::C, _: usize, to: &mut Encoder) -> Answer {
        let text = pointer::string(*value)?.to_bytes_with_nul();
        if text.len() > NAME_BYTES_MAX {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        to.bytes(text);
        Ok(())
    }
}

impl<H: Handle + Word> SendArg for New<H> {
    fn encode(value: &*mut H, _: usize, to: &mut Encoder) -> Answer {
        must_be_there(*value)?;
        let id: H = handles::mint()?;
        pointer::put(*value, id)?;
        to.word(id.to_word());
        Ok(())
    }
    fn settle(value: &*mut H, succeeded: bool) {
        if !succeeded && let Ok(id) = pointer::get(*value) {
            handles::release(id);
            pointer::put_opt(*value, H::from_number(0));
        }
    }
}

impl<H: Handle + Word> SendArg for Del<H> {
    fn encode(value: &H, _: usize, to: &mut Encoder) -> Answer {
        if !handles::is::<H>(value.number()) {
            return Err(CUDA_ERROR_INVALID_HANDLE);
        }
        to.word(value.to_word());
        Ok(())
    }
    fn settle(value: &H, succeeded: bool) {
        if succeeded {
            handles::release(*value);
        }
    }
}
