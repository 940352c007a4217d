//! Typed access to the fields of a JSON object. `null` is the same as absent, as it is for OpenAI.

use serde_json::{Map, Value};

use crate::serve::error::{ApiError, cut};

/// A JSON object.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

/// A value in a message.
fn shown(value: &Value) -> String {
    match value {
        // What a list holds may be megabytes.
        Value::Array(items) if items.len() > 10 => format!("a list of {}", items.len()),
        Value::Object(entries) if entries.len() > 10 => format!("an object of {} fields", entries.len()),
        value => cut(&value.to_string()),
    }
}

fn wrong(name: &str, want: &str, got: &Value) -> ApiError {
    ApiError::field(name, format!("`{name}` must be {want}, got {}.", shown(got)))
}

impl<'a> Fields<'a> {
    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A field's value for a message.
    pub(super) fn shown(self, name: &str) -> String {
        self.0.get(name).map_or_else(|| "nothing".to_owned(), shown)
    }

    fn typed<T>(
        self,
        name: &str,
        want: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong(name, want, value))
    }

    pub(super) fn text(self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.typed(name, "a string", Value::as_str)
    }

    pub(super) fn flag(self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(super) fn real(self, name: &str) -> Result<Option<f64>, ApiError> {
        self.typed(name, "a number", Value::as_f64)
    }

    pub(super) fn whole(self, name: &str) -> Result<Option<i64>, ApiError> {
        self.typed(name, "an integer", Value::as_i64)
    }

    /// A number of tokens.
    pub(super) fn count(self, name: &str) -> Result<Option<u32>, ApiError> {
        self.typed(name, "a non-negative integer", token)
    }

    pub(super) fn object(self, name: &str) -> Result<Option<Fields<'a>>, ApiError> {
        self.typed(name, "an object", |value| value.as_object().map(Fields))
    }

    /// A string, or a list of them.
    pub(super) fn texts(self, name: &str) -> Result<Vec<String>, ApiError> {
        let read = |value: &Value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        Ok(self.typed(name, "a string or a list of strings", read)?.unwrap_or_default())
    }

    pub(super) fn tokens(self, name: &str) -> Result<Vec<u32>, ApiError> {
        let read = |value: &Value| value.as_array().and_then(|items| tokens(items));
        Ok(self.typed(name, "a list of token ids", read)?.unwrap_or_default())
    }
}

fn token(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|value| u32::try_from(value).ok())
}

/// Token ids, if all are some.
pub(super) fn tokens(items: &[Value]) -> Option<Vec<u32>> {
    items.iter().map(token).collect()
}
