//! The log of failed calls.

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

/// Counts its calls in what its data points to.
#[allow(unsafe_code, reason = "a callback gets pointers")]
unsafe extern "C" fn count(data: *mut c_void, level: u32, message: *mut c_char, length: usize) {
    assert!(level == 0 && length > 0 && !message.is_null());
    // SAFETY: the counter that was registered with it.
    unsafe { &*data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
}

fn fail(cuda: &Cuda) {
    let mut none = CUdevice(0);
    assert_eq!(result_of!(cuda.cuDeviceGet(&raw mut none, 999)), CUDA_ERROR_INVALID_DEVICE);
}

/// What a dump in that much room holds.
fn dumped(cuda: &Cuda, iterator: *mut u32, room: usize) -> String {
    let (mut buffer, mut size) = (vec![1_u8; room], room);
    must!(cuda.cuLogsDumpToMemory(iterator, buffer.as_mut_ptr(), &raw mut size, 0));
    assert_eq!(buffer[size], 0, "a NUL ends it");
    String::from_utf8(buffer[..size].to_vec()).unwrap()
}

pub(crate) fn failed_calls(cuda: &Cuda) {
    let told = AtomicUsize::new(0);
    let data = (&raw const told).cast_mut().cast();
    let mut handle = CUlogsCallbackHandle(0);
    must!(cuda.cuLogsRegisterCallback(Some(count), data, &raw mut handle));
    let mut iterator = value_of!(cuda.cuLogsCurrent(0, 0));
    assert_eq!(dumped(cuda, &raw mut iterator, 100), "");
    fail(cuda);
    fail(cuda);
    assert_eq!(told.load(Ordering::Relaxed), 2);
    must!(cuda.cuLogsUnregisterCallback(handle));
    assert_eq!(result_of!(cuda.cuLogsUnregisterCallback(handle)), CUDA_ERROR_INVALID_VALUE);
    let (mut small, mut size) = ([0_u8; 8], 8);
    let no_room = result_of!(cuda.cuLogsDumpToMemory(&raw mut iterator, small.as_mut_ptr(), &raw mut size, 0));
    assert_eq!((no_room, size), (CUDA_ERROR_INVALID_VALUE, 0));
    let text = dumped(cuda, &raw mut iterator, 4000);
    assert_eq!(text.matches("cuDeviceGet returned CUDA_ERROR_INVALID_DEVICE").count(), 2, "{text}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = CString::new(file.path().to_str().unwrap()).unwrap();
    must!(cuda.cuLogsDumpToFile(ptr::null_mut(), path.as_ptr(), 0));
    assert!(std::fs::read_to_string(file.path()).unwrap().contains(&text));
    let flags = result_of!(cuda.cuLogsCurrent(&raw mut iterator, 1));
    assert_eq!(flags, CUDA_ERROR_INVALID_VALUE);
}
