//! Linking: two modules that need each other become one image.

use std::ffi::CStr;
use std::io::Write;
use std::ptr;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const NONE: CUlinkState = CUlinkState(0);

/// Calls `twice` and reads `base`, which are elsewhere.
const CALLER: &CStr = c"
.version 7.0
.target sm_70
.address_size 64
.extern .func (.param .b32 result) twice(.param .b32 value);
.extern .global .align 4 .u32 base;
.global .align 4 .u32 own = 3;
.visible .entry linked(.param .u64 to)
{
    .reg .b32 %r<6>;
    .reg .b64 %rd<3>;
    .param .b32 argument;
    .param .b32 answer;
    ld.param.u64 %rd1, [to];
    ld.global.u32 %r1, [base];
    ld.global.u32 %r2, [own];
    add.s32 %r3, %r1, %r2;
    st.param.b32 [argument], %r3;
    call.uni (answer), twice, (argument);
    ld.param.b32 %r4, [answer];
    st.global.u32 [%rd1], %r4;
    ret;
}
";

/// Has a private variable of the same name as the other module's.
const CALLEE: &CStr = c"
.version 7.0
.target sm_70
.address_size 64
.visible .global .align 4 .u32 base = 18;
.global .align 4 .u32 own = 1000;
.visible .func (.param .b32 result) twice(.param .b32 value)
{
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [value];
    add.s32 %r2, %r1, %r1;
    st.param.b32 [result], %r2;
    ret;
}
";

fn add(cuda: &Cuda, state: CUlinkState, text: &CStr) {
    let (data, size) = (text.as_ptr() as Pointer, text.to_bytes_with_nul().len());
    let (options, values) = (ptr::null_mut(), ptr::null_mut());
    let kind = CU_JIT_INPUT_PTX;
    must!(cuda.cuLinkAddData_v2(state, kind, data, size, c"a".as_ptr(), 0, options, values));
}

pub(crate) fn links(cuda: &Cuda) {
    let (options, values) = (ptr::null_mut(), ptr::null_mut());
    let mut state = NONE;
    must!(cuda.cuLinkCreate_v2(0, options, values, &raw mut state));
    add(cuda, state, CALLER);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(CALLEE.to_bytes()).unwrap();
    let path = std::ffi::CString::new(file.path().to_str().unwrap()).unwrap();
    must!(cuda.cuLinkAddFile_v2(state, CU_JIT_INPUT_PTX, path.as_ptr(), 0, options, values));
    let (mut image, mut size) = (ptr::null_mut(), 0);
    must!(cuda.cuLinkComplete(state, &raw mut image, &raw mut size));
    assert!(size > 0);
    let module = value_of!(cuda.cuModuleLoadData(CUmodule(0), image));
    must!(cuda.cuLinkDestroy(state));
    let gone = result_of!(cuda.cuLinkDestroy(state));
    assert_eq!(gone, CUDA_ERROR_INVALID_HANDLE);
    let kernel = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"linked".as_ptr()));
    let mut to = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), 4));
    let mut arguments: [Pointer; 1] = [(&raw mut to).cast()];
    let arguments = arguments.as_mut_ptr();
    must!(cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, CUstream(0), arguments, ptr::null_mut()));
    let mut answer = 0_u32;
    must!(cuda.cuMemcpyDtoH_v2((&raw mut answer).cast(), to, 4));
    assert_eq!(answer, 2 * (18 + 3));
    must!(cuda.cuMemFree_v2(to));
    must!(cuda.cuModuleUnload(module));
    refusals(cuda);
}

/// What is missing is named in the log; what is no PTX is refused as it is added.
fn refusals(cuda: &Cuda) {
    let mut log = [0_u8; 512];
    let mut options = [CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values: [Pointer; 2] = [log.as_mut_ptr().cast(), ptr::without_provenance_mut(512)];
    let mut state = NONE;
    must!(cuda.cuLinkCreate(2, options.as_mut_ptr(), values.as_mut_ptr(), &raw mut state));
    let (options, values) = (ptr::null_mut(), ptr::null_mut());
    let (data, size) = (CALLER.as_ptr() as Pointer, CALLER.to_bytes().len());
    let name = c"caller".as_ptr();
    must!(cuda.cuLinkAddData(state, CU_JIT_INPUT_PTX, data, size, name, 0, options, values));
    let (mut image, mut bytes) = (ptr::null_mut(), 0);
    let lacking = result_of!(cuda.cuLinkComplete(state, &raw mut image, &raw mut bytes));
    assert_ne!(lacking, CUDA_SUCCESS);
    let text = CStr::from_bytes_until_nul(&log).unwrap().to_str().unwrap();
    assert!(text.contains("twice") || text.contains("base"), "the log: {text}");
    must!(cuda.cuLinkDestroy(state));
    let mut state = NONE;
    must!(cuda.cuLinkCreate_v2(0, options, values, &raw mut state));
    let text = c"this is not PTX";
    let (data, size) = (text.as_ptr() as Pointer, text.to_bytes_with_nul().len());
    let bad = result_of!(cuda.cuLinkAddData_v2(state, CU_JIT_INPUT_PTX, data, size, name, 0, options, values));
    assert!(matches!(bad, CUDA_ERROR_INVALID_PTX | CUDA_ERROR_INVALID_IMAGE), "{bad}");
    let absent = result_of!(cuda.cuLinkAddFile(state, CU_JIT_INPUT_PTX, c"/no/such".as_ptr(), 0, options, values));
    assert_eq!(absent, CUDA_ERROR_FILE_NOT_FOUND);
    must!(cuda.cuLinkDestroy(state));
}
