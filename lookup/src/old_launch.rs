//! Launches as CUDA 3 had them: block shape, shared memory and parameters are
//! set on the function one after the other, and it is launched with what was
//! set last.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use paravane_protocol::cuda_types::CUDA_ERROR_INVALID_VALUE;
use paravane_protocol::limits::KERNEL_PARAM_BYTES_MAX;

use crate::Answer;

/// What was set on a function.
#[derive(Clone, Default)]
pub struct OldLaunch {
    /// Threads of a block in each direction; none until it is set.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
    /// The parameters' bytes.
    pub params: Vec<u8>,
}

static FUNCTIONS: Mutex<Option<HashMap<u64, OldLaunch>>> = Mutex::new(None);

fn change(function: u64, change: impl FnOnce(&mut OldLaunch) -> Answer) -> Answer {
    let mut functions = FUNCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    change(functions.get_or_insert_default().entry(function).or_default())
}

/// What was set last; nothing where nothing was.
pub fn get(function: u64) -> OldLaunch {
    let functions = FUNCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    functions.as_ref().and_then(|all| all.get(&function)).cloned().unwrap_or_default()
}

/// Functions are gone: so is what was set on them.
pub fn forget(gone: impl Fn(u64) -> bool) {
    let mut functions = FUNCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(all) = functions.as_mut() {
        all.retain(|function, _| !gone(*function));
    }
}

/// Sets the block's shape.
///
/// # Errors
/// CUDA_ERROR_INVALID_VALUE for a negative side.
pub fn set_block(function: u64, sides: [i32; 3]) -> Answer {
    let mut block = [0; 3];
    for (to, side) in block.iter_mut().zip(sides) {
        *to = u32::try_from(side).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    }
    change(function, |launch| {
        launch.block = block;
        Ok(())
    })
}

/// Sets the dynamic shared memory.
///
/// # Errors
/// None; the answer is that of the other calls.
pub fn set_shared(function: u64, bytes: u32) -> Answer {
    change(function, |launch| {
        launch.shared_bytes = bytes;
        Ok(())
    })
}

/// Sets how many bytes of parameters there are.
///
/// # Errors
/// CUDA_ERROR_INVALID_VALUE for more than a kernel can have.
pub fn set_size(function: u64, bytes: u32) -> Answer {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes > KERNEL_PARAM_BYTES_MAX {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    change(function, |launch| {
        launch.params.resize(bytes, 0);
        Ok(())
    })
}

/// Sets bytes of the parameters, which become as many as that takes.
///
/// # Errors
/// CUDA_ERROR_INVALID_VALUE for a place that no parameter has.
pub fn set_param(function: u64, offset: i32, value: &[u8]) -> Answer {
    let start = usize::try_from(offset).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    let end = start.checked_add(value.len()).filter(|end| *end <= KERNEL_PARAM_BYTES_MAX);
    let end = end.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    change(function, |launch| {
        if launch.params.len() < end {
            launch.params.resize(end, 0);
        }
        let place = launch.params.get_mut(start..end).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        place.copy_from_slice(value);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_stays_until_it_is_forgotten() {
        set_block(501, [8, 2, 1]).unwrap();
        set_shared(501, 64).unwrap();
        set_param(501, 4, &[1, 2]).unwrap();
        set_size(501, 8).unwrap();
        let launch = get(501);
        assert_eq!((launch.block, launch.shared_bytes), ([8, 2, 1], 64));
        assert_eq!(launch.params, [0, 0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(get(502).block, [0; 3]);
        forget(|function| function == 501);
        assert!(get(501).params.is_empty());
    }

    #[test]
    fn places_outside_a_kernels_parameters_are_refused() {
        for (offset, bytes) in [(-1, 1), (i32::MAX, 4), (32_764, 1)] {
            assert_eq!(set_param(503, offset, &vec![0; bytes]), Err(CUDA_ERROR_INVALID_VALUE));
        }
        assert_eq!(set_size(503, 40_000), Err(CUDA_ERROR_INVALID_VALUE));
        assert_eq!(set_block(503, [1, -1, 1]), Err(CUDA_ERROR_INVALID_VALUE));
    }
}
