//! The devices: how many there are, which of them this process sees, and what names each. All other files know a
//! device by its place among those that are seen, which is CUDA's ordinal.

use paravane_protocol::cuda_types::{CUdevice, CUuuid};
use paravane_protocol::visible::{ENV_VISIBLE, uuid_text, visible};
use std::sync::OnceLock;

/// So many devices there can be: each is a bit of a mark (`memory::arena`).
pub const DEVICES_MAX: usize = 8;
/// The first device's, the same on every machine and in every run; those of further devices differ in the last byte.
const UUID: [u8; 16] = *b"paravane-cpu-dev";

/// A device that the process sees, by its ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device(u8);

/// The devices that the process sees, by their numbers among all; none before [`look`].
static SEEN: OnceLock<Vec<u8>> = OnceLock::new();

fn seen() -> &'static [u8] {
    SEEN.get().map_or(&[], Vec::as_slice)
}

/// Reads the environment, the first time: cuInit. Whoever loads this library may set the variable until then.
pub fn look() {
    SEEN.get_or_init(from_environment);
}

fn from_environment() -> Vec<u8> {
    let all: Vec<String> = (0..configured_count()).map(|number| uuid_text(uuid_of(number))).collect();
    // What is not text names nothing.
    let list = std::env::var_os(ENV_VISIBLE).map(|list| list.to_string_lossy().into_owned());
    let places = list.map_or_else(|| (0..all.len()).collect(), |list| visible(&list, &all));
    places.into_iter().filter_map(|place| u8::try_from(place).ok()).collect()
}

/// `PARAVANE_CPU_DEVICES`, else one.
fn configured_count() -> u8 {
    let asked = std::env::var("PARAVANE_CPU_DEVICES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(1).clamp(1, 8)
}

fn uuid_of(number: u8) -> [u8; 16] {
    let mut bytes = UUID;
    bytes[15] += number;
    bytes
}

impl Device {
    /// The device with that ordinal, if the process sees it.
    pub fn new(ordinal: i32) -> Option<Self> {
        u8::try_from(ordinal).ok().filter(|place| usize::from(*place) < seen().len()).map(Self)
    }

    /// All that the process sees.
    pub fn all() -> impl Iterator<Item = Self> {
        (0_u8..).take(seen().len()).map(Self)
    }

    /// How many the process sees.
    pub fn count() -> usize {
        seen().len()
    }

    /// For tests of what does not mind which.
    #[cfg(test)]
    pub fn any() -> Self {
        look();
        Self(0)
    }

    pub fn cuda(self) -> CUdevice {
        CUdevice(self.0.into())
    }

    /// Its place in what there is of each device.
    #[inline]
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// Its bit among devices.
    #[inline]
    pub fn bit(self) -> u8 {
        1 << self.0
    }

    /// Its number among all devices, which is the same in every process.
    pub fn number(self) -> u8 {
        seen().get(self.index()).copied().unwrap_or(0)
    }

    /// The device with that number, if the process sees it.
    pub fn with_number(number: u8) -> Option<Self> {
        Self::all().find(|device| device.number() == number)
    }

    pub fn uuid(self) -> CUuuid {
        CUuuid { bytes: uuid_of(self.number()) }
    }

    /// Domain, bus and device number.
    pub fn pci(self) -> [i32; 3] {
        [0, self.number().into(), 0]
    }

    /// The device at a PCI address: domain:bus:device.function in hexadecimal, without domain or function if need be.
    pub fn at_pci(address: &str) -> Option<Self> {
        let (place, function) = address.split_once('.').unwrap_or((address, "0"));
        let number = |text: &str| i32::from_str_radix(text, 16).ok();
        let numbers: Vec<i32> = place.split(':').map(number).collect::<Option<_>>()?;
        let address = match *numbers {
            [bus, device] => [0, bus, device],
            [domain, bus, device] => [domain, bus, device],
            _ => return None,
        };
        Self::all().find(|device| number(function) == Some(0) && device.pci() == address)
    }
}
