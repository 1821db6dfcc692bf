//! CUDA's types of arrays, textures and surfaces, as cuda.h lays them out on
//! x86-64 Linux.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::cuda_types::{Word, numbers};
use crate::memory_types::structs;

numbers! {
    /// What a channel of an element is.
    CUarray_format(u32) {
        CU_AD_FORMAT_UNSIGNED_INT8 = 0x01,
        CU_AD_FORMAT_UNSIGNED_INT16 = 0x02,
        CU_AD_FORMAT_UNSIGNED_INT32 = 0x03,
        CU_AD_FORMAT_SIGNED_INT8 = 0x08,
        CU_AD_FORMAT_SIGNED_INT16 = 0x09,
        CU_AD_FORMAT_SIGNED_INT32 = 0x0a,
        CU_AD_FORMAT_HALF = 0x10,
        CU_AD_FORMAT_FLOAT = 0x20,
        CU_AD_FORMAT_UNORM_INT8X1 = 0xc0,
        CU_AD_FORMAT_UNORM_INT8X2 = 0xc1,
        CU_AD_FORMAT_UNORM_INT8X4 = 0xc2,
        CU_AD_FORMAT_UNORM_INT16X1 = 0xc3,
        CU_AD_FORMAT_UNORM_INT16X2 = 0xc4,
        CU_AD_FORMAT_UNORM_INT16X4 = 0xc5,
        CU_AD_FORMAT_SNORM_INT8X1 = 0xc6,
        CU_AD_FORMAT_SNORM_INT8X2 = 0xc7,
        CU_AD_FORMAT_SNORM_INT8X4 = 0xc8,
        CU_AD_FORMAT_SNORM_INT16X1 = 0xc9,
        CU_AD_FORMAT_SNORM_INT16X2 = 0xca,
        CU_AD_FORMAT_SNORM_INT16X4 = 0xcb,
    }
    /// What a coordinate outside of a texture means.
    CUaddress_mode(u32) {
        CU_TR_ADDRESS_MODE_WRAP = 0,
        CU_TR_ADDRESS_MODE_CLAMP = 1,
        CU_TR_ADDRESS_MODE_MIRROR = 2,
        CU_TR_ADDRESS_MODE_BORDER = 3,
    }
    /// Nearest element (0) or linear interpolation (1).
    CUfilter_mode(u32) {
        CU_TR_FILTER_MODE_POINT = 0,
        CU_TR_FILTER_MODE_LINEAR = 1,
    }
    /// What lies behind a texture or a surface.
    CUresourcetype(u32) {
        CU_RESOURCE_TYPE_ARRAY = 0,
        CU_RESOURCE_TYPE_MIPMAPPED_ARRAY = 1,
        CU_RESOURCE_TYPE_LINEAR = 2,
        CU_RESOURCE_TYPE_PITCH2D = 3,
    }
    /// How a view reads the elements of its array.
    CUresourceViewFormat(u32) {
        CU_RES_VIEW_FORMAT_NONE = 0,
    }
    /// A texture that kernels read: a number that they are passed, so it is
    /// the host's own.
    CUtexObject(u64) {}
    /// A surface that kernels read and write, as a texture is.
    CUsurfObject(u64) {}
}

/// Layers along the third dimension.
pub const CUDA_ARRAY3D_LAYERED: u32 = 0x01;
/// Kernels may write the array through a surface.
pub const CUDA_ARRAY3D_SURFACE_LDST: u32 = 0x02;
/// Six faces along the third dimension.
pub const CUDA_ARRAY3D_CUBEMAP: u32 = 0x04;
/// Texture gathers from the array.
pub const CUDA_ARRAY3D_TEXTURE_GATHER: u32 = 0x08;
/// Integers are read as they are.
pub const CU_TRSF_READ_AS_INTEGER: u32 = 0x01;
/// Coordinates go from 0 to 1.
pub const CU_TRSF_NORMALIZED_COORDINATES: u32 = 0x02;
/// Elements are sRGB.
pub const CU_TRSF_SRGB: u32 = 0x10;

