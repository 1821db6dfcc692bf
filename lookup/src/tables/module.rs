//! The functions of a module, told one by one to a callback of the caller's
//! (cuFFT's). The answer is no CUresult: 1 for success.
#![allow(unsafe_code, reason = "the program's callback")]

use paravane_protocol::cuda_types::{CUDA_ERROR_INVALID_VALUE, CUDA_SUCCESS, CUcontext, CUfunction, CUmodule, Pointer};

use super::answered;

/// Called with the caller's pointer and a function.
pub(super) type Visit = unsafe extern "C" fn(Pointer, CUfunction);

pub(super) extern "C" fn for_each_function(_: CUcontext, module: CUmodule, visit: Option<Visit>, user: Pointer) -> i32 {
    let answer = answered(|libcuda| {
        let visit = visit.ok_or(CUDA_ERROR_INVALID_VALUE)?;
        for function in libcuda.functions(module)? {
            // SAFETY: the program gave it for being called so.
            unsafe { visit(user, function) };
        }
        Ok(())
    });
    i32::from(answer == CUDA_SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::runtime::tests::register;

    unsafe extern "C" fn add(user: Pointer, function: CUfunction) {
        // SAFETY: the test's own vector.
        let seen = unsafe { &mut *user.cast::<Vec<u64>>() };
        seen.push(function.0);
    }

    #[test]
    fn every_function_is_told_and_a_forged_module_refused() {
        register();
        let mut seen: Vec<u64> = Vec::new();
        let user: Pointer = (&raw mut seen).cast();
        assert_eq!(for_each_function(CUcontext(0), CUmodule(3), Some(add), user), 1);
        assert_eq!(seen, [8, 9]);
        assert_eq!(for_each_function(CUcontext(0), CUmodule(4), Some(add), user), 0);
        assert_eq!(for_each_function(CUcontext(0), CUmodule(3), None, user), 0);
    }
}
