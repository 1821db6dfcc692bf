//! Directions of [`crate::nvml_api`]'s arguments that CUDA's table does not
//! have.

use core::ffi::{c_char, c_void};

use crate::arg::Arg;

/// A buffer for text, of the length in brackets.
#[derive(Debug)]
pub struct OutText;
impl Arg for OutText {
    type C = *mut c_char;
}

/// A struct that is read and written and says its own length in its first
/// word ([`crate::nvml_types::struct_version`]); `BYTES` is its newest form's.
#[derive(Debug)]
pub struct Versioned<const BYTES: usize>;
impl<const BYTES: usize> Arg for Versioned<BYTES> {
    type C = *mut c_void;
}