structs! {
    /// CUDA_ARRAY_DESCRIPTOR_v2.
    CUDA_ARRAY_DESCRIPTOR: 24 {
        Width: u64,
        Height: u64,
        Format: CUarray_format,
        NumChannels: u32,
    }
    /// CUDA_ARRAY3D_DESCRIPTOR_v2.
    CUDA_ARRAY3D_DESCRIPTOR: 40 {
        Width: u64,
        Height: u64,
        Depth: u64,
        Format: CUarray_format,
        NumChannels: u32,
        Flags: u32,
        pad: u32,
    }
    /// What memory an array with deferred mapping needs.
    CUDA_ARRAY_MEMORY_REQUIREMENTS: 32 {
        size: u64,
        alignment: u64,
        reserved: [u32; 4],
    }
    /// How a sparse array is tiled.
    CUDA_ARRAY_SPARSE_PROPERTIES: 48 {
        tileExtent: [u32; 3],
        miptailFirstLevel: u32,
        miptailSize: u64,
        flags: u32,
        reserved: [u32; 4],
        pad: u32,
    }
    /// What a texture or a surface is made of. `words` for an array: its
    /// handle. Linear: device address, format and channels, bytes. Two
    /// dimensions with a pitch: the same, then width, height and pitch in
    /// place of bytes.
    CUDA_RESOURCE_DESC: 144 {
        resType: CUresourcetype,
        pad0: u32,
        words: [u64; 16],
        flags: u32,
        pad1: u32,
    }
    /// How a texture is read.
    CUDA_TEXTURE_DESC: 104 {
        addressMode: [CUaddress_mode; 3],
        filterMode: CUfilter_mode,
        flags: u32,
        maxAnisotropy: u32,
        mipmapFilterMode: CUfilter_mode,
        mipmapLevelBias: f32,
        minMipmapLevelClamp: f32,
        maxMipmapLevelClamp: f32,
        borderColor: [f32; 4],
        reserved: [i32; 12],
    }
    /// A part of an array, or another way to read its elements.
    CUDA_RESOURCE_VIEW_DESC: 112 {
        format: CUresourceViewFormat,
        pad: u32,
        width: u64,
        height: u64,
        depth: u64,
        firstMipmapLevel: u32,
        lastMipmapLevel: u32,
        firstLayer: u32,
        lastLayer: u32,
        reserved: [u32; 16],
    }
}

impl CUarray_format {
    /// Bytes of one channel and, where the format fixes it, the number of
    /// channels; `None` for formats whose elements are no rows of channels.
    pub fn channel(self) -> Option<(usize, Option<u32>)> {
        Some(match self.0 {
            0x01 | 0x08 => (1, None),
            0x02 | 0x09 | 0x10 => (2, None),
            0x03 | 0x0a | 0x20 => (4, None),
            0xc0 | 0xc6 => (1, Some(1)),
            0xc1 | 0xc7 => (1, Some(2)),
            0xc2 | 0xc8 => (1, Some(4)),
            0xc3 | 0xc9 => (2, Some(1)),
            0xc4 | 0xca => (2, Some(2)),
            0xc5 | 0xcb => (2, Some(4)),
            _ => return None,
        })
    }

    /// Bytes of an element with so many channels; `None` where there is no
    /// such element.
    pub fn element_bytes(self, channels: u32) -> Option<usize> {
        let (bytes, fixed) = self.channel()?;
        let valid = matches!(channels, 1 | 2 | 4) && fixed.is_none_or(|fixed| fixed == channels);
        valid.then_some(bytes * channels as usize)
    }
}

impl CUDA_ARRAY3D_DESCRIPTOR {
    /// The descriptor of an array with one or two dimensions.
    pub fn flat(descriptor: &CUDA_ARRAY_DESCRIPTOR) -> Self {
        let CUDA_ARRAY_DESCRIPTOR { Width, Height, Format, NumChannels } = *descriptor;
        Self { Width, Height, Depth: 0, Format, NumChannels, Flags: 0, pad: 0 }
    }

    /// The same array as far as two dimensions can tell.
    pub fn to_flat(&self) -> CUDA_ARRAY_DESCRIPTOR {
        let Self { Width, Height, Format, NumChannels, .. } = *self;
        CUDA_ARRAY_DESCRIPTOR { Width, Height, Format, NumChannels }
    }

    /// A level of a mipmapped array of this descriptor: every extent halved so
    /// often, layers excepted.
    pub fn level(&self, level: u32) -> Self {
        let halved = |extent: u64| if extent == 0 { 0 } else { (extent >> level.min(63)).max(1) };
        let layered = self.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP) != 0;
        let depth = if layered { self.Depth } else { halved(self.Depth) };
        Self { Width: halved(self.Width), Height: halved(self.Height), Depth: depth, ..*self }
    }
}
