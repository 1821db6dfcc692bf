//! VMs at their devices' arbiters: who comes in with which guarantee, other settings on all devices of a VM or on
//! none, and equal shares made even as VMs come and go.

use std::os::fd::OwnedFd;

use paravane_backend::lease::{Settings, SettingsError, VmId, VmPage};
use paravane_backend::register::wanted::{Percent, Wanted};

use super::{Host, State};
use crate::config::{is_equal_share, settings_of};
use crate::events::{Events, Kind};
use crate::gpus::Choice;
use crate::vm::{OnDevice, Vm};

fn without_minimum(settings: Settings) -> Settings {
    Settings::new(settings.weight(), 0, settings.cap(), settings.priority()).unwrap_or(settings)
}

impl Host {
    /// Gives a VM to the arbiters of some devices, or to none. A guarantee that has no room on a device is not given
    /// there; the VM comes in without it.
    pub(super) fn admit(
        &self,
        state: &State,
        id: VmId,
        name: &str,
        wanted: &Wanted,
        uuids: &[String],
        mut leases: Vec<(&str, (VmPage, OwnedFd))>,
    ) -> Result<Vec<OnDevice>, String> {
        let mut placed: Vec<OnDevice> = Vec::new();
        for uuid in uuids {
            let at = leases.iter().position(|(of, _)| of == uuid);
            let lease = at.map(|at| leases.swap_remove(at).1);
            match state.admit_on(id, wanted, uuid, lease) {
                Ok(on) => placed.push(on),
                Err(why) => {
                    for gpu in placed.iter().filter_map(|on| state.gpus.find(&on.uuid)) {
                        gpu.arbiter.remove(id);
                    }
                    return Err(format!("{uuid}: {why}"));
                }
            }
        }
        for on in placed.iter().filter(|on| !on.guaranteed) {
            let minimum = settings_of(wanted, 1).map_or(0, |settings| settings.minimum());
            let text = format!(
                "its minimum of {} is not guaranteed on {}: others have the rest",
                Percent::of_thousandths(minimum),
                on.uuid
            );
            self.events.say(Kind::Warning, name, text);
        }
        Ok(placed)
    }
}

impl State {
    fn admit_on(
        &self,
        id: VmId,
        wanted: &Wanted,
        uuid: &str,
        lease: Option<(VmPage, OwnedFd)>,
    ) -> Result<OnDevice, String> {
        let (page, kick) = lease.ok_or("it has no lease")?;
        let gpu = self.gpus.find(uuid).ok_or("it has gone")?;
        let is_equal = is_equal_share(wanted);
        let settings = settings_of(wanted, self.equals(uuid, is_equal))?;
        let guaranteed = is_equal || self.choice(uuid).guaranteed + settings.minimum() <= 1000;
        // Equal shares are made even right after; until then nothing is guaranteed.
        let first = if is_equal || !guaranteed { without_minimum(settings) } else { settings };
        gpu.arbiter.add(id, page, kick, first).map_err(|error| error.to_string())?;
        Ok(OnDevice { uuid: uuid.to_owned(), guaranteed, ..OnDevice::default() })
    }

    /// How many VMs of a device have equal shares, with one more if that is to be.
    pub(super) fn equals(&self, uuid: &str, one_more: bool) -> u32 {
        let there = self.vms.values().filter(|vm| vm.on(uuid).is_some() && is_equal_share(&vm.layers.all())).count();
        u32::try_from(there).unwrap_or(u32::MAX).saturating_add(u32::from(one_more))
    }

