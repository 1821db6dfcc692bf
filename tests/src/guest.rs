//! What a guest does through a front end: resources, and Paravane's channel as
//! docs/protocol.md has it, byte by byte.

use std::time::Instant;

use paravane_protocol::PROTOCOL_HASH;
use paravane_protocol::channel::{
    BELL_ATTACH, FORMAT_MARK, MAGIC, RING_AREA_BYTES, Status, bell_offset, header,
};
use paravane_protocol::virtio_gpu::{
    MemEntry, ResourceAttachBacking, ResourceCreate2d, ResourceRef, TransferToHost2d, ctrl,
};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::IntoBytes;

use crate::backend::HANG;
use crate::frontend::FrontEnd;

/// The pages of a channel that a test has made.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// Its resource.
    pub resource: u32,
    /// Where its pages start in guest memory.
    pub pages: u64,
}

/// Bytes of a channel.
pub const CHANNEL_BYTES: u64 = RING_AREA_BYTES as u64;

/// Creates a 2D resource. Returns the answer's number.
pub fn create(guest: &mut FrontEnd, id: u32, format: u32, width: u32, height: u32) -> u32 {
    let body = ResourceCreate2d {
        resource_id: id.into(),
        format: format.into(),
        width: width.into(),
        height: height.into(),
    };
    guest.send(ctrl::RESOURCE_CREATE_2D, &body)
}

/// Attaches runs of guest memory. Returns the answer's number.
pub fn attach(guest: &mut FrontEnd, id: u32, runs: &[(u64, u32)]) -> u32 {
    let count = u32::try_from(runs.len()).unwrap();
    let head = ResourceAttachBacking { resource_id: id.into(), nr_entries: count.into() };
    let mut body = head.as_bytes().to_vec();
    for &(addr, length) in runs {
        let entry = MemEntry { addr: addr.into(), length: length.into(), ..MemEntry::default() };
        body.extend_from_slice(entry.as_bytes());
    }
    guest.command(ctrl::RESOURCE_ATTACH_BACKING, &body).kind
}

/// Forgets a resource. Returns the answer's number.
pub fn unref(guest: &mut FrontEnd, id: u32) -> u32 {
    let body = ResourceRef { resource_id: id.into(), ..ResourceRef::default() };
    guest.send(ctrl::RESOURCE_UNREF, &body)
}

/// A doorbell's body.
pub fn bell_body(resource: u32, operation: u32, ring: u32) -> TransferToHost2d {
    TransferToHost2d {
        offset: u64::from(bell_offset(operation, ring)).into(),
        resource_id: resource.into(),
        ..TransferToHost2d::default()
    }
}

/// Rings a doorbell. Returns the answer's number.
pub fn bell(guest: &mut FrontEnd, resource: u32, operation: u32, ring: u32) -> u32 {
    guest.send(ctrl::TRANSFER_TO_HOST_2D, &bell_body(resource, operation, ring))
}

/// Makes a channel with a good header, scattered over two runs of pages, and
/// does not ring yet.
pub fn channel(guest: &mut FrontEnd, id: u32) -> Channel {
    assert_eq!(create(guest, id, FORMAT_MARK, 1, 1), ctrl::OK_NODATA);
    let pages = guest.pages(CHANNEL_BYTES);
    let half = u32::try_from(CHANNEL_BYTES / 2 / 4096 * 4096).unwrap();
    let rest = u32::try_from(CHANNEL_BYTES).unwrap() - half;
    let runs = [(pages, half), (pages + u64::from(half), rest)];
    assert_eq!(attach(guest, id, &runs), ctrl::OK_NODATA);
    let channel = Channel { resource: id, pages };
    channel.write(guest, header::MAGIC, &MAGIC.to_le_bytes());
    channel.write(guest, header::GUEST_HASH, &PROTOCOL_HASH.to_le_bytes());
    channel.write(guest, header::GUEST_PID, &4711_u32.to_le_bytes());
    channel.write(guest, header::GUEST_NAME, b"tester");
    channel
}

/// Makes a channel, shakes hands and waits until it is ready.
pub fn ready_channel(guest: &mut FrontEnd, id: u32) -> Channel {
    let channel = channel(guest, id);
    assert_eq!(bell(guest, id, BELL_ATTACH, 0), ctrl::OK_NODATA);
    channel.wait_status(guest, Status::Ready);
    channel
}

/// Makes an area of a channel. Returns its pages, or the refusal's number.
pub fn area(guest: &mut FrontEnd, id: u32, token: u64, index: u32) -> Result<u64, u32> {
    let [low, high] = [token & 0xffff_ffff, token >> 32].map(|half| u32::try_from(half).unwrap());
    let made = create(guest, id, FORMAT_MARK | index, low, high);
    if made != ctrl::OK_NODATA {
        return Err(made);
    }
    let pages = guest.pages(CHANNEL_BYTES);
    let attached = attach(guest, id, &[(pages, u32::try_from(CHANNEL_BYTES).unwrap())]);
    if attached == ctrl::OK_NODATA { Ok(pages) } else { Err(attached) }
}

impl Channel {
    /// Writes into the channel's pages.
    pub fn write(&self, guest: &FrontEnd, offset: usize, bytes: &[u8]) {
        guest.memory.write_slice(bytes, GuestAddress(self.pages + offset as u64)).unwrap();
    }

    /// Copies the header that the guest has written to other pages.
    pub fn copy_header(&self, guest: &FrontEnd, to: Self) {
        let mut bytes = [0; header::STATUS];
        guest.memory.read_slice(&mut bytes, GuestAddress(self.pages)).unwrap();
        guest.memory.write_slice(&bytes, GuestAddress(to.pages)).unwrap();
    }

    /// Reads a word.
    pub fn word(&self, guest: &FrontEnd, offset: usize) -> u32 {
        guest.memory.read_obj(GuestAddress(self.pages + offset as u64)).unwrap()
    }

    /// Reads two words.
    pub fn long(&self, guest: &FrontEnd, offset: usize) -> u64 {
        guest.memory.read_obj(GuestAddress(self.pages + offset as u64)).unwrap()
    }

    /// The status.
    pub fn status(&self, guest: &FrontEnd) -> Status {
        Status::from_word(self.word(guest, header::STATUS))
    }

    /// The token.
    pub fn token(&self, guest: &FrontEnd) -> u64 {
        self.long(guest, header::TOKEN)
    }

    /// Waits for a status.
    pub fn wait_status(&self, guest: &FrontEnd, status: Status) {
        let start = Instant::now();
        while self.status(guest) != status {
            let now = self.status(guest);
            assert!(start.elapsed() < HANG, "status stays {now:?} instead of {status:?}");
            std::thread::yield_now();
        }
    }
}
