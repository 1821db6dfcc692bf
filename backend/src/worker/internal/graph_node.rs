//! A node's parameters between the guest's form (ids for handles, no pointers,
//! what pointers point to beside them) and libcuda's.

use std::sync::{Arc, PoisonError};

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::OPERAND_AREA;
use zerocopy::FromBytes;

use crate::worker::area::Mapping;
use crate::worker::custom::Kept;
use crate::worker::libcuda::{Answer, Libcuda, cuda, has};
use crate::worker::process::Process;

/// Parameters as libcuda takes them, with what they point to.
pub(super) struct Native {
    pub(super) params: CUgraphNodeParams,
    /// A host node's function, to be kept by the graph or dropped.
    pub(super) kept: Option<Kept>,
    /// Areas that a copy reaches.
    pub(super) mappings: Vec<Arc<Mapping>>,
    _bytes: Vec<u64>,
    _pointers: Vec<u64>,
}

fn address<T>(of: &[T]) -> u64 {
    of.as_ptr().expose_provenance() as u64
}

/// Bytes at an address that serves for any of CUDA's structures.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        u64::from_le_bytes(word)
    });
    words.collect()
}

/// Offset and size of a function's parameters.
#[allow(unsafe_code, reason = "foreign functions")]
pub(super) fn layout(lib: &Libcuda, of: CUfunction, is_kernel: bool) -> Answer<Vec<(usize, usize)>> {
    let mut places = Vec::new();
    let (mut offset, mut size) = (0, 0);
    loop {
        let index = places.len();
        let result = if is_kernel {
            let info = has(lib.cuKernelGetParamInfo)?;
            // SAFETY: libcuda's prototype; both pointers are to locals.
            unsafe { info(CUkernel(of.0), index, &raw mut offset, &raw mut size) }
        } else {
            let info = has(lib.cuFuncGetParamInfo)?;
            // SAFETY: as above.
            unsafe { info(of, index, &raw mut offset, &raw mut size) }
        };
        if result != CUDA_SUCCESS {
            return Ok(places);
        }
        places.push((offset, size));
    }
}

fn is_kernel(id: u64) -> bool {
    id >> 40 == u64::from(CUkernel::TYPE)
}

impl Native {
    /// Checks and resolves a node that the guest describes.
    pub(super) fn new(process: &Process, asked: &[u8], side: &[u8]) -> Answer<Self> {
        let asked = CUgraphNodeParams::read_from_bytes(asked).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
        let params = CUgraphNodeParams { kind: asked.kind, ..CUgraphNodeParams::default() };
        let bytes = aligned(side);
        let mut native = Self { params, kept: None, mappings: Vec::new(), _bytes: bytes, _pointers: Vec::new() };
        native.fill(process, &asked, side.len())?;
        Ok(native)
    }

    fn fill(&mut self, process: &Process, asked: &CUgraphNodeParams, side: usize) -> Answer {
        let handles = &process.handles;
        match asked.kind {
            CU_GRAPH_NODE_TYPE_KERNEL => self.kernel(process, asked.get(), side),
            CU_GRAPH_NODE_TYPE_MEMCPY => self.copy(process, asked.get()),
            CU_GRAPH_NODE_TYPE_MEMSET => {
                let set: CUDA_MEMSET_NODE_PARAMS_v2 = asked.get();
                let ctx = context(process, set.ctx)?;
                self.params.set(&CUDA_MEMSET_NODE_PARAMS_v2 { ctx, ..set });
                Ok(())
            }
            CU_GRAPH_NODE_TYPE_HOST => {
                let number = asked.get::<CUDA_HOST_NODE_PARAMS>().userData;
                let kept = Kept::new(&process.callbacks, number);
                let (func, userData) = kept.host_node();
                self.params.set(&CUDA_HOST_NODE_PARAMS { func, userData });
                self.kept = Some(kept);
                Ok(())
            }
            CU_GRAPH_NODE_TYPE_GRAPH => {
                let child: CUDA_CHILD_GRAPH_NODE_PARAMS = asked.get();
                let graph = handles.resolve(child.graph)?;
                self.params.set(&CUDA_CHILD_GRAPH_NODE_PARAMS { graph, ..child });
                Ok(())
            }
            CU_GRAPH_NODE_TYPE_EMPTY => Ok(()),
            CU_GRAPH_NODE_TYPE_EVENT_RECORD | CU_GRAPH_NODE_TYPE_WAIT_EVENT => {
                let of: CUDA_EVENT_NODE_PARAMS = asked.get();
                let event = handles.resolve(of.event)?;
                self.params.set(&CUDA_EVENT_NODE_PARAMS { event, ctx: handles.resolve(of.ctx)? });
                Ok(())
            }
            CU_GRAPH_NODE_TYPE_MEM_ALLOC => self.alloc(asked.get(), side),
            CU_GRAPH_NODE_TYPE_MEM_FREE => {
                self.params.set(&asked.get::<CUDA_MEM_FREE_NODE_PARAMS>());
                Ok(())
            }
            CU_GRAPH_NODE_TYPE_BATCH_MEM_OP => {
                let of: CUDA_BATCH_MEM_OP_NODE_PARAMS = asked.get();
                if of.count as usize * size_of::<CUstreamBatchMemOpParams>() != side {
                    return Err(CUDA_ERROR_INVALID_VALUE);
                }
                let (ctx, paramArray) = (context(process, of.ctx)?, address(&self._bytes));
                self.params.set(&CUDA_BATCH_MEM_OP_NODE_PARAMS { ctx, paramArray, ..of });
                Ok(())
            }
            CU_GRAPH_NODE_TYPE_CONDITIONAL => {
                let of: CUDA_CONDITIONAL_NODE_PARAMS = asked.get();
                let ctx = context(process, of.ctx)?;
                self.params.set(&CUDA_CONDITIONAL_NODE_PARAMS { ctx, phGraph_out: 0, ..of });
                Ok(())
            }
            _ => Err(CUDA_ERROR_NOT_SUPPORTED),
        }
    }

