//! The back end's side of paravaned: a thread that registers the VM, tells of
//! its processes as they come and go, and hears what is in force. While it is
//! registered, paravaned's arbiter gives the leases; when the connection ends,
//! the back end goes on alone at once, with its last shares as caps, and tries
//! again.

pub mod message;
mod session;
pub mod wanted;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::lease::Shares;
use crate::usage::Usage;
use message::Hello;
use session::{Ended, Session};
use wanted::Wanted;

/// Where paravaned listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/paravane/paravaned.sock";
/// Between two tries to register where nobody listens.
const RETRY: Duration = Duration::from_millis(100);
/// After a refusal, which will be the same the next time.
const RETRY_REFUSED: Duration = Duration::from_secs(5);

/// What a back end does as it is told.
pub trait Side: Send {
    /// Of each device the VM's page and the eventfd, for paravaned.
    ///
    /// # Errors
    /// If there are no descriptors left.
    fn descriptors(&self) -> std::io::Result<Vec<std::os::fd::OwnedFd>>;
    /// Gives no lease from now on: paravaned is about to. Two at a time would
    /// each take the page for what they wrote.
    fn hand_over(&self);
    /// paravaned does not, or not any more. At most these parts of the devices'
    /// time are this VM's, as far as paravaned has ever said them.
    fn alone(&self, shares: &Shares);
    /// The VM is placed on these devices; none: all. paravaned gives no leases of others, which
    /// processes may use that began before.
    fn placed(&self, devices: &[String], shares: &Shares);
    /// What is in force, and on which devices; none: all.
    fn in_force(&self, wanted: &Wanted, devices: &[String]);
}

/// What the thread has.
pub struct Registration {
    /// paravaned's socket.
    pub socket: PathBuf,
    /// What it says first.
    pub hello: Hello,
    /// Accounts and processes.
    pub usage: Arc<Usage>,
    /// Who obeys.
    pub side: Box<dyn Side>,
}

/// The socket to use: the one that is given, else the default one, where its
/// folder is there.
pub fn socket(given: Option<&Path>) -> Option<PathBuf> {
    let default = Path::new(DEFAULT_SOCKET);
    let there = default.parent().is_some_and(Path::is_dir);
    given.map(Path::to_path_buf).or_else(|| there.then(|| default.to_path_buf()))
}

impl Registration {
    /// Starts the thread. Waits until paravaned has answered, at most so long;
    /// not at all if nobody listens.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(self, patience: Duration) -> std::io::Result<()> {
        let (answered, answer) = sync_channel(1);
        self.usage.expect_bookings();
        std::thread::Builder::new().name("registration".into()).spawn(move || self.run(&answered))?;
        wait(&answer, patience);
        Ok(())
    }

    fn run(self, answered: &SyncSender<()>) {
        let mut shares = Shares::new();
        let mut last = String::new();
        loop {
            let (ended, pause) = match connect(&self.socket) {
                Ok(socket) => {
                    self.side.hand_over();
                    let Err(ended) = Session::new(&self, socket, &mut shares).run(answered);
                    self.side.alone(&shares);
                    let refused = matches!(ended, Ended::Refused(_));
                    (ended.to_string(), if refused { RETRY_REFUSED } else { RETRY })
                }
                Err(error) => (error.to_string(), RETRY),
            };
            // Waits for nobody that does not come.
            let _ = answered.try_send(());
            // Once: it tries ten times a second.
            if ended != last {
                log::warn!("without paravaned at {}: {ended}", self.socket.display());
                last = ended;
            }
            std::thread::sleep(pause);
        }
    }
}

fn wait(answer: &Receiver<()>, patience: Duration) {
    if answer.recv_timeout(patience).is_err() {
        log::warn!("paravaned has not answered within {patience:?}");
    }
}

fn connect(path: &Path) -> std::io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
