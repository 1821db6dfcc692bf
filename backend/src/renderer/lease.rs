//! A renderer's side of its VM's lease. Each message that makes the GPU work is
//! learned and measured by itself: virglrenderer lets nobody put timer queries
//! into its contexts, so GPU time is that from the start of a message, where
//! nothing was in flight, to its fence; of what overlaps, the union.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paravane_protocol::virtio_gpu::{TransferHost3d, ctrl};
use paravane_scheduler::{Estimates, MS, Nanos, Shape};
use zerocopy::FromBytes;

use super::hear::Message;
use crate::account::AccountPage;
use crate::gl::wire::{self, ReadBack};
use crate::lease::gate::{Gate, Over};
use crate::lease::page::{VmPage, now_ns};

/// Messages that may always be in flight, whatever they cost: one is drawn, one
/// is ready.
const MESSAGES: usize = 2;
/// What nobody knows counts for so much.
const UNKNOWN: Nanos = 2 * MS;
/// Who waits for fences looks after those that nobody reports.
const LOOK: Duration = Duration::from_millis(2);

/// Kinds of work: transfers, pixels for a screen, and for each context its submits.
const TRANSFER: u64 = 1;
const PIXELS: u64 = 2;
const SUBMIT: u64 = 1 << 32;

/// The work that a message is; `None`: it makes the GPU do nothing. A context's
/// submits of one length are taken to be alike: a program's frames mostly are.
pub(super) fn shape(message: &Message) -> Option<Shape> {
    let body = message.body.as_slice();
    let product = |sides: &[u32]| sides.iter().fold(1, |all: u64, side| all.saturating_mul((*side).into()));
    let (kind, size) = match message.head.kind.get() {
        ctrl::SUBMIT_3D => (SUBMIT | u64::from(message.head.context.get()), body.len() as u64),
        ctrl::TRANSFER_TO_HOST_3D | ctrl::TRANSFER_FROM_HOST_3D => {
            let (of, _) = TransferHost3d::read_from_prefix(body).ok()?;
            (TRANSFER, product(&[of.w.get(), of.h.get(), of.d.get()]))
        }
        wire::READ_BACK => {
            let (of, _) = ReadBack::read_from_prefix(body).ok()?;
            (PIXELS, product(&[of.width.get(), of.height.get()]))
        }
        _ => return None,
    };
    Some(Shape { kind, size })
}

/// Work that may be issued, until it is over.
#[derive(Debug)]
pub(super) struct Work {
    account: Arc<AccountPage>,
    shape: Shape,
    weight: Nanos,
    until: Nanos,
}

#[derive(Default)]
struct State {
    estimates: Estimates,
    flying: usize,
    weight: Nanos,
    /// While something flies: up to when it is charged.
    charged: Nanos,
}

/// The lease, and the accounts of what is drawn.
pub(super) struct RendererLease {
    gate: Gate,
    /// The device's place among the VM's.
    device: usize,
    /// What is no program's.
    account: Arc<AccountPage>,
    /// Those of contexts.
    accounts: Mutex<HashMap<u32, Arc<AccountPage>>>,
    state: Mutex<State>,
    departed: Condvar,
}

