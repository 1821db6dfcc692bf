//! What a program sees when its kernel breaks a rule: the code at the next synchronise, for good,
//! in its context only.
#![allow(clippy::undocumented_unsafe_blocks, reason = "every call follows CUDA's contract with memory that the test owns")]

#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod program;

use program::*;
use paravane_cpu::api::*;
use paravane_protocol::cuda_types::*;
use std::ffi::CString;

/// Runs a kernel of one thread that does `body` with `[%rd1]` a device array of 512 bytes.
fn fails_with(body: &str) -> CUresult {
    let gpu = Gpu::new();
    let ptx = format!(
        ".visible .entry k(.param .u64 p) {{ .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %q;\n\
         .shared .align 8 .b8 own[64];\nld.param.u64 %rd1, [p];\n{body}\nret; }}"
    );
    let function = gpu.function(&ptx, "k");
    let array = upload(&[0u8; 512]);
    launch(function, 1, 1, &[array.0]);
    let code = synchronize().unwrap_err();
    // For good: whatever is called answers the same.
    assert_eq!(synchronize(), Err(code));
    assert_eq!(try_download::<u8>(array, 1), Err(code));
    let mut more = CUdeviceptr(0);
    assert_eq!(unsafe { cuMemAlloc_v2(&raw mut more, 16) }, Err(code));
    let again = launch_on(function, [1; 3], [1; 3], 0, CUstream(0), &[array.0]);
    assert_eq!(again, Err(code));
    code
}

#[test]
fn each_rule_has_its_code() {
    for (body, code) in [
        ("ld.global.u32 %r1, [%rd1+512];", CUDA_ERROR_ILLEGAL_ADDRESS),
        ("mov.u64 %rd2, 0; st.global.u32 [%rd2], 1;", CUDA_ERROR_ILLEGAL_ADDRESS),
        ("mov.u64 %rd2, 0x7fffffff0000; atom.add.u32 %r1, [%rd2], 1;", CUDA_ERROR_ILLEGAL_ADDRESS),
        ("ld.shared.u32 %r1, [own+64];", CUDA_ERROR_ILLEGAL_ADDRESS),
        ("ld.global.u32 %r1, [%rd1+2];", CUDA_ERROR_MISALIGNED_ADDRESS),
        ("ld.global.v2.u64 {%rd2, %rd3}, [%rd1+8];", CUDA_ERROR_MISALIGNED_ADDRESS),
        ("trap;", CUDA_ERROR_LAUNCH_FAILED),
        ("wgmma.fence.sync.aligned;", CUDA_ERROR_ILLEGAL_INSTRUCTION),
    ] {
        assert_eq!(fails_with(body), code, "{body}");
    }
}

#[test]
fn what_is_not_executed_is_harmless_until_it_is_reached() {
    let out = run_u32(32, "setp.gt.u32 %p1, %r1, 99; mov.u32 %r0, 7; @%p1 wgmma.fence.sync.aligned; @%p1 frobnicate.f32 %f1, %f2;");
    assert_eq!(out, [7; 32]);
}

#[test]
fn a_failed_context_is_one_of_many() {
    assert_eq!(fails_with("trap;"), CUDA_ERROR_LAUNCH_FAILED);
    assert_eq!(run_u32(1, "mov.u32 %r0, 5;"), [5]);
}

#[test]
fn endless_recursion_ends() {
    let gpu = Gpu::new();
    let ptx = ".func f(.param .b32 n) { .reg .b32 %r<3>; .local .b8 space[256]; ld.param.u32 %r1, [n];
        { .param .b32 p; st.param.b32 [p], %r1; call f, (p); } ret; }
        .visible .entry k() { { .param .b32 p; st.param.b32 [p], 1; call f, (p); } ret; }";
    launch(gpu.function(ptx, "k"), 1, 64, &[]);
    assert_eq!(synchronize(), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
}

#[test]
fn a_barrier_that_cannot_complete_is_a_failure_and_no_hang() {
    let gpu = Gpu::new();
    let ptx = ".visible .entry k() { .reg .b32 %r<3>; .reg .pred %p; mov.u32 %r1, %tid.x; setp.lt.u32 %p, %r1, 32;
        @%p bra $L_one; bar.sync 1, 128; ret; $L_one: bar.sync 2, 128; ret; }";
    launch(gpu.function(ptx, "k"), 1, 64, &[]);
    assert_eq!(synchronize(), Err(CUDA_ERROR_LAUNCH_FAILED));
}

