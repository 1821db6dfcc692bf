//! Arrays and mipmapped arrays. Their memory is the arena's, where no kernel's pointer reaches it.

use super::{Answer, current, device, give};
use crate::context::Context;
use crate::memory::surface::{Array, Grid, Mipmapped, grid_of};
use crate::memory::{GRANULE, Sort, arena};
use crate::objects::{ARRAYS, MIPMAPPED};
use paravane_protocol::cuda_types::*;
use std::sync::Arc;

/// Flags that mean nothing more than what every array can do here: layers, surfaces, cube maps,
/// gathers, and the hints for depth and colour.
const FLAGS: u32 = 0x3f;

/// Every array's memory comes from here.
fn allocate(context: &Context, size: u64) -> Answer<u64> {
    arena().allocate(context.memory(Sort::Array, size)).ok_or(CUDA_ERROR_OUT_OF_MEMORY)
}

pub(super) fn array(handle: CUarray) -> Answer<Arc<Array>> {
    ARRAYS.get(handle.0).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

fn descriptor(from: *const CUDA_ARRAY3D_DESCRIPTOR) -> Answer<(CUDA_ARRAY3D_DESCRIPTOR, Grid)> {
    if from.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    let descriptor = unsafe { from.read_unaligned() };
    if descriptor.Format.channel().is_none() || descriptor.Flags & !FLAGS != 0 {
        // Compressed and planar elements; sparse arrays and deferred mapping.
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    if descriptor.Flags & CUDA_ARRAY3D_CUBEMAP != 0
        && (descriptor.Width != descriptor.Height || descriptor.Depth == 0 || !descriptor.Depth.is_multiple_of(6))
    {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    Ok((descriptor, grid_of(&descriptor).ok_or(CUDA_ERROR_INVALID_VALUE)?))
}

pub unsafe fn cuArrayCreate_v2(pHandle: *mut CUarray, pAllocateArray: *const CUDA_ARRAY_DESCRIPTOR) -> Answer {
    if pAllocateArray.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    let flat = unsafe { pAllocateArray.read_unaligned() };
    let descriptor = CUDA_ARRAY3D_DESCRIPTOR::flat(&flat);
    // SAFETY: the same contract.
    unsafe { cuArray3DCreate_v2(pHandle, &raw const descriptor) }
}

pub unsafe fn cuArray3DCreate_v2(pHandle: *mut CUarray, pAllocateArray: *const CUDA_ARRAY3D_DESCRIPTOR) -> Answer {
    let context = current()?;
    let (descriptor, grid) = descriptor(pAllocateArray)?;
    if pHandle.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let grid = Grid { start: allocate(&context, grid.bytes())?, ..grid };
    let (handle, _) = ARRAYS.insert_with(|_| Array { context: context.owner, descriptor, grid, is_level: false });
    give(pHandle, CUarray(handle))
}

pub unsafe fn cuArrayGetDescriptor_v2(pArrayDescriptor: *mut CUDA_ARRAY_DESCRIPTOR, hArray: CUarray) -> Answer {
    give(pArrayDescriptor, array(hArray)?.descriptor.to_flat())
}

pub unsafe fn cuArray3DGetDescriptor_v2(pArrayDescriptor: *mut CUDA_ARRAY3D_DESCRIPTOR, hArray: CUarray) -> Answer {
    give(pArrayDescriptor, array(hArray)?.descriptor)
}

/// Waits for all work first: a kernel may still read the array.
pub unsafe fn cuArrayDestroy(hArray: CUarray) -> Answer {
    let context = current()?;
    if array(hArray)?.is_level {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    context.synchronize();
    let array = ARRAYS.remove(hArray.0).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    arena().release(array.grid.start);
    Ok(())
}

/// Told for arrays with deferred mapping only, which are not made here.
pub unsafe fn cuArrayGetMemoryRequirements(
    _memoryRequirements: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
    hArray: CUarray,
    dev: CUdevice,
) -> Answer {
    device(dev)?;
    array(hArray)?;
    Err(CUDA_ERROR_INVALID_VALUE)
}

/// Told for sparse arrays only, which are not made here.
pub unsafe fn cuArrayGetSparseProperties(_sparseProperties: *mut CUDA_ARRAY_SPARSE_PROPERTIES, hArray: CUarray) -> Answer {
    array(hArray)?;
    Err(CUDA_ERROR_INVALID_VALUE)
}

/// Told for arrays with planes only, which are not made here.
pub unsafe fn cuArrayGetPlane(_pPlaneArray: *mut CUarray, hArray: CUarray, _planeIdx: u32) -> Answer {
    array(hArray)?;
    Err(CUDA_ERROR_INVALID_VALUE)
}

pub unsafe fn cuMipmappedArrayCreate(
    pHandle: *mut CUmipmappedArray,
    pMipmappedArrayDesc: *const CUDA_ARRAY3D_DESCRIPTOR,
    numMipmapLevels: u32,
) -> Answer {
    let context = current()?;
    let (descriptor, grid) = descriptor(pMipmappedArrayDesc)?;
    if pHandle.is_null() || numMipmapLevels == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let longest = if grid.dimensions == 3 { grid.extent } else { [grid.extent[0], grid.extent[1], 1] };
    let most = longest.into_iter().max().unwrap_or(1).ilog2() + 1;
    let descriptors: Vec<_> = (0..numMipmapLevels.min(most)).map(|level| descriptor.level(level)).collect();
    let grids: Option<Vec<Grid>> = descriptors.iter().map(grid_of).collect();
    let grids = grids.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let total = grids.iter().map(|grid| grid.bytes().next_multiple_of(GRANULE)).sum();
    let start = allocate(&context, total)?;
    let mut at = start;
    let level = |(descriptor, grid): (&CUDA_ARRAY3D_DESCRIPTOR, &Grid)| {
        let grid = Grid { start: at, ..*grid };
        at += grid.bytes().next_multiple_of(GRANULE);
        ARRAYS.insert_with(|_| Array { context: context.owner, descriptor: *descriptor, grid, is_level: true }).0
    };
    let levels = descriptors.iter().zip(&grids).map(level).collect();
    let (handle, _) = MIPMAPPED.insert_with(|_| Mipmapped { context: context.owner, start, levels });
    give(pHandle, CUmipmappedArray(handle))
}

pub(super) fn mipmapped(handle: CUmipmappedArray) -> Answer<Arc<Mipmapped>> {
    MIPMAPPED.get(handle.0).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

pub unsafe fn cuMipmappedArrayGetLevel(
    pLevelArray: *mut CUarray,
    hMipmappedArray: CUmipmappedArray,
    level: u32,
) -> Answer {
    let mipmapped = mipmapped(hMipmappedArray)?;
    let handle = usize::try_from(level).ok().and_then(|level| mipmapped.levels.get(level));
    give(pLevelArray, CUarray(*handle.ok_or(CUDA_ERROR_INVALID_VALUE)?))
}

/// Waits for all work first, as [`cuArrayDestroy`] does.
pub unsafe fn cuMipmappedArrayDestroy(hMipmappedArray: CUmipmappedArray) -> Answer {
    let context = current()?;
    mipmapped(hMipmappedArray)?;
    context.synchronize();
    let mipmapped = MIPMAPPED.remove(hMipmappedArray.0).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    for level in &mipmapped.levels {
        ARRAYS.remove(*level);
    }
    arena().release(mipmapped.start);
    Ok(())
}

/// Told for arrays with deferred mapping only, which are not made here.
pub unsafe fn cuMipmappedArrayGetMemoryRequirements(
    _memoryRequirements: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
    mipmap: CUmipmappedArray,
    dev: CUdevice,
) -> Answer {
    device(dev)?;
    mipmapped(mipmap)?;
    Err(CUDA_ERROR_INVALID_VALUE)
}

/// Told for sparse arrays only, which are not made here.
pub unsafe fn cuMipmappedArrayGetSparseProperties(
    _sparseProperties: *mut CUDA_ARRAY_SPARSE_PROPERTIES,
    mipmap: CUmipmappedArray,
) -> Answer {
    mipmapped(mipmap)?;
    Err(CUDA_ERROR_INVALID_VALUE)
}
