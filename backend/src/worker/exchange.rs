//! Handing memory to the VM's other workers and taking theirs, through the
//! backend. One question at a time; the control thread brings the answer.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use paravane_protocol::cuda_types::*;

use super::libcuda::Answer;
use crate::control::{FromWorker, Share};
use crate::usage::User;

/// A backend that lives answers long before; one that does not ends this
/// worker anyway.
const PATIENCE: Duration = Duration::from_secs(10);

/// A random name for something that is shared.
pub(super) type Token = [u8; 16];

#[derive(Default)]
pub(super) struct Exchange {
    /// libcuda's handles that are filed, so that each is filed once.
    filed: Mutex<HashMap<[u8; 64], Token>>,
    asking: Mutex<()>,
    answer: Mutex<Option<Option<Share>>>,
    arrived: Condvar,
}

impl Exchange {
    /// The backend has answered: with what was found, or that nothing was.
    pub(super) fn deliver(&self, share: Option<Share>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(share);
        self.arrived.notify_one();
    }

    fn ask(&self, control: BorrowedFd<'_>, question: FromWorker) -> Answer<Option<Share>> {
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        *answer = None;
        question.send(control).map_err(|error| {
            log::warn!("the exchange: {error}");
            CUDA_ERROR_OPERATING_SYSTEM
        })?;
        let waited = self.arrived.wait_timeout_while(answer, PATIENCE, |answer| answer.is_none());
        let (mut answer, _) = waited.unwrap_or_else(PoisonError::into_inner);
        answer.take().ok_or(CUDA_ERROR_OPERATING_SYSTEM)
    }

    /// Files something for the other workers; its token.
    pub(super) fn share(
        &self,
        control: BorrowedFd<'_>,
        bytes: [u8; 64],
        file: Option<OwnedFd>,
    ) -> Answer<Token> {
        let mut known = self.filed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = known.get(&bytes) {
            return Ok(*token);
        }
        let mut token = [0; 16];
        rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())
            .map_err(|_| CUDA_ERROR_OPERATING_SYSTEM)?;
        let filed = self.ask(control, FromWorker::Share(Share { token, bytes, file }))?;
        filed.ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
        // What goes by descriptor alone has no handle that would name it again.
        if bytes != [0; 64] {
            known.insert(bytes, token);
        }
        Ok(token)
    }

    /// The VM's processes that run, with what they use.
    pub(super) fn users(&self, control: BorrowedFd<'_>) -> Answer<Vec<User>> {
        let told = self.ask(control, FromWorker::Users)?.ok_or(CUDA_ERROR_OPERATING_SYSTEM)?;
        User::read(told).map_err(|error| {
            log::warn!("the exchange: {error}");
            CUDA_ERROR_OPERATING_SYSTEM
        })
    }

    /// What was filed under a token of this worker's is gone.
    pub(super) fn withdraw(&self, control: BorrowedFd<'_>, token: Token) {
        let mut known = self.filed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        known.retain(|_, filed| *filed != token);
        if known.len() < before
            && let Err(error) = (FromWorker::Withdraw { token }).send(control)
        {
            log::warn!("the exchange: {error}");
        }
    }

    /// What another worker has filed under a token; CUDA_ERROR_INVALID_VALUE
    /// for nothing.
    pub(super) fn seek(&self, control: BorrowedFd<'_>, token: Token) -> Answer<Share> {
        self.ask(control, FromWorker::Seek { token })?.ok_or(CUDA_ERROR_INVALID_VALUE)
    }
}
