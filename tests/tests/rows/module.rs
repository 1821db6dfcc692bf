//! Modules, libraries, their kernels and globals.

use std::ffi::{CStr, CString};
use std::io::Write;
use std::ptr;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

/// `add` writes the sum of two vectors; `nothing` does nothing; `answer` is a
/// global that holds 42.
pub(crate) const PTX: &CStr = c"
.version 7.0
.target sm_70
.address_size 64
.visible .global .align 4 .u32 answer = 42;
.visible .entry nothing() { ret; }
.visible .entry add(.param .u64 to, .param .u64 left, .param .u64 right, .param .u32 count)
{
    .reg .pred %p<2>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [to];
    ld.param.u64 %rd2, [left];
    ld.param.u64 %rd3, [right];
    ld.param.u32 %r1, [count];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd4, %r5, 4;
    add.s64 %rd5, %rd2, %rd4;
    add.s64 %rd6, %rd3, %rd4;
    add.s64 %rd7, %rd1, %rd4;
    ld.global.u32 %r6, [%rd5];
    ld.global.u32 %r7, [%rd6];
    add.s32 %r6, %r6, %r7;
    st.global.u32 [%rd7], %r6;
DONE:
    ret;
}
";

const NONE: CUmodule = CUmodule(0);

/// Leaves a module loaded.
pub(crate) fn modules(cuda: &Cuda) -> CUmodule {
    let image = PTX.as_ptr() as Pointer;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(PTX.to_bytes()).unwrap();
    let path = CString::new(file.path().to_str().unwrap()).unwrap();
    let from_file = value_of!(cuda.cuModuleLoad(NONE, path.as_ptr()));
    must!(cuda.cuModuleUnload(from_file));
    let mut none = NONE;
    let absent = result_of!(cuda.cuModuleLoad(&raw mut none, c"/no/such/file".as_ptr()));
    assert_eq!(absent, CUDA_ERROR_FILE_NOT_FOUND);
    let fat = value_of!(cuda.cuModuleLoadFatBinary(NONE, image));
    must!(cuda.cuModuleUnload(fat));
    bad_image(cuda);
    let module = value_of!(cuda.cuModuleLoadData(NONE, image));
    assert_eq!(value_of!(cuda.cuModuleGetFunctionCount(0, module)), 2);
    let (mut at, mut bytes) = (CUdeviceptr(0), 0);
    let name = c"answer".as_ptr();
    must!(cuda.cuModuleGetGlobal_v2(&raw mut at, &raw mut bytes, module, name));
    assert_eq!(bytes, 4);
    let mut answer = 0_u32;
    must!(cuda.cuMemcpyDtoH_v2((&raw mut answer).cast(), at, 4));
    assert_eq!(answer, 42);
    functions(cuda, module);
    enumerated(cuda, module);
    module
}

/// All functions at once are the same as each by its name.
fn enumerated(cuda: &Cuda, module: CUmodule) {
    let mut all = [CUfunction(0); 3];
    must!(cuda.cuModuleEnumerateFunctions(all.as_mut_ptr(), 3, module));
    let by_name = [c"nothing", c"add"]
        .map(|name| value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, name.as_ptr())));
    assert!(by_name.iter().all(|function| all[..2].contains(function)) && all[0] != all[1]);
    assert_eq!(all[2], CUfunction(0), "there are two");
    let mut one = [CUfunction(0); 2];
    must!(cuda.cuModuleEnumerateFunctions(one.as_mut_ptr(), 1, module));
    assert_eq!(one, [all[0], CUfunction(0)]);
    let none = ptr::null_mut();
    let refused = result_of!(cuda.cuModuleEnumerateFunctions(none, 1, module));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE);
    let counts: Vec<usize> = by_name
        .iter()
        .map(|function| {
            let mut count = 9;
            must!(cuda.cuFuncGetParamCount(*function, &raw mut count));
            count
        })
        .collect();
    assert_eq!(counts, [0, 4]);
}

