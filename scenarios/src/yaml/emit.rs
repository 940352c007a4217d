//! From JSON values to YAML text.

use std::fmt::Write as _;

use serde_json::Value;

use super::scalar::{Scalar, resolve};

/// Writes a value as block-style YAML that reads back as the same value; keys keep their order.
pub fn emit(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => block(&mut out, value, 0),
        scalar => out.push_str(&flow(scalar)),
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.extend(std::iter::repeat_n(' ', indent));
                out.push_str(&text(key));
                out.push(':');
                child(out, value, indent + 2);
            }
        }
        Value::Array(list) => {
            for value in list {
                out.extend(std::iter::repeat_n(' ', indent));
                out.push('-');
                child(out, value, indent + 2);
            }
        }
        scalar => out.push_str(&flow(scalar)),
    }
}

/// The value after `key:` or `-`: on the same line if it is a scalar or empty, else below.
fn child(out: &mut String, value: &Value, indent: usize) {
    let nested = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => list.iter().any(|item| item.is_object() || item.is_array()),
        _ => false,
    };
    if nested {
        out.push('\n');
        block(out, value, indent);
    } else {
        let _ = writeln!(out, " {}", flow(value));
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(_) => "{}".to_owned(),
        Value::String(string) => text(string),
        other => other.to_string(),
    }
}

/// A text, quoted unless it can only be read as that text.
fn text(string: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '%' | '+' | ' ' | '(' | ')' | '~');
    let plain = string.starts_with(|c: char| c.is_alphanumeric() || c == '/' || c == '.')
        && !string.ends_with(' ')
        && string != "..."
        && string.chars().all(safe)
        && resolve(string, true) == Scalar::Text(string);
    if plain { string.to_owned() } else { Value::String(string.to_owned()).to_string() }
}
