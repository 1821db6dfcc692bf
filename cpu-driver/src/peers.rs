//! Peers: which contexts' kernels reach the memory of which others, on another device. A program enables it for a pair
//! of contexts; what a device's kernels reach is what any of its contexts may, as all contexts of one device reach each other's.

use crate::context::Context;
use crate::device::Device;
use crate::memory::arena;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A context by its number, on its device.
type Side = (u64, Device);

/// Who reaches whom.
static ENABLED: Mutex<Vec<(Side, Side)>> = Mutex::new(Vec::new());

fn enabled() -> MutexGuard<'static, Vec<(Side, Side)>> {
    ENABLED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn side(context: &Context) -> Side {
    (context.owner, context.device)
}

/// Marks every device's memory for those who reach it.
fn mark(enabled: &[(Side, Side)]) {
    for device in Device::all() {
        let of_device = enabled.iter().filter(|(_, (_, to))| *to == device);
        arena().set_peers(device, of_device.fold(0, |devices, ((_, from), _)| devices | from.bit()));
    }
}

/// Lets `from` reach the memory of `to`; false where it does.
pub fn enable(from: &Context, to: &Context) -> bool {
    let (mut enabled, pair) = (enabled(), (side(from), side(to)));
    if enabled.contains(&pair) {
        return false;
    }
    enabled.push(pair);
    mark(&enabled);
    true
}

/// Takes that back; false where it was not so.
pub fn disable(from: &Context, to: &Context) -> bool {
    let (mut enabled, pair) = (enabled(), (side(from), side(to)));
    let before = enabled.len();
    enabled.retain(|known| *known != pair);
    mark(&enabled);
    enabled.len() < before
}

/// A context is over.
pub fn forget(context: &Context) {
    let (mut enabled, gone) = (enabled(), side(context));
    let before = enabled.len();
    enabled.retain(|(from, to)| *from != gone && *to != gone);
    if enabled.len() < before {
        mark(&enabled);
    }
}
