//! The renderer's side, as a layer's process meets it.

use std::sync::atomic::Ordering as Order;

use paravane_protocol::virtio_gpu::CAPSET_VENUS;
use paravane_protocol::vulkan::{ADMIT, Answer, GIVE_BACK, OVER, TAKE};
use zerocopy::IntoBytes;

use super::*;
use crate::account::{AccountPage, Counter as Count, Gauge};

const QUOTA: u64 = 100;

struct Fixture {
    lease: Arc<RendererLease>,
    account: Arc<AccountPage>,
    inherited: OwnedFd,
}

/// The device of a process: gate and notes.
struct OfDevice([OwnedFd; 2]);

fn send(socket: &OwnedFd, ask: Ask, fds: Vec<OwnedFd>) {
    Packet { bytes: ask.as_bytes().to_vec(), fds }.send(socket.as_fd()).unwrap();
}

fn hear(socket: &OwnedFd) -> Option<Answer> {
    let packet = Packet::receive(socket.as_fd(), 64).ok()?;
    Some(Answer::read_from_bytes(&packet.bytes).unwrap())
}

/// Waits until what another thread does is so.
fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::yield_now();
    }
}

impl Fixture {
    fn new() -> Self {
        let (lease, account) = RendererLease::with_vulkan(QUOTA);
        let lease = Arc::new(lease);
        let (counter, inherited) = Counter::open().unwrap();
        counter.serve(Arc::clone(&lease)).unwrap();
        Self { lease, account, inherited }
    }

    fn hello(&self, context: u64) -> OfDevice {
        let pairs = [packet::pair().unwrap(), packet::pair().unwrap()];
        let [(gate, gate_there), (notes, notes_there)] = pairs;
        send(&self.inherited, Ask::new(HELLO, context, 0), vec![gate_there, notes_there]);
        for socket in [&gate, &notes] {
            rustix::io::ioctl_fionbio(socket, false).unwrap();
        }
        OfDevice([gate, notes])
    }

    fn device(&self, context: u64) -> OfDevice {
        let device = self.hello(context);
        assert_eq!(hear(&device.0[0]), Some(Answer::new(true, 0)));
        device
    }

    fn memory(&self) -> u64 {
        self.account.gauge(Gauge::MemoryBytes).load(Order::Relaxed)
    }
}

impl OfDevice {
    fn admit(&self) -> u64 {
        send(&self.0[0], Ask::new(ADMIT, 5, 1), Vec::new());
        hear(&self.0[0]).unwrap().ticket.get()
    }

    fn note(&self, kind: u32, first: u64) {
        send(&self.0[1], Ask::new(kind, first, 0), Vec::new());
    }

    fn take(&self, bytes: u64) -> bool {
        self.note(TAKE, bytes);
        hear(&self.0[1]).unwrap().granted.get() == 1
    }
}

#[test]
fn a_submit_flies_from_its_ticket_until_it_is_over() {
    let all = Fixture::new();
    let (program, file) = AccountPage::create().unwrap();
    all.lease.context_begins(7, CAPSET_VENUS, Some(file));
    let [of_program, other] = [7, 8].map(|context| all.device(context));
    let tickets = [of_program.admit(), other.admit()];
    assert_eq!(all.lease.in_flight(), 2);
    let time = |page: &AccountPage| page.counter(Count::GpuTimeNs).load(Order::Relaxed);
    other.note(OVER, tickets[1]);
    until(|| all.lease.in_flight() == 1);
    // Charged a moment after.
    until(|| time(&all.account) > 0);
    assert_eq!(time(&program), 0, "what is no program's is Vulkan's");
    of_program.note(OVER, tickets[0]);
    until(|| all.lease.in_flight() == 0);
    until(|| time(&program) > 0);
}

