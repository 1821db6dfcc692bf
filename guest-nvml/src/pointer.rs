//! Reading and writing the program's memory at the C boundary. NVML's
//! prototypes promise that a pointer other than NULL is good for its type and
//! length; NULL is NVML_ERROR_INVALID_ARGUMENT.
#![allow(unsafe_code, reason = "the program's pointers")]

use std::ffi::{CStr, c_char};

use paravane_protocol::nvml_types::*;

use crate::boundary::Answer;

/// Refuses NULL.
pub(crate) fn check<T>(pointer: *const T) -> Answer {
    if pointer.is_null() { Err(NVML_ERROR_INVALID_ARGUMENT) } else { Ok(()) }
}

/// Writes a result.
pub(crate) fn put<T>(into: *mut T, value: T) -> Answer {
    check(into)?;
    // SAFETY: not NULL, so by NVML's prototype writable for a T; nothing
    // promises alignment.
    unsafe { into.write_unaligned(value) };
    Ok(())
}

/// Reads a value.
pub(crate) fn get<T: Copy>(from: *const T) -> Answer<T> {
    check(from)?;
    // SAFETY: not NULL, so by NVML's prototype readable for a T.
    Ok(unsafe { from.read_unaligned() })
}

/// Element `index` of an array that the program says is long enough.
pub(crate) fn put_element<T>(into: *mut T, index: usize, value: T) -> Answer {
    check(into)?;
    put(into.wrapping_add(index), value)
}

/// The program's bytes, for immediate use only.
pub(crate) fn bytes<'a>(from: *const u8, len: usize) -> Answer<&'a [u8]> {
    check(from)?;
    // SAFETY: not NULL, so by NVML's prototype readable for `len` bytes, which
    // the program does not change during the call.
    Ok(unsafe { std::slice::from_raw_parts(from, len) })
}

/// Writes bytes into the program's room of at least as many.
pub(crate) fn put_bytes(into: *mut u8, bytes: &[u8]) -> Answer {
    check(into)?;
    // SAFETY: not NULL, so by NVML's prototype writable for as many bytes.
    unsafe { std::ptr::copy(bytes.as_ptr(), into, bytes.len()) };
    Ok(())
}

/// Writes text and its NUL into a buffer of `len` bytes;
/// NVML_ERROR_INSUFFICIENT_SIZE where it does not fit.
pub(crate) fn put_text(into: *mut c_char, len: u32, text: &[u8]) -> Answer {
    check(into)?;
    if text.len() >= len as usize {
        return Err(NVML_ERROR_INSUFFICIENT_SIZE);
    }
    put_bytes(into.cast(), text)?;
    put_element(into, text.len(), 0)
}

/// The program's string.
pub(crate) fn text<'a>(from: *const c_char) -> Answer<&'a str> {
    check(from)?;
    // SAFETY: not NULL, so by NVML's prototype a string with its NUL.
    let text = unsafe { CStr::from_ptr(from) };
    text.to_str().map_err(|_| NVML_ERROR_INVALID_ARGUMENT)
}
