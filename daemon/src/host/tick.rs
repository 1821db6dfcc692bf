//! The second hand: books what has been used, notes a point of history, tells back ends what they are entitled to.

use std::collections::BTreeSet;

use paravane_backend::register::message::ToBackend;

use super::{Host, State};
use crate::events::{self, Kind};
use crate::ledger::Entry;
use crate::view::Point;
use crate::vm::OnDevice;

/// Looks at the pages of a VM that has gone, so that its workers' last figures are seen: they die with the back end,
/// but not in the same moment.
pub(super) const LAST_LOOKS: u8 = 2;
const DAY_S: u64 = 86_400;
/// Between two looks for what is too old.
const PRUNE_S: u64 = 3600;

/// What the second hand remembers.
#[derive(Debug, Default)]
pub struct Tick {
    pruned_s: u64,
    failing: bool,
}

impl Host {
    /// Once a second.
    pub fn tick(&self, tick: &mut Tick) {
        let now_s = events::now().as_secs();
        let entries = self.state().look();
        let booked = self.ledger().book(now_s, &entries);
        match booked {
            Ok(()) => {
                self.state().booked(&entries);
                if std::mem::take(&mut tick.failing) {
                    self.events.say(Kind::Warning, "", "the ledger is written again; nothing is missing");
                }
            }
            Err(error) if !tick.failing => {
                tick.failing = true;
                let text = format!("the ledger cannot be written, which will be made up for: {error}");
                self.events.say(Kind::Warning, "", text);
            }
            Err(_) => {}
        }
        self.tell_stuck();
        self.prune(tick, now_s);
    }

    fn tell_stuck(&self) {
        let state = self.state();
        for gpu in &state.gpus.0 {
            for vm in gpu.arbiter.stuck().iter().filter_map(|id| state.vms.get(id)) {
                let text = format!(
                    "its memory is to go or to come on {} and does not: its work does not end, or the device has no room",
                    gpu.device.uuid
                );
                self.events.say(Kind::Warning, &vm.name, text);
            }
        }
    }

    fn prune(&self, tick: &mut Tick, now_s: u64) {
        let days = u64::from(self.state().config.ledger.retention_days);
        if days == 0 || now_s < tick.pruned_s + PRUNE_S {
            return;
        }
        tick.pruned_s = now_s;
        if let Err(error) = self.ledger().prune(now_s.saturating_sub(days * DAY_S)) {
            log::warn!("old figures stay in the ledger: {error}");
        }
    }
}

impl State {
    /// Reads all pages and arbiters.
    fn look(&mut self) -> Vec<Entry> {
        for vm in self.vms.values_mut() {
            for on in &mut vm.devices {
                let Some(gpu) = self.gpus.find(&on.uuid) else { continue };
                on.figures = gpu.arbiter.figures(vm.id).unwrap_or(on.figures);
                on.resident_bytes = gpu.arbiter.held(vm.id).map_or(0, |held| held.resident);
            }
            vm.memory_peak_bytes = vm.memory_peak_bytes.max(vm.memory_bytes());
        }
        self.note_history();
        self.tell_shares();
        for (looks, vm) in &mut self.leaving {
            *looks = looks.saturating_sub(1);
            if *looks == 0 {
                vm.finish();
            }
        }
        let gone = self.leaving.iter().map(|(_, vm)| vm);
        self.vms.values().chain(gone).flat_map(|vm| vm.entries()).collect()
    }

    fn note_history(&mut self) {
        let mib = |bytes: u64| bytes >> 20;
        let vms = self.vms.values();
        let mut points: Vec<(String, Point)> = vms
            .map(|vm| (vm.name.clone(), Point { share: vm.share(), memory_mib: mib(vm.memory_bytes()) }))
            .collect();
        for gpu in &self.gpus.0 {
            let there = self.vms.values().filter_map(|vm| Some((vm, vm.on(&gpu.device.uuid)?)));
            let (share, bytes) = there.fold((0_u32, 0_u64), |(share, bytes), (vm, on)| {
                (share.saturating_add(on.figures.share), bytes.saturating_add(vm.memory_on(on)))
            });
            let point = Point { share: share.min(1000), memory_mib: mib(bytes) };
            points.push((gpu.device.uuid.clone(), point));
        }
        self.history.push(points);
    }

    /// What each is to keep to while we are away.
    fn tell_shares(&mut self) {
        let mut changed = BTreeSet::new();
        for gpu in &self.gpus.0 {
            for (id, thousandths) in gpu.arbiter.shares() {
                let on = self.vms.get_mut(&id).and_then(|vm| vm.on_mut(&gpu.device.uuid));
                if let Some(on) = on.filter(|on| on.entitled != thousandths) {
                    on.entitled = thousandths;
                    changed.insert(id);
                }
            }
        }
        for vm in changed.iter().filter_map(|id| self.vms.get(id)) {
            let of = |on: &OnDevice| (on.uuid.clone(), on.entitled);
            vm.tell(&ToBackend::Shares { thousandths: vm.devices.iter().map(of).collect() });
        }
    }

    fn booked(&mut self, entries: &[Entry]) {
        for vm in self.vms.values_mut() {
            vm.booked(entries);
        }
        self.leaving.retain(|(looks, _)| *looks > 0);
    }
}
