//! Whose memory is on the device, where VMs claim more than it has: a function
//! of the time and of what the VMs' pages show, beside [`super::leases`], which
//! knows of nobody who is out. A VM is in as a whole or out as a whole, as far as
//! its memory can be moved; what cannot stays where it is.
//!
//! Who is in keeps its place for [`HOLD`] at least, and four times what a move of
//! its memory takes. Then comes the one that has been in for the least time by
//! its weight. What is nobody else's is whoever's wants it: a VM without work
//! keeps its place only until another has some.

use std::collections::BTreeMap;

use paravane_scheduler::{Nanos, SECOND, VmId};

use super::room::Held;

/// Who has come in stays so long, whoever else wants to.
const HOLD: Nanos = SECOND;
/// And so many times as long as its memory was on its way.
const HOLD_MOVES: u64 = 4;
/// A VM without work for so long, or as long as its memory was on its way, keeps nobody out.
const IDLE: Nanos = SECOND / 10;
/// Who waits is looked at so often, and what grows without asking.
const LOOK: Nanos = SECOND / 10;
const GROWTH_LOOK: Nanos = SECOND;
/// Nobody wanted what another had for so long: who had what before is forgotten.
const CALM: Nanos = SECOND;
/// A VM whose memory does not go, or does not come, for so long and a nanosecond more for each byte
/// is told of; who does not come in loses its turn.
const STUCK: Nanos = 10 * SECOND;
/// Of virtual time: that of a VM of weight 1 goes so much faster.
const SCALE: u64 = 1000;

/// Where the VMs' pages are.
pub trait Rooms {
    /// What a VM has of the device's memory.
    fn held(&mut self, vm: VmId) -> Held;
    /// Whether its memory may move.
    fn moves(&mut self, vm: VmId) -> bool;
    /// Whether the device works for it, or it waits for its turn.
    fn is_busy(&mut self, vm: VmId) -> bool;
    /// What it was last allowed, by whatever arbiter.
    fn allowed(&mut self, vm: VmId) -> u64;
    /// It may hold so much from now on; what could move and is more goes out.
    fn allow(&mut self, vm: VmId, bytes: u64);
    /// It can never hold more.
    fn set_ceiling(&mut self, vm: VmId, bytes: u64);
}

#[derive(Debug)]
struct Vm {
    weight: u64,
    held: Held,
    moves: bool,
    allowed: u64,
    ceiling: u64,
    /// It was given its place, and all of its memory has come.
    settled: Option<Nanos>,
    /// Its memory is on its way since then, and how long the last way took.
    moving: Option<Nanos>,
    took: Nanos,
    /// When it last had work.
    active: Nanos,
    /// Time in which others waited for its place, by its weight.
    virtual_time: u64,
    contends: bool,
    told: bool,
}

impl Vm {
    /// What cannot be moved.
    fn fixed(&self) -> u64 {
        self.held.claim.saturating_sub(self.held.swappable)
    }

    /// Of what can be moved, what is on the device.
    fn inside(&self) -> u64 {
        self.held.resident.saturating_sub(self.fixed())
    }

    fn is_in(&self) -> bool {
        self.held.claim <= self.allowed
    }

    fn waits(&self) -> bool {
        self.held.outside > 0 && !self.is_in()
    }

    fn is_idle(&self, now: Nanos) -> bool {
        now.saturating_sub(self.active) > IDLE.max(self.took)
    }

    /// Room that nobody else can have.
    fn occupies(&self) -> u64 {
        if self.moves { self.held.resident.max(self.allowed) } else { self.held.resident.max(self.held.claim) }
    }

    /// Who comes first: those that keep their places, those whose turn it is, those without work.
    fn rank(&self, now: Nanos) -> (u8, u64, bool) {
        let until = self.settled.map_or(self.late(), |at| at.saturating_add(self.hold()));
        let keeps = self.is_in() && now < until;
        let class = match (self.waits(), self.is_idle(now), keeps) {
            (false, true, _) => 2,
            (false, false, true) => 0,
            _ => 1,
        };
        (class, self.virtual_time, !self.is_in())
    }

    /// Until then its memory must have gone, or come.
    fn late(&self) -> Nanos {
        self.moving.map_or(Nanos::MAX, |since| since.saturating_add(STUCK).saturating_add(self.held.swappable))
    }

    fn hold(&self) -> Nanos {
        HOLD.max(self.took.saturating_mul(HOLD_MOVES))
    }
}

/// Whose memory is on a device.
#[derive(Debug)]
pub struct Residence {
    device_bytes: u64,
    vms: BTreeMap<VmId, Vm>,
    looked: Nanos,
    /// When somebody last waited for another's place.
    pressed: Option<Nanos>,
}

