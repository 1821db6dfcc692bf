//! Arithmetic on parts of words: 24-bit products, dot products of bytes and halves, packed 16-bit
//! integers, extension from a bit, the n-th set bit.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "parts are cut out of words, and signed and unsigned share registers"
)]

use super::function::{Decoder, types};
use super::{Problem, Step, bad};
use crate::exec::lanes::{binary, quaternary, ternary};
use crate::exec::op::{Op, Run};
use crate::ptx::ast::Instruction;
use crate::ptx::types::Type;

/// The product of the lower 24 bits.
fn product24(a: u32, b: u32, signed: bool) -> i64 {
    let part = |x: u32| if signed { i64::from((x << 8) as i32 >> 8) } else { i64::from(x & 0xff_ffff) };
    part(a) * part(b)
}

fn low24(a: u32, b: u32, signed: bool) -> u32 {
    product24(a, b, signed) as u32
}

/// Bits 16 to 47 of the product.
fn high24(a: u32, b: u32, signed: bool) -> u32 {
    (product24(a, b, signed) >> 16) as u32
}

/// Sum of two 16-bit parts times the lower or upper two bytes.
fn dot2(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool, upper: bool) -> u32 {
    let half = |n: u32| {
        let bits = (a >> (16 * n)) as u16;
        if a_signed { i32::from(bits as i16) } else { i32::from(bits) }
    };
    let byte = |n: u32| {
        let bits = (b >> (8 * (n + 2 * u32::from(upper)))) as u8;
        if b_signed { i32::from(bits as i8) } else { i32::from(bits) }
    };
    (0..2).fold(c, |sum, n| sum.wrapping_add((half(n) * byte(n)) as u32))
}

/// Position of the set bit of `mask` that is `offset` away from `base`; all ones when there is none.
fn nth_set(mask: u32, base: u32, offset: u32) -> u32 {
    let offset = offset as i32;
    let is_set = |position: i64| (0..32).contains(&position) && mask >> position & 1 != 0;
    if offset == 0 {
        return if is_set(i64::from(base)) { base } else { u32::MAX };
    }
    let (step, mut left) = (i64::from(offset.signum()), offset.unsigned_abs() - 1);
    let mut position = i64::from(base);
    while (0..32).contains(&position) {
        if is_set(position) {
            if left == 0 {
                return position as u32;
            }
            left -= 1;
        }
        position += step;
    }
    u32::MAX
}

/// `a` cut to its lowest `bits` and extended.
fn extend(a: u32, bits: u32, signed: bool) -> u32 {
    match bits {
        0 => 0,
        1..=31 if signed => ((a << (32 - bits)) as i32 >> (32 - bits)) as u32,
        1..=31 => a & ((1 << bits) - 1),
        _ => a,
    }
}

/// A function of the halves of two words.
macro_rules! halves {
    (|$a:ident: $t:ty, $b:ident| $body:expr) => {
        binary(|x: u32, y: u32| {
            let half = |$a: $t, $b: $t| -> $t { $body };
            let low = half(x as u16 as $t, y as u16 as $t) as u16;
            let high = half((x >> 16) as u16 as $t, (y >> 16) as u16 as $t) as u16;
            u32::from(low) | u32::from(high) << 16
        })
    };
}

