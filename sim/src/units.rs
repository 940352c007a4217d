//! Quantities as a user writes them: a number and a unit, always both (`250ms`, `80GiB`, `700W`, `30/s`).
//!
//! Reading is strict: no bare numbers, no unknown units, nothing negative, nothing out of range. Writing takes the
//! shortest form that reads back as the very same value.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::time::Span;

/// Requests per second [1/s].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate(pub f64);

/// A length of time, exact to the nanosecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Duration(pub Span);

/// An amount of memory [bytes].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bytes(pub u64);

/// Data moved per time [bytes/s].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bandwidth(pub f64);

/// Power [W].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Watts(pub f64);

/// Floating-point operations per second [FLOP/s].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Flops(pub f64);

/// Why a text is not the quantity that is wanted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuantityError {
    /// A number alone.
    #[error("`{text}` needs a unit, e.g. {example}")]
    NoUnit {
        /// What was written.
        text: String,
        /// A quantity of the wanted kind.
        example: &'static str,
    },
    /// No number in front.
    #[error("`{text}` is not a {noun}; write a number and a unit, e.g. {example}")]
    NotANumber {
        /// What was written.
        text: String,
        /// The kind of quantity wanted.
        noun: &'static str,
        /// A quantity of the wanted kind.
        example: &'static str,
    },
    /// A unit that this kind of quantity does not have.
    #[error("unknown unit `{unit}` for a {noun}; expected one of {allowed}{hint}")]
    UnknownUnit {
        /// The unit that was written.
        unit: String,
        /// The kind of quantity wanted.
        noun: &'static str,
        /// The units there are.
        allowed: String,
        /// `; did you mean …?`, or nothing.
        hint: String,
    },
    /// A minus sign in front.
    #[error("`{text}` is negative; a {noun} is not")]
    Negative {
        /// What was written.
        text: String,
        /// The kind of quantity wanted.
        noun: &'static str,
    },
    /// Too large to represent, or so small that it would become zero.
    #[error("`{text}` is out of range for a {noun} ({limit})")]
    OutOfRange {
        /// What was written.
        text: String,
        /// The kind of quantity wanted.
        noun: &'static str,
        /// The limit that it breaks.
        limit: &'static str,
    },
}

/// A unit: its name and its size in base units, `num / den`.
struct Unit {
    name: &'static str,
    num: u64,
    den: u64,
}

const fn unit(name: &'static str, num: u64) -> Unit {
    Unit { name, num, den: 1 }
}

/// What the six kinds of quantity differ in.
struct QuantityKind {
    noun: &'static str,
    example: &'static str,
    /// The first is the base unit; the canonical form prefers the earlier one of two equally short ones.
    units: &'static [Unit],
}

const RATE: QuantityKind = QuantityKind {
    noun: "rate",
    example: "30/s",
    units: &[unit("/s", 1), Unit { name: "/min", num: 1, den: 60 }, Unit { name: "/h", num: 1, den: 3600 }],
};

const DURATION: QuantityKind = QuantityKind {
    noun: "duration",
    example: "250ms",
    units: &[
        unit("ns", 1),
        unit("us", 1_000),
        unit("µs", 1_000),
        unit("ms", 1_000_000),
        unit("s", 1_000_000_000),
        unit("min", 60_000_000_000),
        unit("h", 3_600_000_000_000),
        unit("d", 86_400_000_000_000),
    ],
};

const BYTES: QuantityKind = QuantityKind {
    noun: "size",
    example: "80GiB",
    units: &[
        unit("B", 1),
        unit("KiB", 1 << 10),
        unit("MiB", 1 << 20),
        unit("GiB", 1 << 30),
        unit("TiB", 1 << 40),
        unit("kB", 1_000),
        unit("MB", 1_000_000),
        unit("GB", 1_000_000_000),
        unit("TB", 1_000_000_000_000),
    ],
};

const BANDWIDTH: QuantityKind = QuantityKind {
    noun: "bandwidth",
    example: "450GB/s",
    units: &[
        unit("B/s", 1),
        unit("kB/s", 1_000),
        unit("MB/s", 1_000_000),
        unit("GB/s", 1_000_000_000),
        unit("TB/s", 1_000_000_000_000),
        unit("KiB/s", 1 << 10),
        unit("MiB/s", 1 << 20),
        unit("GiB/s", 1 << 30),
        unit("TiB/s", 1 << 40),
        unit("Gbit/s", 125_000_000),
    ],
};

