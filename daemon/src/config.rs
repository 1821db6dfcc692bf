//! paravaned's file: read and checked whole before anything starts, so that an error names file, line and key. What
//! `paravanectl set --persistent` sets is written back into the same file, comments and order kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use paravane_backend::devices::DEVICES_MAX;
use paravane_backend::register::wanted::{Bytes, KernelLimit, Mode, Percent, Priority, Wanted};
use paravane_backend::register::{DEFAULT_SOCKET, message};
use paravane_scheduler::{Minimums, Settings};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use toml_edit::DocumentMut;

/// Where the file is unless `--config` says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/paravane/paravaned.toml";
/// Where paravanectl finds paravaned unless it is told otherwise.
pub const DEFAULT_CONTROL: &str = "/run/paravane/control.sock";

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where back ends register.
    pub registration: Registration,
    /// Where operators come.
    pub control: Control,
    /// Where Prometheus comes.
    pub metrics: Metrics,
    /// The ledger.
    pub ledger: LedgerFile,
    /// On which devices a VM is placed that names none.
    pub placement: Placement,
    /// What counts for every VM where neither its command line nor its table says otherwise.
    pub defaults: Checked,
    /// VMs by name.
    pub vm: BTreeMap<String, Vm>,
}

/// `[registration]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Who may register besides root and paravaned's own user.
    pub group: Option<String>,
}

impl Default for Registration {
    fn default() -> Self {
        Self { socket: DEFAULT_SOCKET.into(), group: None }
    }
}

/// `[control]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Who may control besides root and paravaned's own user.
    pub group: Option<String>,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: DEFAULT_CONTROL.into(), group: None }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// An address to serve /metrics on, besides the control socket.
    pub listen: Option<SocketAddr>,
    /// The label Hostname; absent: this host's name.
    pub hostname: Option<String>,
}

/// `[ledger]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerFile {
    /// The database.
    pub path: PathBuf,
    /// How exactly intervals are told apart.
    pub resolution_s: Resolution,
    /// How long figures are kept; 0: for ever.
    pub retention_days: u32,
}

impl Default for LedgerFile {
    fn default() -> Self {
        Self { path: "/var/lib/paravane/ledger.db".into(), resolution_s: Resolution(60), retention_days: 400 }
    }
}

/// Seconds from 1 to a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct Resolution(pub u32);

impl TryFrom<u32> for Resolution {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, String> {
        const DAY: u32 = 86_400;
        let fits = (1..=DAY).contains(&seconds);
        fits.then_some(Self(seconds)).ok_or_else(|| format!("{seconds}: must be seconds from 1 to {DAY}"))
    }
}

/// `placement`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// The first devices that have room.
    #[default]
    Packed,
    /// The devices with the fewest VMs.
    Spread,
    /// All devices of the VM's libcuda.
    Everything,
}

/// Settings that have been found possible, wherever they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Wanted")]
pub struct Checked(pub Wanted);

impl TryFrom<Wanted> for Checked {
    type Error = String;

    fn try_from(wanted: Wanted) -> Result<Self, String> {
        wanted.settings(1).map_err(|error| error.to_string())?;
        Ok(Self(wanted))
    }
}

/// `[vm.NAME]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "VmTable")]
pub struct Vm {
    /// Its settings.
    pub wanted: Wanted,
    /// The devices it is placed on, by UUID, in the order in which it sees them.
    pub gpu: Option<Named>,
    /// How many `placement` chooses, where it names none.
    pub devices: Option<NonZeroU8>,
    /// The VM is known by this too: a back end with this UUID is this VM, whatever name it says.
    pub uuid: Option<String>,
}

/// Devices by UUID: one, or several in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named(pub Vec<String>);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Uuids;
        impl<'de> Visitor<'de> for Uuids {
            type Value = Named;

            fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
                to.write_str("a device's UUID, or a list of them")
            }

            fn visit_str<E: de::Error>(self, uuid: &str) -> Result<Named, E> {
                Named::new(vec![uuid.to_owned()]).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Named, A::Error> {
                let mut uuids = Vec::new();
                while let Some(uuid) = list.next_element()? {
                    uuids.push(uuid);
                }
                Named::new(uuids).map_err(de::Error::custom)
            }
        }
        from.deserialize_any(Uuids)
    }
}

