//! `.f32` and `.f64` arithmetic and functions, with flushing, saturation and directed rounding.
#![allow(clippy::cast_possible_truncation, reason = "single precision is computed in double and rounded once")]

use super::function::{Decoder, types};
use super::{Problem, Step};
use crate::exec::float::{self, DOWN, Rounding, UP, ZERO, flush, saturate, saturate64};
use crate::exec::lanes::{binary, has_avx2, ternary, unary};
use crate::exec::op::Run;
use crate::ptx::ast::Instruction;
use crate::ptx::types::Type;

/// What an instruction's modifiers ask of its result.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) rounding: Rounding,
    pub(super) flush: bool,
    pub(super) saturate: bool,
}

pub(super) fn style(i: &Instruction<'_>) -> Style {
    let mut style = Style { rounding: Rounding::Nearest, flush: i.has("ftz"), saturate: i.has("sat") };
    for modifier in i.modifiers() {
        style.rounding = match modifier {
            "rz" => Rounding::Zero,
            "rm" => Rounding::Down,
            "rp" => Rounding::Up,
            _ => continue,
        };
    }
    style
}

fn unary32<F: Fn(f32) -> f32 + Copy + 'static>(f: F, style: Style) -> Run {
    let _ = f;
    match (style.flush, style.saturate) {
        (false, false) => unary(f),
        (true, false) => unary(move |a: f32| flush(f(flush(a)))),
        (false, true) => unary(move |a: f32| saturate(f(a))),
        (true, true) => unary(move |a: f32| saturate(flush(f(flush(a))))),
    }
}

fn binary32<F: Fn(f32, f32) -> f32 + Copy + 'static>(f: F, style: Style) -> Run {
    match (style.flush, style.saturate) {
        (false, false) => binary(f),
        (true, false) => binary(move |a: f32, b: f32| flush(f(flush(a), flush(b)))),
        (false, true) => binary(move |a: f32, b: f32| saturate(f(a, b))),
        (true, true) => binary(move |a: f32, b: f32| saturate(flush(f(flush(a), flush(b))))),
    }
}

fn ternary32<F: Fn(f32, f32, f32) -> f32 + Copy + 'static>(f: F, style: Style) -> Run {
    match (style.flush, style.saturate) {
        (false, false) => ternary(f),
        (true, false) => ternary(move |a: f32, b: f32, c: f32| flush(f(flush(a), flush(b), flush(c)))),
        (false, true) => ternary(move |a: f32, b: f32, c: f32| saturate(f(a, b, c))),
        (true, true) => ternary(move |a: f32, b: f32, c: f32| saturate(flush(f(flush(a), flush(b), flush(c))))),
    }
}

fn ternary64<F: Fn(f64, f64, f64) -> f64 + Copy>(f: F, style: Style) -> Run {
    if style.saturate { ternary(move |a: f64, b: f64, c: f64| saturate64(f(a, b, c))) } else { ternary(f) }
}

/// The variant of a function for the rounding that is asked for.
macro_rules! rounded {
    ($driver:ident, $style:expr, $near:expr, $directed:ident) => {
        match $style.rounding {
            Rounding::Nearest => $driver($near, $style),
            _ if !float::can_direct() => return Err(Problem::Unknown),
            Rounding::Zero => $driver(float::$directed::<ZERO>, $style),
            Rounding::Down => $driver(float::$directed::<DOWN>, $style),
            Rounding::Up => $driver(float::$directed::<UP>, $style),
        }
    };
}

fn unary64<F: Fn(f64) -> f64 + Copy>(f: F, _style: Style) -> Run {
    unary(f)
}

