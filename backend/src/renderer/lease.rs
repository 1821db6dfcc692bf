//! A renderer's side of its VM's lease. Each message that makes the GPU work is
//! learned and measured by itself: virglrenderer lets nobody put timer queries
//! into its contexts, so GPU time is that from the start of a message, where
//! nothing was in flight, to its fence; of what overlaps, the union.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paravane_protocol::virtio_gpu::{CAPSET_VENUS, TransferHost3d, ctrl};
use paravane_scheduler::{Estimates, MS, Nanos, Shape};
use zerocopy::FromBytes;

use super::hear::Message;
use crate::account::AccountPage;
use crate::gl::wire::{self, ReadBack};
use crate::lease::gate::{Gate, Over};
use crate::lease::page::{VmPage, now_ns};
use crate::tally::Tally;

/// Messages that may always be in flight, whatever they cost: one is drawn, one
/// is ready.
const MESSAGES: usize = 2;
/// What nobody knows counts for so much.
const UNKNOWN: Nanos = 2 * MS;
/// Who waits for fences looks after those that nobody reports.
const LOOK: Duration = Duration::from_millis(2);
/// Vulkan's work that waits for room goes on when none has ended for so long: what is
/// in flight may wait for it (a semaphore that a later submit signals).
const STALL: Nanos = 20 * MS;

/// Kinds of work: transfers, pixels for a screen, and for each context its submits.
const TRANSFER: u64 = 1;
const PIXELS: u64 = 2;
const SUBMIT: u64 = 1 << 32;
/// And submits of Vulkan, of which a context says what it takes to be alike.
const VULKAN: u64 = 1 << 63;

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

/// The shape of a submit of Vulkan's.
pub(super) fn vulkan_shape(context: u32, alike: u64, command_buffers: u64) -> Shape {
    // Odd: what differs stays different.
    let of_context = u64::from(context).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Shape { kind: VULKAN | (alike ^ of_context), size: command_buffers }
}

/// Whose work is to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// OpenGL's, of a context.
    OpenGl(u32),
    /// Vulkan's, of a context.
    Vulkan(u32),
}

/// Work that may be issued, until it is over.
#[derive(Debug)]
pub(super) struct Work {
    account: Arc<AccountPage>,
    shape: Shape,
    weight: Nanos,
    until: Nanos,
    /// What [`State::stalls`] was when it was issued.
    stalls: u64,
}

#[derive(Default)]
struct State {
    estimates: Estimates,
    flying: usize,
    /// Those of them that take room, and their weight.
    counted: usize,
    weight: Nanos,
    /// While something flies: up to when it is charged.
    charged: Nanos,
    /// When something was over last.
    ended: Nanos,
    /// How often what was in flight was found to wait, and has counted no more.
    stalls: u64,
}

/// What Vulkan has of the VM: the account of what is no program's and of all its
/// memory, and that.
struct Vulkan {
    account: Arc<AccountPage>,
    memory: Mutex<Tally>,
}

impl Vulkan {
    fn map(account: OwnedFd, budget: OwnedFd, slot: u32) -> io::Result<Self> {
        let slot = usize::try_from(slot).map_err(io::Error::other)?;
        let memory = Mutex::new(Tally::map(budget, slot)?);
        Ok(Self { account: Arc::new(AccountPage::map(account)?), memory })
    }
}

/// What is known of a context.
#[derive(Debug)]
struct OfContext {
    capset: u32,
    /// Where its work is, if not in the renderer's own.
    account: Option<Arc<AccountPage>>,
}

