//! What a connection waits for beside its virtqueues: workers, deadlines, and
//! the order to end. One epoll set, itself watched by vhost-user-backend's.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::channels::ChannelId;

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A deadline has passed.
    Timer,
    /// Answers wait to be put, or the connection ends.
    Nudge,
    /// A worker's control socket.
    Control(ChannelId),
    /// A worker has woken guest threads.
    GuestWake(ChannelId),
    /// A worker has ended.
    Death(ChannelId),
    /// The renderer's socket.
    Renderer,
}

impl Source {
    /// The source as an epoll event carries it.
    pub fn encode(self) -> u64 {
        let (kind, channel) = match self {
            Self::Timer => (0, 0),
            Self::Nudge => (1, 0),
            Self::Control(channel) => (2, channel.0),
            Self::GuestWake(channel) => (3, channel.0),
            Self::Death(channel) => (4, channel.0),
            Self::Renderer => (5, 0),
        };
        kind << 32 | u64::from(channel)
    }

    fn decode(data: u64) -> Option<Self> {
        let channel = ChannelId(u32::try_from(data & u64::from(u32::MAX)).ok()?);
        match data >> 32 {
            0 => Some(Self::Timer),
            1 => Some(Self::Nudge),
            2 => Some(Self::Control(channel)),
            3 => Some(Self::GuestWake(channel)),
            4 => Some(Self::Death(channel)),
            5 => Some(Self::Renderer),
            _ => None,
        }
    }
}

/// The epoll set with its timer and its nudge.
#[derive(Debug)]
pub struct Events {
    epoll: OwnedFd,
    timer: OwnedFd,
    nudge: OwnedFd,
    armed: Option<Instant>,
}

impl Events {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let nudge = rustix::event::eventfd(0, flags)?;
        for (fd, source) in [(&timer, Source::Timer), (&nudge, Source::Nudge)] {
            epoll::add(&epoll, fd, EventData::new_u64(source.encode()), EventFlags::IN)?;
        }
        Ok(Self { epoll, timer, nudge, armed: None })
    }

    /// The set itself.
    pub fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// Makes the set readable.
    pub fn nudge(&self) {
        // Fails only when 2^64 - 2 nudges wait; then it is readable.
        let _ = rustix::io::write(&self.nudge, &1_u64.to_ne_bytes());
    }

    /// A descriptor for somebody else's [`Events::nudge`].
    pub fn nudge_fd(&self) -> io::Result<OwnedFd> {
        self.nudge.try_clone()
    }

    /// What has happened. Timer and nudge are reset.
    pub fn take(&mut self) -> Vec<Source> {
        let mut space = [MaybeUninit::uninit(); 64];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut space, Some(&now)) else {
            return Vec::new();
        };
        let sources: Vec<_> =
            events.iter().filter_map(|event| Source::decode(event.data.u64())).collect();
        for source in &sources {
            let counter = match source {
                Source::Timer => &self.timer,
                Source::Nudge => &self.nudge,
                _ => continue,
            };
            // WouldBlock: it was reset meanwhile.
            let _ = rustix::io::read(counter, &mut [0; 8]);
            if *source == Source::Timer {
                self.armed = None;
            }
        }
        sources
    }

    /// Sets the timer for the earliest deadline, or off.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        if self.armed == deadline {
            return;
        }
        self.armed = deadline;
        // Zero would switch the timer off, so one that has passed is 1 ns ahead.
        let ahead = deadline.map(|deadline| {
            deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1))
        });
        let ahead = ahead.unwrap_or_default();
        let it_value = Timespec {
            tv_sec: i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: ahead.subsec_nanos().into(),
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: never, it_value };
        if let Err(error) = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting) {
            log::error!("the wait timer cannot be set: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_the_way_through_epoll() {
        let channel = ChannelId(u32::MAX);
        let sources = [
            Source::Timer,
            Source::Nudge,
            Source::Control(channel),
            Source::GuestWake(channel),
            Source::Death(channel),
            Source::Renderer,
        ];
        for source in sources {
            assert_eq!(Source::decode(source.encode()), Some(source));
        }
        assert_eq!(Source::decode(6 << 32), None);
    }

    #[test]
    fn a_nudge_is_reported_once_and_a_passed_deadline_too() {
        let mut events = Events::new().unwrap();
        assert_eq!(events.take(), []);
        events.nudge();
        assert_eq!(events.take(), [Source::Nudge]);
        assert_eq!(events.take(), []);
        events.set_deadline(Some(Instant::now()));
        let mut seen = events.take();
        while seen.is_empty() {
            seen = events.take();
        }
        assert_eq!(seen, [Source::Timer]);
        events.set_deadline(Some(Instant::now() + Duration::from_secs(3600)));
        events.set_deadline(None);
        assert_eq!(events.take(), []);
    }
}
