//! Export tables as NVIDIA's runtime and libraries use them.
#![allow(unsafe_code, reason = "functions found in tables")]

use std::mem::transmute;
use std::sync::atomic::{AtomicUsize, Ordering};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, value_of};

const NONE: CUcontext = CUcontext(0);
const RUNTIME: u128 = 0x6bd5_fb6c_5bf4_e74a_8987_d939_12fd_9df9;
const FLAGS: u128 = 0xa094_798c_2e74_2e74_93f2_0800_200c_0a66;
const THREAD: u128 = 0x42d8_5a81_23f6_cb47_8298_f6e7_8a3a_ecdc;
const STORAGE: u128 = 0xc693_336e_1121_df11_a8c3_68f3_55d8_9593;
const CHECKS: u128 = 0x263e_8860_7cd2_6143_92f6_bbd5_006d_fa7e;
const HANDSHAKE: u128 = 0xd408_2055_bde6_704b_8d34_ba12_3c66_e1f2;
const CONTEXTS: u128 = 0x2131_8c60_9714_3248_8ca6_41ff_7324_c8f2;
const MODULES: u128 = 0x6e16_3fbe_b958_444d_835c_e182_aff1_991e;
const BLAS: u128 = 0x1734_dc26_800d_4745_8726_c0f1_e7dd_8bca;

/// A slot of a table.
fn slot(cuda: &Cuda, table: u128, number: usize) -> *const () {
    let id = CUuuid { bytes: table.to_be_bytes() };
    let mut at: Pointer = std::ptr::null_mut();
    must!(cuda.cuGetExportTable(&raw mut at, &raw const id));
    if table != STORAGE {
        // SAFETY: a table opens with its size.
        let bytes = unsafe { at.cast::<usize>().read() };
        assert!(bytes > number * 8, "{table:x} has no slot {number}");
    }
    // SAFETY: the table has the slot.
    unsafe { at.cast::<*const ()>().wrapping_add(number).read() }
}

/// Calls a slot that answers a CUresult.
macro_rules! slot {
    ($cuda:ident, $table:ident[$number:literal] ($($arg:expr => $kind:ty),*)) => {{
        let at = slot($cuda, $table, $number);
        // SAFETY: the slot's prototype.
        let function = unsafe { transmute::<*const (), unsafe extern "C" fn($($kind),*) -> CUresult>(at) };
        // SAFETY: pointers are to locals of the test.
        unsafe { function($($arg),*) }
    }};
}

