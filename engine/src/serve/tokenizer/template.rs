//! Chat templates: how a model wants a conversation to be written. Jinja, with what `transformers` gives templates, but for a
//! clock: the same conversation is the same prompt on every day.

use std::io;

use minijinja::value::{Value, merge_maps};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize as _;
use serde_json::Map;
use serde_json::ser::{Formatter, Serializer};

use super::Message;

/// Name under which the template is kept.
const NAME: &str = "chat";

/// A model's chat template.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    /// Special tokens by the names that templates know: `bos_token`, `eos_token`, …
    special: Vec<(String, String)>,
}

/// What a template says when it does not take the messages.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// JSON with Python's spaces.
struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.begin_array_value(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Python's `json.dumps` without ASCII escapes, as `transformers` has it.
fn tojson(value: &Value) -> Result<Value, Error> {
    let mut bytes = Vec::new();
    let told = |error: &dyn std::fmt::Display| Error::new(ErrorKind::BadSerialization, error.to_string());
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Python)).map_err(|error| told(&error))?;
    String::from_utf8(bytes).map(Value::from_safe_string).map_err(|error| told(&error))
}

/// `{% generation %}` marks what a model is trained on; it changes nothing of the text.
fn without_marks(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start..].find("%}").map(|length| start + length) else { break };
        let tag = &rest[start..end];
        let word = tag.trim_start_matches(['{', '%', '-', '+']).trim_end_matches(['-', '+']).trim();
        out.push_str(&rest[..start]);
        match word {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = &rest[end..];
    }
    out + rest
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// It is not Jinja, with the line.
    pub(super) fn parse(source: &str, special: Vec<(String, String)>) -> Result<Self, String> {
        let mut environment = Environment::new();
        // As `transformers` renders them.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", |value: Value| tojson(&value));
        environment.add_template_owned(NAME, without_marks(source)).map_err(|error| told(&error))?;
        Ok(Template { environment, special })
    }

    /// The conversation as text, up to where the answer begins.
    ///
    /// # Errors
    /// The template does not take it, in its words.
    pub(super) fn render(
        &self,
        messages: &[Message<'_>],
        variables: &Map<String, serde_json::Value>,
    ) -> Result<String, String> {
        let special: Value = self.special.iter().map(|(name, token)| (name.clone(), token.clone())).collect();
        let variables: Value =
            variables.iter().map(|(name, value)| (name.clone(), Value::from_serialize(value))).collect();
        let none = Value::from(());
        // What stands first counts: a request cannot give itself other special tokens.
        let given = merge_maps([special, variables]);
        let values = context! { messages, add_generation_prompt => true, tools => none, documents => none, ..given };
        let template = self.environment.get_template(NAME).map_err(|error| told(&error))?;
        template.render(values).map_err(|error| told(&error))
    }
}

/// An error's words, with its line.
fn told(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    error.line().map_or_else(|| what.clone(), |line| format!("{what} (line {line} of the chat template)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str, variables: &serde_json::Value) -> Result<String, String> {
        let template = Template::parse(source, vec![("bos_token".into(), "<s>".into())])?;
        let messages = [Message { role: "user", content: " größer < \"1\" ".into() }];
        template.render(&messages, variables.as_object().unwrap_or(&Map::new()))
    }

    #[test]
    fn templates_get_what_transformers_gives_them() {
        let none = serde_json::json!({});
        let same = |source: &str, want: &str| assert_eq!(rendered(source, &none).as_deref(), Ok(want), "{source}");
        same("{{ bos_token }}{{ messages[0].content.strip() }}", "<s>größer < \"1\"");
        same("{{ messages[0] | tojson }}", r#"{"role": "user", "content": " größer < \"1\" "}"#);
        same("{{ [1, 'a'] | tojson }}", r#"[1, "a"]"#);
        same("{% if tools is not none %}tools{% endif %}{{ documents is none }}", "True");
        same("a\n  {%- generation -%}  b  {%- endgeneration %}\nc{# generation #}", "abc");
        same("{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "13");
        same("{{ strftime_now is defined }}", "False");
        let thinking = "{% if enable_thinking is defined and not enable_thinking %}no{% endif %}";
        assert_eq!(rendered(thinking, &serde_json::json!({ "enable_thinking": false })).as_deref(), Ok("no"));
    }

    #[test]
    fn refusals_and_broken_templates_say_where() {
        let none = serde_json::json!({});
        let told = |source: &str| rendered(source, &none).expect_err(source);
        assert!(told("a\n{{ raise_exception('roles must alternate') }}").starts_with("roles must alternate (line 2"));
        assert!(told("a\n\n{% if %}").contains("(line 3 of the chat template)"));
    }
}
