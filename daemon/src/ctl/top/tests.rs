//! The screen, drawn into memory.

use paravane_backend::register::wanted::Percent;

use super::*;
use crate::view::{DeviceView, GpuView, Point, ProcessView, Set};

fn vm(name: &str, share: u32, kernels: u64) -> VmView {
    let mut vm = VmView {
        name: name.into(),
        boot: format!("boot of {name}"),
        devices: vec![DeviceView { uuid: "GPU-1".into(), share: Percent::of_thousandths(share), ..DeviceView::default() }],
        share: Percent::of_thousandths(share),
        entitled: Percent::of_thousandths(500),
        memory_bytes: 700 << 20,
        ..VmView::default()
    };
    vm.set = Set { weight: 300, cap: Percent::of_thousandths(1000), priority: "interactive".into(), ..Set::default() };
    vm.used.set("kernels", kernels);
    vm.used.set("gpu_time_ns", 3_725_000_000_000);
    vm.processes = vec![ProcessView { number: 1, pid: 4711, name: "python3".into(), ..ProcessView::default() }];
    vm
}

fn host(kernels: u64) -> Snapshot {
    let gpu = GpuView {
        uuid: "GPU-1".into(),
        name: "Some GPU".into(),
        memory_bytes: 8 << 30,
        memory_used_bytes: 2 << 30,
        busy: Percent::of_thousandths(855),
        ..GpuView::default()
    };
    let wave = |phase: u32| {
        (0..90).map(move |at: u32| Point { share: (at * 17 + phase) % 300 + 200, memory_mib: u64::from(at * 5 + phase) })
    };
    let history = [("desktop".to_string(), wave(0).collect()), ("training".to_string(), wave(150).collect())];
    Snapshot {
        at_ms: 1_795_332_615_000 + kernels,
        host: "gpu-host-1".into(),
        gpus: vec![gpu],
        vms: vec![vm("desktop", 625, kernels), vm("training", 230, kernels / 2)],
        history: history.into(),
        ..Snapshot::default()
    }
}

fn screen() -> Screen {
    let mut screen = Screen::new(host(1000));
    screen.take(Ok(host(3000)));
    screen
}

#[test]
fn everything_is_on_the_screen() {
    let picture = picture(&screen(), (140, 36), false);
    println!("{picture}");
    let words = [
        "gpu-host-1", "2 VMs, 2 processes", "2026-11-22 07:30:18", "Some GPU", "85.5%", "2.0 GiB of 8.0 GiB",
        "● desktop", "62.5%", "50.0%", "0-100%", "interactive", "700 MiB", "1.0 k", "1h 02m", "processes of desktop",
        "4711", "python3", "-120 s", "q end",
    ];
    for word in words {
        assert!(picture.contains(word), "no {word:?} in\n{picture}");
    }
    let braille = picture.chars().filter(|letter| ('\u{2801}'..='\u{28ff}').contains(letter)).count();
    assert!(braille > 100, "curves have {braille} cells");
}

#[test]
fn a_vm_on_several_devices_has_a_share_of_each() {
    let mut host = host(1000);
    let second = GpuView { index: 1, uuid: "GPU-2".into(), name: "Another GPU".into(), ..GpuView::default() };
    host.gpus.push(second);
    let on = DeviceView { uuid: "GPU-2".into(), index: 1, share: Percent::of_thousandths(75), ..DeviceView::default() };
    host.vms[0].devices.push(on);
    host.vms[0].share = Percent::of_thousandths(350);
    host.vms[1].devices = (4..8).map(|index| DeviceView { index, ..DeviceView::default() }).collect();
    let picture = picture(&Screen::new(host), (140, 36), false);
    for word in ["Another GPU", "ON", "  0,1 ", "  4-7 ", "35.0%", "processes of desktop   device 0: 62.5%  device 1: 7.5%"] {
        assert!(picture.contains(word), "no {word:?} in\n{picture}");
    }
}

#[test]
fn a_small_or_empty_screen_is_drawn_too() {
    for size in [(40, 10), (80, 24), (300, 100)] {
        assert_eq!(picture(&screen(), size, false).lines().count(), usize::from(size.1));
    }
    let nothing = picture(&Screen::default(), (80, 24), false);
    assert!(nothing.contains("no back end has told of a device yet"), "{nothing}");
}

#[test]
fn colours_are_a_terminals() {
    let picture = picture(&screen(), (120, 36), true);
    assert!(picture.contains("\x1b[0;1;38;2;90;200;250;48;2;38;46;60m● desktop"), "{picture}");
    assert!(picture.lines().all(|line| line.ends_with("\x1b[0m")));
}

#[test]
fn keys_choose_a_vm() {
    let mut screen = screen();
    assert!(obey(&mut screen, KeyCode::Down.into()) && obey(&mut screen, KeyCode::Down.into()));
    assert_eq!(screen.selected, 1);
    assert!(picture(&screen, (120, 36), false).contains("processes of training"));
    assert!(!obey(&mut screen, KeyCode::Char('q').into()));
    screen.take(Err(NoAnswer::Refused("no".into())));
    assert!(picture(&screen, (120, 36), false).contains(" no"));
}
