//! The log of calls that failed (cuLogs*): messages in memory, the oldest of
//! which give way, and the program's callbacks.
#![allow(unsafe_code, reason = "callbacks are the program's")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use paravane_protocol::cuda_types::*;

use crate::Answer;

/// Bytes that the log may hold, as cuda.h has it.
const BYTES_MAX: usize = 25_600;
/// In front of messages of which older ones are missing.
const MISSING: &str = "[CUDA][W] older messages are not here any more\n";
/// CU_LOG_LEVEL_ERROR.
const LEVEL_ERROR: u32 = 0;

/// A registered callback with its data.
type Callback = (u64, CUlogsCallback, usize);

struct Log {
    /// The number of the oldest message.
    first: u32,
    messages: VecDeque<String>,
    bytes: usize,
    callbacks: Vec<Callback>,
    last_handle: u64,
}

static LOG: Mutex<Log> =
    Mutex::new(Log { first: 0, messages: VecDeque::new(), bytes: 0, callbacks: Vec::new(), last_handle: 0 });

thread_local! {
    /// Whether this thread runs a callback, whose failing calls are not told to callbacks again.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

fn log() -> MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// The number that the next message gets.
    fn next(&self) -> u32 {
        self.first.wrapping_add(u32::try_from(self.messages.len()).unwrap_or(0))
    }

    fn add(&mut self, message: String) {
        self.bytes += message.len();
        self.messages.push_back(message);
        while self.bytes > BYTES_MAX
            && let Some(oldest) = self.messages.pop_front()
        {
            self.bytes -= oldest.len();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// Messages from number `from` on, or all, in `room` bytes: the most recent,
    /// if not all fit. None where there are some and none fits.
    fn text(&self, from: Option<u32>, room: usize) -> Option<String> {
        let count = self.messages.len();
        // How far back the iterator is; it may be older than the oldest message.
        let back = from.map_or(count, |from| usize::try_from(self.next().wrapping_sub(from)).unwrap_or(0));
        let wanted = back.min(count);
        let recent = || self.messages.iter().rev().take(wanted);
        let whole: usize = recent().map(String::len).sum();
        let is_missing = back > count || (from.is_none() && self.first > 0);
        let head = if is_missing || whole > room { MISSING } else { "" };
        let mut left = room.checked_sub(head.len())?;
        let fits = |message: &&String| {
            let rest = left.checked_sub(message.len());
            left = rest.unwrap_or(left);
            rest.is_some()
        };
        let kept: Vec<&String> = recent().take_while(fits).collect();
        if kept.is_empty() {
            return (wanted == 0).then(String::new);
        }
        Some(kept.into_iter().rev().fold(head.to_owned(), |text, message| text + message))
    }
}

/// A call has failed. What is no failure is not noted: that work is not done.
#[cold]
pub fn note(call: &str, error: CUresult) {
    if error == CUDA_ERROR_NOT_READY || error == CUDA_SUCCESS {
        return;
    }
    let meaning = error.meaning().map(|text| text.to_string_lossy()).unwrap_or_default();
    let message = format!("[CUDA][E] {call} returned {error}: {meaning}\n");
    let mut log = log();
    let callbacks: Vec<Callback> = if TELLING.get() { Vec::new() } else { log.callbacks.clone() };
    log.add(message.clone());
    drop(log);
    let Ok(text) = CString::new(message.trim_end()) else { return };
    // A callback's own failing call comes here too, and must leave it set.
    let was_telling = TELLING.replace(true);
    for (_, callback, data) in callbacks {
        if let Some(function) = callback {
            let length = text.as_bytes().len();
            // SAFETY: the program gave the function with its data, and has not taken it back.
            unsafe { function(data as *mut c_void, LEVEL_ERROR, text.as_ptr().cast_mut(), length) };
        }
    }
    TELLING.set(was_telling);
}

/// cuLogsRegisterCallback: the callback's handle, never 0.
///
/// # Errors
/// CUDA_ERROR_INVALID_VALUE for NULL.
pub fn register(callback: CUlogsCallback, data: Pointer) -> Answer<CUlogsCallbackHandle> {
    if callback.is_none() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut log = log();
    log.last_handle += 1;
    let handle = log.last_handle;
    log.callbacks.push((handle, callback, data as usize));
    Ok(CUlogsCallbackHandle(handle))
}

/// cuLogsUnregisterCallback.
///
/// # Errors
/// CUDA_ERROR_INVALID_VALUE for what is no callback's handle.
pub fn unregister(handle: CUlogsCallbackHandle) -> Answer {
    let mut log = log();
    let before = log.callbacks.len();
    log.callbacks.retain(|(known, ..)| *known != handle.0);
    if log.callbacks.len() < before { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// cuLogsCurrent: the number of the next message.
///
/// # Errors
/// CUDA_ERROR_INVALID_VALUE for flags, of which there are none.
pub fn current(flags: u32) -> Answer<u32> {
    if flags == 0 { Ok(log().next()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// The messages from an iterator's on, or all, in at most `room` bytes; and the
/// number that the iterator goes on with.
///
/// # Errors
/// CUDA_ERROR_INVALID_VALUE for flags, of which there are none, or where no
/// message fits.
pub fn dump(from: Option<u32>, room: usize, flags: u32) -> Answer<(String, u32)> {
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let log = log();
    let text = log.text(from, room).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    Ok((text, log.next()))
}

/// cuLogsDumpToFile: the number that the iterator goes on with.
///
/// # Errors
/// As [`dump`]'s, or CUDA_ERROR_INVALID_VALUE for a path that cannot be written.
pub fn dump_to_file(from: Option<u32>, path: &CStr, flags: u32) -> Answer<u32> {
    let path = path.to_str().map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    let (text, next) = dump(from, usize::MAX, flags)?;
    std::fs::write(path, text).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize) -> Log {
        let mut log = Log { first: 0, messages: VecDeque::new(), bytes: 0, callbacks: Vec::new(), last_handle: 0 };
        (0..count).for_each(|number| log.add(format!("message {number:04}\n")));
        log
    }

    #[test]
    fn an_iterator_reads_what_came_after_it() {
        let log = filled(3);
        assert_eq!(log.text(None, 100).unwrap(), "message 0000\nmessage 0001\nmessage 0002\n");
        assert_eq!(log.text(Some(2), 100).unwrap(), "message 0002\n");
        assert_eq!(log.text(Some(3), 100).unwrap(), "");
    }

    #[test]
    fn what_does_not_fit_gives_way_to_the_most_recent() {
        let log = filled(10);
        let room = MISSING.len() + 30;
        assert_eq!(log.text(None, room).unwrap(), format!("{MISSING}message 0008\nmessage 0009\n"));
        assert_eq!(log.text(None, 5), None);
        let log = filled(5000);
        assert!(log.bytes <= BYTES_MAX && log.first > 0);
        assert!(log.text(Some(0), usize::MAX).unwrap().starts_with(MISSING));
    }
}
