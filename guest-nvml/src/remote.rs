//! Sending: how each direction of a `host` row's arguments becomes bytes, and
//! the functions made from the rows.

use paravane_protocol::arg::*;
use paravane_protocol::codec::{Decoder, Encoder};
use paravane_protocol::cuda_types::Word;
use paravane_protocol::limits::{NVML_STRUCT_MAX, NVML_TEXT_MAX};
use paravane_protocol::nvml_arg::*;
use paravane_protocol::nvml_types::*;
use zerocopy::{FromBytes, IntoBytes};

use crate::boundary::Answer;
use crate::{pointer, shim};

/// A direction as this library sends it. `count` is the length in brackets in
/// the table's row, 1 where there is none.
trait SendArg: Arg {
    /// Writes the argument, or refuses it.
    fn encode(value: &Self::C, count: usize, to: &mut Encoder) -> Answer;
    /// Reads the argument's result.
    fn decode(_value: &Self::C, _count: usize, _from: &mut Decoder) -> Answer {
        Ok(())
    }
}

impl<T: Word> SendArg for In<T> {
    fn encode(value: &T, _: usize, to: &mut Encoder) -> Answer {
        to.word(value.to_word());
        Ok(())
    }
}

impl SendArg for On<nvmlDevice_t> {
    fn encode(value: &nvmlDevice_t, _: usize, to: &mut Encoder) -> Answer {
        to.word(u64::from(shim::device(*value)?.0));
        Ok(())
    }
}

impl<T: FromBytes> SendArg for Out<T> {
    fn encode(value: &*mut T, _: usize, _: &mut Encoder) -> Answer {
        pointer::check(*value)
    }
    fn decode(value: &*mut T, _: usize, from: &mut Decoder) -> Answer {
        let result = T::read_from_bytes(from.bytes()).map_err(|_| NVML_ERROR_UNKNOWN)?;
        pointer::put(*value, result)
    }
}

/// `InOut` rows are `wrap`, which look at the struct's version and then read the
/// hardware's part; the whole struct goes out and comes back.
impl<T: FromBytes + IntoBytes + zerocopy::Immutable + Copy> SendArg for InOut<T> {
    fn encode(value: &*mut T, _: usize, to: &mut Encoder) -> Answer {
        to.bytes(pointer::get(*value)?.as_bytes());
        Ok(())
    }
    fn decode(value: &*mut T, count: usize, from: &mut Decoder) -> Answer {
        <Out<T> as SendArg>::decode(value, count, from)
    }
}

impl SendArg for OutText {
    fn encode(value: &Self::C, count: usize, to: &mut Encoder) -> Answer {
        pointer::check(*value)?;
        to.word((count as u64).min(u64::from(NVML_TEXT_MAX)));
        Ok(())
    }
    fn decode(value: &Self::C, count: usize, from: &mut Decoder) -> Answer {
        pointer::put_text(*value, u32::try_from(count).unwrap_or(u32::MAX), from.bytes())
    }
}

/// The low 24 bits of a version are the struct's size.
fn versioned_bytes(version: u32) -> Answer<usize> {
    let bytes = version & 0xff_ffff;
    let sound = (4..=NVML_STRUCT_MAX).contains(&bytes);
    if sound { Ok(bytes as usize) } else { Err(NVML_ERROR_ARGUMENT_VERSION_MISMATCH) }
}

impl<const BYTES: usize> SendArg for Versioned<BYTES> {
    fn encode(value: &Self::C, _: usize, to: &mut Encoder) -> Answer {
        let bytes = versioned_bytes(pointer::get(value.cast::<u32>().cast_const())?)?;
        to.bytes(pointer::bytes(value.cast::<u8>().cast_const(), bytes)?);
        Ok(())
    }
    fn decode(value: &Self::C, _: usize, from: &mut Decoder) -> Answer {
        let bytes = versioned_bytes(pointer::get(value.cast::<u32>().cast_const())?)?;
        let result = from.bytes();
        if result.len() != bytes {
            return Err(NVML_ERROR_UNKNOWN);
        }
        pointer::put_bytes(value.cast(), result)
    }
}

impl<T> SendArg for InOutSlice<T> {
    fn encode(value: &*mut T, count: usize, to: &mut Encoder) -> Answer {
        let bytes = count.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= NVML_STRUCT_MAX as usize);
        let bytes = bytes.ok_or(NVML_ERROR_INSUFFICIENT_SIZE)?;
        to.bytes(pointer::bytes(value.cast::<u8>().cast_const(), bytes)?);
        Ok(())
    }
    fn decode(value: &*mut T, count: usize, from: &mut Decoder) -> Answer {
        let result = from.bytes();
        if result.len() != count * size_of::<T>() {
            return Err(NVML_ERROR_UNKNOWN);
        }
        pointer::put_bytes(value.cast(), result)
    }
}

/// One sending function for every row that is `host` or `wrap`.
pub(crate) mod table {
    use paravane_protocol::internal::NVML_READ;

    use super::*;

    macro_rules! count {
        () => {
            1
        };
        ($len:expr) => {
            usize::try_from($len).map_err(|_| NVML_ERROR_INVALID_ARGUMENT)?
        };
    }

    macro_rules! sending {
        ($number:literal local $name:ident $arguments:tt) => {};
        ($number:literal wrap $name:ident $arguments:tt) => { sending! { $number host $name $arguments } };
        ($number:literal host $name:ident ($($arg:ident: $kind:ty $([$len:expr])?),*)) => {
            pub(crate) fn $name($($arg: <$kind as Arg>::C),*) -> Answer {
                shim::ask(
                    NVML_READ,
                    |to| {
                        to.word($number);
                        $(<$kind as SendArg>::encode(&$arg, count!($($len)?), to)?;)*
                        Ok(())
                    },
                    |from| {
                        nvmlReturn_t(u32::from_word(from.word())).ok()?;
                        $(<$kind as SendArg>::decode(&$arg, count!($($len)?), from)?;)*
                        Ok(())
                    },
                )
            }
        };
    }

    macro_rules! rows {
        ($($number:literal $verb:ident fn $name:ident $arguments:tt;)*) => {
            $(sending! { $number $verb $name $arguments })*
        };
    }
    paravane_protocol::nvml_api!(rows);
}
