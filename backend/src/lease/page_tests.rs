//! The lease page, through several mappings.

use super::*;

#[test]
fn what_is_granted_is_read_through_another_mapping() {
    let (arbiter, file) = VmPage::create().unwrap();
    let worker = VmPage::map(&file).unwrap();
    assert_eq!(worker.granted(), Grant::None);
    arbiter.grant(Grant::Open, 0);
    assert!(worker.is_open());
    arbiter.grant(Grant::Until(7), 100);
    assert_eq!((worker.granted(), worker.is_open()), (Grant::Until(7), false));
    assert!(worker.spend(60) && worker.spend(60), "the last command may be too long");
    assert!(!worker.spend(1));
    assert_eq!(arbiter.budget_ns(), -21);
    let seen = worker.epoch_now();
    arbiter.grant(Grant::None, 0);
    worker.wait(seen, Duration::from_secs(3600));
    assert_eq!(worker.granted(), Grant::None);
}

#[test]
fn slots_are_summed_and_the_counts_of_the_dead_stay() {
    let (page, _file) = VmPage::create().unwrap();
    let (first, second) = (page.take_slot(11).unwrap(), page.take_slot(12).unwrap());
    first.waiting().fetch_add(2, Ordering::SeqCst);
    first.count(Count::GpuNs).fetch_add(5, Ordering::Relaxed);
    second.flying().fetch_add(1, Ordering::SeqCst);
    second.count(Count::GpuNs).fetch_add(6, Ordering::Relaxed);
    let wants = page.wants();
    assert_eq!((wants.waiting, wants.in_flight, wants.gpu_ns), (2, true, 11));
    page.end(11);
    page.end(12);
    let wants = page.wants();
    assert_eq!((wants.waiting, wants.in_flight, wants.gpu_ns), (0, false, 11));
    assert_eq!(page.take_slot(13).unwrap().number(), 0);
}

#[test]
fn workers_tell_of_no_more_time_than_has_passed() {
    let (page, _file) = VmPage::create().unwrap();
    let slots = [1, 2].map(|pid| page.take_slot(pid).unwrap());
    page.begins(slots[0], 1000);
    page.begins(slots[1], 1050);
    assert_eq!([page.take_time(60, 1100), page.take_time(50, 1100), page.take_time(50, 1100)], [60, 40, 0]);
    assert_eq!(page.take_time(500, 1500), 400, "a long one is told of at its end");
    slots.iter().for_each(|slot| slot.flying().store(0, Ordering::SeqCst));
    page.begins(slots[0], 9000);
    assert_eq!(page.take_time(5000, 9100), 100, "the time without work is nobody's");
}

#[test]
fn copies_wait_for_their_round() {
    let (page, _file) = VmPage::create().unwrap();
    assert!(page.may_copy(), "the first round is there");
    page.take_slot(5).unwrap().copies_waiting().store(1, Ordering::SeqCst);
    assert!(!page.spend_copy(1) && page.spend_copy(u64::MAX) && !page.spend_copy(1), "it is told once");
    let Copying { budget, waiting, .. } = page.copying();
    assert!(waiting && budget < 0 && !page.may_copy());
    page.wait_for_copies(Duration::ZERO);
    page.allow_copies(1 - budget);
    page.wait_for_copies(Duration::from_secs(3600));
    assert!(page.may_copy());
    page.end(5);
    assert!(!page.copying().waiting);
}

#[test]
fn no_figure_overflows() {
    let (page, _file) = VmPage::create().unwrap();
    for pid in 1..=u32::try_from(SLOTS_MAX).unwrap() {
        let slot = page.take_slot(pid).unwrap();
        slot.waiting().store(u32::MAX, Ordering::SeqCst);
        slot.count(Count::AheadNs).store(u64::MAX, Ordering::SeqCst);
        slot.count(Count::GpuNs).store(u64::MAX, Ordering::SeqCst);
    }
    assert!(page.take_slot(1 << 20).is_none());
    assert_eq!(page.wants().waiting, u32::MAX);
    page.0.words().atomic_u32(head::SLOTS).store(u32::MAX, Ordering::SeqCst);
    assert!(page.wants().in_flight || page.wants().ahead_ns == u64::MAX);
    for _ in 0..300 {
        page.spend(u64::MAX);
    }
}
