//! Single instructions against Rust's own arithmetic, over values that are hard and values at
//! random.
#![allow(clippy::undocumented_unsafe_blocks, reason = "every call follows CUDA's contract with memory that the test owns")]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::cast_lossless,
    reason = "what is tested is how integers wrap"
)]

mod program;

use program::*;

/// Values where carries, signs, roundings and clamps change their minds.
const HARD: [u64; 24] = [
    0,
    1,
    2,
    31,
    32,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x3f80_0000,
    0x7f80_0001,
    0x0000_0000_8000_0001,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
    0x3ff0_0000_0000_0001,
    0x4330_0000_0000_0001,
];

/// Triples of operands: all hard pairs, and random ones.
fn operands() -> Vec<[u64; 3]> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut all: Vec<[u64; 3]> = HARD.iter().flat_map(|&a| HARD.map(|b| [a, b, a ^ b.rotate_left(7)])).collect();
    all.extend((0..448).map(|_| [random(), random(), random()]));
    all.extend((0..256).map(|_| [random() >> 40, random() >> 58, random() >> 59]));
    all
}

/// Runs `instructions` on every triple: a, b, c in %rd1..3 (and cut to %r1..3, %h1..3, %f1..3,
/// %fd1..3), result in %rd0. Some threads of each warp are kept out, so masked forms run too.
fn run(instructions: &str) -> Vec<([u64; 3], u64)> {
    let gpu = Gpu::new();
    let ptx = format!(
        ".visible .entry k(.param .u64 in, .param .u64 out, .param .u32 n)
{{
  .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<19>; .reg .b64 %rd<19>; .reg .f32 %f<9>; .reg .f64 %fd<9>;
  mov.u32 %r10, %ctaid.x; mov.u32 %r11, %ntid.x; mov.u32 %r12, %tid.x; mad.lo.u32 %r13, %r10, %r11, %r12;
  ld.param.u32 %r14, [n]; setp.ge.u32 %p8, %r13, %r14; @%p8 ret;
  ld.param.u64 %rd10, [in]; mad.wide.u32 %rd10, %r13, 24, %rd10;
  ld.global.u64 %rd1, [%rd10]; ld.global.u64 %rd2, [%rd10+8]; ld.global.u64 %rd3, [%rd10+16];
  cvt.u32.u64 %r1, %rd1; cvt.u32.u64 %r2, %rd2; cvt.u32.u64 %r3, %rd3;
  cvt.u16.u64 %h1, %rd1; cvt.u16.u64 %h2, %rd2; cvt.u16.u64 %h3, %rd3;
  mov.b32 %f1, %r1; mov.b32 %f2, %r2; mov.b32 %f3, %r3;
  mov.b64 %fd1, %rd1; mov.b64 %fd2, %rd2; mov.b64 %fd3, %rd3;
  mov.u64 %rd0, 0;
  {instructions}
  ld.param.u64 %rd11, [out]; mad.wide.u32 %rd11, %r13, 8, %rd11; st.global.u64 [%rd11], %rd0;
  ret;
}}"
    );
    let function = gpu.function(&ptx, "k");
    let operands = operands();
    let (input, output) = (upload(&operands), upload(&vec![0u64; operands.len()]));
    let n = operands.len() as u32;
    launch(function, n.div_ceil(96), 96, &[input.0, output.0, u64::from(n)]);
    let results: Vec<u64> = download(output, operands.len());
    operands.into_iter().zip(results).collect()
}

/// Checks one instruction: `width` bits of the operands are seen, and of the result looked at.
fn check(instruction: &str, expected: impl Fn(u64, u64, u64) -> u64) {
    for ([a, b, c], result) in run(instruction) {
        let right = expected(a, b, c);
        assert_eq!(result, right, "{instruction} of {a:#x}, {b:#x}, {c:#x}: {result:#x}, not {right:#x}");
    }
}

fn check32(instruction: &str, expected: impl Fn(u32, u32, u32) -> u32) {
    check(&format!("{instruction} cvt.u64.u32 %rd0, %r0;"), |a, b, c| expected(a as u32, b as u32, c as u32) as u64);
}

