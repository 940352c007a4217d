//! Any number of bits a weight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bits of a weight on average, from 1 to 16, in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WeightBits(u16);

impl WeightBits {
    /// That many bits, to the thousandth; `None` below 1 and above 16.
    pub fn new(bits: f64) -> Option<WeightBits> {
        (1.0..=16.0).contains(&bits).then(|| WeightBits((bits * 1000.0).round() as u16))
    }

    /// In thousandths.
    pub(super) const fn millibits(self) -> u64 {
        self.0 as u64
    }

    /// As a number.
    pub fn get(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl Serialize for WeightBits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.get())
    }
}

impl<'de> Deserialize<'de> for WeightBits {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<WeightBits, D::Error> {
        let bits = f64::deserialize(deserializer)?;
        WeightBits::new(bits)
            .ok_or_else(|| serde::de::Error::custom(format!("{bits} bits a weight; from 1 to 16 can be")))
    }
}

impl JsonSchema for WeightBits {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WeightBits".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "minimum": 1, "maximum": 16 })
    }
}
