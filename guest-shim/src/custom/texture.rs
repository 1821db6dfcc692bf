//! Textures and surfaces, whose numbers are the host's own because kernels are
//! passed them; and levels of mipmapped arrays, whose ids stay the same.

use paravane_protocol::cuda_types::*;
use paravane_protocol::{codec::Encoder, opcode};
use zerocopy::IntoBytes;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::arrays::{self, Texture};
use crate::{handles, pointer};

fn ask(opcode: u16, encode: impl FnOnce(&mut Encoder)) -> Answer<u64> {
    with_ring(|ring| {
        ring.call(
            opcode,
            |to| {
                encode(to);
                Ok(())
            },
            |from| from.word(),
        )
    })
}

fn tell(opcode: u16, word: u64) -> Answer {
    with_ring(|ring| {
        ring.call(
            opcode,
            |to| {
                to.word(word);
                Ok(())
            },
            |_| (),
        )
    })
}

pub(crate) fn cuTexObjectCreate(
    into: *mut CUtexObject,
    resource: *const CUDA_RESOURCE_DESC,
    texture: *const CUDA_TEXTURE_DESC,
    view: *const CUDA_RESOURCE_VIEW_DESC,
) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let view = if view.is_null() { None } else { Some(pointer::get(view)?) };
    let of = Texture { resource: pointer::get(resource)?, texture: pointer::get(texture)?, view };
    let made = CUtexObject(ask(opcode::cuTexObjectCreate, |to| {
        to.bytes(of.resource.as_bytes());
        to.bytes(of.texture.as_bytes());
        to.bytes(of.view.as_ref().map_or(&[], |view| view.as_bytes()));
    })?);
    arrays::insert_texture(made, of);
    pointer::put(into, made)
}

pub(crate) fn cuTexObjectDestroy(texture: CUtexObject) -> Answer {
    tell(opcode::cuTexObjectDestroy, texture.0)?;
    arrays::remove_texture(texture);
    Ok(())
}

pub(crate) fn cuSurfObjectCreate(into: *mut CUsurfObject, resource: *const CUDA_RESOURCE_DESC) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let resource = pointer::get(resource)?;
    let made = CUsurfObject(ask(opcode::cuSurfObjectCreate, |to| to.bytes(resource.as_bytes()))?);
    arrays::insert_surface(made, resource);
    pointer::put(into, made)
}

pub(crate) fn cuSurfObjectDestroy(surface: CUsurfObject) -> Answer {
    tell(opcode::cuSurfObjectDestroy, surface.0)?;
    arrays::remove_surface(surface);
    Ok(())
}

pub(crate) fn cuMipmappedArrayGetLevel(into: *mut CUarray, of: CUmipmappedArray, level: u32) -> Answer {
    let descriptor = arrays::level_descriptor(of, level)?;
    if let Some(known) = arrays::level(of, level) {
        return pointer::put(into, known);
    }
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let id: CUarray = handles::mint()?;
    let asked = ask(opcode::cuMipmappedArrayGetLevel, |to| {
        to.word(id.0);
        to.word(of.0);
        to.word(u64::from(level));
    });
    if let Err(error) = asked {
        handles::release(id);
        return Err(error);
    }
    arrays::insert(id, descriptor);
    arrays::insert_level(of, level, id);
    pointer::put(into, id)
}