const WATTS: QuantityKind =
    QuantityKind { noun: "power", example: "700W", units: &[unit("W", 1), unit("kW", 1_000), unit("MW", 1_000_000)] };

const FLOPS: QuantityKind = QuantityKind {
    noun: "compute rate",
    example: "989TFLOP/s",
    units: &[
        unit("FLOP/s", 1),
        unit("GFLOP/s", 1_000_000_000),
        unit("TFLOP/s", 1_000_000_000_000),
        unit("PFLOP/s", 1_000_000_000_000_000),
    ],
};

impl QuantityKind {
    /// Splits `12.5 GiB` into its number and its unit.
    fn split<'t>(&self, text: &'t str) -> Result<(&'t str, &Unit), QuantityError> {
        let trimmed = text.trim();
        let not_a_number =
            || QuantityError::NotANumber { text: text.to_owned(), noun: self.noun, example: self.example };
        if let Some(rest) = trimmed.strip_prefix('-') {
            let negative = rest.starts_with(|c: char| c.is_ascii_digit());
            let error = QuantityError::Negative { text: text.to_owned(), noun: self.noun };
            return Err(if negative { error } else { not_a_number() });
        }
        let length = number_length(trimmed).ok_or_else(not_a_number)?;
        let (number, name) = trimmed.split_at(length);
        let name = name.trim_start();
        if name.is_empty() {
            return Err(QuantityError::NoUnit { text: text.to_owned(), example: self.example });
        }
        let unit = self.units.iter().find(|unit| unit.name == name).ok_or_else(|| self.unknown(name))?;
        Ok((number, unit))
    }

    fn unknown(&self, name: &str) -> QuantityError {
        let allowed: Vec<&str> = self.units.iter().map(|unit| unit.name).collect();
        let near = self.units.iter().find(|unit| unit.name.eq_ignore_ascii_case(name));
        QuantityError::UnknownUnit {
            unit: name.to_owned(),
            noun: self.noun,
            allowed: allowed.join(", "),
            hint: near.map_or_else(String::new, |unit| format!("; did you mean `{}`?", unit.name)),
        }
    }

    fn out_of_range(&self, text: &str, limit: &'static str) -> QuantityError {
        QuantityError::OutOfRange { text: text.to_owned(), noun: self.noun, limit }
    }

    /// Reads a whole number of base units, rounding to the nearest.
    fn parse_whole(&self, text: &str) -> Result<u64, QuantityError> {
        let (number, unit) = self.split(text)?;
        let too_large = || self.out_of_range(text, "too large");
        let (mantissa, exponent) = decimal(number).ok_or_else(too_large)?;
        let scaled = mantissa.checked_mul(u128::from(unit.num)).ok_or_else(too_large)?;
        let whole = if exponent >= 0 {
            10u128.checked_pow(exponent.unsigned_abs()).and_then(|power| scaled.checked_mul(power))
        } else {
            let power = 10u128.checked_pow(exponent.unsigned_abs());
            Some(power.map_or(0, |power| scaled / power + u128::from(scaled % power >= power.div_ceil(2))))
        };
        let whole = if mantissa == 0 { Some(0) } else { whole };
        let whole = whole.and_then(|whole| u64::try_from(whole).ok()).ok_or_else(too_large)?;
        if whole == 0 && mantissa != 0 {
            return Err(self.out_of_range(text, "too small: it rounds to zero"));
        }
        Ok(whole)
    }

    /// Reads a real number of base units.
    fn parse_real(&self, text: &str) -> Result<f64, QuantityError> {
        let (number, unit) = self.split(text)?;
        let number: f64 = number.parse().map_err(|_| self.out_of_range(text, "not a number"))?;
        let value = number * unit.num as f64 / unit.den as f64;
        if value.is_finite() { Ok(value) } else { Err(self.out_of_range(text, "too large")) }
    }

    /// The shortest exact text of a whole number of base units, without leading `0.`.
    fn format_whole(&self, value: u64) -> String {
        let candidates = self.units.iter().filter_map(|unit| {
            let (whole, rest) = (value / unit.num, u128::from(value % unit.num));
            let exact = whole > 0 && rest * 1000 % u128::from(unit.num) == 0;
            let fraction = format!("{:03}", rest * 1000 / u128::from(unit.num));
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            exact.then(|| format!("{whole}{point}{fraction}{}", unit.name))
        });
        shortest(candidates).unwrap_or_else(|| format!("0{}", self.zero_unit()))
    }

    /// The shortest exact text of a real number of base units, without leading `0.` where that is possible.
    fn format_real(&self, value: f64) -> String {
        let base = format!("{value}{}", self.units[0].name);
        let candidates = self.units.iter().filter_map(|unit| {
            let number = value * unit.den as f64 / unit.num as f64;
            let text = format!("{number}{}", unit.name);
            (number >= 1.0 && self.parse_real(&text) == Ok(value)).then_some(text)
        });
        shortest(candidates).unwrap_or(base)
    }

    fn zero_unit(&self) -> &'static str {
        if self.noun == DURATION.noun { "s" } else { self.units[0].name }
    }

    /// Regular expression of a valid text, for the JSON Schema.
    fn pattern(&self) -> String {
        let names: Vec<&str> = self.units.iter().map(|unit| unit.name).collect();
        format!(r"^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\s*({})$", names.join("|"))
    }
}