/// The compiler's log says what is wrong.
fn bad_image(cuda: &Cuda) {
    let mut log = [0_u8; 512];
    let mut options = [CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values: [Pointer; 2] = [log.as_mut_ptr().cast(), ptr::without_provenance_mut(512)];
    let mut module = NONE;
    let answer = result_of!(cuda.cuModuleLoadDataEx(
        &raw mut module,
        c"this is not PTX".as_ptr() as Pointer,
        2,
        options.as_mut_ptr(),
        values.as_mut_ptr()
    ));
    assert!(matches!(answer, CUDA_ERROR_INVALID_PTX | CUDA_ERROR_INVALID_IMAGE), "{answer}");
    assert_ne!(log[0], 0, "the compiler's log is empty");
    let elf = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xbe\0\x01\0\0\0\0\0\0\0\0\0\0\0\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\x38\0\0\0\x40\0\0\0\0\0";
    let answer = result_of!(cuda.cuModuleLoadData(&raw mut module, elf.as_ptr() as Pointer));
    assert!(
        matches!(answer, CUDA_ERROR_NO_BINARY_FOR_GPU | CUDA_ERROR_INVALID_IMAGE),
        "a cubin: {answer}"
    );
}

fn functions(cuda: &Cuda, module: CUmodule) {
    let add = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"add".as_ptr()));
    let again = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"add".as_ptr()));
    assert_eq!(add, again);
    let mut none = CUfunction(0);
    let absent = result_of!(cuda.cuModuleGetFunction(&raw mut none, module, c"sub".as_ptr()));
    assert_eq!(absent, CUDA_ERROR_NOT_FOUND);
    assert_eq!(value_of!(cuda.cuFuncGetModule(NONE, add)), module);
    let mut name = ptr::null();
    must!(cuda.cuFuncGetName(&raw mut name, add));
    assert_eq!(text(name), c"add");
    let (mut offset, mut size) = (0, 0);
    must!(cuda.cuFuncGetParamInfo(add, 3, &raw mut offset, &raw mut size));
    assert_eq!((offset, size), (24, 4));
    let beyond = result_of!(cuda.cuFuncGetParamInfo(add, 4, &raw mut offset, &raw mut size));
    assert_eq!(beyond, CUDA_ERROR_INVALID_VALUE);
    let threads = CUfunction_attribute(0);
    assert!(value_of!(cuda.cuFuncGetAttribute(0, threads, add)) >= 32);
    let dynamic = CUfunction_attribute(8);
    must!(cuda.cuFuncSetAttribute(add, dynamic, 1024));
    must!(cuda.cuFuncSetCacheConfig(add, CUfunc_cache(1)));
    must!(cuda.cuFuncLoad(add));
    assert_eq!(value_of!(cuda.cuFuncIsLoaded(CUfunctionLoadingState(9), add)).0, 1);
}

pub(crate) fn text<'a>(name: ConstStr) -> &'a CStr {
    assert!(!name.is_null());
    // SAFETY: a name that the library keeps while the function is loaded.
    #[allow(unsafe_code, reason = "the library's string")]
    unsafe {
        CStr::from_ptr(name)
    }
}

fn load_library(cuda: &Cuda) -> CUlibrary {
    let (no_options, no_values) = (ptr::null_mut(), ptr::null_mut());
    value_of!(cuda.cuLibraryLoadData(
        CUlibrary(0),
        PTX.as_ptr() as Pointer,
        no_options,
        no_values,
        0,
        ptr::null_mut(),
        ptr::null_mut(),
        0
    ))
}

pub(crate) fn libraries(cuda: &Cuda) {
    let library = load_library(cuda);
    assert_eq!(value_of!(cuda.cuLibraryGetKernelCount(0, library)), 2);
    let kernel = value_of!(cuda.cuLibraryGetKernel(CUkernel(0), library, c"add".as_ptr()));
    assert_eq!(value_of!(cuda.cuKernelGetLibrary(CUlibrary(0), kernel)), library);
    let mut all = [CUkernel(0); 2];
    must!(cuda.cuLibraryEnumerateKernels(all.as_mut_ptr(), 2, library));
    assert!(all.contains(&kernel) && all[0] != all[1]);
    let mut count = 0;
    must!(cuda.cuKernelGetParamCount(kernel, &raw mut count));
    assert_eq!(count, 4);
    let mut name = ptr::null();
    must!(cuda.cuKernelGetName(&raw mut name, kernel));
    assert_eq!(text(name), c"add");
    let (mut offset, mut size) = (0, 0);
    must!(cuda.cuKernelGetParamInfo(kernel, 1, &raw mut offset, &raw mut size));
    assert_eq!((offset, size), (8, 8));
    let (dev, threads) = (CUdevice(0), CUfunction_attribute(0));
    assert!(value_of!(cuda.cuKernelGetAttribute(0, threads, kernel, dev)) >= 32);
    must!(cuda.cuKernelSetAttribute(CUfunction_attribute(8), 2048, kernel, dev));
    must!(cuda.cuKernelSetCacheConfig(kernel, CUfunc_cache(1), dev));
    let function = value_of!(cuda.cuKernelGetFunction(CUfunction(0), kernel));
    assert_ne!(function, CUfunction(0));
    let module = value_of!(cuda.cuLibraryGetModule(NONE, library));
    assert_eq!(value_of!(cuda.cuLibraryGetModule(NONE, library)), module);
    let (mut at, mut bytes) = (CUdeviceptr(0), 0);
    let answer = c"answer".as_ptr();
    must!(cuda.cuLibraryGetGlobal(&raw mut at, &raw mut bytes, library, answer));
    assert_eq!(bytes, 4);
    must!(cuda.cuLibraryUnload(library));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(PTX.to_bytes()).unwrap();
    let path = CString::new(file.path().to_str().unwrap()).unwrap();
    let from_file = value_of!(cuda.cuLibraryLoadFromFile(
        CUlibrary(0),
        path.as_ptr(),
        ptr::null_mut(),
        ptr::null_mut(),
        0,
        ptr::null_mut(),
        ptr::null_mut(),
        0
    ));
    must!(cuda.cuLibraryUnload(from_file));
}

pub(crate) fn unload(cuda: &Cuda, module: CUmodule) {
    must!(cuda.cuModuleUnload(module));
    let mut function = CUfunction(0);
    let gone = result_of!(cuda.cuModuleGetFunction(&raw mut function, module, c"add".as_ptr()));
    assert_eq!(gone, CUDA_ERROR_INVALID_HANDLE);
}
