//! THE TABLE: one line per symbol of CUDA's driver interface. The shim's
//! exports, the worker's dispatch, cpu-driver's exports and the names in logs
//! are made from it, so a symbol is described once.
//!
//! A row reads `opcode verb fn name(argument: Direction<Type>[length], …) +
//! per-thread variant;`. Opcodes are append-only. Directions are in
//! [`crate::arg`]. The variant (`_ptds`, `_ptsz`) is the same call with the
//! calling thread's default stream for NULL. The verb says who answers, when:
//!
//! | verb | in the guest | in the worker |
//! |---|---|---|
//! | `call` | made from the row: sent, the reply awaited | made from the row |
//! | `post` | made from the row: sent, returns at once | made from the row |
//! | `wrap` | written by hand around the `call` that the row makes | made from the row |
//! | `custom` | written by hand | written by hand |
//! | `local` | written by hand; may use other rows or [`crate::internal`] | nothing |
//!
//! Sources: cuda.h 13.5 for names and prototypes.

/// Hands every implemented row to the macro `$callback`, after `$prefix`.
#[macro_export]
macro_rules! cuda_api {
    ($callback:ident $($prefix:tt)*) => {
        $callback! { $($prefix)*
            // Initialisation, errors, look-up.
            0x0101 local fn cuInit(Flags: In<u32>);
            0x0102 local fn cuDriverGetVersion(driverVersion: Out<i32>);
            0x0103 local fn cuGetErrorName(error: In<CUresult>, pStr: Out<ConstStr>);
            0x0104 local fn cuGetErrorString(error: In<CUresult>, pStr: Out<ConstStr>);
            0x0105 local fn cuGetProcAddress(symbol: InStr, pfn: Out<Pointer>, cudaVersion: In<i32>, flags: In<u64>);
            0x0106 local fn cuGetProcAddress_v2(symbol: InStr, pfn: Out<Pointer>, cudaVersion: In<i32>, flags: In<u64>, symbolStatus: OutOpt<CUdriverProcAddressQueryResult>);
            0x0107 local fn cuGetExportTable(ppExportTable: Out<Pointer>, pExportTableId: InSlice<CUuuid>[1]);
            // Devices.
            0x0110 local fn cuDeviceGet(device: Out<CUdevice>, ordinal: In<i32>);
            0x0111 local fn cuDeviceGetCount(count: Out<i32>);
            0x0112 local fn cuDeviceGetName(name: OutSlice<u8>[len as usize], len: In<i32>, dev: In<CUdevice>);
            0x0113 local fn cuDeviceGetUuid(uuid: Out<CUuuid>, dev: In<CUdevice>);
            0x0114 local fn cuDeviceGetUuid_v2(uuid: Out<CUuuid>, dev: In<CUdevice>);
            0x0115 local fn cuDeviceTotalMem_v2(bytes: Out<usize>, dev: In<CUdevice>);
            0x0116 local fn cuDeviceGetAttribute(pi: Out<i32>, attrib: In<CUdevice_attribute>, dev: In<CUdevice>);
            0x0117 local fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, dev: In<CUdevice>);
            0x0118 local fn cuDeviceGetPCIBusId(pciBusId: OutSlice<u8>[len as usize], len: In<i32>, dev: In<CUdevice>);
            0x0119 local fn cuDeviceGetByPCIBusId(dev: Out<CUdevice>, pciBusId: InStr);
            // Primary contexts.
            0x0120 custom fn cuDevicePrimaryCtxRetain(pctx: Out<CUcontext>, dev: In<CUdevice>);
            0x0121 wrap fn cuDevicePrimaryCtxRelease_v2(dev: In<CUdevice>);
            0x0122 wrap fn cuDevicePrimaryCtxSetFlags_v2(dev: In<CUdevice>, flags: In<u32>);
            0x0123 wrap fn cuDevicePrimaryCtxGetState(dev: In<CUdevice>, flags: Out<u32>, active: Out<i32>);
            0x0124 wrap fn cuDevicePrimaryCtxReset_v2(dev: In<CUdevice>);
            // Contexts.
            0x0140 custom fn cuCtxCreate_v2(pctx: Out<CUcontext>, flags: In<u32>, dev: In<CUdevice>);
            0x0141 local fn cuCtxCreate_v4(pctx: Out<CUcontext>, ctxCreateParams: In<Pointer>, flags: In<u32>, dev: In<CUdevice>);
            0x0142 custom fn cuCtxDestroy_v2(ctx: In<CUcontext>);
            0x0143 local fn cuCtxPushCurrent_v2(ctx: In<CUcontext>);
            0x0144 local fn cuCtxPopCurrent_v2(pctx: OutOpt<CUcontext>);
            0x0145 local fn cuCtxSetCurrent(ctx: In<CUcontext>);
            0x0146 local fn cuCtxGetCurrent(pctx: Out<CUcontext>);
            0x0147 local fn cuCtxGetDevice(device: Out<CUdevice>);
            0x0148 call fn cuCtxGetFlags(flags: Out<u32>);
            0x0149 wrap fn cuCtxSetFlags(flags: In<u32>);
            0x014a call fn cuCtxGetId(ctx: In<CUcontext>, ctxId: Out<u64>);
            0x014b wrap fn cuCtxSynchronize();
            0x014c call fn cuCtxSetLimit(limit: In<CUlimit>, value: In<usize>);
            0x014d call fn cuCtxGetLimit(pvalue: Out<usize>, limit: In<CUlimit>);
            0x014e call fn cuCtxGetCacheConfig(pconfig: Out<CUfunc_cache>);
            0x014f call fn cuCtxSetCacheConfig(config: In<CUfunc_cache>);
            0x0150 call fn cuCtxGetApiVersion(ctx: In<CUcontext>, version: Out<u32>);
            0x0151 call fn cuCtxGetStreamPriorityRange(leastPriority: OutOpt<i32>, greatestPriority: OutOpt<i32>);
            0x0152 local fn cuCtxGetDevice_v2(device: Out<CUdevice>, ctx: In<CUcontext>);
            0x0153 local fn cuCtxSynchronize_v2(ctx: In<CUcontext>);
            // Memory.
            0x0200 call fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>);
            0x0201 wrap fn cuMemAlloc_v2(dptr: Out<CUdeviceptr>, bytesize: In<usize>);
            0x0202 wrap fn cuMemAllocPitch_v2(dptr: Out<CUdeviceptr>, pPitch: Out<usize>, WidthInBytes: In<usize>, Height: In<usize>, ElementSizeBytes: In<u32>);
            0x0203 wrap fn cuMemFree_v2(dptr: In<CUdeviceptr>);
            0x0204 wrap fn cuMemGetAddressRange_v2(pbase: OutOpt<CUdeviceptr>, psize: OutOpt<usize>, dptr: In<CUdeviceptr>);
            0x0205 local fn cuMemAllocHost_v2(pp: Out<Pointer>, bytesize: In<usize>);
            0x0206 local fn cuMemFreeHost(p: In<Pointer>);
            0x0207 local fn cuMemHostAlloc(pp: Out<Pointer>, bytesize: In<usize>, Flags: In<u32>);
            0x0208 local fn cuMemHostGetDevicePointer_v2(pdptr: Out<CUdeviceptr>, p: In<Pointer>, Flags: In<u32>);
            0x0209 local fn cuMemHostGetFlags(pFlags: Out<u32>, p: In<Pointer>);
            0x020a local fn cuMemHostRegister_v2(p: In<Pointer>, bytesize: In<usize>, Flags: In<u32>);
            0x020b local fn cuMemHostUnregister(p: In<Pointer>);
            // Copies: composed in the guest from the internal copy operations.
            0x0240 local fn cuMemcpy(dst: In<CUdeviceptr>, src: In<CUdeviceptr>, ByteCount: In<usize>) + cuMemcpy_ptds;
            0x0241 local fn cuMemcpyAsync(dst: In<CUdeviceptr>, src: In<CUdeviceptr>, ByteCount: In<usize>, hStream: On<CUstream>) + cuMemcpyAsync_ptsz;
            0x0242 local fn cuMemcpyHtoD_v2(dstDevice: In<CUdeviceptr>, srcHost: In<Pointer>, ByteCount: In<usize>) + cuMemcpyHtoD_v2_ptds;
            0x0243 local fn cuMemcpyDtoH_v2(dstHost: In<Pointer>, srcDevice: In<CUdeviceptr>, ByteCount: In<usize>) + cuMemcpyDtoH_v2_ptds;
            0x0244 local fn cuMemcpyDtoD_v2(dstDevice: In<CUdeviceptr>, srcDevice: In<CUdeviceptr>, ByteCount: In<usize>) + cuMemcpyDtoD_v2_ptds;
            0x0245 local fn cuMemcpyHtoDAsync_v2(dstDevice: In<CUdeviceptr>, srcHost: In<Pointer>, ByteCount: In<usize>, hStream: On<CUstream>) + cuMemcpyHtoDAsync_v2_ptsz;
            0x0246 local fn cuMemcpyDtoHAsync_v2(dstHost: In<Pointer>, srcDevice: In<CUdeviceptr>, ByteCount: In<usize>, hStream: On<CUstream>) + cuMemcpyDtoHAsync_v2_ptsz;
            0x0247 local fn cuMemcpyDtoDAsync_v2(dstDevice: In<CUdeviceptr>, srcDevice: In<CUdeviceptr>, ByteCount: In<usize>, hStream: On<CUstream>) + cuMemcpyDtoDAsync_v2_ptsz;
            0x0248 local fn cuMemcpy2D_v2(pCopy: InSlice<CUDA_MEMCPY2D>[1]) + cuMemcpy2D_v2_ptds;
            0x0249 local fn cuMemcpy2DUnaligned_v2(pCopy: InSlice<CUDA_MEMCPY2D>[1]) + cuMemcpy2DUnaligned_v2_ptds;
            0x024a local fn cuMemcpy2DAsync_v2(pCopy: InSlice<CUDA_MEMCPY2D>[1], hStream: On<CUstream>) + cuMemcpy2DAsync_v2_ptsz;
            // Memsets.
            0x0280 wrap fn cuMemsetD8_v2(dstDevice: In<CUdeviceptr>, uc: In<u8>, N: In<usize>) + cuMemsetD8_v2_ptds;
            0x0281 wrap fn cuMemsetD16_v2(dstDevice: In<CUdeviceptr>, us: In<u16>, N: In<usize>) + cuMemsetD16_v2_ptds;
            0x0282 wrap fn cuMemsetD32_v2(dstDevice: In<CUdeviceptr>, ui: In<u32>, N: In<usize>) + cuMemsetD32_v2_ptds;
            0x0283 wrap fn cuMemsetD2D8_v2(dstDevice: In<CUdeviceptr>, dstPitch: In<usize>, uc: In<u8>, Width: In<usize>, Height: In<usize>) + cuMemsetD2D8_v2_ptds;
            0x0284 wrap fn cuMemsetD2D16_v2(dstDevice: In<CUdeviceptr>, dstPitch: In<usize>, us: In<u16>, Width: In<usize>, Height: In<usize>) + cuMemsetD2D16_v2_ptds;
            0x0285 wrap fn cuMemsetD2D32_v2(dstDevice: In<CUdeviceptr>, dstPitch: In<usize>, ui: In<u32>, Width: In<usize>, Height: In<usize>) + cuMemsetD2D32_v2_ptds;
            0x0286 post fn cuMemsetD8Async(dstDevice: In<CUdeviceptr>, uc: In<u8>, N: In<usize>, hStream: On<CUstream>) + cuMemsetD8Async_ptsz;
            0x0287 post fn cuMemsetD16Async(dstDevice: In<CUdeviceptr>, us: In<u16>, N: In<usize>, hStream: On<CUstream>) + cuMemsetD16Async_ptsz;
            0x0288 post fn cuMemsetD32Async(dstDevice: In<CUdeviceptr>, ui: In<u32>, N: In<usize>, hStream: On<CUstream>) + cuMemsetD32Async_ptsz;
            0x0289 post fn cuMemsetD2D8Async(dstDevice: In<CUdeviceptr>, dstPitch: In<usize>, uc: In<u8>, Width: In<usize>, Height: In<usize>, hStream: On<CUstream>) + cuMemsetD2D8Async_ptsz;
            0x028a post fn cuMemsetD2D16Async(dstDevice: In<CUdeviceptr>, dstPitch: In<usize>, us: In<u16>, Width: In<usize>, Height: In<usize>, hStream: On<CUstream>) + cuMemsetD2D16Async_ptsz;
            0x028b post fn cuMemsetD2D32Async(dstDevice: In<CUdeviceptr>, dstPitch: In<usize>, ui: In<u32>, Width: In<usize>, Height: In<usize>, hStream: On<CUstream>) + cuMemsetD2D32Async_ptsz;
            // Modules.
            0x0300 local fn cuModuleLoad(module: Out<CUmodule>, fname: InStr);
            0x0301 local fn cuModuleLoadData(module: Out<CUmodule>, image: In<Pointer>);
            0x0302 custom fn cuModuleLoadDataEx(module: Out<CUmodule>, image: In<Pointer>, numOptions: In<u32>, options: In<*mut CUjit_option>, optionValues: In<Pointers>);
            0x0303 local fn cuModuleLoadFatBinary(module: Out<CUmodule>, fatCubin: In<Pointer>);
            0x0304 wrap fn cuModuleUnload(hmod: Del<CUmodule>);
            0x0305 custom fn cuModuleGetFunction(hfunc: Out<CUfunction>, hmod: In<CUmodule>, name: InStr);
            0x0306 wrap fn cuModuleGetGlobal_v2(dptr: OutOpt<CUdeviceptr>, bytes: OutOpt<usize>, hmod: In<CUmodule>, name: InStr);
            0x0307 local fn cuModuleGetLoadingMode(mode: Out<CUmoduleLoadingMode>);
            0x0308 call fn cuModuleGetFunctionCount(count: Out<u32>, hmod: In<CUmodule>);
            // Libraries and kernels.
            0x0320 custom fn cuLibraryLoadData(library: Out<CUlibrary>, code: In<Pointer>, jitOptions: In<*mut CUjit_option>, jitOptionsValues: In<Pointers>, numJitOptions: In<u32>, libraryOptions: In<*mut CUlibraryOption>, libraryOptionValues: In<Pointers>, numLibraryOptions: In<u32>);
            0x0321 local fn cuLibraryLoadFromFile(library: Out<CUlibrary>, fileName: InStr, jitOptions: In<*mut CUjit_option>, jitOptionsValues: In<Pointers>, numJitOptions: In<u32>, libraryOptions: In<*mut CUlibraryOption>, libraryOptionValues: In<Pointers>, numLibraryOptions: In<u32>);
            0x0322 wrap fn cuLibraryUnload(library: Del<CUlibrary>);
            0x0323 custom fn cuLibraryGetKernel(pKernel: Out<CUkernel>, library: In<CUlibrary>, name: InStr);
            0x0324 custom fn cuLibraryGetModule(pMod: Out<CUmodule>, library: In<CUlibrary>);
            0x0325 wrap fn cuLibraryGetGlobal(dptr: OutOpt<CUdeviceptr>, bytes: OutOpt<usize>, library: In<CUlibrary>, name: InStr);
            0x0326 call fn cuLibraryGetKernelCount(count: Out<u32>, lib: In<CUlibrary>);
            0x0327 custom fn cuKernelGetFunction(pFunc: Out<CUfunction>, kernel: In<CUkernel>);
            0x0328 call fn cuKernelGetAttribute(pi: Out<i32>, attrib: In<CUfunction_attribute>, kernel: In<CUkernel>, dev: In<CUdevice>);
            0x0329 wrap fn cuKernelSetAttribute(attrib: In<CUfunction_attribute>, val: In<i32>, kernel: In<CUkernel>, dev: In<CUdevice>);
            0x032a call fn cuKernelSetCacheConfig(kernel: In<CUkernel>, config: In<CUfunc_cache>, dev: In<CUdevice>);
            0x032b local fn cuKernelGetName(name: Out<ConstStr>, hfunc: In<CUkernel>);
            0x032c local fn cuKernelGetParamInfo(kernel: In<CUkernel>, paramIndex: In<usize>, paramOffset: Out<usize>, paramSize: OutOpt<usize>);
            0x032d local fn cuKernelGetLibrary(pLib: Out<CUlibrary>, kernel: In<CUkernel>);
            // Functions.
            0x0340 call fn cuFuncGetAttribute(pi: Out<i32>, attrib: In<CUfunction_attribute>, hfunc: In<CUfunction>);
            0x0341 wrap fn cuFuncSetAttribute(hfunc: In<CUfunction>, attrib: In<CUfunction_attribute>, value: In<i32>);
            0x0342 call fn cuFuncSetCacheConfig(hfunc: In<CUfunction>, config: In<CUfunc_cache>);
            0x0343 local fn cuFuncGetModule(hmod: Out<CUmodule>, hfunc: In<CUfunction>);
            0x0344 local fn cuFuncGetName(name: Out<ConstStr>, hfunc: In<CUfunction>);
            0x0345 local fn cuFuncGetParamInfo(func: In<CUfunction>, paramIndex: In<usize>, paramOffset: Out<usize>, paramSize: OutOpt<usize>);
            0x0346 call fn cuFuncIsLoaded(state: Out<CUfunctionLoadingState>, function: In<CUfunction>);
            0x0347 call fn cuFuncLoad(function: In<CUfunction>);
            // Launch.
            0x0400 custom fn cuLaunchKernel(f: In<CUfunction>, gridDimX: In<u32>, gridDimY: In<u32>, gridDimZ: In<u32>, blockDimX: In<u32>, blockDimY: In<u32>, blockDimZ: In<u32>, sharedMemBytes: In<u32>, hStream: On<CUstream>, kernelParams: In<Pointers>, extra: In<Pointers>) + cuLaunchKernel_ptsz;
            0x0401 custom fn cuLaunchKernelEx(config: In<*const CUlaunchConfig>, f: In<CUfunction>, kernelParams: In<Pointers>, extra: In<Pointers>) + cuLaunchKernelEx_ptsz;
            0x0402 custom fn cuLaunchCooperativeKernel(f: In<CUfunction>, gridDimX: In<u32>, gridDimY: In<u32>, gridDimZ: In<u32>, blockDimX: In<u32>, blockDimY: In<u32>, blockDimZ: In<u32>, sharedMemBytes: In<u32>, hStream: On<CUstream>, kernelParams: In<Pointers>) + cuLaunchCooperativeKernel_ptsz;
            0x0403 custom fn cuLaunchHostFunc(hStream: On<CUstream>, func: In<CUhostFn>, userData: In<Pointer>) + cuLaunchHostFunc_ptsz;
            // Streams.
            0x0440 wrap fn cuStreamCreate(phStream: New<CUstream>, Flags: In<u32>);
            0x0441 wrap fn cuStreamCreateWithPriority(phStream: New<CUstream>, flags: In<u32>, priority: In<i32>);
            0x0442 wrap fn cuStreamDestroy_v2(hStream: Del<CUstream>);
            0x0443 wrap fn cuStreamQuery(hStream: In<CUstream>) + cuStreamQuery_ptsz;
            0x0444 wrap fn cuStreamSynchronize(hStream: In<CUstream>) + cuStreamSynchronize_ptsz;
            0x0445 post fn cuStreamWaitEvent(hStream: On<CUstream>, hEvent: In<CUevent>, Flags: In<u32>) + cuStreamWaitEvent_ptsz;
            0x0446 call fn cuStreamGetPriority(hStream: Of<CUstream>, priority: Out<i32>) + cuStreamGetPriority_ptsz;
            0x0447 call fn cuStreamGetFlags(hStream: Of<CUstream>, flags: Out<u32>) + cuStreamGetFlags_ptsz;
            0x0448 call fn cuStreamGetId(hStream: Of<CUstream>, streamId: Out<u64>) + cuStreamGetId_ptsz;
            0x0449 local fn cuStreamGetCtx(hStream: In<CUstream>, pctx: Out<CUcontext>) + cuStreamGetCtx_ptsz;
            0x044a custom fn cuStreamAddCallback(hStream: On<CUstream>, callback: In<CUstreamCallback>, userData: In<Pointer>, flags: In<u32>) + cuStreamAddCallback_ptsz;
            // Events.
            0x0480 call fn cuEventCreate(phEvent: New<CUevent>, Flags: In<u32>);
            0x0481 post fn cuEventRecord(hEvent: In<CUevent>, hStream: On<CUstream>) + cuEventRecord_ptsz;
            0x0482 post fn cuEventRecordWithFlags(hEvent: In<CUevent>, hStream: On<CUstream>, flags: In<u32>) + cuEventRecordWithFlags_ptsz;
            0x0483 call fn cuEventQuery(hEvent: In<CUevent>);
            0x0484 call fn cuEventSynchronize(hEvent: In<CUevent>);
            0x0485 wrap fn cuEventDestroy_v2(hEvent: Del<CUevent>);
            0x0486 call fn cuEventElapsedTime(pMilliseconds: Out<f32>, hStart: In<CUevent>, hEnd: In<CUevent>);
            0x0487 call fn cuEventElapsedTime_v2(pMilliseconds: Out<f32>, hStart: In<CUevent>, hEnd: In<CUevent>);
            // Occupancy.
            0x04c0 call fn cuOccupancyMaxActiveBlocksPerMultiprocessor(numBlocks: Out<i32>, func: In<CUfunction>, blockSize: In<i32>, dynamicSMemSize: In<usize>);
            0x04c1 call fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(numBlocks: Out<i32>, func: In<CUfunction>, blockSize: In<i32>, dynamicSMemSize: In<usize>, flags: In<u32>);
            0x04c2 local fn cuOccupancyMaxPotentialBlockSize(minGridSize: Out<i32>, blockSize: Out<i32>, func: In<CUfunction>, blockSizeToDynamicSMemSize: In<CUoccupancyB2DSize>, dynamicSMemSize: In<usize>, blockSizeLimit: In<i32>);
            0x04c3 local fn cuOccupancyMaxPotentialBlockSizeWithFlags(minGridSize: Out<i32>, blockSize: Out<i32>, func: In<CUfunction>, blockSizeToDynamicSMemSize: In<CUoccupancyB2DSize>, dynamicSMemSize: In<usize>, blockSizeLimit: In<i32>, flags: In<u32>);
            0x04c4 call fn cuOccupancyAvailableDynamicSMemPerBlock(dynamicSmemSize: Out<usize>, func: In<CUfunction>, numBlocks: In<i32>, blockSize: In<i32>);
            // Modules, libraries and functions: what a module holds.
            0x0600 custom fn cuModuleEnumerateFunctions(functions: OutSlice<CUfunction>[numFunctions as usize], numFunctions: In<u32>, hmod: In<CUmodule>);
            0x0601 custom fn cuLibraryEnumerateKernels(kernels: OutSlice<CUkernel>[numKernels as usize], numKernels: In<u32>, lib: In<CUlibrary>);
            0x0602 local fn cuKernelGetParamCount(kernel: In<CUkernel>, paramCount: Out<usize>);
            0x0603 local fn cuFuncGetParamCount(func: In<CUfunction>, paramCount: Out<usize>);
            0x0605 call fn cuFuncSetSharedMemConfig(hfunc: In<CUfunction>, config: In<CUsharedconfig>);
            0x0606 call fn cuCtxGetSharedMemConfig(pConfig: Out<CUsharedconfig>);
            0x0607 call fn cuCtxSetSharedMemConfig(config: In<CUsharedconfig>);
            // Launches as CUDA 3 had them: shape and parameters are the function's, then it is launched.
            0x0620 local fn cuFuncSetBlockShape(hfunc: In<CUfunction>, x: In<i32>, y: In<i32>, z: In<i32>);
            0x0621 local fn cuFuncSetSharedSize(hfunc: In<CUfunction>, bytes: In<u32>);
            0x0622 local fn cuParamSetSize(hfunc: In<CUfunction>, numbytes: In<u32>);
            0x0623 local fn cuParamSeti(hfunc: In<CUfunction>, offset: In<i32>, value: In<u32>);
            0x0624 local fn cuParamSetf(hfunc: In<CUfunction>, offset: In<i32>, value: In<f32>);
            0x0625 local fn cuParamSetv(hfunc: In<CUfunction>, offset: In<i32>, ptr: In<Pointer>, numbytes: In<u32>);
            0x0626 local fn cuLaunch(f: In<CUfunction>);
            0x0627 local fn cuLaunchGrid(f: In<CUfunction>, grid_width: In<i32>, grid_height: In<i32>);
            0x0628 local fn cuLaunchGridAsync(f: In<CUfunction>, grid_width: In<i32>, grid_height: In<i32>, hStream: On<CUstream>);
            // Clusters and the profiler.
            0x0630 custom fn cuOccupancyMaxPotentialClusterSize(clusterSize: Out<i32>, func: In<CUfunction>, config: In<*const CUlaunchConfig>);
            0x0631 custom fn cuOccupancyMaxActiveClusters(numClusters: Out<i32>, func: In<CUfunction>, config: In<*const CUlaunchConfig>);
            0x0638 call fn cuProfilerStart();
            0x0639 call fn cuProfilerStop();
            // First versions that differ in name alone.
            0x0640 local fn cuDevicePrimaryCtxRelease(dev: In<CUdevice>);
            0x0641 local fn cuDevicePrimaryCtxReset(dev: In<CUdevice>);
            0x0642 local fn cuDevicePrimaryCtxSetFlags(dev: In<CUdevice>, flags: In<u32>);
            0x0643 local fn cuDeviceTotalMem(bytes: Out<u32>, dev: In<CUdevice>);
            0x0644 local fn cuCtxCreate(pctx: Out<CUcontext>, flags: In<u32>, dev: In<CUdevice>);
            0x0645 local fn cuCtxCreate_v3(pctx: Out<CUcontext>, paramsArray: In<Pointer>, numParams: In<i32>, flags: In<u32>, dev: In<CUdevice>);
            0x0646 local fn cuCtxDestroy(ctx: In<CUcontext>);
            0x0647 local fn cuCtxPopCurrent(pctx: OutOpt<CUcontext>);
            0x0648 local fn cuCtxPushCurrent(ctx: In<CUcontext>);
            0x0649 local fn cuEventDestroy(hEvent: In<CUevent>);
            0x064a local fn cuStreamDestroy(hStream: In<CUstream>);
            // Stream-ordered memory and its pools.
            0x0700 wrap fn cuMemAllocAsync(dptr: Out<CUdeviceptr>, bytesize: In<usize>, hStream: On<CUstream>) + cuMemAllocAsync_ptsz;
            0x0701 custom fn cuMemFreeAsync(dptr: In<CUdeviceptr>, hStream: On<CUstream>) + cuMemFreeAsync_ptsz;
            0x0702 wrap fn cuMemAllocFromPoolAsync(dptr: Out<CUdeviceptr>, bytesize: In<usize>, pool: In<CUmemoryPool>, hStream: On<CUstream>) + cuMemAllocFromPoolAsync_ptsz;
            0x0703 call fn cuMemPoolCreate(pool: New<CUmemoryPool>, poolProps: InSlice<CUmemPoolProps>[1]);
            0x0704 wrap fn cuMemPoolDestroy(pool: Del<CUmemoryPool>);
            0x0705 call fn cuMemPoolTrimTo(pool: In<CUmemoryPool>, minBytesToKeep: In<usize>);
            0x0706 wrap fn cuMemPoolGetAttribute(pool: In<CUmemoryPool>, attr: In<CUmemPool_attribute>, value: Out<AttributeValue>);
            0x0707 wrap fn cuMemPoolSetAttribute(pool: In<CUmemoryPool>, attr: In<CUmemPool_attribute>, value: InSlice<AttributeValue>[1]);
            0x0708 call fn cuMemPoolGetAccess(flags: Out<CUmemAccess_flags>, memPool: In<CUmemoryPool>, location: InSlice<CUmemLocation>[1]);
            0x0709 call fn cuMemPoolSetAccess(pool: In<CUmemoryPool>, map: InSlice<CUmemAccessDesc>[count], count: In<usize>);
            0x070a custom fn cuDeviceGetDefaultMemPool(pool_out: Out<CUmemoryPool>, dev: In<CUdevice>);
            0x070b local fn cuDeviceGetMemPool(pool: Out<CUmemoryPool>, dev: In<CUdevice>);
            0x070c wrap fn cuDeviceSetMemPool(dev: In<CUdevice>, pool: In<CUmemoryPool>);
            0x070d local fn cuMemGetDefaultMemPool(pool_out: Out<CUmemoryPool>, location: InSlice<CUmemLocation>[1], kind: In<CUmemAllocationType>);
            0x070e local fn cuMemGetMemPool(pool: Out<CUmemoryPool>, location: InSlice<CUmemLocation>[1], kind: In<CUmemAllocationType>);
            0x070f local fn cuMemSetMemPool(location: InSlice<CUmemLocation>[1], kind: In<CUmemAllocationType>, pool: In<CUmemoryPool>);
            // Copies in three dimensions, batches, copies between contexts.
            0x0710 local fn cuMemcpy3D_v2(pCopy: InSlice<CUDA_MEMCPY3D>[1]) + cuMemcpy3D_v2_ptds;
            0x0711 local fn cuMemcpy3DAsync_v2(pCopy: InSlice<CUDA_MEMCPY3D>[1], hStream: On<CUstream>) + cuMemcpy3DAsync_v2_ptsz;
            0x0712 local fn cuMemcpy3DPeer(pCopy: InSlice<CUDA_MEMCPY3D>[1]) + cuMemcpy3DPeer_ptds;
            0x0713 local fn cuMemcpy3DPeerAsync(pCopy: InSlice<CUDA_MEMCPY3D>[1], hStream: On<CUstream>) + cuMemcpy3DPeerAsync_ptsz;
            0x0714 local fn cuMemcpyPeer(dstDevice: In<CUdeviceptr>, dstContext: In<CUcontext>, srcDevice: In<CUdeviceptr>, srcContext: In<CUcontext>, ByteCount: In<usize>) + cuMemcpyPeer_ptds;
            0x0715 local fn cuMemcpyPeerAsync(dstDevice: In<CUdeviceptr>, dstContext: In<CUcontext>, srcDevice: In<CUdeviceptr>, srcContext: In<CUcontext>, ByteCount: In<usize>, hStream: On<CUstream>) + cuMemcpyPeerAsync_ptsz;
            0x0716 local fn cuMemcpyBatchAsync(dsts: In<*mut CUdeviceptr>, srcs: In<*mut CUdeviceptr>, sizes: In<*mut usize>, count: In<usize>, attrs: In<*mut CUmemcpyAttributes>, attrsIdxs: In<*mut usize>, numAttrs: In<usize>, failIdx: OutOpt<usize>, hStream: On<CUstream>) + cuMemcpyBatchAsync_ptsz;
            0x0717 local fn cuMemcpyBatchAsync_v2(dsts: In<*mut CUdeviceptr>, srcs: In<*mut CUdeviceptr>, sizes: In<*mut usize>, count: In<usize>, attrs: In<*mut CUmemcpyAttributes>, attrsIdxs: In<*mut usize>, numAttrs: In<usize>, hStream: On<CUstream>) + cuMemcpyBatchAsync_v2_ptsz;
            0x0718 local fn cuMemcpy3DBatchAsync(numOps: In<usize>, opList: In<*mut CUDA_MEMCPY3D_BATCH_OP>, failIdx: OutOpt<usize>, flags: In<u64>, hStream: On<CUstream>) + cuMemcpy3DBatchAsync_ptsz;
            0x0719 local fn cuMemcpy3DBatchAsync_v2(numOps: In<usize>, opList: In<*mut CUDA_MEMCPY3D_BATCH_OP>, flags: In<u64>, hStream: On<CUstream>) + cuMemcpy3DBatchAsync_v2_ptsz;
            0x071a local fn cuMemcpyWithAttributesAsync(dst: In<CUdeviceptr>, src: In<CUdeviceptr>, size: In<usize>, attr: In<*mut CUmemcpyAttributes>, hStream: On<CUstream>) + cuMemcpyWithAttributesAsync_ptsz;
            0x071b local fn cuMemcpy3DWithAttributesAsync(op: In<*mut CUDA_MEMCPY3D_BATCH_OP>, flags: In<u64>, hStream: On<CUstream>) + cuMemcpy3DWithAttributesAsync_ptsz;
            // Pointers and peers.
            0x0720 local fn cuPointerGetAttribute(data: In<Pointer>, attribute: In<CUpointer_attribute>, ptr: In<CUdeviceptr>);
            0x0721 local fn cuPointerGetAttributes(numAttributes: In<u32>, attributes: In<*mut CUpointer_attribute>, data: In<Pointers>, ptr: In<CUdeviceptr>);
            0x0722 local fn cuPointerSetAttribute(value: In<Pointer>, attribute: In<CUpointer_attribute>, ptr: In<CUdeviceptr>);
            0x0723 call fn cuDeviceCanAccessPeer(canAccessPeer: Out<i32>, dev: In<CUdevice>, peerDev: In<CUdevice>);
            0x0724 call fn cuDeviceGetP2PAttribute(value: Out<i32>, attrib: In<CUdevice_P2PAttribute>, srcDevice: In<CUdevice>, dstDevice: In<CUdevice>);
            0x0725 call fn cuCtxEnablePeerAccess(peerContext: In<CUcontext>, Flags: In<u32>);
            0x0726 call fn cuCtxDisablePeerAccess(peerContext: In<CUcontext>);
            // Arrays.
            0x0740 wrap fn cuArrayCreate_v2(pHandle: New<CUarray>, pAllocateArray: InSlice<CUDA_ARRAY_DESCRIPTOR>[1]);
            0x0741 wrap fn cuArray3DCreate_v2(pHandle: New<CUarray>, pAllocateArray: InSlice<CUDA_ARRAY3D_DESCRIPTOR>[1]);
            0x0742 local fn cuArrayGetDescriptor_v2(pArrayDescriptor: OutSlice<CUDA_ARRAY_DESCRIPTOR>[1], hArray: In<CUarray>);
            0x0743 wrap fn cuArray3DGetDescriptor_v2(pArrayDescriptor: OutSlice<CUDA_ARRAY3D_DESCRIPTOR>[1], hArray: In<CUarray>);
            0x0744 wrap fn cuArrayDestroy(hArray: Del<CUarray>);
            0x0745 call fn cuArrayGetMemoryRequirements(memoryRequirements: OutSlice<CUDA_ARRAY_MEMORY_REQUIREMENTS>[1], array: In<CUarray>, device: In<CUdevice>);
            0x0746 call fn cuArrayGetSparseProperties(sparseProperties: OutSlice<CUDA_ARRAY_SPARSE_PROPERTIES>[1], array: In<CUarray>);
            0x0747 call fn cuArrayGetPlane(pPlaneArray: New<CUarray>, hArray: In<CUarray>, planeIdx: In<u32>);
            0x0748 wrap fn cuMipmappedArrayCreate(pHandle: New<CUmipmappedArray>, pMipmappedArrayDesc: InSlice<CUDA_ARRAY3D_DESCRIPTOR>[1], numMipmapLevels: In<u32>);
            0x0749 custom fn cuMipmappedArrayGetLevel(pLevelArray: Out<CUarray>, hMipmappedArray: In<CUmipmappedArray>, level: In<u32>);
            0x074a wrap fn cuMipmappedArrayDestroy(hMipmappedArray: Del<CUmipmappedArray>);
            0x074b call fn cuMipmappedArrayGetMemoryRequirements(memoryRequirements: OutSlice<CUDA_ARRAY_MEMORY_REQUIREMENTS>[1], mipmap: In<CUmipmappedArray>, device: In<CUdevice>);
            0x074c call fn cuMipmappedArrayGetSparseProperties(sparseProperties: OutSlice<CUDA_ARRAY_SPARSE_PROPERTIES>[1], mipmap: In<CUmipmappedArray>);
            0x0750 local fn cuMemcpyAtoD_v2(dstDevice: In<CUdeviceptr>, srcArray: In<CUarray>, srcOffset: In<usize>, ByteCount: In<usize>) + cuMemcpyAtoD_v2_ptds;
            0x0751 local fn cuMemcpyDtoA_v2(dstArray: In<CUarray>, dstOffset: In<usize>, srcDevice: In<CUdeviceptr>, ByteCount: In<usize>) + cuMemcpyDtoA_v2_ptds;
            0x0752 local fn cuMemcpyHtoA_v2(dstArray: In<CUarray>, dstOffset: In<usize>, srcHost: In<Pointer>, ByteCount: In<usize>) + cuMemcpyHtoA_v2_ptds;
            0x0753 local fn cuMemcpyAtoH_v2(dstHost: In<Pointer>, srcArray: In<CUarray>, srcOffset: In<usize>, ByteCount: In<usize>) + cuMemcpyAtoH_v2_ptds;
            0x0754 local fn cuMemcpyAtoA_v2(dstArray: In<CUarray>, dstOffset: In<usize>, srcArray: In<CUarray>, srcOffset: In<usize>, ByteCount: In<usize>) + cuMemcpyAtoA_v2_ptds;
            0x0755 local fn cuMemcpyHtoAAsync_v2(dstArray: In<CUarray>, dstOffset: In<usize>, srcHost: In<Pointer>, ByteCount: In<usize>, hStream: On<CUstream>) + cuMemcpyHtoAAsync_v2_ptsz;
            0x0756 local fn cuMemcpyAtoHAsync_v2(dstHost: In<Pointer>, srcArray: In<CUarray>, srcOffset: In<usize>, ByteCount: In<usize>, hStream: On<CUstream>) + cuMemcpyAtoHAsync_v2_ptsz;
            // Textures and surfaces.
            0x0760 custom fn cuTexObjectCreate(pTexObject: Out<CUtexObject>, pResDesc: In<*const CUDA_RESOURCE_DESC>, pTexDesc: In<*const CUDA_TEXTURE_DESC>, pResViewDesc: In<*const CUDA_RESOURCE_VIEW_DESC>);
            0x0761 custom fn cuTexObjectDestroy(texObject: In<CUtexObject>);
            0x0762 local fn cuTexObjectGetResourceDesc(pResDesc: OutSlice<CUDA_RESOURCE_DESC>[1], texObject: In<CUtexObject>);
            0x0763 local fn cuTexObjectGetTextureDesc(pTexDesc: OutSlice<CUDA_TEXTURE_DESC>[1], texObject: In<CUtexObject>);
            0x0764 local fn cuTexObjectGetResourceViewDesc(pResViewDesc: OutSlice<CUDA_RESOURCE_VIEW_DESC>[1], texObject: In<CUtexObject>);
            0x0765 custom fn cuSurfObjectCreate(pSurfObject: Out<CUsurfObject>, pResDesc: In<*const CUDA_RESOURCE_DESC>);
            0x0766 custom fn cuSurfObjectDestroy(surfObject: In<CUsurfObject>);
            0x0767 local fn cuSurfObjectGetResourceDesc(pResDesc: OutSlice<CUDA_RESOURCE_DESC>[1], surfObject: In<CUsurfObject>);
            // Virtual memory.
            0x0780 call fn cuMemGetAllocationGranularity(granularity: Out<usize>, prop: InSlice<CUmemAllocationProp>[1], option: In<CUmemAllocationGranularity_flags>);
            0x0781 call fn cuMemCreate(handle: New<CUmemGenericAllocationHandle>, size: In<usize>, prop: InSlice<CUmemAllocationProp>[1], flags: In<u64>);
            0x0782 call fn cuMemRelease(handle: Del<CUmemGenericAllocationHandle>);
            0x0783 call fn cuMemAddressReserve(ptr: Out<CUdeviceptr>, size: In<usize>, alignment: In<usize>, addr: In<CUdeviceptr>, flags: In<u64>);
            0x0784 call fn cuMemAddressFree(ptr: In<CUdeviceptr>, size: In<usize>);
            0x0785 wrap fn cuMemMap(ptr: In<CUdeviceptr>, size: In<usize>, offset: In<usize>, handle: In<CUmemGenericAllocationHandle>, flags: In<u64>);
            0x0786 wrap fn cuMemUnmap(ptr: In<CUdeviceptr>, size: In<usize>);
            0x0787 call fn cuMemSetAccess(ptr: In<CUdeviceptr>, size: In<usize>, desc: InSlice<CUmemAccessDesc>[count], count: In<usize>);
            0x0788 call fn cuMemGetAccess(flags: Out<u64>, location: InSlice<CUmemLocation>[1], ptr: In<CUdeviceptr>);
            0x0789 call fn cuMemGetAllocationPropertiesFromHandle(prop: OutSlice<CUmemAllocationProp>[1], handle: In<CUmemGenericAllocationHandle>);
            0x078a custom fn cuMemRetainAllocationHandle(handle: Out<CUmemGenericAllocationHandle>, addr: In<Pointer>);
            0x078b custom fn cuMemExportToShareableHandle(shareableHandle: In<Pointer>, handle: In<CUmemGenericAllocationHandle>, handleType: In<CUmemAllocationHandleType>, flags: In<u64>);
            0x078c custom fn cuMemImportFromShareableHandle(handle: Out<CUmemGenericAllocationHandle>, osHandle: In<Pointer>, shHandleType: In<CUmemAllocationHandleType>);
            // Memory of other processes.
            0x0790 custom fn cuIpcGetMemHandle(pHandle: OutSlice<CUipcHandle>[1], dptr: In<CUdeviceptr>);
            0x0791 custom fn cuIpcOpenMemHandle_v2(pdptr: Out<CUdeviceptr>, handle: In<CUipcHandle>, Flags: In<u32>);
            0x0792 wrap fn cuIpcCloseMemHandle(dptr: In<CUdeviceptr>);
            0x0793 custom fn cuIpcGetEventHandle(pHandle: OutSlice<CUipcHandle>[1], event: In<CUevent>);
            0x0794 custom fn cuIpcOpenEventHandle(phEvent: Out<CUevent>, handle: In<CUipcHandle>);
            // Managed memory.
            0x07a0 local fn cuMemAllocManaged(dptr: Out<CUdeviceptr>, bytesize: In<usize>, flags: In<u32>);
            0x07a1 local fn cuStreamAttachMemAsync(hStream: On<CUstream>, dptr: In<CUdeviceptr>, length: In<usize>, flags: In<u32>) + cuStreamAttachMemAsync_ptsz;
            0x07a2 local fn cuMemPrefetchAsync(devPtr: In<CUdeviceptr>, count: In<usize>, dstDevice: In<CUdevice>, hStream: On<CUstream>) + cuMemPrefetchAsync_ptsz;
            0x07a3 local fn cuMemPrefetchAsync_v2(devPtr: In<CUdeviceptr>, count: In<usize>, location: In<CUmemLocation>, flags: In<u32>, hStream: On<CUstream>) + cuMemPrefetchAsync_v2_ptsz;
            0x07a4 local fn cuMemAdvise(devPtr: In<CUdeviceptr>, count: In<usize>, advice: In<CUmem_advise>, device: In<CUdevice>);
            0x07a5 local fn cuMemAdvise_v2(devPtr: In<CUdeviceptr>, count: In<usize>, advice: In<CUmem_advise>, location: In<CUmemLocation>);
            0x07a6 local fn cuMemRangeGetAttribute(data: In<Pointer>, dataSize: In<usize>, attribute: In<CUmem_range_attribute>, devPtr: In<CUdeviceptr>, count: In<usize>);
            0x07a7 local fn cuMemRangeGetAttributes(data: In<Pointers>, dataSizes: In<*mut usize>, attributes: In<*mut CUmem_range_attribute>, numAttributes: In<usize>, devPtr: In<CUdeviceptr>, count: In<usize>);
            0x07a8 local fn cuMemPrefetchBatchAsync(dptrs: In<*mut CUdeviceptr>, sizes: In<*mut usize>, count: In<usize>, prefetchLocs: In<*mut CUmemLocation>, prefetchLocIdxs: In<*mut usize>, numPrefetchLocs: In<usize>, flags: In<u64>, hStream: On<CUstream>) + cuMemPrefetchBatchAsync_ptsz;
            0x07a9 local fn cuMemDiscardBatchAsync(dptrs: In<*mut CUdeviceptr>, sizes: In<*mut usize>, count: In<usize>, flags: In<u64>, hStream: On<CUstream>) + cuMemDiscardBatchAsync_ptsz;
            0x07aa local fn cuMemDiscardAndPrefetchBatchAsync(dptrs: In<*mut CUdeviceptr>, sizes: In<*mut usize>, count: In<usize>, prefetchLocs: In<*mut CUmemLocation>, prefetchLocIdxs: In<*mut usize>, numPrefetchLocs: In<usize>, flags: In<u64>, hStream: On<CUstream>) + cuMemDiscardAndPrefetchBatchAsync_ptsz;
            // Several devices, tensor maps.
            0x07c0 call fn cuFlushGPUDirectRDMAWrites(target: In<CUflushGPUDirectRDMAWritesTarget>, scope: In<CUflushGPUDirectRDMAWritesScope>);
            0x07c1 call fn cuDeviceGetTexture1DLinearMaxWidth(maxWidthInElements: Out<usize>, format: In<CUarray_format>, numChannels: In<u32>, dev: In<CUdevice>);
            0x07c2 call fn cuMulticastCreate(mcHandle: New<CUmemGenericAllocationHandle>, prop: InSlice<CUmulticastObjectProp>[1]);
            0x07c3 call fn cuMulticastAddDevice(mcHandle: In<CUmemGenericAllocationHandle>, dev: In<CUdevice>);
            0x07c4 call fn cuMulticastBindMem(mcHandle: In<CUmemGenericAllocationHandle>, mcOffset: In<usize>, memHandle: In<CUmemGenericAllocationHandle>, memOffset: In<usize>, size: In<usize>, flags: In<u64>);
            0x07c5 call fn cuMulticastBindMem_v2(mcHandle: In<CUmemGenericAllocationHandle>, dev: In<CUdevice>, mcOffset: In<usize>, memHandle: In<CUmemGenericAllocationHandle>, memOffset: In<usize>, size: In<usize>, flags: In<u64>);
            0x07c6 call fn cuMulticastBindAddr(mcHandle: In<CUmemGenericAllocationHandle>, mcOffset: In<usize>, memptr: In<CUdeviceptr>, size: In<usize>, flags: In<u64>);
            0x07c7 call fn cuMulticastBindAddr_v2(mcHandle: In<CUmemGenericAllocationHandle>, dev: In<CUdevice>, mcOffset: In<usize>, memptr: In<CUdeviceptr>, size: In<usize>, flags: In<u64>);
            0x07c8 call fn cuMulticastUnbind(mcHandle: In<CUmemGenericAllocationHandle>, dev: In<CUdevice>, mcOffset: In<usize>, size: In<usize>);
            0x07c9 call fn cuMulticastGetGranularity(granularity: Out<usize>, prop: InSlice<CUmulticastObjectProp>[1], option: In<CUmulticastGranularity_flags>);
            0x07ca call fn cuTensorMapEncodeTiled(tensorMap: OutSlice<CUtensorMap>[1], tensorDataType: In<CUtensorMapDataType>, tensorRank: In<u32>, globalAddress: In<DeviceAddress>, globalDim: InSlice<u64>[tensorRank as usize], globalStrides: InSlice<u64>[(tensorRank as usize).saturating_sub(1)], boxDim: InSlice<u32>[tensorRank as usize], elementStrides: InSlice<u32>[tensorRank as usize], interleave: In<CUtensorMapInterleave>, swizzle: In<CUtensorMapSwizzle>, l2Promotion: In<CUtensorMapL2promotion>, oobFill: In<CUtensorMapFloatOOBfill>);
            0x07cb call fn cuTensorMapEncodeIm2col(tensorMap: OutSlice<CUtensorMap>[1], tensorDataType: In<CUtensorMapDataType>, tensorRank: In<u32>, globalAddress: In<DeviceAddress>, globalDim: InSlice<u64>[tensorRank as usize], globalStrides: InSlice<u64>[(tensorRank as usize).saturating_sub(1)], pixelBoxLowerCorner: InSlice<i32>[(tensorRank as usize).saturating_sub(2)], pixelBoxUpperCorner: InSlice<i32>[(tensorRank as usize).saturating_sub(2)], channelsPerPixel: In<u32>, pixelsPerColumn: In<u32>, elementStrides: InSlice<u32>[tensorRank as usize], interleave: In<CUtensorMapInterleave>, swizzle: In<CUtensorMapSwizzle>, l2Promotion: In<CUtensorMapL2promotion>, oobFill: In<CUtensorMapFloatOOBfill>);
            0x07cc call fn cuTensorMapEncodeIm2colWide(tensorMap: OutSlice<CUtensorMap>[1], tensorDataType: In<CUtensorMapDataType>, tensorRank: In<u32>, globalAddress: In<DeviceAddress>, globalDim: InSlice<u64>[tensorRank as usize], globalStrides: InSlice<u64>[(tensorRank as usize).saturating_sub(1)], pixelBoxLowerCornerWidth: In<i32>, pixelBoxUpperCornerWidth: In<i32>, channelsPerPixel: In<u32>, pixelsPerColumn: In<u32>, elementStrides: InSlice<u32>[tensorRank as usize], interleave: In<CUtensorMapInterleave>, mode: In<CUtensorMapIm2ColWideMode>, swizzle: In<CUtensorMapSwizzle>, l2Promotion: In<CUtensorMapL2promotion>, oobFill: In<CUtensorMapFloatOOBfill>);
            // Streams: more questions, attributes, waits between contexts.
            0x0900 local fn cuStreamGetDevice(hStream: In<CUstream>, device: Out<CUdevice>) + cuStreamGetDevice_ptsz;
            0x0901 call fn cuStreamGetAttribute(hStream: Of<CUstream>, attr: In<CUlaunchAttributeID>, value_out: OutSlice<CUlaunchAttributeValue>[1]) + cuStreamGetAttribute_ptsz;
            0x0902 call fn cuStreamSetAttribute(hStream: Of<CUstream>, attr: In<CUlaunchAttributeID>, value: InSlice<CUlaunchAttributeValue>[1]) + cuStreamSetAttribute_ptsz;
            0x0903 call fn cuStreamCopyAttributes(dst: Of<CUstream>, src: Of<CUstream>) + cuStreamCopyAttributes_ptsz;
            0x0904 call fn cuThreadExchangeStreamCaptureMode(mode: InOut<CUstreamCaptureMode>);
            0x0905 call fn cuCtxRecordEvent(hCtx: In<CUcontext>, hEvent: In<CUevent>);
            0x0906 wrap fn cuCtxWaitEvent(hCtx: In<CUcontext>, hEvent: In<CUevent>);
            0x0907 local fn cuLaunchHostFunc_v2(hStream: On<CUstream>, func: In<CUhostFn>, userData: In<Pointer>, syncMode: In<u32>) + cuLaunchHostFunc_v2_ptsz;
            // Stream memory operations.
            0x0910 post fn cuStreamWaitValue32(stream: On<CUstream>, addr: In<CUdeviceptr>, value: In<u32>, flags: In<u32>) + cuStreamWaitValue32_ptsz;
            0x0911 post fn cuStreamWaitValue64(stream: On<CUstream>, addr: In<CUdeviceptr>, value: In<u64>, flags: In<u32>) + cuStreamWaitValue64_ptsz;
            0x0912 post fn cuStreamWriteValue32(stream: On<CUstream>, addr: In<CUdeviceptr>, value: In<u32>, flags: In<u32>) + cuStreamWriteValue32_ptsz;
            0x0913 post fn cuStreamWriteValue64(stream: On<CUstream>, addr: In<CUdeviceptr>, value: In<u64>, flags: In<u32>) + cuStreamWriteValue64_ptsz;
            0x0914 post fn cuStreamBatchMemOp(stream: On<CUstream>, count: In<u32>, paramArray: InSlice<CUstreamBatchMemOpParams>[count as usize], flags: In<u32>) + cuStreamBatchMemOp_ptsz;
            0x0915 post fn cuStreamWaitValue32_v2(stream: On<CUstream>, addr: In<CUdeviceptr>, value: In<u32>, flags: In<u32>) + cuStreamWaitValue32_v2_ptsz;
            0x0916 post fn cuStreamWaitValue64_v2(stream: On<CUstream>, addr: In<CUdeviceptr>, value: In<u64>, flags: In<u32>) + cuStreamWaitValue64_v2_ptsz;
            0x0917 post fn cuStreamWriteValue32_v2(stream: On<CUstream>, addr: In<CUdeviceptr>, value: In<u32>, flags: In<u32>) + cuStreamWriteValue32_v2_ptsz;
            0x0918 post fn cuStreamWriteValue64_v2(stream: On<CUstream>, addr: In<CUdeviceptr>, value: In<u64>, flags: In<u32>) + cuStreamWriteValue64_v2_ptsz;
            0x0919 post fn cuStreamBatchMemOp_v2(stream: On<CUstream>, count: In<u32>, paramArray: InSlice<CUstreamBatchMemOpParams>[count as usize], flags: In<u32>) + cuStreamBatchMemOp_v2_ptsz;
            // Graphs.
            0x0940 call fn cuGraphCreate(phGraph: Out<CUgraph>, flags: In<u32>);
            0x0941 wrap fn cuGraphDestroy(hGraph: Del<CUgraph>);
            0x0942 call fn cuGraphClone(phGraphClone: Out<CUgraph>, originalGraph: In<CUgraph>);
            0x0943 custom fn cuGraphNodeFindInClone(phNode: Out<CUgraphNode>, hOriginalNode: In<CUgraphNode>, hClonedGraph: In<CUgraph>);
            0x0944 wrap fn cuGraphNodeGetType(hNode: In<CUgraphNode>, kind: Out<CUgraphNodeType>);
            0x0945 call fn cuGraphNodeGetContainingGraph(hNode: In<CUgraphNode>, phGraph: Out<CUgraph>);
            0x0946 call fn cuGraphNodeGetLocalId(hNode: In<CUgraphNode>, nodeId: Out<u32>);
            0x0947 call fn cuGraphNodeGetToolsId(hNode: In<CUgraphNode>, toolsNodeId: Out<u64>);
            0x0948 call fn cuGraphGetId(hGraph: In<CUgraph>, graphId: Out<u32>);
            0x0949 call fn cuGraphExecGetId(hGraphExec: In<CUgraphExec>, graphId: Out<u32>);
            0x094a local fn cuGraphGetNodes(hGraph: In<CUgraph>, nodes: In<*mut CUgraphNode>, numNodes: In<*mut usize>);
            0x094b local fn cuGraphGetRootNodes(hGraph: In<CUgraph>, rootNodes: In<*mut CUgraphNode>, numRootNodes: In<*mut usize>);
            0x094c local fn cuGraphGetEdges(hGraph: In<CUgraph>, from: In<*mut CUgraphNode>, to: In<*mut CUgraphNode>, numEdges: In<*mut usize>);
            0x094d local fn cuGraphGetEdges_v2(hGraph: In<CUgraph>, from: In<*mut CUgraphNode>, to: In<*mut CUgraphNode>, edgeData: In<*mut CUgraphEdgeData>, numEdges: In<*mut usize>);
            0x094e local fn cuGraphNodeGetDependencies(hNode: In<CUgraphNode>, dependencies: In<*mut CUgraphNode>, numDependencies: In<*mut usize>);
            0x094f local fn cuGraphNodeGetDependencies_v2(hNode: In<CUgraphNode>, dependencies: In<*mut CUgraphNode>, edgeData: In<*mut CUgraphEdgeData>, numDependencies: In<*mut usize>);
            0x0950 local fn cuGraphNodeGetDependentNodes(hNode: In<CUgraphNode>, dependentNodes: In<*mut CUgraphNode>, numDependentNodes: In<*mut usize>);
            0x0951 local fn cuGraphNodeGetDependentNodes_v2(hNode: In<CUgraphNode>, dependentNodes: In<*mut CUgraphNode>, edgeData: In<*mut CUgraphEdgeData>, numDependentNodes: In<*mut usize>);
            0x0952 local fn cuGraphAddDependencies(hGraph: In<CUgraph>, from: In<*const CUgraphNode>, to: In<*const CUgraphNode>, numDependencies: In<usize>);
            0x0953 local fn cuGraphAddDependencies_v2(hGraph: In<CUgraph>, from: In<*const CUgraphNode>, to: In<*const CUgraphNode>, edgeData: In<*const CUgraphEdgeData>, numDependencies: In<usize>);
            0x0954 local fn cuGraphRemoveDependencies(hGraph: In<CUgraph>, from: In<*const CUgraphNode>, to: In<*const CUgraphNode>, numDependencies: In<usize>);
            0x0955 local fn cuGraphRemoveDependencies_v2(hGraph: In<CUgraph>, from: In<*const CUgraphNode>, to: In<*const CUgraphNode>, edgeData: In<*const CUgraphEdgeData>, numDependencies: In<usize>);
            0x0956 wrap fn cuGraphDestroyNode(hNode: Del<CUgraphNode>);
            0x0957 local fn cuGraphDebugDotPrint(hGraph: In<CUgraph>, path: InStr, flags: In<u32>);
            // Graphs: nodes.
            0x0960 local fn cuGraphAddKernelNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, nodeParams: In<*const CUDA_KERNEL_NODE_PARAMS_v1>);
            0x0961 local fn cuGraphAddKernelNode_v2(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, nodeParams: In<*const CUDA_KERNEL_NODE_PARAMS>);
            0x0962 local fn cuGraphKernelNodeGetParams(hNode: In<CUgraphNode>, nodeParams: In<*mut CUDA_KERNEL_NODE_PARAMS_v1>);
            0x0963 local fn cuGraphKernelNodeGetParams_v2(hNode: In<CUgraphNode>, nodeParams: In<*mut CUDA_KERNEL_NODE_PARAMS>);
            0x0964 local fn cuGraphKernelNodeSetParams(hNode: In<CUgraphNode>, nodeParams: In<*const CUDA_KERNEL_NODE_PARAMS_v1>);
            0x0965 local fn cuGraphKernelNodeSetParams_v2(hNode: In<CUgraphNode>, nodeParams: In<*const CUDA_KERNEL_NODE_PARAMS>);
            0x0966 local fn cuGraphExecKernelNodeSetParams(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, nodeParams: In<*const CUDA_KERNEL_NODE_PARAMS_v1>);
            0x0967 local fn cuGraphExecKernelNodeSetParams_v2(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, nodeParams: In<*const CUDA_KERNEL_NODE_PARAMS>);
            0x0968 call fn cuGraphKernelNodeCopyAttributes(dst: In<CUgraphNode>, src: In<CUgraphNode>);
            0x0969 call fn cuGraphKernelNodeGetAttribute(hNode: In<CUgraphNode>, attr: In<CUlaunchAttributeID>, value_out: OutSlice<CUlaunchAttributeValue>[1]);
            0x096a call fn cuGraphKernelNodeSetAttribute(hNode: In<CUgraphNode>, attr: In<CUlaunchAttributeID>, value: InSlice<CUlaunchAttributeValue>[1]);
            0x096b local fn cuGraphAddMemcpyNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, copyParams: In<*const CUDA_MEMCPY3D>, ctx: In<CUcontext>);
            0x096c local fn cuGraphMemcpyNodeGetParams(hNode: In<CUgraphNode>, nodeParams: In<*mut CUDA_MEMCPY3D>);
            0x096d local fn cuGraphMemcpyNodeSetParams(hNode: In<CUgraphNode>, nodeParams: In<*const CUDA_MEMCPY3D>);
            0x096e local fn cuGraphExecMemcpyNodeSetParams(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, copyParams: In<*const CUDA_MEMCPY3D>, ctx: In<CUcontext>);
            0x096f local fn cuGraphAddMemsetNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, memsetParams: In<*const CUDA_MEMSET_NODE_PARAMS>, ctx: In<CUcontext>);
            0x0970 local fn cuGraphMemsetNodeGetParams(hNode: In<CUgraphNode>, nodeParams: In<*mut CUDA_MEMSET_NODE_PARAMS>);
            0x0971 local fn cuGraphMemsetNodeSetParams(hNode: In<CUgraphNode>, nodeParams: In<*const CUDA_MEMSET_NODE_PARAMS>);
            0x0972 local fn cuGraphExecMemsetNodeSetParams(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, memsetParams: In<*const CUDA_MEMSET_NODE_PARAMS>, ctx: In<CUcontext>);
            0x0973 local fn cuGraphAddHostNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, nodeParams: In<*const CUDA_HOST_NODE_PARAMS>);
            0x0974 local fn cuGraphHostNodeGetParams(hNode: In<CUgraphNode>, nodeParams: In<*mut CUDA_HOST_NODE_PARAMS>);
            0x0975 local fn cuGraphHostNodeSetParams(hNode: In<CUgraphNode>, nodeParams: In<*const CUDA_HOST_NODE_PARAMS>);
            0x0976 local fn cuGraphExecHostNodeSetParams(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, nodeParams: In<*const CUDA_HOST_NODE_PARAMS>);
            0x0977 local fn cuGraphAddChildGraphNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, childGraph: In<CUgraph>);
            0x0978 custom fn cuGraphChildGraphNodeGetGraph(hNode: In<CUgraphNode>, phGraph: Out<CUgraph>);
            0x0979 call fn cuGraphExecChildGraphNodeSetParams(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, childGraph: In<CUgraph>);
            0x097a local fn cuGraphAddEmptyNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>);
            0x097b local fn cuGraphAddEventRecordNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, event: In<CUevent>);
            0x097c call fn cuGraphEventRecordNodeGetEvent(hNode: In<CUgraphNode>, event_out: Out<CUevent>);
            0x097d call fn cuGraphEventRecordNodeSetEvent(hNode: In<CUgraphNode>, event: In<CUevent>);
            0x097e call fn cuGraphExecEventRecordNodeSetEvent(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, event: In<CUevent>);
            0x097f local fn cuGraphAddEventWaitNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, event: In<CUevent>);
            0x0980 call fn cuGraphEventWaitNodeGetEvent(hNode: In<CUgraphNode>, event_out: Out<CUevent>);
            0x0981 call fn cuGraphEventWaitNodeSetEvent(hNode: In<CUgraphNode>, event: In<CUevent>);
            0x0982 call fn cuGraphExecEventWaitNodeSetEvent(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, event: In<CUevent>);
            0x0983 local fn cuGraphAddBatchMemOpNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, nodeParams: In<*const CUDA_BATCH_MEM_OP_NODE_PARAMS>);
            0x0984 local fn cuGraphBatchMemOpNodeGetParams(hNode: In<CUgraphNode>, nodeParams_out: In<*mut CUDA_BATCH_MEM_OP_NODE_PARAMS>);
            0x0985 local fn cuGraphBatchMemOpNodeSetParams(hNode: In<CUgraphNode>, nodeParams: In<*const CUDA_BATCH_MEM_OP_NODE_PARAMS>);
            0x0986 local fn cuGraphExecBatchMemOpNodeSetParams(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, nodeParams: In<*const CUDA_BATCH_MEM_OP_NODE_PARAMS>);
            0x0987 local fn cuGraphAddMemAllocNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, nodeParams: In<*mut CUDA_MEM_ALLOC_NODE_PARAMS>);
            0x0988 local fn cuGraphMemAllocNodeGetParams(hNode: In<CUgraphNode>, params_out: In<*mut CUDA_MEM_ALLOC_NODE_PARAMS>);
            0x0989 local fn cuGraphAddMemFreeNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, dptr: In<CUdeviceptr>);
            0x098a call fn cuGraphMemFreeNodeGetParams(hNode: In<CUgraphNode>, dptr_out: Out<CUdeviceptr>);
            0x098b local fn cuGraphAddNode(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, numDependencies: In<usize>, nodeParams: In<*mut CUgraphNodeParams>);
            0x098c local fn cuGraphAddNode_v2(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, dependencyData: In<*const CUgraphEdgeData>, numDependencies: In<usize>, nodeParams: In<*mut CUgraphNodeParams>);
            0x098d local fn cuGraphAddNode_v3(phGraphNode: In<*mut CUgraphNode>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, dependencyData: In<*const CUgraphEdgeData>, numDependencies: In<usize>, nodeParams: In<*mut CUgraphNodeParams>);
            0x098e local fn cuGraphNodeSetParams(hNode: In<CUgraphNode>, nodeParams: In<*mut CUgraphNodeParams>);
            0x098f local fn cuGraphNodeSetParams_v2(hNode: In<CUgraphNode>, nodeParams: In<*mut CUgraphNodeParams>);
            0x0990 local fn cuGraphNodeGetParams(hNode: In<CUgraphNode>, nodeParams: In<*mut CUgraphNodeParams>);
            0x0991 local fn cuGraphExecNodeSetParams(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, nodeParams: In<*mut CUgraphNodeParams>);
            0x0992 call fn cuGraphConditionalHandleCreate(pHandle_out: Out<u64>, hGraph: In<CUgraph>, ctx: In<CUcontext>, defaultLaunchValue: In<u32>, flags: In<u32>);
            // Graphs: execution.
            0x09a0 local fn cuGraphInstantiate(phGraphExec: Out<CUgraphExec>, hGraph: In<CUgraph>, phErrorNode: OutOpt<CUgraphNode>, logBuffer: In<*mut u8>, bufferSize: In<usize>);
            0x09a1 local fn cuGraphInstantiate_v2(phGraphExec: Out<CUgraphExec>, hGraph: In<CUgraph>, phErrorNode: OutOpt<CUgraphNode>, logBuffer: In<*mut u8>, bufferSize: In<usize>);
            0x09a2 call fn cuGraphInstantiateWithFlags(phGraphExec: New<CUgraphExec>, hGraph: In<CUgraph>, flags: In<u64>);
            0x09a3 custom fn cuGraphInstantiateWithParams(phGraphExec: Out<CUgraphExec>, hGraph: In<CUgraph>, instantiateParams: In<*mut CUDA_GRAPH_INSTANTIATE_PARAMS>) + cuGraphInstantiateWithParams_ptsz;
            0x09a4 call fn cuGraphExecGetFlags(hGraphExec: In<CUgraphExec>, flags: Out<u64>);
            0x09a5 local fn cuGraphExecUpdate(hGraphExec: In<CUgraphExec>, hGraph: In<CUgraph>, hErrorNode_out: Out<CUgraphNode>, updateResult_out: Out<CUgraphExecUpdateResult>);
            0x09a6 custom fn cuGraphExecUpdate_v2(hGraphExec: In<CUgraphExec>, hGraph: In<CUgraph>, resultInfo: In<*mut CUgraphExecUpdateResultInfo>);
            0x09a7 call fn cuGraphExecDestroy(hGraphExec: Del<CUgraphExec>);
            0x09a8 post fn cuGraphUpload(hGraphExec: In<CUgraphExec>, hStream: On<CUstream>) + cuGraphUpload_ptsz;
            0x09a9 post fn cuGraphLaunch(hGraphExec: In<CUgraphExec>, hStream: On<CUstream>) + cuGraphLaunch_ptsz;
            0x09aa call fn cuGraphNodeSetEnabled(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, isEnabled: In<u32>);
            0x09ab call fn cuGraphNodeGetEnabled(hGraphExec: In<CUgraphExec>, hNode: In<CUgraphNode>, isEnabled: Out<u32>);
            // Graphs: what they keep.
            0x09b0 custom fn cuUserObjectCreate(object_out: Out<CUuserObject>, ptr: In<Pointer>, destroy: In<CUhostFn>, initialRefcount: In<u32>, flags: In<u32>);
            0x09b1 call fn cuUserObjectRetain(object: In<CUuserObject>, count: In<u32>);
            0x09b2 call fn cuUserObjectRelease(object: In<CUuserObject>, count: In<u32>);
            0x09b3 call fn cuGraphRetainUserObject(graph: In<CUgraph>, object: In<CUuserObject>, count: In<u32>, flags: In<u32>);
            0x09b4 call fn cuGraphReleaseUserObject(graph: In<CUgraph>, object: In<CUuserObject>, count: In<u32>);
            0x09b5 call fn cuDeviceGraphMemTrim(device: In<CUdevice>);
            0x09b6 custom fn cuDeviceGetGraphMemAttribute(device: In<CUdevice>, attr: In<CUgraphMem_attribute>, value: In<Pointer>);
            0x09b7 custom fn cuDeviceSetGraphMemAttribute(device: In<CUdevice>, attr: In<CUgraphMem_attribute>, value: In<Pointer>);
            // Stream capture.
            0x09c0 wrap fn cuStreamBeginCapture(hStream: Of<CUstream>) + cuStreamBeginCapture_ptsz;
            0x09c1 wrap fn cuStreamBeginCapture_v2(hStream: Of<CUstream>, mode: In<CUstreamCaptureMode>) + cuStreamBeginCapture_v2_ptsz;
            0x09c2 custom fn cuStreamBeginCaptureToGraph(hStream: Of<CUstream>, hGraph: In<CUgraph>, dependencies: In<*const CUgraphNode>, dependencyData: In<*const CUgraphEdgeData>, numDependencies: In<usize>, mode: In<CUstreamCaptureMode>) + cuStreamBeginCaptureToGraph_ptsz;
            0x09c3 wrap fn cuStreamEndCapture(hStream: Of<CUstream>, phGraph: Out<CUgraph>) + cuStreamEndCapture_ptsz;
            0x09c4 call fn cuStreamIsCapturing(hStream: Of<CUstream>, captureStatus: Out<CUstreamCaptureStatus>) + cuStreamIsCapturing_ptsz;
            0x09c5 call fn cuStreamGetCaptureInfo(hStream: Of<CUstream>, captureStatus_out: Out<CUstreamCaptureStatus>, id_out: OutOpt<u64>) + cuStreamGetCaptureInfo_ptsz;
            0x09c6 custom fn cuStreamGetCaptureInfo_v2(hStream: Of<CUstream>, captureStatus_out: Out<CUstreamCaptureStatus>, id_out: OutOpt<u64>, graph_out: OutOpt<CUgraph>, dependencies_out: OutOpt<*const CUgraphNode>, numDependencies_out: OutOpt<usize>) + cuStreamGetCaptureInfo_v2_ptsz;
            0x09c7 local fn cuStreamGetCaptureInfo_v3(hStream: Of<CUstream>, captureStatus_out: Out<CUstreamCaptureStatus>, id_out: OutOpt<u64>, graph_out: OutOpt<CUgraph>, dependencies_out: OutOpt<*const CUgraphNode>, edgeData_out: OutOpt<*const CUgraphEdgeData>, numDependencies_out: OutOpt<usize>) + cuStreamGetCaptureInfo_v3_ptsz;
            0x09c8 local fn cuStreamUpdateCaptureDependencies(hStream: Of<CUstream>, dependencies: In<*mut CUgraphNode>, numDependencies: In<usize>, flags: In<u32>) + cuStreamUpdateCaptureDependencies_ptsz;
            0x09c9 custom fn cuStreamUpdateCaptureDependencies_v2(hStream: Of<CUstream>, dependencies: In<*mut CUgraphNode>, dependencyData: In<*const CUgraphEdgeData>, numDependencies: In<usize>, flags: In<u32>) + cuStreamUpdateCaptureDependencies_v2_ptsz;
            // Contexts and launches on hardware that can be told apart.
            0x0a00 call fn cuCtxResetPersistingL2Cache();
            0x0a01 call fn cuDeviceGetExecAffinitySupport(pi: Out<i32>, kind: In<CUexecAffinityType>, dev: In<CUdevice>);
            0x0a02 call fn cuCtxGetExecAffinity(pExecAffinity: OutSlice<CUexecAffinityParam>[1], kind: In<CUexecAffinityType>);
            0x0a03 local fn cuLaunchCooperativeKernelMultiDevice(launchParamsList: In<*mut CUDA_LAUNCH_PARAMS>, numDevices: In<u32>, flags: In<u32>);
            // Linking.
            0x0c01 custom fn cuLinkCreate_v2(numOptions: In<u32>, options: In<*mut CUjit_option>, optionValues: In<Pointers>, stateOut: Out<CUlinkState>);
            0x0c02 local fn cuLinkCreate(numOptions: In<u32>, options: In<*mut CUjit_option>, optionValues: In<Pointers>, stateOut: Out<CUlinkState>);
            0x0c03 custom fn cuLinkAddData_v2(state: In<CUlinkState>, kind: In<CUjitInputType>, data: In<Pointer>, size: In<usize>, name: InStr, numOptions: In<u32>, options: In<*mut CUjit_option>, optionValues: In<Pointers>);
            0x0c04 local fn cuLinkAddData(state: In<CUlinkState>, kind: In<CUjitInputType>, data: In<Pointer>, size: In<usize>, name: InStr, numOptions: In<u32>, options: In<*mut CUjit_option>, optionValues: In<Pointers>);
            0x0c05 local fn cuLinkAddFile_v2(state: In<CUlinkState>, kind: In<CUjitInputType>, path: InStr, numOptions: In<u32>, options: In<*mut CUjit_option>, optionValues: In<Pointers>);
            0x0c06 local fn cuLinkAddFile(state: In<CUlinkState>, kind: In<CUjitInputType>, path: InStr, numOptions: In<u32>, options: In<*mut CUjit_option>, optionValues: In<Pointers>);
            0x0c07 custom fn cuLinkComplete(state: In<CUlinkState>, cubinOut: Out<Pointer>, sizeOut: OutOpt<usize>);
            0x0c08 custom fn cuLinkDestroy(state: In<CUlinkState>);
            // What modules and programs share.
            0x0d00 wrap fn cuLibraryGetManaged(dptr: OutOpt<CUdeviceptr>, bytes: OutOpt<usize>, library: In<CUlibrary>, name: InStr);
            // The log of failed calls.
            0x0d10 local fn cuLogsRegisterCallback(callbackFunc: In<CUlogsCallback>, userData: In<Pointer>, callback_out: OutOpt<CUlogsCallbackHandle>);
            0x0d11 local fn cuLogsUnregisterCallback(callback: In<CUlogsCallbackHandle>);
            0x0d12 local fn cuLogsCurrent(iterator_out: Out<u32>, flags: In<u32>);
            0x0d13 local fn cuLogsDumpToFile(iterator: In<*mut u32>, pathToFile: InStr, flags: In<u32>);
            0x0d14 local fn cuLogsDumpToMemory(iterator: In<*mut u32>, buffer: In<*mut u8>, size: In<*mut usize>, flags: In<u32>);
            // What is told of devices and memory; contexts with usage counts; the first cuIpcOpenMemHandle.
            0x0d18 call fn cuDeviceGetHostAtomicCapabilities(capabilities: OutSlice<u32>[count as usize], operations: InSlice<CUatomicOperation>[count as usize], count: In<u32>, dev: In<CUdevice>);
            0x0d19 call fn cuDeviceGetP2PAtomicCapabilities(capabilities: OutSlice<u32>[count as usize], operations: InSlice<CUatomicOperation>[count as usize], count: In<u32>, srcDevice: In<CUdevice>, dstDevice: In<CUdevice>);
            0x0d1a local fn cuDeviceGetProperties(prop: Out<CUdevprop>, dev: In<CUdevice>);
            0x0d1b local fn cuMemGetLocationInfo(ptr: In<CUdeviceptr>, size: In<usize>, summaryGranularity: In<usize>, samplingGranularity: In<usize>, location_out: In<*mut CUmemLocation>);
            0x0d1c local fn cuCtxAttach(pctx: Out<CUcontext>, flags: In<u32>);
            0x0d1d local fn cuCtxDetach(ctx: In<CUcontext>);
            0x0d1e local fn cuIpcOpenMemHandle(pdptr: Out<CUdeviceptr>, handle: In<CUipcHandle>, Flags: In<u32>);
            // Green contexts: parts of a device's multiprocessors.
            0x0e00 call fn cuDeviceGetDevResource(device: In<CUdevice>, resource: OutSlice<CUdevResource>[1], kind: In<CUdevResourceType>);
            0x0e01 call fn cuCtxGetDevResource(hCtx: In<CUcontext>, resource: OutSlice<CUdevResource>[1], kind: In<CUdevResourceType>);
            0x0e02 call fn cuGreenCtxGetDevResource(hCtx: In<CUgreenCtx>, resource: OutSlice<CUdevResource>[1], kind: In<CUdevResourceType>);
            0x0e03 call fn cuStreamGetDevResource(hStream: Of<CUstream>, resource: OutSlice<CUdevResource>[1], kind: In<CUdevResourceType>) + cuStreamGetDevResource_ptsz;
            0x0e04 custom fn cuDevSmResourceSplitByCount(result: In<*mut CUdevResource>, nbGroups: In<*mut u32>, input: In<*const CUdevResource>, remainder: In<*mut CUdevResource>, flags: In<u32>, minCount: In<u32>);
            0x0e05 custom fn cuDevSmResourceSplit(result: In<*mut CUdevResource>, nbGroups: In<u32>, input: In<*const CUdevResource>, remainder: In<*mut CUdevResource>, flags: In<u32>, groupParams: In<*mut CU_DEV_SM_RESOURCE_GROUP_PARAMS>);
            0x0e06 call fn cuDevResourceGenerateDesc(phDesc: New<CUdevResourceDesc>, resources: InSlice<CUdevResource>[nbResources as usize], nbResources: In<u32>);
            0x0e08 wrap fn cuGreenCtxCreate(phCtx: New<CUgreenCtx>, desc: In<CUdevResourceDesc>, dev: In<CUdevice>, flags: In<u32>);
            0x0e09 wrap fn cuGreenCtxDestroy(hCtx: Del<CUgreenCtx>);
            0x0e0a custom fn cuCtxFromGreenCtx(pContext: Out<CUcontext>, hCtx: In<CUgreenCtx>);
            0x0e0b call fn cuGreenCtxRecordEvent(hCtx: In<CUgreenCtx>, hEvent: In<CUevent>);
            0x0e0c call fn cuGreenCtxWaitEvent(hCtx: In<CUgreenCtx>, hEvent: In<CUevent>);
            0x0e0d wrap fn cuGreenCtxStreamCreate(phStream: New<CUstream>, greenCtx: In<CUgreenCtx>, flags: In<u32>, priority: In<i32>);
            0x0e0e call fn cuGreenCtxGetId(greenCtx: In<CUgreenCtx>, greenCtxId: Out<u64>);
            0x0e0f local fn cuStreamGetGreenCtx(hStream: Of<CUstream>, phCtx: Out<CUgreenCtx>);
            0x0e10 local fn cuStreamGetCtx_v2(hStream: Of<CUstream>, pCtx: Out<CUcontext>, pGreenCtx: Out<CUgreenCtx>) + cuStreamGetCtx_v2_ptsz;
            // Pools of other processes.
            0x0f00 custom fn cuMemPoolExportToShareableHandle(handle_out: In<Pointer>, pool: In<CUmemoryPool>, handleType: In<CUmemAllocationHandleType>, flags: In<u64>);
            0x0f01 custom fn cuMemPoolImportFromShareableHandle(pool_out: Out<CUmemoryPool>, handle: In<Pointer>, handleType: In<CUmemAllocationHandleType>, flags: In<u64>);
            0x0f02 custom fn cuMemPoolExportPointer(shareData_out: OutSlice<CUmemPoolPtrExportData>[1], ptr: In<CUdeviceptr>);
            0x0f03 custom fn cuMemPoolImportPointer(ptr_out: Out<CUdeviceptr>, pool: In<CUmemoryPool>, shareData: In<*mut CUmemPoolPtrExportData>);
            // Tensor maps that change; what the device decompresses.
            0x0f08 call fn cuTensorMapReplaceAddress(tensorMap: InOutSlice<CUtensorMap>[1], globalAddress: In<DeviceAddress>);
            0x0f09 call fn cuTensorMapSetAllocationClass(tensorMap: InOutSlice<CUtensorMap>[1], allocClass: In<CUtensorMapAllocClass>, outAllocClass: OutOpt<CUtensorMapAllocClass>);
            0x0f0a wrap fn cuMemBatchDecompressAsync(paramsArray: InSlice<CUmemDecompressParams>[count], count: In<usize>, flags: In<u32>, errorIndex: OutOpt<usize>, stream: On<CUstream>) + cuMemBatchDecompressAsync_ptsz;
        }
    };
}

