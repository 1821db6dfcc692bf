//! 16-bit floating point, single and packed. Values are computed in f32, or in f64 where f32 would
//! round twice, and rounded once.
#![allow(clippy::cast_possible_truncation, reason = "packed halves are taken apart")]

use super::function::Decoder;
use super::{Problem, Step};
use crate::exec::float::{from_bf16, from_half, max, max_nan, min, min_nan, to_bf16, to_half};
use crate::exec::lanes::{binary, ternary, unary};
use crate::exec::op::Run;
use crate::ptx::ast::Instruction;
use crate::ptx::types::Type;

/// a * b + c on f16, rounded once.
fn fma16(a: u16, b: u16, c: u16) -> u16 {
    let (a, b, c) = (from_half(a), from_half(b), from_half(c));
    half::f16::from_f64(odd_sum(f64::from(a) * f64::from(b), f64::from(c))).to_bits()
}

/// a * b + c on bf16, rounded once.
fn fma_bf16(a: u16, b: u16, c: u16) -> u16 {
    let (a, b, c) = (from_bf16(a), from_bf16(b), from_bf16(c));
    half::bf16::from_f64(odd_sum(f64::from(a) * f64::from(b), f64::from(c))).to_bits()
}

/// The sum rounded to odd, so that rounding it again to fewer bits is as one rounding.
fn odd_sum(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    if error == 0.0 || !sum.is_finite() || sum.to_bits() & 1 == 1 {
        return sum;
    }
    if (error > 0.0) == (sum > 0.0) { f64::from_bits(sum.to_bits() + 1) } else { f64::from_bits(sum.to_bits() - 1) }
}

fn saturate(x: f32) -> f32 {
    crate::exec::float::saturate(x)
}

fn relu(x: f32) -> f32 {
    if x.is_nan() { x } else { max(x, 0.0) }
}

macro_rules! packed {
    (1, $driver:ident, $f:expr, $($arg:ident),*) => { $driver(|$($arg: u16),*| $f($($arg),*)) };
    (2, $driver:ident, $f:expr, $($arg:ident),*) => {
        $driver(|$($arg: u32),*| u32::from($f($($arg as u16),*)) | u32::from($f($(($arg >> 16) as u16),*)) << 16)
    };
}

/// The form of a function for each of the four types; `$body` sees and gives f32.
macro_rules! through_f32 {
    ($ty:expr, $driver:ident, |$($arg:ident),*| $body:expr) => {{
        match $ty {
            Type::F16 => packed!(1, $driver, |$($arg: u16),*| { $(let $arg = from_half($arg);)* to_half($body) }, $($arg),*),
            Type::F16x2 => packed!(2, $driver, |$($arg: u16),*| { $(let $arg = from_half($arg);)* to_half($body) }, $($arg),*),
            Type::Bf16 => packed!(1, $driver, |$($arg: u16),*| { $(let $arg = from_bf16($arg);)* to_bf16($body) }, $($arg),*),
            _ => packed!(2, $driver, |$($arg: u16),*| { $(let $arg = from_bf16($arg);)* to_bf16($body) }, $($arg),*),
        }
    }};
}

fn fused(ty: Type) -> Run {
    match ty {
        Type::F16 => ternary(fma16),
        Type::F16x2 => packed!(2, ternary, fma16, a, b, c),
        Type::Bf16 => ternary(fma_bf16),
        _ => packed!(2, ternary, fma_bf16, a, b, c),
    }
}

fn fused_saturated(ty: Type) -> Run {
    fn half(a: u16, b: u16, c: u16) -> u16 {
        to_half(saturate(from_half(fma16(a, b, c))))
    }
    fn brain(a: u16, b: u16, c: u16) -> u16 {
        to_bf16(saturate(from_bf16(fma_bf16(a, b, c))))
    }
    match ty {
        Type::F16 => ternary(half),
        Type::F16x2 => packed!(2, ternary, half, a, b, c),
        Type::Bf16 => ternary(brain),
        _ => packed!(2, ternary, brain, a, b, c),
    }
}

fn fused_relu(ty: Type) -> Run {
    fn half(a: u16, b: u16, c: u16) -> u16 {
        to_half(relu(from_half(fma16(a, b, c))))
    }
    fn brain(a: u16, b: u16, c: u16) -> u16 {
        to_bf16(relu(from_bf16(fma_bf16(a, b, c))))
    }
    match ty {
        Type::F16 => ternary(half),
        Type::F16x2 => packed!(2, ternary, half, a, b, c),
        Type::Bf16 => ternary(brain),
        _ => packed!(2, ternary, brain, a, b, c),
    }
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn half(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        let run = match i.opcode() {
            "fma" if i.has("relu") => return self.three(i, ty, fused_relu(ty)),
            "fma" if i.has("sat") => return self.three(i, ty, fused_saturated(ty)),
            "fma" => return self.three(i, ty, fused(ty)),
            "add" if i.has("sat") => through_f32!(ty, binary, |a, b| saturate(a + b)),
            "sub" if i.has("sat") => through_f32!(ty, binary, |a, b| saturate(a - b)),
            "mul" if i.has("sat") => through_f32!(ty, binary, |a, b| saturate(a * b)),
            "add" => through_f32!(ty, binary, |a, b| a + b),
            "sub" => through_f32!(ty, binary, |a, b| a - b),
            "mul" => through_f32!(ty, binary, |a, b| a * b),
            "min" if i.has("NaN") => through_f32!(ty, binary, |a, b| min_nan(a, b)),
            "max" if i.has("NaN") => through_f32!(ty, binary, |a, b| max_nan(a, b)),
            "min" => through_f32!(ty, binary, |a, b| min(a, b)),
            "max" => through_f32!(ty, binary, |a, b| max(a, b)),
            "neg" if ty.size() == 2 => return self.one(i, ty, unary(|a: u16| a ^ 0x8000)),
            "neg" => return self.one(i, ty, unary(|a: u32| a ^ 0x8000_8000)),
            "abs" if ty.size() == 2 => return self.one(i, ty, unary(|a: u16| a & 0x7fff)),
            "abs" => return self.one(i, ty, unary(|a: u32| a & 0x7fff_7fff)),
            _ => return Err(Problem::Unknown),
        };
        self.two(i, ty, run)
    }

    pub(super) fn half_function(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        let run = match i.opcode() {
            "ex2" => through_f32!(ty, unary, |a| a.exp2()),
            "tanh" => through_f32!(ty, unary, |a| a.tanh()),
            _ => return Err(Problem::Unknown),
        };
        self.one(i, ty, run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product just above a tie must round up although f64 alone loses the part that says so.
    #[test]
    fn fused_halves_round_once() {
        let one = half::f16::from_f32(1.0).to_bits();
        let tie = half::f16::from_f64(2f64.powi(-11)).to_bits();
        assert_eq!(fma16(one, tie, one), one);
        let smallest = half::f16::from_bits(1).to_bits();
        let above = fma16(smallest, smallest, half::f16::from_f32(2.0).to_bits());
        assert_eq!(half::f16::from_bits(above).to_f32(), 2.0);
        assert_eq!(odd_sum(1.0, 2f64.powi(-80)).to_bits(), 1f64.to_bits() + 1);
        assert_eq!(odd_sum(1.0, -(2f64.powi(-80))).to_bits(), 1f64.to_bits() - 1);
    }
}