/// The lease, and the accounts of what is drawn.
pub(super) struct RendererLease {
    gate: Gate,
    /// The device's place among the VM's.
    device: usize,
    /// What is no program's.
    account: Arc<AccountPage>,
    contexts: Mutex<HashMap<u32, OfContext>>,
    vulkan: Option<Vulkan>,
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
        let mut numbers = first.body.chunks_exact(4).filter_map(|bytes| bytes.try_into().ok().map(u32::from_le_bytes));
        let mut files = first.files.into_iter();
        let mut file = || files.next().ok_or_else(wrong);
        let (account, page, kick) = (file()?, file()?, file()?);
        let gate = Gate::new(VmPage::map(page)?, kick);
        let device = numbers.next().and_then(|number| usize::try_from(number).ok()).ok_or_else(wrong)?;
        let vulkan = numbers.next().map(|slot| Vulkan::map(file()?, file()?, slot)).transpose()?;
        Ok(Self { device, vulkan, ..Self::at(gate, AccountPage::map(account)?) })
    }

    fn at(gate: Gate, account: AccountPage) -> Self {
        let (account, contexts) = (Arc::new(account), Mutex::default());
        let (state, departed) = (Mutex::default(), Condvar::new());
        Self { gate, device: 0, account, contexts, vulkan: None, state, departed }
    }

    fn contexts(&self) -> MutexGuard<'_, HashMap<u32, OfContext>> {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A context of a capset comes, perhaps with an account that its work is in.
    pub(super) fn context_begins(&self, context: u32, capset: u32, page: Option<OwnedFd>) {
        let mapped = page.map(AccountPage::map).transpose();
        let account = mapped.unwrap_or_else(|error| {
            log::warn!("the account of context {context}: {error}");
            None
        });
        self.contexts().insert(context, OfContext { capset, account: account.map(Arc::new) });
    }

    /// A context has gone.
    pub(super) fn context_ended(&self, context: u32) {
        self.contexts().remove(&context);
    }

    /// Whether a context is Vulkan's: its messages make the GPU do nothing, its submits do.
    pub(super) fn is_vulkans(&self, context: u32) -> bool {
        self.contexts().get(&context).is_some_and(|of| of.capset == CAPSET_VENUS)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has Vulkan's dues.
    pub(super) fn has_vulkan(&self) -> bool {
        self.vulkan.is_some()
    }

    /// Takes memory for Vulkan; `false` where it would go beyond the VM's quota.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let Some(vulkan) = &self.vulkan else { return false };
        let mut memory = vulkan.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.take(bytes, &vulkan.account).map(|all| self.gate.set_fixed(all)).is_some()
    }

    /// Gives back what Vulkan has taken.
    pub(super) fn give_back(&self, bytes: u64) {
        let Some(vulkan) = self.vulkan.as_ref().filter(|_| bytes > 0) else { return };
        let mut memory = vulkan.memory.lock().unwrap_or_else(PoisonError::into_inner);
        self.gate.set_fixed(memory.give_back(bytes, &vulkan.account));
    }

    fn account_of(&self, whose: Whose) -> Arc<AccountPage> {
        let (context, own) = match (whose, &self.vulkan) {
            (Whose::Vulkan(context), Some(vulkan)) => (context, &vulkan.account),
            (Whose::Vulkan(context) | Whose::OpenGl(context), _) => (context, &self.account),
        };
        let contexts = self.contexts();
        Arc::clone(contexts.get(&context).and_then(|of| of.account.as_ref()).unwrap_or(own))
    }

    /// Waits until work of a shape may be issued. Meanwhile `poll` looks after fences.
    pub(super) fn admit(&self, shape: Shape, whose: Whose, poll: impl Fn()) -> Work {
        let account = self.account_of(whose);
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
            let since = now_ns();
            let stalls = || {
                if matches!(whose, Whose::Vulkan(_)) {
                    self.note_stall(since);
                }
            };
            self.gate.wait(&account, looks, room, || {
                self.wait_for_room();
                stalls();
            });
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
        state.counted += 1;
        state.weight = state.weight.saturating_add(weight);
        Work { account, shape, weight, until, stalls: state.stalls }
    }

    /// Somebody has waited for room since then: if nothing has ended for long, what is in
    /// flight takes none any more.
    fn note_stall(&self, since: Nanos) {
        let mut state = self.lock();
        if now_ns().saturating_sub(since.max(state.ended)) >= STALL && !has_room(&state, self.gate.flight_ns()) {
            let stalls = state.stalls.wrapping_add(1);
            state.stalls = stalls;
            (state.counted, state.weight) = (0, 0);
        }
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
        state.ended = now;
        if state.stalls == work.stalls {
            state.counted -= 1;
            state.weight = state.weight.saturating_sub(work.weight);
        }
        drop(state);
        work.account.add_gpu_time(self.device, used);
        self.gate.ends(&work.account, Over { used, ahead: work.weight, until: work.until });
        self.departed.notify_all();
    }
}

fn has_room(state: &State, flight: Nanos) -> bool {
    state.counted < MESSAGES || state.weight < flight
}

#[cfg(test)]
impl RendererLease {
    /// One with a quota for Vulkan's memory, and Vulkan's account.
    pub(super) fn with_vulkan(limit: u64) -> (Self, Arc<AccountPage>) {
        let budget = crate::budget::Budget::create(limit).unwrap();
        let (page, file) = AccountPage::create().unwrap();
        let vulkan = Vulkan::map(file, budget.file().try_clone_to_owned().unwrap(), 0).unwrap();
        (Self { vulkan: Some(vulkan), ..Self::open() }, Arc::new(page))
    }

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
        let works: Vec<Work> = (0..2).map(|_| lease.admit(SHAPE, Whose::OpenGl(7), || ())).collect();
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
        lease.context_begins(7, 2, Some(file));
        let [of_program, other] = [7, 8].map(|context| lease.admit(SHAPE, Whose::OpenGl(context), || ()));
        lease.context_ended(7);
        lease.over(other);
        let charged = |page: &AccountPage| page.counter(Counter::GpuTimeNs).load(Ordering::Relaxed);
        assert!(charged(&lease.account) > 0 && charged(&page) == 0);
        lease.over(of_program);
        assert!(charged(&page) > 0 && lease.contexts().is_empty());
        assert_eq!(page.read_devices()[0], charged(&page), "of the device that draws");
    }

    #[test]
    fn a_queue_is_short_and_never_empty() {
        let state = |counted, weight| State { counted, weight, ..State::default() };
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
