//! Conversions to and from floats that have no registers of their own: pairs of e4m3 and e5m2 in 16
//! bits, and tf32, which is an f32 with its lower fraction bits zero.
#![allow(clippy::cast_possible_truncation, reason = "packed values are taken apart")]

use super::function::Decoder;
use super::{Problem, Step, bad};
use crate::exec::float::{from_bf16, from_half, to_bf16, to_half};
use crate::exec::float8::{from_e4m3, from_e5m2, to_e4m3, to_e5m2};
use crate::exec::lanes::{binary, unary};
use crate::exec::op::Run;
use crate::ptx::ast::Instruction;
use crate::ptx::types::Type;

/// Fraction bits of an f32 that a tf32 lacks.
const CUT: u32 = 13;

/// Rounded to tf32: to nearest even, ties away from zero, or cut.
fn tf32(x: f32, mode: u8) -> u32 {
    let bits = x.to_bits();
    if !x.is_finite() {
        return if x.is_nan() { 0x7fff_ffff } else { bits };
    }
    let half = 1u32 << (CUT - 1);
    let rounded = match mode {
        NEAREST => bits + half - 1 + (bits >> CUT & 1),
        AWAY => bits + half,
        _ => bits,
    };
    rounded & !((1 << CUT) - 1)
}

const NEAREST: u8 = 0;
const AWAY: u8 = 1;
const CHOPPED: u8 = 2;

fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// Two values to two bytes, the first to the upper one.
macro_rules! pack {
    ($to:ident, $relu:expr) => {
        if $relu {
            binary(|a: f32, b: f32| u16::from($to(relu(a))) << 8 | u16::from($to(relu(b))))
        } else {
            binary(|a: f32, b: f32| u16::from($to(a)) << 8 | u16::from($to(b)))
        }
    };
}

/// A pair of halves to two bytes.
macro_rules! narrow {
    ($from:ident, $to:ident) => {
        unary(|a: u32| u16::from($to($from((a >> 16) as u16))) << 8 | u16::from($to($from(a as u16))))
    };
}

/// Two bytes to a pair of halves; every value is exact there.
macro_rules! widen {
    ($from:ident, $to:ident) => {
        unary(|a: u16| u32::from($to($from((a >> 8) as u8))) << 16 | u32::from($to($from(a as u8))))
    };
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn convert_small(&mut self, i: &Instruction<'a>) -> Step {
        let named = |m: &&str| matches!(*m, "e4m3x2" | "e5m2x2" | "tf32" | "f32" | "f16x2" | "bf16x2");
        let names: Vec<&str> = i.modifiers().filter(named).collect();
        let (run, to, from): (Run, Type, Type) = match names[..] {
            ["tf32", "f32"] if i.has("rna") => (unary(|a: f32| tf32(a, AWAY)), Type::B32, Type::F32),
            ["tf32", "f32"] if i.has("rz") => (unary(|a: f32| tf32(a, CHOPPED)), Type::B32, Type::F32),
            ["tf32", "f32"] => (unary(|a: f32| tf32(a, NEAREST)), Type::B32, Type::F32),
            ["e4m3x2", "f32"] => (pack!(to_e4m3, i.has("relu")), Type::B16, Type::F32),
            ["e5m2x2", "f32"] => (pack!(to_e5m2, i.has("relu")), Type::B16, Type::F32),
            _ if i.has("relu") => return Err(Problem::Unknown),
            ["e4m3x2", "f16x2"] => (narrow!(from_half, to_e4m3), Type::B16, Type::B32),
            ["e5m2x2", "f16x2"] => (narrow!(from_half, to_e5m2), Type::B16, Type::B32),
            ["e4m3x2", "bf16x2"] => (narrow!(from_bf16, to_e4m3), Type::B16, Type::B32),
            ["e5m2x2", "bf16x2"] => (narrow!(from_bf16, to_e5m2), Type::B16, Type::B32),
            ["f16x2", "e4m3x2"] => (widen!(from_e4m3, to_half), Type::B32, Type::B16),
            ["f16x2", "e5m2x2"] => (widen!(from_e5m2, to_half), Type::B32, Type::B16),
            ["bf16x2", "e4m3x2"] => (widen!(from_e4m3, to_bf16), Type::B32, Type::B16),
            ["bf16x2", "e5m2x2"] => (widen!(from_e5m2, to_bf16), Type::B32, Type::B16),
            _ => return Err(Problem::Unknown),
        };
        let (d, a, b) = match i.operands.as_slice() {
            [d, a] => (d, a, None),
            [d, a, b] => (d, a, Some(b)),
            _ => return bad("wrong number of operands"),
        };
        let a = self.source(a, from)?;
        let b = b.map_or(Ok(a), |b| self.source(b, from))?;
        let d = self.destination(d, to)?;
        self.emit(run, d.slot, a, b, 0);
        self.finish(d);
        Ok(())
    }
}
