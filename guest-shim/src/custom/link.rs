//! Linking. Inputs travel as images do; the linked image comes back through
//! staging and stays here until the link ends, since the program reads it by
//! pointer. The linker's log is the worker's and is copied into the program's
//! buffer after every step.

use std::collections::HashMap;
use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};

use paravane_protocol::codec::Decoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::LINK_PIECE;
use paravane_protocol::limits::{IMAGE_BYTES_MAX, NAME_BYTES_MAX};
use paravane_protocol::opcode;

use super::image::{JitOptions, send_image};
use crate::boundary::Answer;
use crate::connection::{ThreadRing, with_ring};
use crate::state::staging::{self, SLOT, Staging};
use crate::{handles, pointer};

/// A link that was created here.
#[derive(Default)]
struct Link {
    /// Address and size of the program's buffer for errors.
    error_log: Option<(usize, usize)>,
    image: Option<Box<[u8]>>,
}

static LINKS: Mutex<Option<HashMap<u64, Link>>> = Mutex::new(None);

fn links() -> MutexGuard<'static, Option<HashMap<u64, Link>>> {
    LINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look<T>(state: CUlinkState, look: impl FnOnce(&mut Link) -> T) -> Answer<T> {
    links().as_mut().and_then(|all| all.get_mut(&state.0)).map(look).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

pub(crate) fn cuLinkCreate_v2(
    count: u32,
    options: *mut CUjit_option,
    values: Pointers,
    state: *mut CUlinkState,
) -> Answer {
    if state.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    crate::state::current::context()?;
    let options = JitOptions::read(count, options, values)?;
    let id: CUlinkState = handles::mint()?;
    let created = with_ring(|ring| {
        ring.call(
            opcode::cuLinkCreate_v2,
            |to| {
                to.word(id.number());
                options.encode(to);
                Ok(())
            },
            |_| (),
        )
    });
    if let Err(error) = created {
        handles::release(id);
        return Err(error);
    }
    let error_log = options.error_log.map(|(buffer, size)| (buffer.expose_provenance(), size));
    links().get_or_insert_default().insert(id.number(), Link { error_log, image: None });
    pointer::put(state, id)
}

/// The step's own result, after the linker's log has gone where the program wants it.
fn step(from: &mut Decoder, error_log: Option<(usize, usize)>) -> Answer {
    let result = CUresult::from_word(from.word());
    let log = from.bytes();
    if let Some((buffer, size)) = error_log.filter(|_| !log.is_empty()) {
        let size = i32::try_from(size).unwrap_or(i32::MAX);
        let _ = pointer::put_string(std::ptr::with_exposed_provenance_mut(buffer), size, log);
    }
    result.ok()
}

#[allow(clippy::too_many_arguments, reason = "CUDA's prototype")]
pub(crate) fn cuLinkAddData_v2(
    state: CUlinkState,
    kind: CUjitInputType,
    data: Pointer,
    size: usize,
    name: *const c_char,
    count: u32,
    options: *mut CUjit_option,
    values: Pointers,
) -> Answer {
    crate::state::current::context()?;
    let error_log = look(state, |link| link.error_log)?;
    if data.is_null() || size == 0 || size as u64 > IMAGE_BYTES_MAX {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let data = pointer::bytes(data.cast(), size)?;
    let name = if name.is_null() { c"" } else { pointer::string(name)? };
    let name = name.to_bytes_with_nul();
    if name.len() > NAME_BYTES_MAX {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let options = JitOptions::read(count, options, values)?;
    with_ring(|ring| {
        send_image(ring, data)?;
        ring.call(
            opcode::cuLinkAddData_v2,
            |to| {
                to.word(state.number());
                to.word(kind.to_word());
                to.bytes(name);
                options.encode(to);
                Ok(())
            },
            |from| step(from, error_log),
        )?
    })
}

/// Brings the linked image of that size here.
fn fetch(ring: &mut ThreadRing, state: CUlinkState, size: usize) -> Answer<Box<[u8]>> {
    let mut image = vec![0; size].into_boxed_slice();
    let staging = staging::take(ring)?;
    for (number, piece) in image.chunks_mut(SLOT).enumerate() {
        ring.call(
            LINK_PIECE,
            |to| {
                to.word(state.number());
                to.word((number * SLOT) as u64);
                to.word(u64::from(staging.area()));
                to.word(Staging::offset(0) as u64);
                to.word(piece.len() as u64);
                Ok(())
            },
            |_| (),
        )?;
        piece.copy_from_slice(staging.bytes(0, piece.len())?);
    }
    Ok(image)
}

pub(crate) fn cuLinkComplete(state: CUlinkState, image: *mut Pointer, size: *mut usize) -> Answer {
    if image.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    crate::state::current::context()?;
    let error_log = look(state, |link| link.error_log)?;
    let linked = with_ring(|ring| {
        let bytes = ring.call(
            opcode::cuLinkComplete,
            |to| {
                to.word(state.number());
                Ok(())
            },
            |from| step(from, error_log).map(|()| from.word()),
        )??;
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes as u64 <= IMAGE_BYTES_MAX);
        fetch(ring, state, bytes.ok_or(CUDA_ERROR_INVALID_IMAGE)?)
    })?;
    let (at, bytes) = look(state, |link| {
        let kept = link.image.insert(linked);
        (kept.as_ptr(), kept.len())
    })?;
    pointer::put_opt(size, bytes);
    pointer::put(image, at.cast_mut().cast())
}

pub(crate) fn cuLinkDestroy(state: CUlinkState) -> Answer {
    let known = links().as_mut().and_then(|all| all.remove(&state.0));
    known.ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    let ended = with_ring(|ring| {
        ring.call(
            opcode::cuLinkDestroy,
            |to| {
                to.word(state.number());
                Ok(())
            },
            |_| (),
        )
    });
    handles::release(state);
    ended
}
