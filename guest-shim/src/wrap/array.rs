//! Arrays: made and ended by the host, described here.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;
use crate::state::arrays;
use crate::{handles, pointer};

pub(crate) fn cuArrayCreate_v2(into: *mut CUarray, descriptor: *const CUDA_ARRAY_DESCRIPTOR) -> Answer {
    table::cuArrayCreate_v2(into, descriptor)?;
    arrays::insert(pointer::get(into)?, CUDA_ARRAY3D_DESCRIPTOR::flat(&pointer::get(descriptor)?));
    Ok(())
}

pub(crate) fn cuArray3DCreate_v2(into: *mut CUarray, descriptor: *const CUDA_ARRAY3D_DESCRIPTOR) -> Answer {
    table::cuArray3DCreate_v2(into, descriptor)?;
    arrays::insert(pointer::get(into)?, pointer::get(descriptor)?);
    Ok(())
}

/// What is not known here, a plane of an array, the host describes.
pub(crate) fn cuArray3DGetDescriptor_v2(into: *mut CUDA_ARRAY3D_DESCRIPTOR, array: CUarray) -> Answer {
    match arrays::descriptor(array) {
        Some(known) => pointer::put(into, known),
        None => table::cuArray3DGetDescriptor_v2(into, array),
    }
}

/// A level of a mipmapped array ends with that: it cannot be destroyed alone,
/// which libcuda says.
pub(crate) fn cuArrayDestroy(array: CUarray) -> Answer {
    table::cuArrayDestroy(array)?;
    arrays::remove(array);
    Ok(())
}

pub(crate) fn cuMipmappedArrayCreate(
    into: *mut CUmipmappedArray,
    descriptor: *const CUDA_ARRAY3D_DESCRIPTOR,
    levels: u32,
) -> Answer {
    table::cuMipmappedArrayCreate(into, descriptor, levels)?;
    let descriptor = pointer::get(descriptor)?;
    // No more levels are made than it takes to come to a single element.
    let longest = descriptor.Width.max(descriptor.Height).max(descriptor.level(0).Depth).max(1);
    arrays::insert_mipmapped(pointer::get(into)?, descriptor, levels.min(longest.ilog2() + 1));
    Ok(())
}

pub(crate) fn cuMipmappedArrayDestroy(array: CUmipmappedArray) -> Answer {
    table::cuMipmappedArrayDestroy(array)?;
    arrays::remove_mipmapped(array).into_iter().for_each(handles::release);
    Ok(())
}
