//! A ring's host thread: it is to libcuda what the guest's thread is to its
//! program, with the same current context and the same order of calls.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use paravane_protocol::codec::{Decoder, Encoder};
use paravane_protocol::cuda_types::*;
use paravane_protocol::frame::{FLAG_AWAITED, FrameHeader};
use paravane_protocol::internal;
use paravane_protocol::limits::{FRAME_BYTES_MAX, REPLY_BYTES_MAX, RING_BYTES};
use paravane_protocol::opcode;
use paravane_protocol::patience::{Patience, Step};
use paravane_protocol::ring::{self, Consumer, word};
use paravane_protocol::shared::{Shared, SharedPages};

use super::arg::Scope;
use super::dispatch::{Command, dispatch};
use super::lease::{Class, Part};
use super::libcuda::{Answer, cuda};
use super::order::RingState;
use super::process::Process;
use super::swap::{self, Entry};
use super::turn::Serving;
use super::wake;
use crate::account::{Counter, Gauge};

/// Wake-ups in a row that found nothing, after which the thread sleeps for
/// [`PENALTY`] first: a guest that plays with the words gains no host time.
const FRUITLESS_MAX: u32 = 16;
const PENALTY: Duration = Duration::from_millis(2);

/// How long a thread sleeps before that counts as a pause.
const BRIEFLY: Duration = Duration::from_millis(1);

/// Calls that may begin or end a context.
const CONTEXT_OPCODES: [u16; 5] = [
    opcode::cuDevicePrimaryCtxRetain,
    opcode::cuDevicePrimaryCtxRelease_v2,
    opcode::cuDevicePrimaryCtxReset_v2,
    opcode::cuCtxCreate_v2,
    opcode::cuCtxDestroy_v2,
];

/// Calls behind which streams have come by, and pools may have given back.
const WAITS: [u16; 5] = [
    opcode::cuStreamSynchronize,
    opcode::cuStreamQuery,
    opcode::cuCtxSynchronize,
    opcode::cuEventSynchronize,
    opcode::cuEventQuery,
];

/// What a thread has done since it told the account.
#[derive(Default)]
struct Tally {
    awaited: u64,
    posted: u64,
    kernels: u64,
    graphs: u64,
}

/// A ring's thread.
pub(super) struct Thread {
    process: Arc<Process>,
    ring: Arc<RingState>,
    others: Vec<Arc<RingState>>,
    /// The guest's id of the context that is current here; 0 for none.
    pub(super) context: u64,
    /// The image that is arriving.
    pub(super) image: Vec<u8>,
    pub(super) image_bytes: u64,
    tally: Tally,
    patience: Patience,
    serving: Serving,
    part: Part,
    /// [`Parts::made`](super::parts::Parts::made) when the current context was set.
    parts_made: u32,
    done: u32,
    replies: u32,
}

impl Thread {
    pub(super) fn new(process: Arc<Process>, ring: Arc<RingState>) -> Self {
        Self {
            process,
            ring,
            others: Vec::new(),
            context: 0,
            image: Vec::new(),
            image_bytes: 0,
            tally: Tally::default(),
            patience: Patience::default(),
            serving: Serving::default(),
            part: Part::default(),
            parts_made: 0,
            done: 0,
            replies: 0,
        }
    }

