//! What libraries ask about contexts and streams, and the values that they
//! keep with a context.

use paravane_protocol::cuda_types::{
    CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUcontext, CUdevice, CUresult,
    CUstream, Pointer,
};

use super::{answered, give};
use crate::storage::{self, Destructor};
use crate::{Answer, Libcuda};

/// The calling thread's current context; written in any case.
pub(super) extern "C" fn current(into: *mut CUcontext) -> CUresult {
    answered(|libcuda| give(into, libcuda.current_context()))
}

/// The context that is meant: the current one for NULL.
fn meant(libcuda: &dyn Libcuda, context: CUcontext) -> Answer<CUcontext> {
    let meant = if context.0 == 0 { libcuda.current_context() } else { context };
    if meant.0 == 0 { Err(CUDA_ERROR_INVALID_CONTEXT) } else { Ok(meant) }
}

/// Keeps a value with a context; its destructor runs when the context ends.
pub(super) extern "C" fn put(context: CUcontext, key: usize, value: usize, destructor: Option<Destructor>) -> CUresult {
    answered(|libcuda| {
        let context = meant(libcuda, context)?;
        libcuda.device_of(context)?;
        storage::put(context, key, value, destructor);
        Ok(())
    })
}

pub(super) extern "C" fn delete(context: CUcontext, key: usize) -> CUresult {
    answered(|libcuda| {
        let was_there = storage::delete(meant(libcuda, context)?, key);
        if was_there { Ok(()) } else { Err(CUDA_ERROR_INVALID_HANDLE) }
    })
}

/// A key without a value is CUDA_ERROR_INVALID_HANDLE.
pub(super) extern "C" fn get(into: *mut usize, context: CUcontext, key: usize) -> CUresult {
    answered(|libcuda| {
        let value = storage::get(meant(libcuda, context)?, key).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
        give(into, value)
    })
}

/// Whether a context is some library's wrapper of one: none is.
pub(super) extern "C" fn check(_: CUcontext, into: *mut u32, _: *mut Pointer) -> CUresult {
    answered(|_| give(into, 0))
}

/// Whether this library may be used: it may.
pub(super) extern "C" fn check_library() -> CUresult {
    answered(|_| Ok(()))
}

pub(super) extern "C" fn device(context: CUcontext, into: *mut CUdevice) -> CUresult {
    answered(|libcuda| give(into, libcuda.device_of(meant(libcuda, context)?)?))
}

/// A number of the context's own that is never used again.
pub(super) extern "C" fn number(context: CUcontext, into: *mut u64) -> CUresult {
    answered(|libcuda| give(into, libcuda.context_number(meant(libcuda, context)?)?))
}

/// What stands for a stream in [`query_stream`]. The default streams have one
/// too, so it is never NULL.
pub(super) extern "C" fn stream(_: CUcontext, stream: CUstream, into: *mut u64) -> CUresult {
    const NOT_NULL: u64 = 1 << 56;
    answered(|libcuda| {
        libcuda.check_stream(stream)?;
        give(into, NOT_NULL | stream.0)
    })
}

/// Nothing is outstanding on a stream that its user does not know of.
pub(super) extern "C" fn query_stream(_: CUcontext, object: u64, into: *mut u64) -> CUresult {
    answered(|_| if object == 0 { Err(CUDA_ERROR_INVALID_VALUE) } else { give(into, 0) })
}

/// Hooks for cuBLASLt's kernels: there are none.
pub(super) extern "C" fn hooks(first: *mut Pointer, second: *mut Pointer) -> CUresult {
    answered(|_| {
        give(first, std::ptr::null_mut())?;
        give(second, std::ptr::null_mut())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::runtime::tests::register;
    use paravane_protocol::cuda_types::CUDA_SUCCESS;

    const NULL: CUcontext = CUcontext(0);

    #[test]
    fn null_means_the_current_context() {
        register();
        assert_eq!(put(NULL, 0x11, 0x22, None), CUDA_SUCCESS);
        let mut value = 0;
        assert_eq!(get(&raw mut value, CUcontext(77), 0x11), CUDA_SUCCESS);
        assert_eq!(value, 0x22);
        assert_eq!(delete(NULL, 0x11), CUDA_SUCCESS);
        assert_eq!(get(&raw mut value, NULL, 0x11), CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(delete(NULL, 0x11), CUDA_ERROR_INVALID_HANDLE);
    }

    #[test]
    fn every_result_is_written() {
        register();
        let mut context = CUcontext(9);
        assert_eq!(current(&raw mut context), CUDA_SUCCESS);
        assert_eq!(context, CUcontext(77));
        let (mut word, mut out) = (9_u32, 9_u64);
        assert_eq!(check(NULL, &raw mut word, std::ptr::null_mut()), CUDA_SUCCESS);
        assert_eq!(word, 0);
        assert_eq!(number(NULL, &raw mut out), CUDA_SUCCESS);
        assert_eq!(out, 5);
        let mut hook: [Pointer; 2] = [std::ptr::dangling_mut(); 2];
        let at = hook.as_mut_ptr();
        assert_eq!(hooks(at, at.wrapping_add(1)), CUDA_SUCCESS);
        assert!(hook.iter().all(|hook| hook.is_null()));
    }

    #[test]
    fn a_stream_has_a_token_and_an_unknown_one_none() {
        register();
        let mut object = 0;
        assert_eq!(stream(NULL, CUstream(0), &raw mut object), CUDA_SUCCESS);
        assert_ne!(object, 0);
        let mut out = 9;
        assert_eq!(query_stream(NULL, object, &raw mut out), CUDA_SUCCESS);
        assert_eq!(out, 0);
        assert_eq!(stream(NULL, CUstream(99), &raw mut object), CUDA_ERROR_INVALID_HANDLE);
    }
}
