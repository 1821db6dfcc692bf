//! Texture and surface objects: resource, texture and view descriptors are checked here and become
//! what the interpreter reads.

use super::array::{array, mipmapped};
use super::{Answer, current, give};
use crate::memory::arena;
use crate::memory::surface::{Array, Channel, Format, Grid};
use crate::memory::texture::{Outside, Reads, SURFACES, Surface, TEXTURES, Texture};
use crate::objects::ARRAYS;
use paravane_protocol::cuda_types::*;
use std::sync::Arc;

/// Elements of a linear texture, as attribute 27 says.
const LINEAR_MAX: u64 = 1 << 28;
/// Bytes that a linear texture's address and pitch are multiples of, as attributes 14 and 51 say.
const ADDRESS_ALIGN: u64 = 512;
const PITCH_ALIGN: u64 = 32;

/// What a resource descriptor names.
struct Resource {
    levels: Vec<Grid>,
    flags: u32,
    linear: u64,
}

fn format_of(word: u64) -> Answer<Format> {
    let (format, channels) = (CUarray_format(u32::from_word(word)), u32::from_word(word >> 32));
    format.element_bytes(channels).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    Ok(Format { channel: Channel::of(format).ok_or(CUDA_ERROR_NOT_SUPPORTED)?, channels })
}

fn linear(words: &[u64; 16]) -> Answer<Resource> {
    let [start, format, bytes, ..] = *words;
    let format = format_of(format)?;
    let count = bytes / u64::from(format.bytes());
    if count == 0 || count > LINEAR_MAX || !start.is_multiple_of(ADDRESS_ALIGN) || !arena().holds(start, bytes) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let width = u32::try_from(count).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    let grid = Grid { start, extent: [width, 1, 1], pitch: bytes, slice: bytes, format, dimensions: 1 };
    Ok(Resource { levels: vec![grid], flags: 0, linear: count })
}

