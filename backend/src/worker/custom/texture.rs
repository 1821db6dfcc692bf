//! Textures and surfaces. Their numbers are libcuda's own, because kernels are
//! passed them, so the process keeps a list: only what is on it is destroyed.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use paravane_protocol::codec::Decoder;
use paravane_protocol::cuda_types::*;
use zerocopy::FromBytes;

use crate::worker::arg::Element;
use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
use crate::worker::libcuda::{Answer, cuda};

/// The textures and surfaces of one guest process.
#[derive(Default)]
pub(in crate::worker) struct Textures {
    textures: Mutex<HashSet<u64>>,
    surfaces: Mutex<HashSet<u64>>,
}

fn add(to: &Mutex<HashSet<u64>>, number: u64) {
    to.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
}

/// Takes a number off its list; CUDA_ERROR_INVALID_VALUE if it is not on it.
fn take(from: &Mutex<HashSet<u64>>, number: u64) -> Answer {
    let known = from.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    if known { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// A structure in a frame; one of another size breaks the protocol.
fn structure<T: Element>(from: &mut Decoder) -> Answer<T> {
    T::read_from_bytes(from.bytes()).map_err(|_| {
        from.fail();
        CUDA_ERROR_INVALID_VALUE
    })
}

/// In: resource, texture, view or nothing. Reply: the texture's number.
pub(in crate::worker) fn cuTexObjectCreate(command: &mut Command) -> Answer {
    let resource: Answer<CUDA_RESOURCE_DESC> = structure(&mut command.from);
    let texture: Answer<CUDA_TEXTURE_DESC> = structure(&mut command.from);
    let view = command.from.bytes();
    command.read_all()?;
    let process = command.thread.process();
    let (resource, texture) = (resource?.resolve(&process.handles)?, texture?);
    let view = match view {
        [] => None,
        bytes => {
            let view = CUDA_RESOURCE_VIEW_DESC::read_from_bytes(bytes);
            Some(view.map_err(|_| CUDA_ERROR_INVALID_VALUE)?)
        }
    };
    let view = view.as_ref().map_or(std::ptr::null(), |view| &raw const *view);
    let lib = &process.lib;
    let mut made = CUtexObject(0);
    cuda!(lib.cuTexObjectCreate(&raw mut made, &raw const resource, &raw const texture, view))?;
    add(&process.textures.textures, made.0);
    command.to.word(made.0);
    Ok(())
}

/// In: the texture's number.
pub(in crate::worker) fn cuTexObjectDestroy(command: &mut Command) -> Answer {
    let texture = CUtexObject(command.from.word());
    command.read_all()?;
    let process = command.thread.process_ref();
    take(&process.textures.textures, texture.0)?;
    let lib = &process.lib;
    cuda!(lib.cuTexObjectDestroy(texture))
}

/// In: resource. Reply: the surface's number.
pub(in crate::worker) fn cuSurfObjectCreate(command: &mut Command) -> Answer {
    let resource: Answer<CUDA_RESOURCE_DESC> = structure(&mut command.from);
    command.read_all()?;
    let process = command.thread.process();
    let resource = resource?.resolve(&process.handles)?;
    let lib = &process.lib;
    let mut made = CUsurfObject(0);
    cuda!(lib.cuSurfObjectCreate(&raw mut made, &raw const resource))?;
    add(&process.textures.surfaces, made.0);
    command.to.word(made.0);
    Ok(())
}

/// In: the surface's number.
pub(in crate::worker) fn cuSurfObjectDestroy(command: &mut Command) -> Answer {
    let surface = CUsurfObject(command.from.word());
    command.read_all()?;
    let process = command.thread.process_ref();
    take(&process.textures.surfaces, surface.0)?;
    let lib = &process.lib;
    cuda!(lib.cuSurfObjectDestroy(surface))
}

/// In: id, mipmapped array, level. The level ends with its array.
pub(in crate::worker) fn cuMipmappedArrayGetLevel(command: &mut Command) -> Answer {
    let id = CUarray(command.from.word());
    let of = CUmipmappedArray(command.from.word());
    let level = u32::from_word(command.from.word());
    command.read_all()?;
    let process = command.thread.process_ref();
    process.handles.check_new(id)?;
    let native_of = process.handles.resolve(of)?;
    let lib = &process.lib;
    let mut native = CUarray(0);
    cuda!(lib.cuMipmappedArrayGetLevel(&raw mut native, native_of, level))?;
    let belongs = Belongs { context: command.thread.home(), parent: of.0 };
    process.handles.insert(id, native, belongs)?;
    command.to.word(id.0);
    Ok(())
}
