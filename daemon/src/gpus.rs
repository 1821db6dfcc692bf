//! The host's devices, each with its arbiter, and on which of them a VM is placed.

use paravane_backend::devices::Device;
use paravane_backend::lease::Arbiter;
use paravane_backend::register::wanted::Wanted;

use crate::config::Placement;

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

/// Where a VM goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The device, by UUID.
    pub uuid: String,
    /// Whether its workers are to see this one alone.
    pub alone: bool,
}

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

    /// What of the settings a device cannot give.
    pub fn lacks(&self, uuid: &str, wanted: &Wanted) -> Option<String> {
        let gpu = self.find(uuid)?;
        wanted.check(&gpu.device).err().map(|error| error.to_string())
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

/// Chooses among the devices that the back end has, in libcuda's order.
///
/// # Errors
/// If the VM is to be on a device that is not there, or there is none.
pub fn place(named: Option<&str>, policy: Placement, minimum: u32, choices: &[Choice]) -> Result<Placed, String> {
    let several = choices.len() > 1;
    if let Some(named) = named {
        let there = choices.iter().any(|choice| choice.uuid == named);
        let placed = Placed { uuid: named.to_owned(), alone: several };
        return there.then_some(placed).ok_or_else(|| format!("its device {named} is not in its libcuda"));
    }
    let room = |choice: &&Choice| choice.guaranteed + minimum <= 1000;
    let chosen = match policy {
        Placement::Packed => choices.iter().find(room).or(choices.first()),
        Placement::Spread => choices.iter().filter(room).min_by_key(|choice| choice.vms).or(choices.first()),
        Placement::Everything => choices.first(),
    };
    let chosen = chosen.ok_or("its libcuda has no device")?;
    Ok(Placed { uuid: chosen.uuid.to_owned(), alone: several && policy != Placement::Everything })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_goes_where_it_is_told_or_where_there_is_room() {
        let choice = |uuid, vms, guaranteed| Choice { uuid, vms, guaranteed };
        let choices = [choice("a", 2, 900), choice("b", 1, 500), choice("c", 0, 600)];
        let of = |named, policy, minimum| place(named, policy, minimum, &choices).map(|placed| placed.uuid);
        assert_eq!(of(None, Placement::Packed, 100), Ok("a".into()));
        assert_eq!(of(None, Placement::Packed, 101), Ok("b".into()));
        assert_eq!(of(None, Placement::Spread, 100), Ok("c".into()));
        assert_eq!(of(None, Placement::Spread, 450), Ok("b".into()));
        assert_eq!(of(None, Placement::Packed, 999), Ok("a".into()), "nowhere is room");
        assert_eq!(of(Some("c"), Placement::Packed, 999), Ok("c".into()));
        assert!(of(Some("d"), Placement::Packed, 0).is_err());
        assert!(place(None, Placement::Packed, 0, &[]).is_err());
        let everything = place(None, Placement::Everything, 0, &choices).unwrap();
        assert_eq!(everything, Placed { uuid: "a".into(), alone: false });
        assert!(!place(None, Placement::Packed, 0, &choices[..1]).unwrap().alone);
    }
}
