//! Bitwise logic, shifts and bit fields.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "signed and unsigned share registers; fields are cut out of words"
)]

use super::function::{Decoder, types};
use super::{Problem, Step, bad};
use crate::exec::lanes::{binary, logic, quaternary, ternary, test, unary};
use crate::exec::op::{Op, Run};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::Type;

macro_rules! bitwise {
    ($ty:expr, |$a:ident, $b:ident| $body:expr) => {
        match $ty.size() {
            2 => binary(|$a: u16, $b: u16| $body),
            4 => binary(|$a: u32, $b: u32| $body),
            8 => binary(|$a: u64, $b: u64| $body),
            _ => return Err(Problem::Unknown),
        }
    };
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn bits(&mut self, i: &Instruction<'a>) -> Step {
        let Some(ty) = types(i).first().copied() else { return bad("no type") };
        if ty == Type::Pred {
            let run = match i.opcode() {
                "and" => logic(|a, b| a & b),
                "or" => logic(|a, b| a | b),
                "xor" => logic(|a, b| a ^ b),
                "not" => logic(|a, _| !a),
                _ => return Err(Problem::Unknown),
            };
            return self.predicate_logic(i, run);
        }
        match i.opcode() {
            "and" => self.two(i, ty, bitwise!(ty, |a, b| a & b)),
            "or" => self.two(i, ty, bitwise!(ty, |a, b| a | b)),
            "xor" => self.two(i, ty, bitwise!(ty, |a, b| a ^ b)),
            "not" => self.one(i, ty, not(ty)?),
            "cnot" => self.one(i, ty, cnot(ty)?),
            "brev" => self.one(i, ty, reverse(ty)?),
            "shl" | "shr" => self.shift(i, ty),
            "shf" => self.funnel(i),
            "popc" | "clz" | "bfind" => self.count(i, ty),
            "bfe" => self.extract(i, ty),
            "bfi" => self.insert(i, ty),
            "prmt" => self.permute(i),
            "lop3" => self.lookup(i),
            "fns" => self.find_nth(i),
            "szext" => self.extension(i, ty),
            "bmsk" => self.two(i, Type::B32, if i.has("wrap") { binary(mask_wrap) } else { binary(mask_clamp) }),
            _ => Err(Problem::Unknown),
        }
    }

    /// Shift amounts are 32-bit whatever the type, and clamp to its width.
    fn shift(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        let [d, a, b] = i.operands.as_slice() else { return bad("three operands expected") };
        let run: Run = match (i.opcode(), ty.size(), ty.is_signed()) {
            ("shl", 2, _) => binary(|a: u16, b: u32| if b > 15 { 0 } else { a << b }),
            ("shl", 4, _) => binary(|a: u32, b: u32| if b > 31 { 0 } else { a << (b & 31) }),
            ("shl", 8, _) => binary(|a: u64, b: u32| if b > 63 { 0 } else { a << (b & 63) }),
            (_, 2, false) => binary(|a: u16, b: u32| if b > 15 { 0 } else { a >> b }),
            (_, 4, false) => binary(|a: u32, b: u32| if b > 31 { 0 } else { a >> (b & 31) }),
            (_, 8, false) => binary(|a: u64, b: u32| if b > 63 { 0 } else { a >> (b & 63) }),
            (_, 2, true) => binary(|a: u16, b: u32| ((a as i16) >> b.min(15)) as u16),
            (_, 4, true) => binary(|a: u32, b: u32| ((a as i32) >> b.min(31)) as u32),
            (_, 8, true) => binary(|a: u64, b: u32| ((a as i64) >> b.min(63)) as u64),
            _ => return Err(Problem::Unknown),
        };
        let (a, b) = (self.source(a, ty)?, self.source(b, Type::U32)?);
        let d = self.destination(d, ty)?;
        self.emit(run, d.slot, a, b, 0);
        self.finish(d);
        Ok(())
    }

    /// `shf.l` and `shf.r`: the pair {b, a} shifted.
    fn funnel(&mut self, i: &Instruction<'a>) -> Step {
        fn pair(a: u32, b: u32) -> u64 {
            u64::from(b) << 32 | u64::from(a)
        }
        let run = match (i.has("l"), i.has("wrap")) {
            (true, true) => ternary(|a: u32, b: u32, c: u32| ((pair(a, b) << (c & 31)) >> 32) as u32),
            (true, false) => ternary(|a: u32, b: u32, c: u32| ((pair(a, b) << c.min(32)) >> 32) as u32),
            (false, true) => ternary(|a: u32, b: u32, c: u32| (pair(a, b) >> (c & 31)) as u32),
            (false, false) => ternary(|a: u32, b: u32, c: u32| (pair(a, b) >> c.min(32)) as u32),
        };
        self.three(i, Type::B32, run)
    }

    /// Results are 32-bit whatever the type.
    fn count(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        let [d, a] = i.operands.as_slice() else { return bad("two operands expected") };
        let run: Run = match (i.opcode(), ty.size()) {
            ("popc", 4) => unary(u32::count_ones),
            ("popc", 8) => unary(u64::count_ones),
            ("clz", 4) => unary(u32::leading_zeros),
            ("clz", 8) => unary(u64::leading_zeros),
            ("bfind", _) => find(ty, i.has("shiftamt"))?,
            _ => return Err(Problem::Unknown),
        };
        let a = self.source(a, ty)?;
        let d = self.destination(d, Type::U32)?;
        self.emit(run, d.slot, a, 0, 0);
        self.finish(d);
        Ok(())
    }

    fn extract(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        let [d, a, b, c] = i.operands.as_slice() else { return bad("four operands expected") };
        let run: Run = match ty {
            Type::U32 => ternary(|a: u32, b: u32, c: u32| field(u64::from(a), 32, b, c) as u32),
            Type::S32 => ternary(|a: u32, b: u32, c: u32| signed_field(u64::from(a), 32, b, c) as u32),
            Type::U64 => ternary(|a: u64, b: u32, c: u32| field(a, 64, b, c)),
            Type::S64 => ternary(|a: u64, b: u32, c: u32| signed_field(a, 64, b, c)),
            _ => return Err(Problem::Unknown),
        };
        let (a, b, c) = (self.source(a, ty)?, self.source(b, Type::U32)?, self.source(c, Type::U32)?);
        let d = self.destination(d, ty)?;
        self.emit(run, d.slot, a, b, c);
        self.finish(d);
        Ok(())
    }

    fn insert(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        let [f, a, b, c, d] = i.operands.as_slice() else { return bad("five operands expected") };
        let run = match ty.size() {
            4 => quaternary(|a: u32, b: u32, c: u32, d: u32| {
                let mask = (low_bits(d & 255) << (c & 255).min(63)) as u32;
                (b & !mask) | (((u64::from(a) << (c & 255).min(63)) as u32) & mask)
            }),
            8 => quaternary(|a: u64, b: u64, c: u32, d: u32| {
                let mask = if c & 255 > 63 { 0 } else { low_bits(d & 255) << (c & 63) };
                (b & !mask) | ((a << (c & 63)) & mask)
            }),
            _ => return Err(Problem::Unknown),
        };
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let (c, length) = (self.source(c, Type::U32)?, self.source(d, Type::U32)?);
        let f = self.destination(f, ty)?;
        self.ops.push(Op { d: f.slot, a, b, c, e: length, ..Op::new(run, self.line) });
        self.finish(f);
        Ok(())
    }

    fn permute(&mut self, i: &Instruction<'a>) -> Step {
        let mode = i.modifiers().find(|m| matches!(*m, "f4e" | "b4e" | "rc8" | "ecl" | "ecr" | "rc16"));
        let run = match mode {
            None => ternary(permute_index),
            Some("f4e") => ternary(|a: u32, b: u32, c: u32| permute_index(a, b, 0x3210 + 0x1111 * (c & 3))),
            Some("b4e") => ternary(|a: u32, b: u32, c: u32| {
                let n = c & 3;
                permute_index(a, b, n | ((n + 7) & 7) << 4 | ((n + 6) & 7) << 8 | ((n + 5) & 7) << 12)
            }),
            Some("rc8") => ternary(|a: u32, b: u32, c: u32| permute_index(a, b, 0x1111 * (c & 3))),
            Some("rc16") => ternary(|a: u32, b: u32, c: u32| permute_index(a, b, if c & 1 == 0 { 0x1010 } else { 0x3232 })),
            Some("ecl") => ternary(|a: u32, b: u32, c: u32| {
                permute_index(a, b, (0..4u32).fold(0, |all, n| all | n.max(c & 3) << (4 * n)))
            }),
            _ => ternary(|a: u32, b: u32, c: u32| {
                permute_index(a, b, (0..4u32).fold(0, |all, n| all | n.min(c & 3) << (4 * n)))
            }),
        };
        self.three(i, Type::B32, run)
    }

    /// `lop3.b32 d, a, b, c, table`.
    fn lookup(&mut self, i: &Instruction<'a>) -> Step {
        let [d, a, b, c, table, rest @ ..] = i.operands.as_slice() else { return bad("five operands expected") };
        let (d, truth) = match d {
            Operand::Pair(value, truth) => (&**value, Some(&**truth)),
            value => (value, None),
        };
        let (a, b, c) = (self.source(a, Type::B32)?, self.source(b, Type::B32)?, self.source(c, Type::B32)?);
        let table = self.source(table, Type::U32)?;
        let d = self.destination(d, Type::B32)?;
        let run = quaternary(|a: u32, b: u32, c: u32, table: u32| {
            let mut out = 0;
            for term in 0..8 {
                let pick = |bit: u32, x: u32| if term & bit == 0 { !x } else { x };
                let wanted = (table >> term & 1).wrapping_neg();
                out |= pick(4, a) & pick(2, b) & pick(1, c) & wanted;
            }
            out
        });
        let value = d.slot;
        self.ops.push(Op { d: value, a, b, c, e: table, ..Op::new(run, self.line) });
        self.finish(d);
        let (Some(truth), Some(other)) = (truth, rest.first()) else { return Ok(()) };
        // `lop3.op d|p`: whether any bit is set, combined with the predicate at the end.
        let (any, zero) = (self.temporary(0), self.constant(4, 0));
        self.emit(test(|a: u32, b: u32| a != b), any, value, zero, 0);
        let other = self.predicate(other)?;
        let run = match i.modifiers().find(|m| matches!(*m, "and" | "or" | "xor")) {
            Some("and") => logic(|a, b| a & b),
            Some("or") => logic(|a, b| a | b),
            _ => logic(|a, b| a ^ b),
        };
        let truth = self.destination(truth, Type::Pred)?.slot;
        self.emit(run, truth, any, other, 0);
        Ok(())
    }
}