impl<'a> Decoder<'_, 'a> {
    /// `mul24`, `mad24`, `dp2a` and packed integers.
    pub(super) fn parts(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        let (signed, high) = (ty.is_signed(), i.has("hi"));
        let run: Run = match i.opcode() {
            "mul24" => {
                let run = match (signed, high) {
                    (false, false) => binary(|a: u32, b: u32| low24(a, b, false)),
                    (true, false) => binary(|a: u32, b: u32| low24(a, b, true)),
                    (false, true) => binary(|a: u32, b: u32| high24(a, b, false)),
                    (true, true) => binary(|a: u32, b: u32| high24(a, b, true)),
                };
                return self.two(i, ty, run);
            }
            "mad24" if i.has("sat") => {
                ternary(|a: u32, b: u32, c: u32| (high24(a, b, true) as i32).saturating_add(c as i32) as u32)
            }
            "mad24" => match (signed, high) {
                (false, false) => ternary(|a: u32, b: u32, c: u32| low24(a, b, false).wrapping_add(c)),
                (true, false) => ternary(|a: u32, b: u32, c: u32| low24(a, b, true).wrapping_add(c)),
                (false, true) => ternary(|a: u32, b: u32, c: u32| high24(a, b, false).wrapping_add(c)),
                (true, true) => ternary(|a: u32, b: u32, c: u32| high24(a, b, true).wrapping_add(c)),
            },
            "mad" => ternary(|a: u32, b: u32, c: u32| {
                let high = (i64::from(a as i32) * i64::from(b as i32)) >> 32;
                (high as i32).saturating_add(c as i32) as u32
            }),
            _ => return self.dot2(i),
        };
        self.three(i, ty, run)
    }

    /// `dp2a.lo|hi.atype.btype d, a, b, c`.
    fn dot2(&mut self, i: &Instruction<'a>) -> Step {
        let run: Run = match (types(i).as_slice(), i.has("hi")) {
            ([Type::S32, Type::S32], false) => ternary(|a: u32, b: u32, c: u32| dot2(a, b, c, true, true, false)),
            ([Type::S32, Type::U32], false) => ternary(|a: u32, b: u32, c: u32| dot2(a, b, c, true, false, false)),
            ([Type::U32, Type::S32], false) => ternary(|a: u32, b: u32, c: u32| dot2(a, b, c, false, true, false)),
            ([Type::U32, Type::U32], false) => ternary(|a: u32, b: u32, c: u32| dot2(a, b, c, false, false, false)),
            ([Type::S32, Type::S32], true) => ternary(|a: u32, b: u32, c: u32| dot2(a, b, c, true, true, true)),
            ([Type::S32, Type::U32], true) => ternary(|a: u32, b: u32, c: u32| dot2(a, b, c, true, false, true)),
            ([Type::U32, Type::S32], true) => ternary(|a: u32, b: u32, c: u32| dot2(a, b, c, false, true, true)),
            ([Type::U32, Type::U32], true) => ternary(|a: u32, b: u32, c: u32| dot2(a, b, c, false, false, true)),
            _ => return Err(Problem::Unknown),
        };
        self.three(i, Type::B32, run)
    }

    /// Arithmetic on `.u16x2` and `.s16x2`.
    pub(super) fn packed_integers(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        let run = match (i.opcode(), ty) {
            ("add", _) => halves!(|a: u16, b| a.wrapping_add(b)),
            ("sub", _) => halves!(|a: u16, b| a.wrapping_sub(b)),
            ("min", Type::U16x2) => halves!(|a: u16, b| a.min(b)),
            ("max", Type::U16x2) => halves!(|a: u16, b| a.max(b)),
            ("min", _) if i.has("relu") => halves!(|a: i16, b| a.min(b).max(0)),
            ("max", _) if i.has("relu") => halves!(|a: i16, b| a.max(b).max(0)),
            ("min", _) => halves!(|a: i16, b| a.min(b)),
            ("max", _) => halves!(|a: i16, b| a.max(b)),
            _ => return Err(Problem::Unknown),
        };
        self.two(i, ty, run)
    }

    /// `szext.mode.type d, a, b`.
    pub(super) fn extension(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        let run = match (ty.is_signed(), i.has("wrap")) {
            (false, false) => binary(|a: u32, b: u32| extend(a, b, false)),
            (true, false) => binary(|a: u32, b: u32| extend(a, b, true)),
            (false, true) => binary(|a: u32, b: u32| extend(a, b & 31, false)),
            (true, true) => binary(|a: u32, b: u32| extend(a, b & 31, true)),
        };
        self.two(i, ty, run)
    }

    /// `fns.b32 d, mask, base, offset`.
    pub(super) fn find_nth(&mut self, i: &Instruction<'a>) -> Step {
        self.three(i, Type::B32, ternary(nth_set))
    }

    /// `cvt.pack.sat.type.s32{.b32} d, a, b{, c}`: a and b stop at the type's ends and become the
    /// upper and lower part, of the word or of its lower half, above which c moves up.
    pub(super) fn convert_pack(&mut self, i: &Instruction<'a>) -> Step {
        fn clamped(x: u32, low: i32, high: i32) -> u32 {
            (x as i32).clamp(low, high) as u32
        }
        let [d, a, b, rest @ ..] = i.operands.as_slice() else { return bad("three operands expected") };
        let run: Run = match types(i).first() {
            Some(Type::U16) => {
                quaternary(|a: u32, b: u32, _: u32, _: u32| clamped(a, 0, 65_535) << 16 | clamped(b, 0, 65_535))
            }
            Some(Type::S16) => quaternary(|a: u32, b: u32, _: u32, _: u32| {
                clamped(a, -32_768, 32_767) << 16 | (clamped(b, -32_768, 32_767) & 0xffff)
            }),
            Some(Type::U8) => {
                quaternary(|a: u32, b: u32, c: u32, _: u32| c << 16 | clamped(a, 0, 255) << 8 | clamped(b, 0, 255))
            }
            Some(Type::S8) => quaternary(|a: u32, b: u32, c: u32, _: u32| {
                c << 16 | (clamped(a, -128, 127) & 255) << 8 | (clamped(b, -128, 127) & 255)
            }),
            _ => return Err(Problem::Unknown),
        };
        let (a, b) = (self.source(a, Type::B32)?, self.source(b, Type::B32)?);
        let c = match rest.first() {
            Some(c) => self.source(c, Type::B32)?,
            None => self.constant(4, 0),
        };
        let d = self.destination(d, Type::B32)?;
        self.ops.push(Op { d: d.slot, a, b, c, e: c, ..Op::new(run, self.line) });
        self.finish(d);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_bits_are_counted_from_the_base_both_ways() {
        let mask = 0b1011_0010;
        assert_eq!(nth_set(mask, 1, 0), 1);
        assert_eq!(nth_set(mask, 0, 0), u32::MAX);
        assert_eq!((nth_set(mask, 0, 1), nth_set(mask, 0, 2), nth_set(mask, 0, 5)), (1, 4, u32::MAX));
        assert_eq!((nth_set(mask, 7, -1i32 as u32), nth_set(mask, 6, -2i32 as u32)), (7, 4));
    }

    #[test]
    fn parts_have_their_signs() {
        assert_eq!(low24(0xffff_ffff, 2, true), -2i32 as u32);
        assert_eq!(low24(0xffff_ffff, 2, false), 0x01ff_fffe);
        assert_eq!(high24(0x00ff_ffff, 0x00ff_ffff, false), 0xffff_fe00);
        assert_eq!(dot2(0xffff_0002, 0x0403_0201, 10, true, false, false), 10 + 2 - 2);
        assert_eq!(dot2(0xffff_0002, 0x0403_0201, 10, true, false, true), 10 + 6 - 4);
        assert_eq!((extend(0x1ff, 8, true), extend(0x17f, 8, true), extend(0x1ff, 8, false)), (u32::MAX, 0x7f, 0xff));
    }
}
