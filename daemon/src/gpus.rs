//! The host's devices, each with its arbiter, and on which of them a VM is placed.

use paravane_backend::devices::Device;
use paravane_backend::lease::Arbiter;
use paravane_backend::register::wanted::Wanted;

use crate::config::{Config, Placement, Vm};

/// A device.
#[derive(Debug)]
pub struct Gpu {
    /// What back ends say of it.
    pub device: Device,
    /// Gives its leases.
    pub arbiter: Arbiter,
}

/// All that back ends have told of, in that order.
#[derive(Debug, Default)]
pub struct Gpus(pub Vec<Gpu>);

impl Gpus {
    /// Notes devices that are new.
    ///
    /// # Errors
    /// If there can be no thread for an arbiter.
    pub fn learn(&mut self, devices: &[Device]) -> std::io::Result<()> {
        for device in devices {
            if self.find(&device.uuid).is_none() {
                log::info!("device {}: {} ({})", self.0.len(), device.name, device.uuid);
                let bytes = if device.memory_bytes == 0 { u64::MAX } else { device.memory_bytes };
                self.0.push(Gpu { device: device.clone(), arbiter: Arbiter::of_device(bytes)? });
            }
        }
        Ok(())
    }

    /// What of the settings one of some devices cannot give.
    pub fn lacks(&self, uuids: &[String], wanted: &Wanted) -> Option<String> {
        let devices = uuids.iter().filter_map(|uuid| self.find(uuid));
        devices.filter_map(|gpu| wanted.check(&gpu.device).err()).map(|error| error.to_string()).next()
    }

    /// Counts devices from 0, in the order in which they were first told of.
    pub fn index(&self, uuid: &str) -> Option<u32> {
        let at = self.0.iter().position(|gpu| gpu.device.uuid == uuid)?;
        u32::try_from(at).ok()
    }

    /// The device of this UUID.
    pub fn find(&self, uuid: &str) -> Option<&Gpu> {
        self.0.iter().find(|gpu| gpu.device.uuid == uuid)
    }
}

/// One device that a VM may be placed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// Its UUID.
    pub uuid: &'a str,
    /// VMs that are there.
    pub vms: usize,
    /// What they are guaranteed together, in thousandths.
    pub guaranteed: u32,
}

/// On which devices a VM is to be.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// These, in this order; else as follows.
    pub named: Option<&'a [String]>,
    /// Which ones, where none is named.
    pub policy: Placement,
    /// How many, unless it has all.
    pub devices: usize,
    /// What it is to be guaranteed of each, in thousandths.
    pub minimum: u32,
}

impl<'a> Wish<'a> {
    /// As the file has it for a VM.
    pub fn of(config: &Config, vm: &'a Vm, minimum: u32) -> Self {
        let devices = vm.devices.map_or(1, |count| count.get().into());
        Self { named: vm.gpu.as_ref().map(|named| named.0.as_slice()), policy: config.placement, devices, minimum }
    }

    /// Chooses among the devices that the back end has, in libcuda's order: their UUIDs.
    ///
    /// # Errors
    /// If the VM is to be on a device that is not there, or on more than there are.
    pub fn place(&self, choices: &[Choice]) -> Result<Vec<String>, String> {
        if let Some(named) = self.named {
            let missing = named.iter().find(|named| choices.iter().all(|choice| choice.uuid != *named));
            return match missing {
                Some(missing) => Err(format!("its device {missing} is not in its libcuda")),
                None => Ok(named.to_vec()),
            };
        }
        let has_room = |choice: &Choice| choice.guaranteed + self.minimum <= 1000;
        // Those without room stay behind as they are: somewhere the VM must be.
        let mut order: Vec<(usize, &Choice)> = choices.iter().enumerate().collect();
        let wanted = match self.policy {
            Placement::Packed => {
                order.sort_by_key(|(_, choice)| !has_room(choice));
                self.devices
            }
            Placement::Spread => {
                order.sort_by_key(|(_, choice)| if has_room(choice) { (false, choice.vms) } else { (true, 0) });
                self.devices
            }
            Placement::Everything => order.len().max(1),
        };
        if wanted > order.len() {
            return Err(format!("it is to have {wanted} devices, and its libcuda has {}", order.len()));
        }
        order.truncate(wanted);
        order.sort_by_key(|(place, _)| *place);
        Ok(order.into_iter().map(|(_, choice)| choice.uuid.to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices<const N: usize>(of: [(&str, usize, u32); N]) -> [Choice<'_>; N] {
        of.map(|(uuid, vms, guaranteed)| Choice { uuid, vms, guaranteed })
    }

    fn placed(wish: Wish, choices: &[Choice]) -> String {
        wish.place(choices).map_or_else(|why| why, |uuids| uuids.join(" "))
    }

    const ONE: Wish = Wish { named: None, policy: Placement::Packed, devices: 1, minimum: 0 };

    #[test]
    fn a_vm_goes_where_it_is_told_or_where_there_is_room() {
        let there = choices([("a", 2, 900), ("b", 1, 500), ("c", 0, 600)]);
        let of = |policy, minimum| placed(Wish { policy, minimum, ..ONE }, &there);
        assert_eq!(of(Placement::Packed, 100), "a");
        assert_eq!(of(Placement::Packed, 101), "b");
        assert_eq!(of(Placement::Spread, 100), "c");
        assert_eq!(of(Placement::Spread, 450), "b");
        assert_eq!(of(Placement::Packed, 999), "a", "nowhere is room");
        assert_eq!(of(Placement::Spread, 999), "a", "nowhere is room");
        assert_eq!(of(Placement::Everything, 999), "a b c");
        let named = |named: &[&str]| {
            let named: Vec<String> = named.iter().map(|uuid| uuid.to_string()).collect();
            placed(Wish { named: Some(&named), minimum: 999, ..ONE }, &there)
        };
        assert_eq!(named(&["c"]), "c");
        assert_eq!(named(&["c", "a"]), "c a", "in the operator's order");
        assert_eq!(named(&["c", "d"]), "its device d is not in its libcuda");
        assert_eq!(placed(ONE, &[]), "it is to have 1 devices, and its libcuda has 0");
    }

    #[test]
    fn a_vm_has_as_many_devices_as_it_is_to_have() {
        let there = choices([("a", 2, 900), ("b", 1, 950), ("c", 0, 600), ("d", 1, 0)]);
        let of = |policy, devices, minimum| placed(Wish { policy, devices, minimum, ..ONE }, &there);
        assert_eq!(of(Placement::Packed, 2, 0), "a b");
        assert_eq!(of(Placement::Packed, 2, 100), "a c");
        assert_eq!(of(Placement::Packed, 3, 500), "a b d", "where there is room, then in order");
        assert_eq!(of(Placement::Spread, 2, 0), "b c");
        assert_eq!(of(Placement::Spread, 2, 100), "c d");
        assert_eq!(of(Placement::Packed, 4, 0), of(Placement::Everything, 1, 0));
        assert_eq!(of(Placement::Spread, 5, 0), "it is to have 5 devices, and its libcuda has 4");
    }
}
