//! Launches. A kernel that does nothing on an idle stream is complete when its call returns; any
//! other becomes a task with its parameters copied.

use super::device::THREADS_PER_BLOCK_MAX;
use super::function::dynamic_shared_max;
use super::library::kernel_in;
use super::stream::GREATEST_PRIORITY;
use super::{Answer, work_stream};
use crate::capture;
use crate::context::Context;
use crate::exec::grid::Grid;
use crate::graph::params::{Arguments, KernelNode, Params};
use crate::memory::{View, Workspace};
use crate::objects::{KERNELS, Kernel};
use crate::stream::kernel::Launch;
use crate::stream::task::Work;
use paravane_protocol::cuda_types::{
    CU_LAUNCH_ATTRIBUTE_COOPERATIVE, CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE,
    CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT,
    CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_SUPPORTED,
    CUDA_ERROR_OUT_OF_MEMORY, CUcontext, CUevent, CUfunction, CUkernel, CUlaunchAttribute, CUlaunchAttributeID,
    CUlaunchAttributeValue, CUlaunchConfig, CUstream, Word,
};
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const PARAM_END: usize = 0;
const PARAM_BUFFER_POINTER: usize = 1;
const PARAM_BUFFER_SIZE: usize = 2;
const GRID_YZ_MAX: u32 = 65_535;
const BLOCK_Z_MAX: u32 = 64;
/// Local memory that a thread has for calls beyond its kernel's own, at least.
const STACK_MIN: usize = 64 << 10;

const CLUSTER_DIMENSION: CUlaunchAttributeID = CUlaunchAttributeID(4);
const PRIORITY: CUlaunchAttributeID = CUlaunchAttributeID(8);

/// How a kernel is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub cooperative: bool,
}

