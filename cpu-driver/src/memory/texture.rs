//! Texture and surface objects as the interpreter finds them: descriptors are turned into grids and
//! modes once, when an object is made.

use super::surface::Grid;
use crate::registry::Registry;
use paravane_protocol::cuda_types::*;

/// What a coordinate outside means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    Wrap,
    Clamp,
    Mirror,
    Border,
}

/// How the values of a texture reach a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// As their elements are.
    Plain,
    /// Integers of 8 and 16 bits as 0 to 1 or -1 to 1.
    Normalized,
}

/// A texture object.
#[derive(Debug)]
pub struct Texture {
    pub context: u64,
    /// The levels from the first to the last of the view, at least one.
    pub levels: Vec<Grid>,
    /// Elements of a linear resource; 0 for every other.
    pub linear: u64,
    pub outside: [Outside; 3],
    pub is_linear_filter: bool,
    pub is_linear_mipmap: bool,
    pub has_normalized_coordinates: bool,
    pub reads: Reads,
    pub is_srgb: bool,
    /// Layers: 0 when the third dimension is depth.
    pub layers: u32,
    pub is_cube: bool,
    pub level_bias: f32,
    pub level_clamp: [f32; 2],
    pub border: [f32; 4],
    pub resource: CUDA_RESOURCE_DESC,
    pub descriptor: CUDA_TEXTURE_DESC,
    pub view: Option<CUDA_RESOURCE_VIEW_DESC>,
}

/// A surface object.
#[derive(Debug)]
pub struct Surface {
    pub context: u64,
    pub grid: Grid,
    pub resource: CUDA_RESOURCE_DESC,
}

pub static TEXTURES: Registry<Texture> = Registry::new(44);
pub static SURFACES: Registry<Surface> = Registry::new(45);

/// A context's objects end.
pub fn remove_context(context: u64) {
    drop(TEXTURES.remove_where(|texture| texture.context == context));
    drop(SURFACES.remove_where(|surface| surface.context == context));
}
