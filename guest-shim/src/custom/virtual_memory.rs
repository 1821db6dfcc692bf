//! The memory behind a mapping, under an id of its own: each id is released
//! once, as each reference of CUDA's is.

use paravane_protocol::cuda_types::*;
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::{handles, pointer};

pub(crate) fn cuMemRetainAllocationHandle(
    into: *mut CUmemGenericAllocationHandle,
    address: Pointer,
) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let id: CUmemGenericAllocationHandle = handles::mint()?;
    let asked = with_ring(|ring| {
        ring.call(
            opcode::cuMemRetainAllocationHandle,
            |to| {
                to.word(id.0);
                to.word(address as u64);
                Ok(())
            },
            |_| (),
        )
    });
    if let Err(error) = asked {
        handles::release(id);
        return Err(error);
    }
    pointer::put(into, id)
}
