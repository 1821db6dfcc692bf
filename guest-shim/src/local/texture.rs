//! What arrays, textures and surfaces were made of.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::state::arrays;
use crate::{pointer, wrap};

pub(crate) fn cuArrayGetDescriptor_v2(into: *mut CUDA_ARRAY_DESCRIPTOR, array: CUarray) -> Answer {
    let mut whole = CUDA_ARRAY3D_DESCRIPTOR::flat(&CUDA_ARRAY_DESCRIPTOR {
        Width: 0,
        Height: 0,
        Format: CUarray_format(0),
        NumChannels: 0,
    });
    wrap::cuArray3DGetDescriptor_v2(&raw mut whole, array)?;
    pointer::put(into, whole.to_flat())
}

pub(crate) fn cuTexObjectGetResourceDesc(into: *mut CUDA_RESOURCE_DESC, texture: CUtexObject) -> Answer {
    pointer::put(into, arrays::texture(texture)?.resource)
}

pub(crate) fn cuTexObjectGetTextureDesc(into: *mut CUDA_TEXTURE_DESC, texture: CUtexObject) -> Answer {
    pointer::put(into, arrays::texture(texture)?.texture)
}

/// CUDA_ERROR_INVALID_VALUE for a texture that was made without a view.
pub(crate) fn cuTexObjectGetResourceViewDesc(
    into: *mut CUDA_RESOURCE_VIEW_DESC,
    texture: CUtexObject,
) -> Answer {
    pointer::put(into, arrays::texture(texture)?.view.ok_or(CUDA_ERROR_INVALID_VALUE)?)
}

pub(crate) fn cuSurfObjectGetResourceDesc(into: *mut CUDA_RESOURCE_DESC, surface: CUsurfObject) -> Answer {
    pointer::put(into, arrays::surface(surface)?)
}
