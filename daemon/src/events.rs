//! What has happened: the last events, and a stream of those to come.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Events that are kept.
const KEPT_MAX: usize = 1000;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// paravaned has started.
    Started,
    /// A VM has come.
    Registered,
    /// A VM has gone.
    Left,
    /// Somebody who wanted to register was refused.
    Refused,
    /// A guest process has begun.
    ProcessBegan,
    /// A guest process has ended.
    ProcessEnded,
    /// Settings have been changed.
    Set,
    /// Processes are being ended.
    Killed,
    /// The file has been read again.
    Reloaded,
    /// Something is not as it was set.
    Warning,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub kind: Kind,
    /// The VM, or empty.
    pub vm: String,
    /// In words.
    pub text: String,
}

/// All of them.
#[derive(Debug)]
pub struct Events {
    kept: Mutex<VecDeque<Event>>,
    followers: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self { kept: Mutex::default(), followers: broadcast::channel(KEPT_MAX).0 }
    }
}

impl Events {
    /// Something has happened. It is logged too.
    pub fn say(&self, kind: Kind, vm: &str, text: impl Into<String>) {
        let event = Event { at_ms: millis(now()), kind, vm: vm.to_owned(), text: text.into() };
        let level = match kind {
            Kind::Warning | Kind::Refused => log::Level::Warn,
            Kind::ProcessBegan | Kind::ProcessEnded => log::Level::Debug,
            _ => log::Level::Info,
        };
        let of = if vm.is_empty() { String::new() } else { format!("{vm}: ") };
        log::log!(level, "{of}{}", event.text);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // An error means that nobody listens.
        let _ = self.followers.send(event);
    }

    /// The last ones, and those to come from then on.
    pub fn follow(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.followers.subscribe())
    }
}

/// The time since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// In milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_followers_hear_the_next() {
        let events = Events::default();
        for number in 0..KEPT_MAX + 3 {
            events.say(Kind::Set, "a", number.to_string());
        }
        let (kept, mut next) = events.follow();
        assert_eq!((kept.len(), kept[0].text.as_str()), (KEPT_MAX, "3"));
        events.say(Kind::Left, "b", "gone");
        assert_eq!(next.try_recv().unwrap().vm, "b");
        assert!(next.try_recv().is_err());
    }
}
