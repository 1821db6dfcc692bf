//! Scalar floating point as PTX defines it where Rust's own operators differ: flushing of
//! subnormals, saturation, directed rounding, minimum and maximum, conversions.

/// How a result is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

/// A subnormal becomes zero of its sign (`.ftz`).
#[inline(always)]
pub fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0f32.copysign(x) } else { x }
}

/// Clamped to [0, 1]; NaN becomes 0 (`.sat`).
#[inline(always)]
pub fn saturate(x: f32) -> f32 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

/// As `saturate`.
#[inline(always)]
pub fn saturate64(x: f64) -> f64 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

macro_rules! extrema {
    ($min:ident, $max:ident, $float:ty) => {
        /// The lesser; -0 is below +0; a NaN gives way to the other operand.
        #[inline(always)]
        pub fn $min(a: $float, b: $float) -> $float {
            let equal = <$float>::from_bits(a.to_bits() | b.to_bits());
            let less = if a < b { a } else { b };
            let number = if a == b { equal } else { less };
            if a.is_nan() { b } else if b.is_nan() { a } else { number }
        }

        /// The greater; +0 is above -0; a NaN gives way to the other operand.
        #[inline(always)]
        pub fn $max(a: $float, b: $float) -> $float {
            let equal = <$float>::from_bits(a.to_bits() & b.to_bits());
            let greater = if a > b { a } else { b };
            let number = if a == b { equal } else { greater };
            if a.is_nan() { b } else if b.is_nan() { a } else { number }
        }
    };
}
extrema!(min, max, f32);
extrema!(min64, max64, f64);

/// As `min`, but NaN if either is (`.NaN`).
#[inline(always)]
pub fn min_nan(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { min(a, b) }
}

/// As `max`, but NaN if either is (`.NaN`).
#[inline(always)]
pub fn max_nan(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { max(a, b) }
}

/// `fma` with one rounding.
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

/// As `fma`.
#[inline(always)]
pub fn fma64(a: f64, b: f64, c: f64) -> f64 {
    a.mul_add(b, c)
}

/// Directed rounding codes, as MXCSR has them.
pub const DOWN: u32 = 1;
pub const UP: u32 = 2;
pub const ZERO: u32 = 3;

/// `f64` to `f32` with directed rounding.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "the rounding is what follows")]
pub fn narrow<const RC: u32>(x: f64) -> f32 {
    let near = x as f32;
    let wide = f64::from(near);
    let too_high = wide > x;
    let too_low = wide < x;
    match RC {
        DOWN if too_high => near.next_down(),
        UP if too_low => near.next_up(),
        ZERO if too_high && x > 0.0 => near.next_down(),
        ZERO if too_low && x < 0.0 => near.next_up(),
        _ => near,
    }
}

macro_rules! from_integer {
    ($name:ident, $float:ty) => {
        /// An integer with directed rounding.
        #[inline(always)]
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the rounding is what follows")]
        pub fn $name<const RC: u32>(x: i128) -> $float {
            let near = x as $float;
            let back = near as i128;
            match RC {
                DOWN if back > x => near.next_down(),
                UP if back < x => near.next_up(),
                ZERO if back > x && x > 0 => near.next_down(),
                ZERO if back < x && x < 0 => near.next_up(),
                _ => near,
            }
        }
    };
}
from_integer!(f32_from_integer, f32);
from_integer!(f64_from_integer, f64);

/// f16 bits to f32.
#[inline(always)]
pub fn from_half(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}

/// f32 to the nearest f16.
#[inline(always)]
pub fn to_half(x: f32) -> u16 {
    half::f16::from_f32(x).to_bits()
}

/// bf16 bits to f32.
#[inline(always)]
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// f32 to the nearest bf16.
#[inline(always)]
pub fn to_bf16(x: f32) -> u16 {
    half::bf16::from_f32(x).to_bits()
}

/// Whether directed rounding of arithmetic can be executed here.
pub const fn can_direct() -> bool {
    cfg!(target_arch = "x86_64")
}

#[cfg(target_arch = "x86_64")]
mod directed {
    use std::arch::asm;

