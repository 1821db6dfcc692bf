//! `cvt`: every pairing goes through as few steps as it needs, each step an operation of its own.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_lossless,
    reason = "conversions between number types are what this room is for"
)]

use super::float::style;
use super::function::{Decoder, types};
use super::moves::copy;
use super::{Problem, Step, bad};
use crate::exec::float::{
    self, DOWN, Rounding, UP, ZERO, f32_from_integer, f64_from_integer, flush, from_bf16, from_half, saturate,
    saturate64, to_bf16, to_half,
};
use crate::exec::lanes::{binary, unary};
use crate::exec::op::Run;
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::Type;

/// An operation for each integer type; the body sees the value in its own type.
macro_rules! from_integers {
    ($ty:expr, |$a:ident| $body:expr) => {
        match $ty {
            Type::U8 | Type::B8 => unary(|$a: u8| $body),
            Type::S8 => unary(|$a: u8| { let $a = $a as i8; $body }),
            Type::U16 | Type::B16 => unary(|$a: u16| $body),
            Type::S16 => unary(|$a: u16| { let $a = $a as i16; $body }),
            Type::U32 | Type::B32 => unary(|$a: u32| $body),
            Type::S32 => unary(|$a: u32| { let $a = $a as i32; $body }),
            Type::U64 | Type::B64 => unary(|$a: u64| $body),
            Type::S64 => unary(|$a: u64| { let $a = $a as i64; $body }),
            _ => return Err(Problem::Unknown),
        }
    };
}

/// An operation to each integer type, from a float.
macro_rules! to_integers {
    ($ty:expr, $float:ty) => {
        match $ty {
            Type::U8 => unary(|a: $float| a as u8),
            Type::S8 => unary(|a: $float| a as i8 as u8),
            Type::U16 => unary(|a: $float| a as u16),
            Type::S16 => unary(|a: $float| a as i16 as u16),
            Type::U32 => unary(|a: $float| a as u32),
            Type::S32 => unary(|a: $float| a as i32 as u32),
            Type::U64 => unary(|a: $float| a as u64),
            Type::S64 => unary(|a: $float| a as i64 as u64),
            _ => return Err(Problem::Unknown),
        }
    };
}

/// A 64-bit integer clamped to a type (`.sat`).
macro_rules! clamp {
    ($ty:expr, $from:ty) => {
        match $ty {
            Type::U8 => unary(|a: u64| u8::try_from(a as $from).unwrap_or(if (a as $from) < 0 as $from { 0 } else { u8::MAX })),
            Type::S8 => unary(|a: u64| i8::try_from(a as $from).unwrap_or(if (a as $from) < 0 as $from { i8::MIN } else { i8::MAX }) as u8),
            Type::U16 => unary(|a: u64| u16::try_from(a as $from).unwrap_or(if (a as $from) < 0 as $from { 0 } else { u16::MAX })),
            Type::S16 => unary(|a: u64| i16::try_from(a as $from).unwrap_or(if (a as $from) < 0 as $from { i16::MIN } else { i16::MAX }) as u16),
            Type::U32 => unary(|a: u64| u32::try_from(a as $from).unwrap_or(if (a as $from) < 0 as $from { 0 } else { u32::MAX })),
            Type::S32 => unary(|a: u64| i32::try_from(a as $from).unwrap_or(if (a as $from) < 0 as $from { i32::MIN } else { i32::MAX }) as u32),
            Type::U64 => unary(|a: u64| u64::try_from(a as $from).unwrap_or(0)),
            _ => unary(|a: u64| i64::try_from(a as $from).unwrap_or(i64::MAX) as u64),
        }
    };
}