impl RendererLease {
    /// What the device's first message brings.
    pub(super) fn new(first: Message) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the first message brings no lease");
        if first.head.kind.get() != wire::DUES {
            return Err(wrong());
        }
        let number = first.body.as_slice().try_into().map(u32::from_le_bytes).map_err(|_| wrong())?;
        let [account, page, kick] = first.files.try_into().map_err(|_| wrong())?;
        let gate = Gate::new(VmPage::map(page)?, kick);
        let device = usize::try_from(number).map_err(|_| wrong())?;
        Ok(Self { device, ..Self::at(gate, AccountPage::map(account)?) })
    }

    fn at(gate: Gate, account: AccountPage) -> Self {
        let (account, accounts) = (Arc::new(account), Mutex::default());
        Self { gate, device: 0, account, accounts, state: Mutex::default(), departed: Condvar::new() }
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<u32, Arc<AccountPage>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A context comes: whose account its work is in.
    pub(super) fn context_begins(&self, context: u32, page: OwnedFd) {
        match AccountPage::map(page) {
            Ok(account) => drop(self.accounts().insert(context, Arc::new(account))),
            Err(error) => log::warn!("the account of context {context}: {error}"),
        }
    }

    /// A context has gone.
    pub(super) fn context_ended(&self, context: u32) {
        self.accounts().remove(&context);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until work of a shape, a context's, may be issued. Meanwhile `poll`
    /// looks after fences.
    pub(super) fn admit(&self, shape: Shape, context: u32, poll: impl Fn()) -> Work {
        let own = || Arc::clone(&self.account);
        let account = self.accounts().get(&context).map_or_else(own, Arc::clone);
        let (cost, known) = {
            let state = self.lock();
            (state.estimates.predict(shape), state.estimates.knows(shape))
        };
        let pass = || self.gate.pass(cost, || has_room(&self.lock(), self.gate.flight_ns()));
        if !pass() {
            let looks = || {
                poll();
                pass()
            };
            let room = || has_room(&self.lock(), self.gate.flight_ns());
            self.gate.wait(&account, looks, room, || self.wait_for_room());
        }
        self.gate.begins();
        let until = self.gate.end().unwrap_or(0);
        let weight = if known { cost } else { UNKNOWN };
        self.gate.add_ahead(weight);
        let mut state = self.lock();
        if state.flying == 0 {
            state.charged = now_ns();
        }
        state.flying += 1;
        state.weight = state.weight.saturating_add(weight);
        Work { account, shape, weight, until }
    }

    fn wait_for_room(&self) {
        let full = |state: &mut State| !has_room(state, self.gate.flight_ns());
        // Whether there is room or not, the gate is asked again.
        drop(self.departed.wait_timeout_while(self.lock(), LOOK, full));
    }

    /// All of it is drawn.
    pub(super) fn over(&self, work: Work) {
        let mut state = self.lock();
        let now = now_ns();
        let used = now.saturating_sub(std::mem::replace(&mut state.charged, now));
        state.estimates.learn(work.shape, used);
        state.flying -= 1;
        state.weight = state.weight.saturating_sub(work.weight);
        drop(state);
        work.account.add_gpu_time(self.device, used);
        self.gate.ends(&work.account, Over { used, ahead: work.weight, until: work.until });
        self.departed.notify_all();
    }
}

fn has_room(state: &State, flight: Nanos) -> bool {
    state.flying < MESSAGES || state.weight < flight
}

#[cfg(test)]
impl RendererLease {
    /// One whose lease is open.
    pub(super) fn open() -> Self {
        let (page, file) = VmPage::create().unwrap();
        page.grant(crate::lease::page::Grant::Open, 0);
        let kick = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        Self::at(Gate::new(VmPage::map(file).unwrap(), kick), AccountPage::create().unwrap().0)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.lock().flying
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::account::Counter;
    use crate::gl::wire::Head;

    const SHAPE: Shape = Shape { kind: SUBMIT, size: 64 };

    #[test]
    fn what_overlaps_is_charged_once() {
        let lease = RendererLease::open();
        let before = now_ns();
        let works: Vec<Work> = (0..2).map(|_| lease.admit(SHAPE, 7, || ())).collect();
        works.into_iter().for_each(|work| lease.over(work));
        let passed = now_ns() - before;
        let charged = lease.account.counter(Counter::GpuTimeNs).load(Ordering::Relaxed);
        assert!((1..=passed).contains(&charged), "{charged} of {passed}");
        assert_eq!((lease.in_flight(), lease.lock().weight), (0, 0));
    }

    #[test]
    fn each_programs_work_is_in_its_account_also_after_its_context() {
        let lease = RendererLease::open();
        let (page, file) = AccountPage::create().unwrap();
        lease.context_begins(7, file);
        let [of_program, other] = [7, 8].map(|context| lease.admit(SHAPE, context, || ()));
        lease.context_ended(7);
        lease.over(other);
        let charged = |page: &AccountPage| page.counter(Counter::GpuTimeNs).load(Ordering::Relaxed);
        assert!(charged(&lease.account) > 0 && charged(&page) == 0);
        lease.over(of_program);
        assert!(charged(&page) > 0 && lease.accounts().is_empty());
        assert_eq!(page.read_devices()[0], charged(&page), "of the device that draws");
    }

    #[test]
    fn a_queue_is_short_and_never_empty() {
        let state = |flying, weight| State { flying, weight, ..State::default() };
        assert!(has_room(&state(1, 50 * MS), 4 * MS), "one is drawn, one is ready");
        assert!(has_room(&state(9, 3 * MS), 4 * MS) && !has_room(&state(2, 4 * MS), 4 * MS));
    }

    #[test]
    fn messages_that_make_nothing_draw_pass() {
        let message = |kind: u32, body: Vec<u8>| Message {
            head: Head { kind: kind.into(), context: 7.into(), ..Head::default() },
            body,
            files: Vec::new(),
        };
        let submit = shape(&message(ctrl::SUBMIT_3D, vec![0; 12]));
        assert_eq!(submit, Some(Shape { kind: SUBMIT | 7, size: 12 }));
        assert_eq!(shape(&message(ctrl::TRANSFER_TO_HOST_3D, vec![0xff; 3])), None);
        let huge = shape(&message(ctrl::TRANSFER_TO_HOST_3D, vec![0xff; 64])).unwrap();
        assert_eq!(huge, Shape { kind: TRANSFER, size: u64::MAX });
        assert_eq!(shape(&message(ctrl::RESOURCE_UNREF, vec![0; 8])), None);
    }
}
