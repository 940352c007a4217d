//! What a column of a Parquet file holds, and how its values read.

use std::borrow::Cow;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit as Unit, Type as Physical};
use parquet::schema::types::ColumnDescriptor;

use crate::datetime::nanoseconds_since_1970;
use crate::number::{self, BadNumber, TOKENS_MAX, TimeUnit};

/// What the bytes of a field mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ColumnKind {
    /// A signed integer, eight bytes.
    Whole,
    /// An unsigned integer, eight bytes.
    Unsigned,
    /// A floating point number, eight bytes.
    Real,
    /// A point in time since 1970 in units of `10^places` nanoseconds, eight bytes.
    Stamp {
        /// Powers of ten down to the nanosecond.
        places: u32,
    },
    /// A string.
    Words,
    /// Something that no column of a trace can be, in words.
    Other(&'static str),
}

impl ColumnKind {
    /// Name and kind of a column. Fields of a structure are named `outer.inner`, a list as a whole.
    pub(crate) fn of(column: &ColumnDescriptor) -> (String, ColumnKind) {
        let parts = column.path().parts();
        if column.max_rep_level() > 0 {
            return (parts.first().cloned().unwrap_or_default(), ColumnKind::Other("lists"));
        }
        (column.path().string(), ColumnKind::flat(column))
    }

    fn flat(column: &ColumnDescriptor) -> ColumnKind {
        let stamp = |unit: &Unit| match unit {
            Unit::MILLIS => ColumnKind::Stamp { places: 6 },
            Unit::MICROS => ColumnKind::Stamp { places: 3 },
            Unit::NANOS => ColumnKind::Stamp { places: 0 },
        };
        match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Timestamp(at)), _) => return stamp(&at.unit),
            (_, ConvertedType::TIMESTAMP_MILLIS) => return stamp(&Unit::MILLIS),
            (_, ConvertedType::TIMESTAMP_MICROS) => return stamp(&Unit::MICROS),
            (Some(LogicalType::Decimal(_)), _) | (_, ConvertedType::DECIMAL) => return ColumnKind::Other("decimals"),
            (Some(LogicalType::Date), _) | (_, ConvertedType::DATE) => {
                return ColumnKind::Other("dates without a time");
            }
            (Some(LogicalType::Time(_)), _) | (_, ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS) => {
                return ColumnKind::Other("times of day");
            }
            _ => {}
        }
        let unsigned = match column.logical_type_ref() {
            Some(LogicalType::Integer(integer)) => !integer.is_signed,
            _ => matches!(
                column.converted_type(),
                ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64
            ),
        };
        match column.physical_type() {
            Physical::INT32 | Physical::INT64 if unsigned => ColumnKind::Unsigned,
            Physical::INT32 | Physical::INT64 => ColumnKind::Whole,
            // The timestamps of old Spark and Impala.
            Physical::INT96 => ColumnKind::Stamp { places: 0 },
            Physical::FLOAT | Physical::DOUBLE => ColumnKind::Real,
            Physical::BYTE_ARRAY => ColumnKind::Words,
            Physical::BOOLEAN => ColumnKind::Other("booleans"),
            Physical::FIXED_LEN_BYTE_ARRAY => ColumnKind::Other("bytes of fixed length"),
        }
    }

    /// A point in time. A timestamp has a unit of its own; a float is as exact as its 53 bits.
    pub(crate) fn time(self, field: &[u8], unit: TimeUnit) -> Result<u64, BadNumber> {
        match (self, unit.places()) {
            (ColumnKind::Words, None) => nanoseconds_since_1970(field, unit.order()).ok_or(BadNumber::Malformed),
            (ColumnKind::Words, Some(places)) => number::scaled_nanoseconds(field, places),
            (ColumnKind::Stamp { places }, _) | (ColumnKind::Whole, Some(places)) => scaled(whole(field)?, places),
            (ColumnKind::Unsigned, Some(places)) => {
                u64::from_le_bytes(eight(field)?).checked_mul(10u64.pow(places)).ok_or(BadNumber::TooLarge)
            }
            (ColumnKind::Real, Some(places)) => real_nanoseconds(real(field)?, places),
            (ColumnKind::Whole | ColumnKind::Unsigned | ColumnKind::Real, None) | (ColumnKind::Other(_), _) => {
                Err(BadNumber::Malformed)
            }
        }
    }

    /// A number of tokens.
    pub(crate) fn tokens(self, field: &[u8]) -> Result<u32, BadNumber> {
        let bounded = |value: u64| match u32::try_from(value) {
            Ok(tokens @ ..=TOKENS_MAX) => Ok(tokens),
            _ => Err(BadNumber::TooLarge),
        };
        match self {
            ColumnKind::Whole => bounded(u64::try_from(whole(field)?).map_err(|_| BadNumber::Negative)?),
            ColumnKind::Unsigned => bounded(u64::from_le_bytes(eight(field)?)),
            ColumnKind::Real => match real(field)? {
                value if value.fract() != 0.0 || value.is_nan() => Err(BadNumber::Malformed),
                value if value < 0.0 => Err(BadNumber::Negative),
                value => bounded(value as u64),
            },
            ColumnKind::Words => number::tokens(field),
            ColumnKind::Stamp { .. } | ColumnKind::Other(_) => Err(BadNumber::Malformed),
        }
    }

    /// The field as a person would write it (a string that is null as an empty one); `None` if a string is not UTF-8.
    pub(crate) fn text(self, field: &[u8]) -> Option<Cow<'_, str>> {
        match (self, eight(field)) {
            (ColumnKind::Whole | ColumnKind::Stamp { .. }, Ok(bytes)) => {
                Some(i64::from_le_bytes(bytes).to_string().into())
            }
            (ColumnKind::Unsigned, Ok(bytes)) => Some(u64::from_le_bytes(bytes).to_string().into()),
            (ColumnKind::Real, Ok(bytes)) => Some(f64::from_le_bytes(bytes).to_string().into()),
            (ColumnKind::Words, _) => std::str::from_utf8(field).ok().map(Cow::Borrowed),
            _ => Some(Cow::Borrowed("null")),
        }
    }
}

