//! Names and meanings of errors.

use std::ffi::CStr;

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::pointer;

fn tell(text: Option<&'static CStr>, into: *mut ConstStr) -> Answer {
    pointer::put(into, text.map_or(std::ptr::null(), CStr::as_ptr))?;
    text.map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
}

pub(crate) fn cuGetErrorName(error: CUresult, name: *mut ConstStr) -> Answer {
    tell(error.name(), name)
}

pub(crate) fn cuGetErrorString(error: CUresult, text: *mut ConstStr) -> Answer {
    tell(error.meaning(), text)
}
