//! The host's state: VMs that are registered, devices and their arbiters, the file's settings. Whoever comes in, a back
//! end (`registration`), an operator (`control`) or the second hand (`tick`), changes it here.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use paravane_backend::account::AccountPage;
use paravane_backend::devices::Device;
use paravane_backend::lease::{VmId, VmPage};
use paravane_backend::register::message::{Hello, Last, Named, ToBackend};
use paravane_backend::register::wanted::Wanted;

use crate::config::{self, Config, is_equal_share, settings_of};
use crate::events::{self, Events, Kind};
use crate::gpus::{Choice, Gpus, Wish};
use crate::history::History;
use crate::ledger::{Ledger, LedgerError, Reader};
use crate::peer;
use crate::view::Layers;
use crate::vm::{Account, Peer, Vm, printable};

mod place;
mod show;
mod tick;

pub use tick::Tick;

/// VMs of a host.
const VMS_MAX: usize = 4096;

/// All of it.
pub struct Host {
    /// The file that settings come from and persist in.
    pub config_path: PathBuf,
    /// What happens.
    pub events: Events,
    state: Mutex<State>,
    ledger: Mutex<Ledger>,
    reader: Mutex<Reader>,
}

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) gpus: Gpus,
    pub(crate) vms: BTreeMap<VmId, Vm>,
    pub(crate) history: History,
    /// VMs that have gone, and looks that are left for their last figures.
    leaving: Vec<(u8, Vm)>,
    issued: u32,
}

/// Why an operator's wish is not done.
#[derive(Debug, thiserror::Error)]
pub enum Unable {
    /// There is no such VM or process.
    #[error("{0}")]
    Nothing(String),
    /// It cannot be.
    #[error("{0}")]
    Impossible(String),
    /// The file or the ledger fails.
    #[error("{0}")]
    Failed(String),
}

impl Host {
    /// A host without VMs.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(config: Config, config_path: PathBuf, ledger: Ledger) -> Result<Self, LedgerError> {
        let (gpus, vms, history) = (Gpus::default(), BTreeMap::new(), History::default());
        let state = State { config, gpus, vms, history, leaving: Vec::new(), issued: 0 };
        let reader = Mutex::new(ledger.reader()?);
        Ok(Self { config_path, events: Events::default(), state: Mutex::new(state), ledger: Mutex::new(ledger), reader })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger, for questions: a VM that comes does not wait for a booking, which waits for the disk.
    pub fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A back end comes. What it is told first is sent here, so that nothing else comes before it.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn register(
        &self,
        hello: Hello,
        peer: Peer,
        leases: Vec<(VmPage, OwnedFd)>,
        socket: OwnedFd,
    ) -> Result<VmId, String> {
        let boot = printable(&hello.boot);
        let past = self.reader().past(&boot).map_err(|error| format!("the ledger: {error}"))?;
        let mut state = self.state();
        let state = &mut *state;
        // The same run again: it tells of all that the last connection knew.
        state.leaving.retain(|(_, vm)| vm.boot != boot);
        if state.vms.len() >= VMS_MAX {
            return Err(format!("there are {VMS_MAX} VMs"));
        }
        let devices = if hello.devices.is_empty() { vec![Device::default()] } else { hello.devices };
        state.gpus.learn(&devices).map_err(|error| error.to_string())?;
        let said = hello.name.filter(|name| !name.is_empty()).map_or_else(|| peer::name_of(peer.pid), |name| printable(&name));
        let uuid = hello.uuid.as_deref().map(printable);
        let (name, table) = match state.config.vm_of(&said, uuid.as_deref()) {
            Some((name, table)) => (name.to_owned(), table.clone()),
            None => (said, config::Vm::default()),
        };
        let name = self.unused(state, name);
        let mut layers = Layers {
            defaults: state.config.defaults.0.clone(),
            command_line: hello.wanted,
            file: table.wanted.clone(),
            live: Wanted::default(),
        };
        let wanted = layers.all();
        // Equal shares make room for each other.
        let minimum = if is_equal_share(&wanted) { 0 } else { settings_of(&wanted, 1)?.minimum() };
        let choices: Vec<Choice> = devices.iter().map(|device| state.choice(&device.uuid)).collect();
        let uuids = Wish::of(&state.config, &table, minimum).place(&choices)?;
        if let Some(why) = state.gpus.lacks(&uuids, &wanted) {
            let text = format!("not in force: {why}");
            self.events.say(Kind::Warning, &name, text);
            layers.forget_sms();
        }
        let wanted = layers.all();
        state.issued += 1;
        let id = VmId(state.issued);
        let leases: Vec<_> = devices.iter().map(|device| device.uuid.as_str()).zip(leases).collect();
        let placed = self.admit(state, id, &name, &wanted, &uuids, leases)?;
        let vm = Vm {
            id,
            name: name.clone(),
            uuid: uuid.unwrap_or_default(),
            boot,
            peer,
            listed: devices.iter().map(|device| device.uuid.clone()).collect(),
            devices: placed,
            since_s: events::now().as_secs(),
            layers,
            memory_peak_bytes: 0,
            socket: Some(socket),
            account: Account::after(past),
        };
        // As libcuda has them needs no word.
        let all = devices.iter().map(|device| &device.uuid).eq(&uuids);
        let told = if all { Vec::new() } else { uuids.clone() };
        vm.tell(&ToBackend::Welcome { name: name.clone(), devices: told, wanted });
        state.vms.insert(id, vm);
        state.even_out(&uuids, &self.events);
        let text = format!("registered by process {} of user {}, on {}", peer.pid, peer.uid, uuids.join(", "));
        self.events.say(Kind::Registered, &name, text);
        Ok(id)
    }

