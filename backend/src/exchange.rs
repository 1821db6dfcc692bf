//! What the workers of one VM hand to each other: memory and events of one
//! guest process that another opens. An entry lies under a random token that
//! its owner's guest was given; it goes with its owner, or when the guest has
//! freed what it names. Front ends of one back
//! end are taken for one VM, as processes on the host are that use one socket;
//! a back end of its own is what keeps a VM apart.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use paravane_protocol::limits::SHARES_MAX;

use crate::control::Share;

struct Entry {
    owner: u64,
    share: Share,
}

/// All entries of one back end.
#[derive(Default)]
pub struct Shares {
    entries: Mutex<HashMap<[u8; 16], Entry>>,
}

impl Shares {
    fn entries(&self) -> MutexGuard<'_, HashMap<[u8; 16], Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files an entry of a channel; false where there are too many, or the token
    /// is taken.
    pub fn put(&self, owner: u64, share: Share) -> bool {
        let mut entries = self.entries();
        if entries.len() >= SHARES_MAX || entries.contains_key(&share.token) {
            return false;
        }
        entries.insert(share.token, Entry { owner, share });
        true
    }

    /// What lies under a token.
    pub fn get(&self, token: [u8; 16]) -> Option<Share> {
        let entries = self.entries();
        let Share { bytes, file, .. } = &entries.get(&token)?.share;
        let file = match file {
            Some(file) => Some(OwnedFd::try_clone(file).ok()?),
            None => None,
        };
        Some(Share { token, bytes: *bytes, file })
    }

    /// What an entry of this channel names is gone.
    pub fn remove(&self, owner: u64, token: [u8; 16]) {
        let mut entries = self.entries();
        if entries.get(&token).is_some_and(|entry| entry.owner == owner) {
            entries.remove(&token);
        }
    }

    /// A channel is gone with all its entries.
    pub fn remove_owner(&self, owner: u64) {
        self.entries().retain(|_, entry| entry.owner != owner);
    }
}

impl std::fmt::Debug for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shares({})", self.entries().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(token: u8) -> Share {
        Share { token: [token; 16], bytes: [7; 64], file: None }
    }

    #[test]
    fn an_entry_goes_with_its_owner_alone() {
        let shares = Shares::default();
        assert!(shares.put(1, share(1)) && shares.put(2, share(2)) && !shares.put(2, share(1)));
        assert_eq!(shares.get([1; 16]).map(|share| share.bytes), Some([7; 64]));
        shares.remove_owner(2);
        assert!(shares.get([1; 16]).is_some() && shares.get([2; 16]).is_none());
        shares.remove_owner(1);
        assert!(shares.get([1; 16]).is_none());
    }

    #[test]
    fn only_its_owner_withdraws_an_entry() {
        let shares = Shares::default();
        assert!(shares.put(1, share(1)));
        shares.remove(2, [1; 16]);
        assert!(shares.get([1; 16]).is_some());
        shares.remove(1, [1; 16]);
        assert!(shares.get([1; 16]).is_none() && shares.put(2, share(1)));
    }
}
