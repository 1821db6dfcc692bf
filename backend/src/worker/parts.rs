//! A VM that may use a number of multiprocessors: a green context of so many
//! stands for each primary context, so that all streams of the guest are its.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use paravane_protocol::cuda_types::*;

use super::libcuda::{Answer, Libcuda, cuda};
use crate::visible::ENV_SMS;

/// CU_GREEN_CTX_DEFAULT_STREAM: the legacy default stream is the green context's too.
const WITH_DEFAULT_STREAM: u32 = 1;

/// What stands for a device's primary context.
struct Held {
    green: CUgreenCtx,
    context: CUcontext,
    /// How often the guest has retained it.
    retained: u64,
}

/// The process's part of each device.
pub(super) struct Parts {
    /// Multiprocessors; `None`: all.
    sms: Option<u32>,
    held: Mutex<HashMap<i32, Held>>,
    /// Counts those that have come: a thread's current context is an older one
    /// under the same id.
    made: AtomicU32,
}

impl Parts {
    /// As the back end has told this process.
    pub(super) fn inherited() -> Self {
        let sms = std::env::var(ENV_SMS).ok().and_then(|number| number.parse().ok());
        Self { sms, held: Mutex::default(), made: AtomicU32::new(0) }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<i32, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Multiprocessors that the guest sees, of those that there are.
    pub(super) fn seen(&self, all: i32) -> i32 {
        let part = self.sms.and_then(|sms| i32::try_from(sms).ok());
        part.map_or(all, |part| part.min(all))
    }

    /// Contexts that are no green ones have all multiprocessors, and so has the
    /// device.
    pub(super) fn refuse_whole(&self) -> Answer {
        if self.sms.is_some() { Err(CUDA_ERROR_NOT_SUPPORTED) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn made(&self) -> u32 {
        self.made.load(Ordering::Relaxed)
    }

    /// The library's primary context has been retained: what is to stand for it.
    pub(super) fn retained(&self, lib: &Libcuda, dev: CUdevice, primary: CUcontext) -> Answer<CUcontext> {
        let Some(sms) = self.sms else { return Ok(primary) };
        let mut all = self.held();
        if let Some(held) = all.get_mut(&dev.0) {
            held.retained += 1;
            return Ok(held.context);
        }
        let (green, context) = make(lib, dev, sms).inspect_err(|error| {
            log::error!("a green context of {sms} multiprocessors: {error}");
            // It was retained for this.
            let _ = cuda!(lib.cuDevicePrimaryCtxRelease_v2(dev));
        })?;
        all.insert(dev.0, Held { green, context, retained: 1 });
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(context)
    }

    /// The primary context has been released by the guest.
    pub(super) fn released(&self, lib: &Libcuda, dev: CUdevice) {
        let mut all = self.held();
        let Some(held) = all.get_mut(&dev.0) else { return };
        held.retained -= 1;
        if held.retained == 0 {
            end(lib, all.remove(&dev.0));
        }
    }

    /// The primary context is about to be reset.
    pub(super) fn reset(&self, lib: &Libcuda, dev: CUdevice) {
        let mut all = self.held();
        end(lib, all.remove(&dev.0));
    }
}

fn end(lib: &Libcuda, held: Option<Held>) {
    let Some(Held { green, .. }) = held else { return };
    if let Err(error) = cuda!(lib.cuGreenCtxDestroy(green)) {
        log::warn!("cuGreenCtxDestroy: {error}");
    }
}

/// A green context of so many of a device's multiprocessors.
fn make(lib: &Libcuda, dev: CUdevice, sms: u32) -> Answer<(CUgreenCtx, CUcontext)> {
    let (mut whole, mut part, mut count) = (CUdevResource::default(), CUdevResource::default(), 1);
    cuda!(lib.cuDeviceGetDevResource(dev, &raw mut whole, CU_DEV_RESOURCE_TYPE_SM))?;
    let [multiprocessors, ..] = whole.value;
    if multiprocessors <= sms {
        part = whole;
    } else {
        let rest = std::ptr::null_mut();
        cuda!(lib.cuDevSmResourceSplitByCount(&raw mut part, &raw mut count, &raw const whole, rest, 0, sms))?;
    }
    let (mut desc, mut green, mut context) = (CUdevResourceDesc(0), CUgreenCtx(0), CUcontext(0));
    cuda!(lib.cuDevResourceGenerateDesc(&raw mut desc, &raw const part, 1))?;
    cuda!(lib.cuGreenCtxCreate(&raw mut green, desc, dev, WITH_DEFAULT_STREAM))?;
    let made = cuda!(lib.cuCtxFromGreenCtx(&raw mut context, green));
    made.inspect_err(|_| end(lib, Some(Held { green, context, retained: 0 })))?;
    Ok((green, context))
}