impl Shape {
    /// Whether any device could run it.
    pub fn check(&self, max_threads: u32) -> Answer {
        let [_, gy, gz] = self.grid;
        let threads = self.block.iter().try_fold(1u32, |n, &d| n.checked_mul(d)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let is_empty = self.grid.contains(&0) || threads == 0;
        let is_large = gy > GRID_YZ_MAX || gz > GRID_YZ_MAX || self.grid[0] > i32::MAX.cast_unsigned();
        if is_empty || is_large || self.block[2] > BLOCK_Z_MAX || threads > THREADS_PER_BLOCK_MAX {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        if threads > max_threads { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
    }
}

/// Whether the launch is complete already: an empty kernel with nothing before it.
#[inline]
fn is_complete(f: CUfunction, shape: &Shape, handle: CUstream, has_arguments: bool) -> Answer<bool> {
    let limit_of_empty = |kernel: &Arc<Kernel>| {
        let is_empty = kernel.is_empty && (has_arguments || !kernel.has_params);
        (is_empty && shape.shared == 0 && !shape.cooperative).then_some((kernel.max_threads, kernel.module.context.owner))
    };
    let Some((max_threads, owner)) = KERNELS.with(f.0, limit_of_empty).flatten() else {
        return Ok(false);
    };
    shape.check(max_threads)?;
    super::is_quiet(handle, Some(owner))
}

/// # Safety
/// `kernelParams` or `extra` describe the kernel's parameters as CUDA demands.
unsafe fn launch(
    f: CUfunction,
    shape: Shape,
    priority: Option<i32>,
    handle: CUstream,
    kernelParams: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Answer {
    if is_complete(f, &shape, handle, kernelParams.is_null() != extra.is_null())? {
        return Ok(());
    }
    let stream = work_stream(handle)?;
    let kernel = kernel_in(&stream.context, f.0)?;
    if kernel.module.context.owner != stream.context.owner {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    shape.check(kernel.max_threads)?;
    check_kernel(&kernel, &shape, stream.context.multiprocessors())?;
    // SAFETY: the caller's promise.
    let params = unsafe { parameters(&kernel, kernelParams, extra) }?;
    if stream.capture.is_taken() {
        let node = KernelNode {
            function: f,
            library_kernel: CUkernel(0),
            context: CUcontext(stream.context.handle),
            arguments: Arc::new(Arguments::new(&kernel, params)),
            kernel,
            shape,
            attributes: priority.map(|priority| (PRIORITY.0, priority_value(priority))).into_iter().collect(),
        };
        return capture::add(&stream, Params::Kernel(node)).map(|_| ());
    }
    let grid = Arc::new(grid_of(&kernel, &shape, params, &stream.context));
    if shape.cooperative && grid.workspace.is_none() {
        return Err(CUDA_ERROR_OUT_OF_MEMORY);
    }
    let mut launch = Launch::new(grid, shape.cooperative);
    launch.priority = priority;
    stream.enqueue(Work::Kernel(launch), None);
    Ok(())
}

/// One launch of a kernel, as the interpreter runs it. Where memory for a workspace is spent it has
/// none, and the kernel's attempt to meet its grid is an error there.
pub fn grid_of(kernel: &Kernel, shape: &Shape, params: Box<[u8]>, context: &Context) -> Grid {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let stack = context.home().stack_limit.load(Ordering::Relaxed).max(STACK_MIN);
    Grid {
        functions: Arc::clone(&kernel.module.module.functions),
        kernel: kernel.number,
        grid: shape.grid,
        block: shape.block,
        dynamic_shared: shape.shared,
        params,
        grid_id: NEXT.fetch_add(1, Ordering::Relaxed),
        stack_limit: u32::try_from(stack).unwrap_or(u32::MAX),
        view: View::now(context.device),
        heap: Arc::clone(&context.heap),
        heap_limit: context.home().heap_limit.load(Ordering::Relaxed) as u64,
        workspace: if shape.cooperative { Workspace::new(context) } else { None },
    }
}

/// Whether the kernel can run so.
pub(super) fn check_kernel(kernel: &Kernel, shape: &Shape, multiprocessors: u32) -> Answer {
    let function = kernel.function();
    if function.required_block.is_some_and(|required| required != shape.block) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if shape.shared > dynamic_shared_max(kernel) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if shape.cooperative {
        let threads: u32 = shape.block.iter().product();
        let resident = super::occupancy::blocks_per_multiprocessor(kernel, threads, u64::from(shape.shared));
        let room = u64::from(resident) * u64::from(multiprocessors);
        let ctas: u64 = shape.grid.iter().map(|&n| u64::from(n)).product();
        if ctas > room {
            return Err(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
        }
    }
    Ok(())
}

/// The parameter buffer of a launch.
///
/// # Safety
/// As `launch`.
pub(super) unsafe fn parameters(kernel: &Kernel, kernelParams: *mut *mut c_void, extra: *mut *mut c_void) -> Answer<Box<[u8]>> {
    let function = kernel.function();
    let mut buffer = vec![0u8; function.param_size as usize].into_boxed_slice();
    if !kernelParams.is_null() && !extra.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if !extra.is_null() {
        // SAFETY: the caller's promise.
        let (from, size) = unsafe { packed(extra) }?;
        let kept = size.min(buffer.len());
        if kept > 0 && from.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the program gave that many bytes.
        unsafe { std::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), kept) };
        return Ok(buffer);
    }
    if kernelParams.is_null() {
        return if function.params.is_empty() { Ok(buffer) } else { Err(CUDA_ERROR_INVALID_VALUE) };
    }
    for (number, place) in function.params.iter().enumerate() {
        // SAFETY: the array has an element for each parameter.
        let from = unsafe { *kernelParams.add(number) }.cast::<u8>();
        let to = buffer.get_mut(place.offset as usize..(place.offset + place.size) as usize);
        let (Some(to), false) = (to, from.is_null()) else { return Err(CUDA_ERROR_INVALID_VALUE) };
        // SAFETY: each element points to a value of its parameter's size.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }
    Ok(buffer)
}

/// Pointer and size of parameters that come packed.
///
/// # Safety
/// `extra` is a list of names and values that PARAM_END ends.
unsafe fn packed(mut extra: *mut *mut c_void) -> Answer<(*const u8, usize)> {
    let (mut from, mut size) = (std::ptr::null(), 0);
    loop {
        // SAFETY: the caller's promise.
        let name = unsafe { *extra }.addr();
        if name == PARAM_END {
            return Ok((from, size));
        }
        // SAFETY: the caller's promise: a value follows the name.
        let value = unsafe { *extra.add(1) };
        match name {
            PARAM_BUFFER_POINTER => from = value.cast::<u8>().cast_const(),
            // SAFETY: the value points to the size.
            PARAM_BUFFER_SIZE => size = unsafe { *value.cast::<usize>() },
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        }
        // SAFETY: the caller's promise.
        extra = unsafe { extra.add(2) };
    }
}

pub unsafe fn cuLaunchKernel(
    f: CUfunction,
    gridDimX: u32,
    gridDimY: u32,
    gridDimZ: u32,
    blockDimX: u32,
    blockDimY: u32,
    blockDimZ: u32,
    sharedMemBytes: u32,
    hStream: CUstream,
    kernelParams: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Answer {
    let (grid, block) = ([gridDimX, gridDimY, gridDimZ], [blockDimX, blockDimY, blockDimZ]);
    let shape = Shape { grid, block, shared: sharedMemBytes, cooperative: false };
    // SAFETY: the same contract.
    unsafe { launch(f, shape, None, hStream, kernelParams, extra) }
}

pub unsafe fn cuLaunchCooperativeKernel(
    f: CUfunction,
    gridDimX: u32,
    gridDimY: u32,
    gridDimZ: u32,
    blockDimX: u32,
    blockDimY: u32,
    blockDimZ: u32,
    sharedMemBytes: u32,
    hStream: CUstream,
    kernelParams: *mut *mut c_void,
) -> Answer {
    let (grid, block) = ([gridDimX, gridDimY, gridDimZ], [blockDimX, blockDimY, blockDimZ]);
    let shape = Shape { grid, block, shared: sharedMemBytes, cooperative: true };
    // SAFETY: the same contract.
    unsafe { launch(f, shape, None, hStream, kernelParams, std::ptr::null_mut()) }
}

/// A priority as an attribute's value.
fn priority_value(priority: i32) -> CUlaunchAttributeValue {
    CUlaunchAttributeValue { words: [u64::from(priority.cast_unsigned()), 0, 0, 0, 0, 0, 0, 0] }
}

/// What attributes ask for beyond the shape.
#[derive(Default)]
struct Wishes {
    cooperative: bool,
    priority: Option<i32>,
    /// Recorded behind the launch, which is when all its blocks have begun or triggered at the latest.
    events: Vec<CUevent>,
}

/// Reads the attributes; an error when they ask for what is not here.
fn wishes(attributes: &[CUlaunchAttribute]) -> Answer<Wishes> {
    let mut wishes = Wishes::default();
    for attribute in attributes {
        let [first, second, ..] = attribute.value;
        match attribute.id {
            CU_LAUNCH_ATTRIBUTE_COOPERATIVE => wishes.cooperative = u32::from_word(first) != 0,
            PRIORITY => wishes.priority = Some(i32::from_word(first).clamp(GREATEST_PRIORITY, 0)),
            CLUSTER_DIMENSION if first != 1 << 32 | 1 || u32::from_word(second) != 1 => {
                return Err(CUDA_ERROR_NOT_SUPPORTED);
            }
            CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT | CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT => {
                wishes.events.push(CUevent(first));
            }
            CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE => return Err(CUDA_ERROR_NOT_SUPPORTED),
            // Hints, and leave to begin before the launch before has ended.
            _ => {}
        }
    }
    Ok(wishes)
}

pub unsafe fn cuLaunchKernelEx(
    config: *const CUlaunchConfig,
    f: CUfunction,
    kernelParams: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Answer {
    if config.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    let c = unsafe { *config };
    let attributes = if c.attrs.is_null() || c.numAttrs == 0 {
        &[]
    } else {
        // SAFETY: the caller passes an array of that length.
        unsafe { std::slice::from_raw_parts(c.attrs, c.numAttrs as usize) }
    };
    let wishes = wishes(attributes)?;
    let shape = Shape {
        grid: [c.gridDimX, c.gridDimY, c.gridDimZ],
        block: [c.blockDimX, c.blockDimY, c.blockDimZ],
        shared: c.sharedMemBytes,
        cooperative: wishes.cooperative,
    };
    wishes.events.iter().try_for_each(|event| super::event::check_untimed(*event))?;
    // SAFETY: the same contract.
    unsafe { launch(f, shape, wishes.priority, c.hStream, kernelParams, extra) }?;
    // SAFETY: handles alone.
    wishes.events.iter().try_for_each(|event| unsafe { super::event::cuEventRecord(*event, c.hStream) })
}
