//! 8-bit floating point: e4m3, which has no infinity, and e5m2. Conversions round to nearest even
//! and stop at the largest finite value, as `.satfinite` asks.

/// The value of an e4m3.
pub fn from_e4m3(bits: u8) -> f32 {
    let (exponent, fraction) = (bits >> 3 & 15, bits & 7);
    let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
    sign * match (exponent, fraction) {
        (15, 7) => f32::NAN,
        (0, _) => f32::from(fraction) / 512.0,
        _ => (1.0 + f32::from(fraction) / 8.0) * 2f32.powi(i32::from(exponent) - 7),
    }
}

/// The value of an e5m2.
pub fn from_e5m2(bits: u8) -> f32 {
    half::f16::from_bits(u16::from(bits) << 8).to_f32()
}

/// Rounds `x` to `fraction` bits, with `lowest` as the exponent of the smallest normal value.
fn round(x: f32, fraction: i32, lowest: i32) -> f64 {
    let x = f64::from(x.abs());
    let exponent = (x.to_bits() >> 52) as i32 - 1023;
    let unit = 2f64.powi(exponent.max(lowest) - fraction);
    (x / unit).round_ties_even() * unit
}

/// Bits of a rounded value that is not above the largest.
fn pack(x: f64, fraction: i32, lowest: i32) -> u8 {
    let exponent = ((x.to_bits() >> 52) as i32 - 1023).max(lowest);
    let units = (x / 2f64.powi(exponent - fraction)) as i32;
    // A subnormal has no implicit bit, so its exponent field stays 0 by itself.
    (((exponent - lowest) << fraction) + units) as u8
}

/// The nearest e4m3; beyond the largest, the largest.
pub fn to_e4m3(x: f32) -> u8 {
    const LARGEST: f64 = 448.0;
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    if x.is_nan() { 0x7f } else { sign | pack(round(x, 3, -6).min(LARGEST), 3, -6) }
}

/// The nearest e5m2; beyond the largest, the largest.
pub fn to_e5m2(x: f32) -> u8 {
    const LARGEST: f64 = 57344.0;
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    if x.is_nan() { 0x7f } else { sign | pack(round(x, 2, -14).min(LARGEST), 2, -14) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_comes_back() {
        for bits in 0..=255u8 {
            let (four, five) = (from_e4m3(bits), from_e5m2(bits));
            assert!(four.is_nan() || to_e4m3(four) == bits, "e4m3 {bits:#x} {four}");
            assert!(!five.is_finite() || to_e5m2(five) == bits, "e5m2 {bits:#x} {five}");
        }
    }

    #[test]
    fn ties_go_to_even_and_large_values_stop() {
        assert_eq!(to_e4m3(1.0625), 0x38);
        assert_eq!(to_e4m3(1.1875), 0x3a);
        assert_eq!((to_e4m3(1e9), to_e4m3(f32::NEG_INFINITY), to_e4m3(f32::NAN)), (0x7e, 0xfe, 0x7f));
        assert_eq!((to_e5m2(1e9), to_e5m2(-1e9)), (0x7b, 0xfb));
        assert_eq!(to_e4m3(2f32.powi(-10)), 0);
        assert_eq!(to_e4m3(1.5 * 2f32.powi(-9)), 2);
    }
}
