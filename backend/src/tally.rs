//! Memory that is counted where it is asked for, of the VM's budget: a
//! renderer's textures (`gl/dues.rs`), and what Vulkan allocates
//! (`renderer/vulkan`). An account shows it.
#![deny(clippy::indexing_slicing)]

use std::io;
use std::os::fd::AsFd;

use crate::account::AccountPage;
use crate::budget::Share;

/// A slot of the budget, and what is in it.
#[derive(Debug)]
pub(crate) struct Tally {
    share: Share,
    bytes: u64,
}

impl Tally {
    /// That of a slot, which nobody else has.
    ///
    /// # Errors
    /// The file is no budget, or there is no such slot.
    pub(crate) fn map(budget: impl AsFd, slot: usize) -> io::Result<Self> {
        Share::map(budget, slot).map(|share| Self { share, bytes: 0 })
    }

    /// Takes bytes; `None` where they would go beyond the quota, else what there is now.
    pub(crate) fn take(&mut self, bytes: u64, account: &AccountPage) -> Option<u64> {
        self.share.reserve(bytes).then(|| self.set(self.bytes.saturating_add(bytes), account))
    }

    /// Gives bytes back; what there is now.
    pub(crate) fn give_back(&mut self, bytes: u64, account: &AccountPage) -> u64 {
        self.share.give_back(bytes);
        self.set(self.bytes.saturating_sub(bytes), account)
    }

    fn set(&mut self, bytes: u64, account: &AccountPage) -> u64 {
        self.bytes = bytes;
        self.share.show(bytes, 0);
        account.set_memory(bytes);
        bytes
    }
}