fn binary64<F: Fn(f64, f64) -> f64 + Copy>(f: F, _style: Style) -> Run {
    binary(f)
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn float32(&mut self, i: &Instruction<'a>) -> Step {
        let style = style(i);
        let fused = matches!(i.opcode(), "fma" | "mad") && style.rounding != Rounding::Nearest;
        if fused && !has_avx2() {
            return Err(Problem::Unknown);
        }
        let run = match i.opcode() {
            "add" => rounded!(binary32, style, |a, b| a + b, add),
            "sub" => match style.rounding {
                Rounding::Nearest => binary32(|a, b| a - b, style),
                Rounding::Zero => binary32(|a, b: f32| float::add::<ZERO>(a, -b), style),
                Rounding::Down => binary32(|a, b: f32| float::add::<DOWN>(a, -b), style),
                Rounding::Up => binary32(|a, b: f32| float::add::<UP>(a, -b), style),
            },
            "mul" => rounded!(binary32, style, |a, b| a * b, mul),
            "div" => rounded!(binary32, style, |a, b| a / b, div),
            "fma" | "mad" => return self.three(i, Type::F32, rounded!(ternary32, style, float::fma, fma_directed)),
            "min" if i.has("NaN") => binary32(float::min_nan, style),
            "max" if i.has("NaN") => binary32(float::max_nan, style),
            "min" => binary32(float::min, style),
            "max" => binary32(float::max, style),
            "abs" => return self.one(i, Type::F32, unary32(f32::abs, style)),
            "neg" => return self.one(i, Type::F32, unary32(|a: f32| -a, style)),
            _ => return Err(Problem::Unknown),
        };
        self.two(i, Type::F32, run)
    }

    pub(super) fn float64(&mut self, i: &Instruction<'a>) -> Step {
        let style = style(i);
        let fused = matches!(i.opcode(), "fma" | "mad") && style.rounding != Rounding::Nearest;
        if fused && !has_avx2() {
            return Err(Problem::Unknown);
        }
        let run = match i.opcode() {
            "add" => rounded!(binary64, style, |a: f64, b: f64| a + b, add64),
            "sub" => match style.rounding {
                Rounding::Nearest => binary(|a: f64, b: f64| a - b),
                Rounding::Zero => binary(|a: f64, b: f64| float::add64::<ZERO>(a, -b)),
                Rounding::Down => binary(|a: f64, b: f64| float::add64::<DOWN>(a, -b)),
                Rounding::Up => binary(|a: f64, b: f64| float::add64::<UP>(a, -b)),
            },
            "mul" => rounded!(binary64, style, |a: f64, b: f64| a * b, mul64),
            "div" => rounded!(binary64, style, |a: f64, b: f64| a / b, div64),
            "fma" | "mad" => return self.three(i, Type::F64, rounded!(ternary64, style, float::fma64, fma64_directed)),
            "min" => binary(float::min64),
            "max" => binary(float::max64),
            "abs" => return self.one(i, Type::F64, unary(f64::abs)),
            "neg" => return self.one(i, Type::F64, unary(|a: f64| -a)),
            _ => return Err(Problem::Unknown),
        };
        self.two(i, Type::F64, run)
    }

    pub(super) fn float_function(&mut self, i: &Instruction<'a>) -> Step {
        let style = style(i);
        match types(i).first() {
            Some(Type::F32) => self.float32_function(i, style),
            Some(Type::F64) => {
                let run = match i.opcode() {
                    "rcp" => match style.rounding {
                        Rounding::Nearest => unary(|a: f64| 1.0 / a),
                        Rounding::Zero => unary(|a: f64| float::div64::<ZERO>(1.0, a)),
                        Rounding::Down => unary(|a: f64| float::div64::<DOWN>(1.0, a)),
                        Rounding::Up => unary(|a: f64| float::div64::<UP>(1.0, a)),
                    },
                    "sqrt" => rounded!(unary64, style, f64::sqrt, sqrt64),
                    "rsqrt" => unary(|a: f64| 1.0 / a.sqrt()),
                    "copysign" => return self.two(i, Type::F64, binary(|a: f64, b: f64| b.copysign(a))),
                    _ => return Err(Problem::Unknown),
                };
                self.one(i, Type::F64, run)
            }
            Some(ty @ (Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2)) => self.half_function(i, *ty),
            _ => Err(Problem::Unknown),
        }
    }

    fn float32_function(&mut self, i: &Instruction<'a>, style: Style) -> Step {
        let run = match i.opcode() {
            "rcp" => match style.rounding {
                Rounding::Nearest => unary32(|a: f32| 1.0 / a, style),
                Rounding::Zero => unary32(|a| float::div::<ZERO>(1.0, a), style),
                Rounding::Down => unary32(|a| float::div::<DOWN>(1.0, a), style),
                Rounding::Up => unary32(|a| float::div::<UP>(1.0, a), style),
            },
            "sqrt" => rounded!(unary32, style, f32::sqrt, sqrt),
            "rsqrt" => unary32(|a: f32| (1.0 / f64::from(a).sqrt()) as f32, style),
            "sin" => unary32(f32::sin, style),
            "cos" => unary32(f32::cos, style),
            "lg2" => unary32(f32::log2, style),
            "ex2" => unary32(f32::exp2, style),
            "tanh" => unary32(f32::tanh, style),
            "copysign" => return self.two(i, Type::F32, binary(|a: f32, b: f32| b.copysign(a))),
            _ => return Err(Problem::Unknown),
        };
        self.one(i, Type::F32, run)
    }
}