impl Named {
    fn new(uuids: Vec<String>) -> Result<Self, String> {
        if uuids.is_empty() || uuids.len() > DEVICES_MAX {
            return Err(format!("must name from 1 to {DEVICES_MAX} devices"));
        }
        if uuids.iter().any(String::is_empty) {
            return Err("a UUID is empty".into());
        }
        let mut seen = BTreeSet::new();
        match uuids.iter().find(|uuid| !seen.insert(*uuid)) {
            Some(twice) => Err(format!("{twice} comes twice")),
            None => Ok(Self(uuids)),
        }
    }
}

/// Not flattened from [`Wanted`]: then an error would name the table's line, not the key's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VmTable {
    gpu: Option<Named>,
    devices: Option<NonZeroU8>,
    uuid: Option<String>,
    weight: Option<u32>,
    minimum: Option<Percent>,
    cap: Option<Percent>,
    priority: Option<Priority>,
    mode: Option<Mode>,
    memory_quota: Option<Bytes>,
    kernel_limit: Option<KernelLimit>,
    sms: Option<u32>,
    swap: Option<Bytes>,
}

impl TryFrom<VmTable> for Vm {
    type Error = String;

    fn try_from(table: VmTable) -> Result<Self, String> {
        let VmTable { gpu, devices, uuid, .. } = table;
        let VmTable { weight, minimum, cap, priority, mode, memory_quota, kernel_limit, sms, swap, .. } = table;
        if gpu.is_some() && devices.is_some() {
            return Err("devices: gpu names them already".into());
        }
        let wanted = Wanted { weight, minimum, cap, priority, mode, memory_quota, kernel_limit, sms, swap };
        let Checked(wanted) = wanted.try_into()?;
        Ok(Self { wanted, gpu, devices, uuid })
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What it says cannot be.
    #[error("{path}: {said}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, key, and what is wrong with it.
        said: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Names file, line and key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| ConfigError::File { path: path.into(), error })?;
        Self::parse(&text).map_err(|said| ConfigError::Wrong { path: path.into(), said })
    }

    /// Checks a file's text.
    ///
    /// # Errors
    /// Names line and key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml_edit::de::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        config.check().map_err(|(vm, why)| match line_of(text, &vm) {
            Some(line) => format!("line {line}, vm.{vm}: {why}"),
            None => format!("vm.{vm}: {why}"),
        })?;
        Ok(config)
    }

    /// What no single value shows.
    fn check(&self) -> Result<(), (String, String)> {
        let mut minimums: BTreeMap<&str, Minimums> = BTreeMap::new();
        for (name, vm) in &self.vm {
            if name.is_empty() || name.len() > message::NAME_BYTES_MAX || name.chars().any(char::is_control) {
                return Err((name.clone(), "must be a name of at most 128 printable bytes".into()));
            }
            let all = self.defaults.0.under(&vm.wanted);
            let settings = all.settings(1).map_err(|error| (name.clone(), error.to_string()))?;
            if vm.devices.is_some() && self.placement == Placement::Everything {
                return Err((name.clone(), "devices: placement \"everything\" gives it all".into()));
            }
            // Those that name no device may be apart; those of one device are together.
            let named = vm.gpu.iter().flat_map(|named| &named.0).filter(|_| !is_equal_share(&all));
            for uuid in named {
                let sum = minimums.entry(uuid).or_default();
                let sum = sum.replace(0, settings.minimum());
                sum.map_err(|error| (name.clone(), format!("on {uuid}: {error}")))?;
            }
        }
        Ok(())
    }

    /// The table of a VM, by name or UUID, and the name that it has here.
    pub fn vm_of<'a>(&'a self, name: &'a str, uuid: Option<&str>) -> Option<(&'a str, &'a Vm)> {
        let by_uuid = |vm: &&Vm| uuid.is_some() && vm.uuid.as_deref() == uuid;
        let found = self.vm.iter().find(|(_, vm)| by_uuid(vm)).map(|(name, vm)| (name.as_str(), vm));
        found.or_else(|| self.vm.get_key_value(name).map(|(name, vm)| (name.as_str(), vm)))
    }
}

