//! Prices as a user writes them: dollars and what they are for, always both.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What an hour of a GPU costs [USD]. Written `2.5/gpu-h`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Price(pub f64);

/// What a kilowatt-hour costs [USD]. Written `0.09/kWh`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EnergyPrice(pub f64);

/// What anything here may cost [USD]: nobody means less or more.
const PRICES: std::ops::RangeInclusive<f64> = 0.001..=1e6;

/// Reads a price with its unit.
fn parse(text: &str, unit: &str, what: &str, example: &str) -> Result<f64, String> {
    let told = |why: &str| format!("`{text}` {why}; write dollars per {what}, e.g. {example}");
    let plain = text.trim().trim_start_matches('$');
    let Some(number) = plain.strip_suffix(unit) else { return Err(told("has no unit of a price")) };
    let value: f64 = number.trim().parse().map_err(|_| told("is not a price"))?;
    if PRICES.contains(&value) {
        Ok(value)
    } else {
        Err(told("is not a price from a tenth of a cent to a million dollars"))
    }
}

/// A price as it is written; a number alone is told what it lacks.
struct Written<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = String>> de::Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a price, e.g. {}", self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! price {
    ($type:ident, $unit:literal, $what:literal, $example:literal) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<$type, String> {
                parse(text, $unit, $what, $example).map($type)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&format!("{}{}", self.0, $unit))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                deserializer.deserialize_any(Written(std::marker::PhantomData, $example))
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": concat!(r"^\$?[0-9]*\.?[0-9]+", $unit, "$"),
                    "description": concat!("Dollars per ", $what, ", as ", $example)
                })
            }
        }
    };
}

price!(Price, "/gpu-h", "GPU and hour", "2.5/gpu-h");
price!(EnergyPrice, "/kWh", "kilowatt-hour", "0.09/kWh");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_has_a_unit_and_can_be_one() {
        assert_eq!("2.5/gpu-h".parse(), Ok(Price(2.5)));
        assert_eq!("$10/gpu-h".parse(), Ok(Price(10.0)));
        assert_eq!("0.09/kWh".parse(), Ok(EnergyPrice(0.09)));
        for wrong in
            ["2.5", "2.5/h", "-1/gpu-h", "0/gpu-h", "x/gpu-h", "inf/gpu-h", "1e9/gpu-h", "0.00001/gpu-h", "0.09/kWh"]
        {
            let told = wrong.parse::<Price>().expect_err(wrong);
            assert!(told.contains("2.5/gpu-h") && told.contains(wrong), "{told}");
        }
    }
}