fn not(ty: Type) -> Step<Run> {
    Ok(match ty.size() {
        2 => unary(|a: u16| !a),
        4 => unary(|a: u32| !a),
        8 => unary(|a: u64| !a),
        _ => return Err(Problem::Unknown),
    })
}

fn cnot(ty: Type) -> Step<Run> {
    Ok(match ty.size() {
        2 => unary(|a: u16| u16::from(a == 0)),
        4 => unary(|a: u32| u32::from(a == 0)),
        8 => unary(|a: u64| u64::from(a == 0)),
        _ => return Err(Problem::Unknown),
    })
}

fn reverse(ty: Type) -> Step<Run> {
    Ok(match ty.size() {
        4 => unary(u32::reverse_bits),
        8 => unary(u64::reverse_bits),
        _ => return Err(Problem::Unknown),
    })
}

/// Position of the highest bit that is not a copy of the sign; all ones when there is none.
fn find(ty: Type, as_shift: bool) -> Step<Run> {
    fn top32(a: u32) -> u32 {
        31u32.wrapping_sub(a.leading_zeros())
    }
    fn top64(a: u64) -> u32 {
        63u32.wrapping_sub(a.leading_zeros())
    }
    fn shift32(top: u32) -> u32 {
        if top == u32::MAX { top } else { 31 - top }
    }
    fn shift64(top: u32) -> u32 {
        if top == u32::MAX { top } else { 63 - top }
    }
    fn unsign32(a: u32) -> u32 {
        a ^ ((a as i32) >> 31) as u32
    }
    fn unsign64(a: u64) -> u64 {
        a ^ ((a as i64) >> 63) as u64
    }
    Ok(match (ty, as_shift) {
        (Type::U32, false) => unary(top32),
        (Type::U32, true) => unary(|a| shift32(top32(a))),
        (Type::S32, false) => unary(|a| top32(unsign32(a))),
        (Type::S32, true) => unary(|a| shift32(top32(unsign32(a)))),
        (Type::U64, false) => unary(top64),
        (Type::U64, true) => unary(|a| shift64(top64(a))),
        (Type::S64, false) => unary(|a| top64(unsign64(a))),
        (Type::S64, true) => unary(|a| shift64(top64(unsign64(a)))),
        _ => return Err(Problem::Unknown),
    })
}

