//! Usage counts of contexts (cuCtxAttach, cuCtxDetach), which CUDA has kept
//! from its first versions.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use paravane_protocol::cuda_types::CUcontext;

/// Attachments beyond the first, by context.
static ATTACHED: Mutex<Option<HashMap<u64, u32>>> = Mutex::new(None);

/// One more user of a context.
pub fn attach(context: CUcontext) {
    let mut attached = ATTACHED.lock().unwrap_or_else(PoisonError::into_inner);
    *attached.get_or_insert_default().entry(context.0).or_default() += 1;
}

/// One user less; false when it was the last.
pub fn detach(context: CUcontext) -> bool {
    let mut attached = ATTACHED.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = attached.get_or_insert_default();
    let Some(count) = counts.get_mut(&context.0) else { return false };
    *count -= 1;
    if *count == 0 {
        counts.remove(&context.0);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_often_attached_as_detached() {
        let context = CUcontext(77);
        attach(context);
        attach(context);
        assert!(detach(context) && detach(context) && !detach(context));
    }
}
