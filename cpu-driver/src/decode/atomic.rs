//! `atom` and `red`.
#![allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "signed and unsigned share registers; packed halves are taken apart"
)]

use super::function::{Decoder, types};
use super::{Problem, Step, bad};
use crate::exec::address::{GENERIC, GLOBAL, SHARED};
use crate::exec::atomic::atomic_op;
use crate::exec::float::{self, from_bf16, from_half, to_bf16, to_half};
use crate::exec::op::{Op, Run};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::Type;

const OPERATIONS: [&str; 10] = ["add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas"];

macro_rules! integer {
    ($name:expr, $space:expr, $u:ty, $s:ty, $signed:expr) => {
        match ($name, $signed) {
            ("add", _) => atomic_op($space, |old: $u, b: $u, _| old.wrapping_add(b)),
            ("and", _) => atomic_op($space, |old: $u, b: $u, _| old & b),
            ("or", _) => atomic_op($space, |old: $u, b: $u, _| old | b),
            ("xor", _) => atomic_op($space, |old: $u, b: $u, _| old ^ b),
            ("exch", _) => atomic_op($space, |_, b: $u, _| b),
            ("cas", _) => atomic_op($space, |old: $u, b: $u, c: $u| if old == b { c } else { old }),
            ("min", false) => atomic_op($space, |old: $u, b: $u, _| old.min(b)),
            ("max", false) => atomic_op($space, |old: $u, b: $u, _| old.max(b)),
            ("min", true) => atomic_op($space, |old: $u, b: $u, _| (old as $s).min(b as $s) as $u),
            ("max", true) => atomic_op($space, |old: $u, b: $u, _| (old as $s).max(b as $s) as $u),
            ("inc", _) => atomic_op($space, |old: $u, b: $u, _| if old >= b { 0 } else { old + 1 }),
            ("dec", _) => atomic_op($space, |old: $u, b: $u, _| if old == 0 || old > b { b } else { old - 1 }),
            _ => return Err(Problem::Unknown),
        }
    };
}

