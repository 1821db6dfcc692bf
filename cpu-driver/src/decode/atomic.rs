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
use crate::exec::float::{from_bf16, from_half, to_bf16, to_half};
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
        if i.has("vec") || i.modifiers().any(|m| matches!(m, "v2" | "v4" | "v8" | "async")) {
            return Err(Problem::Unknown);
        }
        let (d, address, operands) = match (i.opcode(), i.operands.as_slice()) {
            ("red", [address, rest @ ..]) => (None, address, rest),
            ("atom", [d, address, rest @ ..]) => (Some(d), address, rest),
            _ => return bad("operands missing"),
        };
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
        self.ops.push(Op { d: d.slot, a: slot, b, c, imm: address.offset, ..Op::new(run, self.line) });
        self.finish(d);
        Ok(())
    }
}