    pub(super) fn choice<'a>(&self, uuid: &'a str) -> Choice<'a> {
        let there: Vec<(&Vm, &OnDevice)> = self.vms.values().filter_map(|vm| Some((vm, vm.on(uuid)?))).collect();
        let equals = self.equals(uuid, false);
        let minimum = |vm: &Vm| settings_of(&vm.layers.all(), equals).map_or(0, |settings| settings.minimum());
        let given = there.iter().filter(|(_, on)| on.guaranteed);
        Choice { uuid, vms: there.len(), guaranteed: given.map(|(vm, _)| minimum(vm)).sum() }
    }

    /// Other settings for a VM at the arbiters of all its devices, or of none.
    pub(super) fn change(&mut self, id: VmId, wanted: &Wanted) -> Result<(), String> {
        let vm = self.vms.get(&id).ok_or("it has gone")?;
        let before = vm.layers.all();
        let mut done: Vec<(&OnDevice, bool)> = Vec::new();
        for on in &vm.devices {
            match self.change_on(vm, on, wanted) {
                Ok(guaranteed) => done.push((on, guaranteed)),
                Err(why) => {
                    for (on, _) in done {
                        // What was in force was possible.
                        let _ = self.change_on(vm, on, &before);
                    }
                    return Err(if vm.devices.len() > 1 { format!("on {}: {why}", on.uuid) } else { why });
                }
            }
        }
        let guaranteed: Vec<bool> = done.into_iter().map(|(_, guaranteed)| guaranteed).collect();
        if let Some(vm) = self.vms.get_mut(&id) {
            vm.devices.iter_mut().zip(guaranteed).for_each(|(on, guaranteed)| on.guaranteed = guaranteed);
        }
        Ok(())
    }

    /// Whether the guarantee is given with the settings. One that had no room when the VM came need not have it now,
    /// as long as nobody wants another one.
    fn change_on(&self, vm: &Vm, on: &OnDevice, wanted: &Wanted) -> Result<bool, String> {
        let (others, before) = (self.equals(&on.uuid, false), vm.layers.all());
        let was = u32::from(is_equal_share(&before));
        let equals = others - was + u32::from(is_equal_share(wanted));
        let settings = settings_of(wanted, equals)?;
        let gpu = self.gpus.find(&on.uuid).ok_or("its device has gone")?;
        wanted.check(&gpu.device).map_err(|error| error.to_string())?;
        let same = settings_of(&before, others).is_ok_and(|before| before.minimum() == settings.minimum());
        match gpu.arbiter.set(vm.id, settings) {
            Ok(()) => Ok(true),
            Err(SettingsError::MinimumsTogether(_)) if same && !on.guaranteed => {
                let set = gpu.arbiter.set(vm.id, without_minimum(settings));
                set.map(|()| false).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// After a change on some devices: gives those with equal shares what is equal now, and guarantees that had no
    /// room where there is some.
    pub(super) fn even_out(&mut self, uuids: &[String], events: &Events) {
        for uuid in uuids {
            self.even_out_on(uuid, events);
            self.guarantee_on(uuid, events);
        }
    }

    fn even_out_on(&self, uuid: &str, events: &Events) {
        let equals = self.equals(uuid, false);
        let Some(gpu) = self.gpus.find(uuid) else { return };
        let even = |vm: &&Vm| vm.on(uuid).is_some() && is_equal_share(&vm.layers.all());
        // First all down, then each to its place: the sum never is too great on the way.
        for vm in self.vms.values().filter(even) {
            let Ok(settings) = settings_of(&vm.layers.all(), equals) else { continue };
            let _ = gpu.arbiter.set(vm.id, without_minimum(settings));
        }
        for vm in self.vms.values().filter(even) {
            let Ok(settings) = settings_of(&vm.layers.all(), equals) else { continue };
            if let Err(error) = gpu.arbiter.set(vm.id, settings) {
                events.say(Kind::Warning, &vm.name, format!("its equal share of {uuid} is not guaranteed: {error}"));
            }
        }
    }

    fn guarantee_on(&mut self, uuid: &str, events: &Events) {
        let equals = self.equals(uuid, false);
        let Some(gpu) = self.gpus.find(uuid) else { return };
        for vm in self.vms.values_mut() {
            let (id, wanted) = (vm.id, vm.layers.all());
            let Some(on) = vm.on_mut(uuid).filter(|on| !on.guaranteed) else { continue };
            let Ok(settings) = settings_of(&wanted, equals) else { continue };
            if gpu.arbiter.set(id, settings).is_ok() {
                on.guaranteed = true;
                let minimum = Percent::of_thousandths(settings.minimum());
                events.say(Kind::Set, &vm.name, format!("its minimum of {minimum} is guaranteed on {uuid} now"));
            }
        }
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
