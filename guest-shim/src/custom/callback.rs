//! Host functions: the host's stream reaches one, the guest runs it, and the
//! stream goes on when it has returned. A thread of the shim waits for them,
//! only while one is outstanding.
#![allow(unsafe_code, reason = "the program's callbacks")]

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, Once, PoisonError};

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{CALLBACK_DONE, CALLBACK_NEXT, CALLBACK_REFUSED};
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::{current, mode, stream};

/// What to run.
enum Callback {
    Host(unsafe extern "C" fn(*mut std::ffi::c_void), Data),
    Stream(unsafe extern "C" fn(CUstream, CUresult, *mut std::ffi::c_void), CUstream, Data),
}

/// The program's pointer, passed through.
struct Data(Pointer);
// SAFETY: the shim never looks behind the pointer; CUDA runs host functions on
// a thread of the library's choosing, so programs expect the hand-over.
unsafe impl Send for Data {}

struct Outstanding {
    next: u64,
    by_number: Option<HashMap<u64, Callback>>,
}

static OUTSTANDING: Mutex<Outstanding> = Mutex::new(Outstanding { next: 1, by_number: None });
static ADDED: Condvar = Condvar::new();

fn lock() -> std::sync::MutexGuard<'static, Outstanding> {
    OUTSTANDING.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn cuLaunchHostFunc(stream: CUstream, func: CUhostFn, data: Pointer) -> Answer {
    let func = func.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    enqueue(opcode::cuLaunchHostFunc, stream, Callback::Host(func, Data(data)))
}

/// How the host's thread waits for the next host function is a hint.
pub(crate) fn cuLaunchHostFunc_v2(stream: CUstream, func: CUhostFn, data: Pointer, sync_mode: u32) -> Answer {
    const SPIN_WAIT: u32 = 1;
    if sync_mode > SPIN_WAIT {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    cuLaunchHostFunc(stream, func, data)
}

pub(crate) fn cuStreamAddCallback(
    stream: CUstream,
    callback: CUstreamCallback,
    data: Pointer,
    flags: u32,
) -> Answer {
    let callback = callback.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let callback = Callback::Stream(callback, stream, Data(data));
    enqueue(opcode::cuStreamAddCallback, stream, callback)
}

fn enqueue(opcode: u16, stream: CUstream, callback: Callback) -> Answer {
    current::context()?;
    let stream = stream::resolve(stream);
    start_thread()?;
    let number = {
        let mut outstanding = lock();
        let number = outstanding.next;
        outstanding.next += 1;
        outstanding.by_number.get_or_insert_default().insert(number, callback);
        number
    };
    ADDED.notify_one();
    stream::mark_busy(stream);
    let sent = mode::post_or_call(opcode, |to| {
        to.word(stream.0);
        to.word(number);
        Ok(())
    });
    if sent.is_err() {
        take(number);
    }
    sent
}

fn take(number: u64) -> Option<Callback> {
    lock().by_number.as_mut()?.remove(&number)
}

fn start_thread() -> Answer {
    static ONCE: Once = Once::new();
    static STARTED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    ONCE.call_once(|| {
        let started = std::thread::Builder::new().name("paravane-host".into()).spawn(serve);
        STARTED.store(started.is_ok(), std::sync::atomic::Ordering::Release);
    });
    if STARTED.load(std::sync::atomic::Ordering::Acquire) {
        Ok(())
    } else {
        Err(CUDA_ERROR_OUT_OF_MEMORY)
    }
}

fn serve() {
    loop {
        wait_for_one();
        let next = with_ring(|ring| {
            ring.call_anywhere(CALLBACK_NEXT, |_| Ok(()), |from| (from.word(), from.word()))
        });
        let Ok((number, status)) = next else {
            // The context is dead: nothing outstanding will come any more.
            lock().by_number = None;
            continue;
        };
        let Some(callback) = take(number) else { continue };
        if status == CALLBACK_REFUSED {
            continue;
        }
        run(callback, CUresult::from_word(status));
        // A lost connection shows at the next CALLBACK_NEXT.
        let _ = with_ring(|ring| {
            ring.post(CALLBACK_DONE, |to| {
                to.word(number);
                Ok(())
            })
        });
    }
}

fn wait_for_one() {
    let is_none = |outstanding: &mut Outstanding| {
        outstanding.by_number.as_ref().is_none_or(HashMap::is_empty)
    };
    drop(ADDED.wait_while(lock(), is_none));
}

fn run(callback: Callback, status: CUresult) {
    match callback {
        // SAFETY: the program passed function and data to be called together.
        Callback::Host(func, Data(data)) => unsafe { func(data) },
        // SAFETY: as above.
        Callback::Stream(func, stream, Data(data)) => unsafe { func(stream, status, data) },
    }
}