/// With `context` current, and `module` loaded there.
pub(crate) fn tables(cuda: &Cuda, context: CUcontext, module: CUmodule) {
    let mut found = NONE;
    let into = &raw mut found;
    assert_eq!(slot!(cuda, RUNTIME[2](into => *mut CUcontext, CUdevice(0) => CUdevice)), CUDA_SUCCESS);
    assert_eq!(std::mem::replace(&mut found, NONE), context);
    let wrong = slot!(cuda, RUNTIME[2](into => *mut CUcontext, CUdevice(5) => CUdevice));
    assert_eq!(wrong, CUDA_ERROR_INVALID_DEVICE);
    assert_eq!(slot!(cuda, RUNTIME[12]()), CUDA_SUCCESS);
    assert_eq!(slot!(cuda, THREAD[2](into => *mut CUcontext)), CUDA_SUCCESS);
    assert_eq!(found, context);
    let (mut flags, mut count): (*const u32, usize) = (std::ptr::null(), 0);
    let (at, of) = (&raw mut flags, &raw mut count);
    assert_eq!(slot!(cuda, FLAGS[2](at => *mut *const u32, of => *mut usize)), CUDA_SUCCESS);
    // SAFETY: the table's slot says how many there are.
    assert!(count >= 567 && unsafe { std::slice::from_raw_parts(flags, count) }.iter().all(|flag| *flag == 0));
    let (mut word, mut wide) = (9_u32, 9_u64);
    let out = &raw mut word;
    assert_eq!(slot!(cuda, CHECKS[2](context => CUcontext, out => *mut u32, std::ptr::null_mut() => Pointers)), CUDA_SUCCESS);
    assert_eq!(word, 0);
    let out = &raw mut wide;
    assert_eq!(slot!(cuda, CONTEXTS[4](context => CUcontext, out => *mut u64)), CUDA_SUCCESS);
    assert_eq!(wide, value_of_id(cuda, context));
    let unknown = slot!(cuda, CONTEXTS[51](context => CUcontext, CUstream(0xbad) => CUstream, out => *mut u64));
    assert_eq!(unknown, CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(slot!(cuda, CONTEXTS[7]()), CUDA_ERROR_NOT_SUPPORTED, "a slot without a known meaning");
    let mut hooks = [out.cast::<std::ffi::c_void>(); 2];
    let (first, second) = (&raw mut hooks[0], &raw mut hooks[1]);
    assert_eq!(slot!(cuda, BLAS[4](first => Pointers, second => Pointers)), CUDA_SUCCESS);
    assert!(hooks.iter().all(|hook| hook.is_null()));
    handshake(cuda);
    functions(cuda, context, module);
}

fn value_of_id(cuda: &Cuda, context: CUcontext) -> u64 {
    let mut id = 0;
    must!(cuda.cuCtxGetId(context, &raw mut id));
    id
}

/// Two fixed answers, and one that no two threads share. Whether it is the
/// right one is for cudart to say: `cargo xtask clients --only cudart`.
fn handshake(cuda: &Cuda) {
    let ask = |version: u32| {
        let mut out = [0_u64; 2];
        let into = out.as_mut_ptr();
        let answer = slot!(cuda, HANDSHAKE[1](version => u32, 1_700_000_000 => u64, into => *mut u64));
        assert_eq!(answer, CUDA_SUCCESS);
        out
    };
    assert_eq!(ask(13_050), [0x3341_181c_03cb_675c, 0x8ed3_83aa_1f4c_d1e8]);
    assert_eq!(ask(13_051), [0x1841_181c_03cb_675c, 0x8ed3_83aa_1f4c_d1e8]);
    assert_eq!(ask(13_052), ask(13_052));
    assert_ne!(ask(13_052), ask(13_053));
}

extern "C" fn gather(user: *mut Vec<CUfunction>, function: CUfunction) {
    // SAFETY: the test's own vector.
    unsafe { &mut *user }.push(function);
}

fn functions(cuda: &Cuda, context: CUcontext, module: CUmodule) {
    type Visit = extern "C" fn(*mut Vec<CUfunction>, CUfunction);
    let at = slot(cuda, MODULES, 7);
    // SAFETY: the slot's prototype.
    let each = unsafe {
        transmute::<*const (), unsafe extern "C" fn(CUcontext, CUmodule, Visit, *mut Vec<CUfunction>) -> i32>(at)
    };
    let mut all = Vec::new();
    // SAFETY: the callback takes the pointer that goes with it.
    assert_eq!(unsafe { each(context, module, gather, &raw mut all) }, 1);
    let add = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"add".as_ptr()));
    assert!(all.len() == 2 && all.contains(&add));
}

static ENDED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn ended(_: CUcontext, key: usize, value: usize) {
    ENDED.fetch_add(key + value, Ordering::Relaxed);
}

/// What is kept with a context ends with it, by its destructor.
pub(crate) fn destructors(cuda: &Cuda) {
    type Destructor = Option<extern "C" fn(CUcontext, usize, usize)>;
    let before = ENDED.load(Ordering::Relaxed);
    let own = value_of!(cuda.cuCtxCreate_v2(NONE, 0, CUdevice(0)));
    let keep = |key: usize, value: usize, destructor: Destructor| {
        slot!(cuda, STORAGE[0](NONE => CUcontext, key => usize, value => usize, destructor => Destructor))
    };
    assert_eq!(keep(0x10, 0x7, Some(ended)), CUDA_SUCCESS);
    assert_eq!(keep(0x20, 0x8, None), CUDA_SUCCESS);
    assert_eq!(keep(0x40, 0x9, Some(ended)), CUDA_SUCCESS);
    let mut value = 0_usize;
    let into = &raw mut value;
    let get = |context: CUcontext, key: usize| {
        slot!(cuda, STORAGE[2](into => *mut usize, context => CUcontext, key => usize))
    };
    assert_eq!((get(own, 0x10), value), (CUDA_SUCCESS, 7));
    assert_eq!((get(NONE, 0x20), value), (CUDA_SUCCESS, 8));
    assert_eq!(get(own, 0x99), CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(slot!(cuda, STORAGE[1](own => CUcontext, 0x40 => usize)), CUDA_SUCCESS);
    assert_eq!(get(own, 0x40), CUDA_ERROR_INVALID_HANDLE);
    must!(cuda.cuCtxDestroy_v2(own));
    assert_eq!(ENDED.load(Ordering::Relaxed) - before, 0x17);
}