#[test]
fn memory_is_the_quotas_and_comes_back_with_its_device() {
    let all = Fixture::new();
    let [first, second] = [1, 2].map(|context| all.device(context));
    assert!(first.take(70) && !second.take(31) && second.take(30));
    assert_eq!(all.memory(), QUOTA);
    assert_eq!(all.account.gauge(Gauge::MemoryPeakBytes).load(Order::Relaxed), QUOTA);
    second.note(GIVE_BACK, 10);
    // Nobody gives back what another has.
    second.note(GIVE_BACK, u64::MAX);
    until(|| all.memory() == 70);
    drop(first);
    until(|| all.memory() == 0);
    assert!(second.take(QUOTA) && !second.take(1));
}

#[test]
fn a_device_that_ends_leaves_nothing_in_flight() {
    let all = Fixture::new();
    let device = all.device(3);
    let tickets: Vec<u64> = (0..2).map(|_| device.admit()).collect();
    assert!(tickets[0] != tickets[1] && all.lease.in_flight() == 2);
    drop(device);
    until(|| all.lease.in_flight() == 0);
}

#[test]
fn who_waits_for_what_waits_for_him_goes_on() {
    let all = Fixture::new();
    let device = all.device(3);
    // Nothing of this ends; the third finds no room until what flies counts no more.
    let tickets: Vec<u64> = (0..6).map(|_| device.admit()).collect();
    assert_eq!(all.lease.in_flight(), 6);
    tickets.into_iter().for_each(|ticket| device.note(OVER, ticket));
    until(|| all.lease.in_flight() == 0);
}

#[test]
fn who_says_what_he_must_not_is_not_heard_any_more() {
    let all = Fixture::new();
    let wrongs: [fn(&OfDevice); 4] = [
        |device| device.note(OVER, 77),
        |device| device.note(ADMIT, 1),
        |device| send(&device.0[0], Ask::new(TAKE, 1, 0), Vec::new()),
        |device| Packet { bytes: vec![1; 5], fds: Vec::new() }.send(device.0[1].as_fd()).unwrap(),
    ];
    for wrong in wrongs {
        let device = all.device(3);
        assert!(device.take(60));
        device.admit();
        wrong(&device);
        assert!(hear(&device.0[0]).is_none() && hear(&device.0[1]).is_none());
        until(|| all.memory() == 0 && all.lease.in_flight() == 0);
    }
    // Neither do wrong greetings end the others'.
    send(&all.inherited, Ask::new(HELLO, 1, 0), Vec::new());
    send(&all.inherited, Ask::new(OVER, 1, 0), Vec::new());
    let long = vec![0; 100];
    Packet { bytes: long, fds: Vec::new() }.send(all.inherited.as_fd()).unwrap();
    assert!(all.device(4).take(1));
}

#[test]
fn there_are_so_many_devices_and_no_more() {
    let all = Fixture::new();
    let mut devices: Vec<OfDevice> = (0..DEVICES_MAX as u64).map(|context| all.device(context)).collect();
    assert!(hear(&all.hello(1).0[0]).is_none());
    devices.pop();
    // Its threads are gone when there is room again.
    while hear(&all.hello(1).0[0]).is_none() {
        thread::yield_now();
    }
}

#[test]
fn who_has_most_that_may_be_under_way_waits_until_some_is_over() {
    let all = Fixture::new();
    let device = all.device(3);
    // Work that takes no time leaves room for any number of it.
    let quick = |_| {
        let ticket = device.admit();
        device.note(OVER, ticket);
        until(|| all.lease.in_flight() == 0);
    };
    (0..50).for_each(quick);
    let tickets: Vec<u64> = (0..process::WORKS_MAX).map(|_| device.admit()).collect();
    send(&device.0[0], Ask::new(ADMIT, 5, 1), Vec::new());
    device.note(OVER, tickets[0]);
    assert_eq!(hear(&device.0[0]).unwrap().ticket.get(), tickets[tickets.len() - 1] + 1);
    assert_eq!(all.lease.in_flight(), process::WORKS_MAX);
    // It ends while somebody waits.
    send(&device.0[0], Ask::new(ADMIT, 5, 1), Vec::new());
    drop(device);
    until(|| all.lease.in_flight() == 0);
}

#[test]
fn without_dues_there_is_no_vulkan() {
    let (counter, _inherited) = Counter::open().unwrap();
    assert!(counter.serve(Arc::new(RendererLease::open())).is_err());
}