fn check16(instruction: &str, expected: impl Fn(u16, u16, u16) -> u16) {
    check(&format!("{instruction} cvt.u64.u16 %rd0, %h0;"), |a, b, c| expected(a as u16, b as u16, c as u16) as u64);
}

/// Floats: NaNs are equal whatever their bits.
fn check_f32(instruction: &str, expected: impl Fn(f32, f32, f32) -> f32) {
    for ([a, b, c], result) in run(&format!("{instruction} mov.b32 %r0, %f0; cvt.u64.u32 %rd0, %r0;")) {
        let [a, b, c] = [a, b, c].map(|bits| f32::from_bits(bits as u32));
        let (result, right) = (f32::from_bits(result as u32), expected(a, b, c));
        let same = result.to_bits() == right.to_bits() || result.is_nan() && right.is_nan();
        assert!(same, "{instruction} of {a:e}, {b:e}, {c:e}: {result:e}, not {right:e}");
    }
}

fn check_f64(instruction: &str, expected: impl Fn(f64, f64, f64) -> f64) {
    for ([a, b, c], result) in run(&format!("{instruction} mov.b64 %rd0, %fd0;")) {
        let [a, b, c] = [a, b, c].map(f64::from_bits);
        let (result, right) = (f64::from_bits(result), expected(a, b, c));
        let same = result.to_bits() == right.to_bits() || result.is_nan() && right.is_nan();
        assert!(same, "{instruction} of {a:e}, {b:e}, {c:e}: {result:e}, not {right:e}");
    }
}

#[test]
fn integers_of_32_bits() {
    check32("add.s32 %r0, %r1, %r2;", |a, b, _| a.wrapping_add(b));
    check32("add.sat.s32 %r0, %r1, %r2;", |a, b, _| (a as i32).saturating_add(b as i32) as u32);
    check32("sub.u32 %r0, %r1, %r2;", |a, b, _| a.wrapping_sub(b));
    check32("mul.lo.s32 %r0, %r1, %r2;", |a, b, _| a.wrapping_mul(b));
    check32("mul.hi.s32 %r0, %r1, %r2;", |a, b, _| ((a as i32 as i64 * b as i32 as i64) >> 32) as u32);
    check32("mul.hi.u32 %r0, %r1, %r2;", |a, b, _| ((a as u64 * b as u64) >> 32) as u32);
    check32("mad.lo.s32 %r0, %r1, %r2, %r3;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    check32("div.s32 %r0, %r1, %r2;", |a, b, _| if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 });
    check32("rem.u32 %r0, %r1, %r2;", |a, b, _| if b == 0 { a } else { a % b });
    check32("min.s32 %r0, %r1, %r2;", |a, b, _| (a as i32).min(b as i32) as u32);
    check32("max.u32 %r0, %r1, %r2;", u32_max);
    check32("abs.s32 %r0, %r1;", |a, _, _| (a as i32).wrapping_abs() as u32);
    check32("neg.s32 %r0, %r1;", |a, _, _| a.wrapping_neg());
    check32("sad.u32 %r0, %r1, %r2, %r3;", |a, b, c| a.abs_diff(b).wrapping_add(c));
    check32("dp4a.u32.u32 %r0, %r1, %r2, %r3;", |a, b, c| {
        a.to_le_bytes().iter().zip(b.to_le_bytes()).fold(c, |sum, (x, y)| sum.wrapping_add(*x as u32 * y as u32))
    });
}

fn u32_max(a: u32, b: u32, _: u32) -> u32 {
    a.max(b)
}

#[test]
fn integers_of_16_and_64_bits() {
    check16("add.s16 %h0, %h1, %h2;", |a, b, _| a.wrapping_add(b));
    check16("mul.lo.s16 %h0, %h1, %h2;", |a, b, _| a.wrapping_mul(b));
    check("shr.s16 %h0, %h1, %r2; cvt.u64.u16 %rd0, %h0;", |a, b, _| ((a as i16) >> (b as u32).min(15)) as u16 as u64);
    check("add.s64 %rd0, %rd1, %rd2;", |a, b, _| a.wrapping_add(b));
    check("mul.lo.s64 %rd0, %rd1, %rd2;", |a, b, _| a.wrapping_mul(b));
    check("mul.hi.u64 %rd0, %rd1, %rd2;", |a, b, _| ((a as u128 * b as u128) >> 64) as u64);
    check("mul.hi.s64 %rd0, %rd1, %rd2;", |a, b, _| ((a as i64 as i128 * b as i64 as i128) >> 64) as u64);
    check("mul.wide.s32 %rd0, %r1, %r2;", |a, b, _| (a as i32 as i64 * b as i32 as i64) as u64);
    check("mad.wide.u32 %rd0, %r1, %r2, %rd3;", |a, b, c| (a as u32 as u64 * b as u32 as u64).wrapping_add(c));
    check("rem.s64 %rd0, %rd1, %rd2;", |a, b, _| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 });
    check("min.u64 %rd0, %rd1, %rd2;", |a, b, _| a.min(b));
    // 128 bits by carries: the upper half of a * 2 + (b, c).
    check(
        "add.cc.u64 %rd4, %rd1, %rd2; addc.cc.u64 %rd5, %rd1, %rd3; addc.u64 %rd0, %rd5, 0;",
        |a, b, c| {
            let carry = u64::from(a.checked_add(b).is_none());
            let (sum, one) = a.overflowing_add(c);
            let (sum, two) = sum.overflowing_add(carry);
            sum.wrapping_add(u64::from(one | two))
        },
    );
    check("sub.cc.u32 %r4, %r1, %r2; subc.u32 %r5, %r3, 0; cvt.u64.u32 %rd0, %r5;", |a, b, c| {
        (c as u32).wrapping_sub(u32::from((a as u32) < b as u32)) as u64
    });
}