    pub(super) fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process)
    }

    pub(super) fn process_ref(&self) -> &Process {
        &self.process
    }

    pub(super) fn scope<'a>(&self, process: &'a Process) -> Scope<'a> {
        Scope { handles: &process.handles, context: self.home() }
    }

    /// The context with which ends what is made now: the current one, or a green
    /// one's primary context.
    pub(super) fn home(&self) -> u64 {
        self.process.handles.home(self.context)
    }

    /// The guest broke the protocol; does not return.
    pub(super) fn broke_protocol(&self, why: &str) {
        self.process.die(why);
    }

    pub(super) fn count_kernel(&mut self) {
        self.tally.kernels += 1;
    }

    /// Serves the ring until the process ends.
    pub(super) fn serve(mut self) {
        let mut consumer: Consumer<SharedPages> =
            Consumer::new(self.ring.control, self.ring.commands, RING_BYTES);
        let mut body = Vec::with_capacity(FRAME_BYTES_MAX as usize);
        let mut reply = vec![0; REPLY_BYTES_MAX as usize].into_boxed_slice();
        let mut fruitless = 0;
        loop {
            match consumer.pop(&mut body) {
                Ok(Some(header)) => {
                    fruitless = 0;
                    let control = self.ring.control;
                    let waits = |waits| {
                        control.store_u32(word::HOST_WAITS, u32::from(waits), Ordering::Relaxed)
                    };
                    self.serving.begin(&self.process.turn, waits);
                    self.run(&consumer, header, &body, &mut reply);
                }
                Ok(None) => self.idle(&consumer, &mut fruitless),
                Err(error) => self.process.die(&error.to_string()),
            }
        }
    }

    fn run(
        &mut self,
        consumer: &Consumer<SharedPages>,
        header: FrameHeader,
        body: &[u8],
        reply: &mut [u8],
    ) {
        // The end of a host function gets through even while a launch blocks
        // because that function holds up the device's queue.
        if !matches!(header.opcode, internal::CALLBACK_NEXT | internal::CALLBACK_DONE) {
            self.wait_for_turn(header.ticket);
        }
        if self.parts_made != self.process.parts.made() {
            self.set_current_again();
        }
        let moving = self.moving();
        let _entry = moving.as_ref().and_then(|process| self.enter(process, header.opcode));
        let class = Class::of(header.opcode, body);
        if class != Class::Other {
            self.before(class);
        }
        let awaited = header.flags & FLAG_AWAITED != 0;
        if awaited {
            // What depends on an awaited call comes after its reply, so nobody
            // has to wait while it blocks.
            self.issued(consumer);
        }
        let ends = matches!(class, Class::Edge | Class::ContextEnds).then(|| self.process());
        let _edge = ends.as_ref().map(|process| process.leases.hold_edge());
        let context = self.context;
        let call = awaited.then(|| self.serving.call(&self.process.turn, header.opcode));
        let mut command =
            Command { thread: self, from: Decoder::new(body), to: Encoder::new(reply) };
        let special = moving.as_ref().and_then(|_| swap::run(header.opcode, &mut command));
        let answer = special.unwrap_or_else(|| dispatch(header.opcode, &mut command));
        let bytes = command.to.finish();
        match class {
            Class::CaptureEnds if is_over(answer) => self.process.leases.capture_changed(false),
            Class::CaptureBegins if answer.is_err() => self.process.leases.capture_changed(false),
            Class::Work(_) if header.opcode == opcode::cuGraphLaunch && answer.is_ok() => self.tally.graphs += 1,
            _ => {}
        }
        if let Some(call) = call {
            self.serving.returned(&self.process.turn, &call);
            let answer = answer.and(bytes.ok_or(CUDA_ERROR_OUT_OF_MEMORY));
            self.reply(header.opcode, answer, reply);
        } else {
            self.issued(consumer);
            self.tally.posted += 1;
            self.serving.posted();
            if let Err(error) = answer {
                log::debug!("{}: {error}, posted", name(header.opcode));
                self.process.defer(context, error);
            }
        }
        self.done = self.done.wrapping_add(1);
        self.ring.control.store_u32(word::DONE, self.done, Ordering::Release);
    }

    /// Something else stands for a primary context, which may be current here.
    #[cold]
    fn set_current_again(&mut self) {
        let Process { lib, handles, parts, .. } = &*self.process;
        self.parts_made = parts.made();
        if self.context != 0 {
            let native = handles.resolve(CUcontext(self.context)).unwrap_or(CUcontext(0));
            let _ = cuda!(lib.cuCtxSetCurrent(native));
        }
    }

    /// The process, if its memory moves.
    #[inline]
    fn moving(&self) -> Option<Arc<Process>> {
        self.process.swap().map(|_| self.process())
    }

    /// Keeps the process's memory where it is while a command is issued.
    fn enter<'a>(&mut self, process: &'a Process, opcode: u16) -> Option<Entry<'a>> {
        let swap = process.swap().filter(|_| swap::enters(opcode))?;
        let Self { ring, serving, part, context, .. } = self;
        Some(swap.enter(process, |holds| {
            if holds {
                part.end(process, *context);
                serving.pause(&process.turn);
            }
            ring.control.store_u32(word::HOST_WAITS, u32::from(holds), Ordering::Relaxed);
        }))
    }

    /// What the lease has to do before a command is issued.
    #[inline]
    fn before(&mut self, class: Class) {
        let Self { process, ring, serving, part, context, .. } = self;
        let holds = |holds: bool| {
            if holds {
                serving.pause(&process.turn);
            }
            ring.control.store_u32(word::HOST_WAITS, u32::from(holds), Ordering::Relaxed);
        };
        match class {
            Class::Work(work) => return part.admit(process, *context, work, holds),
            Class::Copy => return process.leases.of_current(process, *context).admit_copy(process, holds),
            _ => {}
        }
        if class == Class::Waits && !process.leases.has_limit() {
            return;
        }
        part.end(process, *context);
        match class {
            Class::ContextEnds => process.leases.context_may_end(process),
            Class::CaptureBegins => process.leases.capture_changed(true),
            _ => {}
        }
    }

    #[inline]
    fn issued(&self, consumer: &Consumer<SharedPages>) {
        self.ring.set_issued(consumer.head());
        consumer.release();
    }

    #[inline]
    fn wait_for_turn(&mut self, ticket: u64) {
        if self.others.len() + 1 != self.process.ring_count() {
            self.others = self.process.rings();
            self.others.retain(|other| !Arc::ptr_eq(other, &self.ring));
        }
        for other in &self.others {
            other.wait_behind(ticket);
        }
    }

    fn reply(&mut self, opcode: u16, answer: Result<usize, CUresult>, data: &[u8]) {
        let answer = match (answer, self.process.take_deferred(self.context)) {
            (Ok(_), Some(deferred)) => Err(deferred),
            (answer, _) => answer,
        };
        let (result, bytes) = match answer {
            Ok(bytes) => (CUDA_SUCCESS, bytes),
            Err(error) => {
                log::debug!("{}: {error}", name(opcode));
                (error, 0)
            }
        };
        self.tally.awaited += 1;
        self.settle_account();
        self.settle_use(opcode);
        if self.process.output.waits_after(opcode) {
            self.process.show_output(1);
        }
        let control = &self.ring.control;
        self.ring.reply.write(0, &data[..bytes]);
        control.store_u32(word::REPLY_RESULT, result.0, Ordering::Relaxed);
        control.store_u32(word::REPLY_BYTES, u32::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
        self.replies = self.replies.wrapping_add(1);
        if ring::answer(control, self.replies) {
            wake::guest_thread(control, self.process.same_kernel(), self.process.wake_fd());
        }
    }

    /// Adds what was done since the last time to the account.
    fn settle_account(&mut self) {
        let account = &self.process.account;
        let Tally { awaited, posted, kernels, graphs } = std::mem::take(&mut self.tally);
        let counts = [
            (Counter::CallsAwaited, awaited),
            (Counter::CallsPosted, posted),
            (Counter::Kernels, kernels),
            (Counter::GraphLaunches, graphs),
        ];
        for (counter, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            account.counter(counter).fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Bytes were copied; counted at once, beside a copy it costs nothing.
    pub(super) fn count_bytes(&self, counter: Counter, bytes: u64) {
        self.process.account.counter(counter).fetch_add(bytes, Ordering::Relaxed);
        self.process.leases.of_current(&self.process, self.context).count_copied(bytes);
    }

    /// What a call may have changed without naming it: before the reply, so that who
    /// waits for it finds the account right.
    fn settle_use(&self, opcode: u16) {
        let Process { lib, account, memory, .. } = &*self.process;
        if WAITS.contains(&opcode) {
            memory.after_wait(&self.process);
        }
        if let Some(contexts) = lib.contexts
            && CONTEXT_OPCODES.contains(&opcode)
        {
            let alive = super::libcuda::figure(contexts);
            account.gauge(Gauge::Contexts).store(alive, Ordering::Relaxed);
        }
    }

    /// A short sleep in the middle of a conversation, with the turn: the guest
    /// thread may need this core. Whether there is work.
    fn sleep_briefly(&self, consumer: &Consumer<SharedPages>) -> bool {
        if consumer.may_sleep() {
            wake::sleep_as_host(consumer.control(), Some(BRIEFLY));
            consumer.control().swap_u32(word::HOST_SLEEPS, 0);
        }
        !consumer.is_empty()
    }

    /// The ring is empty: waits for work, at last asleep.
    fn idle(&mut self, consumer: &Consumer<SharedPages>, fruitless: &mut u32) {
        let mut wait = self.patience.wait();
        while wait.step() == Step::Again {
            if !consumer.is_empty() {
                return;
            }
        }
        self.part.end(&self.process, self.context);
        if self.serving.is_long() && self.sleep_briefly(consumer) {
            return;
        }
        self.serving.pause(&self.process.turn);
        self.settle_account();
        self.process.leases.settle_time(&self.process);
        self.process.memory.settle_cheaply(&self.process);
        if *fruitless >= FRUITLESS_MAX {
            std::thread::sleep(PENALTY);
        }
        *fruitless += 1;
        if consumer.may_sleep() {
            wake::sleep_as_host(consumer.control(), None);
        }
    }
}

/// Whether a capture is over behind a call that was to end it: not where another
/// thread or another stream has to, or where there is none.
fn is_over(ended: Answer) -> bool {
    const GO_ON: [CUresult; 4] = [
        CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
        CUDA_ERROR_STREAM_CAPTURE_UNMATCHED,
        CUDA_ERROR_ILLEGAL_STATE,
        CUDA_ERROR_INVALID_HANDLE,
    ];
    !ended.is_err_and(|error| GO_ON.contains(&error))
}

fn name(opcode: u16) -> &'static str {
    opcode::name(opcode).unwrap_or("unknown opcode")
}
