//! What a back end and paravaned say to each other: one JSON object per packet.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::wanted::Wanted;
use crate::devices::Device;
use crate::lease::Shares;
use crate::packet::{Packet, PacketError};

/// Counts changes that the other side must know of.
pub const VERSION: u32 = 2;
/// The longest packet. Devices and numbers of processes are what makes one long.
pub const PACKET_BYTES_MAX: usize = 64 << 10;
/// The longest name of a VM or a process, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// A process's counters by the names of [`crate::account::COUNTERS`].
pub type Named = BTreeMap<String, u64>;

/// What a back end says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromBackend {
    /// First; with the VM's page of each device and the eventfd that wakes its
    /// arbiter, in turn and in the order of the devices; of one, where none is told.
    Hello(Hello),
    /// A guest process begins; with its account page.
    Begins {
        /// Counts the run's processes from 1.
        number: u64,
        /// Its id in the guest.
        pid: u32,
        /// Its name in the guest.
        name: String,
        /// Its worker's id on the host.
        worker: u32,
    },
    /// A guest process has ended, with these sums. Also of one that has never
    /// been told of; again until it is [`ToBackend::Booked`].
    Ended(Last),
    /// What all processes together have used that paravaned is not told of one
    /// by one: there were too many while it was away.
    Rest {
        /// Sums since the run began.
        counters: Named,
    },
}

/// A process that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// As in [`FromBackend::Begins`].
    pub number: u64,
    /// As there.
    pub pid: u32,
    /// As there.
    pub name: String,
    /// Its last sums.
    pub counters: Named,
    /// GPU time of each device, in the order of the hello's.
    #[serde(default)]
    pub gpu_time_ns_on: Vec<u64>,
    /// The most device memory that it ever held.
    #[serde(default)]
    pub memory_peak_bytes: u64,
}

/// Who registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// A random name of this run of the back end.
    pub boot: String,
    /// The VM's name, where the command line gives it.
    pub name: Option<String>,
    /// The VM's UUID, likewise.
    pub uuid: Option<String>,
    /// The command line's settings.
    pub wanted: Wanted,
    /// What its libcuda has.
    pub devices: Vec<Device>,
}

/// What paravaned says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToBackend {
    /// To the hello: from now on paravaned's arbiter gives the leases.
    Welcome {
        /// The VM's name from now on.
        name: String,
        /// The devices that it is placed on, by UUID; none: as libcuda has them.
        devices: Vec<String>,
        /// What is in force.
        wanted: Wanted,
    },
    /// Other settings are in force.
    Settings {
        /// All of them.
        wanted: Wanted,
    },
    /// What the VM is entitled to now; its caps when paravaned is away.
    Shares {
        /// Thousandths of each device's time.
        thousandths: Shares,
    },
    /// What these processes have used in all is on the disk.
    Booked {
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// A process is to end, or all of them.
    Kill {
        /// Which.
        number: Option<u64>,
    },
    /// It cannot register; the connection ends.
    Refused {
        /// Why, for the log.
        reason: String,
    },
}

/// Sends one message.
///
/// # Errors
/// `WouldBlock` where the socket does not block and is full.
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, fds: Vec<OwnedFd>) -> Result<(), PacketError> {
    let bytes = serde_json::to_vec(message).map_err(std::io::Error::from)?;
    if bytes.len() > PACKET_BYTES_MAX {
        return Err(PacketError::Malformed("longer than PACKET_BYTES_MAX"));
    }
    Packet { bytes, fds }.send(socket)
}

/// Receives one message and the descriptors that came with it.
///
/// # Errors
/// As [`Packet::receive`]; also for what is no message.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<(T, Vec<OwnedFd>), PacketError> {
    let Packet { bytes, fds } = Packet::receive(socket, PACKET_BYTES_MAX)?;
    let message = serde_json::from_slice(&bytes).map_err(|error| {
        log::debug!("a packet that is no message: {error}");
        PacketError::Malformed("no message of this protocol")
    })?;
    Ok((message, fds))
}