/// The first of the shortest; a text without a fraction beats one of the same length with it.
fn shortest(candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates.min_by_key(|text| (text.chars().count(), text.contains('.')))
}

/// Length of the leading decimal number (`12`, `1.5`, `2e-3`), if there is one.
fn number_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(0);
    if end == 0 {
        return None;
    }
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = bytes.get(end + 1 + sign..).map_or(0, |_| digits(end + 1 + sign));
        end += if exponent > 0 { 1 + sign + exponent } else { 0 };
    }
    Some(end)
}

/// A decimal number as (mantissa, power of ten); `None` if it has more digits than `u128`.
fn decimal(number: &str) -> Option<(u128, i32)> {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let mantissa = format!("{whole}{fraction}").parse().ok()?;
    let exponent: i32 = exponent.parse().ok()?;
    Some((mantissa, exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?))
}

macro_rules! quantity {
    ($name:ident, $kind:ident, $parse:ident, $format:ident, $wrap:expr, $unwrap:expr) => {
        impl FromStr for $name {
            type Err = QuantityError;
            fn from_str(text: &str) -> Result<Self, QuantityError> {
                $kind.$parse(text).map($wrap)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$kind.$format($unwrap(*self)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Reader(&$kind))?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": format!("A {} with its unit, e.g. {}", $kind.noun, $kind.example),
                    "pattern": $kind.pattern(),
                })
            }
        }
    };
}

quantity!(Rate, RATE, parse_real, format_real, Rate, |q: Rate| q.0);
quantity!(Duration, DURATION, parse_whole, format_whole, |ns| Duration(Span(ns)), |q: Duration| q.0.0);
quantity!(Bytes, BYTES, parse_whole, format_whole, Bytes, |q: Bytes| q.0);
quantity!(Bandwidth, BANDWIDTH, parse_real, format_real, Bandwidth, |q: Bandwidth| q.0);
quantity!(Watts, WATTS, parse_real, format_real, Watts, |q: Watts| q.0);
quantity!(Flops, FLOPS, parse_real, format_real, Flops, |q: Flops| q.0);

