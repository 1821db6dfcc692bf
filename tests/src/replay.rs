//! A recorded stream drawn again: every command goes over the vhost-user transport to a back end, the guest's writes are made
//! before it, and what the host then writes is compared with what it wrote when the stream was recorded.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use paravane_protocol::virtio_gpu::{self as spec, ctrl};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, IntoBytes};

use crate::frontend::{DESC_WRITE, FrontEnd, command};
use crate::guest::attach;
use crate::recording::{Attached, EXPECTED, Place, Record, WRITTEN};

/// Room for a command: virgl's Mesa submits at most so much and a little more.
const COMMAND_BYTES: u64 = 1 << 20;
const ANSWER_BYTES: u32 = 4096;

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Commands that were made, all of them answered well.
    pub commands: usize,
    /// Bytes that the host wrote and were compared.
    pub compared: usize,
    /// How many of them differ by more than was allowed.
    pub beyond: usize,
    /// By how much one differs at most.
    pub most: u8,
    /// The pages that the host wrote last, from the first byte that was compared: the picture that the program read.
    pub last: Vec<u8>,
}

/// A guest whose resources have the recorded numbers and pages of its own.
struct Guest {
    front_end: FrontEnd,
    command: u64,
    answer: u64,
    fence: u64,
    pages: HashMap<u32, (u64, u32)>,
    /// Pages of resources that are gone, by their bytes.
    free: BTreeMap<u32, Vec<u64>>,
}

/// Draws `records` on the back end at `socket`; bytes of pixels may differ by `allowed`.
///
/// # Panics
/// The back end refuses a command that it took when the stream was recorded.
pub fn replay(socket: &Path, records: &[Record], allowed: u8) -> Replayed {
    let mut front_end = FrontEnd::connect(socket);
    let (command, answer) = (front_end.pages(COMMAND_BYTES), front_end.pages(ANSWER_BYTES.into()));
    let mut guest = Guest { front_end, command, answer, fence: 0, pages: HashMap::new(), free: BTreeMap::new() };
    let (mut replayed, mut first) = (Replayed::default(), true);
    for (n, record) in records.iter().enumerate() {
        match record.kind {
            WRITTEN | EXPECTED => {
                let (place, bytes) = Place::read_from_prefix(&record.body).unwrap();
                let (at, all) = guest.pages[&place.resource.get()];
                let address = GuestAddress(at + u64::from(place.offset.get()));
                if record.kind == WRITTEN {
                    guest.front_end.memory.write_slice(bytes, address).unwrap();
                    continue;
                }
                let rest = usize::try_from(all - place.offset.get()).unwrap();
                let mut found = vec![0; rest];
                guest.front_end.memory.read_slice(&mut found, address).unwrap();
                replayed.compare(&found[..bytes.len()], bytes, allowed);
                if std::mem::take(&mut first) {
                    replayed.last = found;
                }
            }
            _ => {
                first = true;
                let kind = guest.run(record);
                assert_eq!(kind, ctrl::OK_NODATA, "record {n}, command {:#x}", record.kind);
                replayed.commands += 1;
            }
        }
    }
    replayed
}

impl Replayed {
    fn compare(&mut self, found: &[u8], expected: &[u8], allowed: u8) {
        for (found, expected) in found.iter().zip(expected) {
            let off = found.abs_diff(*expected);
            self.compared += 1;
            self.beyond += usize::from(off > allowed);
            self.most = self.most.max(off);
        }
    }
}

impl Guest {
    /// Makes a command; its answer's number.
    fn run(&mut self, record: &Record) -> u32 {
        let resource = record.body.first_chunk().map_or(0, |id| u32::from_le_bytes(*id));
        match record.kind {
            ctrl::RESOURCE_ATTACH_BACKING => self.attach(&record.body),
            ctrl::SUBMIT_3D => {
                let size = u32::try_from(record.body.len()).unwrap();
                let head = spec::Submit3d { size: size.into(), ..Default::default() };
                self.send(record, &[head.as_bytes(), &record.body].concat())
            }
            ctrl::RESOURCE_UNREF => {
                let kind = self.send(record, &record.body);
                if let Some((at, bytes)) = self.pages.remove(&resource) {
                    self.free.entry(bytes).or_default().push(at);
                }
                kind
            }
            _ => self.send(record, &record.body),
        }
    }

    /// Gives a resource pages, zeroed as the guest's were when it had them first.
    fn attach(&mut self, body: &[u8]) -> u32 {
        let wanted = Attached::read_from_bytes(body).unwrap();
        let (resource, bytes) = (wanted.resource.get(), wanted.bytes.get());
        let used = self.free.get_mut(&bytes).and_then(Vec::pop);
        let at = used.unwrap_or_else(|| self.front_end.pages(bytes.into()));
        self.front_end.memory.write_slice(&vec![0; usize::try_from(bytes).unwrap()], GuestAddress(at)).unwrap();
        self.pages.insert(resource, (at, bytes));
        attach(&mut self.front_end, resource, &[(at, bytes)])
    }

    fn send(&mut self, record: &Record, body: &[u8]) -> u32 {
        if record.fenced {
            self.fence += 1;
        }
        let mut bytes = command(record.kind, if record.fenced { self.fence } else { 0 }, body);
        bytes[16..20].copy_from_slice(&record.context.to_le_bytes());
        assert!(bytes.len() as u64 <= COMMAND_BYTES, "a command of {} bytes", bytes.len());
        self.front_end.memory.write_slice(&bytes, GuestAddress(self.command)).unwrap();
        let length = u32::try_from(bytes.len()).unwrap();
        self.front_end.put_chain(0, &[(self.command, length, 0), (self.answer, ANSWER_BYTES, DESC_WRITE)]);
        self.front_end.kick(0);
        self.front_end.wait(0).kind
    }
}