fn pitched(words: &[u64; 16]) -> Answer<Resource> {
    let [start, format, width, height, pitch, ..] = *words;
    let format = format_of(format)?;
    let side = |n: u64| u32::try_from(n).ok().filter(|n| (1..=131_072).contains(n)).ok_or(CUDA_ERROR_INVALID_VALUE);
    let extent = [side(width)?, side(height)?, 1];
    let row = width * u64::from(format.bytes());
    let span = pitch.checked_mul(height - 1).and_then(|rows| rows.checked_add(row)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let is_aligned = start.is_multiple_of(ADDRESS_ALIGN) && pitch.is_multiple_of(PITCH_ALIGN);
    if !is_aligned || pitch < row || !arena().holds(start, span) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let grid = Grid { start, extent, pitch, slice: span, format, dimensions: 2 };
    Ok(Resource { levels: vec![grid], flags: 0, linear: 0 })
}

fn resource(descriptor: &CUDA_RESOURCE_DESC) -> Answer<Resource> {
    if descriptor.flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    match descriptor.resType {
        CU_RESOURCE_TYPE_ARRAY => {
            let array = array(CUarray(descriptor.words[0]))?;
            Ok(Resource { levels: vec![array.grid], flags: array.descriptor.Flags, linear: 0 })
        }
        CU_RESOURCE_TYPE_MIPMAPPED_ARRAY => {
            let mipmapped = mipmapped(CUmipmappedArray(descriptor.words[0]))?;
            let levels: Vec<Arc<Array>> = mipmapped.levels.iter().filter_map(|level| ARRAYS.get(*level)).collect();
            let flags = levels.first().map_or(0, |level| level.descriptor.Flags);
            Ok(Resource { levels: levels.iter().map(|level| level.grid).collect(), flags, linear: 0 })
        }
        CU_RESOURCE_TYPE_LINEAR => linear(&descriptor.words),
        CU_RESOURCE_TYPE_PITCH2D => pitched(&descriptor.words),
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

/// Takes the part of a resource that a view names, and reads its elements as the view says.
fn apply(view: &CUDA_RESOURCE_VIEW_DESC, resource: &mut Resource) -> Answer {
    let (first, last) = (view.firstMipmapLevel as usize, view.lastMipmapLevel as usize);
    if first > last || last >= resource.levels.len() || view.firstLayer > view.lastLayer {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    resource.levels.truncate(last + 1);
    resource.levels.drain(..first);
    let layered = resource.flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP) != 0;
    for grid in &mut resource.levels {
        if view.format != CU_RES_VIEW_FORMAT_NONE {
            let (channel, channels) = Channel::of_view(view.format).ok_or(CUDA_ERROR_NOT_SUPPORTED)?;
            let format = Format { channel, channels };
            if format.bytes() != grid.format.bytes() {
                return Err(CUDA_ERROR_INVALID_VALUE);
            }
            grid.format = format;
        }
        if layered {
            if view.lastLayer >= grid.extent[2] {
                return Err(CUDA_ERROR_INVALID_VALUE);
            }
            grid.start += grid.slice * u64::from(view.firstLayer);
            grid.extent[2] = view.lastLayer - view.firstLayer + 1;
        }
    }
    let named = [view.width, view.height, view.depth];
    let first = resource.levels.first().ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let matches = |(named, extent): (u64, u32)| named == 0 || named == u64::from(extent);
    let sides = if layered { 2 } else { 3 };
    if named.into_iter().zip(first.extent).take(sides).all(matches) { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

fn outside(mode: CUaddress_mode) -> Answer<Outside> {
    Ok(match mode {
        CU_TR_ADDRESS_MODE_WRAP => Outside::Wrap,
        CU_TR_ADDRESS_MODE_CLAMP => Outside::Clamp,
        CU_TR_ADDRESS_MODE_MIRROR => Outside::Mirror,
        CU_TR_ADDRESS_MODE_BORDER => Outside::Border,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    })
}

/// Whether values read are floating point.
fn reads_float(channel: Channel, reads: Reads) -> bool {
    match channel {
        Channel::U32 | Channel::S32 => false,
        Channel::U8 | Channel::U16 | Channel::S8 | Channel::S16 => reads == Reads::Normalized,
        _ => true,
    }
}

fn make(
    context: u64,
    of: CUDA_RESOURCE_DESC,
    descriptor: CUDA_TEXTURE_DESC,
    view: Option<CUDA_RESOURCE_VIEW_DESC>,
) -> Answer<Texture> {
    let mut resource = resource(&of)?;
    if let Some(view) = &view {
        if resource.linear > 0 || of.resType == CU_RESOURCE_TYPE_PITCH2D {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        apply(view, &mut resource)?;
    }
    let has_normalized_coordinates = descriptor.flags & CU_TRSF_NORMALIZED_COORDINATES != 0;
    let [x, y, z] = descriptor.addressMode;
    let mut outside = [outside(x)?, outside(y)?, outside(z)?];
    for mode in &mut outside {
        // These two have a meaning for normalized coordinates only.
        if !has_normalized_coordinates && matches!(mode, Outside::Wrap | Outside::Mirror) {
            *mode = Outside::Clamp;
        }
    }
    let reads =
        if descriptor.flags & CU_TRSF_READ_AS_INTEGER != 0 { Reads::Plain } else { Reads::Normalized };
    let channel = resource.levels.first().ok_or(CUDA_ERROR_INVALID_VALUE)?.format.channel;
    let is_linear_filter = match descriptor.filterMode {
        CU_TR_FILTER_MODE_POINT => false,
        CU_TR_FILTER_MODE_LINEAR if resource.linear > 0 => false,
        CU_TR_FILTER_MODE_LINEAR if reads_float(channel, reads) => true,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    let layered = resource.flags & CUDA_ARRAY3D_LAYERED != 0;
    let is_cube = resource.flags & CUDA_ARRAY3D_CUBEMAP != 0;
    let depth = resource.levels.first().map_or(1, |grid| grid.extent[2]);
    Ok(Texture {
        context,
        linear: resource.linear,
        levels: resource.levels,
        outside,
        is_linear_filter,
        is_linear_mipmap: descriptor.mipmapFilterMode == CU_TR_FILTER_MODE_LINEAR,
        has_normalized_coordinates,
        reads,
        is_srgb: descriptor.flags & CU_TRSF_SRGB != 0 && channel == Channel::U8,
        layers: if layered || is_cube { depth } else { 0 },
        is_cube,
        level_bias: descriptor.mipmapLevelBias,
        level_clamp: [descriptor.minMipmapLevelClamp, descriptor.maxMipmapLevelClamp],
        border: descriptor.borderColor,
        resource: of,
        descriptor,
        view,
    })
}

/// Reads a structure that must be there.
fn read<T: Copy>(from: *const T) -> Answer<T> {
    if from.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    Ok(unsafe { from.read_unaligned() })
}

pub unsafe fn cuTexObjectCreate(
    pTexObject: *mut CUtexObject,
    pResDesc: *const CUDA_RESOURCE_DESC,
    pTexDesc: *const CUDA_TEXTURE_DESC,
    pResViewDesc: *const CUDA_RESOURCE_VIEW_DESC,
) -> Answer {
    let context = current()?.handle;
    let view = if pResViewDesc.is_null() { None } else { Some(read(pResViewDesc)?) };
    if pTexObject.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let texture = make(context, read(pResDesc)?, read(pTexDesc)?, view)?;
    give(pTexObject, CUtexObject(TEXTURES.insert_with(|_| texture).0))
}

pub unsafe fn cuTexObjectDestroy(texObject: CUtexObject) -> Answer {
    TEXTURES.remove(texObject.0).map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
}

fn texture(object: CUtexObject) -> Answer<Arc<Texture>> {
    TEXTURES.get(object.0).ok_or(CUDA_ERROR_INVALID_VALUE)
}

pub unsafe fn cuTexObjectGetResourceDesc(pResDesc: *mut CUDA_RESOURCE_DESC, texObject: CUtexObject) -> Answer {
    give(pResDesc, texture(texObject)?.resource)
}

pub unsafe fn cuTexObjectGetTextureDesc(pTexDesc: *mut CUDA_TEXTURE_DESC, texObject: CUtexObject) -> Answer {
    give(pTexDesc, texture(texObject)?.descriptor)
}

/// CUDA_ERROR_INVALID_VALUE for a texture that was made without a view.
pub unsafe fn cuTexObjectGetResourceViewDesc(
    pResViewDesc: *mut CUDA_RESOURCE_VIEW_DESC,
    texObject: CUtexObject,
) -> Answer {
    give(pResViewDesc, texture(texObject)?.view.ok_or(CUDA_ERROR_INVALID_VALUE)?)
}

/// A surface is of an array that was made for surfaces.
pub unsafe fn cuSurfObjectCreate(pSurfObject: *mut CUsurfObject, pResDesc: *const CUDA_RESOURCE_DESC) -> Answer {
    let context = current()?.handle;
    let descriptor = read(pResDesc)?;
    if descriptor.resType != CU_RESOURCE_TYPE_ARRAY || descriptor.flags != 0 || pSurfObject.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let array = array(CUarray(descriptor.words[0]))?;
    if array.descriptor.Flags & CUDA_ARRAY3D_SURFACE_LDST == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let surface = Surface { context, grid: array.grid, resource: descriptor };
    give(pSurfObject, CUsurfObject(SURFACES.insert_with(|_| surface).0))
}

pub unsafe fn cuSurfObjectDestroy(surfObject: CUsurfObject) -> Answer {
    SURFACES.remove(surfObject.0).map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
}

pub unsafe fn cuSurfObjectGetResourceDesc(pResDesc: *mut CUDA_RESOURCE_DESC, surfObject: CUsurfObject) -> Answer {
    let surface = SURFACES.get(surfObject.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    give(pResDesc, surface.resource)
}
