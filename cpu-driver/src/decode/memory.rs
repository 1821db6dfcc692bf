//! Loads, stores and the hints about memory.

use super::function::{Decoder, types};
use super::slots::Base;
use super::{Problem, Step, bad};
use crate::exec::access::{Shape, load_op, parameter_op, spin_hint, store_op};
use crate::exec::address::{GENERIC, GLOBAL, LOCAL, PARAM, SHARED};
use crate::exec::control;
use crate::exec::op::Op;
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::Space;

/// An address operand, taken apart.
pub(super) struct Address {
    pub(super) space: u8,
    pub(super) slot: u32,
    pub(super) wide: bool,
    pub(super) offset: u64,
    /// No register takes part.
    pub(super) is_fixed: bool,
}

fn space_code(space: Space) -> u8 {
    match space {
        Space::Global | Space::Const => GLOBAL,
        Space::Shared => SHARED,
        Space::Local => LOCAL,
        Space::Param => PARAM,
        Space::Generic | Space::Reg => GENERIC,
    }
}

/// The elements of a vector operand, or the one that it is.
pub(super) fn elements<'o, 'a>(operand: &'o Operand<'a>) -> &'o [Operand<'a>] {
    match operand {
        Operand::Vector(all) => all,
        single => std::slice::from_ref(single),
    }
}

impl<'a> Decoder<'_, 'a> {
    /// The state space that an instruction's modifiers name.
    pub(super) fn space(&self, i: &Instruction<'a>) -> Space {
        let space = i.modifiers().find_map(Space::from_name).unwrap_or(Space::Generic);
        // A device function's parameters, and those of the calls it makes, lie in local memory; a
        // kernel has call parameters too, but those are named, and `address` knows their place.
        if space == Space::Param && !self.out.is_entry { Space::Local } else { space }
    }

    pub(super) fn address(&mut self, operand: &Operand<'a>, space: Space) -> Step<Address> {
        let Operand::Address(base, offset) = operand else { return bad("an address expected") };
        let offset = offset.cast_unsigned();
        let code = space_code(space);
        match &**base {
            Operand::Name(name, _) => {
                let Some((found, base)) = self.place(name) else {
                    return bad(format!("`{name}` is not declared"));
                };
                let space = space_code(found);
                Ok(match base {
                    Base::Fixed(at) => {
                        let offset = at.wrapping_add(offset);
                        Address { space, slot: self.constant(8, 0), wide: true, offset, is_fixed: true }
                    }
                    Base::Special(special, at) => {
                        let offset = offset.wrapping_add(u64::from(at));
                        Address { space, slot: self.special(special), wide: false, offset, is_fixed: false }
                    }
                })
            }
            Operand::Int(at) => {
                let slot = self.constant(8, *at);
                Ok(Address { space: code, slot, wide: true, offset, is_fixed: false })
            }
            Operand::Register(register) => {
                let mut wide = self.register_type(*register).size() == 8;
                let mut slot = self.register(*register);
                if !wide && !matches!(code, SHARED | LOCAL) {
                    slot = self.resized(slot, 4, 8, false)?;
                    wide = true;
                }
                Ok(Address { space: code, slot, wide, offset, is_fixed: false })
            }
            _ => Err(Problem::Unknown),
        }
    }

    pub(super) fn memory(&mut self, i: &Instruction<'a>) -> Step {
        match i.opcode() {
            "ld" | "ldu" => self.load(i),
            "st" => self.store(i),
            _ => {
                self.emit(control::nothing, 0, 0, 0, 0);
                Ok(())
            }
        }
    }

    fn load(&mut self, i: &Instruction<'a>) -> Step {
        let Some(ty) = types(i).last().copied() else { return bad("no type") };
        let [d, address, ..] = i.operands.as_slice() else { return bad("two operands expected") };
        let space = self.space(i);
        let address = self.address(address, space)?;
        let elements = elements(d);
        if !matches!(elements.len(), 1 | 2 | 4) || ty.size() > 8 {
            return Err(Problem::Unknown);
        }
        if i.has("volatile") || i.has("acquire") || i.has("relaxed") {
            self.emit(spin_hint, 0, 0, 0, 0);
        }
        let mut destinations = Vec::with_capacity(4);
        for element in elements {
            destinations.push(self.destination(element, ty)?);
        }
        let size = ty.size();
        if address.space == PARAM && address.is_fixed {
            self.load_parameters(&address, &destinations.iter().map(|d| d.slot).collect::<Vec<_>>(), size)?;
        } else {
            let shape = Shape { space: address.space, size, count: elements.len(), wide: address.wide };
            let at = |n: usize| destinations.get(n).map_or(0, |destination| destination.slot);
            let op = Op::new(load_op(shape), self.line);
            self.ops.push(Op { d: at(0), b: at(1), c: at(2), e: at(3), a: address.slot, imm: address.offset, ..op });
        }
        for destination in destinations {
            self.finish(destination);
        }
        Ok(())
    }

    /// Kernel parameters at fixed places need no address at run time.
    fn load_parameters(&mut self, address: &Address, slots: &[u32], size: u32) -> Step {
        let mut at = address.offset;
        for slot in slots {
            if at.saturating_add(u64::from(size)) > u64::from(self.out.param_size) {
                return bad("load beyond the kernel's parameters");
            }
            self.ops.push(Op { d: *slot, imm: at, ..Op::new(parameter_op(size), self.line) });
            at += u64::from(size);
        }
        Ok(())
    }

    fn store(&mut self, i: &Instruction<'a>) -> Step {
        let Some(ty) = types(i).last().copied() else { return bad("no type") };
        let [address, value, ..] = i.operands.as_slice() else { return bad("two operands expected") };
        let space = self.space(i);
        let address = self.address(address, space)?;
        let elements = elements(value);
        if !matches!(elements.len(), 1 | 2 | 4) || ty.size() > 8 || address.space == PARAM {
            return Err(Problem::Unknown);
        }
        let slots = elements.iter().map(|element| self.source(element, ty)).collect::<Step<Vec<u32>>>()?;
        let shape = Shape { space: address.space, size: ty.size(), count: slots.len(), wide: address.wide };
        let at = |n: usize| slots.get(n).copied().unwrap_or(0);
        let op = Op::new(store_op(shape), self.line);
        self.ops.push(Op { d: at(0), b: at(1), c: at(2), e: at(3), a: address.slot, imm: address.offset, ..op });
        Ok(())
    }
}
