//! The log of failed calls, which every export writes as it returns.

use super::{Answer, give, give_optional};
use paravane_lookup::error_log;
use paravane_protocol::cuda_types::*;
use std::ffi::{CStr, c_char, c_void};

pub unsafe fn cuLogsRegisterCallback(
    callbackFunc: CUlogsCallback,
    userData: *mut c_void,
    callback_out: *mut CUlogsCallbackHandle,
) -> Answer {
    give_optional(callback_out, error_log::register(callbackFunc, userData)?);
    Ok(())
}

pub unsafe fn cuLogsUnregisterCallback(callback: CUlogsCallbackHandle) -> Answer {
    error_log::unregister(callback)
}

pub unsafe fn cuLogsCurrent(iterator_out: *mut u32, flags: u32) -> Answer {
    give(iterator_out, error_log::current(flags)?)
}

/// An iterator, if there is one.
fn from(iterator: *mut u32) -> Option<u32> {
    // SAFETY: NULL, or the caller's iterator.
    unsafe { iterator.as_ref() }.copied()
}

pub unsafe fn cuLogsDumpToFile(iterator: *mut u32, pathToFile: *const c_char, flags: u32) -> Answer {
    if pathToFile.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a C string.
    let path = unsafe { CStr::from_ptr(pathToFile) };
    give_optional(iterator, error_log::dump_to_file(from(iterator), path, flags)?);
    Ok(())
}

pub unsafe fn cuLogsDumpToMemory(iterator: *mut u32, buffer: *mut u8, size: *mut usize, flags: u32) -> Answer {
    if buffer.is_null() || size.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not NULL, so the caller's.
    let room = unsafe { size.replace(0) }.checked_sub(1).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let (mut text, next) = error_log::dump(from(iterator), room, flags)?;
    let length = text.len();
    text.push('\0');
    // SAFETY: the caller gives one byte more than `room`, and so many the text has at most.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer, text.len()) };
    give_optional(iterator, next);
    give(size, length)
}
