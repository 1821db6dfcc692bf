//! Guests that ask OpenGL for what cannot be: their own OpenGL may end, every
//! command is answered, CUDA goes on, and nothing is left afterwards. The renderer
//! stands in, or is the one that PARAVANE_TEST_RENDERER names: `cargo xtask gl`
//! names the real one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Instant;

use paravane_protocol::channel::Status;
use paravane_protocol::virtio_gpu::{self as spec, ctrl};
use paravane_tests::backend::{Backend, Held};
use paravane_tests::frontend::FrontEnd;
use paravane_tests::gl::{Renderer, context, gl, small_texture, submit, texture};
use paravane_tests::guest::{Channel, attach, ready_channel, unref};
use zerocopy::IntoBytes;

const STAND_IN: &str = env!("CARGO_BIN_EXE_stand-in-renderer");
/// The resource that carries CUDA, and the context that draws.
const CHANNEL: u32 = 1;
const CONTEXT: u32 = 5;
/// What a guest may have of memory: so much the host risks.
const QUOTA: &str = "256M";

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).unwrap()
    }

    fn below(&mut self, end: u32) -> u32 {
        self.word() % end
    }

    /// One that is often small, sometimes at an edge, sometimes anything.
    fn field(&mut self) -> u32 {
        const EDGES: [u32; 6] = [0, 1, 4096, 16_384, 1 << 31, u32::MAX];
        match self.below(3) {
            0 => EDGES[usize::try_from(self.below(6)).unwrap()],
            1 => self.below(20),
            _ => self.word(),
        }
    }
}

/// A VM that uses CUDA and draws.
struct Vm {
    _renderer: Renderer,
    backend: Backend,
    held: Held,
    guest: FrontEnd,
    channel: Channel,
}

impl Vm {
    fn start() -> Self {
        let named = std::env::var("PARAVANE_TEST_RENDERER");
        let renderer = Renderer::new(named.as_deref().unwrap_or(STAND_IN));
        let backend = renderer.backend(&["--memory-quota", QUOTA]);
        let held = backend.held();
        let mut guest = FrontEnd::connect(&backend.socket());
        let channel = ready_channel(&mut guest, CHANNEL);
        context(&mut guest, CONTEXT);
        Self { _renderer: renderer, backend, held, guest, channel }
    }

    /// The device answers, CUDA lives, and behind the guest nothing is left.
    fn unharmed(mut self) {
        assert_eq!(self.guest.command(ctrl::GET_DISPLAY_INFO, &[]).kind, ctrl::OK_DISPLAY_INFO);
        assert_eq!(self.channel.status(&self.guest), Status::Ready);
        drop(self.guest);
        self.backend.assert_nothing_leaked(&self.held);
    }
}

fn of(id: u32) -> spec::ResourceRef {
    spec::ResourceRef { resource_id: id.into(), ..Default::default() }
}

#[test]
fn contexts_and_resources_that_are_not_there() {
    let mut vm = Vm::start();
    let guest = &mut vm.guest;
    assert_eq!(submit(guest, CONTEXT, 1, &[0; 4]), ctrl::OK_NODATA, "a command that does nothing");
    for id in [0, 7, u32::MAX] {
        assert_eq!(submit(guest, id, 2, &[0; 4]), ctrl::ERR_INVALID_CONTEXT_ID);
        assert_eq!(gl(guest, ctrl::CTX_ATTACH_RESOURCE, CONTEXT, 0, &of(id)), ctrl::ERR_INVALID_RESOURCE_ID);
        assert_eq!(gl(guest, ctrl::CTX_DESTROY, id, 0, &[0_u8; 0]), ctrl::ERR_INVALID_CONTEXT_ID);
        assert_eq!(unref(guest, id), ctrl::ERR_INVALID_RESOURCE_ID);
        let transfer = spec::TransferHost3d { resource_id: id.into(), ..Default::default() };
        for kind in [ctrl::TRANSFER_TO_HOST_3D, ctrl::TRANSFER_FROM_HOST_3D] {
            assert_ne!(gl(guest, kind, CONTEXT, 3, &transfer), ctrl::OK_NODATA);
        }
    }
    // A texture that the context has not been given, and CUDA's pages.
    assert_eq!(texture(guest, 2), ctrl::OK_NODATA);
    for id in [2, CHANNEL] {
        let transfer = spec::TransferHost3d { resource_id: id.into(), ..Default::default() };
        gl(guest, ctrl::TRANSFER_FROM_HOST_3D, CONTEXT, 4, &transfer);
    }
    vm.unharmed();
}

