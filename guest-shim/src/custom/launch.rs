//! Launches: checked here, packed by the function's known layout, posted.

use paravane_protocol::codec::Encoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::KERNEL_PARAM_BYTES_MAX;
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::pointer;
use crate::state::functions::{self, Function};
use crate::state::{current, mode, stream};

/// CUDA's bound on threads per block; the host checks its device's own.
const BLOCK_THREADS_MAX: u64 = 1024;
/// `extra`'s tags (cuda.h): end, buffer, pointer to the buffer's size.
const PARAM_END: usize = 0;
const PARAM_BUFFER_POINTER: usize = 1;
const PARAM_BUFFER_SIZE: usize = 2;

/// What every form of launch comes to.
struct Launch {
    function: CUfunction,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: CUstream,
}

/// Where the parameters' values are.
#[derive(Clone, Copy)]
struct Params {
    kernel_params: Pointers,
    extra: Pointers,
}

#[allow(clippy::too_many_arguments, reason = "CUDA's prototype")]
pub(crate) fn cuLaunchKernel(
    f: CUfunction,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    stream: CUstream,
    kernel_params: Pointers,
    extra: Pointers,
) -> Answer {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    let launch = Launch { function: f, grid, block, shared_bytes, stream };
    launch.post(opcode::cuLaunchKernel, &[], Params { kernel_params, extra })
}

#[allow(clippy::too_many_arguments, reason = "CUDA's prototype")]
pub(crate) fn cuLaunchCooperativeKernel(
    f: CUfunction,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    stream: CUstream,
    kernel_params: Pointers,
) -> Answer {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    let launch = Launch { function: f, grid, block, shared_bytes, stream };
    let params = Params { kernel_params, extra: std::ptr::null_mut() };
    launch.post(opcode::cuLaunchCooperativeKernel, &[], params)
}

pub(crate) fn cuLaunchKernelEx(
    config: *const CUlaunchConfig,
    f: CUfunction,
    kernel_params: Pointers,
    extra: Pointers,
) -> Answer {
    let config = pointer::get(config)?;
    let launch = Launch {
        function: f,
        grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
        block: [config.blockDimX, config.blockDimY, config.blockDimZ],
        shared_bytes: config.sharedMemBytes,
        stream: config.hStream,
    };
    let params = Params { kernel_params, extra };
    if config.numAttrs == 0 {
        return launch.post(opcode::cuLaunchKernel, &[], params);
    }
    let attributes = (0..config.numAttrs as usize)
        .map(|index| checked(pointer::element(config.attrs.cast_const(), index)?))
        .collect::<Answer<Vec<_>>>()?;
    launch.post(opcode::cuLaunchKernelEx, &attributes, params)
}

/// What a launch would find: configuration and function go, a number comes back.
fn ask_clusters(opcode: u16, into: *mut i32, function: CUfunction, config: *const CUlaunchConfig) -> Answer {
    let config = pointer::get(config)?;
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let attributes = (0..config.numAttrs as usize)
        .map(|index| checked(pointer::element(config.attrs.cast_const(), index)?))
        .collect::<Answer<Vec<_>>>()?;
    let grid = [config.gridDimX, config.gridDimY, config.gridDimZ];
    let block = [config.blockDimX, config.blockDimY, config.blockDimZ];
    let (shared_bytes, on) = (config.sharedMemBytes, stream::resolve(config.hStream));
    let launch = Launch { function, grid, block, shared_bytes, stream: on };
    let answer = with_ring(|ring| {
        ring.call(
            opcode,
            |to| {
                launch.head(on, to);
                to.bytes(zerocopy::IntoBytes::as_bytes(attributes.as_slice()));
                to.word(0);
                Ok(())
            },
            |from| i32::from_word(from.word()),
        )
    })?;
    pointer::put(into, answer)
}

pub(crate) fn cuOccupancyMaxPotentialClusterSize(
    into: *mut i32,
    function: CUfunction,
    config: *const CUlaunchConfig,
) -> Answer {
    ask_clusters(opcode::cuOccupancyMaxPotentialClusterSize, into, function, config)
}

pub(crate) fn cuOccupancyMaxActiveClusters(
    into: *mut i32,
    function: CUfunction,
    config: *const CUlaunchConfig,
) -> Answer {
    ask_clusters(opcode::cuOccupancyMaxActiveClusters, into, function, config)
}

/// An attribute whose value is a handle for kernels is refused; the others are
/// numbers and events' ids.
fn checked(attribute: CUlaunchAttribute) -> Answer<CUlaunchAttribute> {
    match attribute.id {
        CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE => Err(CUDA_ERROR_NOT_SUPPORTED),
        _ => Ok(attribute),
    }
}

