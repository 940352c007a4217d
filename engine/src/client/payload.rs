//! Requests as JSON, written before they are due.

use hyper::body::Bytes;
use overbook_sim::workload::arrival::Arrival;
use serde_json::{Map, Value, json};

use crate::prompt::prompt_tokens;

/// How a server is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asking {
    /// `/v1/completions` with token ids: prompts are as long as the workload says.
    Tokens,
    /// `/v1/completions` with text: about as long, by the server's own count.
    Text,
    /// `/v1/chat/completions` with text.
    Chat,
}

impl Asking {
    /// All ways, the most exact first.
    pub(super) const ALL: [Asking; 3] = [Asking::Tokens, Asking::Text, Asking::Chat];

    pub(super) fn path(self) -> &'static str {
        match self {
            Asking::Tokens | Asking::Text => "/v1/completions",
            Asking::Chat => "/v1/chat/completions",
        }
    }

    /// The way in words.
    pub fn describe(self) -> &'static str {
        match self {
            Asking::Tokens => "/v1/completions with token ids",
            Asking::Text => "/v1/completions with text; prompt lengths are the server's count",
            Asking::Chat => "/v1/chat/completions with text; prompt lengths are the server's count",
        }
    }
}

/// Words that most tokenizers have as one token, with the space before them.
const WORDS: [&str; 32] = [
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not", "he",
    "are", "this", "have", "from", "or", "had", "an", "they", "which", "one", "you", "were", "all", "her", "would",
];

/// What requests are made of, beside their arrivals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Payloads {
    pub(super) asking: Asking,
    pub(super) model: String,
    /// Token ids are below it.
    pub(super) vocab: u32,
    pub(super) seed: u64,
    /// What every request states beside that.
    pub(super) body: Map<String, Value>,
}

impl Payloads {
    /// The body of a request that shall get `wanted` tokens.
    pub(super) fn body(&self, arrival: &Arrival, number: u64, wanted: u32) -> Bytes {
        let mut tokens = prompt_tokens(arrival, number, self.seed, self.vocab);
        tokens.truncate(arrival.prompt_tokens as usize);
        let text = || tokens.iter().map(|&token| WORDS[token as usize % WORDS.len()]).collect::<Vec<_>>().join(" ");
        let mut body = json!({
            "model": self.model,
            "max_tokens": wanted,
            // The length is the workload's; what these two do not know, ignores them.
            "min_tokens": wanted,
            "ignore_eos": true,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        match self.asking {
            Asking::Tokens => body["prompt"] = json!(tokens),
            Asking::Text => body["prompt"] = json!(text()),
            Asking::Chat => body["messages"] = json!([{ "role": "user", "content": text() }]),
        }
        for (key, value) in &self.body {
            body[key] = value.clone();
        }
        body.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use overbook_sim::time::Time;

    use super::*;

    #[test]
    fn bodies_say_what_is_wanted() {
        let arrival = Arrival::new(Time::ZERO, 7, 3);
        let body = |asking, number| {
            let stated = json!({ "temperature": 0.7, "top_k": 40 });
            let body = stated.as_object().cloned().unwrap_or_default();
            let payloads = Payloads { asking, model: "m".into(), vocab: 50, seed: 1, body };
            serde_json::from_slice::<Value>(&payloads.body(&arrival, number, 3)).expect("JSON")
        };
        let tokens = body(Asking::Tokens, 0);
        assert_eq!(tokens["prompt"].as_array().map(Vec::len), Some(7));
        assert_eq!(
            (&tokens["max_tokens"], &tokens["min_tokens"], &tokens["stream"]),
            (&json!(3), &json!(3), &json!(true))
        );
        assert_eq!(
            (&tokens["temperature"], &tokens["top_k"], &tokens["top_p"]),
            (&json!(0.7), &json!(40), &Value::Null)
        );
        assert_ne!(tokens["prompt"], body(Asking::Tokens, 1)["prompt"], "no prefix is shared by accident");
        assert_eq!(tokens, body(Asking::Tokens, 0));
        assert_eq!(body(Asking::Text, 0)["prompt"].as_str().map(|text| text.split(' ').count()), Some(7));
        assert_eq!(body(Asking::Chat, 0)["messages"][0]["role"], "user");
    }
}