    /// A name that no other VM has: two of one name would share an account and settings.
    fn unused(&self, state: &State, name: String) -> String {
        let taken = |name: &str| state.vms.values().any(|vm| vm.name == name);
        if !taken(&name) {
            return name;
        }
        let other = (2_u32..).map(|number| format!("{name}~{number}")).find(|name| !taken(name));
        let other = other.unwrap_or_default();
        self.events.say(Kind::Warning, &other, format!("there is a VM {name} already: this one is called {other}"));
        other
    }

    /// A back end's process begins.
    pub fn begin(&self, id: VmId, number: u64, (pid, name, worker): (u32, &str, u32), page: AccountPage) -> bool {
        let mut state = self.state();
        let Some(vm) = state.vms.get_mut(&id) else { return false };
        let begun = vm.begin(number, pid, name, worker, page);
        if begun {
            let text = format!("process {pid} ({}) is served by worker {worker}", printable(name));
            self.events.say(Kind::ProcessBegan, &vm.name, text);
        }
        begun
    }

    /// A back end's process has ended.
    pub fn end(&self, id: VmId, last: &Last) -> bool {
        let mut state = self.state();
        let Some(vm) = state.vms.get_mut(&id) else { return false };
        self.events.say(Kind::ProcessEnded, &vm.name, format!("process {} ({})", last.pid, printable(&last.name)));
        vm.end(last)
    }

    /// What a back end tells of without names.
    pub fn rest(&self, id: VmId, counters: &Named) {
        if let Some(vm) = self.state().vms.get_mut(&id) {
            vm.set_rest(counters);
        }
    }

    /// A back end has gone. Its pages are read until its workers are gone too.
    pub fn leave(&self, id: VmId, why: &str) {
        let mut state = self.state();
        let Some(mut vm) = state.vms.remove(&id) else { return };
        let uuids = vm.uuids();
        for gpu in uuids.iter().filter_map(|uuid| state.gpus.find(uuid)) {
            gpu.arbiter.remove(id);
        }
        vm.leave();
        self.events.say(Kind::Left, &vm.name, why);
        state.leaving.push((tick::LAST_LOOKS, vm));
        state.even_out(&uuids, &self.events);
    }

    /// Other settings for a VM, from now on or for good.
    ///
    /// # Errors
    /// If there is no such VM, or the settings are not possible.
    pub fn set(&self, name: &str, set: &Wanted, persistent: bool) -> Result<Wanted, Unable> {
        let mut state = self.state();
        let state = &mut *state;
        let id = state.id(name);
        let Some(vm) = id.and_then(|id| state.vms.get(&id)) else {
            if !persistent {
                return Err(Unable::Nothing(format!("there is no VM {name}; --persistent sets it for when it comes")));
            }
            self.persist(state, name, set)?;
            return Ok(state.config.vm_of(name, None).map(|(_, vm)| vm.wanted.clone()).unwrap_or_default());
        };
        let id = vm.id;
        let mut layers = vm.layers.clone();
        layers.live = layers.live.under(set);
        let wanted = layers.all();
        state.change(id, &wanted).map_err(Unable::Impossible)?;
        if persistent {
            let name = vm_name_in_file(state, id).unwrap_or_else(|| name.to_owned());
            if let Err(error) = self.persist(state, &name, set) {
                let before = state.vms.get(&id).map(|vm| vm.layers.all()).unwrap_or_default();
                // What was in force was possible.
                let _ = state.change(id, &before);
                return Err(error);
            }
            layers.file = layers.file.under(set);
            // The file says it now, and goes on to say it when it is edited.
            layers.live = layers.live.without(set);
        }
        if let Some(vm) = state.vms.get_mut(&id) {
            vm.layers = layers;
            vm.tell(&ToBackend::Settings { wanted: wanted.clone() });
            let for_good = if persistent { ", for good" } else { "" };
            let text = format!("set {}{for_good}", serde_json::to_string(set).unwrap_or_default());
            self.events.say(Kind::Set, name, text);
            let uuids = vm.uuids();
            state.even_out(&uuids, &self.events);
        }
        Ok(wanted)
    }

