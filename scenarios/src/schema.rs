//! The JSON Schema of scenario files, for editors.

mod reference;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Map, Value, json};

use crate::scenario::Scenario;

pub use reference::scenario_reference;

/// JSON Schema (draft 7) of scenario files; `scenario.schema.json` is this text.
pub fn scenario_schema() -> String {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Scenario>();
    let definitions = schema.get("definitions").and_then(Value::as_object).cloned().unwrap_or_default();
    BareNames { definitions }.transform(&mut schema);
    Unwrapped.transform(&mut schema);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// Joins the lines of a paragraph, so that wrapping a doc comment anew does not change the schema.
struct Unwrapped;

impl Transform for Unwrapped {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            let paragraphs: Vec<String> = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
            *text = paragraphs.join("\n\n");
        }
        transform_subschemas(self, schema);
    }
}

/// Allows a variant whose settings all have defaults to be written as its name alone (`scheduler: vllm`).
struct BareNames {
    definitions: Map<String, Value>,
}

impl Transform for BareNames {
    fn transform(&mut self, schema: &mut Schema) {
        let variants = schema.get("oneOf").and_then(Value::as_array);
        let bare: Vec<Value> = variants.into_iter().flatten().filter_map(|variant| self.bare_name(variant)).collect();
        if let Some(variants) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
            variants.extend(bare);
        }
        transform_subschemas(self, schema);
    }
}

impl BareNames {
    fn bare_name(&self, variant: &Value) -> Option<Value> {
        let [name] = variant.get("required")?.as_array()?.as_slice() else { return None };
        let content = variant.get("properties")?.get(name.as_str()?)?;
        let content = match content.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.definitions.get(reference.strip_prefix("#/definitions/")?)?,
            None => content,
        };
        let settings = content.get("type").and_then(Value::as_str) == Some("object");
        let optional = content.get("required").is_none();
        let description = variant.get("description").cloned().unwrap_or_default();
        (settings && optional).then(|| json!({ "description": description, "const": name }))
    }
}
