//! What the workers of one VM hand to each other: memory and events of one
//! guest process that another opens. An entry lies under a random token that
//! its owner's guest was given; it goes with its owner. Front ends of one back
//! end are taken for one VM, as processes on the host are that use one socket;
//! a back end of its own is what keeps a VM apart.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use paravane_protocol::limits::SHARES_MAX;

use crate::control::Share;

struct Entry {
    owner: u64,
    share: Share,
}

static ENTRIES: LazyLock<Mutex<HashMap<[u8; 16], Entry>>> = LazyLock::new(Mutex::default);

fn entries() -> MutexGuard<'static, HashMap<[u8; 16], Entry>> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Files an entry of a channel; false where there are too many, or the token
/// is taken.
pub fn put(owner: u64, share: Share) -> bool {
    let mut entries = entries();
    if entries.len() >= SHARES_MAX || entries.contains_key(&share.token) {
        return false;
    }
    entries.insert(share.token, Entry { owner, share });
    true
}

/// What lies under a token.
pub fn get(token: [u8; 16]) -> Option<Share> {
    let entries = entries();
    let Share { bytes, file, .. } = &entries.get(&token)?.share;
    let file = match file {
        Some(file) => Some(OwnedFd::try_clone(file).ok()?),
        None => None,
    };
    Some(Share { token, bytes: *bytes, file })
}

/// A channel is gone with all its entries.
pub fn remove_owner(owner: u64) {
    entries().retain(|_, entry| entry.owner != owner);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_goes_with_its_owner_alone() {
        let share = |token: u8| Share { token: [token; 16], bytes: [7; 64], file: None };
        assert!(put(1, share(1)) && put(2, share(2)) && !put(2, share(1)));
        assert_eq!(get([1; 16]).map(|share| share.bytes), Some([7; 64]));
        remove_owner(2);
        assert!(get([1; 16]).is_some() && get([2; 16]).is_none());
        remove_owner(1);
        assert!(get([1; 16]).is_none());
    }
}