#[test]
fn bits_and_shifts() {
    check32("shl.b32 %r0, %r1, %r2;", |a, b, _| a.checked_shl(b).unwrap_or(0));
    check32("shr.u32 %r0, %r1, %r2;", |a, b, _| a.checked_shr(b).unwrap_or(0));
    check32("shr.s32 %r0, %r1, %r2;", |a, b, _| ((a as i32) >> b.min(31)) as u32);
    check("shl.b64 %rd0, %rd1, %r2;", |a, b, _| a.checked_shl(b as u32).unwrap_or(0));
    check("shr.s64 %rd0, %rd1, %r2;", |a, b, _| ((a as i64) >> (b as u32).min(63)) as u64);
    check32("lop3.b32 %r0, %r1, %r2, %r3, 0x96;", |a, b, c| a ^ b ^ c);
    check32("lop3.b32 %r0, %r1, %r2, %r3, 0xca;", |a, b, c| (a & b) | (!a & c));
    check("popc.b64 %r0, %rd1; cvt.u64.u32 %rd0, %r0;", |a, _, _| a.count_ones() as u64);
    check32("clz.b32 %r0, %r1;", |a, _, _| a.leading_zeros());
    check32("brev.b32 %r0, %r1;", |a, _, _| a.reverse_bits());
    check32("bfind.s32 %r0, %r1;", |a, _, _| {
        let a = if (a as i32) < 0 { !a } else { a };
        if a == 0 { u32::MAX } else { 31 - a.leading_zeros() }
    });
    check32("shf.l.wrap.b32 %r0, %r1, %r2, %r3;", |a, b, c| {
        let c = c & 31;
        if c == 0 { b } else { b << c | a >> (32 - c) }
    });
    check32("bfi.b32 %r0, %r1, %r2, 5, 7;", |a, b, _| (b & !(0x7f << 5)) | (a & 0x7f) << 5);
    check32("bfe.s32 %r0, %r1, 5, 7;", |a, _, _| ((a << 20) as i32 >> 25) as u32);
    check32("prmt.b32 %r0, %r1, %r2, 0x5410;", |a, b, _| a & 0xffff | b << 16);
    check32("xor.b32 %r4, %r1, %r2; not.b32 %r4, %r4; cnot.b32 %r0, %r4;", |a, b, _| u32::from(!(a ^ b) == 0));
}

