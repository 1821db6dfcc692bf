//! Operations that are no CUDA symbol of their own (`paravane_protocol::
//! internal`).

mod copy;
mod graph;
mod graph_node;
mod hello;
mod host_memory;
mod image;
mod volume;

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal as op;

use super::dispatch::Command;
use super::libcuda::{Answer, capture_mode, cuda};
use super::memory;
use super::nvml;

pub(super) use graph::{edge_data, nodes};

/// Runs an internal operation; an opcode that is none breaks the protocol.
pub(super) fn dispatch(opcode: u16, command: &mut Command) -> Answer {
    match opcode {
        op::HELLO => hello::hello(command),
        op::NOTHING => command.read_all(),
        op::SET_CURRENT => set_current(command),
        op::THREAD_END => thread_end(command),
        op::ADD_RINGS => add_rings(command),
        op::HOST_ADD => memory::host_add(command, host_memory::add),
        op::HOST_REMOVE => memory::host_remove(command, host_memory::remove),
        op::VARIABLE => host_memory::variable(command),
        op::STAGING_ADD => host_memory::add_staging(command),
        op::COPY => copy::linear(command),
        op::COPY_2D => copy::plane(command),
        op::COPY_3D => volume::volume(command),
        op::COPY_INLINE => copy::from_frame(command),
        op::COPY_REPLY => copy::into_reply(command),
        op::IMAGE_BEGIN => image::begin(command),
        op::IMAGE_PIECE => image::piece(command),
        op::LINK_PIECE => super::custom::link_piece(command),
        op::CALLBACK_NEXT => callback_next(command),
        op::CALLBACK_DONE => callback_done(command),
        op::GRAPH_NODE_ADD => memory::graph_node(command, graph::add),
        op::GRAPH_NODE_SET => graph::set(command),
        op::GRAPH_NODE_GET => graph::get(command),
        op::GRAPH_LIST => graph::list(command),
        op::GRAPH_CONNECT => graph::connect(command),
        op::GRAPH_END => graph::end(command),
        op::SHARE_END => super::custom::share_end(command),
        op::OUTPUT_TAKE => take_output(command),
        op::NVML_READ => nvml::read(command),
        op::NVML_PROCESSES => nvml::processes(command),
        op::NVML_DRIVER => nvml::driver(command),
        op::MEMORY => memory::memory_of_device(command),
        _ => {
            command.thread.broke_protocol("unknown opcode");
            Err(CUDA_ERROR_INVALID_VALUE)
        }
    }
}

/// Bytes of kernels' output in one reply.
const OUTPUT_PIECE: usize = 2048;

fn set_current(command: &mut Command) -> Answer {
    let id = CUcontext(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let native = process.handles.resolve(id);
    // An ended context leaves none current, so that later calls say so.
    command.thread.context = if native.is_ok() { id.0 } else { 0 };
    cuda!(lib.cuCtxSetCurrent(native.unwrap_or(CUcontext(0))))
}

fn thread_end(command: &mut Command) -> Answer {
    command.read_all()?;
    command.thread.context = 0;
    command.thread.image = Vec::new();
    let process = command.thread.process();
    let lib = &process.lib;
    // The ring's next thread starts in the default capture mode, as a new one.
    let _ = capture_mode(lib, CU_STREAM_CAPTURE_MODE_GLOBAL);
    // Before the guest's cuInit has reached libcuda there is nothing to end.
    let _ = cuda!(lib.cuCtxSetCurrent(CUcontext(0)));
    Ok(())
}

fn add_rings(command: &mut Command) -> Answer {
    let area = take_area(command)?;
    command.read_all()?;
    command.thread.process().open_rings(area).map_err(|error| {
        log::warn!("rings in area {area}: {error}");
        CUDA_ERROR_OUT_OF_MEMORY
    })
}

/// An area's index; what is none breaks the protocol.
fn take_area(command: &mut Command) -> Answer<u16> {
    u16::try_from(command.from.word()).map_err(|_| {
        command.from.fail();
        CUDA_ERROR_INVALID_VALUE
    })
}

fn callback_next(command: &mut Command) -> Answer {
    command.read_all()?;
    let process = command.thread.process();
    let (number, status) = process.callbacks.next();
    if status == op::CALLBACK_ENDED
        && let Some(object) = process.callbacks.take_object(number)
    {
        process.handles.remove(object);
    }
    command.to.word(number);
    command.to.word(status);
    Ok(())
}

fn callback_done(command: &mut Command) -> Answer {
    let number = command.from.word();
    command.read_all()?;
    command.thread.process().callbacks.done(number);
    Ok(())
}

fn take_output(command: &mut Command) -> Answer {
    command.read_all()?;
    let process = command.thread.process();
    let mut bytes = [0; OUTPUT_PIECE];
    let taken = process.output.take(&mut bytes);
    if taken < OUTPUT_PIECE {
        process.show_output(0);
    }
    command.to.bytes(bytes.get(..taken).unwrap_or(&bytes));
    Ok(())
}