    macro_rules! binary {
        ($name:ident, $float:ty, $instruction:literal) => {
            /// Under the rounding mode RC.
            pub fn $name<const RC: u32>(mut a: $float, b: $float) -> $float {
                let mode = 0x1f80u32 | RC << 13;
                let mut saved = 0u32;
                // SAFETY: MXCSR is as it was when the block ends; nothing else is touched.
                unsafe {
                    asm!("stmxcsr [{saved}]", "ldmxcsr [{mode}]", concat!($instruction, " {a}, {b}"), "ldmxcsr [{saved}]",
                        saved = in(reg) &raw mut saved, mode = in(reg) &raw const mode,
                        a = inout(xmm_reg) a, b = in(xmm_reg) b, options(nostack));
                }
                a
            }
        };
    }
    macro_rules! unary {
        ($name:ident, $float:ty, $instruction:literal) => {
            /// Under the rounding mode RC.
            pub fn $name<const RC: u32>(a: $float) -> $float {
                let mode = 0x1f80u32 | RC << 13;
                let mut saved = 0u32;
                let result: $float;
                // SAFETY: as for the binary operations.
                unsafe {
                    asm!("stmxcsr [{saved}]", "ldmxcsr [{mode}]", concat!($instruction, " {r}, {a}"), "ldmxcsr [{saved}]",
                        saved = in(reg) &raw mut saved, mode = in(reg) &raw const mode,
                        r = out(xmm_reg) result, a = in(xmm_reg) a, options(nostack));
                }
                result
            }
        };
    }
    macro_rules! fused {
        ($name:ident, $float:ty, $instruction:literal) => {
            /// a * b + c under the rounding mode RC; the machine must have FMA.
            pub fn $name<const RC: u32>(mut a: $float, b: $float, c: $float) -> $float {
                let mode = 0x1f80u32 | RC << 13;
                let mut saved = 0u32;
                // SAFETY: as above; decode checks for FMA.
                unsafe {
                    asm!("stmxcsr [{saved}]", "ldmxcsr [{mode}]", concat!($instruction, " {a}, {b}, {c}"), "ldmxcsr [{saved}]",
                        saved = in(reg) &raw mut saved, mode = in(reg) &raw const mode,
                        a = inout(xmm_reg) a, b = in(xmm_reg) b, c = in(xmm_reg) c, options(nostack));
                }
                a
            }
        };
    }
    binary!(add, f32, "addss");
    binary!(mul, f32, "mulss");
    binary!(div, f32, "divss");
    binary!(add64, f64, "addsd");
    binary!(mul64, f64, "mulsd");
    binary!(div64, f64, "divsd");
    unary!(sqrt, f32, "sqrtss");
    unary!(sqrt64, f64, "sqrtsd");
    fused!(fma, f32, "vfmadd213ss");
    fused!(fma64, f64, "vfmadd213sd");
}

#[cfg(not(target_arch = "x86_64"))]
mod directed {
    macro_rules! nearest {
        ($($name:ident($($arg:ident),*) -> $float:ty = $value:expr;)*) => {$(
            /// Never reached: `can_direct` is false here.
            pub fn $name<const RC: u32>($($arg: $float),*) -> $float { $value }
        )*};
    }
    nearest! {
        add(a, b) -> f32 = a + b; mul(a, b) -> f32 = a * b; div(a, b) -> f32 = a / b;
        add64(a, b) -> f64 = a + b; mul64(a, b) -> f64 = a * b; div64(a, b) -> f64 = a / b;
        sqrt(a) -> f32 = a.sqrt(); sqrt64(a) -> f64 = a.sqrt();
        fma(a, b, c) -> f32 = a.mul_add(b, c); fma64(a, b, c) -> f64 = a.mul_add(b, c);
    }
}

pub use directed::{add, add64, div, div64, fma as fma_directed, fma64 as fma64_directed, mul, mul64, sqrt, sqrt64};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_f32() -> impl Strategy<Value = f32> {
        any::<u32>().prop_map(f32::from_bits)
    }

    proptest! {
        /// Directed sums and products enclose the nearest one, and meet it when they are exact.
        #[test]
        fn directed_results_enclose_the_exact_one(a in any_f32(), b in any_f32()) {
            prop_assume!(a.is_finite() && b.is_finite());
            for (down, near, up, zero) in [
                (add::<DOWN>(a, b), a + b, add::<UP>(a, b), add::<ZERO>(a, b)),
                (mul::<DOWN>(a, b), a * b, mul::<UP>(a, b), mul::<ZERO>(a, b)),
            ] {
                prop_assert!(down <= near && near <= up);
                prop_assert!(up == down || up == down.next_up());
                prop_assert!(zero == down || zero == up);
                prop_assert!(zero.abs() <= down.abs().max(up.abs()) && zero.abs() <= near.abs().max(f32::MAX));
            }
            prop_assert_eq!(narrow::<DOWN>(f64::from(a) * f64::from(b)).to_bits(), mul::<DOWN>(a, b).to_bits());
        }

        #[test]
        fn extrema_prefer_numbers_and_order_zeros(a in any_f32(), b in any_f32()) {
            let low = min(a, b);
            prop_assert_eq!(low.is_nan(), a.is_nan() && b.is_nan());
            if !a.is_nan() && !b.is_nan() {
                prop_assert!(low <= a && low <= b && max(a, b) >= a && max(a, b) >= b);
            }
        }

        #[test]
        fn integers_round_as_directed(x in any::<i64>()) {
            let x = i128::from(x);
            let (down, up) = (f32_from_integer::<DOWN>(x), f32_from_integer::<UP>(x));
            prop_assert!(down as i128 <= x && x <= up as i128);
            prop_assert!(down == up || down.next_up() == up);
        }
    }

    #[test]
    fn zeros_are_ordered() {
        assert!(min(0.0, -0.0).is_sign_negative() && min(-0.0, 0.0).is_sign_negative());
        assert!(max(0.0, -0.0).is_sign_positive() && max(-0.0, 0.0).is_sign_positive());
        assert_eq!(flush(f32::from_bits(0x8000_0001)).to_bits(), 0x8000_0000);
        assert_eq!(saturate(f32::NAN).to_bits(), 0);
    }
}
