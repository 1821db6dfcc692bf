//! The order of answers. A guest's kernel takes the answer to one fenced
//! command as the end of all older ones on its timeline, so an answer waits
//! until its elders are out. Unfenced commands wait for nobody.
#![deny(clippy::indexing_slicing)]

use std::collections::{HashMap, VecDeque};

use paravane_protocol::virtio_gpu::{CtrlHdr, FLAG_FENCE, FLAG_INFO_RING_IDX};

/// Commands whose fences signal each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timeline {
    /// All without a timeline of their own.
    Global,
    /// A timeline of a context.
    Context {
        /// The context.
        id: u32,
        /// The timeline's number in it.
        ring: u8,
    },
}

impl Timeline {
    /// The timeline of a command, if it is fenced.
    pub fn of(command: &CtrlHdr) -> Option<Self> {
        let flags = command.flags.get();
        if flags & FLAG_FENCE == 0 {
            None
        } else if flags & FLAG_INFO_RING_IDX == 0 {
            Some(Self::Global)
        } else {
            Some(Self::Context { id: command.ctx_id.get(), ring: command.ring_idx })
        }
    }
}

/// Names a command that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

struct Entry<A> {
    ticket: Ticket,
    answer: A,
    done: bool,
}

/// All commands that wait, for something or for their elders. `A` is what it
/// takes to answer one.
pub struct Timelines<A> {
    issued: u64,
    fenced: HashMap<Timeline, VecDeque<Entry<A>>>,
    unfenced: HashMap<Ticket, A>,
    timeline_of: HashMap<Ticket, Timeline>,
}

impl<A> Default for Timelines<A> {
    fn default() -> Self {
        Self {
            issued: 0,
            fenced: HashMap::new(),
            unfenced: HashMap::new(),
            timeline_of: HashMap::new(),
        }
    }
}

impl<A> Timelines<A> {
    /// A command that is done. Returns its answer unless elders are out; then
    /// it comes from the elders' [`Timelines::complete`].
    pub fn finish(&mut self, timeline: Option<Timeline>, answer: A) -> Option<A> {
        match timeline.and_then(|timeline| self.fenced.get_mut(&timeline)) {
            None => Some(answer),
            Some(entries) => {
                self.issued += 1;
                entries.push_back(Entry { ticket: Ticket(self.issued), answer, done: true });
                None
            }
        }
    }

    /// A command that is not done yet.
    pub fn wait(&mut self, timeline: Option<Timeline>, answer: A) -> Ticket {
        self.issued += 1;
        let ticket = Ticket(self.issued);
        match timeline {
            None => {
                self.unfenced.insert(ticket, answer);
            }
            Some(timeline) => {
                let entries = self.fenced.entry(timeline).or_default();
                entries.push_back(Entry { ticket, answer, done: false });
                self.timeline_of.insert(ticket, timeline);
            }
        }
        ticket
    }

    /// Changes the answer to a command that is not done yet.
    pub fn amend(&mut self, ticket: Ticket, change: impl FnOnce(&mut A)) {
        let answer = match self.timeline_of.get(&ticket).and_then(|timeline| self.fenced.get_mut(timeline)) {
            None => self.unfenced.get_mut(&ticket),
            Some(entries) => entries.iter_mut().find(|entry| entry.ticket == ticket).map(|entry| &mut entry.answer),
        };
        answer.map(change);
    }

    /// A command is done now. Returns the answers that may go out, in order.
    pub fn complete(&mut self, ticket: Ticket) -> Vec<A> {
        let Some(timeline) = self.timeline_of.remove(&ticket) else {
            return self.unfenced.remove(&ticket).into_iter().collect();
        };
        let Some(entries) = self.fenced.get_mut(&timeline) else { return Vec::new() };
        for entry in entries.iter_mut().filter(|entry| entry.ticket == ticket) {
            entry.done = true;
        }
        let mut out = Vec::new();
        while entries.front().is_some_and(|entry| entry.done) {
            out.extend(entries.pop_front().map(|entry| entry.answer));
        }
        if entries.is_empty() {
            self.fenced.remove(&timeline);
        }
        out
    }

