//! Synchronous memsets: the default stream they work on is marked, and in
//! their `_ptds` variants it is the calling thread's.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;
use crate::state::stream;

macro_rules! memsets {
    ($($name:ident by $asynchronous:ident ($($arg:ident: $type:ty),*);)*) => {$(
        pub(crate) fn $name($($arg: $type),*) -> Answer {
            let default = stream::default_stream();
            if default == CU_STREAM_PER_THREAD {
                return table::$asynchronous($($arg,)* default);
            }
            stream::mark_busy(default);
            table::$name($($arg),*)
        }
    )*};
}

memsets! {
    cuMemsetD8_v2 by cuMemsetD8Async(dst: CUdeviceptr, value: u8, n: usize);
    cuMemsetD16_v2 by cuMemsetD16Async(dst: CUdeviceptr, value: u16, n: usize);
    cuMemsetD32_v2 by cuMemsetD32Async(dst: CUdeviceptr, value: u32, n: usize);
    cuMemsetD2D8_v2 by cuMemsetD2D8Async(dst: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize);
    cuMemsetD2D16_v2 by cuMemsetD2D16Async(dst: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize);
    cuMemsetD2D32_v2 by cuMemsetD2D32Async(dst: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize);
}
