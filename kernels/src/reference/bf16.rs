//! Numbers of 16 bits: the upper half of an f32.

/// The nearest, ties to even; NaN stays NaN.
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return 0x7fff;
    }
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The number that 16 bits stand for.
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// What is left of a number when 16 bits have held it.
pub fn rounded(x: f32) -> f32 {
    from_bf16(to_bf16(x))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    #[test]
    fn the_nearest_is_taken_and_ties_go_to_even() {
        assert_eq!(to_bf16(1.0), 0x3f80);
        // The step after 1 is 2⁻⁷.
        assert_eq!(rounded(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(rounded(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0);
        assert_eq!(rounded(1.0 + 1.1 / 256.0), 1.0 + 2.0 / 256.0);
        assert_eq!(rounded(-2.5), -2.5);
    }

    #[test]
    fn what_is_no_number_stays_so() {
        assert!(rounded(f32::NAN).is_nan());
        assert_eq!(rounded(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(rounded(f32::MAX), f32::INFINITY);
    }
}
