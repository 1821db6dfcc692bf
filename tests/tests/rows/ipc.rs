//! Handles for other processes, as far as one process can use them;
//! `tests/ipc.rs` has two.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};
use zerocopy::FromZeros;

const NULL: CUdeviceptr = CUdeviceptr(0);

pub(crate) fn handles(cuda: &Cuda) {
    let memory = value_of!(cuda.cuMemAlloc_v2(NULL, 5000));
    must!(cuda.cuMemsetD8_v2(memory, 9, 5000));
    let mut handle = CUipcHandle { bytes: [0; 64] };
    must!(cuda.cuIpcGetMemHandle(&raw mut handle, memory));
    assert_ne!(handle.bytes, [0; 64]);
    let mut back = vec![0_u8; 5000];
    must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), memory, 5000));
    assert!(back.iter().all(|byte| *byte == 9), "sharing has changed the memory");
    let mut opened = NULL;
    let own = result_of!(cuda.cuIpcOpenMemHandle_v2(&raw mut opened, handle, 1));
    assert_eq!(own, CUDA_ERROR_INVALID_CONTEXT);
    let first = result_of!(cuda.cuIpcOpenMemHandle(&raw mut opened, handle, 1));
    assert_eq!(first, own, "the first version is the same");
    let made_up = CUipcHandle { bytes: [7; 64] };
    for (handle, flags) in [(made_up, 1), (CUipcHandle { bytes: [0; 64] }, 1), (handle, 0)] {
        let bad = result_of!(cuda.cuIpcOpenMemHandle_v2(&raw mut opened, handle, flags));
        assert_eq!(bad, CUDA_ERROR_INVALID_VALUE);
    }
    assert_eq!(result_of!(cuda.cuIpcCloseMemHandle(memory)), CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuMemFree_v2(memory));
    let withdrawn = result_of!(cuda.cuIpcOpenMemHandle_v2(&raw mut opened, handle, 1));
    assert_eq!(withdrawn, CUDA_ERROR_INVALID_VALUE, "the memory is gone");
    let gone = result_of!(cuda.cuIpcGetMemHandle(&raw mut handle, memory));
    assert_eq!(gone, CUDA_ERROR_INVALID_VALUE);
    exported(cuda);
    events(cuda);
}

/// Physical memory by descriptor, mapped a second time under the second handle.
fn exported(cuda: &Cuda) {
    let none = CUmemGenericAllocationHandle(0);
    let kind = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    let prop = CUmemAllocationProp {
        kind: CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: kind,
        location: CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: 0 },
        ..CUmemAllocationProp::new_zeroed()
    };
    const BYTES: usize = 2 << 20;
    let memory = value_of!(cuda.cuMemCreate(none, BYTES, &raw const prop, 0));
    let mut fd = -1_i32;
    must!(cuda.cuMemExportToShareableHandle((&raw mut fd).cast(), memory, kind, 0));
    assert!(fd >= 0);
    let shared = usize::try_from(fd).unwrap() as Pointer;
    let second = value_of!(cuda.cuMemImportFromShareableHandle(none, shared, kind));
    // SAFETY: the descriptor is the program's.
    #[allow(unsafe_code, reason = "a descriptor that the call has made")]
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) });
    let at = value_of!(cuda.cuMemAddressReserve(NULL, 2 * BYTES, 0, NULL, 0));
    let other = CUdeviceptr(at.0 + BYTES as u64);
    must!(cuda.cuMemMap(at, BYTES, 0, memory, 0));
    must!(cuda.cuMemMap(other, BYTES, 0, second, 0));
    let access = CUmemAccessDesc { location: prop.location, flags: CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
    must!(cuda.cuMemSetAccess(at, 2 * BYTES, &raw const access, 1));
    must!(cuda.cuMemsetD8_v2(at, 8, BYTES));
    let mut back = vec![0_u8; BYTES];
    must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), other, BYTES));
    assert!(back.iter().all(|byte| *byte == 8));
    must!(cuda.cuMemUnmap(at, 2 * BYTES));
    must!(cuda.cuMemAddressFree(at, 2 * BYTES));
    must!(cuda.cuMemRelease(memory));
    must!(cuda.cuMemRelease(second));
    let mut into = none;
    let nothing = std::fs::File::open("/dev/null").unwrap();
    let shared = usize::try_from(std::os::fd::AsRawFd::as_raw_fd(&nothing)).unwrap() as Pointer;
    let bad = result_of!(cuda.cuMemImportFromShareableHandle(&raw mut into, shared, kind));
    assert_eq!(bad, CUDA_ERROR_INVALID_VALUE);
}

/// An event for several processes works in one as others do.
fn events(cuda: &Cuda) {
    const DISABLE_TIMING: u32 = 2;
    const INTERPROCESS: u32 = 4;
    let mut none = CUevent(0);
    let timed = result_of!(cuda.cuEventCreate(&raw mut none, INTERPROCESS));
    assert_eq!(timed, CUDA_ERROR_INVALID_VALUE);
    let event = value_of!(cuda.cuEventCreate(CUevent(0), INTERPROCESS | DISABLE_TIMING));
    must!(cuda.cuEventQuery(event));
    must!(cuda.cuEventRecord(event, CUstream(0)));
    must!(cuda.cuStreamWaitEvent(CUstream(0), event, 0));
    must!(cuda.cuEventSynchronize(event));
    must!(cuda.cuEventQuery(event));
    let mut handle = CUipcHandle { bytes: [0; 64] };
    must!(cuda.cuIpcGetEventHandle(&raw mut handle, event));
    let own = result_of!(cuda.cuIpcOpenEventHandle(&raw mut none, handle));
    assert_eq!(own, CUDA_ERROR_INVALID_CONTEXT);
    let made_up = result_of!(cuda.cuIpcOpenEventHandle(&raw mut none, CUipcHandle { bytes: [7; 64] }));
    assert_eq!(made_up, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuCtxSynchronize());
    must!(cuda.cuEventDestroy_v2(event));
    let withdrawn = result_of!(cuda.cuIpcOpenEventHandle(&raw mut none, handle));
    assert_ne!(withdrawn, CUDA_SUCCESS, "the event is gone");
    let plain = value_of!(cuda.cuEventCreate(CUevent(0), 0));
    let alone = result_of!(cuda.cuIpcGetEventHandle(&raw mut handle, plain));
    assert_eq!(alone, CUDA_ERROR_INVALID_HANDLE);
    must!(cuda.cuEventDestroy_v2(plain));
}
