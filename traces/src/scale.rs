//! Times multiplied by a factor in integers: rounded once, never decreasing.

/// A factor, exactly as its `f64`: `mantissa * 2^-shift`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scale {
    mantissa: u64,
    shift: i32,
}

/// Bits of an `f64` below the exponent, and what its exponent is offset by so that the mantissa is whole.
const MANTISSA_BITS: u32 = 52;
const EXPONENT_BIAS: i32 = 1075;

impl Scale {
    pub(crate) const IDENTITY: Scale = Scale { mantissa: 1, shift: 0 };

    /// A factor above zero; subnormal numbers count as zero and infinity as too large for every time.
    pub(crate) fn new(factor: f64) -> Scale {
        let bits = factor.to_bits();
        let exponent = (bits >> MANTISSA_BITS) as i32;
        let fraction = bits & ((1 << MANTISSA_BITS) - 1);
        Scale { mantissa: fraction | 1 << MANTISSA_BITS, shift: EXPONENT_BIAS - exponent }
    }

    /// The scaled time, rounded half up; `None` if it does not fit.
    pub(crate) fn apply(self, ns: u64) -> Option<u64> {
        if self == Scale::IDENTITY || ns == 0 {
            return Some(ns);
        }
        // At most 64 + 53 bits.
        let product = u128::from(ns) * u128::from(self.mantissa);
        match self.shift {
            118.. => Some(0),
            0 => u64::try_from(product).ok(),
            shift @ 1.. => u64::try_from((product + (1 << (shift - 1))) >> shift).ok(),
            shift => {
                let factor = 1u128.checked_shl(shift.unsigned_abs())?;
                u64::try_from(product.checked_mul(factor)?).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_rounds_once() {
        let scale = |factor: f64, ns| Scale::new(factor).apply(ns);
        assert_eq!(scale(0.01, 37_274_000_000_000), Some(372_740_000_000));
        assert_eq!(scale(1.0, u64::MAX), Some(u64::MAX));
        assert_eq!(scale(0.5, 3), Some(2));
        assert_eq!(scale(1.0 / 3.0, 10), Some(3));
        assert_eq!(scale(8.0, 5), Some(40));
        assert_eq!(scale(1e30, 1), None);
        assert_eq!(scale(2.0, u64::MAX), None);
        assert_eq!(scale(1e-300, u64::MAX), Some(0));
        assert_eq!(scale(f64::INFINITY, 1), None);
        assert_eq!(scale(f64::MIN_POSITIVE / 4.0, u64::MAX), Some(0));
    }
}
