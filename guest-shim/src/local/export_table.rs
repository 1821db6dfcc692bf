//! What the export tables' slots learn of this library: all but a module's
//! functions is known in the guest.

use paravane_lookup::{Answer, Identity, Libcuda};
use paravane_protocol::cuda_types::*;

use crate::state::{current, devices, objects};
use crate::{boundary, custom, local, remote};

/// This library.
pub(crate) struct Shim;

const CU_DEVICE_ATTRIBUTE_PCI: [CUdevice_attribute; 3] =
    [CUdevice_attribute(50), CUdevice_attribute(33), CUdevice_attribute(34)];

fn identity(device: &devices::Device) -> Identity {
    // A host library that cannot tell an attribute answers its program 0 too.
    let pci = CU_DEVICE_ATTRIBUTE_PCI.map(|attribute| device.attribute(attribute).unwrap_or(0));
    Identity { uuid: device.uuid, pci }
}

impl Libcuda for Shim {
    fn may_answer(&self) -> Answer {
        if boundary::is_forked() { Err(CUDA_ERROR_NOT_INITIALIZED) } else { Ok(()) }
    }

    fn driver_version(&self) -> i32 {
        local::driver_version()
    }

    fn devices(&self) -> Answer<Vec<Identity>> {
        Ok(devices::hello()?.devices.iter().map(identity).collect())
    }

    fn primary_context(&self, device: CUdevice) -> Answer<CUcontext> {
        Ok(devices::device(device)?.primary)
    }

    fn current_context(&self) -> CUcontext {
        CUcontext(current::number())
    }

    fn device_of(&self, context: CUcontext) -> Answer<CUdevice> {
        devices::of_context(context)
    }

    fn context_number(&self, context: CUcontext) -> Answer<u64> {
        let mut number = 0;
        remote::table::cuCtxGetId(context, &raw mut number)?;
        Ok(number)
    }

    fn check_stream(&self, stream: CUstream) -> Answer {
        let is_known = stream.0 <= CU_STREAM_PER_THREAD.0 || objects::STREAM_CONTEXT.get(stream.0).is_some();
        if is_known { Ok(()) } else { Err(CUDA_ERROR_INVALID_HANDLE) }
    }

    fn load(&self, image: Pointer) -> Answer<CUmodule> {
        let mut module = CUmodule(0);
        local::cuModuleLoadData(&raw mut module, image)?;
        Ok(module)
    }

    fn functions(&self, module: CUmodule) -> Answer<Vec<CUfunction>> {
        custom::functions_of(module)
    }
}