    /// Takes all answers, each timeline's in order, whatever they wait for.
    pub fn take_all(&mut self) -> Vec<A> {
        self.timeline_of.clear();
        let fenced = std::mem::take(&mut self.fenced).into_values().flatten();
        let unfenced = std::mem::take(&mut self.unfenced).into_values();
        fenced.map(|entry| entry.answer).chain(unfenced).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GLOBAL: Option<Timeline> = Some(Timeline::Global);
    const RING: Option<Timeline> = Some(Timeline::Context { id: 1, ring: 0 });

    #[test]
    fn an_answer_waits_for_its_elders() {
        let mut lines = Timelines::default();
        let first = lines.wait(GLOBAL, 1);
        let second = lines.wait(GLOBAL, 2);
        assert_eq!(lines.finish(GLOBAL, 3), None);
        assert!(lines.complete(second).is_empty());
        assert_eq!(lines.complete(first), [1, 2, 3]);
        assert_eq!(lines.finish(GLOBAL, 4), Some(4));
    }

    #[test]
    fn timelines_and_unfenced_commands_wait_for_nobody() {
        let mut lines = Timelines::default();
        let held = lines.wait(GLOBAL, 1);
        assert_eq!(lines.finish(None, 2), Some(2));
        assert_eq!(lines.finish(RING, 3), Some(3));
        let other = lines.wait(RING, 4);
        let loose = lines.wait(None, 5);
        assert_eq!(lines.complete(other), [4]);
        assert_eq!(lines.complete(loose), [5]);
        assert_eq!(lines.complete(held), [1]);
        assert!(lines.complete(held).is_empty());
    }

    #[test]
    fn the_header_names_the_timeline() {
        let mut header = CtrlHdr { ctx_id: 7.into(), ring_idx: 3, ..CtrlHdr::default() };
        assert_eq!(Timeline::of(&header), None);
        header.flags = FLAG_FENCE.into();
        assert_eq!(Timeline::of(&header), GLOBAL);
        header.flags = (FLAG_FENCE | FLAG_INFO_RING_IDX).into();
        assert_eq!(Timeline::of(&header), Some(Timeline::Context { id: 7, ring: 3 }));
    }

    #[test]
    fn all_answers_can_be_taken_at_once() {
        let mut lines = Timelines::default();
        let first = lines.wait(GLOBAL, 1);
        assert_eq!(lines.finish(GLOBAL, 2), None);
        lines.wait(None, 3);
        assert_eq!(lines.take_all(), [1, 2, 3]);
        assert!(lines.complete(first).is_empty());
        assert_eq!(lines.finish(GLOBAL, 4), Some(4));
    }

    proptest! {
        #[test]
        fn every_answer_goes_out_once_and_in_order(
            commands in proptest::collection::vec((0..3_u8, any::<bool>()), 1..60),
            order in proptest::collection::vec(any::<usize>(), 60),
        ) {
            let mut lines = Timelines::default();
            let mut out = Vec::new();
            let mut waiting = Vec::new();
            for (n, (line, done)) in commands.iter().enumerate() {
                let timeline = match line { 0 => None, 1 => GLOBAL, _ => RING };
                if *done {
                    out.extend(lines.finish(timeline, (*line, n)));
                } else {
                    waiting.push(lines.wait(timeline, (*line, n)));
                }
            }
            for pick in order.iter().take(waiting.len()) {
                let ticket = waiting.swap_remove(pick % waiting.len());
                out.extend(lines.complete(ticket));
            }
            prop_assert_eq!(out.len(), commands.len());
            for line in 1..3 {
                let of_line: Vec<_> = out.iter().filter(|(l, _)| *l == line).collect();
                prop_assert!(of_line.is_sorted());
            }
        }
    }
}
