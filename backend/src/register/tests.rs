//! Registration against a paravaned of the test's own.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::message::{FromBackend, Last, ToBackend, receive, send};
use super::*;
use crate::account::{AccountPage, Counter};
use crate::page::Page;
use crate::usage::Held;

#[derive(Debug, PartialEq)]
enum Event {
    HandedOver,
    Alone(Shares),
    InForce(Option<u32>, Vec<String>),
    Placed(Vec<String>, Shares),
}

struct Recorder(Mutex<Sender<Event>>);

impl Recorder {
    fn say(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).send(event).ok();
    }
}

impl Side for Recorder {
    fn descriptors(&self) -> std::io::Result<Vec<OwnedFd>> {
        Ok(vec![Page::create("test")?.1])
    }
    fn hand_over(&self) {
        self.say(Event::HandedOver);
    }
    fn alone(&self, shares: &Shares) {
        self.say(Event::Alone(shares.clone()));
    }
    fn placed(&self, devices: &[String], shares: &Shares) {
        self.say(Event::Placed(devices.to_vec(), shares.clone()));
    }
    fn in_force(&self, wanted: &Wanted, devices: &[String]) {
        self.say(Event::InForce(wanted.weight, devices.to_vec()));
    }
}

/// paravaned's end of one connection; blocks.
struct Daemon(OwnedFd);

impl Daemon {
    fn listen(path: &Path) -> OwnedFd {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::listen(&socket, 4).unwrap();
        socket
    }

    fn accept(listener: &OwnedFd) -> Self {
        let daemon = Self(rustix::net::accept(listener).unwrap());
        let (FromBackend::Hello(hello), fds) = daemon.hear() else { panic!("no hello") };
        assert_eq!((hello.version, hello.boot.as_str(), fds.len()), (message::VERSION, "b", 1));
        let wanted = Wanted { weight: Some(7), ..Wanted::default() };
        daemon.say(&ToBackend::Welcome { name: "vm".into(), devices: vec!["GPU-1".into()], wanted });
        daemon
    }

    fn hear(&self) -> (FromBackend, Vec<OwnedFd>) {
        receive(self.0.as_fd()).unwrap()
    }

    fn say(&self, message: &ToBackend) {
        send(self.0.as_fd(), message, Vec::new()).unwrap();
    }
}

fn open(usage: &Usage, pid: u32) -> std::sync::Arc<crate::usage::ProcessAccount> {
    let (page, file) = AccountPage::create().unwrap();
    page.counter(Counter::Kernels).store(u64::from(pid), std::sync::atomic::Ordering::Relaxed);
    let pidfd = file.try_clone().unwrap();
    usage.open(pid, format!("p{pid}"), 1, page, Some(Held { page: file, pidfd }))
}

#[test]
fn processes_are_told_until_they_are_booked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paravaned.sock");
    let listener = Daemon::listen(&path);
    let usage: Arc<Usage> = Arc::default();
    let (events, heard) = channel();
    let hello = Hello { version: message::VERSION, boot: "b".into(), ..Hello::default() };
    let side = Box::new(Recorder(Mutex::new(events)));
    let registration = Registration { socket: path.clone(), hello, usage: Arc::clone(&usage), side };
    let waiting = std::thread::spawn(move || registration.start(Duration::from_secs(10)));
    let daemon = Daemon::accept(&listener);
    waiting.join().unwrap().unwrap();
    assert_eq!(heard.recv(), Ok(Event::HandedOver));
    assert_eq!(heard.recv(), Ok(Event::InForce(Some(7), vec!["GPU-1".into()])));
    assert_eq!(heard.recv(), Ok(Event::Placed(vec!["GPU-1".into()], Shares::new())));

    let first = open(&usage, 41);
    let (FromBackend::Begins { number: 1, pid: 41, name, worker: 1 }, fds) = daemon.hear() else { panic!() };
    assert_eq!((name.as_str(), AccountPage::map(&fds[0]).unwrap().read()[2]), ("p41", 41));
    usage.close(&first);
    let ended = |daemon: &Daemon| {
        let (FromBackend::Ended(Last { number, counters, .. }), _) = daemon.hear() else { panic!() };
        (number, counters["kernels"])
    };
    assert_eq!(ended(&daemon), (1, 41));
    let shares = Shares::from([("GPU-1".to_owned(), 250)]);
    daemon.say(&ToBackend::Shares { thousandths: shares.clone() });
    daemon.say(&ToBackend::Settings { wanted: Wanted { weight: Some(9), ..Wanted::default() } });
    assert_eq!(heard.recv(), Ok(Event::InForce(Some(9), vec!["GPU-1".into()])));
    drop((daemon, listener));
    assert_eq!(heard.recv(), Ok(Event::Alone(shares.clone())));

    // While paravaned is away a process runs on, and one comes and goes.
    let (stays, goes) = (open(&usage, 42), open(&usage, 43));
    usage.close(&goes);
    std::fs::remove_file(&path).unwrap();
    let listener = Daemon::listen(&path);
    let daemon = Daemon::accept(&listener);
    let (FromBackend::Begins { number: 2, .. }, _) = daemon.hear() else { panic!() };
    assert_eq!((ended(&daemon), ended(&daemon)), ((1, 41), (3, 43)));
    assert_eq!(heard.recv(), Ok(Event::HandedOver));
    assert_eq!(heard.recv(), Ok(Event::InForce(Some(7), vec!["GPU-1".into()])));
    assert_eq!(heard.recv(), Ok(Event::Placed(vec!["GPU-1".into()], shares)), "as paravaned said last");
    daemon.say(&ToBackend::Booked { numbers: vec![1, 3] });
    usage.close(&stays);
    assert_eq!(ended(&daemon), (2, 42));
}

#[test]
fn a_refusal_leaves_the_back_end_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paravaned.sock");
    let listener = Daemon::listen(&path);
    let (events, heard) = channel();
    let side = Box::new(Recorder(Mutex::new(events)));
    let usage = Arc::default();
    let hello = Hello { version: 99, ..Hello::default() };
    let registration = Registration { socket: path, hello, usage, side };
    let waiting = std::thread::spawn(move || registration.start(Duration::from_secs(10)));
    let daemon = Daemon(rustix::net::accept(&listener).unwrap());
    let _ = daemon.hear();
    daemon.say(&ToBackend::Refused { reason: "another version".into() });
    assert_eq!(heard.recv(), Ok(Event::HandedOver));
    assert_eq!(heard.recv(), Ok(Event::Alone(Shares::new())));
    waiting.join().unwrap().unwrap();
}
