//! Reading and writing the program's memory at the C boundary. CUDA's
//! prototypes promise that a non-NULL pointer is good for the argument's type
//! and length; only NULL can be told apart, and is.
#![allow(unsafe_code, reason = "the program's pointers")]

use std::ffi::{CStr, c_char};

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;

/// Writes a result; NULL is CUDA_ERROR_INVALID_VALUE.
#[inline]
pub(crate) fn put<T>(into: *mut T, value: T) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not NULL, and by CUDA's prototype writable for a T; unaligned
    // because nothing promises alignment.
    unsafe { into.write_unaligned(value) };
    Ok(())
}

/// Writes a result that the caller may decline by NULL.
#[inline]
pub(crate) fn put_opt<T>(into: *mut T, value: T) {
    let _ = put(into, value);
}

/// Reads a value; NULL is CUDA_ERROR_INVALID_VALUE.
#[inline]
pub(crate) fn get<T: Copy>(from: *const T) -> Answer<T> {
    if from.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not NULL, and by CUDA's prototype readable for a T.
    Ok(unsafe { from.read_unaligned() })
}

/// Element `index` of an array that the prototype says is long enough.
#[inline]
pub(crate) fn element<T: Copy>(from: *const T, index: usize) -> Answer<T> {
    get(from.wrapping_add(index))
}

/// The program's bytes; NULL with a length is CUDA_ERROR_INVALID_VALUE. The
/// slice is for immediate copying only.
#[inline]
pub(crate) fn bytes<'a>(from: *const u8, len: usize) -> Answer<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if from.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: by CUDA's prototype `len` bytes are readable; the program must
    // not change them during the call, as CUDA demands too.
    Ok(unsafe { std::slice::from_raw_parts(from, len) })
}

/// The program's bytes to be written.
#[inline]
pub(crate) fn bytes_mut<'a>(into: *mut u8, len: usize) -> Answer<&'a mut [u8]> {
    if len == 0 {
        return Ok(&mut []);
    }
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: by CUDA's prototype `len` bytes are writable and no other thread
    // uses them during the call.
    Ok(unsafe { std::slice::from_raw_parts_mut(into, len) })
}

/// The program's string without its NUL.
pub(crate) fn string<'a>(from: *const c_char) -> Answer<&'a CStr> {
    if from.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not NULL, and by CUDA's prototype NUL-terminated.
    Ok(unsafe { CStr::from_ptr(from) })
}

/// Writes a name into a buffer of `len` bytes, cut to fit, NUL-terminated.
pub(crate) fn put_string(into: *mut u8, len: i32, text: &[u8]) -> Answer {
    let room = usize::try_from(len).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    if room == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let into = bytes_mut(into, room)?;
    let taken = text.len().min(room - 1);
    into[..taken].copy_from_slice(&text[..taken]);
    into[taken] = 0;
    Ok(())
}
