//! The schema as a page: every setting with its type, default and meaning.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Every setting of scenario files as Markdown, made from the [schema](super::scenario_schema): a section for each kind of object, a table of its
/// keys; a list of the choices where one of several is meant.
pub fn scenario_reference() -> String {
    // The schema is this crate's own, so that it is JSON.
    let schema: Value = serde_json::from_str(&super::scenario_schema()).unwrap_or_default();
    let none = Map::new();
    let definitions = schema["definitions"].as_object().unwrap_or(&none);
    let page = Page { definitions };
    let mut text = "# Scenario reference\n\nEvery setting of a scenario file, written by `overbook schema --markdown` from the schema that files are checked \
         against. Keys in bold must be there. Names of kinds lead to their sections. [tour.md](tour.md#a-scenario-in-full) has a whole scenario, \
         [defaults.md](defaults.md) what a default that depends on engine or GPU comes to.\n\n## Scenario\n\n"
        .to_owned();
    page.keys(&mut text, &schema);
    for (name, definition) in definitions {
        if !is_word(definition) {
            let _ = write!(text, "\n## {name}\n\n");
            if let Some(about) = definition["description"].as_str() {
                let _ = write!(text, "{about}\n\n");
            }
            page.body(&mut text, definition);
        }
    }
    text
}

/// Whether a kind is a plain value, which tables name in place.
fn is_word(definition: &Value) -> bool {
    let plain = matches!(definition["type"].as_str(), Some("string" | "number" | "integer" | "boolean"));
    plain && definition["oneOf"].is_null()
}

struct Page<'a> {
    definitions: &'a Map<String, Value>,
}

impl Page<'_> {
    /// What a kind consists of.
    fn body(&self, text: &mut String, definition: &Value) {
        let choices = ["oneOf", "anyOf"].into_iter().find_map(|key| definition[key].as_array());
        if definition["properties"].is_object() {
            self.keys(text, definition);
        }
        for choice in choices.into_iter().flatten() {
            self.choice(text, choice);
        }
        if choices.is_none() && !definition["properties"].is_object() {
            let _ = writeln!(text, "{}", self.kind(definition));
        }
    }

    fn keys(&self, text: &mut String, object: &Value) {
        let required: Vec<&str> =
            object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        text.push_str("| key | kind | default | meaning |\n|---|---|---|---|\n");
        for (key, value) in object["properties"].as_object().into_iter().flatten() {
            let key = if required.contains(&key.as_str()) { format!("**`{key}`**") } else { format!("`{key}`") };
            let default = match &value["default"] {
                Value::Null => String::new(),
                Value::Object(fields) if !fields.is_empty() => "see there".to_owned(),
                default => format!("`{default}`"),
            };
            let meaning = cell(value["description"].as_str().unwrap_or_default());
            let _ = writeln!(text, "| {key} | {} | {} | {meaning} |", self.kind(value), cell(&default));
        }
    }

    /// One of several: a word, or a key with settings.
    fn choice(&self, text: &mut String, choice: &Value) {
        let about =
            choice["description"].as_str().map(|about| format!(": {}", about.replace("\n\n", " "))).unwrap_or_default();
        if let Some(word) = choice["const"].as_str() {
            let _ = writeln!(text, "* `{word}`{about}");
        } else if let Some(words) = choice["enum"].as_array() {
            let words: Vec<String> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
            let _ = writeln!(text, "* {}{about}", words.join(", "));
        } else if let Some(Value::Object(keys)) = choice.get("properties")
            && let Some((key, content)) = keys.iter().next()
            && keys.len() == 1
        {
            let inside = content["properties"].as_object();
            let kind = if inside.is_some() { String::new() } else { format!(" ({})", self.kind(content)) };
            let _ = writeln!(text, "* `{key}`{kind}{about}");
            let required: Vec<&str> =
                content["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for (inner, value) in inside.into_iter().flatten() {
                let mark = if required.contains(&inner.as_str()) { "**" } else { "" };
                let default = match &value["default"] {
                    Value::Null => String::new(),
                    default => format!(", by default `{default}`"),
                };
                let meaning = value["description"].as_str().unwrap_or_default().replace("\n\n", " ");
                let _ = writeln!(text, "  * {mark}`{inner}`{mark} ({}{default}): {meaning}", self.kind(value));
            }
        } else {
            let _ = writeln!(text, "* {}{about}", self.kind(choice));
        }
    }

    /// A kind in words.
    fn kind(&self, value: &Value) -> String {
        if let Some(reference) = value["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or(reference);
            return match self.definitions.get(name) {
                Some(word) if is_word(word) => words(word["description"].as_str().unwrap_or(name)),
                _ => format!("[{name}](#{})", name.to_lowercase()),
            };
        }
        let of =
            |key: &str| value[key].as_array().map(|list| list.iter().map(|one| self.kind(one)).collect::<Vec<_>>());
        if let Some(kinds) = of("allOf").or_else(|| of("anyOf")).or_else(|| of("oneOf")) {
            let kinds: Vec<String> = kinds.into_iter().filter(|kind| kind != "null").collect();
            return kinds.join(" or ");
        }
        let names = match &value["type"] {
            Value::String(name) => vec![name.as_str()],
            Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
            _ => Vec::new(),
        };
        if let Some(word) = value["const"].as_str() {
            return format!("`{word}`");
        }
        match names.as_slice() {
            ["array"] if value["items"].is_object() => format!("list of {}", self.kind(&value["items"])),
            ["array"] => "list".to_owned(),
            ["object"] if value["additionalProperties"].is_object() => {
                format!("map to {}", self.kind(&value["additionalProperties"]))
            }
            ["integer"] => format!("whole number{}", range(value)),
            ["number"] => format!("number{}", range(value)),
            ["string"] => "text".to_owned(),
            ["boolean"] => "true or false".to_owned(),
            [] => "any".to_owned(),
            names => names.join(" or "),
        }
    }
}

/// The range of a number, where the schema states more than its sign.
fn range(value: &Value) -> String {
    let low = value["minimum"].as_f64().filter(|low| *low != 0.0);
    match (low, value["maximum"].as_f64()) {
        (Some(low), Some(high)) => format!(", {low} to {high}"),
        (Some(low), None) => format!(" from {low}"),
        (None, Some(high)) => format!(" up to {high}"),
        (None, None) => String::new(),
    }
}

/// A description inside of a sentence.
fn words(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next().map(|letter| letter.to_lowercase().to_string()).unwrap_or_default();
    cell(&(first + letters.as_str()))
}

/// Text inside a table.
fn cell(text: &str) -> String {
    text.replace("\n\n", " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_schema_is_on_the_page_and_every_link_has_its_section() {
        let page = scenario_reference();
        let schema: Value = serde_json::from_str(&super::super::scenario_schema()).expect("JSON");
        let mut keys = 0;
        let mut open = vec![&schema];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    for key in
                        fields.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key)
                    {
                        assert!(page.contains(&format!("`{key}`")), "{key}");
                        keys += 1;
                    }
                    open.extend(fields.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(keys > 500, "{keys}");
        let sections: Vec<String> =
            page.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_lowercase).collect();
        for link in page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(sections.iter().any(|section| section == link), "{link}");
        }
    }
}