/// Hands the symbols that are exported but not implemented to `$callback`, each
/// group behind the reason of its absence: they answer CUDA_ERROR_NOT_SUPPORTED
/// and say so once in the log. docs/absent.md is this list.
#[macro_export]
macro_rules! cuda_api_absent {
    ($callback:ident) => {
        $callback! {
            "The first version: its device addresses, sizes or structures are of 32 bits, and no address of today fits. The version that came after it is there.": [
                cuArray3DCreate;
                cuArray3DGetDescriptor;
                cuArrayCreate;
                cuArrayGetDescriptor;
                cuMemAlloc;
                cuMemAllocHost;
                cuMemAllocPitch;
                cuMemFree;
                cuMemGetAddressRange;
                cuMemGetInfo;
                cuMemHostGetDevicePointer;
                cuMemHostRegister;
                cuMemcpy2D;
                cuMemcpy2DAsync;
                cuMemcpy2DUnaligned;
                cuMemcpy3D;
                cuMemcpy3DAsync;
                cuMemcpyAtoA;
                cuMemcpyAtoD;
                cuMemcpyAtoH;
                cuMemcpyAtoHAsync;
                cuMemcpyDtoA;
                cuMemcpyDtoD;
                cuMemcpyDtoDAsync;
                cuMemcpyDtoH;
                cuMemcpyDtoHAsync;
                cuMemcpyHtoA;
                cuMemcpyHtoAAsync;
                cuMemcpyHtoD;
                cuMemcpyHtoDAsync;
                cuMemsetD16;
                cuMemsetD2D16;
                cuMemsetD2D32;
                cuMemsetD2D8;
                cuMemsetD32;
                cuMemsetD8;
                cuModuleGetGlobal;
            ]
            "Memory and semaphores of another driver (Vulkan, Direct3D, NvSci): none in the guest shares the host's device.": [
                cuDestroyExternalMemory;
                cuDestroyExternalSemaphore;
                cuExternalMemoryGetMappedBuffer;
                cuExternalMemoryGetMappedMipmappedArray;
                cuImportExternalMemory;
                cuImportExternalSemaphore;
                cuSignalExternalSemaphoresAsync;
                cuSignalExternalSemaphoresAsync_ptsz;
                cuWaitExternalSemaphoresAsync;
                cuWaitExternalSemaphoresAsync_ptsz;
                cuGraphAddExternalSemaphoresSignalNode;
                cuGraphAddExternalSemaphoresWaitNode;
                cuGraphExecExternalSemaphoresSignalNodeSetParams;
                cuGraphExecExternalSemaphoresWaitNodeSetParams;
                cuGraphExternalSemaphoresSignalNodeGetParams;
                cuGraphExternalSemaphoresSignalNodeSetParams;
                cuGraphExternalSemaphoresWaitNodeGetParams;
                cuGraphExternalSemaphoresWaitNodeSetParams;
                cuDeviceGetNvSciSyncAttributes;
            ]
            "Buffers of OpenGL, EGL or VDPAU: the guest's drivers for these do not know the host's device.": [
                cuEGLStreamConsumerAcquireFrame;
                cuEGLStreamConsumerConnect;
                cuEGLStreamConsumerConnectWithFlags;
                cuEGLStreamConsumerDisconnect;
                cuEGLStreamConsumerReleaseFrame;
                cuEGLStreamProducerConnect;
                cuEGLStreamProducerDisconnect;
                cuEGLStreamProducerPresentFrame;
                cuEGLStreamProducerReturnFrame;
                cuEventCreateFromEGLSync;
                cuGraphicsEGLRegisterImage;
                cuGraphicsResourceGetMappedEglFrame;
                cuGLCtxCreate;
                cuGLCtxCreate_v2;
                cuGLGetDevices;
                cuGLGetDevices_v2;
                cuGLInit;
                cuGLMapBufferObject;
                cuGLMapBufferObjectAsync;
                cuGLMapBufferObjectAsync_v2;
                cuGLMapBufferObjectAsync_v2_ptsz;
                cuGLMapBufferObject_v2;
                cuGLMapBufferObject_v2_ptds;
                cuGLRegisterBufferObject;
                cuGLSetBufferObjectMapFlags;
                cuGLUnmapBufferObject;
                cuGLUnmapBufferObjectAsync;
                cuGLUnregisterBufferObject;
                cuGraphicsGLRegisterBuffer;
                cuGraphicsGLRegisterImage;
                cuGraphicsMapResources;
                cuGraphicsMapResources_ptsz;
                cuGraphicsResourceGetMappedMipmappedArray;
                cuGraphicsResourceGetMappedPointer;
                cuGraphicsResourceGetMappedPointer_v2;
                cuGraphicsResourceSetMapFlags;
                cuGraphicsResourceSetMapFlags_v2;
                cuGraphicsSubResourceGetMappedArray;
                cuGraphicsUnmapResources;
                cuGraphicsUnmapResources_ptsz;
                cuGraphicsUnregisterResource;
                cuGraphicsVDPAURegisterOutputSurface;
                cuGraphicsVDPAURegisterVideoSurface;
                cuVDPAUCtxCreate;
                cuVDPAUCtxCreate_v2;
                cuVDPAUGetDevice;
            ]
            "Machines joined by NVLink: a guest is shown one machine.": [
                cuDeviceGetCliqueCount;
                cuDeviceGetCliqueInfo;
                cuDeviceGetFabricClusterUuid;
                cuFabricCpyBatchAsync;
                cuFabricCpyBatchAsync_ptsz;
                cuLogicalEndpointAddDevice;
                cuLogicalEndpointBindAddr;
                cuLogicalEndpointBindMem;
                cuLogicalEndpointCreate;
                cuLogicalEndpointDestroy;
                cuLogicalEndpointExport;
                cuLogicalEndpointGetLimits;
                cuLogicalEndpointIdRelease;
                cuLogicalEndpointIdReserve;
                cuLogicalEndpointImport;
                cuLogicalEndpointQuery;
                cuLogicalEndpointUnbind;
            ]
            "Saves and restores a process: what a guest's process has on the device lies in its worker, which the guest cannot save.": [
                cuCheckpointOperationComplete;
                cuCheckpointProcessCheckpoint;
                cuCheckpointProcessGetRestoreThreadId;
                cuCheckpointProcessGetState;
                cuCheckpointProcessLock;
                cuCheckpointProcessRestore;
                cuCheckpointProcessUnlock;
            ]
            "Files that the driver writes when a kernel fails: they would be of the worker, and hold what is the host's.": [
                cuCoredumpDeregisterCompleteCallback;
                cuCoredumpDeregisterStartCallback;
                cuCoredumpGetAttribute;
                cuCoredumpGetAttributeGlobal;
                cuCoredumpRegisterCompleteCallback;
                cuCoredumpRegisterStartCallback;
                cuCoredumpSetAttribute;
                cuCoredumpSetAttributeGlobal;
            ]
            "A descriptor of device memory for other drivers' buffers (dma-buf): the guest has no such driver for the host's device.": [
                cuMemGetHandleForAddressRange;
            ]
            "Only Windows has such numbers.": [
                cuDeviceGetLuid;
            ]
            "Tells a program that its device memory is wanted back: a VM's quota refuses, and takes nothing back.": [
                cuDeviceRegisterAsyncNotification;
                cuDeviceUnregisterAsyncNotification;
            ]
            "A function's address on host and device: an image's host code is not in the process that loads it.": [
                cuLibraryGetUnifiedFunction;
            ]
            "Pages of sparse arrays: cpu-driver makes none (CUDA_ERROR_NOT_SUPPORTED when one is asked for), and where they are, only a GPU could show that forwarding them is right.": [
                cuMemMapArrayAsync;
                cuMemMapArrayAsync_ptsz;
            ]
            "Sets up a profiler that CUDA has no more: NVIDIA's library itself answers so since 12.0. cuProfilerStart and cuProfilerStop are there.": [
                cuProfilerInitialize;
            ]
            "Texture and surface references: only modules of CUDA 11's compilers and older name them, and cpu-driver's PTX has no such variables. Texture and surface objects are there.": [
                cuModuleGetSurfRef;
                cuModuleGetTexRef;
                cuParamSetTexRef;
                cuSurfRefGetArray;
                cuSurfRefSetArray;
                cuTexRefCreate;
                cuTexRefDestroy;
                cuTexRefGetAddress;
                cuTexRefGetAddressMode;
                cuTexRefGetAddress_v2;
                cuTexRefGetArray;
                cuTexRefGetBorderColor;
                cuTexRefGetFilterMode;
                cuTexRefGetFlags;
                cuTexRefGetFormat;
                cuTexRefGetMaxAnisotropy;
                cuTexRefGetMipmapFilterMode;
                cuTexRefGetMipmapLevelBias;
                cuTexRefGetMipmapLevelClamp;
                cuTexRefGetMipmappedArray;
                cuTexRefSetAddress;
                cuTexRefSetAddress2D;
                cuTexRefSetAddress2D_v2;
                cuTexRefSetAddress2D_v3;
                cuTexRefSetAddressMode;
                cuTexRefSetAddress_v2;
                cuTexRefSetArray;
                cuTexRefSetBorderColor;
                cuTexRefSetFilterMode;
                cuTexRefSetFlags;
                cuTexRefSetFormat;
                cuTexRefSetMaxAnisotropy;
                cuTexRefSetMipmapFilterMode;
                cuTexRefSetMipmapLevelBias;
                cuTexRefSetMipmapLevelClamp;
                cuTexRefSetMipmappedArray;
            ]
            "Captures for graphics (CIG), whose command lists no guest driver shares with the host; and a second capture into the same graph, which asks a function of the program's about every node in the middle of the capture.": [
                cuStreamBeginCaptureToCig;
                cuStreamBeginCaptureToCig_ptsz;
                cuStreamBeginRecaptureToGraph;
                cuStreamBeginRecaptureToGraph_ptsz;
                cuStreamEndCaptureToCig;
                cuStreamEndCaptureToCig_ptsz;
            ]
        }
    };
}