fn operation(name: &str, ty: Type, space: u8) -> Step<Run> {
    Ok(match (ty, name) {
        (Type::F32, "add") => {
            atomic_op(space, |old: u32, b: u32, _| (f32::from_bits(old) + f32::from_bits(b)).to_bits())
        }
        (Type::F64, "add") => {
            atomic_op(space, |old: u64, b: u64, _| (f64::from_bits(old) + f64::from_bits(b)).to_bits())
        }
        (Type::F16, "add") => atomic_op(space, |old: u16, b: u16, _| to_half(from_half(old) + from_half(b))),
        (Type::Bf16, "add") => atomic_op(space, |old: u16, b: u16, _| to_bf16(from_bf16(old) + from_bf16(b))),
        (Type::F16x2, "add") => atomic_op(space, |old: u32, b: u32, _| {
            let add = |a: u16, b: u16| u32::from(to_half(from_half(a) + from_half(b)));
            add(old as u16, b as u16) | add((old >> 16) as u16, (b >> 16) as u16) << 16
        }),
        (Type::Bf16x2, "add") => atomic_op(space, |old: u32, b: u32, _| {
            let add = |a: u16, b: u16| u32::from(to_bf16(from_bf16(a) + from_bf16(b)));
            add(old as u16, b as u16) | add((old >> 16) as u16, (b >> 16) as u16) << 16
        }),
        (Type::F16, "min") => atomic_op(space, |old: u16, b: u16, _| to_half(float::min(from_half(old), from_half(b)))),
        (Type::F16, "max") => atomic_op(space, |old: u16, b: u16, _| to_half(float::max(from_half(old), from_half(b)))),
        (Type::Bf16, "min") => atomic_op(space, |old: u16, b: u16, _| to_bf16(float::min(from_bf16(old), from_bf16(b)))),
        (Type::Bf16, "max") => atomic_op(space, |old: u16, b: u16, _| to_bf16(float::max(from_bf16(old), from_bf16(b)))),
        (Type::F16x2, "min") => atomic_op(space, |old: u32, b: u32, _| {
            let min = |a: u16, b: u16| u32::from(to_half(float::min(from_half(a), from_half(b))));
            min(old as u16, b as u16) | min((old >> 16) as u16, (b >> 16) as u16) << 16
        }),
        (Type::F16x2, "max") => atomic_op(space, |old: u32, b: u32, _| {
            let max = |a: u16, b: u16| u32::from(to_half(float::max(from_half(a), from_half(b))));
            max(old as u16, b as u16) | max((old >> 16) as u16, (b >> 16) as u16) << 16
        }),
        (Type::Bf16x2, "min") => atomic_op(space, |old: u32, b: u32, _| {
            let min = |a: u16, b: u16| u32::from(to_bf16(float::min(from_bf16(a), from_bf16(b))));
            min(old as u16, b as u16) | min((old >> 16) as u16, (b >> 16) as u16) << 16
        }),
        (Type::Bf16x2, "max") => atomic_op(space, |old: u32, b: u32, _| {
            let max = |a: u16, b: u16| u32::from(to_bf16(float::max(from_bf16(a), from_bf16(b))));
            max(old as u16, b as u16) | max((old >> 16) as u16, (b >> 16) as u16) << 16
        }),
        (Type::B16, "exch") => atomic_op(space, |_, b: u16, _| b),
        (Type::B16, "cas") => atomic_op(space, |old: u16, b: u16, c: u16| if old == b { c } else { old }),
        _ if ty.is_float() && !matches!(name, "exch" | "cas") => return Err(Problem::Unknown),
        _ if ty.size() == 4 => integer!(name, space, u32, i32, ty.is_signed()),
        _ if ty.size() == 8 => integer!(name, space, u64, i64, ty.is_signed()),
        _ => return Err(Problem::Unknown),
    })
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn atomic(&mut self, i: &Instruction<'a>) -> Step {
        let Some(ty) = types(i).last().copied() else { return bad("no type") };
        let Some(name) = i.modifiers().find(|m| OPERATIONS.contains(m)) else { return Err(Problem::Unknown) };
        let (d, address, mut operands) = match (i.opcode(), i.operands.as_slice()) {
            ("red", [address, rest @ ..]) => (None, address, rest),
            ("atom", [d, address, rest @ ..]) => (Some(d), address, rest),
            _ => return bad("operands missing"),
        };
        if i.has("async") {
            let [value, barrier] = operands else { return bad("three operands expected") };
            self.update(i, name, ty, (None, address, std::slice::from_ref(value)), 0)?;
            return self.completes(barrier, ty);
        }
        // A cache policy, which says nothing about the result, comes last.
        if i.modifiers().any(|m| m.starts_with("L2::cache_hint")) {
            operands = operands.split_last().map_or(&[], |(_, rest)| rest);
        }
        if !i.modifiers().any(|m| matches!(m, "v2" | "v4" | "v8")) {
            return self.update(i, name, ty, (d, address, operands), 0);
        }
        // Each element of a vector is updated by itself.
        let [Operand::Vector(values)] = operands else { return bad("a vector expected") };
        for (number, value) in values.iter().enumerate() {
            let d = match d {
                Some(Operand::Vector(all)) => all.get(number),
                _ => None,
            };
            let offset = u64::try_from(number).unwrap_or(0) * u64::from(ty.size());
            self.update(i, name, ty, (d, address, std::slice::from_ref(value)), offset)?;
        }
        Ok(())
    }

    /// One update of one value, `offset` behind the address.
    fn update(
        &mut self,
        i: &Instruction<'a>,
        name: &str,
        ty: Type,
        (d, address, operands): (Option<&Operand<'a>>, &Operand<'a>, &[Operand<'a>]),
        offset: u64,
    ) -> Step {
        let (b, c) = match operands {
            [b] => (self.source(b, ty)?, self.constant(ty.size(), 0)),
            [b, c] => (self.source(b, ty)?, self.source(c, ty)?),
            _ => return bad("wrong number of operands"),
        };
        let space = self.space(i);
        let address = self.address(address, space)?;
        let space = if matches!(address.space, GLOBAL | SHARED) { address.space } else { GENERIC };
        let slot = if address.wide { address.slot } else { self.resized(address.slot, 4, 8, false)? };
        let d = self.destination(d.unwrap_or(&Operand::Sink), ty)?;
        let run = operation(name, ty, space)?;
        self.ops.push(Op { d: d.slot, a: slot, b, c, imm: address.offset.wrapping_add(offset), ..Op::new(run, self.line) });
        self.finish(d);
        Ok(())
    }
}
