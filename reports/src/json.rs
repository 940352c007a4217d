//! JSON whose objects keep the order in which they were written.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// A JSON value. `serde_json::Value` would sort its keys, or not, by a feature that the whole workspace shares.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Int(u64),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Int(value) => serializer.serialize_u64(*value),
            Json::Float(value) => serializer.serialize_f64(*value),
            Json::Text(value) => serializer.serialize_str(value),
            Json::List(values) => serializer.collect_seq(values),
            Json::Object(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl From<Option<f64>> for Json {
    fn from(value: Option<f64>) -> Json {
        value.map_or(Json::Null, Json::Float)
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Json {
        Json::Int(value)
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Json {
        Json::Text(value.to_owned())
    }
}

/// An indented document with a newline at its end.
pub(crate) fn document(value: &impl Serialize) -> String {
    // Neither our maps (text keys) nor a String can make this fail.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// A document in one line, without a newline.
pub(crate) fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
