//! The longest sequence: a number of tokens, or as long as the pool holds.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest sequence that an engine accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MaxModelLen {
    /// As long as the model's context and the KV pool allow (vLLM's `--max-model-len auto`).
    Auto,
    /// So many tokens, prompt and output.
    Tokens(u32),
}

impl MaxModelLen {
    /// The number, if it is one.
    pub fn tokens(self) -> Option<u32> {
        match self {
            MaxModelLen::Auto => None,
            MaxModelLen::Tokens(tokens) => Some(tokens),
        }
    }
}

impl Serialize for MaxModelLen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            MaxModelLen::Auto => serializer.serialize_str("auto"),
            MaxModelLen::Tokens(tokens) => serializer.serialize_u32(*tokens),
        }
    }
}

impl<'de> Deserialize<'de> for MaxModelLen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MaxModelLen, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl de::Visitor<'_> for Reader {
    type Value = MaxModelLen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of tokens, or `auto`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MaxModelLen, E> {
        if text == "auto" { Ok(MaxModelLen::Auto) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
    }

    fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<MaxModelLen, E> {
        u32::try_from(tokens)
            .map(MaxModelLen::Tokens)
            .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(tokens), &self))
    }

    fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<MaxModelLen, E> {
        u64::try_from(tokens)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(tokens), &self))
            .and_then(|tokens| self.visit_u64(tokens))
    }
}

impl JsonSchema for MaxModelLen {
    fn schema_name() -> Cow<'static, str> {
        "MaxModelLen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 2, "maximum": u32::MAX, "description": "Tokens, prompt and output" },
            { "const": "auto", "description": "As long as the model's context and the KV pool allow" },
        ] })
    }
}
