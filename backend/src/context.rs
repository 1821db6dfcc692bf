//! The 3D contexts of one connection. A guest's kernel makes one for every
//! process that opens the render node; the renderer hears of those in which
//! something is drawn (`gl/`).

use std::collections::HashSet;

use paravane_protocol::channel::CAPSET_ID;
use paravane_protocol::limits::CONTEXTS_MAX;

use crate::response::Refusal;

/// All contexts.
#[derive(Debug, Default)]
pub struct Contexts {
    ids: HashSet<u32>,
}

impl Contexts {
    /// Adds a context for a capset of the device; 0 is the default one.
    pub fn create(&mut self, id: u32, capset: u32, of_gl: bool) -> Result<(), Refusal> {
        if capset != 0 && capset != CAPSET_ID && !of_gl {
            return Err(Refusal::InvalidParameter);
        }
        if self.ids.len() >= CONTEXTS_MAX {
            return Err(Refusal::OutOfMemory);
        }
        if self.ids.insert(id) { Ok(()) } else { Err(Refusal::InvalidContext) }
    }

    /// Refuses a context that is not there.
    pub fn check(&self, id: u32) -> Result<(), Refusal> {
        if self.ids.contains(&id) { Ok(()) } else { Err(Refusal::InvalidContext) }
    }

    /// Forgets a context.
    pub fn destroy(&mut self, id: u32) -> Result<(), Refusal> {
        if self.ids.remove(&id) { Ok(()) } else { Err(Refusal::InvalidContext) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_lives_from_create_to_destroy() {
        let mut contexts = Contexts::default();
        assert_eq!(contexts.create(3, CAPSET_ID, false), Ok(()));
        assert_eq!(contexts.create(3, 0, false), Err(Refusal::InvalidContext));
        assert_eq!(contexts.create(4, 2, false), Err(Refusal::InvalidParameter));
        assert_eq!(contexts.create(4, 2, true), Ok(()));
        assert_eq!(contexts.check(3), Ok(()));
        assert_eq!(contexts.destroy(3), Ok(()));
        assert_eq!(contexts.check(3), Err(Refusal::InvalidContext));
        assert_eq!(contexts.destroy(3), Err(Refusal::InvalidContext));
    }
}