    fn persist(&self, state: &mut State, name: &str, set: &Wanted) -> Result<(), Unable> {
        state.config = config::persist(&self.config_path, name, set).map_err(|error| match error {
            config::ConfigError::File { .. } => Unable::Failed(error.to_string()),
            config::ConfigError::Wrong { .. } => Unable::Impossible(error.to_string()),
        })?;
        Ok(())
    }

    /// Reads the file again. What is set live stays.
    ///
    /// # Errors
    /// If the file is wrong; then nothing changes.
    pub fn reload(&self) -> Result<(), config::ConfigError> {
        let config = Config::read(&self.config_path)?;
        let mut state = self.state();
        let state = &mut *state;
        state.config = config;
        let ids: Vec<VmId> = state.vms.keys().copied().collect();
        for id in ids {
            let Some(vm) = state.vms.get(&id) else { continue };
            let mut layers = vm.layers.clone();
            layers.defaults = state.config.defaults.0.clone();
            let table = state.config.vm_of(&vm.name, Some(&vm.uuid));
            layers.file = table.map(|(_, table)| table.wanted.clone()).unwrap_or_default();
            let (name, wanted) = (vm.name.clone(), layers.all());
            match state.change(id, &wanted) {
                Ok(()) => {
                    if let Some(vm) = state.vms.get_mut(&id) {
                        vm.layers = layers;
                        vm.tell(&ToBackend::Settings { wanted });
                    }
                }
                Err(why) => self.events.say(Kind::Warning, &name, format!("stays as it was set: {why}")),
            }
        }
        let devices: Vec<String> = state.gpus.0.iter().map(|gpu| gpu.device.uuid.clone()).collect();
        state.even_out(&devices, &self.events);
        self.events.say(Kind::Reloaded, "", self.config_path.display().to_string());
        Ok(())
    }

    /// Ends a process of a VM, or all.
    ///
    /// # Errors
    /// If there is no such VM or process.
    pub fn kill(&self, name: &str, number: Option<u64>) -> Result<(), Unable> {
        let state = self.state();
        let vm = state.id(name).and_then(|id| state.vms.get(&id));
        let vm = vm.ok_or_else(|| Unable::Nothing(format!("there is no VM {name}")))?;
        if let Some(number) = number.filter(|number| !vm.runs(*number)) {
            return Err(Unable::Nothing(format!("{name} runs no process number {number}")));
        }
        vm.tell(&ToBackend::Kill { number });
        let what = number.map_or("all processes".to_string(), |number| format!("process number {number}"));
        self.events.say(Kind::Killed, name, format!("{what} by an operator's order"));
        Ok(())
    }
}

fn vm_name_in_file(state: &State, id: VmId) -> Option<String> {
    let vm = state.vms.get(&id)?;
    state.config.vm_of(&vm.name, Some(&vm.uuid)).map(|(name, _)| name.to_owned())
}

impl State {
    pub(crate) fn id(&self, name: &str) -> Option<VmId> {
        self.vms.values().find(|vm| vm.name == name).map(|vm| vm.id)
    }
}

/// The name of this machine.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// So that a test can make one without a ledger of its own.
///
/// # Errors
/// The disk's.
pub fn with_ledger(config: Config, path: PathBuf) -> Result<Host, Box<dyn std::error::Error>> {
    if let Some(folder) = config.ledger.path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| io::Error::other(format!("{}: {error}", folder.display())))?;
    }
    let ledger = Ledger::open(&config.ledger.path, u64::from(config.ledger.resolution_s.0));
    let ledger = ledger.map_err(|error| format!("{}: {error}", config.ledger.path.display()))?;
    Ok(Host::new(config, path, ledger)?)
}
