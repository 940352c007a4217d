//! serde over the tree. Every error leaves with the path and span of the innermost node around it.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::scalar::{Scalar, resolve};
use super::{Detail, Entry, Error, Node, NodeKind};

mod absent;

use absent::{Absent, Hole};

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.kind {
            NodeKind::Scalar { text, plain } => match resolve(text, *plain) {
                Scalar::Null => visitor.visit_unit(),
                Scalar::Bool(value) => visitor.visit_bool(value),
                Scalar::Unsigned(value) => visitor.visit_u64(value).map_err(|error: Error| error.written(text)),
                Scalar::Signed(value) => visitor.visit_i64(value).map_err(|error: Error| error.written(text)),
                Scalar::Float(value) => visitor.visit_f64(value).map_err(|error: Error| error.written(text)),
                Scalar::Text(text) => visitor.visit_str(text),
            },
            NodeKind::List(items) => {
                let mut rest = Items(items.iter());
                let value = visitor.visit_seq(&mut rest)?;
                let (taken, found) = (items.len() - rest.0.len(), items.len());
                let surplus = || Error::custom(format!("expected a list of {taken}, found {found} items"));
                if taken == found { Ok(value) } else { Err(surplus()) }
            }
            NodeKind::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), current: None }),
            NodeKind::Hole => Hole.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.kind {
            NodeKind::Scalar { text, plain } if resolve(text, *plain) == Scalar::Null => visitor.visit_none(),
            NodeKind::Hole => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.kind {
            NodeKind::Hole => Hole.deserialize_struct(name, fields, visitor),
            // A list would be taken for the fields in order; a scenario names what it sets.
            NodeKind::List(_) => Err(Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let choices = Choices(variants);
        match &self.kind {
            NodeKind::Hole => Hole.deserialize_enum(name, variants, visitor),
            NodeKind::Scalar { text, plain } if resolve(text, *plain) == Scalar::Null => {
                Err(Error::invalid_type(Unexpected::Unit, &choices))
            }
            NodeKind::Scalar { text, .. } => visitor.visit_enum(Choice::Bare(text)),
            NodeKind::List(_) => Err(Error::invalid_type(Unexpected::Seq, &choices)),
            NodeKind::Map(entries) => match entries.as_slice() {
                [] => Err(Error::invalid_type(Unexpected::Map, &choices)),
                [entry] => visitor.visit_enum(Choice::Tagged(entry)),
                several => {
                    let keys: Vec<String> = several.iter().map(|entry| format!("`{}`", entry.key)).collect();
                    Err(Error::custom(format!("choose one: {} cannot be used together", keys.join(" and "))))
                }
            },
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.kind == NodeKind::Hole { Hole.deserialize_str(visitor) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.kind == NodeKind::Hole { Hole.deserialize_seq(visitor) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.kind == NodeKind::Hole { Hole.deserialize_map(visitor) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.kind == NodeKind::Hole { Hole.deserialize_bool(visitor) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.kind == NodeKind::Hole { Hole.deserialize_u64(visitor) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // A float takes a whole number too, so the hole's 1 will do.
        self.deserialize_u64(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

/// The names that an enum allows, as serde's "expected".
struct Choices(&'static [&'static str]);

impl Expected for Choices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "one of `{}`", self.0.join("`, `"))
    }
}

struct Items<'n>(std::slice::Iter<'n, Node>);

impl<'de> de::SeqAccess<'de> for &mut Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(item) = self.0.next() else { return Ok(None) };
        seed.deserialize(item).map(Some).map_err(|error| error.at(&item.path, item.span))
    }
}

struct Entries<'n> {
    rest: std::slice::Iter<'n, Entry>,
    current: Option<&'n Entry>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(entry) = self.rest.next() else { return Ok(None) };
        self.current = Some(entry);
        let key: StrDeserializer<'_, Error> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| at_key(error, entry))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let entry = self.current.ok_or_else(|| Error::custom("a value was read before its key"))?;
        seed.deserialize(&entry.value).map_err(|error| at_value(error, entry))
    }
}

fn at_key(error: Error, entry: &Entry) -> Error {
    error.at(&entry.value.path, entry.key_span)
}

/// What is missing inside a value is shown at its key, what is wrong with it at the value.
fn at_value(error: Error, entry: &Entry) -> Error {
    let missing = matches!((&error.detail, &entry.value.kind), (Detail::Missing(_), NodeKind::Map(_)));
    error.at(&entry.value.path, if missing { entry.key_span } else { entry.value.span })
}

/// A variant: its name alone, or `{ name: content }`.
enum Choice<'n> {
    Bare(&'n str),
    Tagged(&'n Entry),
}

impl<'de> de::EnumAccess<'de> for Choice<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let name = match &self {
            Choice::Bare(name) => name,
            Choice::Tagged(entry) => entry.key.as_str(),
        };
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        let variant = seed.deserialize(name).map_err(|error| match &self {
            Choice::Bare(_) => error,
            Choice::Tagged(entry) => at_key(error, entry),
        })?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for Choice<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        let Choice::Tagged(entry) = self else { return Ok(()) };
        let empty = match &entry.value.kind {
            NodeKind::Map(entries) => entries.is_empty(),
            NodeKind::Scalar { text, plain } => resolve(text, *plain) == Scalar::Null,
            _ => false,
        };
        let error = || at_value(Error::custom(format!("`{}` takes no settings", entry.key)), entry);
        if empty { Ok(()) } else { Err(error()) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        match self {
            Choice::Bare(name) => seed.deserialize(Absent(name)),
            Choice::Tagged(entry) => seed.deserialize(&entry.value).map_err(|error| at_value(error, entry)),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        match self {
            Choice::Bare(name) => Absent(name).deserialize_any(visitor),
            Choice::Tagged(entry) => entry.value.deserialize_seq(visitor).map_err(|error| at_value(error, entry)),
        }
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        match self {
            Choice::Bare(name) => Absent(name).deserialize_struct("", fields, visitor),
            Choice::Tagged(entry) => {
                entry.value.deserialize_struct("", fields, visitor).map_err(|error| at_value(error, entry))
            }
        }
    }
}
