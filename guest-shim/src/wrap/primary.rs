//! The state of primary contexts, which frameworks ask about all the time: kept
//! from one answer to the next, until a call of this process may change it.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;
use crate::state::devices;
use crate::{connection, pointer};

pub(crate) fn cuDevicePrimaryCtxGetState(dev: CUdevice, flags: *mut u32, active: *mut i32) -> Answer {
    let device = devices::device(dev)?;
    if flags.is_null() || active.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let epoch = devices::primary_epoch();
    if let Some((known_flags, known_active)) = device.primary_state(epoch) {
        connection::get()?.check()?;
        pointer::put(flags, known_flags)?;
        return pointer::put(active, i32::from(known_active));
    }
    table::cuDevicePrimaryCtxGetState(dev, flags, active)?;
    device.note_primary_state(epoch, pointer::get(flags)?, pointer::get(active)? != 0);
    Ok(())
}

pub(crate) fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: u32) -> Answer {
    let answer = table::cuDevicePrimaryCtxSetFlags_v2(dev, flags);
    devices::primary_may_differ();
    answer
}

/// The current context may be a primary one.
pub(crate) fn cuCtxSetFlags(flags: u32) -> Answer {
    let answer = table::cuCtxSetFlags(flags);
    devices::primary_may_differ();
    answer
}
