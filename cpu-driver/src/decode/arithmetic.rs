//! Integer arithmetic; floating-point types go on to `float` and `half`.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::cast_lossless,
    reason = "PTX's integers are modular, and signed and unsigned share registers"
)]

use super::function::{Decoder, types};
use super::{Problem, Step, bad};
use crate::exec::lanes::{binary, ternary, unary};
use crate::exec::op::Run;
use crate::ptx::ast::Instruction;
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    pub(super) fn arithmetic(&mut self, i: &Instruction<'a>) -> Step {
        let Some(ty) = types(i).first().copied() else { return bad("no type") };
        match ty {
            Type::F32 => return self.float32(i),
            Type::F64 => return self.float64(i),
            Type::U16x2 | Type::S16x2 => return self.packed_integers(i, ty),
            Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 => return self.half(i, ty),
            _ => {}
        }
        if i.has("cc") || matches!(i.opcode(), "addc" | "subc" | "madc") {
            return self.with_carry(i, ty);
        }
        match i.opcode() {
            "add" if i.has("sat") => self.two(i, ty, binary(|a: u32, b: u32| (a as i32).saturating_add(b as i32) as u32)),
            "sub" if i.has("sat") => self.two(i, ty, binary(|a: u32, b: u32| (a as i32).saturating_sub(b as i32) as u32)),
            "add" => self.two(i, ty, add(ty)?),
            "sub" => self.two(i, ty, sub(ty)?),
            "mul24" | "mad24" | "dp2a" => self.parts(i, ty),
            "mad" if i.has("sat") => self.parts(i, ty),
            "mul" => self.multiply(i, ty),
            "mad" => self.multiply_add(i, ty),
            "div" => self.two(i, ty, div(ty)?),
            "rem" => self.two(i, ty, rem(ty)?),
            "min" if i.has("relu") => self.two(i, ty, binary(|a: u32, b: u32| (a as i32).min(b as i32).max(0) as u32)),
            "max" if i.has("relu") => self.two(i, ty, binary(|a: u32, b: u32| (a as i32).max(b as i32).max(0) as u32)),
            "min" => self.two(i, ty, min(ty)?),
            "max" => self.two(i, ty, max(ty)?),
            "abs" => self.one(i, ty, abs(ty)?),
            "neg" => self.one(i, ty, neg(ty)?),
            "sad" => self.three(i, ty, sad(ty)?),
            "dp4a" => self.dot(i),
            _ => Err(Problem::Unknown),
        }
    }

    fn multiply(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        if i.has("wide") {
            let ([d, a, b], Some(to)) = (i.operands.as_slice(), wider(ty)) else { return bad("three operands expected") };
            let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
            let d = self.destination(d, to)?;
            self.emit(mul_wide(ty)?, d.slot, a, b, 0);
            self.finish(d);
            return Ok(());
        }
        let run = if i.has("hi") { mul_hi(ty)? } else { mul_lo(ty)? };
        self.two(i, ty, run)
    }

    fn multiply_add(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        if i.has("wide") {
            let ([d, a, b, c], Some(to)) = (i.operands.as_slice(), wider(ty)) else { return bad("four operands expected") };
            let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, to)?);
            let d = self.destination(d, to)?;
            self.emit(mad_wide(ty)?, d.slot, a, b, c);
            self.finish(d);
            return Ok(());
        }
        let run = if i.has("hi") { mad_hi(ty)? } else { mad_lo(ty)? };
        self.three(i, ty, run)
    }

    /// `dp4a.atype.btype d, a, b, c`.
    fn dot(&mut self, i: &Instruction<'a>) -> Step {
        let run = match types(i).as_slice() {
            [Type::S32, Type::S32] => ternary(|a: u32, b: u32, c: u32| dot4(a, b, c, true, true)),
            [Type::S32, Type::U32] => ternary(|a: u32, b: u32, c: u32| dot4(a, b, c, true, false)),
            [Type::U32, Type::S32] => ternary(|a: u32, b: u32, c: u32| dot4(a, b, c, false, true)),
            [Type::U32, Type::U32] => ternary(|a: u32, b: u32, c: u32| dot4(a, b, c, false, false)),
            _ => return Err(Problem::Unknown),
        };
        self.three(i, Type::B32, run)
    }
}

fn dot4(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool) -> u32 {
    let part = |byte: u8, signed: bool| if signed { i32::from(byte as i8) } else { i32::from(byte) };
    let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    pairs.fold(c, |sum, (x, y)| sum.wrapping_add((part(x, a_signed) * part(y, b_signed)) as u32))
}

fn wider(ty: Type) -> Option<Type> {
    Some(match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        Type::S32 => Type::S64,
        _ => return None,
    })
}

/// One function per width, for operations that do not care about signs.
macro_rules! by_width {
    ($name:ident, $driver:ident, |$($arg:ident),*| $body:expr) => {
        pub(super) fn $name(ty: Type) -> Step<Run> {
            macro_rules! at { ($t:ty) => { $driver(|$($arg: $t),*| $body) }; }
            Ok(match ty.size() {
                2 => at!(u16),
                4 => at!(u32),
                8 => at!(u64),
                _ => return Err(Problem::Unknown),
            })
        }
    };
}

