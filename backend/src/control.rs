//! What the backend tells a worker and hears from it: one message per packet
//! on a SOCK_SEQPACKET socket, descriptors by SCM_RIGHTS. The device half sends
//! [`ToWorker`], the worker's control thread answers [`FromWorker`]. Both run
//! the same executable, so there is no version; sizes are checked all the same,
//! because a worker runs what a hostile guest asked for.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use paravane_protocol::limits::{PIECES_MAX, REGIONS_MAX};
use rustix::fs::{MemfdFlags, SealFlags};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::devices::DEVICES_MAX;
pub use crate::packet::{Packet, PacketError as ControlError, pair};

/// In a worker: its end of the control socket.
pub const CONTROL_FD: RawFd = 3;
/// In a worker: the eventfd that says "some GUEST_SLEEPS words turned 0".
pub const GUEST_WAKE_FD: RawFd = 4;
/// In a worker: its account page ([`crate::account::AccountPage`]).
pub const ACCOUNT_FD: RawFd = 5;
/// In a worker: the page of turns of its backend ([`crate::turn::Turns`]).
pub const TURNS_FD: RawFd = 6;
/// In a worker: the memory budget of its VM ([`crate::budget::Budget`]).
pub const BUDGET_FD: RawFd = 7;
/// In a worker: the lease page of its VM's first device ([`crate::lease::VmPage`]),
/// the eventfd that calls its arbiter, and so on for all devices.
pub const LEASES_FD: RawFd = 8;
/// The highest of these numbers.
pub const LAST_FD: RawFd = LEASES_FD + 31;
const _: () = assert!(2 * DEVICES_MAX == 32);
/// In a worker's environment: the libcuda to load.
pub const ENV_LIBCUDA: &str = "PARAVANE_WORKER_LIBCUDA";
/// In a worker's environment: what it logs, as `log::LevelFilter` has it.
pub const ENV_LOG_LEVEL: &str = "PARAVANE_WORKER_LOG_LEVEL";
/// In a worker's environment: the number of its slot in the budget.
pub const ENV_BUDGET_SLOT: &str = "PARAVANE_WORKER_BUDGET_SLOT";

const SET_MEMORY: u32 = 1;
const ADD_AREA: u32 = 2;
const REMOVE_AREA: u32 = 3;
const READY: u32 = 16;
const FAILED: u32 = 17;
const REMOVED: u32 = 18;
const SHARE: u32 = 19;
const SEEK: u32 = 20;
const USERS: u32 = 21;
const WITHDRAW: u32 = 22;
const ANSWER: u32 = 4;

const PACKET_BYTES_MAX: usize = size_of::<Head>() + REGIONS_MAX * size_of::<RegionRecord>();

/// Starts every packet; what a message does not use is 0.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    kind: U32,
    /// Area, or the generation of a memory table.
    number: U32,
    /// Region records that follow, or pieces in the memfd.
    count: U32,
    result: U32,
    bytes: U64,
}
const _: () = assert!(size_of::<Head>() == 24);

/// One region of SET_MEMORY.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RegionRecord {
    file_offset: U64,
    bytes: U64,
}
const _: () = assert!(size_of::<RegionRecord>() == 16);

/// One contiguous run of an area's pages, as it lies in an area's memfd.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Piece {
    /// Index into the regions of the latest SET_MEMORY.
    pub region: U32,
    /// 0.
    pub pad: U32,
    /// Offset in that region's file.
    pub offset: U64,
    /// Length in bytes. Whole pages, but for the last piece of an area.
    pub bytes: U64,
}
const _: () = assert!(size_of::<Piece>() == 24);

/// One region of guest memory: `bytes` bytes from `file_offset` of `file`.
#[derive(Debug)]
pub struct Region {
    /// The front end's descriptor of the memory.
    pub file: OwnedFd,
    /// Where the region starts in it.
    pub file_offset: u64,
    /// Its length.
    pub bytes: u64,
}

/// What one worker hands to the VM's others, under a random token.
#[derive(Debug)]
pub struct Share {
    /// Its name.
    pub token: [u8; 16],
    /// libcuda's handle, or zeros.
    pub bytes: [u8; 64],
    /// What goes by descriptor.
    pub file: Option<OwnedFd>,
}

/// A share without its descriptor, as it follows a head.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ShareRecord {
    token: [u8; 16],
    bytes: [u8; 64],
}

impl Share {
    /// A token alone.
    fn named(token: [u8; 16]) -> Self {
        Self { token, bytes: [0; 64], file: None }
    }

    fn packet(self, kind: u32) -> Packet {
        let head = Head { kind: kind.into(), ..Head::default() };
        let mut bytes = head.as_bytes().to_vec();
        bytes.extend_from_slice(ShareRecord { token: self.token, bytes: self.bytes }.as_bytes());
        Packet { bytes, fds: self.file.into_iter().collect() }
    }

