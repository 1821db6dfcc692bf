//! Launches. The parameters come as one block in the function's layout, which
//! libcuda takes as `extra`.

use std::ffi::c_void;

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::KERNEL_PARAM_BYTES_MAX;
use zerocopy::FromBytes;

use crate::worker::dispatch::Command;
use crate::worker::libcuda::{Answer, cuda};

/// `extra`'s tags (cuda.h).
const PARAM_BUFFER_POINTER: Pointer = std::ptr::without_provenance_mut(1);
const PARAM_BUFFER_SIZE: Pointer = std::ptr::without_provenance_mut(2);
/// Attributes of one launch; cuda.h defines fewer than 20.
const ATTRIBUTES_MAX: usize = 32;

/// What a launch frame holds.
struct Launch<'a> {
    function: CUfunction,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: CUstream,
    attributes: Vec<CUlaunchAttribute>,
    params: &'a [u8],
}

fn halves(word: u64) -> (u32, u32) {
    (u32::from_word(word), u32::from_word(word >> 32))
}

impl<'a> Launch<'a> {
    fn take(command: &mut Command<'_, 'a>, with_attributes: bool) -> Answer<Self> {
        let from = &mut command.from;
        let function = CUfunction(from.word());
        let (grid_x, grid_y) = halves(from.word());
        let (grid_z, block_x) = halves(from.word());
        let (block_y, block_z) = halves(from.word());
        let shared_bytes = u32::from_word(from.word());
        let stream = CUstream(from.word());
        let attributes = if with_attributes { from.bytes() } else { &[] };
        let params = from.bytes();
        command.read_all()?;
        let attributes = attributes
            .chunks(size_of::<CUlaunchAttribute>())
            .take(ATTRIBUTES_MAX)
            .map(|raw| CUlaunchAttribute::read_from_bytes(raw).map_err(|_| CUDA_ERROR_INVALID_VALUE))
            .collect::<Answer<Vec<_>>>()?;
        if params.len() > KERNEL_PARAM_BYTES_MAX || attributes.iter().any(carries_pointer) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let grid = [grid_x, grid_y, grid_z];
        let block = [block_x, block_y, block_z];
        Ok(Self { function, grid, block, shared_bytes, stream, attributes, params })
    }

    /// The function and stream that the ids stand for.
    fn resolve(&mut self, command: &Command) -> Answer {
        let process = command.thread.process_ref();
        self.function = process.handles.resolve(self.function)?;
        self.stream = process.handles.resolve(self.stream)?;
        for attribute in self.attributes.iter_mut().filter(|attribute| carries_event(attribute)) {
            let event = process.handles.resolve(CUevent(attribute.value[0]))?;
            attribute.value[0] = event.0;
        }
        Ok(())
    }

    /// The configuration, whose attributes are this launch's.
    fn config(&mut self) -> CUlaunchConfig {
        CUlaunchConfig {
            gridDimX: self.grid[0],
            gridDimY: self.grid[1],
            gridDimZ: self.grid[2],
            blockDimX: self.block[0],
            blockDimY: self.block[1],
            blockDimZ: self.block[2],
            sharedMemBytes: self.shared_bytes,
            hStream: self.stream,
            attrs: self.attributes.as_mut_ptr(),
            numAttrs: u32::try_from(self.attributes.len()).unwrap_or(0),
        }
    }

    fn with_config(mut self, command: &mut Command) -> Answer {
        self.resolve(command)?;
        let process = command.thread.process_ref();
        let lib = &process.lib;
        let config = self.config();
        let mut size = self.params.len();
        let mut extra = extra(self.params, &mut size);
        let extra = extra_or_null(&mut extra, self.params);
        let none = std::ptr::null_mut();
        cuda!(lib.cuLaunchKernelEx(&raw const config, self.function, none, extra))?;
        command.thread.count_kernel();
        Ok(())
    }
}

/// In: as a launch with attributes and without parameters. Reply: the size.
pub(in crate::worker) fn cuOccupancyMaxPotentialClusterSize(command: &mut Command) -> Answer {
    let mut launch = Launch::take(command, true)?;
    launch.resolve(command)?;
    let lib = &command.thread.process_ref().lib;
    let (config, mut size) = (launch.config(), 0);
    cuda!(lib.cuOccupancyMaxPotentialClusterSize(&raw mut size, launch.function, &raw const config))?;
    command.to.word(size.to_word());
    Ok(())
}

/// In: as a launch with attributes and without parameters. Reply: the count.
pub(in crate::worker) fn cuOccupancyMaxActiveClusters(command: &mut Command) -> Answer {
    let mut launch = Launch::take(command, true)?;
    launch.resolve(command)?;
    let lib = &command.thread.process_ref().lib;
    let (config, mut count) = (launch.config(), 0);
    cuda!(lib.cuOccupancyMaxActiveClusters(&raw mut count, launch.function, &raw const config))?;
    command.to.word(count.to_word());
    Ok(())
}

/// Attributes whose value begins with an event.
fn carries_event(attribute: &CUlaunchAttribute) -> bool {
    [CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT, CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT].contains(&attribute.id)
}

/// Attributes whose value libcuda would answer by a handle for kernels.
fn carries_pointer(attribute: &CUlaunchAttribute) -> bool {
    attribute.id == CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE
}

fn extra(params: &[u8], size: &mut usize) -> [Pointer; 5] {
    let buffer = params.as_ptr().cast_mut().cast::<c_void>();
    let size: *mut usize = size;
    [PARAM_BUFFER_POINTER, buffer, PARAM_BUFFER_SIZE, size.cast(), std::ptr::null_mut()]
}

/// A function without parameters gets neither form of them.
fn extra_or_null(extra: &mut [Pointer; 5], params: &[u8]) -> Pointers {
    if params.is_empty() { std::ptr::null_mut() } else { extra.as_mut_ptr() }
}

pub(in crate::worker) fn cuLaunchKernel(command: &mut Command) -> Answer {
    let mut launch = Launch::take(command, false)?;
    launch.resolve(command)?;
    let process = command.thread.process_ref();
    let lib = &process.lib;
    let ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]) = (launch.grid, launch.block);
    let mut size = launch.params.len();
    let mut extra = extra(launch.params, &mut size);
    cuda!(lib.cuLaunchKernel(
        launch.function,
        grid_x,
        grid_y,
        grid_z,
        block_x,
        block_y,
        block_z,
        launch.shared_bytes,
        launch.stream,
        std::ptr::null_mut(),
        extra_or_null(&mut extra, launch.params),
    ))?;
    command.thread.count_kernel();
    Ok(())
}

pub(in crate::worker) fn cuLaunchKernelEx(command: &mut Command) -> Answer {
    Launch::take(command, true)?.with_config(command)
}

/// As a launch with the cooperative attribute: cuLaunchCooperativeKernel itself
/// takes no block of parameters.
pub(in crate::worker) fn cuLaunchCooperativeKernel(command: &mut Command) -> Answer {
    let mut launch = Launch::take(command, false)?;
    let value = [1, 0, 0, 0, 0, 0, 0, 0];
    launch.attributes.push(CUlaunchAttribute { id: CU_LAUNCH_ATTRIBUTE_COOPERATIVE, pad: 0, value });
    launch.with_config(command)
}