/// On one device it is a cooperative launch; what several devices' grids would
/// wait for together is not forwarded.
pub(crate) fn cuLaunchCooperativeKernelMultiDevice(list: *mut CUDA_LAUNCH_PARAMS, devices: u32, flags: u32) -> Answer {
    const FLAGS: u32 = 3;
    if devices == 0 || flags & !FLAGS != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if devices > 1 {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    let CUDA_LAUNCH_PARAMS { function, hStream, kernelParams, sharedMemBytes, .. } = pointer::get(list.cast_const())?;
    let of = pointer::get(list.cast_const())?;
    if hStream.0 <= CU_STREAM_PER_THREAD.0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let (grid, block) = ([of.gridDimX, of.gridDimY, of.gridDimZ], [of.blockDimX, of.blockDimY, of.blockDimZ]);
    let launch = Launch { function, grid, block, shared_bytes: sharedMemBytes, stream: hStream };
    let params = Params { kernel_params: kernelParams, extra: std::ptr::null_mut() };
    launch.post(opcode::cuLaunchCooperativeKernel, &[], params)
}

impl Launch {
    /// The words that every launch begins with.
    #[inline]
    fn head(&self, stream: CUstream, to: &mut Encoder) {
        to.word(self.function.0);
        to.word(pair(self.grid[0], self.grid[1]));
        to.word(pair(self.grid[2], self.block[0]));
        to.word(pair(self.block[1], self.block[2]));
        to.word(u64::from(self.shared_bytes));
        to.word(stream.0);
    }

    fn check(&self) -> Answer {
        current::context()?;
        let threads = self.threads();
        let grid_is_empty = self.grid.contains(&0);
        if grid_is_empty || threads == 0 || threads > BLOCK_THREADS_MAX {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        Ok(())
    }

    #[inline]
    fn post(&self, opcode: u16, attributes: &[CUlaunchAttribute], params: Params) -> Answer {
        self.check()?;
        let stream = stream::resolve(self.stream);
        functions::with(self.function.0, |function| {
            stream::mark_busy(stream);
            let encode = |to: &mut Encoder| {
                self.head(stream, to);
                if opcode == opcode::cuLaunchKernelEx {
                    to.bytes(zerocopy::IntoBytes::as_bytes(attributes));
                }
                write_params(function, params, to)
            };
            // How many blocks the device holds at once is the host's to say.
            let cooperative = opcode == opcode::cuLaunchCooperativeKernel
                || attributes.iter().any(|attribute| attribute.id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
            if !cooperative && function.allows(self.function.0, self.threads(), self.shared_bytes) {
                mode::post_or_call(opcode, encode)
            } else {
                with_ring(|ring| ring.call(opcode, encode, |_| ()))
            }
        })
    }

    /// Threads of a block.
    #[inline]
    fn threads(&self) -> u64 {
        self.block.iter().map(|&side| u64::from(side)).product()
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Writes the parameters as one block of bytes in the function's layout.
#[inline]
fn write_params(function: &Function, params: Params, to: &mut Encoder) -> Answer {
    if function.params.is_empty() {
        to.word(0);
        return Ok(());
    }
    if params.kernel_params.is_null() {
        return write_extra(function, params.extra, to);
    }
    to.word(function.param_bytes as u64);
    let mut written = 0;
    for (index, &(offset, size)) in function.params.iter().enumerate() {
        let value = pointer::element(params.kernel_params.cast_const(), index)?;
        zeros(offset as usize - written, to);
        to.raw(pointer::bytes(value.cast(), size as usize)?);
        written = offset as usize + size as usize;
    }
    zeros(written.next_multiple_of(8) - written, to);
    Ok(())
}

/// The parameters of a function or kernel as one block of bytes.
pub(crate) fn packed_params(id: u64, kernel_params: Pointers, extra: Pointers) -> Answer<Vec<u8>> {
    const LENGTH: usize = 8;
    functions::with(id, |function| {
        let mut buffer = vec![0; KERNEL_PARAM_BYTES_MAX.next_multiple_of(8) + 2 * LENGTH];
        let mut to = Encoder::new(&mut buffer);
        write_params(function, Params { kernel_params, extra }, &mut to)?;
        let bytes = to.finish().ok_or(CUDA_ERROR_INVALID_VALUE)?;
        buffer.truncate(bytes);
        Ok(buffer.split_off(LENGTH))
    })
}

fn zeros(mut count: usize, to: &mut Encoder) {
    while count > 0 {
        let step = count.min(64);
        to.raw(&[0; 64][..step]);
        count -= step;
    }
}

/// The parameters as one buffer that the caller packed.
fn write_extra(function: &Function, extra: Pointers, to: &mut Encoder) -> Answer {
    if extra.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let (mut buffer, mut size) = (std::ptr::null_mut(), None);
    for index in (0..).step_by(2) {
        let tag = pointer::element(extra.cast_const(), index)? as usize;
        if tag == PARAM_END {
            break;
        }
        let value = pointer::element(extra.cast_const(), index + 1)?;
        match tag {
            PARAM_BUFFER_POINTER => buffer = value,
            PARAM_BUFFER_SIZE => size = Some(pointer::get(value.cast::<usize>())?),
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        }
    }
    let size = size.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if size < function.param_bytes || size > KERNEL_PARAM_BYTES_MAX {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    to.bytes(pointer::bytes(buffer.cast(), size)?);
    Ok(())
}