/// Takes the text of a quantity from a serde format, and says what is missing when it finds a bare number.
struct Reader(&'static QuantityKind);

impl de::Visitor<'_> for Reader {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} with its unit, e.g. {}", self.0.noun, self.0.example)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
        Err(E::custom(QuantityError::NoUnit { text: number.to_string(), example: self.0.example }))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};

    use serde::de::IntoDeserializer;
    use serde::de::value::{Error as ValueError, F64Deserializer, StrDeserializer};

    use super::*;

    fn error<T: FromStr<Err = QuantityError> + Debug>(text: &str) -> String {
        text.parse::<T>().expect_err(text).to_string()
    }

    #[test]
    fn reads_every_kind() {
        let ns = |text: &str| text.parse::<Duration>().expect(text).0.0;
        assert_eq!(
            [ns("250ms"), ns("2s"), ns("1.5h"), ns("3us"), ns("10ns"), ns("2d"), ns("5min")],
            [250_000_000, 2_000_000_000, 5_400_000_000_000, 3_000, 10, 172_800_000_000_000, 300_000_000_000]
        );
        assert_eq!("1.5/min".parse(), Ok(Rate(0.025)));
        assert_eq!("2/h".parse(), Ok(Rate(2.0 / 3600.0)));
        assert_eq!("80 GiB".parse(), Ok(Bytes(80 << 30)));
        assert_eq!("2GB".parse(), Ok(Bytes(2_000_000_000)));
        assert_eq!("450GB/s".parse(), Ok(Bandwidth(450e9)));
        assert_eq!("1.2kW".parse(), Ok(Watts(1200.0)));
        assert_eq!("989TFLOP/s".parse(), Ok(Flops(989e12)));
        assert_eq!("1e3ms".parse(), Ok(Duration(Span(1_000_000_000))));
    }

    #[test]
    fn refuses_what_is_not_a_quantity() {
        assert_eq!(error::<Duration>("250"), "`250` needs a unit, e.g. 250ms");
        assert!(error::<Duration>("-1s").contains("negative"));
        assert!(error::<Duration>("1e99s").contains("too large"));
        assert!(error::<Duration>("1e-99s").contains("rounds to zero"));
        assert!(error::<Duration>("0.1ns").contains("rounds to zero"));
        assert!(error::<Rate>("1e999/s").contains("too large"));
        for text in ["", "s", "NaN/s", "inf/s", "--1/s", ".5/s", "+1/s"] {
            assert!(error::<Rate>(text).contains("is not a rate"), "{text}");
        }
        assert_eq!(
            error::<Duration>("2sec"),
            "unknown unit `sec` for a duration; expected one of ns, us, µs, ms, s, min, h, d"
        );
        assert!(error::<Bytes>("80gib").ends_with("did you mean `GiB`?"));
        assert!(error::<Bytes>("80e").contains("unknown unit `e`"));
        assert!(error::<Bytes>("80.GiB").contains("unknown unit"));
    }

    #[test]
    fn bare_numbers_from_a_format_are_refused() {
        let bare: F64Deserializer<ValueError> = 30.0.into_deserializer();
        assert_eq!(Rate::deserialize(bare).expect_err("bare").to_string(), "`30` needs a unit, e.g. 30/s");
        let text: StrDeserializer<'_, ValueError> = "30/s".into_deserializer();
        assert_eq!(Rate::deserialize(text), Ok(Rate(30.0)));
    }

    fn round_trip<T: FromStr<Err = QuantityError> + Display + PartialEq + Debug>(value: T) -> String {
        let text = value.to_string();
        assert_eq!(text.parse(), Ok(value), "{text}");
        text
    }

    #[test]
    fn writes_the_shortest_exact_form() {
        let time = |ns| round_trip(Duration(Span(ns)));
        assert_eq!(
            [time(0), time(250_000_000), time(1_500_000_000), time(60_000_000_000), time(5_400_000_000_000)],
            ["0s", "250ms", "1.5s", "60s", "1.5h"]
        );
        assert_eq!(time(3_600_000_000_001), "3600000000001ns");
        assert_eq!(round_trip(Bytes(80 << 30)), "80GiB");
        assert_eq!(round_trip(Bytes(2_000_000_000)), "2GB");
        assert_eq!(round_trip(Bandwidth(3.35e12)), "3350GB/s");
        assert_eq!(round_trip(Watts(700.0)), "700W");
        assert_eq!(round_trip(Flops(989e12)), "989TFLOP/s");
        assert_eq!(round_trip(Rate(0.025)), "90/h");
        assert_eq!(round_trip(Rate(2.5)), "2.5/s");
        assert_eq!(round_trip(Rate(0.0)), "0/s");
    }

    #[test]
    fn any_value_round_trips() {
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        for shift in 0..20_000u32 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            round_trip(Duration(Span(x >> (shift % 64))));
            round_trip(Bytes(x >> (shift % 64)));
            round_trip(Rate(f64::from(x as u32) / 7919.0));
            round_trip(Bandwidth((x >> (shift % 64)) as f64 * 1.1));
        }
    }
}
