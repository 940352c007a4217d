//! Amounts in the dimension of a metric: `2s`, `30/s`, `0.95`, `5%`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use overbook_sim::units::{Duration, Rate};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::metric::Dimension;

/// A number with its dimension, in SI units.
#[derive(Clone, PartialEq, Debug)]
pub struct Amount {
    /// Seconds, 1/s or a plain number.
    pub value: f64,
    /// Its dimension.
    pub dimension: Dimension,
    /// Written in percent.
    pub percent: bool,
    text: String,
}

/// Not an amount of any dimension.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is neither a duration (250ms), a rate (30/s), a number (0.95) nor a percentage (5%)")]
pub struct NotAnAmount(String);

impl Amount {
    fn plain(value: f64) -> Amount {
        Amount { value, dimension: Dimension::Plain, percent: false, text: value.to_string() }
    }
}

impl FromStr for Amount {
    type Err = NotAnAmount;

    fn from_str(text: &str) -> Result<Amount, NotAnAmount> {
        let amount = |value, dimension, percent| Amount { value, dimension, percent, text: text.to_owned() };
        if let Ok(Duration(span)) = text.parse() {
            return Ok(amount(span.as_secs_f64(), Dimension::Time, false));
        }
        if let Ok(Rate(rate)) = text.parse() {
            return Ok(amount(rate, Dimension::Rate, false));
        }
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match percent.filter(|percent| percent.is_finite()) {
            Some(percent) => Ok(amount(percent / 100.0, Dimension::Plain, true)),
            None => Err(NotAnAmount(text.to_owned())),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.dimension == Dimension::Plain && !self.percent {
            serializer.serialize_f64(self.value)
        } else {
            serializer.serialize_str(&self.text)
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl de::Visitor<'_> for Reader {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a quantity (250ms, 30/s, 5%)")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Amount, E> {
        Ok(Amount::plain(value as f64))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Amount, E> {
        Ok(Amount::plain(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Amount, E> {
        if value.is_finite() { Ok(Amount::plain(value)) } else { Err(E::custom("must be a finite number")) }
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"],
            "description": "A figure in the metric's dimension: a duration (250ms), a rate (30/s), a number or a percentage (5%)",
        })
    }
}
