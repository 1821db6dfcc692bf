//! What arrays are: their descriptors never change, so questions about them
//! are answered here, and so are those about textures and surfaces.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;

/// What one texture was made of.
#[derive(Clone, Copy)]
pub(crate) struct Texture {
    pub(crate) resource: CUDA_RESOURCE_DESC,
    pub(crate) texture: CUDA_TEXTURE_DESC,
    /// `None`: the whole resource.
    pub(crate) view: Option<CUDA_RESOURCE_VIEW_DESC>,
}

#[derive(Default)]
struct Arrays {
    arrays: HashMap<u64, CUDA_ARRAY3D_DESCRIPTOR>,
    mipmapped: HashMap<u64, (CUDA_ARRAY3D_DESCRIPTOR, u32)>,
    /// A mipmapped array's levels that were asked for.
    levels: HashMap<(u64, u32), CUarray>,
    textures: HashMap<u64, Texture>,
    surfaces: HashMap<u64, CUDA_RESOURCE_DESC>,
}

static ARRAYS: Mutex<Option<Arrays>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Arrays>> {
    ARRAYS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<R>(look: impl FnOnce(&mut Arrays) -> R) -> R {
    look(lock().get_or_insert_default())
}

/// An array exists.
pub(crate) fn insert(array: CUarray, descriptor: CUDA_ARRAY3D_DESCRIPTOR) {
    with(|all| all.arrays.insert(array.0, descriptor));
}

/// An array is gone.
pub(crate) fn remove(array: CUarray) {
    with(|all| all.arrays.remove(&array.0));
}

/// An array's descriptor, if it is known here.
pub(crate) fn descriptor(array: CUarray) -> Option<CUDA_ARRAY3D_DESCRIPTOR> {
    with(|all| all.arrays.get(&array.0).copied())
}

/// Bytes of an array's element; CUDA_ERROR_INVALID_HANDLE for no array.
pub(crate) fn element_bytes(array: CUarray) -> Answer<usize> {
    let descriptor = descriptor(array).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    descriptor.Format.element_bytes(descriptor.NumChannels).ok_or(CUDA_ERROR_NOT_SUPPORTED)
}

/// A mipmapped array exists.
pub(crate) fn insert_mipmapped(
    array: CUmipmappedArray,
    descriptor: CUDA_ARRAY3D_DESCRIPTOR,
    levels: u32,
) {
    with(|all| all.mipmapped.insert(array.0, (descriptor, levels)));
}

/// A mipmapped array is gone; its levels' ids, which end with it.
pub(crate) fn remove_mipmapped(array: CUmipmappedArray) -> Vec<CUarray> {
    with(|all| {
        all.mipmapped.remove(&array.0);
        let of_array = |key: &(u64, u32), _: &mut CUarray| key.0 == array.0;
        let levels: Vec<_> = all.levels.extract_if(of_array).map(|(_, level)| level).collect();
        for level in &levels {
            all.arrays.remove(&level.0);
        }
        levels
    })
}

/// The descriptor that a level has; CUDA_ERROR_INVALID_HANDLE for no array,
/// CUDA_ERROR_INVALID_VALUE for no level.
pub(crate) fn level_descriptor(array: CUmipmappedArray, level: u32) -> Answer<CUDA_ARRAY3D_DESCRIPTOR> {
    let (descriptor, levels) =
        with(|all| all.mipmapped.get(&array.0).copied()).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    if level < levels { Ok(descriptor.level(level)) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// A level's id, if it was asked for before.
pub(crate) fn level(array: CUmipmappedArray, level: u32) -> Option<CUarray> {
    with(|all| all.levels.get(&(array.0, level)).copied())
}

/// Remembers a level's id.
pub(crate) fn insert_level(array: CUmipmappedArray, level: u32, id: CUarray) {
    with(|all| all.levels.insert((array.0, level), id));
}

/// A texture exists.
pub(crate) fn insert_texture(texture: CUtexObject, of: Texture) {
    with(|all| all.textures.insert(texture.0, of));
}

/// What a texture was made of; CUDA_ERROR_INVALID_VALUE for none.
pub(crate) fn texture(texture: CUtexObject) -> Answer<Texture> {
    with(|all| all.textures.get(&texture.0).copied()).ok_or(CUDA_ERROR_INVALID_VALUE)
}

/// A texture is gone.
pub(crate) fn remove_texture(texture: CUtexObject) {
    with(|all| all.textures.remove(&texture.0));
}

/// A surface exists.
pub(crate) fn insert_surface(surface: CUsurfObject, of: CUDA_RESOURCE_DESC) {
    with(|all| all.surfaces.insert(surface.0, of));
}

/// What a surface was made of; CUDA_ERROR_INVALID_VALUE for none.
pub(crate) fn surface(surface: CUsurfObject) -> Answer<CUDA_RESOURCE_DESC> {
    with(|all| all.surfaces.get(&surface.0).copied()).ok_or(CUDA_ERROR_INVALID_VALUE)
}

/// A surface is gone.
pub(crate) fn remove_surface(surface: CUsurfObject) {
    with(|all| all.surfaces.remove(&surface.0));
}
