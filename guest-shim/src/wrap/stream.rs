//! Streams: whose they are, and whether a synchronise has to leave the guest.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;
use crate::state::{capture, current, objects, stream};
use crate::{connection, pointer};

fn created(into: *mut CUstream) -> Answer {
    let id = pointer::get(into)?;
    stream::set_stream(id, false);
    objects::STREAM_CONTEXT.insert(id.0, current::context()?.0);
    Ok(())
}

pub(crate) fn cuStreamCreate(into: *mut CUstream, flags: u32) -> Answer {
    table::cuStreamCreate(into, flags)?;
    created(into)
}

pub(crate) fn cuStreamCreateWithPriority(into: *mut CUstream, flags: u32, priority: i32) -> Answer {
    table::cuStreamCreateWithPriority(into, flags, priority)?;
    created(into)
}

pub(crate) fn cuStreamDestroy_v2(stream: CUstream) -> Answer {
    table::cuStreamDestroy_v2(stream)?;
    objects::STREAM_CONTEXT.remove(stream.0);
    super::capture::failed(capture::end(stream))
}

/// Whether a question about the stream can be answered here: it exists and has
/// nothing outstanding.
fn is_idle(stream: CUstream) -> Answer<bool> {
    let connection = connection::get()?;
    if stream.0 > CU_STREAM_PER_THREAD.0 {
        objects::STREAM_CONTEXT.get(stream.0).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    } else {
        current::context()?;
    }
    connection.check()?;
    Ok(!stream::is_busy(stream) && !connection.has_deferred() && !capture::is_any())
}

pub(crate) fn cuStreamQuery(stream: CUstream) -> Answer {
    let stream = stream::resolve(stream);
    if is_idle(stream)? {
        return Ok(());
    }
    stream::set_stream(stream, false);
    table::cuStreamQuery(stream).inspect_err(|_| stream::set_stream(stream, true))
}

pub(crate) fn cuStreamSynchronize(stream: CUstream) -> Answer {
    let stream = stream::resolve(stream);
    if is_idle(stream)? {
        return Ok(());
    }
    stream::set_stream(stream, false);
    table::cuStreamSynchronize(stream).inspect_err(|_| stream::set_stream(stream, true))
}
