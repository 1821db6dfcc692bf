//! Comparisons and selections: `setp`, `set`, `selp`, `slct`, `testp`.
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "signed and unsigned share registers; PTX compares floats exactly"
)]

use super::function::{Decoder, types};
use super::{Problem, Step, bad};
use crate::exec::float::{flush, from_bf16, from_half};
use crate::exec::lanes::{logic, test, unary, with_predicate};
use crate::exec::op::Run;
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::Type;

/// Ordered comparisons of one type, given how a lane becomes a value.
macro_rules! ordered {
    ($name:expr, $lane:ty, $value:expr) => {
        match $name {
            "eq" => test(|a: $lane, b: $lane| $value(a) == $value(b)),
            "ne" => test(|a: $lane, b: $lane| $value(a) != $value(b)),
            "lt" | "lo" => test(|a: $lane, b: $lane| $value(a) < $value(b)),
            "le" | "ls" => test(|a: $lane, b: $lane| $value(a) <= $value(b)),
            "gt" | "hi" => test(|a: $lane, b: $lane| $value(a) > $value(b)),
            "ge" | "hs" => test(|a: $lane, b: $lane| $value(a) >= $value(b)),
            _ => return Err(Problem::Unknown),
        }
    };
}

/// Comparisons of floats: `ne` is ordered, the `u` forms are true when either side is NaN.
macro_rules! floating {
    ($name:expr, $lane:ty, $value:expr) => {
        match $name {
            "ne" => test(|a: $lane, b: $lane| {
                let (a, b) = ($value(a), $value(b));
                (a < b) | (a > b)
            }),
            "equ" => test(|a: $lane, b: $lane| !(($value(a) < $value(b)) | ($value(a) > $value(b)))),
            "neu" => test(|a: $lane, b: $lane| $value(a) != $value(b)),
            "ltu" => test(|a: $lane, b: $lane| !($value(a) >= $value(b))),
            "leu" => test(|a: $lane, b: $lane| !($value(a) > $value(b))),
            "gtu" => test(|a: $lane, b: $lane| !($value(a) <= $value(b))),
            "geu" => test(|a: $lane, b: $lane| !($value(a) < $value(b))),
            "num" => test(|a: $lane, b: $lane| !$value(a).is_nan() & !$value(b).is_nan()),
            "nan" => test(|a: $lane, b: $lane| $value(a).is_nan() | $value(b).is_nan()),
            name => ordered!(name, $lane, $value),
        }
    };
}

#[allow(clippy::neg_cmp_op_on_partial_ord, reason = "that is what unordered means")]
fn comparison(name: &str, ty: Type, ftz: bool) -> Step<Run> {
    Ok(match ty {
        Type::U16 | Type::B16 => ordered!(name, u16, |a: u16| a),
        Type::S16 => ordered!(name, u16, |a: u16| a as i16),
        Type::U32 | Type::B32 => ordered!(name, u32, |a: u32| a),
        Type::S32 => ordered!(name, u32, |a: u32| a as i32),
        Type::U64 | Type::B64 => ordered!(name, u64, |a: u64| a),
        Type::S64 => ordered!(name, u64, |a: u64| a as i64),
        Type::F32 if ftz => floating!(name, f32, flush),
        Type::F32 => floating!(name, f32, |a: f32| a),
        Type::F64 => floating!(name, f64, |a: f64| a),
        Type::F16 => floating!(name, u16, from_half),
        Type::Bf16 => floating!(name, u16, from_bf16),
        _ => return Err(Problem::Unknown),
    })
}

/// 1.0 in each 16-bit type.
const ONE_F16: u64 = 0x3c00;
const ONE_BF16: u64 = 0x3f80;

/// The type of a packed type's halves.
fn half_of(ty: Type) -> Option<Type> {
    match ty {
        Type::F16x2 => Some(Type::F16),
        Type::Bf16x2 => Some(Type::Bf16),
        _ => None,
    }
}

const COMPARISONS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
];

