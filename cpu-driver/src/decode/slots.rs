//! Places in a frame: registers get theirs at first use, constants and special values are shared by
//! all instructions that read them, temporaries are reused from instruction to instruction.

use super::function::Decoder;
use super::{Problem, Step, bad};
use crate::exec::function::{Constant, MaskOf, Special};
use crate::exec::lanes::unary;
use crate::exec::op::{Op, Run};
use crate::memory::FUNCTION_BASE;
use crate::ptx::ast::{Named, Operand, Reg};
use crate::ptx::types::{Space, Type};

/// Widths are bytes of a lane; 0 stands for a predicate.
fn slot_size(width: u32) -> u32 {
    if width == 0 { 4 } else { width * 32 }
}

/// Width of a register or operand of `ty`.
pub(super) fn width(ty: Type) -> u32 {
    if ty == Type::Pred { 0 } else { ty.size() }
}

/// An operation that widens `from` bytes to `to` bytes, or cuts them.
fn resize(from: u32, to: u32, signed: bool) -> Option<Run> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap, reason = "PTX cuts and extends")]
    Some(match (from, to, signed) {
        (1, 2, false) => unary(|a: u8| u16::from(a)),
        (1, 2, true) => unary(|a: u8| a as i8 as u16),
        (1, 4, false) => unary(|a: u8| u32::from(a)),
        (1, 4, true) => unary(|a: u8| a as i8 as u32),
        (1, 8, false) => unary(|a: u8| u64::from(a)),
        (1, 8, true) => unary(|a: u8| a as i8 as u64),
        (2, 4, false) => unary(|a: u16| u32::from(a)),
        (2, 4, true) => unary(|a: u16| a as i16 as u32),
        (2, 8, false) => unary(|a: u16| u64::from(a)),
        (2, 8, true) => unary(|a: u16| a as i16 as u64),
        (4, 8, false) => unary(|a: u32| u64::from(a)),
        (4, 8, true) => unary(|a: u32| a as i32 as u64),
        (8, 4, _) => unary(|a: u64| a as u32),
        (8, 2, _) => unary(|a: u64| a as u16),
        (8, 1, _) => unary(|a: u64| a as u8),
        (4, 2, _) => unary(|a: u32| a as u16),
        (4, 1, _) => unary(|a: u32| a as u8),
        (2, 1, _) => unary(|a: u16| a as u8),
        _ => return None,
    })
}

/// A destination: where the result goes, and what has to follow when the register is wider.
#[must_use]
pub(super) struct Destination {
    pub(super) slot: u32,
    widen: Option<(Run, u32)>,
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn new_slot(&mut self, width: u32) -> u32 {
        let size = slot_size(width);
        let align = if width == 0 { 4 } else { size.min(64) };
        let slot = self.next_slot.next_multiple_of(align);
        self.next_slot = slot + size;
        slot
    }

    /// A slot that is free again after this instruction.
    pub(super) fn temporary(&mut self, width: u32) -> u32 {
        if let Some(i) = self.temporaries.iter().position(|&(w, _, used)| w == width && !used) {
            self.temporaries[i].2 = true;
            return self.temporaries[i].1;
        }
        let slot = self.new_slot(width);
        self.temporaries.push((width, slot, true));
        slot
    }

    pub(super) fn register_type(&self, register: Reg) -> Type {
        self.body.registers.get(register.0 as usize).copied().unwrap_or(Type::B32)
    }

    pub(super) fn register(&mut self, register: Reg) -> u32 {
        if let Some(slot) = self.registers.get(&register) {
            return *slot;
        }
        let slot = self.new_slot(width(self.register_type(register)));
        self.registers.insert(register, slot);
        slot
    }

    pub(super) fn constant(&mut self, width: u32, bits: u64) -> u32 {
        let bits = match width {
            0 => u64::from(bits != 0),
            1 | 2 | 4 => bits & ((1 << (width * 8)) - 1),
            _ => bits,
        };
        if let Some(slot) = self.constants.get(&(width, bits)) {
            return *slot;
        }
        let slot = self.new_slot(width);
        self.constants.insert((width, bits), slot);
        self.out.constants.push(Constant { slot, width: u8::try_from(width).unwrap_or(8), bits });
        slot
    }

