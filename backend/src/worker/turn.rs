//! The process's turn (`crate::turn`). A thread that has run many commands
//! without a pause is in a conversation with its guest thread and needs the
//! turn; the first such thread takes it, the last gives it back, and when it
//! is over it goes to another process. Who pauses, or makes calls that block,
//! is not held up by anybody's turn: the kernel's scheduler looks after it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use paravane_protocol::internal;

use crate::turn::{Turn, Turns};

/// An awaited call that takes longer than this has blocked.
const BLOCKS: Duration = Duration::from_micros(50);

/// So many commands without a pause make a conversation; some 0.3 ms.
const CONVERSATION: u32 = 256;

/// So many posted commands for each awaited one make a stream, not a
/// conversation: guest and host need not be awake together, and a core is
/// handed over once for all of them.
const STREAM: u32 = 16;

/// Of so many awaited calls one is measured: reading the as long as a
/// short call's way through the ring.
const MEASURED: u32 = 8;

/// What the threads of a worker share.
#[derive(Debug)]
pub(super) struct ProcessTurn {
    turns: Turns,
    owner: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Threads that serve.
    serving: u32,
    /// There is one while `serving` is not 0.
    turn: Option<Turn>,
}

impl ProcessTurn {
    pub(super) fn new(turns: Turns) -> Self {
        Self { turns, owner: std::process::id(), state: Mutex::default() }
    }

    /// A thread that takes or changes the turn keeps this while it waits: the
    /// others have nothing to do without it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, waits: impl Fn(bool)) -> Turn {
        let mut state = self.state();
        state.serving += 1;
        *state.turn.get_or_insert_with(|| self.turns.take(self.owner, waits))
    }

    fn leave(&self) {
        let mut state = self.state();
        state.serving -= 1;
        if state.serving == 0
            && let Some(turn) = state.turn.take()
        {
            self.turns.give_back(turn);
        }
    }

    /// `over` has ended: the next one, which another thread may have already.
    #[cold]
    fn next(&self, over: Turn, waits: impl Fn(bool)) -> Turn {
        let mut state = self.state();
        if state.turn == Some(over) {
            self.turns.give_back(over);
            state.turn = None;
        }
        *state.turn.get_or_insert_with(|| self.turns.take(self.owner, waits))
    }
}

/// A thread's part in its process's turn.
#[derive(Debug, Default)]
pub(super) struct Serving {
    turn: Option<Turn>,
    /// Commands since the last pause.
    run: u32,
    /// Commands posted since the last awaited call.
    posted: u32,
    streams: bool,
    /// Awaited calls until the next one that is measured.
    unmeasured: u32,
}

impl Serving {
    /// There is a command to run. May wait for the process's turn, and tells
    /// `waits` when it begins and ends to.
    #[inline]
    pub(super) fn begin(&mut self, process: &ProcessTurn, waits: impl Fn(bool)) {
        match self.turn {
            Some(turn) if !process.turns.is_over(turn) => {}
            Some(turn) => self.turn = Some(process.next(turn, waits)),
            None if self.run < CONVERSATION => self.run += 1,
            None if self.streams => {}
            None => self.turn = Some(process.enter(waits)),
        }
    }

    /// Whether this may be a conversation.
    pub(super) fn is_long(&self) -> bool {
        self.run > CONVERSATION / 16
    }

    /// There is a pause.
    pub(super) fn pause(&mut self, process: &ProcessTurn) {
        self.run = 0;
        if self.turn.take().is_some() {
            process.leave();
        }
    }

    /// A posted command was run.
    #[inline]
    pub(super) fn posted(&mut self) {
        self.posted = self.posted.saturating_add(1);
    }

    /// An awaited call begins.
    #[inline]
    pub(super) fn call(&mut self, process: &ProcessTurn, opcode: u16) -> Call {
        self.streams = std::mem::take(&mut self.posted) >= STREAM;
        if self.streams || opcode == internal::CALLBACK_NEXT {
            self.pause(process);
        }
        self.unmeasured = self.unmeasured.checked_sub(1).unwrap_or(MEASURED);
        Call { since: (self.unmeasured == 0).then(Instant::now) }
    }

    /// It has returned.
    #[inline]
    pub(super) fn returned(&mut self, process: &ProcessTurn, call: &Call) {
        if call.since.is_some_and(|since| since.elapsed() > BLOCKS) {
            self.pause(process);
        }
    }
}

/// An awaited call under way.
pub(super) struct Call {
    since: Option<Instant>,
}
