//! What the guest knows of functions and kernels: name, owner and where each
//! parameter lies, so that a launch can be packed without asking.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use paravane_protocol::codec::Decoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::{KERNEL_PARAM_BYTES_MAX, KERNEL_PARAMS_MAX};

use crate::boundary::Answer;

/// One function or kernel.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: CString,
    /// The module of a function, the library of a kernel.
    pub(crate) owner: u64,
    /// Offset and size of each parameter.
    pub(crate) params: Vec<(u32, u32)>,
    /// Bytes of all parameters.
    pub(crate) param_bytes: usize,
    /// Threads that a block may have; asked for when it is first launched.
    max_threads: OnceLock<u32>,
    /// Dynamic shared memory that a launch may ask for; [`NOT_ASKED`] before.
    max_dynamic: AtomicU32,
}

/// In place of a number that the host has not been asked for.
const NOT_ASKED: u32 = u32::MAX;
/// Attributes of a function (cuda.h).
const MAX_THREADS_PER_BLOCK: CUfunction_attribute = CUfunction_attribute(0);
const MAX_DYNAMIC_SHARED_SIZE_BYTES: CUfunction_attribute = CUfunction_attribute(8);

/// An attribute that bounds launches; a host that does not tell sets no bound.
fn bound(id: u64, attribute: CUfunction_attribute) -> u32 {
    let mut value = 0;
    let asked = crate::remote::table::cuFuncGetAttribute(&raw mut value, attribute, CUfunction(id));
    asked.ok().and_then(|()| u32::try_from(value).ok()).unwrap_or(NOT_ASKED - 1)
}

impl Function {
    /// Whether a launch of this shape is within the function's bounds. One that
    /// is not is still the host's to refuse.
    #[inline]
    pub(crate) fn allows(&self, id: u64, threads: u64, shared_bytes: u32) -> bool {
        let most = *self.max_threads.get_or_init(|| bound(id, MAX_THREADS_PER_BLOCK));
        if threads > u64::from(most) {
            return false;
        }
        shared_bytes == 0 || shared_bytes <= self.max_dynamic(id)
    }

    fn max_dynamic(&self, id: u64) -> u32 {
        match self.max_dynamic.load(Ordering::Relaxed) {
            NOT_ASKED => {
                let most = bound(id, MAX_DYNAMIC_SHARED_SIZE_BYTES);
                self.max_dynamic.store(most, Ordering::Relaxed);
                most
            }
            known => known,
        }
    }
}

/// An attribute of a function was set: its bounds are asked for again.
pub(crate) fn attribute_was_set(id: u64) {
    if let Ok(function) = get(id) {
        function.max_dynamic.store(NOT_ASKED, Ordering::Relaxed);
    }
}

/// By id: functions and kernels share no number.
static FUNCTIONS: RwLock<Vec<(u64, Arc<Function>)>> = RwLock::new(Vec::new());
static BY_NAME: RwLock<Option<HashMap<(u64, CString), u64>>> = RwLock::new(None);

/// Reads the description that the host gives with a function.
pub(crate) fn read(from: &mut Decoder, owner: u64, name: CString) -> Answer<Function> {
    let count = from.word();
    if count > u64::from(KERNEL_PARAMS_MAX) {
        return Err(CUDA_ERROR_UNKNOWN);
    }
    let mut params = Vec::new();
    let mut param_bytes = 0;
    for _ in 0..count {
        let (offset, size) = (u32::from_word(from.word()), u32::from_word(from.word()));
        param_bytes = param_bytes.max(offset as usize + size as usize);
        params.push((offset, size));
    }
    if param_bytes > KERNEL_PARAM_BYTES_MAX {
        return Err(CUDA_ERROR_UNKNOWN);
    }
    let (max_threads, max_dynamic) = (OnceLock::new(), AtomicU32::new(NOT_ASKED));
    Ok(Function { name, owner, params, param_bytes, max_threads, max_dynamic })
}

/// Remembers a function under its id.
pub(crate) fn remember(id: u64, function: Function) {
    let key = (function.owner, function.name.clone());
    let mut functions = FUNCTIONS.write().unwrap_or_else(PoisonError::into_inner);
    let at = functions.partition_point(|(known, _)| *known < id);
    functions.insert(at, (id, Arc::new(function)));
    drop(functions);
    let mut names = BY_NAME.write().unwrap_or_else(PoisonError::into_inner);
    names.get_or_insert_default().insert(key, id);
}

/// The id of a function that was asked for before.
pub(crate) fn known(owner: u64, name: &CString) -> Option<u64> {
    let names = BY_NAME.read().unwrap_or_else(PoisonError::into_inner);
    names.as_ref()?.get(&(owner, name.clone())).copied()
}

/// The function or kernel with an id; CUDA_ERROR_INVALID_HANDLE for none.
#[inline]
pub(crate) fn get(id: u64) -> Answer<Arc<Function>> {
    let functions = FUNCTIONS.read().unwrap_or_else(PoisonError::into_inner);
    match functions.binary_search_by_key(&id, |(known, _)| *known) {
        Ok(at) => Ok(Arc::clone(&functions[at].1)),
        Err(_) => Err(CUDA_ERROR_INVALID_HANDLE),
    }
}

thread_local! {
    /// The function that this thread looked up last, and when.
    static LAST: RefCell<Option<(u64, u32, Arc<Function>)>> = const { RefCell::new(None) };
}

/// Counts the times that functions were forgotten.
static FORGOTTEN: AtomicU32 = AtomicU32::new(0);

/// Runs `call` with the function or kernel of an id. Threads launch the same
/// kernel again and again, so the last one is found without a lock.
#[inline]
pub(crate) fn with<T>(id: u64, call: impl FnOnce(&Function) -> Answer<T>) -> Answer<T> {
    LAST.try_with(|last| {
        let mut last = last.try_borrow_mut().map_err(|_| CUDA_ERROR_NOT_PERMITTED)?;
        let forgotten = FORGOTTEN.load(Ordering::Acquire);
        if !matches!(&*last, Some((known, when, _)) if *known == id && *when == forgotten) {
            *last = Some((id, forgotten, get(id)?));
        }
        match &*last {
            Some((_, _, function)) => call(function),
            None => Err(CUDA_ERROR_INVALID_HANDLE),
        }
    })
    .map_err(|_| CUDA_ERROR_DEINITIALIZED)?
}

/// One function is gone that its owner's name does not mean: a kernel's in a
/// context.
pub(crate) fn forget(id: u64) {
    FUNCTIONS.write().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| *known != id);
    FORGOTTEN.fetch_add(1, Ordering::AcqRel);
}

/// A module or library is gone, its functions with it. Returns their ids.
pub(crate) fn forget_owner(owner: u64) -> Vec<u64> {
    let mut gone = Vec::new();
    FUNCTIONS.write().unwrap_or_else(PoisonError::into_inner).retain(|(id, function)| {
        let keep = function.owner != owner;
        if !keep {
            gone.push(*id);
        }
        keep
    });
    if let Some(names) = BY_NAME.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
        names.retain(|(of, _), _| *of != owner);
    }
    // After the removal: who looks up from now on finds nothing.
    FORGOTTEN.fetch_add(1, Ordering::AcqRel);
    gone
}