fn load(text: &str) -> Result<CUmodule, CUresult> {
    let text = CString::new(text).unwrap();
    let mut module = CUmodule(0);
    unsafe { cuModuleLoadData(&raw mut module, text.as_ptr().cast_mut().cast()) }.map(|()| module)
}

#[test]
fn images_that_are_refused() {
    let _gpu = Gpu::new();
    let head = ".version 8.0\n.target sm_80\n.address_size 64\n";
    for (text, code) in [
        ("not PTX".to_owned(), CUDA_ERROR_INVALID_IMAGE),
        (format!("\x7fELF\x02\x01\x01{}", "\x01".repeat(64)), CUDA_ERROR_NO_BINARY_FOR_GPU),
        (format!("{head}.visible .entry k() {{ add.s32 %r1, %r2, %r3; }}"), CUDA_ERROR_INVALID_PTX),
        (format!("{head}.visible .entry k() {{ bra $nowhere; }}"), CUDA_ERROR_INVALID_PTX),
        (format!("{head}.visible .entry k() {{ .reg .b16 %r; add.s32 %r, 1, 2; }}"), CUDA_ERROR_INVALID_PTX),
        (format!("{head}.extern .global .u32 elsewhere;"), CUDA_ERROR_INVALID_PTX),
        (format!("{head}.global .u32 a[99999999999];"), CUDA_ERROR_OUT_OF_MEMORY),
    ] {
        assert_eq!(load(&text), Err(code), "{text}");
    }
}

#[test]
fn launches_that_are_refused() {
    let gpu = Gpu::new();
    let ptx = ".visible .entry k(.param .u32 p) .maxntid 64 { .reg .b32 %r; ld.param.u32 %r, [p]; ret; }
        .visible .entry fixed() .reqntid 8, 4, 1 { .reg .b32 %r; mov.u32 %r, 1; ret; }";
    let module = gpu.module(ptx);
    let (k, fixed) = (function_of(module, "k"), function_of(module, "fixed"));
    let try_one = |f, grid, block, shared, arguments: &[u64]| launch_on(f, grid, block, shared, CUstream(0), arguments);
    assert_eq!(try_one(k, [0, 1, 1], [1, 1, 1], 0, &[1]), Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(try_one(k, [1, 1, 1], [1025, 1, 1], 0, &[1]), Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(try_one(k, [1, 70_000, 1], [1, 1, 1], 0, &[1]), Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(try_one(k, [1, 1, 1], [128, 1, 1], 0, &[1]), Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(try_one(k, [1, 1, 1], [1, 1, 1], 1 << 20, &[1]), Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(try_one(fixed, [1, 1, 1], [32, 1, 1], 0, &[]), Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(try_one(fixed, [1, 1, 1], [8, 4, 1], 0, &[]), Ok(()));
    assert_eq!(try_one(CUfunction(12_345), [1, 1, 1], [1, 1, 1], 0, &[]), Err(CUDA_ERROR_INVALID_HANDLE));
    let null = std::ptr::null_mut();
    let no_parameters = unsafe { cuLaunchKernel(k, 1, 1, 1, 1, 1, 1, 0, CUstream(0), null, null) };
    assert_eq!(no_parameters, Err(CUDA_ERROR_INVALID_VALUE));
    let empty = gpu.function(".visible .entry e(.param .u32 p) { ret; }", "e");
    let no_parameters = unsafe { cuLaunchKernel(empty, 1, 1, 1, 1, 1, 1, 0, CUstream(0), null, null) };
    assert_eq!(no_parameters, Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(synchronize(), Ok(()));
}

#[test]
fn copies_outside_an_allocation_are_refused() {
    let _gpu = Gpu::new();
    let array = upload(&[0u8; 1000]);
    let mut host = [0u8; 4096];
    let (to, from) = (host.as_mut_ptr().cast(), array);
    assert_eq!(unsafe { cuMemcpyDtoH_v2(to, from, 1024) }, Ok(()), "allocations are rounded to 512 bytes");
    assert_eq!(unsafe { cuMemcpyDtoH_v2(to, from, 1025) }, Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(unsafe { cuMemcpyHtoD_v2(CUdeviceptr(8), to, 1) }, Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(unsafe { cuMemFree_v2(CUdeviceptr(array.0 + 512)) }, Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(unsafe { cuMemFree_v2(array) }, Ok(()));
    assert_eq!(unsafe { cuMemFree_v2(array) }, Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(unsafe { cuMemcpyDtoH_v2(to, from, 1) }, Err(CUDA_ERROR_INVALID_VALUE));
}
