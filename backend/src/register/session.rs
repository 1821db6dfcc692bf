//! One connection to paravaned, from the hello to its end.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::SyncSender;

use rustix::event::{PollFd, PollFlags, poll};

use super::Registration;
use super::message::{self, FromBackend, Last, ToBackend};
use super::wanted::Wanted;
use crate::lease::Shares;
use crate::packet::PacketError;
use crate::usage::Told;

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("refused: {0}")]
    Refused(String),
}

pub(super) struct Session<'a> {
    of: &'a Registration,
    socket: OwnedFd,
    shares: &'a mut Shares,
    /// Set once paravaned has welcomed us.
    devices: Option<Vec<String>>,
    /// Processes that paravaned knows to have begun, or to have ended.
    begun: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    rest: message::Named,
}

impl<'a> Session<'a> {
    pub(super) fn new(of: &'a Registration, socket: OwnedFd, shares: &'a mut Shares) -> Self {
        let (begun, ended) = (BTreeSet::new(), BTreeSet::new());
        Self { of, socket, shares, devices: None, begun, ended, rest: message::Named::new() }
    }

    pub(super) fn run(mut self, answered: &SyncSender<()>) -> Result<Infallible, Ended> {
        let hello = FromBackend::Hello(self.of.hello.clone());
        message::send(self.socket.as_fd(), &hello, self.of.side.descriptors()?)?;
        loop {
            let full = self.devices.is_some() && !self.tell()?;
            self.wait(full)?;
            while let Some(heard) = self.hear()? {
                self.obey(heard)?;
                if self.devices.is_some() {
                    // Nobody waits for more than the first.
                    let _ = answered.try_send(());
                }
            }
        }
    }

    fn wait(&self, full: bool) -> Result<(), Ended> {
        let socket = if full { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let news = self.of.usage.news();
        let mut fds = vec![PollFd::new(&self.socket, socket)];
        if !full {
            fds.extend(news.map(|news| PollFd::from_borrowed_fd(news, PollFlags::IN)));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Ended::System(errno.into())),
        }
        if let Some(news) = news {
            // WouldBlock: there were none.
            let _ = rustix::io::read(news, &mut [0; 8]);
        }
        Ok(())
    }

    fn hear(&self) -> Result<Option<ToBackend>, Ended> {
        match message::receive(self.socket.as_fd()) {
            Ok((heard, _)) => Ok(Some(heard)),
            Err(error) if error.would_block() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn obey(&mut self, heard: ToBackend) -> Result<(), Ended> {
        let side = &self.of.side;
        match heard {
            ToBackend::Welcome { name, devices, wanted } => {
                log::info!("registered at {} as {name}: {}", self.of.socket.display(), in_words(&wanted));
                side.in_force(&wanted, &devices);
                side.placed(&devices, self.shares);
                self.devices = Some(devices);
            }
            ToBackend::Settings { wanted } => {
                log::info!("paravaned sets {}", in_words(&wanted));
                side.in_force(&wanted, self.devices.as_deref().unwrap_or_default());
            }
            ToBackend::Shares { thousandths } => *self.shares = thousandths,
            ToBackend::Booked { numbers } => {
                self.of.usage.booked(&numbers);
                for number in numbers {
                    self.begun.remove(&number);
                    self.ended.remove(&number);
                }
            }
            ToBackend::Kill { number } => {
                let killed = self.of.usage.kill(number);
                log::warn!("paravaned has ended {killed} process(es)");
            }
            ToBackend::Refused { reason } => return Err(Ended::Refused(reason)),
        }
        Ok(())
    }

    /// Says what paravaned does not know yet. False: the socket is full.
    fn tell(&mut self) -> Result<bool, Ended> {
        for told in self.of.usage.untold(&self.begun, &self.ended) {
            let (number, begins, message, fds) = match told {
                Told::Begins(account) => {
                    let message = FromBackend::Begins {
                        number: account.number,
                        pid: account.pid,
                        name: shortened(&account.name),
                        worker: account.worker,
                    };
                    (account.number, true, message, vec![account.page_file()?])
                }
                Told::Ended(last) => {
                    let last = Last { name: shortened(&last.name), ..last };
                    (last.number, false, FromBackend::Ended(last), Vec::new())
                }
            };
            match message::send(self.socket.as_fd(), &message, fds) {
                Ok(()) => (if begins { &mut self.begun } else { &mut self.ended }).insert(number),
                Err(error) if error.would_block() => return Ok(false),
                Err(error) => return Err(error.into()),
            };
        }
        let rest = self.of.usage.rest();
        if rest != self.rest && rest.values().any(|value| *value != 0) {
            match message::send(self.socket.as_fd(), &FromBackend::Rest { counters: rest.clone() }, Vec::new()) {
                Ok(()) => self.rest = rest,
                Err(error) if error.would_block() => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

fn in_words(wanted: &Wanted) -> String {
    serde_json::to_string(wanted).unwrap_or_default()
}

/// A guest's name for a process, no longer than a packet has room for.
fn shortened(name: &str) -> String {
    let end = (0..=name.len().min(message::NAME_BYTES_MAX)).rev().find(|end| name.is_char_boundary(*end));
    name.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
