//! The version of an engine, where its defaults depend on it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A version such as `0.14` or `0.10.1`; what stands behind the second number changes no default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineVersion {
    text: String,
    numbers: (u32, u32),
}

impl EngineVersion {
    /// Its first two numbers, for comparisons.
    pub fn numbers(&self) -> (u32, u32) {
        self.numbers
    }
}

impl std::str::FromStr for EngineVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<EngineVersion, String> {
        let mut parts = text.trim_start_matches('v').split('.');
        let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
        let numbers = number().zip(number()).ok_or_else(|| format!("`{text}` is no version; expected e.g. '0.14'"))?;
        Ok(EngineVersion { text: text.to_owned(), numbers })
    }
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for EngineVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for EngineVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EngineVersion, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl de::Visitor<'_> for Reader {
    type Value = EngineVersion;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 0.10 is the number 0.1 in YAML.
        f.write_str("a version in quotes, such as '0.14'")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<EngineVersion, E> {
        text.parse().map_err(E::custom)
    }
}

impl JsonSchema for EngineVersion {
    fn schema_name() -> Cow<'static, str> {
        "EngineVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A version in quotes, such as '0.14'",
            "pattern": "^v?[0-9]+\\.[0-9]+",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let numbers = |text: &str| text.parse::<EngineVersion>().expect(text).numbers();
        assert!(numbers("0.9.2") < numbers("v0.10.1.1") && numbers("0.14") == (0, 14));
        assert!("latest".parse::<EngineVersion>().is_err() && "1".parse::<EngineVersion>().is_err());
    }
}