    fn read(record: &[u8], fds: Vec<OwnedFd>) -> Result<Self, ControlError> {
        let record = ShareRecord::read_from_bytes(record)
            .map_err(|_| ControlError::Malformed("not the size of a share"))?;
        let mut fds = fds.into_iter();
        let file = fds.next();
        if fds.next().is_some() {
            return Err(ControlError::Malformed("a share has one descriptor at most"));
        }
        Ok(Self { token: record.token, bytes: record.bytes, file })
    }
}

/// What the backend says.
#[derive(Debug)]
pub enum ToWorker {
    /// Guest memory. Comes first; comes again when the front end has added
    /// regions: those that were there keep their index, their file and their
    /// place in it, so pieces and mappings stay valid.
    SetMemory {
        /// Counts the tables.
        generation: u32,
        /// Up to [`REGIONS_MAX`].
        regions: Vec<Region>,
    },
    /// Map these pages as an area. Area 0 is the channel itself.
    AddArea {
        /// The area's index in the channel.
        area: u16,
        /// Sum of the pieces' lengths.
        bytes: u64,
        /// Where its pages lie, in order.
        pieces: Vec<Piece>,
    },
    /// Unmap an area and answer [`FromWorker::Removed`]: after that its pages
    /// are the guest's alone.
    RemoveArea {
        /// The area's index in the channel.
        area: u16,
    },
    /// To [`FromWorker::Share`] and [`FromWorker::Seek`]: what lies under the
    /// token now; `None` for nothing.
    Answer(Option<Share>),
}

/// What a worker says.
#[derive(Debug)]
pub enum FromWorker {
    /// libcuda is loaded, area 0 is mapped, its rings are served.
    Ready,
    /// The worker cannot go on; it ends. Calls answer `result`, a CUresult.
    Failed {
        /// A CUresult other than CUDA_SUCCESS.
        result: u32,
    },
    /// The area is unmapped.
    Removed {
        /// The area's index in the channel.
        area: u16,
    },
    /// Keep this for the VM's other workers.
    Share(Share),
    /// Which processes of the VM run, and what do they use?
    Users,
    /// What has another worker filed under this token?
    Seek {
        /// The share's name.
        token: [u8; 16],
    },
    /// What was filed under this token is gone.
    Withdraw {
        /// The share's name.
        token: [u8; 16],
    },
}

impl ToWorker {
    /// Encodes the message; an area's pieces go into a sealed memfd.
    pub fn into_packet(self) -> Result<Packet, ControlError> {
        match self {
            Self::SetMemory { generation, regions } => {
                if regions.len() > REGIONS_MAX {
                    return Err(ControlError::Malformed("more regions than REGIONS_MAX"));
                }
                let head = Head {
                    kind: SET_MEMORY.into(),
                    number: generation.into(),
                    count: count(regions.len())?.into(),
                    ..Head::default()
                };
                let mut bytes = head.as_bytes().to_vec();
                let mut fds = Vec::with_capacity(regions.len());
                for Region { file, file_offset, bytes: length } in regions {
                    let record =
                        RegionRecord { file_offset: file_offset.into(), bytes: length.into() };
                    bytes.extend_from_slice(record.as_bytes());
                    fds.push(file);
                }
                Ok(Packet { bytes, fds })
            }
            Self::AddArea { area, bytes, pieces } => {
                let head = Head {
                    kind: ADD_AREA.into(),
                    number: u32::from(area).into(),
                    count: count(pieces.len())?.into(),
                    bytes: bytes.into(),
                    ..Head::default()
                };
                Ok(Packet { bytes: head.as_bytes().to_vec(), fds: vec![sealed_file("paravane-area", pieces.as_bytes())?] })
            }
            Self::RemoveArea { area } => {
                let head = Head {
                    kind: REMOVE_AREA.into(),
                    number: u32::from(area).into(),
                    ..Head::default()
                };
                Ok(Packet { bytes: head.as_bytes().to_vec(), fds: Vec::new() })
            }
            Self::Answer(Some(share)) => Ok(share.packet(ANSWER)),
            Self::Answer(None) => {
                let head = Head { kind: ANSWER.into(), ..Head::default() };
                Ok(Packet { bytes: head.as_bytes().to_vec(), fds: Vec::new() })
            }
        }
    }

