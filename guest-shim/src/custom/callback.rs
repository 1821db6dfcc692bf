//! Host functions: the host's stream reaches one, the guest runs it, and the
//! stream goes on when it has returned. A thread of the shim waits for them,
//! only while one is outstanding.
#![allow(unsafe_code, reason = "the program's callbacks")]

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError};

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{CALLBACK_DONE, CALLBACK_ENDED, CALLBACK_NEXT, CALLBACK_REFUSED};
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::bounce::Bounce;
use crate::state::{capture, current, mode, stream};
use crate::{handles, pointer};

/// What to run.
enum Callback {
    Host(unsafe extern "C" fn(*mut std::ffi::c_void), Data),
    /// A graph's host node: reached at every launch.
    Repeated(unsafe extern "C" fn(*mut std::ffi::c_void), Data),
    /// A graph's copy to or from pageable memory: reached at every launch.
    Bounce(Arc<Bounce>),
    /// A user object, to be called when nothing keeps it.
    Destructor(unsafe extern "C" fn(*mut std::ffi::c_void), Data, CUuserObject),
    Stream(unsafe extern "C" fn(CUstream, CUresult, *mut std::ffi::c_void), CUstream, Data),
}

/// The program's pointer, passed through.
#[derive(Clone, Copy)]
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
    let of = stream::resolve(stream);
    if capture::is_capturing(of)? {
        return super::captured(of, |graph, before| crate::local::add_host(graph, before, func, data));
    }
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
    let number = add(callback)?;
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
        if status == CALLBACK_ENDED {
            end(number);
            continue;
        }
        let Some(callback) = due(number) else { continue };
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

/// What a reached number means; functions of streams are reached once.
fn due(number: u64) -> Option<Callback> {
    let mut outstanding = lock();
    let by_number = outstanding.by_number.as_mut()?;
    match by_number.get(&number)? {
        Callback::Repeated(func, data) => Some(Callback::Repeated(*func, *data)),
        Callback::Bounce(bounce) => Some(Callback::Bounce(Arc::clone(bounce))),
        _ => by_number.remove(&number),
    }
}

/// No launch reaches a number any more.
fn end(number: u64) {
    match take(number) {
        Some(Callback::Destructor(func, Data(data), object)) => {
            handles::release(object);
            // SAFETY: the program passed function and data to be called together.
            unsafe { func(data) }
        }
        Some(Callback::Bounce(bounce)) => bounce.end(),
        _ => {}
    }
}

fn run(callback: Callback, status: CUresult) {
    match callback {
        // SAFETY: the program passed function and data to be called together.
        Callback::Host(func, Data(data)) | Callback::Repeated(func, Data(data)) => unsafe { func(data) },
        // SAFETY: as above.
        Callback::Stream(func, stream, Data(data)) => unsafe { func(stream, status, data) },
        Callback::Bounce(bounce) => bounce.run(),
        Callback::Destructor(..) => {}
    }
}

fn add(callback: Callback) -> Answer<u64> {
    start_thread()?;
    let number = {
        let mut outstanding = lock();
        let number = outstanding.next;
        outstanding.next += 1;
        outstanding.by_number.get_or_insert_default().insert(number, callback);
        number
    };
    ADDED.notify_one();
    Ok(number)
}

/// A number for a host node's function.
pub(crate) fn add_repeated(func: CUhostFn, data: Pointer) -> Answer<u64> {
    add(Callback::Repeated(func.ok_or(CUDA_ERROR_INVALID_VALUE)?, Data(data)))
}

/// A number for a copy to or from pageable memory.
pub(crate) fn add_bounce(bounce: Bounce) -> Answer<u64> {
    add(Callback::Bounce(Arc::new(bounce)))
}

/// A number that was given was refused.
pub(crate) fn forget(number: u64) {
    if let Some(Callback::Bounce(bounce)) = take(number) {
        bounce.end();
    }
}

/// Function and data of a host node, by its number.
pub(crate) fn repeated(number: u64) -> Option<(CUhostFn, Pointer)> {
    match lock().by_number.as_ref()?.get(&number)? {
        Callback::Repeated(func, Data(data)) => Some((Some(*func), *data)),
        _ => None,
    }
}

pub(crate) fn cuUserObjectCreate(
    into: *mut CUuserObject,
    data: Pointer,
    destroy: CUhostFn,
    count: u32,
    flags: u32,
) -> Answer {
    let func = destroy.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    pointer::put(into, CUuserObject(0))?;
    let object: CUuserObject = handles::mint()?;
    let number = add(Callback::Destructor(func, Data(data), object))?;
    let made = with_ring(|ring| {
        ring.call(
            opcode::cuUserObjectCreate,
            |to| {
                [object.0, number, u64::from(count), u64::from(flags)].into_iter().for_each(|word| to.word(word));
                Ok(())
            },
            |_| (),
        )
    });
    if let Err(error) = made {
        take(number);
        handles::release(object);
        return Err(error);
    }
    pointer::put(into, object)
}
