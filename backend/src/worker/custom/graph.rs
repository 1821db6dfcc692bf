//! Graphs as far as a row alone does not do it: results beside an error, ids
//! that belong to a graph, functions of the guest's.

use std::ffi::c_void;

use paravane_protocol::cuda_types::*;

use super::callback::{Kept, end_kept};
use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
use crate::worker::libcuda::{Answer, cuda};

/// In: id, graph, flags, stream. Reply: CUresult, error node, reason.
pub(in crate::worker) fn cuGraphInstantiateWithParams(command: &mut Command) -> Answer {
    let id = CUgraphExec(command.from.word());
    let graph = CUgraph(command.from.word());
    let (flags, stream) = (command.from.word(), CUstream(command.from.word()));
    command.read_all()?;
    let process = command.thread.process();
    process.handles.check_new(id)?;
    let of = process.handles.resolve(graph)?;
    let hUploadStream = process.handles.resolve(stream)?;
    let mut params = CUDA_GRAPH_INSTANTIATE_PARAMS { flags, hUploadStream, ..Default::default() };
    let lib = &process.lib;
    let mut native = CUgraphExec(0);
    let made = cuda!(lib.cuGraphInstantiateWithParams(&raw mut native, of, &raw mut params));
    if made == Err(CUDA_ERROR_NOT_SUPPORTED) && params.result_out == 0 {
        return made;
    }
    if made.is_ok() {
        process.handles.insert(id, native, Belongs { context: 0, parent: 0 })?;
    }
    command.to.word(made.err().unwrap_or(CUDA_SUCCESS).to_word());
    command.to.word(process.handles.tell(params.hErrNode_out, graph.0)?.0);
    command.to.word(u64::from(params.result_out));
    Ok(())
}

/// In: executable graph, graph. Reply: CUresult, result, the two nodes.
pub(in crate::worker) fn cuGraphExecUpdate_v2(command: &mut Command) -> Answer {
    let exec = CUgraphExec(command.from.word());
    let graph = CUgraph(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let (exec, of) = (process.handles.resolve(exec)?, process.handles.resolve(graph)?);
    let mut info = CUgraphExecUpdateResultInfo::default();
    let lib = &process.lib;
    let updated = cuda!(lib.cuGraphExecUpdate_v2(exec, of, &raw mut info));
    command.to.word(updated.err().unwrap_or(CUDA_SUCCESS).to_word());
    command.to.word(info.result.to_word());
    command.to.word(process.handles.tell(info.errorNode, graph.0)?.0);
    command.to.word(process.handles.tell(info.errorFromNode, graph.0)?.0);
    Ok(())
}

/// In: node. Reply: the graph in it.
pub(in crate::worker) fn cuGraphChildGraphNodeGetGraph(command: &mut Command) -> Answer {
    let node = CUgraphNode(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let (lib, of) = (&process.lib, process.handles.resolve(node)?);
    let mut graph = CUgraph(0);
    cuda!(lib.cuGraphChildGraphNodeGetGraph(of, &raw mut graph))?;
    command.to.word(process.handles.tell(graph, node.0)?.0);
    Ok(())
}

/// In: node, the copy of its graph. Reply: the node's twin.
pub(in crate::worker) fn cuGraphNodeFindInClone(command: &mut Command) -> Answer {
    let node = CUgraphNode(command.from.word());
    let graph = CUgraph(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let (lib, handles) = (&process.lib, &process.handles);
    let (of, within) = (handles.resolve(node)?, handles.resolve(graph)?);
    let mut twin = CUgraphNode(0);
    cuda!(lib.cuGraphNodeFindInClone(&raw mut twin, of, within))?;
    command.to.word(handles.tell(twin, graph.0)?.0);
    Ok(())
}

/// In: id, the number of the guest's destructor, references, flags.
pub(in crate::worker) fn cuUserObjectCreate(command: &mut Command) -> Answer {
    let id = CUuserObject(command.from.word());
    let number = command.from.word();
    let (count, flags) = (u32::from_word(command.from.word()), u32::from_word(command.from.word()));
    command.read_all()?;
    let process = command.thread.process();
    process.handles.check_new(id)?;
    let lib = &process.lib;
    let kept = Kept::new(&process.callbacks, number);
    let mut native = CUuserObject(0);
    let end: CUhostFn = Some(end_kept);
    if let Err(error) = cuda!(lib.cuUserObjectCreate(&raw mut native, kept.data(), end, count, flags)) {
        kept.drop_unused();
        return Err(error);
    }
    process.callbacks.add_object(number, id);
    process.handles.insert(id, native, Belongs { context: 0, parent: 0 })
}

/// In: device, attribute. Reply: its value.
pub(in crate::worker) fn cuDeviceGetGraphMemAttribute(command: &mut Command) -> Answer {
    let dev = CUdevice::from_word(command.from.word());
    let attribute = CUgraphMem_attribute::from_word(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let mut value = 0_u64;
    let into: *mut u64 = &raw mut value;
    cuda!(lib.cuDeviceGetGraphMemAttribute(dev, attribute, into.cast::<c_void>()))?;
    command.to.word(value);
    Ok(())
}

/// In: device, attribute, value.
pub(in crate::worker) fn cuDeviceSetGraphMemAttribute(command: &mut Command) -> Answer {
    let dev = CUdevice::from_word(command.from.word());
    let attribute = CUgraphMem_attribute::from_word(command.from.word());
    let mut value = command.from.word();
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let from: *mut u64 = &raw mut value;
    cuda!(lib.cuDeviceSetGraphMemAttribute(dev, attribute, from.cast::<c_void>()))
}
