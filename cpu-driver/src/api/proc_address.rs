//! Symbols by name and version, and export tables: found by the crate that the guest's shim uses too.

use super::{Answer, exports, give, give_optional, primary, string};
use crate::context::{self, CONTEXTS};
use crate::device::Device;
use paravane_lookup::{Identity, Libcuda, Look, Symbols};
use paravane_protocol::CUDA_VERSION;
use paravane_protocol::cuda_types::{
    CU_GET_PROC_ADDRESS_SUCCESS, CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_FOUND, CUcontext,
    CUdevice, CUdriverProcAddressQueryResult, CUfunction, CUmodule, CUstream, CUuuid, Pointer,
};
use std::ffi::{c_char, c_void};
use std::sync::LazyLock;

static SYMBOLS: LazyLock<Symbols> = LazyLock::new(|| {
    let implemented = exports::table().filter(|(.., implemented)| *implemented);
    Symbols::new(implemented.map(|(name, address, _)| (name, address.expose_provenance())))
});

/// # Safety
/// `symbol` is NULL or NUL-terminated.
unsafe fn look_up(symbol: *const c_char, version: i32, flags: u64) -> Answer<Look> {
    // SAFETY: the caller's promise.
    SYMBOLS.look_up(unsafe { string(symbol) }?, version, flags)
}

pub unsafe fn cuGetProcAddress_v2(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    cudaVersion: i32,
    flags: u64,
    symbolStatus: *mut CUdriverProcAddressQueryResult,
) -> Answer {
    // SAFETY: the caller passes a C string.
    let (address, status) = unsafe { look_up(symbol, cudaVersion, flags) }?.answer();
    give(pfn, address)?;
    give_optional(symbolStatus, status);
    Ok(())
}

pub unsafe fn cuGetProcAddress(symbol: *const c_char, pfn: *mut *mut c_void, cudaVersion: i32, flags: u64) -> Answer {
    // SAFETY: the caller passes a C string.
    match unsafe { look_up(symbol, cudaVersion, flags) }?.answer() {
        (address, CU_GET_PROC_ADDRESS_SUCCESS) => give(pfn, address),
        _ => Err(CUDA_ERROR_NOT_FOUND),
    }
}

/// An unknown table is CUDA_ERROR_INVALID_VALUE.
pub unsafe fn cuGetExportTable(ppExportTable: *mut *mut c_void, pExportTableId: *const CUuuid) -> Answer {
    if pExportTableId.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to 16 bytes.
    let found = paravane_lookup::export_table(unsafe { pExportTableId.read_unaligned() }, &CpuDriver);
    give(ppExportTable, found.map_or(std::ptr::null_mut(), |table| table.cast_mut()))?;
    found.map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
}

/// What the export tables' slots learn of this library.
struct CpuDriver;

impl Libcuda for CpuDriver {
    fn may_answer(&self) -> Answer {
        Ok(())
    }

    fn driver_version(&self) -> i32 {
        CUDA_VERSION
    }

    fn devices(&self) -> Answer<Vec<Identity>> {
        super::initialised()?;
        Ok(Device::all().map(super::device::identity).collect())
    }

    fn primary_context(&self, device: CUdevice) -> Answer<CUcontext> {
        Ok(primary::handle(super::device(device)?))
    }

    fn current_context(&self) -> CUcontext {
        CUcontext(context::current().map_or(0, |context| context.handle))
    }

    fn device_of(&self, context: CUcontext) -> Answer<CUdevice> {
        CONTEXTS.with(context.0, |context| context.device.cuda()).ok_or(CUDA_ERROR_INVALID_CONTEXT)
    }

    fn context_number(&self, context: CUcontext) -> Answer<u64> {
        CONTEXTS.with(context.0, |context| context.id).ok_or(CUDA_ERROR_INVALID_CONTEXT)
    }

    fn check_stream(&self, stream: CUstream) -> Answer {
        super::stream(stream).map(|_| ())
    }

    fn load(&self, image: Pointer) -> Answer<CUmodule> {
        let mut module = CUmodule(0);
        // SAFETY: the program passes an image.
        unsafe { super::cuModuleLoadData(&raw mut module, image) }?;
        Ok(module)
    }

    fn functions(&self, module: CUmodule) -> Answer<Vec<CUfunction>> {
        super::module::functions(module)
    }
}