/// The lowest `count` bits set; all from 64 on.
#[inline(always)]
fn low_bits(count: u32) -> u64 {
    if count > 63 { u64::MAX } else { (1 << count) - 1 }
}

/// `length` bits of `a` from `start` on; bits beyond the width are zero.
#[inline(always)]
fn field(a: u64, width: u32, start: u32, length: u32) -> u64 {
    let (start, length) = (start & 255, length & 255);
    if start >= width { 0 } else { (a >> start) & low_bits(length) }
}

/// As `field`, with the sign of the field's highest bit, or of `a` where the field goes beyond it.
#[inline(always)]
fn signed_field(a: u64, width: u32, start: u32, length: u32) -> u64 {
    let (start, length) = (start & 255, length & 255);
    if length == 0 {
        return 0;
    }
    let top = (start + length - 1).min(width - 1);
    let sign = (a >> top & 1).wrapping_neg();
    let kept = if start >= width { 0 } else { (width - start).min(length) };
    let value = if kept == 0 { 0 } else { (a >> start) & low_bits(kept) };
    value | (sign & !low_bits(kept))
}

fn permute_index(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |out, n| {
        let select = selector >> (4 * n) & 15;
        let byte = (bytes >> (8 * (select & 7))) as u8;
        let byte = if select & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte };
        out | u32::from(byte) << (8 * n)
    })
}

