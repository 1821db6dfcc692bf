//! What the tables need to know of the library that hands them out.

use paravane_protocol::cuda_types::{CUcontext, CUdevice, CUfunction, CUmodule, CUresult, CUstream, CUuuid, Pointer};

/// What a function answers: nothing, or the CUresult that failed.
pub type Answer<T = ()> = Result<T, CUresult>;

/// How a device is named in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As cuDeviceGetUuid answers.
    pub uuid: CUuuid,
    /// The device's attributes PCI_DOMAIN_ID, PCI_BUS_ID and PCI_DEVICE_ID.
    pub pci: [i32; 3],
}

/// The library whose tables these are. Every call comes from the program.
pub trait Libcuda: Sync {
    /// Refuses calls that may not be answered now, in a forked child say.
    fn may_answer(&self) -> Answer;
    /// As cuDriverGetVersion answers.
    fn driver_version(&self) -> i32;
    /// Every device, by ordinal.
    fn devices(&self) -> Answer<Vec<Identity>>;
    /// The primary context, active or not; it is not retained.
    fn primary_context(&self, device: CUdevice) -> Answer<CUcontext>;
    /// The calling thread's current context, NULL for none.
    fn current_context(&self) -> CUcontext;
    /// The device of a context; CUDA_ERROR_INVALID_CONTEXT for an unknown one.
    fn device_of(&self, context: CUcontext) -> Answer<CUdevice>;
    /// As cuCtxGetId answers.
    fn context_number(&self, context: CUcontext) -> Answer<u64>;
    /// Whether the stream can be used: CUDA_ERROR_INVALID_HANDLE where not.
    fn check_stream(&self, stream: CUstream) -> Answer;
    /// As cuModuleLoadData answers.
    fn load(&self, image: Pointer) -> Answer<CUmodule>;
    /// Every function of a module.
    fn functions(&self, module: CUmodule) -> Answer<Vec<CUfunction>>;
}
