//! How long it takes to wake who sleeps: the host's thread by a call after a
//! pause, and the guest's by the end of what it waits for.

use std::ffi::c_void;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cuda::Cuda;
use crate::figure::{Figure, unit};
use crate::stats::median;

/// Long enough for everybody to have gone to sleep.
const PAUSE: Duration = Duration::from_millis(10);

/// When the host function returned.
static RETURNED: Mutex<Option<Instant>> = Mutex::new(None);

extern "C" fn pause(_: *mut c_void) {
    sleep(PAUSE);
    if let Ok(mut returned) = RETURNED.lock() {
        *returned = Some(Instant::now());
    }
}

pub(crate) fn run(cuda: &Cuda, quick: bool) -> Result<()> {
    cuda.init()?;
    let session = cuda.session()?;
    let rounds = if quick { 20 } else { 200 };
    let mut samples = Vec::new();
    for _ in 0..rounds {
        sleep(PAUSE);
        let start = Instant::now();
        session.awaited()?;
        samples.push(start.elapsed().as_secs_f64());
    }
    Figure::new("awaited call, host asleep", median(&mut samples) * 1e6, unit::US).tell();
    samples.clear();
    for _ in 0..rounds / 2 {
        session.call_back(pause, std::ptr::null_mut())?;
        session.synchronize()?;
        let returned = RETURNED.lock().ok().and_then(|mut returned| returned.take());
        let returned = returned.context("synchronise came back before the host function")?;
        samples.push(returned.elapsed().as_secs_f64());
    }
    Figure::new("end of a wait, all asleep", median(&mut samples) * 1e6, unit::US).tell();
    Ok(())
}