    /// A 32-bit special value.
    pub(super) fn special(&mut self, special: Special) -> u32 {
        if let Some((_, slot)) = self.out.specials.iter().find(|(known, _)| *known == special) {
            return *slot;
        }
        let slot = self.new_slot(4);
        self.out.specials.push((special, slot));
        slot
    }

    pub(super) fn emit(&mut self, run: Run, d: u32, a: u32, b: u32, c: u32) {
        self.ops.push(Op { d, a, b, c, ..Op::new(run, self.line) });
    }

    /// `slot`, or a temporary with its value cut or extended to another width.
    pub(super) fn resized(&mut self, slot: u32, from: u32, to: u32, signed: bool) -> Step<u32> {
        if from == to {
            return Ok(slot);
        }
        let Some(run) = resize(from, to, signed) else {
            return bad("a predicate where a value is needed, or the reverse");
        };
        let temporary = self.temporary(to);
        self.emit(run, temporary, slot, 0, 0);
        Ok(temporary)
    }

    /// The slot of a source operand as a `ty`. Registers wider than the type are cut.
    pub(super) fn source(&mut self, operand: &Operand<'a>, ty: Type) -> Step<u32> {
        let want = width(ty);
        match operand {
            Operand::Register(register) => {
                let have = width(self.register_type(*register));
                let slot = self.register(*register);
                if have < want && (have == 0 || want == 0) {
                    return bad("a predicate where a value is needed");
                }
                self.resized(slot, have, want, ty.is_signed())
            }
            Operand::Int(value) => Ok(self.constant(want, integer_bits(*value, ty))),
            Operand::F32(bits) if ty == Type::F64 => {
                Ok(self.constant(8, f64::from(f32::from_bits(*bits)).to_bits()))
            }
            Operand::F32(bits) => Ok(self.constant(want, u64::from(*bits))),
            #[allow(clippy::cast_possible_truncation, reason = "PTX rounds literals to their type")]
            Operand::F64(bits) if want == 4 => Ok(self.constant(4, u64::from((f64::from_bits(*bits) as f32).to_bits()))),
            Operand::F64(bits) => Ok(self.constant(want, *bits)),
            Operand::Special(name) => self.special_source(name, want),
            Operand::Name(name, offset) => self.address_of(name, *offset, want),
            Operand::Sink => Ok(self.constant(want, 0)),
            _ => bad("this operand cannot be read"),
        }
    }

    fn special_source(&mut self, name: &str, want: u32) -> Step<u32> {
        let (base, axis) = name.split_once('.').unwrap_or((name, "x"));
        let axis = match axis {
            "y" => 1,
            "z" => 2,
            _ => 0,
        };
        let special = match base {
            "%tid" => Special::Tid(axis),
            "%ntid" => Special::NTid(axis),
            "%ctaid" | "%clusterid" => Special::CtaId(axis),
            "%nctaid" | "%nclusterid" => Special::NCtaId(axis),
            "%laneid" => Special::LaneId,
            "%warpid" => Special::WarpId,
            "%nwarpid" => Special::NWarpId,
            "%gridid" => Special::GridId,
            "%smid" | "%is_explicit_cluster" | "%cluster_ctaid" | "%cluster_ctarank" => Special::Zero,
            "%nsmid" | "%cluster_nctaid" | "%cluster_nctarank" => Special::One,
            "%lanemask_eq" => Special::LaneMask(MaskOf::Eq),
            "%lanemask_le" => Special::LaneMask(MaskOf::Le),
            "%lanemask_lt" => Special::LaneMask(MaskOf::Lt),
            "%lanemask_ge" => Special::LaneMask(MaskOf::Ge),
            "%lanemask_gt" => Special::LaneMask(MaskOf::Gt),
            "%dynamic_smem_size" => Special::DynamicShared,
            "%total_smem_size" | "%aggr_smem_size" => Special::TotalShared,
            _ if base.starts_with("%envreg") => match base.trim_start_matches("%envreg").parse() {
                Ok(number) => Special::EnvReg(number),
                Err(_) => return Err(Problem::Unknown),
            },
            "%clock" | "%clock_hi" | "%clock64" | "%globaltimer" | "%globaltimer_lo" | "%globaltimer_hi" => {
                return self.clock_source(base, want);
            }
            _ => return Err(Problem::Unknown),
        };
        let slot = self.special(special);
        self.resized(slot, 4, want, false)
    }

