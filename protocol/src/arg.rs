//! The directions of the table: each names what its argument is in CUDA's C
//! interface. How it is sent and received is the shim's and the worker's
//! matter; they implement it for these types.

use core::ffi::c_char;
use core::marker::PhantomData;

/// A direction with a type: how the argument looks in C.
pub trait Arg {
    /// The parameter's type in CUDA's C prototype.
    type C;
}

macro_rules! directions {
    ($($(#[$doc:meta])* $name:ident<T> = $c:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<T>(PhantomData<T>);
        impl<T> Arg for $name<T> {
            type C = $c;
        }
    )*};
}

directions! {
    /// A value passed in.
    In<T> = T;
    /// A stream or the like on which the call puts work: resolved to the
    /// per-thread default in `_ptsz` variants, and marked as busy.
    On<T> = T;
    /// A stream that the call asks about: resolved as in [`On`], not marked.
    Of<T> = T;
    /// A result, written through a pointer that must not be NULL.
    Out<T> = *mut T;
    /// A result that the caller may decline by NULL.
    OutOpt<T> = *mut T;
    /// Read and written through one pointer.
    InOut<T> = *mut T;
    /// An array passed in; its length follows in brackets.
    InSlice<T> = *const T;
    /// An array written; its length follows in brackets.
    OutSlice<T> = *mut T;
    /// An array that the call reads and changes; its length follows in brackets.
    InOutSlice<T> = *mut T;
    /// A handle that the call creates: the shim mints its id.
    New<T> = *mut T;
    /// A handle that the call ends.
    Del<T> = T;
}

/// A NUL-terminated string passed in.
#[derive(Debug)]
pub struct InStr;
impl Arg for InStr {
    type C = *const c_char;
}
