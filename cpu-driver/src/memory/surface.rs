//! Arrays, and what textures and surfaces make of memory. An array is rows of elements, slice
//! after slice, in memory of its own that no pointer reaches.

use paravane_protocol::cuda_types::*;

/// A piece of memory whose elements are found by coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Host address of the first element.
    pub start: u64,
    /// Elements in each direction; at least 1.
    pub extent: [u32; 3],
    /// Bytes from row to row and from slice to slice.
    pub pitch: u64,
    pub slice: u64,
    pub format: Format,
    /// How many of `extent` an array was made with: height 0 makes it one-dimensional.
    pub dimensions: u32,
}

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    pub channel: Channel,
    pub channels: u32,
}

/// What a channel of an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    U8,
    U16,
    U32,
    S8,
    S16,
    S32,
    F16,
    F32,
    /// Integers that always stand for 0 to 1 or -1 to 1.
    Unorm8,
    Unorm16,
    Snorm8,
    Snorm16,
}

impl Channel {
    pub fn of(format: CUarray_format) -> Option<Self> {
        Some(match format.0 {
            0x01 => Self::U8,
            0x02 => Self::U16,
            0x03 => Self::U32,
            0x08 => Self::S8,
            0x09 => Self::S16,
            0x0a => Self::S32,
            0x10 => Self::F16,
            0x20 => Self::F32,
            0xc0..=0xc2 => Self::Unorm8,
            0xc3..=0xc5 => Self::Unorm16,
            0xc6..=0xc8 => Self::Snorm8,
            0xc9..=0xcb => Self::Snorm16,
            _ => return None,
        })
    }

    /// The channel of a view's format, with its number of channels.
    pub fn of_view(format: CUresourceViewFormat) -> Option<(Self, u32)> {
        let number = format.0.checked_sub(1)?;
        let channel = match number / 3 {
            0 => Self::U8,
            1 => Self::S8,
            2 => Self::U16,
            3 => Self::S16,
            4 => Self::U32,
            5 => Self::S32,
            6 => Self::F16,
            7 => Self::F32,
            _ => return None,
        };
        Some((channel, 1 << (number % 3)))
    }

    pub fn bytes(self) -> u32 {
        match self {
            Self::U8 | Self::S8 | Self::Unorm8 | Self::Snorm8 => 1,
            Self::U16 | Self::S16 | Self::F16 | Self::Unorm16 | Self::Snorm16 => 2,
            Self::U32 | Self::S32 | Self::F32 => 4,
        }
    }
}

impl Format {
    pub fn bytes(self) -> u32 {
        self.channel.bytes() * self.channels
    }
}

/// An array's descriptor with the grid that it is.
#[derive(Debug)]
pub struct Array {
    pub context: u64,
    pub descriptor: CUDA_ARRAY3D_DESCRIPTOR,
    pub grid: Grid,
    /// A level of a mipmapped array, which holds its memory.
    pub is_level: bool,
}

/// A mipmapped array: its memory, and its levels' handles.
#[derive(Debug)]
pub struct Mipmapped {
    pub context: u64,
    pub start: u64,
    pub levels: Vec<u64>,
}

/// The grid of a descriptor at an address not known yet; None for extents or elements that no array
/// has.
pub fn grid_of(descriptor: &CUDA_ARRAY3D_DESCRIPTOR) -> Option<Grid> {
    let CUDA_ARRAY3D_DESCRIPTOR { Width, Height, Depth, Format: format, NumChannels, Flags, .. } = *descriptor;
    format.element_bytes(NumChannels)?;
    let element = Format { channel: Channel::of(format)?, channels: NumChannels };
    let layered = Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP) != 0;
    let limit = if Height == 0 || Depth == 0 || layered { 131_072 } else { 16_384 };
    let side = |n: u64| u32::try_from(n.max(1)).ok().filter(|n| *n <= limit);
    let extent = [side(Width)?, side(Height)?, side(Depth)?];
    // One-dimensional without height; depth needs a height unless it counts layers.
    if Width == 0 || (Height == 0 && Depth > 0 && !layered) {
        return None;
    }
    // Rows begin where every access to their elements is aligned.
    let pitch = (u64::from(extent[0]) * u64::from(element.bytes())).next_multiple_of(16);
    let slice = pitch * u64::from(extent[1]);
    let dimensions = if Height == 0 { 1 } else if Depth == 0 || layered { 2 } else { 3 };
    Some(Grid { start: 0, extent, pitch, slice, format: element, dimensions })
}

impl Grid {
    pub fn bytes(&self) -> u64 {
        self.slice * u64::from(self.extent[2])
    }

    /// Address of an element that lies inside.
    #[inline(always)]
    pub fn address(&self, [x, y, z]: [u32; 3]) -> u64 {
        let row = u64::from(z) * self.slice + u64::from(y) * self.pitch;
        self.start + row + u64::from(x) * u64::from(self.format.bytes())
    }
}