impl Default for Residence {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Residence {
    /// Of a device with so many bytes; `u64::MAX`: nobody knows, so nobody has to go.
    pub fn new(device_bytes: u64) -> Self {
        Self { device_bytes, vms: BTreeMap::new(), looked: 0, pressed: None }
    }

    /// A VM that may use the device; one that is known gets another weight. What it may hold stays as it is until
    /// the next look.
    pub fn set(&mut self, vm: VmId, weight: u32, now: Nanos, rooms: &mut impl Rooms) {
        let weight = u64::from(weight.max(1));
        if let Some(known) = self.vms.get_mut(&vm) {
            known.weight = weight;
            return;
        }
        let new = Vm {
            weight,
            held: rooms.held(vm),
            moves: rooms.moves(vm),
            allowed: rooms.allowed(vm),
            ceiling: 0,
            settled: None,
            moving: None,
            took: 0,
            active: now,
            virtual_time: 0,
            contends: false,
            told: false,
        };
        self.vms.insert(vm, new);
    }

    /// A VM has gone with its memory. Its page is left as it is.
    pub fn remove(&mut self, vm: VmId) {
        self.vms.remove(&vm);
    }

    /// VMs whose memory is to go or to come and does not, or can never come: each once.
    pub fn stuck(&mut self, now: Nanos) -> Vec<VmId> {
        let mut stuck = Vec::new();
        for (id, vm) in &mut self.vms {
            let is_stuck = now >= vm.late() || vm.waits() && vm.held.claim > vm.ceiling;
            if is_stuck && !vm.told {
                stuck.push(*id);
            }
            vm.told = is_stuck;
        }
        stuck
    }

    /// Reads the pages; says who goes and who comes. Returns when to look again even if nobody kicks.
    pub fn look(&mut self, now: Nanos, rooms: &mut impl Rooms) -> Option<Nanos> {
        for (id, vm) in &mut self.vms {
            // A process that has begun to move its memory goes on.
            vm.moves |= rooms.moves(*id);
        }
        if self.vms.len() < 2 || self.device_bytes == u64::MAX || !self.vms.values().any(|vm| vm.moves) {
            for (id, vm) in &mut self.vms {
                allow(*id, vm, u64::MAX, rooms);
                set_ceiling(*id, vm, u64::MAX, rooms);
            }
            self.looked = now;
            return None;
        }
        self.read(now, rooms);
        self.charge(now);
        self.set_ceilings(rooms);
        let chosen = self.choose(now);
        self.lower(now, &chosen, rooms);
        self.raise(now, &chosen, rooms);
        self.looked = now;
        let waits = self.vms.values().any(|vm| vm.waits() || vm.moving.is_some());
        Some(now.saturating_add(if waits { LOOK } else { GROWTH_LOOK }))
    }

    fn read(&mut self, now: Nanos, rooms: &mut impl Rooms) {
        for (id, vm) in &mut self.vms {
            vm.held = rooms.held(*id);
            if vm.held.outside > 0 || rooms.is_busy(*id) {
                vm.active = now;
            }
            let comes = vm.is_in();
            let is_there = if comes { vm.held.resident >= vm.held.claim && vm.held.outside == 0 } else { vm.inside() <= vm.allowed };
            if is_there {
                if let Some(since) = vm.moving.take().filter(|_| vm.settled.is_none()) {
                    vm.took = now.saturating_sub(since);
                }
                if comes && vm.settled.is_none() {
                    vm.settled = Some(now);
                }
            } else if comes {
                vm.moving = vm.moving.or(Some(now));
            }
        }
    }

    /// Who is in while others wait is charged for the time, divided by as many as are in.
    fn charge(&mut self, now: Nanos) {
        let passed = now.saturating_sub(self.looked);
        let is_pressed = self.vms.values().any(Vm::waits);
        let calm = self.pressed.is_none_or(|pressed| now.saturating_sub(pressed) > CALM);
        if calm {
            self.vms.values_mut().for_each(|vm| (vm.contends, vm.virtual_time) = (false, 0));
        }
        if !is_pressed {
            return;
        }
        self.pressed = Some(now);
        let least = self.vms.values().filter(|vm| vm.contends).map(|vm| vm.virtual_time).min().unwrap_or(0);
        let has_room = |vm: &Vm| vm.held.swappable > 0 && (vm.inside() > 0 || vm.is_in());
        let there = self.vms.values().filter(|vm| has_room(vm)).count();
        let each = passed / u64::try_from(there).unwrap_or(1).max(1);
        for vm in self.vms.values_mut() {
            if !has_room(vm) && !vm.waits() {
                continue;
            }
            if !vm.contends {
                (vm.contends, vm.virtual_time) = (true, vm.virtual_time.max(least));
            }
            if has_room(vm) {
                vm.virtual_time = vm.virtual_time.saturating_add(each.saturating_mul(SCALE) / vm.weight);
            }
        }
    }

