//! Which commands need the process's memory on the device: all but those that
//! are known to touch none, to wait for others, or to look after it themselves.

use paravane_protocol::internal as op;
use paravane_protocol::opcode;

macro_rules! harmless {
    ($($name:ident)* ; $($internal:ident)*) => {
        /// Whether a command enters ([`super::Swap::enter`]).
        #[inline]
        pub(in crate::worker) fn enters(opcode: u16) -> bool {
            !matches!(opcode, $(opcode::$name)|* $(| op::$internal)*)
        }

        #[cfg(test)]
        const HARMLESS: &[&str] = &[$(stringify!($name)),*];
    };
}

harmless! {
    // They wait for what others issue.
    cuCtxSynchronize cuStreamSynchronize cuEventSynchronize cuStreamQuery cuEventQuery
    cuCtxRecordEvent cuCtxWaitEvent cuStreamWaitEvent cuEventRecord cuEventRecordWithFlags
    cuEventElapsedTime cuEventElapsedTime_v2 cuEventCreate cuEventDestroy_v2
    cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2
    cuStreamGetPriority cuStreamGetFlags cuStreamGetId cuStreamGetAttribute cuStreamSetAttribute cuStreamCopyAttributes
    // Memory that is captured for stays until the capture has ended.
    cuStreamEndCapture cuStreamIsCapturing cuStreamGetCaptureInfo cuStreamGetCaptureInfo_v2 cuThreadExchangeStreamCaptureMode
    // They look after it themselves.
    cuMemAlloc_v2 cuMemAllocPitch_v2 cuMemFree_v2 cuMemGetAddressRange_v2
    cuCtxDestroy_v2 cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxReset_v2
    // Questions and settings.
    cuMemGetInfo_v2 cuMemGetAllocationGranularity cuDevicePrimaryCtxGetState cuDevicePrimaryCtxSetFlags_v2
    cuCtxGetFlags cuCtxSetFlags cuCtxGetId cuCtxGetLimit cuCtxGetCacheConfig cuCtxSetCacheConfig cuCtxGetApiVersion
    cuCtxGetStreamPriorityRange cuFuncGetAttribute cuFuncIsLoaded cuFuncSetCacheConfig cuKernelGetAttribute
    cuOccupancyMaxActiveBlocksPerMultiprocessor cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags
    cuOccupancyAvailableDynamicSMemPerBlock cuDeviceCanAccessPeer cuDeviceGetP2PAttribute ;
    HELLO NOTHING SET_CURRENT THREAD_END ADD_RINGS STAGING_ADD IMAGE_BEGIN IMAGE_PIECE LINK_PIECE
    CALLBACK_NEXT CALLBACK_DONE OUTPUT_TAKE SHARE_END NVML_READ NVML_PROCESSES NVML_DRIVER MEMORY
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! rows {
        ($($opcode:literal $verb:ident fn $name:ident $arguments:tt $(+ $variant:ident)?;)*) => {
            const ROWS: &[(&str, u16)] = &[$((stringify!($name), $opcode)),*];
        };
    }
    paravane_protocol::cuda_api!(rows);

    /// Words in the names of rows that make the device or the library touch memory.
    const TOUCHES: [&str; 21] = [
        "Launch", "Memcpy", "Memset", "Value", "MemOp", "Batch", "Prefetch", "Graph", "Begin", "Load", "Unload", "Map",
        "Register", "Ipc", "Export", "Import", "Global", "Array", "Tex", "Surf", "Async",
    ];

    #[test]
    fn a_row_that_could_touch_memory_enters() {
        let own = ["cuMemAlloc_v2", "cuMemAllocPitch_v2", "cuMemFree_v2", "cuMemGetAddressRange_v2"];
        for (name, opcode) in ROWS {
            let touches = TOUCHES.iter().any(|word| name.contains(word)) && *name != "cuFuncIsLoaded";
            let memory = name.starts_with("cuMem") && !name.contains("GetInfo") && !name.contains("Granularity");
            if (touches || memory) && !own.contains(name) {
                assert!(enters(*opcode), "{name}");
            }
            assert_eq!(enters(*opcode), !HARMLESS.contains(name), "{name}");
        }
        for opcode in [op::COPY, op::COPY_2D, op::COPY_3D, op::COPY_INLINE, op::COPY_REPLY, op::HOST_ADD, op::GRAPH_NODE_ADD] {
            assert!(enters(opcode), "{:?}", op::name(opcode));
        }
        assert!(enters(0xffff), "what nobody knows");
    }

    #[test]
    fn who_waits_for_others_holds_nobody_up() {
        for name in ["cuCtxSynchronize", "cuStreamSynchronize", "cuEventSynchronize", "cuStreamEndCapture"] {
            assert!(HARMLESS.contains(&name), "{name}");
        }
        assert!(!enters(op::CALLBACK_NEXT) && !enters(op::CALLBACK_DONE));
    }
}