#[test]
fn comparisons_and_selections() {
    let select = "selp.u64 %rd0, %rd1, %rd2, %p1;";
    let pick = |truth: bool, a: u64, b: u64| if truth { a } else { b };
    check(&format!("setp.lt.s32 %p1, %r1, %r2; {select}"), |a, b, _| pick((a as i32) < b as i32, a, b));
    check(&format!("setp.hi.u32 %p1, %r1, %r2; {select}"), |a, b, _| pick(a as u32 > b as u32, a, b));
    check(&format!("setp.ge.s64 %p1, %rd1, %rd2; {select}"), |a, b, _| pick(a as i64 >= b as i64, a, b));
    check(&format!("setp.ne.s16 %p1, %h1, %h2; {select}"), |a, b, _| pick(a as u16 != b as u16, a, b));
    check(&format!("setp.eq.u32 %p2, %r3, %r1; setp.lt.and.u32 %p1, %r1, %r2, !%p2; {select}"), |a, b, c| {
        pick((a as u32) < b as u32 && c as u32 != a as u32, a, b)
    });
    check(&format!("setp.lt.u32 %p2|%p1, %r1, %r2; {select}"), |a, b, _| pick(a as u32 >= b as u32, a, b));
    check("set.gt.u32.s32 %r0, %r1, %r2; cvt.u64.u32 %rd0, %r0;", |a, b, _| pick(a as i32 > b as i32, 0xffff_ffff, 0));
    check("slct.u64.s32 %rd0, %rd1, %rd2, %r3;", |a, b, c| pick(c as i32 >= 0, a, b));
    type Floats = fn(f32, f32) -> bool;
    let floats: [(&str, Floats); 8] = [
        ("lt", |a, b| a < b),
        ("ne", |a, b| a != b && !a.is_nan() && !b.is_nan()),
        ("neu", |a, b| a != b),
        ("geu", |a, b| a >= b || a.is_nan() || b.is_nan()),
        ("equ", |a, b| a == b || a.is_nan() || b.is_nan()),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
        ("ge", |a, b| a >= b),
    ];
    for (name, truth) in floats {
        check(&format!("setp.{name}.f32 %p1, %f1, %f2; {select}"), |a, b, _| {
            pick(truth(f32::from_bits(a as u32), f32::from_bits(b as u32)), a, b)
        });
    }
}

fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

#[test]
fn floats_round_once() {
    check_f32("add.rn.f32 %f0, %f1, %f2;", |a, b, _| a + b);
    check_f32("add.ftz.f32 %f0, %f1, %f2;", |a, b, _| flushed(flushed(a) + flushed(b)));
    check_f32("sub.f32 %f0, %f1, %f2;", |a, b, _| a - b);
    check_f32("mul.sat.f32 %f0, %f1, %f2;", |a, b, _| if a * b > 0.0 { (a * b).min(1.0) } else { 0.0 });
    check_f32("fma.rn.f32 %f0, %f1, %f2, %f3;", f32::mul_add);
    check_f32("div.rn.f32 %f0, %f1, %f2;", |a, b, _| a / b);
    check_f32("rcp.rn.f32 %f0, %f1;", |a, _, _| 1.0 / a);
    check_f32("sqrt.rn.f32 %f0, %f1;", |a, _, _| a.sqrt());
    check_f32("neg.f32 %f0, %f1;", |a, _, _| -a);
    check_f32("abs.f32 %f0, %f1;", |a, _, _| a.abs());
    check_f32("copysign.f32 %f0, %f1, %f2;", |a, b, _| b.copysign(a));
    check_f32("ex2.approx.f32 %f0, %f1;", |a, _, _| a.exp2());
    check_f32("mul.rz.f32 %f0, %f1, %f2;", |a, b, _| toward_zero(f64::from(a) * f64::from(b)));
    check_f64("add.f64 %fd0, %fd1, %fd2;", |a, b, _| a + b);
    check_f64("fma.rn.f64 %fd0, %fd1, %fd2, %fd3;", f64::mul_add);
    check_f64("div.rn.f64 %fd0, %fd1, %fd2;", |a, b, _| a / b);
    check_f64("sqrt.rn.f64 %fd0, %fd1;", |a, _, _| a.sqrt());
    check_f64("cvt.f64.f32 %fd0, %f1;", |a, _, _| f64::from(f32::from_bits(a.to_bits() as u32)));
}