    /// Receives one message. For the worker.
    pub fn receive(socket: BorrowedFd<'_>) -> Result<Self, ControlError> {
        let Packet { bytes, fds } = Packet::receive(socket, PACKET_BYTES_MAX)?;
        let (head, records) = Head::read_from_prefix(&bytes)
            .map_err(|_| ControlError::Malformed("shorter than its head"))?;
        if head.kind.get() == ANSWER {
            let share = if records.is_empty() { None } else { Some(Share::read(records, fds)?) };
            return Ok(Self::Answer(share));
        }
        let records = <[RegionRecord]>::ref_from_bytes(records)
            .map_err(|_| ControlError::Malformed("a region record is cut off"))?;
        match head.kind.get() {
            SET_MEMORY => {
                if records.len() != head.count.get() as usize || fds.len() != records.len() {
                    return Err(ControlError::Malformed("records or descriptors are not `count`"));
                }
                let regions = records.iter().zip(fds).map(|(record, file)| Region {
                    file,
                    file_offset: record.file_offset.get(),
                    bytes: record.bytes.get(),
                });
                Ok(Self::SetMemory { generation: head.number.get(), regions: regions.collect() })
            }
            ADD_AREA if records.is_empty() => {
                let Ok([file]) = <[OwnedFd; 1]>::try_from(fds) else {
                    return Err(ControlError::Malformed("an area comes with one descriptor"));
                };
                let pieces = read_pieces(file, head.count.get())?;
                Ok(Self::AddArea { area: area(&head)?, bytes: head.bytes.get(), pieces })
            }
            REMOVE_AREA if records.is_empty() && fds.is_empty() => {
                Ok(Self::RemoveArea { area: area(&head)? })
            }
            _ => Err(ControlError::Malformed("unknown kind, or longer than its kind")),
        }
    }
}

impl FromWorker {
    /// Sends the message. For the worker.
    pub fn send(self, socket: BorrowedFd<'_>) -> Result<(), ControlError> {
        let mut head = Head::default();
        match self {
            Self::Ready => head.kind = READY.into(),
            Self::Failed { result } => {
                head.kind = FAILED.into();
                head.result = result.into();
            }
            Self::Removed { area } => {
                head.kind = REMOVED.into();
                head.number = u32::from(area).into();
            }
            Self::Users => head.kind = USERS.into(),
            Self::Share(share) => return share.packet(SHARE).send(socket),
            Self::Seek { token } => return Share::named(token).packet(SEEK).send(socket),
            Self::Withdraw { token } => return Share::named(token).packet(WITHDRAW).send(socket),
        }
        Packet { bytes: head.as_bytes().to_vec(), fds: Vec::new() }.send(socket)
    }

    /// Receives one message. For the backend.
    pub fn receive(socket: BorrowedFd<'_>) -> Result<Self, ControlError> {
        let Packet { bytes, fds } = Packet::receive(socket, PACKET_BYTES_MAX)?;
        let (head, record) = Head::read_from_prefix(&bytes)
            .map_err(|_| ControlError::Malformed("not the size of a head"))?;
        match head.kind.get() {
            SHARE => return Ok(Self::Share(Share::read(record, fds)?)),
            SEEK => return Ok(Self::Seek { token: Share::read(record, fds)?.token }),
            WITHDRAW => return Ok(Self::Withdraw { token: Share::read(record, fds)?.token }),
            _ => {}
        }
        if !record.is_empty() {
            return Err(ControlError::Malformed("not the size of a head"));
        }
        if !fds.is_empty() {
            return Err(ControlError::Malformed("a worker sends descriptors with shares only"));
        }
        match head.kind.get() {
            READY => Ok(Self::Ready),
            FAILED => Ok(Self::Failed { result: head.result.get() }),
            USERS => Ok(Self::Users),
            REMOVED => Ok(Self::Removed { area: area(&head)? }),
            _ => Err(ControlError::Malformed("unknown kind")),
        }
    }
}

fn count(records: usize) -> Result<u32, ControlError> {
    u32::try_from(records).map_err(|_| ControlError::Malformed("more records than 32 bits count"))
}

fn area(head: &Head) -> Result<u16, ControlError> {
    u16::try_from(head.number.get())
        .map_err(|_| ControlError::Malformed("an area's index has 16 bits"))
}

/// A memfd that nobody can change any more; read from its start.
pub(crate) fn sealed_file(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create(name, flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

fn read_pieces(file: OwnedFd, count: u32) -> Result<Vec<Piece>, ControlError> {
    let file = File::from(file);
    let bytes = file.metadata()?.len();
    if count > PIECES_MAX || bytes != u64::from(count) * size_of::<Piece>() as u64 {
        return Err(ControlError::Malformed("the pieces are not `count`"));
    }
    let mut pieces =
        vec![
            Piece { region: 0.into(), pad: 0.into(), offset: 0.into(), bytes: 0.into() };
            count as usize
        ];
    file.read_exact_at(pieces.as_mut_bytes(), 0)?;
    Ok(pieces)
}

/// Takes one of the descriptors that a worker is started with. Call once per
/// number, first thing in the worker.
#[allow(unsafe_code)] // A number from exec becomes an owned descriptor.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: CONTROL_FD, GUEST_WAKE_FD, ACCOUNT_FD and TURNS_FD are open in a worker from
    // its first instruction, and nothing else in the process owns them.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
