//! An area that the device reaches: registered with the library, or laid over a
//! managed variable whose pages the library has lent.

use std::sync::Arc;

use paravane_protocol::cuda_types::*;

use super::area::Mapping;
use super::libcuda::{Answer, cuda};
use super::process::Process;

/// One of them.
pub(super) struct HostMemory {
    pub(super) mapping: Arc<Mapping>,
    /// Where the library knows its first byte.
    pub(super) base: u64,
    is_lent: bool,
}

impl HostMemory {
    /// Memory that is registered at `base`.
    pub(super) fn registered(mapping: Arc<Mapping>, base: u64) -> Self {
        Self { mapping, base, is_lent: false }
    }

    /// Lays an area over the managed variable that begins at `at`, if it has as
    /// many bytes.
    pub(super) fn lend(process: &Process, area: u16, at: usize, bytes: u64) -> Answer<(Self, CUdeviceptr)> {
        let lib = &process.lib;
        let device = CUdeviceptr(at as u64);
        let mut lent = 0_usize;
        cuda!(lib.lend_variable(device, &raw mut lent))?;
        let is_whole = lent as u64 == bytes;
        let laid = if is_whole { process.areas.lay(area, at, bytes) } else { Err(std::io::ErrorKind::InvalidInput.into()) };
        match laid {
            Ok(mapping) => Ok((Self { mapping, base: device.0, is_lent: true }, device)),
            Err(error) => {
                log::warn!("area {area} over a managed variable: {error}");
                cuda!(lib.take_back(device))?;
                Err(CUDA_ERROR_MAP_FAILED)
            }
        }
    }

    /// The device is to reach it no more.
    pub(super) fn end(self, process: &Process, area: u16) -> Answer {
        let lib = &process.lib;
        if !self.is_lent {
            return cuda!(lib.cuMemHostUnregister(self.base as Pointer));
        }
        process.areas.take_off(area).map_err(|error| {
            log::error!("area {area} stays over a managed variable: {error}");
            CUDA_ERROR_OPERATING_SYSTEM
        })?;
        cuda!(lib.take_back(CUdeviceptr(self.base)))
    }
}
