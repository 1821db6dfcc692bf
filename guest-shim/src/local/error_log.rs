//! The log of failed calls, which every export writes as it returns.

use std::ffi::c_char;

use paravane_lookup::error_log;
use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::pointer;

pub(crate) fn cuLogsRegisterCallback(
    callback: CUlogsCallback,
    data: Pointer,
    handle: *mut CUlogsCallbackHandle,
) -> Answer {
    pointer::put_opt(handle, error_log::register(callback, data)?);
    Ok(())
}

pub(crate) fn cuLogsUnregisterCallback(handle: CUlogsCallbackHandle) -> Answer {
    error_log::unregister(handle)
}

pub(crate) fn cuLogsCurrent(iterator: *mut u32, flags: u32) -> Answer {
    pointer::put(iterator, error_log::current(flags)?)
}

/// An iterator, if there is one.
fn from(iterator: *mut u32) -> Answer<Option<u32>> {
    if iterator.is_null() { Ok(None) } else { pointer::get(iterator).map(Some) }
}

pub(crate) fn cuLogsDumpToFile(iterator: *mut u32, path: *const c_char, flags: u32) -> Answer {
    let next = error_log::dump_to_file(from(iterator)?, pointer::string(path)?, flags)?;
    pointer::put_opt(iterator, next);
    Ok(())
}

pub(crate) fn cuLogsDumpToMemory(iterator: *mut u32, buffer: *mut u8, size: *mut usize, flags: u32) -> Answer {
    let room = pointer::get(size)?.checked_sub(1).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    pointer::put(size, 0)?;
    let (mut text, next) = error_log::dump(from(iterator)?, room, flags)?;
    let length = text.len();
    text.push('\0');
    pointer::bytes_mut(buffer, text.len())?.copy_from_slice(text.as_bytes());
    pointer::put_opt(iterator, next);
    pointer::put(size, length)
}
