//! A guest that sends commands at random: known kinds with plausible and wild
//! fields, over resources, contexts and channels that it really has. Whatever
//! it says, every command is answered and nothing is left afterwards.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use paravane_protocol::channel::{FORMAT_MARK, bell_command, bell_offset};
use paravane_protocol::virtio_gpu::{self as spec, ctrl};
use paravane_tests::backend::Backend;
use paravane_tests::frontend::{FrontEnd, MEMORY_BYTES, command};
use paravane_tests::guest::{CHANNEL_BYTES, Channel, ready_channel};
use zerocopy::IntoBytes;

const COMMANDS: u32 = 4000;

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.next() % of.len() as u64).unwrap()]
    }

    /// A word that is often small, sometimes at an edge, sometimes anything.
    fn word(&mut self) -> u32 {
        match self.below(4) {
            0 => self.pick(&[0, 1, 4095, 4096, u32::MAX, 1 << 31]),
            1 => self.next().to_le_bytes()[0].into(),
            2 => u32::try_from(self.next() >> 32).unwrap(),
            _ => self.below(9),
        }
    }
}

/// The body of a random command.
fn body(random: &mut Random, kind: u32, token: u64, pages: u64) -> Vec<u8> {
    // Resource 1 is the channel that the test looks at in the end.
    let resource = (2 + random.below(7)).into();
    match kind {
        ctrl::RESOURCE_CREATE_2D => {
            let index = random.pick(&[0, 1, 2, 0xffff]);
            let own = [low(token), high(token)];
            let (format, [width, height]) = match random.below(4) {
                0 => (FORMAT_MARK, [1, 1]),
                1 => (FORMAT_MARK | index, own),
                2 => (FORMAT_MARK | index, [random.word(), random.word()]),
                _ => (random.below(70), [random.word(), random.word()]),
            };
            let [format, width, height] = [format, width, height].map(Into::into);
            spec::ResourceCreate2d { resource_id: resource, format, width, height }
                .as_bytes()
                .to_vec()
        }
        ctrl::RESOURCE_ATTACH_BACKING => {
            let count = random.pick(&[1, 1, 1, 2, 3, 1000, u32::MAX]);
            let head =
                spec::ResourceAttachBacking { resource_id: resource, nr_entries: count.into() };
            let mut bytes = head.as_bytes().to_vec();
            for _ in 0..3 {
                let wild = random.next() >> random.below(64);
                let addr = random.pick(&[pages, pages, pages + 4096, MEMORY_BYTES, wild]);
                let length = random.pick(&[u32::try_from(CHANNEL_BYTES).unwrap(), 4096, 1]);
                let entry = spec::MemEntry {
                    addr: addr.into(),
                    length: length.into(),
                    ..Default::default()
                };
                bytes.extend_from_slice(entry.as_bytes());
            }
            bytes
        }
        ctrl::TRANSFER_TO_HOST_2D => {
            let offset = u64::from(bell_offset(random.below(5), random.below(9)));
            let offset = if random.below(8) == 0 { random.next() } else { offset };
            spec::TransferToHost2d {
                offset: offset.into(),
                resource_id: resource,
                ..Default::default()
            }
            .as_bytes()
            .to_vec()
        }
        ctrl::SUBMIT_3D => {
            let token = if random.below(4) == 0 { random.next() } else { token };
            let area = random.pick(&[0, 1, 2, 0xffff]);
            let bell = bell_command(token, area, bell_offset(random.below(5), random.below(9)));
            let size = random.pick(&[24, 24, 24, 8, u32::MAX]);
            let head = spec::Submit3d { size: size.into(), ..Default::default() };
            [head.as_bytes(), &bell].concat()
        }
        _ => {
            let mut bytes = resource.as_bytes().to_vec();
            while bytes.len() < 72 {
                bytes.extend_from_slice(&random.word().to_le_bytes());
            }
            bytes
        }
    }
}

fn low(token: u64) -> u32 {
    u32::try_from(token & u64::from(u32::MAX)).unwrap()
}

fn high(token: u64) -> u32 {
    u32::try_from(token >> 32).unwrap()
}

#[test]
fn every_command_is_answered_and_nothing_is_left() {
    let backend = Backend::start(&["--log-level", "off"]);
    let held = backend.held();
    let mut guest = FrontEnd::connect(&backend.socket());
    let own = ready_channel(&mut guest, 1);
    let token = own.token(&guest);
    // Resources share these pages; a header in them makes handshakes succeed.
    let pages = guest.pages(CHANNEL_BYTES + 4096);
    let shared = Channel { resource: 0, pages };
    own.copy_header(&guest, shared);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let often = [
        ctrl::RESOURCE_CREATE_2D,
        ctrl::RESOURCE_ATTACH_BACKING,
        ctrl::TRANSFER_TO_HOST_2D,
        ctrl::RESOURCE_UNREF,
        ctrl::SUBMIT_3D,
    ];
    for number in 0..COMMANDS {
        let kind = match random.below(4) {
            0 => random.pick(&[0x100, 0x200, 0x300]) + random.below(16),
            _ => random.pick(&often),
        };
        let fence = if random.below(2) == 0 { u64::from(number) + 1 } else { 0 };
        let body = body(&mut random, kind, token, pages);
        // The channel that the test looks at belongs to context 1.
        let kind = if kind == ctrl::CTX_DESTROY { ctrl::CTX_CREATE } else { kind };
        guest.put(0, &command(kind, fence, &body));
        guest.kick(0);
        let answer = guest.wait(0);
        assert!((0x1100..0x1300).contains(&answer.kind), "{kind:#x}: {:#x}", answer.kind);
    }
    assert_eq!(guest.command(ctrl::GET_DISPLAY_INFO, &[]).kind, ctrl::OK_DISPLAY_INFO);
    drop(guest);
    backend.assert_nothing_leaked(&held);
}
