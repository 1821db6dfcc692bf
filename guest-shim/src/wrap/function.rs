//! Attributes of functions that bound their launches.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;
use crate::state::functions;

pub(crate) fn cuFuncSetAttribute(function: CUfunction, attribute: CUfunction_attribute, value: i32) -> Answer {
    table::cuFuncSetAttribute(function, attribute, value)?;
    functions::attribute_was_set(function.0);
    Ok(())
}

pub(crate) fn cuKernelSetAttribute(
    attribute: CUfunction_attribute,
    value: i32,
    kernel: CUkernel,
    dev: CUdevice,
) -> Answer {
    table::cuKernelSetAttribute(attribute, value, kernel, dev)?;
    functions::attribute_was_set(kernel.0);
    Ok(())
}