    fn clock_source(&mut self, name: &str, want: u32) -> Step<u32> {
        let time = self.temporary(8);
        self.emit(crate::exec::control::clock, time, 0, 0, 0);
        if name.ends_with("_hi") {
            let high = self.temporary(4);
            #[allow(clippy::cast_possible_truncation, reason = "the upper half")]
            self.emit(unary(|a: u64| (a >> 32) as u32), high, time, 0, 0);
            return self.resized(high, 4, want, false);
        }
        self.resized(time, 8, want, false)
    }

    /// The address of a variable or function as a value.
    pub(super) fn address_of(&mut self, name: &str, offset: i64, want: u32) -> Step<u32> {
        if let Some((_, base)) = self.place(name) {
            return self.place_value(base, offset, want);
        }
        if let Some(number) = self.symbols.functions.get(name) {
            return Ok(self.constant(want, FUNCTION_BASE + u64::from(*number)));
        }
        bad(format!("`{name}` is not declared"))
    }

    fn place_value(&mut self, base: Base, offset: i64, want: u32) -> Step<u32> {
        match base {
            Base::Fixed(address) => Ok(self.constant(want, address.wrapping_add_signed(offset))),
            Base::Special(special, at) => {
                let start = self.special(special);
                let wide = self.resized(start, 4, want, false)?;
                let sum = self.temporary(want);
                let distance = self.constant(want, u64::from(at).wrapping_add_signed(offset));
                let add = match want {
                    8 => crate::exec::lanes::binary(u64::wrapping_add),
                    4 => crate::exec::lanes::binary(u32::wrapping_add),
                    _ => return bad("an address in a register of less than 32 bits"),
                };
                self.emit(add, sum, wide, distance, 0);
                Ok(sum)
            }
        }
    }

    /// Space and place of the variable that `name` is here.
    pub(super) fn place(&mut self, name: &str) -> Option<(Space, Base)> {
        if let Some(Named::Variable(number)) = self.body.lookup(self.scope, name) {
            return self.variables.get(*number as usize).copied();
        }
        if let Some(place) = self.parameters.get(name) {
            return Some(*place);
        }
        if let Some(address) = self.symbols.addresses.get(name) {
            let variable = self.module.variables.iter().find(|variable| variable.name == name);
            return Some((variable.map_or(Space::Global, |variable| variable.space), Base::Fixed(*address)));
        }
        let variable = self.symbols.shared.get(name)?;
        if variable.size == 0 {
            return Some((Space::Shared, Base::Special(Special::StaticShared, 0)));
        }
        let offset = match self.symbols.common.get(name) {
            Some(offset) => {
                self.out.shared_size = self.shared_start();
                *offset
            }
            None => self.place_shared(variable),
        };
        Some((Space::Shared, Base::Fixed(u64::from(offset))))
    }

    /// Where a result of type `ty` goes. A wider register is extended to afterwards, by `finish`.
    pub(super) fn destination(&mut self, operand: &Operand<'a>, ty: Type) -> Step<Destination> {
        let want = width(ty);
        match operand {
            Operand::Register(register) => {
                let have = width(self.register_type(*register));
                let slot = self.register(*register);
                if have == want {
                    return Ok(Destination { slot, widen: None });
                }
                match resize(want, have, ty.is_signed()) {
                    Some(run) if have > want => {
                        Ok(Destination { slot: self.temporary(want), widen: Some((run, slot)) })
                    }
                    _ => bad("the destination register does not fit the type"),
                }
            }
            Operand::Sink => Ok(Destination { slot: self.temporary(want), widen: None }),
            _ => bad("this operand cannot be written"),
        }
    }

    pub(super) fn finish(&mut self, destination: Destination) {
        if let Some((run, slot)) = destination.widen {
            self.emit(run, slot, destination.slot, 0, 0);
        }
    }
}

/// Where a variable begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// At this address, or offset in its space.
    Fixed(u64),
    /// At an offset from a special value.
    Special(Special, u32),
}

/// An integer literal where a float is wanted stands for that number.
#[allow(clippy::cast_precision_loss, reason = "PTX rounds literals to their type")]
fn integer_bits(value: u64, ty: Type) -> u64 {
    match ty {
        Type::F32 => u64::from((value.cast_signed() as f32).to_bits()),
        Type::F64 => (value.cast_signed() as f64).to_bits(),
        _ => value,
    }
}
