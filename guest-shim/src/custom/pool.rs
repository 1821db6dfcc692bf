//! Stream-ordered frees, which nobody waits for, and the default pool, whose
//! id is the same however often it is asked for.

use paravane_protocol::cuda_types::*;
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::{capture, current, mode, pools, ranges, stream};
use crate::{handles, local, pointer};

/// Forgets the range first: once the host has freed it, another thread's
/// allocation may get the same address. Memory that is not known here is
/// libcuda's to judge, so that call is awaited.
pub(crate) fn cuMemFreeAsync(dptr: CUdeviceptr, on: CUstream) -> Answer {
    current::context()?;
    let stream = stream::resolve(on);
    // Under capture nothing is freed yet; libcuda may still say that it cannot be.
    let known = !capture::is_any() && ranges::remove(dptr.0).is_some();
    let encode = |to: &mut paravane_protocol::codec::Encoder| {
        stream::mark_busy(stream);
        to.word(dptr.0);
        to.word(stream.0);
        Ok(())
    };
    if known {
        mode::post_or_call(opcode::cuMemFreeAsync, encode)?;
    } else {
        with_ring(|ring| ring.call(opcode::cuMemFreeAsync, encode, |_| ()))?;
    }
    super::end_share(dptr.0)
}

/// Asks the host for the default pool of a device, under an id made here.
pub(crate) fn ask_default_pool(device: CUdevice) -> Answer<CUmemoryPool> {
    let id: CUmemoryPool = handles::mint()?;
    let asked = with_ring(|ring| {
        ring.call(
            opcode::cuDeviceGetDefaultMemPool,
            |to| {
                to.word(id.0);
                to.word(device.to_word());
                Ok(())
            },
            |_| (),
        )
    });
    if let Err(error) = asked {
        handles::release(id);
        return Err(error);
    }
    Ok(pools::remember_default(device, id))
}

pub(crate) fn cuDeviceGetDefaultMemPool(pool: *mut CUmemoryPool, device: CUdevice) -> Answer {
    pointer::put(pool, local::default_pool(device)?)
}
