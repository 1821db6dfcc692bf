//! Which context a stream belongs to, and which module and functions stand for
//! a library and its kernels: answers that never change while the object lives.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use paravane_protocol::cuda_types::*;

/// A map from one id to another.
pub(crate) struct Relation(RwLock<Option<HashMap<u64, u64>>>);

/// The context of a stream.
pub(crate) static STREAM_CONTEXT: Relation = Relation::new();
/// The context that stands for a green context, and the way back.
pub(crate) static GREEN_CONTEXT: Relation = Relation::new();
pub(crate) static CONTEXT_GREEN: Relation = Relation::new();
/// The module of a library, per context: the key is both ids' indexes.
pub(crate) static LIBRARY_MODULE: Relation = Relation::new();
/// The function of a kernel, per context.
pub(crate) static KERNEL_FUNCTION: Relation = Relation::new();

impl Relation {
    pub(crate) const fn new() -> Self {
        Self(RwLock::new(None))
    }

    pub(crate) fn insert(&self, from: u64, to: u64) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.get_or_insert_default().insert(from, to);
    }

    pub(crate) fn get(&self, from: u64) -> Option<u64> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.as_ref()?.get(&from).copied()
    }

    pub(crate) fn remove(&self, from: u64) -> Option<u64> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.as_mut()?.remove(&from)
    }

    /// Forgets every pair whose first id satisfies `gone`; returns the second.
    pub(crate) fn remove_where(&self, gone: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(map) = map.as_mut() else { return Vec::new() };
        map.extract_if(|from, _| gone(*from)).map(|(_, to)| to).collect()
    }
}

/// A context is gone or was reset, and with it what libraries and kernels are
/// there.
pub(crate) fn forget_context(context: CUcontext) {
    super::mode::forget(context);
    let of_context = |key: u64| key >> 48 == u64::from(crate::handles::index(context.0));
    for function in KERNEL_FUNCTION.remove_where(of_context) {
        super::functions::forget(function);
        crate::handles::release(CUfunction(function));
    }
    for module in LIBRARY_MODULE.remove_where(of_context) {
        let functions = super::functions::forget_owner(module);
        functions.into_iter().for_each(|function| crate::handles::release(CUfunction(function)));
        crate::handles::release(CUmodule(module));
    }
}

/// One key for an object within the current context.
pub(crate) fn within_context(object: u64) -> u64 {
    let context = u64::from(crate::handles::index(super::current::number()));
    context << 48 | object
}