    /// A VM can have what others do not hold for good.
    fn set_ceilings(&mut self, rooms: &mut impl Rooms) {
        let fixed = |vm: &Vm| if vm.moves { vm.fixed() } else { vm.occupies() };
        let all = self.vms.values().map(fixed).fold(0, u64::saturating_add);
        for (id, vm) in &mut self.vms {
            let ceiling = self.device_bytes.saturating_sub(all.saturating_sub(fixed(vm)));
            set_ceiling(*id, vm, ceiling, rooms);
        }
    }

    /// Whose memory is to be on the device.
    fn choose(&self, now: Nanos) -> Vec<VmId> {
        let fixed = |vm: &Vm| if vm.moves { vm.fixed() } else { vm.occupies() };
        let all = self.vms.values().map(fixed).fold(0, u64::saturating_add);
        let room = self.device_bytes.saturating_sub(all);
        let mut candidates: Vec<(&VmId, &Vm)> =
            self.vms.iter().filter(|(_, vm)| vm.moves && (vm.is_in() || vm.waits() || vm.inside() > 0)).collect();
        candidates.sort_by_key(|(id, vm)| (vm.rank(now), id.0));
        let (mut left, mut is_reserved, mut chosen) = (room, false, Vec::new());
        for (id, vm) in candidates {
            let bytes = vm.held.swappable;
            if bytes <= left && (vm.is_in() || !is_reserved) {
                left -= bytes;
                chosen.push(*id);
            } else if vm.waits() && bytes <= room {
                // Its room comes together as others end; nobody new takes it meanwhile.
                is_reserved = true;
            }
        }
        chosen
    }

    /// Takes room away: all of it from those that go, what they do not use from the others if
    /// somebody needs room.
    fn lower(&mut self, now: Nanos, chosen: &[VmId], rooms: &mut impl Rooms) {
        let needs = |vm: &Vm| vm.moves && (!vm.is_in() || vm.allowed == u64::MAX);
        let is_needed = self.vms.values().any(needs);
        for (id, vm) in &mut self.vms {
            if !vm.moves {
                allow(*id, vm, u64::MAX, rooms);
                continue;
            }
            if !chosen.contains(id) {
                if vm.inside() > 0 && vm.allowed > 0 {
                    (vm.moving, vm.settled) = (Some(now), None);
                }
                allow(*id, vm, 0, rooms);
            } else if is_needed {
                let used = vm.held.claim.max(vm.held.resident);
                allow(*id, vm, vm.allowed.min(used), rooms);
            }
        }
        // Behind the words above, so that what was taken before they were seen is seen here.
        for (id, vm) in &mut self.vms {
            vm.held = rooms.held(*id);
        }
    }

    /// Gives room that is there: what is claimed, then as much of the rest to each.
    fn raise(&mut self, now: Nanos, chosen: &[VmId], rooms: &mut impl Rooms) {
        let mut free = self.free();
        let mut given = Vec::new();
        for id in chosen {
            let Some(vm) = self.vms.get_mut(id).filter(|vm| !vm.is_in()) else { continue };
            let more = vm.held.claim.saturating_sub(vm.occupies());
            if more > free {
                continue;
            }
            free -= more;
            given.push((*id, vm.held.claim));
        }
        let each = free / u64::try_from(self.vms.len()).unwrap_or(1).max(1);
        for (id, claim) in given {
            let Some(vm) = self.vms.get_mut(&id) else { continue };
            (vm.moving, vm.settled) = (Some(now), None);
            allow(id, vm, claim.saturating_add(each), rooms);
        }
    }

    fn free(&self) -> u64 {
        let taken = self.vms.values().map(Vm::occupies).fold(0, u64::saturating_add);
        self.device_bytes.saturating_sub(taken)
    }
}

fn allow(id: VmId, vm: &mut Vm, bytes: u64, rooms: &mut impl Rooms) {
    if vm.allowed != bytes {
        vm.allowed = bytes;
        rooms.allow(id, bytes);
    }
}

fn set_ceiling(id: VmId, vm: &mut Vm, bytes: u64, rooms: &mut impl Rooms) {
    if vm.ceiling != bytes {
        vm.ceiling = bytes;
        rooms.set_ceiling(id, bytes);
    }
}