#[test]
fn absurd_sizes() {
    let mut vm = Vm::start();
    let mut random = Random(0x5eed_0001);
    for turn in 0..400 {
        let plausible = small_texture(2);
        let mut field = || random.field().into();
        let (format, bind) = if turn % 4 == 0 { (field(), field()) } else { (plausible.format, plausible.bind) };
        let wanted = spec::ResourceCreate3d {
            resource_id: 2.into(),
            format,
            bind,
            width: field(),
            height: field(),
            depth: field(),
            array_size: field(),
            last_level: field(),
            nr_samples: field(),
            flags: field(),
            target: random.below(10).into(),
            ..Default::default()
        };
        if gl(&mut vm.guest, ctrl::RESOURCE_CREATE_3D, 0, 0, &wanted) != ctrl::ERR_OUT_OF_MEMORY {
            unref(&mut vm.guest, 2);
        }
    }
    vm.unharmed();
}

#[test]
fn ten_thousand_resources() {
    let mut vm = Vm::start();
    let ids = 2..10_002;
    for id in ids.clone() {
        let made = gl(&mut vm.guest, ctrl::RESOURCE_CREATE_3D, 0, 0, &small_texture(id));
        assert_eq!(made, ctrl::OK_NODATA, "{id}");
    }
    for id in ids.step_by(3) {
        assert_eq!(gl(&mut vm.guest, ctrl::CTX_ATTACH_RESOURCE, CONTEXT, 0, &of(id)), ctrl::OK_NODATA);
    }
    for id in (2..10_002).step_by(2) {
        assert_eq!(unref(&mut vm.guest, id), ctrl::OK_NODATA);
    }
    vm.unharmed();
}

#[test]
fn transfers_beyond_everything() {
    let mut vm = Vm::start();
    let mut random = Random(0x5eed_0002);
    assert_eq!(texture(&mut vm.guest, 2), ctrl::OK_NODATA);
    let pages = vm.guest.pages(4096);
    assert_eq!(attach(&mut vm.guest, 2, &[(pages, 4096)]), ctrl::OK_NODATA);
    gl(&mut vm.guest, ctrl::CTX_ATTACH_RESOURCE, CONTEXT, 0, &of(2));
    let whole = spec::TransferHost3d { w: 4.into(), h: 2.into(), d: 1.into(), resource_id: 2.into(), ..Default::default() };
    assert_eq!(gl(&mut vm.guest, ctrl::TRANSFER_TO_HOST_3D, CONTEXT, 1, &whole), ctrl::OK_NODATA);
    for turn in 0..400 {
        let mut field = || random.field().into();
        let transfer = spec::TransferHost3d {
            x: field(),
            y: field(),
            z: field(),
            w: field(),
            h: field(),
            d: field(),
            level: field(),
            stride: field(),
            layer_stride: field(),
            offset: u64::from(random.field()).into(),
            resource_id: 2.into(),
        };
        let kind = [ctrl::TRANSFER_TO_HOST_3D, ctrl::TRANSFER_FROM_HOST_3D][turn % 2];
        gl(&mut vm.guest, kind, CONTEXT, 1, &transfer);
    }
    vm.unharmed();
}

/// Words that look like commands: any number, any object, as many words as it says.
fn commands(random: &mut Random) -> Vec<u32> {
    let mut words = Vec::new();
    while words.len() < 1000 {
        let count = random.below(24);
        words.push(random.below(64) | random.below(16) << 8 | count << 16);
        words.extend((0..count).map(|_| random.field()));
    }
    words
}

#[test]
fn streams_of_anything() {
    for seed in 1..5_u64 {
        let mut vm = Vm::start();
        let mut random = Random(0x5eed_0000 + seed);
        for turn in 0..100 {
            // Each fails its context, so that the next has one of its own.
            let own = 100 + turn;
            context(&mut vm.guest, own);
            let words: Vec<u32> = match turn % 4 {
                0 => (0..1000).map(|_| random.word()).collect(),
                _ => commands(&mut random),
            };
            let cut = words.as_bytes().len() - usize::try_from(turn % 3).unwrap();
            submit(&mut vm.guest, own, 1, &words.as_bytes()[..cut]);
        }
        vm.unharmed();
    }
}

#[test]
fn a_guest_that_kills_its_renderers_gets_no_more_for_a_while() {
    let renderer = Renderer::new(STAND_IN);
    let backend = renderer.backend(&[]);
    let mut guest = FrontEnd::connect(&backend.socket());
    let channel = ready_channel(&mut guest, CHANNEL);
    let began = Instant::now();
    for id in 100..140 {
        context(&mut guest, id);
        assert_eq!(submit(&mut guest, id, 1, b"die!"), ctrl::ERR_UNSPEC);
    }
    let starts = renderer.told().iter().filter(|line| line.starts_with("0x207")).count();
    let later = began.elapsed().as_secs() / 6 + 1;
    assert!((10..=10 + later).contains(&u64::try_from(starts).unwrap()), "{starts}");
    assert_eq!(channel.status(&guest), Status::Ready);
}