/// Whether a VM's part depends on who else is there.
pub fn is_equal_share(wanted: &Wanted) -> bool {
    wanted.mode == Some(Mode::EqualShare)
}

/// The scheduler's settings where `vms` share a device. What has been checked alone can only fail with others.
pub fn settings_of(wanted: &Wanted, vms: u32) -> Result<Settings, String> {
    wanted.settings(vms).map_err(|error| error.to_string())
}

/// The line, from 1, on which a VM's table begins.
fn line_of(text: &str, vm: &str) -> Option<usize> {
    let document = toml_edit::Document::parse(text).ok()?;
    let start = document.as_item().get("vm")?.get(vm)?.span()?.start;
    Some(text.get(..start)?.matches('\n').count() + 1)
}

/// Writes what is set for a VM into the file, whose other words stay as they are. The new file takes the old one's
/// place at once, and only if it can be read back.
///
/// # Errors
/// If the file cannot be written, or would not be accepted.
pub fn persist(path: &Path, vm: &str, set: &Wanted) -> Result<Config, ConfigError> {
    let file = |error| ConfigError::File { path: path.into(), error };
    let wrong = |said| ConfigError::Wrong { path: path.into(), said };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(file(error)),
    };
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| wrong(error.to_string()))?;
    write_table(&mut document, vm, set);
    let text = document.to_string();
    let config = Config::parse(&text).map_err(wrong)?;
    replace(path, &text).map_err(file)?;
    Ok(config)
}

fn write_table(document: &mut DocumentMut, vm: &str, set: &Wanted) {
    let mut implicit = toml_edit::Table::new();
    implicit.set_implicit(true);
    let tables = document.entry("vm").or_insert(toml_edit::Item::Table(implicit));
    let Some(table) = tables.as_table_like_mut() else { return };
    let table = table.entry(vm).or_insert(toml_edit::table());
    let Some(table) = table.as_table_like_mut() else { return };
    let percent = |percent: Percent| {
        let value = f64::from(percent);
        let whole = i64::from(percent.thousandths() / 10);
        if percent.thousandths().is_multiple_of(10) { toml_edit::value(whole) } else { toml_edit::value(value) }
    };
    let word = |value: serde_json::Value| toml_edit::value(value.as_str().unwrap_or_default());
    let bytes = |bytes: Bytes| toml_edit::value(i64::try_from(bytes.0).unwrap_or(i64::MAX));
    let values = [
        ("weight", set.weight.map(|weight| toml_edit::value(i64::from(weight)))),
        ("minimum", set.minimum.map(percent)),
        ("cap", set.cap.map(percent)),
        ("priority", set.priority.map(|priority| word(serde_json::json!(priority)))),
        ("mode", set.mode.map(|mode| word(serde_json::json!(mode)))),
        ("kernel_limit", set.kernel_limit.map(|limit| toml_edit::value(f64::from(limit)))),
        ("sms", set.sms.map(|sms| toml_edit::value(i64::from(sms)))),
        ("memory_quota", set.memory_quota.map(bytes)),
        ("swap", set.swap.map(bytes)),
    ];
    for (key, value) in values {
        if let Some(value) = value {
            // What stands beside the old value stays.
            let decor = table.get(key).and_then(|old| old.as_value()).map(|old| old.decor().clone());
            table.insert(key, value);
            if let (Some(decor), Some(new)) = (decor, table.get_mut(key).and_then(|new| new.as_value_mut())) {
                *new.decor_mut() = decor;
            }
        }
    }
}

/// Replaces a file by a whole one, on the disk before it has the name; mode kept.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mode = fs::metadata(path).map_or(0o644, |data| data.permissions().mode());
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let mut file = fs::File::create(&unfinished)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