/// A product of two f32, exact in f64, cut to f32.
fn toward_zero(exact: f64) -> f32 {
    let near = exact as f32;
    if f64::from(near).abs() > exact.abs() { f32::from_bits(near.to_bits() - 1) } else { near }
}

#[test]
fn conversions() {
    let f = |a: u64| f32::from_bits(a as u32);
    check("cvt.s64.s32 %rd0, %r1;", |a, _, _| a as i32 as i64 as u64);
    check("cvt.u64.u8 %rd0, %r1;", |a, _, _| a as u8 as u64);
    check("cvt.s32.s8 %r0, %r1; cvt.u64.u32 %rd0, %r0;", |a, _, _| a as i8 as i32 as u32 as u64);
    check("cvt.sat.s16.s32 %h0, %r1; cvt.u64.u16 %rd0, %h0;", |a, _, _| {
        (a as i32).clamp(i16::MIN.into(), i16::MAX.into()) as u16 as u64
    });
    check("cvt.sat.u8.s32 %r0, %r1; cvt.u64.u32 %rd0, %r0;", |a, _, _| (a as i32).clamp(0, 255) as u64);
    check("cvt.rzi.s32.f32 %r0, %f1; cvt.u64.u32 %rd0, %r0;", |a, _, _| f(a) as i32 as u32 as u64);
    check("cvt.rni.u32.f32 %r0, %f1; cvt.u64.u32 %rd0, %r0;", |a, _, _| f(a).round_ties_even() as u32 as u64);
    check("cvt.rmi.s64.f32 %rd0, %f1;", |a, _, _| f(a).floor() as i64 as u64);
    check("cvt.rpi.s32.f64 %r0, %fd1; cvt.u64.u32 %rd0, %r0;", |a, _, _| f64::from_bits(a).ceil() as i32 as u32 as u64);
    check("cvt.rzi.u8.f32 %h0, %f1; cvt.u64.u16 %rd0, %h0;", |a, _, _| f(a) as u8 as u64);
    check("cvt.rn.f32.s32 %f0, %r1; mov.b32 %r0, %f0; cvt.u64.u32 %rd0, %r0;", |a, _, _| (a as i32 as f32).to_bits() as u64);
    check("cvt.rn.f32.u64 %f0, %rd1; mov.b32 %r0, %f0; cvt.u64.u32 %rd0, %r0;", |a, _, _| (a as f32).to_bits() as u64);
    check("cvt.rn.f64.s64 %fd0, %rd1; mov.b64 %rd0, %fd0;", |a, _, _| (a as i64 as f64).to_bits());
    check_f64("cvt.rn.f32.f64 %f0, %fd1; cvt.f64.f32 %fd0, %f0;", |a, _, _| f64::from(a as f32));
    check_f64("cvt.rz.f32.f64 %f0, %fd1; cvt.f64.f32 %fd0, %f0;", |a, _, _| {
        if a.is_finite() { f64::from(toward_zero(a)) } else { f64::from(a as f32) }
    });
    check_f32("cvt.rni.f32.f32 %f0, %f1;", |a, _, _| a.round_ties_even());
    check_f32("cvt.sat.f32.f32 %f0, %f1;", |a, _, _| if a > 0.0 { a.min(1.0) } else { 0.0 });
    check("cvt.rn.f16.f32 %h0, %f1; cvt.f32.f16 %f0, %h0; mov.b32 %r0, %f0; cvt.u64.u32 %rd0, %r0;", |a, _, _| {
        let half = half::f16::from_f32(f(a));
        u64::from(half.to_f32().to_bits())
    });
}

#[test]
fn packs_and_pieces() {
    check("mov.b64 %rd0, {%r1, %r2};", |a, b, _| a as u32 as u64 | b << 32);
    check("mov.b64 {%r1, %r2}, %rd1; mov.b64 %rd0, {%r2, %r1};", |a, _, _| a.rotate_left(32));
    check("mov.b32 {%h1, %h2}, %r1; mov.b64 %rd0, {%h2, %h1, %h3, %h2};", |a, _, c| {
        let (low, high) = (a & 0xffff, a >> 16 & 0xffff);
        high | low << 16 | (c & 0xffff) << 32 | high << 48
    });
}
