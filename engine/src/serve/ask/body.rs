//! The JSON of a body as a tree of bounded size.
//!
//! A value takes up to a hundred bytes in memory and two in a body, so what a client may send is counted in values.

use std::cell::Cell;
use std::fmt;

use axum::http::StatusCode;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::serve::error::ApiError;

/// Reads an object of at most so many values and keys.
///
/// # Errors
/// It is no JSON, no object, or has more of them.
pub(super) fn object(body: &[u8], most: usize) -> Result<Map<String, Value>, ApiError> {
    let budget = Budget { left: Cell::new(most), spent: Cell::new(false) };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = budget.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match read {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::bad("The body must be a JSON object.")),
        Err(_) if budget.spent.get() => {
            let message = format!("The body has more than {most} values and keys, the most that this server reads.");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Err(error) => Err(ApiError::bad(format!("The body is not JSON: {error}."))),
    }
}

/// Values and keys that may still come.
struct Budget {
    left: Cell<usize>,
    spent: Cell<bool>,
}

impl Budget {
    fn take<E: Error>(&self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| {
            self.spent.set(true);
            E::custom("too many values")
        })?;
        self.left.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &Budget {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        self.take()?;
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Budget {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.take()?;
            map.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(body: &str, most: usize) -> Option<u64> {
        object(body.as_bytes(), most).err().and_then(|error| error.body()["error"]["code"].as_u64())
    }

    #[test]
    fn the_tree_is_that_of_serde_json() {
        let body = json!({ "a": [1, -2, 3.5, null, true, "x\n\u{e4}"], "b": { "c": {} }, "d": u64::MAX, "e": 1e300 });
        assert_eq!(object(body.to_string().as_bytes(), 100), Ok(body.as_object().expect("an object").clone()));
        assert_eq!(object(br#"{"a": 1, "a": 2}"#, 5), Ok(json!({ "a": 2 }).as_object().expect("an object").clone()));
    }

    #[test]
    fn values_and_keys_are_counted_wherever_they_stand() {
        // The object, a key, the list and five items.
        let body = r#"{"x": [0, 0, 0, 0, 0]}"#;
        assert_eq!((status(body, 8), status(body, 7)), (None, Some(413)));
        // The object, a key, the list, and five times an object, a key and a value.
        let body = format!(r#"{{"x": [{}]}}"#, [r#"{"k": 1}"#; 5].join(","));
        assert_eq!((status(&body, 18), status(&body, 17)), (None, Some(413)));
        assert_eq!(status("{", 1), Some(400), "invalid JSON is reported, also at the end of the budget");
        assert_eq!(status("[1]", 9), Some(400));
        assert_eq!(status(r#"{"a": 1} x"#, 9), Some(400));
        assert_eq!(status(&"[".repeat(100_000), 1_000_000), Some(400), "deep");
    }
}