/// One function per type. Lanes are unsigned; the body sees each argument in its own type T.
macro_rules! by_type {
    ($name:ident, $driver:ident, $t:ident, |$($arg:ident),*| $body:expr) => {
        pub(super) fn $name(ty: Type) -> Step<Run> {
            macro_rules! at {
                ($lane:ty, $as:ty) => {
                    $driver(|$($arg: $lane),*| {
                        type $t = $as;
                        $(let $arg = $arg as $t;)*
                        ($body) as $lane
                    })
                };
            }
            Ok(match ty {
                Type::U16 | Type::B16 => at!(u16, u16),
                Type::S16 => at!(u16, i16),
                Type::U32 | Type::B32 => at!(u32, u32),
                Type::S32 => at!(u32, i32),
                Type::U64 | Type::B64 => at!(u64, u64),
                Type::S64 => at!(u64, i64),
                _ => return Err(Problem::Unknown),
            })
        }
    };
}

by_width!(add, binary, |a, b| a.wrapping_add(b));
by_width!(sub, binary, |a, b| a.wrapping_sub(b));
by_width!(mul_lo, binary, |a, b| a.wrapping_mul(b));
by_width!(mad_lo, ternary, |a, b, c| a.wrapping_mul(b).wrapping_add(c));
by_width!(neg, unary, |a| a.wrapping_neg());

// Division by zero is no fault on a device; all bits set is what hardware leaves behind.
by_type!(div, binary, T, |a, b| if b == 0 { !(0 as T) } else { a.wrapping_div(b) });
by_type!(rem, binary, T, |a, b| if b == 0 { a } else { a.wrapping_rem(b) });
by_type!(min, binary, T, |a, b| T::min(a, b));
by_type!(max, binary, T, |a, b| T::max(a, b));
by_type!(sad, ternary, T, |a, b, c| (a.abs_diff(b) as T).wrapping_add(c));

fn abs(ty: Type) -> Step<Run> {
    Ok(match ty {
        Type::S16 => unary(|a: u16| (a as i16).wrapping_abs() as u16),
        Type::S32 => unary(|a: u32| (a as i32).wrapping_abs() as u32),
        Type::S64 => unary(|a: u64| (a as i64).wrapping_abs() as u64),
        _ => return Err(Problem::Unknown),
    })
}

pub(super) fn mul_hi(ty: Type) -> Step<Run> {
    Ok(match ty {
        Type::U16 => binary(|a: u16, b: u16| ((u32::from(a) * u32::from(b)) >> 16) as u16),
        Type::S16 => binary(|a: u16, b: u16| ((i32::from(a as i16) * i32::from(b as i16)) >> 16) as u16),
        Type::U32 => binary(|a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32),
        Type::S32 => binary(|a: u32, b: u32| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32),
        Type::U64 => binary(|a: u64, b: u64| ((u128::from(a) * u128::from(b)) >> 64) as u64),
        Type::S64 => binary(|a: u64, b: u64| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64),
        _ => return Err(Problem::Unknown),
    })
}

fn mad_hi(ty: Type) -> Step<Run> {
    Ok(match ty {
        Type::U16 => ternary(|a: u16, b: u16, c: u16| (((a as u32 * b as u32) >> 16) as u16).wrapping_add(c)),
        Type::S16 => {
            ternary(|a: u16, b: u16, c: u16| (((a as i16 as i32 * b as i16 as i32) >> 16) as u16).wrapping_add(c))
        }
        Type::U32 => ternary(|a: u32, b: u32, c: u32| (((a as u64 * b as u64) >> 32) as u32).wrapping_add(c)),
        Type::S32 => {
            ternary(|a: u32, b: u32, c: u32| (((a as i32 as i64 * b as i32 as i64) >> 32) as u32).wrapping_add(c))
        }
        Type::U64 => ternary(|a: u64, b: u64, c: u64| (((a as u128 * b as u128) >> 64) as u64).wrapping_add(c)),
        Type::S64 => {
            ternary(|a: u64, b: u64, c: u64| (((a as i64 as i128 * b as i64 as i128) >> 64) as u64).wrapping_add(c))
        }
        _ => return Err(Problem::Unknown),
    })
}

fn mul_wide(ty: Type) -> Step<Run> {
    Ok(match ty {
        Type::U16 => binary(|a: u16, b: u16| u32::from(a) * u32::from(b)),
        Type::S16 => binary(|a: u16, b: u16| (i32::from(a as i16) * i32::from(b as i16)) as u32),
        Type::U32 => binary(|a: u32, b: u32| u64::from(a) * u64::from(b)),
        Type::S32 => binary(|a: u32, b: u32| (i64::from(a as i32) * i64::from(b as i32)) as u64),
        _ => return Err(Problem::Unknown),
    })
}

fn mad_wide(ty: Type) -> Step<Run> {
    Ok(match ty {
        Type::U16 => ternary(|a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c)),
        Type::S16 => {
            ternary(|a: u16, b: u16, c: u32| ((i32::from(a as i16) * i32::from(b as i16)) as u32).wrapping_add(c))
        }
        Type::U32 => ternary(|a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c)),
        Type::S32 => {
            ternary(|a: u32, b: u32, c: u64| ((i64::from(a as i32) * i64::from(b as i32)) as u64).wrapping_add(c))
        }
        _ => return Err(Problem::Unknown),
    })
}