fn mask_clamp(a: u32, b: u32) -> u32 {
    if a > 31 { 0 } else { (low_bits(b.min(32)) << a) as u32 }
}

fn mask_wrap(a: u32, b: u32) -> u32 {
    (low_bits(b & 31) << (a & 31)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A signed field is the unsigned one with its top bit copied upwards.
        #[test]
        fn fields_inside_the_word(a in any::<u32>(), start in 0u32..32, length in 1u32..33) {
            prop_assume!(start + length <= 32);
            let plain = field(u64::from(a), 32, start, length) as u32;
            prop_assert_eq!(u64::from(plain), u64::from(a) >> start & ((1u64 << length) - 1));
            let signed = signed_field(u64::from(a), 32, start, length) as u32 as i32;
            let unused = 32 - length;
            prop_assert_eq!(signed, ((plain << unused) as i32) >> unused);
        }

        #[test]
        fn permutation_picks_bytes(a in any::<u32>(), b in any::<u32>()) {
            prop_assert_eq!(permute_index(a, b, 0x3210), a);
            prop_assert_eq!(permute_index(a, b, 0x7654), b);
            prop_assert_eq!(permute_index(a, b, 0x0123), a.swap_bytes());
        }
    }

    #[test]
    fn fields_beyond_the_word() {
        assert_eq!(field(0xffff_ffff, 32, 32, 8), 0);
        assert_eq!(signed_field(0x8000_0000, 32, 40, 8) as u32, u32::MAX);
        assert_eq!(signed_field(0x8000_0000, 32, 28, 8) as u32, 0xffff_fff8);
        assert_eq!(mask_clamp(4, 8), 0xff0);
        assert_eq!(mask_clamp(0, 32), u32::MAX);
    }
}
