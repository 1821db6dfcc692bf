//! What the device leaves for the thread that speaks to the front end: frames,
//! the cursor, questions. Newer pictures replace older ones that have not gone
//! out, so a front end that is slow misses pictures and holds nobody up.
#![deny(clippy::indexing_slicing)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::frame::{Frame, Update};
use super::shared::{Shared, SharedFrame};
use crate::command::Rect;
use crate::fence::Ticket;

/// Pixels of the cursor's picture on each side; the protocol knows no other.
pub const CURSOR_SIDE: u32 = 64;
/// Bytes of the cursor's picture.
pub const CURSOR_BYTES: usize = 64 * 64 * 4;

/// What a guest asks that the front end knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// GET_DISPLAY_INFO.
    DisplayInfo,
    /// GET_EDID of a scanout.
    Edid(u32),
}

/// What the cursor looks like.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    /// As before.
    Same,
    /// It is not shown.
    Hidden,
    /// Blue, green, red, alpha; [`CURSOR_BYTES`] of them.
    Picture { hot_x: u32, hot_y: u32, pixels: Box<[u8; CURSOR_BYTES]> },
}

/// Where the cursor is.
#[derive(Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The scanout.
    pub scanout: u32,
    /// Pixels from the left.
    pub x: u32,
    /// Pixels from the top.
    pub y: u32,
    /// What it looks like.
    pub shape: Shape,
}

/// The next thing to tell the front end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    Ask(Question, Ticket),
    Cursor(Cursor),
    Size { scanout: u32, width: u32, height: u32 },
    Update { scanout: u32, update: Update },
    Share { scanout: u32, shared: Shared },
    Touch { scanout: u32, rect: Rect },
    End,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// A scanout is here or among the shared ones.
    pub(super) frames: BTreeMap<u32, Frame>,
    pub(super) shared: BTreeMap<u32, SharedFrame>,
    cursor: Option<Cursor>,
    questions: VecDeque<(Question, Ticket)>,
    ended: bool,
}

impl State {
    pub(super) fn ask(&mut self, question: Question, ticket: Ticket) {
        self.questions.push_back((question, ticket));
    }

    /// A picture that has not gone out stays, wherever the cursor moves.
    pub(super) fn point(&mut self, mut cursor: Cursor) {
        if cursor.shape == Shape::Same
            && let Some(older) = self.cursor.take()
        {
            cursor.shape = older.shape;
        }
        self.cursor = Some(cursor);
    }

    /// A scanout shows pixels from now on.
    pub(super) fn set_frame(&mut self, scanout: u32, frame: Frame) {
        self.shared.remove(&scanout);
        self.frames.insert(scanout, frame);
    }

    /// A scanout shows a dma-buf from now on.
    pub(super) fn set_shared(&mut self, scanout: u32, shared: Shared) {
        self.frames.remove(&scanout);
        self.shared.insert(scanout, SharedFrame::new(shared));
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    fn next(&mut self) -> Option<Work> {
        if self.ended {
            return Some(Work::End);
        }
        if let Some((question, ticket)) = self.questions.pop_front() {
            return Some(Work::Ask(question, ticket));
        }
        if let Some(cursor) = self.cursor.take() {
            return Some(Work::Cursor(cursor));
        }
        let pixels = self.frames.iter_mut().find_map(|(scanout, frame)| {
            let scanout = *scanout;
            if let Some((width, height)) = frame.take_news() {
                return Some(Work::Size { scanout, width, height });
            }
            frame.take_update().map(|update| Work::Update { scanout, update })
        });
        pixels.or_else(|| {
            self.shared.iter_mut().find_map(|(scanout, frame)| {
                let scanout = *scanout;
                if let Some(shared) = frame.take_news() {
                    return Some(Work::Share { scanout, shared });
                }
                frame.take_damage().map(|rect| Work::Touch { scanout, rect })
            })
        })
    }
}

/// The state, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and has the thread look.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_one();
        result
    }

    /// Waits for work.
    pub(super) fn take(&self) -> Work {
        let mut state = self.state();
        loop {
            if let Some(work) = state.next() {
                return work;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(x: u32, shape: Shape) -> Cursor {
        Cursor { scanout: 0, x, y: 0, shape }
    }

    fn picture() -> Shape {
        Shape::Picture { hot_x: 1, hot_y: 2, pixels: Box::new([3; CURSOR_BYTES]) }
    }

    #[test]
    fn a_cursors_picture_goes_out_where_it_is_last() {
        let desk = Desk::default();
        desk.with(|state| {
            state.point(cursor(1, picture()));
            state.point(cursor(5, Shape::Same));
        });
        assert_eq!(desk.take(), Work::Cursor(cursor(5, picture())));
        desk.with(|state| {
            state.point(cursor(6, Shape::Same));
            state.point(cursor(7, Shape::Hidden));
            state.point(cursor(8, Shape::Same));
        });
        assert_eq!(desk.take(), Work::Cursor(cursor(8, Shape::Hidden)));
    }

    #[test]
    fn a_size_goes_before_its_pixels() {
        let desk = Desk::default();
        desk.with(|state| {
            state.frames.insert(0, Frame::new(2, 1));
            let whole = crate::command::Rect { x: 0, y: 0, width: 2, height: 1 };
            let frame = state.frames.get_mut(&0).unwrap();
            frame.draw(&whole, 1, |_| None, |_, _, pixels| {
                pixels.fill(8);
                Some(())
            })
        });
        assert_eq!(desk.take(), Work::Size { scanout: 0, width: 2, height: 1 });
        assert!(matches!(desk.take(), Work::Update { scanout: 0, update } if update.pixels == [8; 8]));
        desk.with(State::end);
        assert_eq!(desk.take(), Work::End);
    }
}
