//! What can be wrong with a document, kept apart from how it is printed.

use std::fmt::{self, Display};

use serde::de;

use super::Span;
use crate::nearest::nearest;

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Detail {
    /// Printed as is.
    Message(String),
    /// A key that does not belong here.
    UnknownKey {
        /// The key.
        key: String,
        /// The keys there are.
        expected: Vec<&'static str>,
    },
    /// A name that is none of the allowed ones.
    UnknownName {
        /// The name.
        name: String,
        /// The names there are.
        expected: Vec<&'static str>,
    },
    /// A value of another kind.
    WrongKind {
        /// What is wanted, in words.
        expected: String,
        /// What is there: in words, or as it is written.
        found: String,
    },
    /// A required key is not there.
    Missing(&'static str),
}

impl Detail {
    /// What may help, if anything.
    pub fn help(&self) -> Option<String> {
        match self {
            // What is a number to YAML, and was meant as text.
            Detail::WrongKind { expected, found } if expected.contains("in quotes") => {
                let written = found.strip_prefix('`')?.strip_suffix('`')?;
                Some(format!("write it in quotes: '{written}'"))
            }
            Detail::Message(_) | Detail::WrongKind { .. } | Detail::Missing(_) => None,
            Detail::UnknownKey { key: name, expected } | Detail::UnknownName { name, expected } => {
                match nearest(name, expected.iter().copied()) {
                    Some(near) => Some(format!("did you mean `{near}`?")),
                    None if expected.is_empty() => Some("no keys are allowed here".to_owned()),
                    None => Some(format!("expected one of {}", list(expected))),
                }
            }
        }
    }
}

/// `a`, `b`, `c`
fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

impl Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Detail::Message(message) => f.write_str(message),
            Detail::UnknownKey { key, .. } => write!(f, "unknown key `{key}`"),
            Detail::UnknownName { name, .. } => write!(f, "unknown name `{name}`"),
            Detail::WrongKind { expected, found } => write!(f, "expected {expected}, found {found}"),
            Detail::Missing(key) => write!(f, "missing key `{key}`"),
        }
    }
}

/// Something wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is wrong.
    pub detail: Detail,
    /// Dotted path of the node it is about.
    pub path: String,
    /// Where that stands.
    pub span: Span,
}

impl Fault {
    /// A fault that no node carries.
    pub fn new(detail: Detail, span: Span) -> Fault {
        Fault { detail, path: String::new(), span }
    }
}

/// A decoding error on its way up to the node it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// What is wrong.
    pub detail: Detail,
    /// Path and span of the innermost node around the error, once known.
    pub place: Option<(String, Span)>,
}

impl Error {
    /// Gives the error a place unless it has a more exact one.
    #[must_use]
    pub fn at(mut self, path: &str, span: Span) -> Error {
        self.place.get_or_insert_with(|| (path.to_owned(), span));
        self
    }

    /// Quotes a number as it is written: `0.10` is the number 0.1, and nobody finds that.
    #[must_use]
    pub fn written(mut self, text: &str) -> Error {
        if let (Detail::WrongKind { found, .. }, None) = (&mut self.detail, &self.place) {
            *found = format!("`{text}`");
        }
        self
    }
}

impl From<Detail> for Error {
    fn from(detail: Detail) -> Error {
        Error { detail, place: None }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.detail.fmt(f)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Error {
        Detail::Message(message.to_string()).into()
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Error {
        Detail::WrongKind { expected: plain_words(expected), found: found_words(found) }.into()
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Error {
        <Error as de::Error>::invalid_type(found, expected)
    }

    fn unknown_variant(name: &str, expected: &'static [&'static str]) -> Error {
        Detail::UnknownName { name: name.to_owned(), expected: expected.to_vec() }.into()
    }

    fn unknown_field(key: &str, expected: &'static [&'static str]) -> Error {
        Detail::UnknownKey { key: key.to_owned(), expected: expected.to_vec() }.into()
    }

    fn missing_field(key: &'static str) -> Error {
        Detail::Missing(key).into()
    }
}

/// Rust's names of types in a user's words.
fn plain_words(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        _ if text.starts_with("struct ") => "a mapping of settings".to_owned(),
        _ => text,
    }
}

fn found_words(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Bool(value) => format!("`{value}`"),
        de::Unexpected::Unsigned(value) => format!("`{value}`"),
        de::Unexpected::Signed(value) => format!("`{value}`"),
        de::Unexpected::Float(value) => format!("`{value}`"),
        de::Unexpected::Str(text) => format!("text `{text}`"),
        de::Unexpected::Unit | de::Unexpected::Option => "nothing".to_owned(),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}