/// Which modifier rounds to an integer, if any.
fn integer_rounding(i: &Instruction<'_>) -> Option<&'static str> {
    ["rni", "rzi", "rmi", "rpi"].into_iter().find(|name| i.has(name))
}

fn round32(mode: &str) -> Run {
    match mode {
        "rni" => unary(f32::round_ties_even),
        "rmi" => unary(f32::floor),
        "rpi" => unary(f32::ceil),
        _ => unary(f32::trunc),
    }
}

fn round64(mode: &str) -> Run {
    match mode {
        "rni" => unary(f64::round_ties_even),
        "rmi" => unary(f64::floor),
        "rpi" => unary(f64::ceil),
        _ => unary(f64::trunc),
    }
}

fn is_small(ty: Type) -> bool {
    matches!(ty, Type::F16 | Type::Bf16)
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn convert(&mut self, i: &Instruction<'a>) -> Step {
        if i.has("pack") {
            return self.convert_pack(i);
        }
        if i.modifiers().any(|m| matches!(m, "e4m3x2" | "e5m2x2" | "tf32")) {
            return self.convert_small(i);
        }
        match (types(i).as_slice(), i.operands.as_slice()) {
            ([to @ (Type::F16x2 | Type::Bf16x2), Type::F32], [d, high, low]) => self.pack_halves(i, *to, d, high, low),
            ([to, from], [d, a]) => match (to.is_float(), from.is_float()) {
                _ if to.size() > 8 || from.size() > 8 => Err(Problem::Unknown),
                (false, false) => self.integer_to_integer(i, *to, *from, d, a),
                (true, false) => self.integer_to_float(i, *to, *from, d, a),
                (false, true) => self.float_to_integer(i, *to, *from, d, a),
                (true, true) => self.float_to_float(i, *to, *from, d, a),
            },
            _ => Err(Problem::Unknown),
        }
    }

    /// `d = run(a)` where d is a `to`.
    fn last_step(&mut self, d: &Operand<'a>, to: Type, run: Run, a: u32) -> Step {
        let d = self.destination(d, to)?;
        self.emit(run, d.slot, a, 0, 0);
        self.finish(d);
        Ok(())
    }

    /// A temporary of that many bytes with `run(a)`.
    fn step(&mut self, width: u32, run: Run, a: u32) -> u32 {
        let temporary = self.temporary(width);
        self.emit(run, temporary, a, 0, 0);
        temporary
    }

    fn integer_to_integer(&mut self, i: &Instruction<'a>, to: Type, from: Type, d: &Operand<'a>, a: &Operand<'a>) -> Step {
        let a = self.source(a, from)?;
        if i.has("sat") {
            let wide = self.resized(a, from.size(), 8, from.is_signed())?;
            let run = if from.is_signed() { clamp!(to, i64) } else { clamp!(to, u64) };
            return self.last_step(d, to, run, wide);
        }
        // The register may be wider than the type: then the result is extended by the type's sign.
        let value = self.resized(a, from.size(), to.size(), from.is_signed())?;
        self.last_step(d, to, copy(to.size())?, value)
    }

    fn integer_to_float(&mut self, i: &Instruction<'a>, to: Type, from: Type, d: &Operand<'a>, a: &Operand<'a>) -> Step {
        let (style, a) = (style(i), self.source(a, from)?);
        if to == Type::F64 {
            let run = match style.rounding {
                Rounding::Nearest => from_integers!(from, |a| a as f64),
                Rounding::Zero => from_integers!(from, |a| f64_from_integer::<ZERO>(a as i128)),
                Rounding::Down => from_integers!(from, |a| f64_from_integer::<DOWN>(a as i128)),
                Rounding::Up => from_integers!(from, |a| f64_from_integer::<UP>(a as i128)),
            };
            return self.last_step(d, to, run, a);
        }
        let run = match style.rounding {
            Rounding::Nearest => from_integers!(from, |a| a as f32),
            Rounding::Zero => from_integers!(from, |a| f32_from_integer::<ZERO>(a as i128)),
            Rounding::Down => from_integers!(from, |a| f32_from_integer::<DOWN>(a as i128)),
            Rounding::Up => from_integers!(from, |a| f32_from_integer::<UP>(a as i128)),
        };
        match to {
            Type::F32 if !style.saturate => self.last_step(d, to, run, a),
            Type::F32 => {
                let value = self.step(4, run, a);
                self.last_step(d, to, unary(saturate), value)
            }
            Type::F16 if style.rounding == Rounding::Nearest => {
                // Every integer below f16's infinity is exact in f32.
                let value = self.step(4, run, a);
                self.last_step(d, to, unary(to_half), value)
            }
            Type::Bf16 if style.rounding == Rounding::Nearest && from.size() <= 2 => {
                let value = self.step(4, run, a);
                self.last_step(d, to, unary(to_bf16), value)
            }
            _ => Err(Problem::Unknown),
        }
    }

    fn float_to_integer(&mut self, i: &Instruction<'a>, to: Type, from: Type, d: &Operand<'a>, a: &Operand<'a>) -> Step {
        let a = self.source(a, from)?;
        let mode = integer_rounding(i).unwrap_or("rzi");
        if from == Type::F64 {
            let rounded = self.step(8, round64(mode), a);
            return self.last_step(d, to, to_integers!(to, f64), rounded);
        }
        let mut value = self.as_f32(a, from)?;
        if i.has("ftz") {
            value = self.step(4, unary(flush), value);
        }
        if mode != "rzi" {
            value = self.step(4, round32(mode), value);
        }
        self.last_step(d, to, to_integers!(to, f32), value)
    }

    /// A float of up to 32 bits as f32.
    fn as_f32(&mut self, a: u32, from: Type) -> Step<u32> {
        Ok(match from {
            Type::F32 => a,
            Type::F16 => self.step(4, unary(from_half), a),
            Type::Bf16 => self.step(4, unary(from_bf16), a),
            _ => return Err(Problem::Unknown),
        })
    }

    fn float_to_float(&mut self, i: &Instruction<'a>, to: Type, from: Type, d: &Operand<'a>, a: &Operand<'a>) -> Step {
        let (style, mut a) = (style(i), self.source(a, from)?);
        if from == Type::F64 {
            if let Some(mode) = integer_rounding(i) {
                a = self.step(8, round64(mode), a);
            }
            if to == Type::F64 {
                let run = if style.saturate { unary(saturate64) } else { copy(8)? };
                return self.last_step(d, to, run, a);
            }
            if is_small(to) {
                let run = match to {
                    Type::F16 => unary(|a: f64| half::f16::from_f64(a).to_bits()),
                    _ => unary(|a: f64| half::bf16::from_f64(a).to_bits()),
                };
                return if style.rounding == Rounding::Nearest { self.last_step(d, to, run, a) } else { Err(Problem::Unknown) };
            }
            a = self.step(4, narrow(style.rounding), a);
        } else {
            a = self.as_f32(a, from)?;
            if style.flush {
                a = self.step(4, unary(flush), a);
            }
            if let Some(mode) = integer_rounding(i) {
                a = self.step(4, round32(mode), a);
            }
        }
        if style.saturate {
            a = self.step(4, unary(saturate), a);
        }
        if i.has("relu") {
            a = self.step(4, unary(|a: f32| if a.is_nan() { a } else { float::max(a, 0.0) }), a);
        }
        let run = match (to, style.rounding) {
            (Type::F32, _) if style.flush => unary(flush),
            (Type::F32, _) => copy(4)?,
            (Type::F64, _) => unary(|a: f32| f64::from(a)),
            (Type::F16, Rounding::Nearest) => unary(to_half),
            (Type::F16, Rounding::Zero) => unary(half_toward_zero),
            (Type::Bf16, Rounding::Nearest) => unary(to_bf16),
            (Type::Bf16, Rounding::Zero) => unary(|a: f32| (a.to_bits() >> 16) as u16),
            _ => return Err(Problem::Unknown),
        };
        self.last_step(d, to, run, a)
    }

    /// `cvt.rn.f16x2.f32 d, a, b`: a becomes the upper half.
    fn pack_halves(&mut self, i: &Instruction<'a>, to: Type, d: &Operand<'a>, high: &Operand<'a>, low: &Operand<'a>) -> Step {
        let (mut high, mut low) = (self.source(high, Type::F32)?, self.source(low, Type::F32)?);
        if style(i).rounding != Rounding::Nearest {
            return bad("only .rn packs are executed").or(Err(Problem::Unknown));
        }
        if i.has("relu") {
            let relu = unary(|a: f32| if a.is_nan() { a } else { float::max(a, 0.0) });
            (high, low) = (self.step(4, relu, high), self.step(4, relu, low));
        }
        let run = match to {
            Type::F16x2 => binary(|a: f32, b: f32| u32::from(to_half(a)) << 16 | u32::from(to_half(b))),
            _ => binary(|a: f32, b: f32| u32::from(to_bf16(a)) << 16 | u32::from(to_bf16(b))),
        };
        let d = self.destination(d, Type::B32)?;
        self.emit(run, d.slot, high, low, 0);
        self.finish(d);
        Ok(())
    }
}

fn narrow(rounding: Rounding) -> Run {
    match rounding {
        Rounding::Nearest => unary(|a: f64| a as f32),
        Rounding::Zero => unary(float::narrow::<ZERO>),
        Rounding::Down => unary(float::narrow::<DOWN>),
        Rounding::Up => unary(float::narrow::<UP>),
    }
}

fn half_toward_zero(a: f32) -> u16 {
    let near = to_half(a);
    if from_half(near).abs() > a.abs() { near - 1 } else { near }
}