impl<'a> Decoder<'_, 'a> {
    pub(super) fn compare(&mut self, i: &Instruction<'a>) -> Step {
        match i.opcode() {
            "setp" => self.setp(i),
            "set" => self.set(i),
            "selp" => self.selp(i),
            "slct" => self.slct(i),
            _ => self.testp(i),
        }
    }

    /// The truth of the comparison, combined with the predicate that may follow: once as it is,
    /// once negated, for the second destination.
    fn truth(&mut self, i: &Instruction<'a>, ty: Type, a: u32, b: u32, d: u32, negate: bool) -> Step {
        let Some(name) = i.modifiers().find(|m| COMPARISONS.contains(m)) else { return Err(Problem::Unknown) };
        let run = comparison(name, ty, i.has("ftz"))?;
        let combined = i.operands.get(3);
        if combined.is_none() && !negate {
            self.emit(run, d, a, b, 0);
            return Ok(());
        }
        let first = self.temporary(0);
        self.emit(run, first, a, b, 0);
        let mut truth = first;
        if negate {
            truth = self.temporary(0);
            self.emit(logic(|a, _| !a), truth, first, first, 0);
        }
        let Some(combined) = combined else {
            self.emit(logic(|a, _| a), d, truth, truth, 0);
            return Ok(());
        };
        let other = self.predicate(combined)?;
        let run = match i.modifiers().find(|m| matches!(*m, "and" | "or" | "xor")) {
            Some("and") => logic(|a, b| a & b),
            Some("or") => logic(|a, b| a | b),
            Some("xor") => logic(|a, b| a ^ b),
            _ => return bad("a predicate without and, or or xor"),
        };
        self.emit(run, d, truth, other, 0);
        Ok(())
    }

    /// A predicate operand, `!p` included.
    pub(super) fn predicate(&mut self, operand: &Operand<'a>) -> Step<u32> {
        let Operand::Not(inner) = operand else { return self.source(operand, Type::Pred) };
        let slot = self.source(inner, Type::Pred)?;
        let negated = self.temporary(0);
        self.emit(logic(|a, _| !a), negated, slot, slot, 0);
        Ok(negated)
    }

    fn setp(&mut self, i: &Instruction<'a>) -> Step {
        let Some(ty) = types(i).last().copied() else { return bad("no type") };
        let [d, a, b, ..] = i.operands.as_slice() else { return bad("three operands expected") };
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        if let Some(half) = half_of(ty) {
            let Operand::Pair(p, q) = d else { return bad("two predicates expected") };
            let (p, q) = (self.destination(p, Type::Pred)?.slot, self.destination(q, Type::Pred)?.slot);
            let (low, high) = self.truth_of_halves(i, half, a, b)?;
            self.emit(logic(|a, _| a), p, low, low, 0);
            self.emit(logic(|a, _| a), q, high, high, 0);
            return Ok(());
        }
        match d {
            Operand::Pair(p, q) => {
                let (p, q) = (self.destination(p, Type::Pred)?.slot, self.destination(q, Type::Pred)?.slot);
                let first = self.temporary(0);
                self.truth(i, ty, a, b, first, false)?;
                self.truth(i, ty, a, b, q, true)?;
                self.emit(logic(|a, _| a), p, first, first, 0);
                Ok(())
            }
            _ => {
                let d = self.destination(d, Type::Pred)?.slot;
                self.truth(i, ty, a, b, d, false)
            }
        }
    }

    /// `set.cmp.dtype.stype d, a, b`: all ones, or 1.0, for true.
    fn set(&mut self, i: &Instruction<'a>) -> Step {
        let [to, from] = types(i)[..] else { return Err(Problem::Unknown) };
        let [d, a, b, ..] = i.operands.as_slice() else { return bad("three operands expected") };
        let (a, b) = (self.source(a, from)?, self.source(b, from)?);
        if let Some(half) = half_of(from) {
            return self.set_halves(i, d, to, half, a, b);
        }
        let truth = self.temporary(0);
        self.truth(i, from, a, b, truth, false)?;
        let yes = match to {
            Type::F32 => u64::from(1f32.to_bits()),
            Type::F16 => ONE_F16,
            Type::Bf16 => ONE_BF16,
            Type::U16 | Type::S16 | Type::B16 | Type::U32 | Type::S32 | Type::B32 => u64::MAX,
            _ => return Err(Problem::Unknown),
        };
        let (yes, no) = (self.constant(to.size(), yes), self.constant(to.size(), 0));
        let d = self.destination(d, to)?;
        let run = match to.size() {
            2 => with_predicate(|a: u16, b: u16, p: bool| if p { a } else { b }),
            _ => with_predicate(|a: u32, b: u32, p: bool| if p { a } else { b }),
        };
        self.emit(run, d.slot, yes, no, truth);
        self.finish(d);
        Ok(())
    }

    /// The truth for the lower and the upper halves of packed values.
    fn truth_of_halves(&mut self, i: &Instruction<'a>, half: Type, a: u32, b: u32) -> Step<(u32, u32)> {
        let mut truths = [0; 2];
        #[allow(clippy::cast_possible_truncation, reason = "halves are taken apart")]
        for (truth, upper) in truths.iter_mut().zip([false, true]) {
            let run: Run = if upper { unary(|a: u32| (a >> 16) as u16) } else { unary(|a: u32| a as u16) };
            let (a_half, b_half) = (self.temporary(2), self.temporary(2));
            self.emit(run, a_half, a, 0, 0);
            self.emit(run, b_half, b, 0, 0);
            *truth = self.temporary(0);
            self.truth(i, half, a_half, b_half, *truth, false)?;
        }
        let [low, high] = truths;
        Ok((low, high))
    }

    /// `set` on packed values: each half of the result is all ones or 1.0, or nothing.
    fn set_halves(&mut self, i: &Instruction<'a>, d: &Operand<'a>, to: Type, half: Type, a: u32, b: u32) -> Step {
        let yes = match to {
            Type::F16x2 => ONE_F16,
            Type::Bf16x2 => ONE_BF16,
            Type::U32 | Type::S32 | Type::B32 => 0xffff,
            _ => return Err(Problem::Unknown),
        };
        let (low, high) = self.truth_of_halves(i, half, a, b)?;
        let (lower, upper, no) = (self.constant(4, yes), self.constant(4, yes << 16), self.constant(4, 0));
        let first = self.temporary(4);
        self.emit(with_predicate(|a: u32, b: u32, p: bool| if p { a } else { b }), first, lower, no, low);
        let d = self.destination(d, to)?;
        self.emit(with_predicate(|a: u32, b: u32, p: bool| if p { a | b } else { b }), d.slot, upper, first, high);
        self.finish(d);
        Ok(())
    }

    fn selp(&mut self, i: &Instruction<'a>) -> Step {
        let Some(ty) = types(i).first().copied() else { return bad("no type") };
        let [d, a, b, p] = i.operands.as_slice() else { return bad("four operands expected") };
        let (a, b, p) = (self.source(a, ty)?, self.source(b, ty)?, self.predicate(p)?);
        let run = match ty.size() {
            2 => with_predicate(|a: u16, b: u16, p: bool| if p { a } else { b }),
            4 => with_predicate(|a: u32, b: u32, p: bool| if p { a } else { b }),
            8 => with_predicate(|a: u64, b: u64, p: bool| if p { a } else { b }),
            _ => return Err(Problem::Unknown),
        };
        let d = self.destination(d, ty)?;
        self.emit(run, d.slot, a, b, p);
        self.finish(d);
        Ok(())
    }

    /// `slct.dtype.ctype d, a, b, c`: a if c >= 0.
    fn slct(&mut self, i: &Instruction<'a>) -> Step {
        let [ty, chooser] = types(i)[..] else { return Err(Problem::Unknown) };
        let [d, a, b, c] = i.operands.as_slice() else { return bad("four operands expected") };
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, chooser)?);
        let truth = self.temporary(0);
        let zero = self.constant(4, 0);
        self.emit(comparison("ge", chooser, i.has("ftz"))?, truth, c, zero, 0);
        let run = match ty.size() {
            2 => with_predicate(|a: u16, b: u16, p: bool| if p { a } else { b }),
            4 => with_predicate(|a: u32, b: u32, p: bool| if p { a } else { b }),
            8 => with_predicate(|a: u64, b: u64, p: bool| if p { a } else { b }),
            _ => return Err(Problem::Unknown),
        };
        let d = self.destination(d, ty)?;
        self.emit(run, d.slot, a, b, truth);
        self.finish(d);
        Ok(())
    }

    fn testp(&mut self, i: &Instruction<'a>) -> Step {
        let Some(ty) = types(i).first().copied() else { return bad("no type") };
        let [d, a] = i.operands.as_slice() else { return bad("two operands expected") };
        let a = self.source(a, ty)?;
        let d = self.destination(d, Type::Pred)?.slot;
        macro_rules! classes {
            ($float:ty) => {
                match i.modifiers().next() {
                    Some("finite") => test(|a: $float, _: $float| a.is_finite()),
                    Some("infinite") => test(|a: $float, _: $float| a.is_infinite()),
                    Some("number") => test(|a: $float, _: $float| !a.is_nan()),
                    Some("notanumber") => test(|a: $float, _: $float| a.is_nan()),
                    Some("normal") => test(|a: $float, _: $float| a.is_normal()),
                    Some("subnormal") => test(|a: $float, _: $float| a.is_subnormal()),
                    _ => return Err(Problem::Unknown),
                }
            };
        }
        let run = if ty == Type::F64 { classes!(f64) } else { classes!(f32) };
        self.emit(run, d, a, a, 0);
        Ok(())
    }

    /// `and`, `or`, `xor`, `not` and `mov` on predicates.
    pub(super) fn predicate_logic(&mut self, i: &Instruction<'a>, run: Run) -> Step {
        let (d, a, b) = match i.operands.as_slice() {
            [d, a] => (d, a, a),
            [d, a, b] => (d, a, b),
            _ => return bad("wrong number of operands"),
        };
        let (a, b) = (self.predicate(a)?, self.predicate(b)?);
        let d = self.destination(d, Type::Pred)?.slot;
        self.emit(run, d, a, b, 0);
        Ok(())
    }
}