/// Null has no bytes.
fn eight(field: &[u8]) -> Result<[u8; 8], BadNumber> {
    field.try_into().map_err(|_| BadNumber::Malformed)
}

fn whole(field: &[u8]) -> Result<i64, BadNumber> {
    eight(field).map(i64::from_le_bytes)
}

fn real(field: &[u8]) -> Result<f64, BadNumber> {
    eight(field).map(f64::from_le_bytes)
}

fn scaled(value: i64, places: u32) -> Result<u64, BadNumber> {
    let value = u64::try_from(value).map_err(|_| BadNumber::Negative)?;
    value.checked_mul(10u64.pow(places)).ok_or(BadNumber::TooLarge)
}

/// Whole part and fraction are scaled each on its own, so that nothing but the last bit of the float is lost.
fn real_nanoseconds(value: f64, places: u32) -> Result<u64, BadNumber> {
    if !value.is_finite() {
        return Err(BadNumber::Malformed);
    }
    if value < 0.0 {
        return Err(BadNumber::Negative);
    }
    let unit = 10u64.pow(places);
    let (whole, fraction) = (value.trunc(), value.fract());
    if whole >= u64::MAX as f64 {
        return Err(BadNumber::TooLarge);
    }
    let fraction = (fraction * unit as f64).round() as u64;
    (whole as u64).checked_mul(unit).and_then(|ns| ns.checked_add(fraction)).ok_or(BadNumber::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_nanoseconds() {
        let real = |value: f64, places| real_nanoseconds(value, places);
        assert_eq!(real(0.1, 9), Ok(100_000_000));
        assert_eq!(real(45.123_456_789, 9), Ok(45_123_456_789));
        assert_eq!(real(19_440_110.0, 9), Ok(19_440_110_000_000_000));
        assert_eq!(real(27.5, 6), Ok(27_500_000));
        assert_eq!(real(-0.0, 9), Ok(0));
        assert_eq!(real(-1.0, 9), Err(BadNumber::Negative));
        assert_eq!(real(f64::NAN, 9), Err(BadNumber::Malformed));
        assert_eq!(real(1e12, 9), Err(BadNumber::TooLarge));
        let stamp = |value: i64, places| ColumnKind::Stamp { places }.time(&value.to_le_bytes(), TimeUnit::S);
        assert_eq!(stamp(1_700_000_000_123, 6), Ok(1_700_000_000_123_000_000));
        assert_eq!(stamp(-1, 0), Err(BadNumber::Negative));
        assert_eq!(stamp(i64::MAX, 6), Err(BadNumber::TooLarge));
        assert_eq!(ColumnKind::Whole.time(&7i64.to_le_bytes(), TimeUnit::Datetime), Err(BadNumber::Malformed));
    }

    #[test]
    fn tokens_of_every_kind() {
        assert_eq!(ColumnKind::Whole.tokens(&472i64.to_le_bytes()), Ok(472));
        assert_eq!(ColumnKind::Whole.tokens(&(-1i64).to_le_bytes()), Err(BadNumber::Negative));
        assert_eq!(ColumnKind::Unsigned.tokens(&u64::MAX.to_le_bytes()), Err(BadNumber::TooLarge));
        assert_eq!(ColumnKind::Real.tokens(&472.0f64.to_le_bytes()), Ok(472));
        assert_eq!(ColumnKind::Real.tokens(&4.5f64.to_le_bytes()), Err(BadNumber::Malformed));
        assert_eq!(ColumnKind::Real.tokens(&f64::NAN.to_le_bytes()), Err(BadNumber::Malformed));
        assert_eq!(ColumnKind::Real.tokens(&f64::INFINITY.to_le_bytes()), Err(BadNumber::Malformed));
        assert_eq!(ColumnKind::Words.tokens(b"472.0"), Ok(472));
        assert_eq!(ColumnKind::Whole.tokens(b""), Err(BadNumber::Malformed));
    }
}
