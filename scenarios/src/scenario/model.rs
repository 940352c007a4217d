//! The model: by name or by shape.

use std::borrow::Cow;
use std::fmt;

use overbook_sim::hardware::model::ModelSpec;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};

/// The model: a name in the catalog, or its shape.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum ModelChoice {
    /// A name in the catalog.
    Named(String),
    /// A shape written in the scenario.
    Inline(Box<ModelSpec>),
}

impl<'de> Deserialize<'de> for ModelChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ModelChoice, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// Decides by what is written, so that errors inside the mapping keep their place (an untagged enum loses it).
struct Reader;

impl<'de> de::Visitor<'de> for Reader {
    type Value = ModelChoice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a model, or a mapping with its shape")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<ModelChoice, E> {
        Ok(ModelChoice::Named(name.to_owned()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ModelChoice, A::Error> {
        ModelSpec::deserialize(MapAccessDeserializer::new(map)).map(|spec| ModelChoice::Inline(Box::new(spec)))
    }
}

impl JsonSchema for ModelChoice {
    fn schema_name() -> Cow<'static, str> {
        "ModelChoice".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let shape = generator.subschema_for::<ModelSpec>();
        json_schema!({ "anyOf": [{ "type": "string", "description": "A name in the catalog" }, shape] })
    }
}