    fn kernel(&mut self, process: &Process, asked: CUDA_KERNEL_NODE_PARAMS, side: usize) -> Answer {
        let handles = &process.handles;
        let (func, kern) = match asked.func {
            CUfunction(0) => (CUfunction(0), handles.resolve(asked.kern)?),
            func => (handles.resolve(func)?, CUkernel(0)),
        };
        let (of, named) = if func.0 == 0 { (CUfunction(kern.0), asked.kern.0) } else { (func, asked.func.0) };
        let places = layout(&process.lib, of, is_kernel(named))?;
        let start = address(&self._bytes);
        for (offset, size) in places {
            if offset.checked_add(size).is_none_or(|end| end > side) {
                return Err(CUDA_ERROR_INVALID_VALUE);
            }
            self._pointers.push(start + offset as u64);
        }
        let kernelParams = if self._pointers.is_empty() { 0 } else { address(&self._pointers) };
        let ctx = handles.resolve(asked.ctx)?;
        self.params.set(&CUDA_KERNEL_NODE_PARAMS { func, kern, kernelParams, extra: 0, ctx, ..asked });
        Ok(())
    }

    fn copy(&mut self, process: &Process, asked: CUDA_MEMCPY_NODE_PARAMS) -> Answer {
        let mut copy = asked.copyParams;
        let known = [CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_ARRAY];
        if ![copy.srcMemoryType, copy.dstMemoryType].iter().all(|kind| known.contains(kind)) {
            // A unified address could be one of this process's own.
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let extent = [copy.WidthInBytes, copy.Height, copy.Depth];
        if copy.srcMemoryType == CU_MEMORYTYPE_HOST {
            let skip = [copy.srcXInBytes, copy.srcY, copy.srcZ];
            let form = [copy.srcPitch, copy.srcHeight];
            copy.srcHost = self.host(process, [copy.reserved0, copy.srcHost], skip, form, extent)?;
        }
        if copy.dstMemoryType == CU_MEMORYTYPE_HOST {
            let skip = [copy.dstXInBytes, copy.dstY, copy.dstZ];
            let form = [copy.dstPitch, copy.dstHeight];
            copy.dstHost = self.host(process, [copy.reserved1, copy.dstHost], skip, form, extent)?;
        }
        let handles = &process.handles;
        let array = |kind, of| if kind == CU_MEMORYTYPE_ARRAY { handles.resolve(of) } else { Ok(CUarray(0)) };
        copy.srcArray = array(copy.srcMemoryType, copy.srcArray)?;
        copy.dstArray = array(copy.dstMemoryType, copy.dstArray)?;
        let copyParams = CUDA_MEMCPY3D { reserved0: 0, reserved1: 0, ..copy };
        let copyCtx = context(process, asked.copyCtx)?;
        self.params.set(&CUDA_MEMCPY_NODE_PARAMS { flags: 0, reserved: 0, copyCtx, copyParams });
        Ok(())
    }

    /// The address of an area's bytes, all of which the copy finds there.
    fn host(
        &mut self,
        process: &Process,
        [kind, offset]: [u64; 2],
        [x, y, z]: [u64; 3],
        [pitch, height]: [u64; 2],
        [width, rows, planes]: [u64; 3],
    ) -> Answer<u64> {
        let area = kind.checked_sub(OPERAND_AREA).and_then(|area| u16::try_from(area).ok());
        let mapping = process.areas.mapped(area.ok_or(CUDA_ERROR_INVALID_VALUE)?).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let pitch = if pitch == 0 { width } else { pitch };
        let plane = pitch.checked_mul(if height == 0 { rows } else { height });
        let span = || {
            let last = plane?.checked_mul(z.checked_add(planes.checked_sub(1)?)?)?;
            let row = pitch.checked_mul(y.checked_add(rows.checked_sub(1)?)?)?;
            last.checked_add(row)?.checked_add(x)?.checked_add(width)
        };
        let span = span().ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let base = mapping.address(offset, span).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        self.mappings.push(mapping);
        Ok(base.expose_provenance() as u64)
    }

    fn alloc(&mut self, asked: CUDA_MEM_ALLOC_NODE_PARAMS, side: usize) -> Answer {
        const ACCESS_BYTES: usize = 12;
        const SECURITY: usize = 2;
        if u64::try_from(side / ACCESS_BYTES) != Ok(asked.accessDescCount) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let mut poolProps = asked.poolProps;
        if let Some(pointer) = poolProps.get_mut(SECURITY) {
            *pointer = 0;
        }
        let accessDescs = if side == 0 { 0 } else { address(&self._bytes) };
        let dptr = CUdeviceptr(0);
        self.params.set(&CUDA_MEM_ALLOC_NODE_PARAMS { poolProps, accessDescs, dptr, ..asked });
        Ok(())
    }
}

/// The context that an id names; for NULL the current one.
fn context(process: &Process, id: CUcontext) -> Answer<CUcontext> {
    if id.0 != 0 {
        return process.handles.resolve(id);
    }
    let lib = &process.lib;
    let mut current = CUcontext(0);
    cuda!(lib.cuCtxGetCurrent(&raw mut current))?;
    Ok(current)
}

/// A native context as the guest knows it.
fn told_context(process: &Process, native: CUcontext) -> CUcontext {
    process.handles.id_of(native).unwrap_or(CUcontext(0))
}

/// Copies out what libcuda's pointer points to.
#[allow(unsafe_code, reason = "libcuda's own memory")]
fn bytes_at(address: u64, len: usize) -> Vec<u8> {
    if address == 0 || len == 0 {
        return Vec::new();
    }
    let from = std::ptr::with_exposed_provenance::<u8>(usize::from_word(address));
    // SAFETY: libcuda gave the pointer for as many bytes as its structure says.
    unsafe { std::slice::from_raw_parts(from, len) }.to_vec()
}

/// A node's parameters as the guest takes them.
pub(super) fn told(process: &Process, node: CUgraphNode) -> Answer<(CUgraphNodeParams, Vec<u8>)> {
    let lib = &process.lib;
    let mut kind = CU_GRAPH_NODE_TYPE_EMPTY;
    cuda!(lib.cuGraphNodeGetType(node, &raw mut kind))?;
    let plain = |params| Ok((params, Vec::new()));
    match kind {
        CU_GRAPH_NODE_TYPE_KERNEL => told_kernel(process, node),
        CU_GRAPH_NODE_TYPE_MEMCPY => {
            let mut copy = CUDA_MEMCPY3D::default();
            cuda!(lib.cuGraphMemcpyNodeGetParams(node, &raw mut copy))?;
            (copy.reserved0, copy.srcHost) = told_host(process, copy.srcMemoryType, copy.srcHost);
            (copy.reserved1, copy.dstHost) = told_host(process, copy.dstMemoryType, copy.dstHost);
            copy.srcArray = told_array(process, copy.srcMemoryType, copy.srcArray);
            copy.dstArray = told_array(process, copy.dstMemoryType, copy.dstArray);
            let copy = CUDA_MEMCPY_NODE_PARAMS { copyParams: copy, ..Default::default() };
            plain(CUgraphNodeParams::new(kind, &copy))
        }
        CU_GRAPH_NODE_TYPE_MEMSET => {
            let mut set = CUDA_MEMSET_NODE_PARAMS::default();
            cuda!(lib.cuGraphMemsetNodeGetParams(node, &raw mut set))?;
            plain(CUgraphNodeParams::new(kind, &set))
        }
        CU_GRAPH_NODE_TYPE_HOST => {
            let mut host = CUDA_HOST_NODE_PARAMS::default();
            cuda!(lib.cuGraphHostNodeGetParams(node, &raw mut host))?;
            let userData = process.callbacks.number_of(host.userData).unwrap_or(0);
            plain(CUgraphNodeParams::new(kind, &CUDA_HOST_NODE_PARAMS { func: 0, userData }))
        }
        CU_GRAPH_NODE_TYPE_EVENT_RECORD | CU_GRAPH_NODE_TYPE_WAIT_EVENT => {
            let mut event = CUevent(0);
            if kind == CU_GRAPH_NODE_TYPE_WAIT_EVENT {
                cuda!(lib.cuGraphEventWaitNodeGetEvent(node, &raw mut event))?;
            } else {
                cuda!(lib.cuGraphEventRecordNodeGetEvent(node, &raw mut event))?;
            }
            let event = process.handles.tell(event, 0)?;
            plain(CUgraphNodeParams::new(kind, &CUDA_EVENT_NODE_PARAMS { event, ctx: CUcontext(0) }))
        }
        CU_GRAPH_NODE_TYPE_MEM_ALLOC => {
            let mut of = CUDA_MEM_ALLOC_NODE_PARAMS::default();
            cuda!(lib.cuGraphMemAllocNodeGetParams(node, &raw mut of))?;
            let side = bytes_at(of.accessDescs, usize::from_word(of.accessDescCount) * 12);
            let of = CUDA_MEM_ALLOC_NODE_PARAMS { accessDescs: 0, ..of };
            Ok((CUgraphNodeParams::new(kind, &of), side))
        }
        CU_GRAPH_NODE_TYPE_MEM_FREE => {
            let mut dptr = CUdeviceptr(0);
            cuda!(lib.cuGraphMemFreeNodeGetParams(node, &raw mut dptr))?;
            plain(CUgraphNodeParams::new(kind, &CUDA_MEM_FREE_NODE_PARAMS { dptr }))
        }
        CU_GRAPH_NODE_TYPE_BATCH_MEM_OP => {
            let mut of = CUDA_BATCH_MEM_OP_NODE_PARAMS::default();
            cuda!(lib.cuGraphBatchMemOpNodeGetParams(node, &raw mut of))?;
            let side = bytes_at(of.paramArray, of.count as usize * size_of::<CUstreamBatchMemOpParams>());
            let of = CUDA_BATCH_MEM_OP_NODE_PARAMS { ctx: told_context(process, of.ctx), paramArray: 0, ..of };
            Ok((CUgraphNodeParams::new(kind, &of), side))
        }
        _ => plain(CUgraphNodeParams { kind, ..CUgraphNodeParams::default() }),
    }
}

/// A kernel node; a library's kernel is told by its own id where the function
/// that libcuda made of it has none.
fn told_kernel(process: &Process, node: CUgraphNode) -> Answer<(CUgraphNodeParams, Vec<u8>)> {
    let lib = &process.lib;
    let mut of = CUDA_KERNEL_NODE_PARAMS::default();
    cuda!(lib.cuGraphKernelNodeGetParams_v2(node, &raw mut of))?;
    let is_function = of.func.0 != 0;
    let places = if is_function {
        let plain = layout(lib, of.func, false)?;
        if plain.is_empty() { layout(lib, of.func, true)? } else { plain }
    } else {
        layout(lib, CUfunction(of.kern.0), true)?
    };
    let mut side = Vec::new();
    for (index, (offset, size)) in places.into_iter().enumerate() {
        side.resize(side.len().max(offset + size), 0);
        let pointer = bytes_at(of.kernelParams.wrapping_add(8 * index as u64), 8);
        let pointer = pointer.try_into().map(u64::from_le_bytes).unwrap_or(0);
        let value = bytes_at(pointer, size);
        side.splice(offset..offset + value.len(), value);
    }
    let func = process.handles.id_of(of.func);
    let func = func.or_else(|| process.handles.id_of(CUkernel(of.func.0)).map(|kernel| CUfunction(kernel.0)));
    let kern = process.handles.id_of(of.kern).unwrap_or(CUkernel(0));
    let func = func.unwrap_or(CUfunction(0));
    let ctx = told_context(process, of.ctx);
    let of = CUDA_KERNEL_NODE_PARAMS { func, kern, ctx, kernelParams: 0, extra: 0, ..of };
    Ok((CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_KERNEL, &of), side))
}

/// An array that a copy names, as the guest knows it.
fn told_array(process: &Process, kind: CUmemorytype, native: CUarray) -> CUarray {
    let known = (kind == CU_MEMORYTYPE_ARRAY).then(|| process.handles.id_of(native)).flatten();
    known.unwrap_or(CUarray(0))
}

/// Area and offset of host memory that a copy names.
fn told_host(process: &Process, kind: CUmemorytype, host: u64) -> (u64, u64) {
    if kind != CU_MEMORYTYPE_HOST {
        return (0, 0);
    }
    let memory = process.host_memory.lock().unwrap_or_else(PoisonError::into_inner);
    let found = memory.iter().find_map(|(area, memory)| {
        let offset = host.checked_sub(memory.base)?;
        memory.mapping.address(offset, 1)?;
        Some((OPERAND_AREA | u64::from(*area), offset))
    });
    found.unwrap_or((0, 0))
}
