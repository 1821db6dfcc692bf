//! Each device's default pool and its current one: answered here, because both
//! change only by calls of this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use paravane_protocol::cuda_types::*;

#[derive(Clone, Copy, Default)]
struct Pools {
    default: Option<CUmemoryPool>,
    /// `None`: the default one.
    current: Option<CUmemoryPool>,
}

static POOLS: Mutex<Option<HashMap<i32, Pools>>> = Mutex::new(None);

fn with<R>(device: CUdevice, look: impl FnOnce(&mut Pools) -> R) -> R {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    look(pools.get_or_insert_default().entry(device.0).or_default())
}

/// The default pool, if it was asked for before.
pub(crate) fn default(device: CUdevice) -> Option<CUmemoryPool> {
    with(device, |pools| pools.default)
}

/// Remembers the default pool; the first that was remembered wins.
pub(crate) fn remember_default(device: CUdevice, pool: CUmemoryPool) -> CUmemoryPool {
    with(device, |pools| *pools.default.get_or_insert(pool))
}

/// The pool that was made current, unless it is the default one.
pub(crate) fn current(device: CUdevice) -> Option<CUmemoryPool> {
    with(device, |pools| pools.current)
}

/// A pool was made current.
pub(crate) fn set_current(device: CUdevice, pool: CUmemoryPool) {
    with(device, |pools| pools.current = Some(pool).filter(|_| pools.default != Some(pool)));
}

/// A pool is gone: where it was current, the default one is now.
pub(crate) fn forget(pool: CUmemoryPool) {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    for pools in pools.get_or_insert_default().values_mut() {
        pools.current = pools.current.filter(|current| *current != pool);
    }
}
