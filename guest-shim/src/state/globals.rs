//! Variables of modules and libraries that the program has asked for. A managed
//! one is memory that the program reaches too: shared pages are laid over it at
//! the device's address, here and in the worker.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal;

use super::{host_memory, ranges};
use crate::boundary::Answer;
use crate::connection::with_ring;

/// One variable: where it begins, and whether it is managed.
type Global = (u64, bool);

/// By the module or library that they were asked of.
static GLOBALS: Mutex<Option<HashMap<u64, Vec<Global>>>> = Mutex::new(None);

fn with<R>(look: impl FnOnce(&mut HashMap<u64, Vec<Global>>) -> R) -> R {
    let mut globals = GLOBALS.lock().unwrap_or_else(PoisonError::into_inner);
    look(globals.get_or_insert_default())
}

/// Whether the host says that a variable is managed; CUDA_ERROR_NOT_SUPPORTED
/// where it is and cannot be reached from here.
fn is_managed(at: CUdeviceptr) -> Answer<bool> {
    with_ring(|ring| {
        ring.call(
            internal::VARIABLE,
            |to| {
                to.word(at.0);
                Ok(())
            },
            |from| from.word() != 0,
        )
    })
}

/// A variable of a module or library lies there.
pub(crate) fn add(owner: u64, at: CUdeviceptr, bytes: usize) -> Answer {
    // Held throughout: of two threads that ask for it, one shares it.
    let mut globals = GLOBALS.lock().unwrap_or_else(PoisonError::into_inner);
    let globals = globals.get_or_insert_default();
    let address = usize::try_from(at.0).map_err(|_| CUDA_ERROR_UNKNOWN)?;
    let is_plain = ranges::find(at.0).is_some_and(|range| range.start == at.0 && range.bytes == bytes as u64);
    if is_plain || host_memory::variable_at(address).is_some() {
        return Ok(());
    }
    let shared = is_managed(at)?;
    if shared {
        host_memory::share_variable(address, bytes)?;
    } else {
        ranges::insert(at.0, bytes as u64);
    }
    globals.entry(owner).or_default().push((at.0, shared));
    Ok(())
}

/// The owner's variables in device memory are about to end: when the host has
/// ended them, another thread's allocation may get the same addresses.
pub(crate) fn forget(owner: u64) {
    let plain = with(|globals| {
        let of_owner = globals.get_mut(&owner)?;
        let (managed, plain): (Vec<Global>, Vec<Global>) = of_owner.iter().partition(|(_, is_managed)| *is_managed);
        *of_owner = managed;
        Some(plain)
    });
    for (start, _) in plain.into_iter().flatten() {
        ranges::remove(start);
    }
}

/// The owner has ended with its managed variables.
pub(crate) fn end(owner: u64) -> Answer {
    for (start, _) in with(|globals| globals.remove(&owner)).into_iter().flatten() {
        host_memory::end_variable(usize::try_from(start).map_err(|_| CUDA_ERROR_UNKNOWN)?)?;
    }
    Ok(())
}
