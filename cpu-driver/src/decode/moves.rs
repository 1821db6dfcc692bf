//! `mov` in all its forms, and conversions between generic and state-space addresses.
#![allow(clippy::cast_possible_truncation, reason = "packed values are taken apart")]

use super::function::{Decoder, types};
use super::{Problem, Step, bad};
use crate::exec::lanes::{binary, logic, quaternary, test, unary};
use crate::exec::op::{Op, Run};
use crate::memory::{LOCAL_BASE, PARAM_BASE, SHARED_BASE, WINDOW_MASK};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::{Space, Type};

/// First generic address of a space; 0 where an address is generic already.
fn window(space: Space) -> u64 {
    match space {
        Space::Shared => SHARED_BASE,
        Space::Local => LOCAL_BASE,
        Space::Param => PARAM_BASE,
        _ => 0,
    }
}

/// A plain copy of lanes of that many bytes.
pub(super) fn copy(width: u32) -> Step<Run> {
    Ok(match width {
        0 => logic(|a, _| a),
        1 => unary(|a: u8| a),
        2 => unary(|a: u16| a),
        4 => unary(|a: u32| a),
        8 => unary(|a: u64| a),
        _ => return Err(Problem::Unknown),
    })
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn moves(&mut self, i: &Instruction<'a>) -> Step {
        match i.opcode() {
            "mov" => self.mov(i),
            "cvta" => self.convert_address(i),
            "isspacep" => self.is_space(i),
            // There are no caches to have a policy for.
            "createpolicy" => match i.operands.first() {
                Some(d) => self.copy_to(d, &Operand::Int(0), Type::B64),
                None => bad("operands missing"),
            },
            // A cluster is one CTA: every rank's address is one's own.
            "mapa" => match i.operands.as_slice() {
                [d, a, _] => self.copy_to(d, a, types(i).last().copied().unwrap_or(Type::U64)),
                _ => bad("three operands expected"),
            },
            _ => Err(Problem::Unknown),
        }
    }

    fn mov(&mut self, i: &Instruction<'a>) -> Step {
        let Some(ty) = types(i).first().copied() else { return bad("no type") };
        match i.operands.as_slice() {
            [Operand::Vector(parts), a] => self.unpack(parts, a, ty),
            [d, Operand::Vector(parts)] => self.pack(d, parts, ty),
            [_, _] if ty == Type::Pred => self.predicate_logic(i, logic(|a, _| a)),
            [d, a] => self.copy_to(d, a, ty),
            _ => bad("two operands expected"),
        }
    }

    fn copy_to(&mut self, d: &Operand<'a>, a: &Operand<'a>, ty: Type) -> Step {
        let a = self.source(a, ty)?;
        let d = self.destination(d, ty)?;
        self.emit(copy(ty.size())?, d.slot, a, 0, 0);
        self.finish(d);
        Ok(())
    }

    fn unpack(&mut self, parts: &[Operand<'a>], a: &Operand<'a>, ty: Type) -> Step {
        let a = self.source(a, ty)?;
        let (part, runs): (Type, Vec<Run>) = match (ty.size(), parts.len()) {
            (4, 2) => (Type::B16, vec![unary(|a: u32| a as u16), unary(|a: u32| (a >> 16) as u16)]),
            (8, 2) => (Type::B32, vec![unary(|a: u64| a as u32), unary(|a: u64| (a >> 32) as u32)]),
            (8, 4) => (
                Type::B16,
                vec![
                    unary(|a: u64| a as u16),
                    unary(|a: u64| (a >> 16) as u16),
                    unary(|a: u64| (a >> 32) as u16),
                    unary(|a: u64| (a >> 48) as u16),
                ],
            ),
            (2, 2) => (Type::B8, vec![unary(|a: u16| a as u8), unary(|a: u16| (a >> 8) as u8)]),
            (4, 4) => (
                Type::B8,
                vec![
                    unary(|a: u32| a as u8),
                    unary(|a: u32| (a >> 8) as u8),
                    unary(|a: u32| (a >> 16) as u8),
                    unary(|a: u32| (a >> 24) as u8),
                ],
            ),
            _ => return Err(Problem::Unknown),
        };
        for (operand, run) in parts.iter().zip(runs) {
            if *operand == Operand::Sink {
                continue;
            }
            let d = self.destination(operand, part)?;
            self.emit(run, d.slot, a, 0, 0);
            self.finish(d);
        }
        Ok(())
    }

    fn pack(&mut self, d: &Operand<'a>, parts: &[Operand<'a>], ty: Type) -> Step {
        let part = match (ty.size(), parts.len()) {
            (4, 2) | (8, 4) => Type::B16,
            (8, 2) => Type::B32,
            (2, 2) | (4, 4) => Type::B8,
            _ => return Err(Problem::Unknown),
        };
        let slots = parts.iter().map(|operand| self.source(operand, part)).collect::<Step<Vec<u32>>>()?;
        let run: Run = match (ty.size(), parts.len()) {
            (4, 2) => binary(|a: u16, b: u16| u32::from(a) | u32::from(b) << 16),
            (8, 2) => binary(|a: u32, b: u32| u64::from(a) | u64::from(b) << 32),
            (2, _) => binary(|a: u8, b: u8| u16::from(a) | u16::from(b) << 8),
            (4, _) => quaternary(|a: u8, b: u8, c: u8, e: u8| u32::from_le_bytes([a, b, c, e])),
            _ => quaternary(|a: u16, b: u16, c: u16, e: u16| {
                u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(e) << 48
            }),
        };
        let d = self.destination(d, ty)?;
        let at = |n: usize| slots.get(n).copied().unwrap_or(0);
        self.ops.push(Op { d: d.slot, a: at(0), b: at(1), c: at(2), e: at(3), ..Op::new(run, self.line) });
        self.finish(d);
        Ok(())
    }

    /// `cvta.space.u64` and `cvta.to.space.u64`.
    fn convert_address(&mut self, i: &Instruction<'a>) -> Step {
        let [d, a] = i.operands.as_slice() else { return bad("two operands expected") };
        let Some(space) = i.modifiers().find_map(Space::from_name) else { return bad("no state space") };
        // A device function's parameters lie in its local memory.
        let space = if space == Space::Param && !self.out.is_entry { Space::Local } else { space };
        let (base, ty) = (window(space), Type::U64);
        if base == 0 {
            return self.copy_to(d, a, ty);
        }
        let a = self.source(a, ty)?;
        let distance = self.constant(8, if i.has("to") { base.wrapping_neg() } else { base });
        let d = self.destination(d, ty)?;
        self.emit(binary(u64::wrapping_add), d.slot, a, distance, 0);
        self.finish(d);
        Ok(())
    }

    fn is_space(&mut self, i: &Instruction<'a>) -> Step {
        let [d, a] = i.operands.as_slice() else { return bad("two operands expected") };
        let Some(space) = i.modifiers().find_map(Space::from_name) else { return bad("no state space") };
        let a = self.source(a, Type::U64)?;
        // Constants lie in global memory, so no address is a constant one.
        let base = self.constant(8, if space == Space::Const { u64::MAX } else { window(space) });
        let d = self.destination(d, Type::Pred)?.slot;
        self.emit(test(|a: u64, b: u64| a & WINDOW_MASK == b), d, a, base, 0);
        Ok(())
    }
}
