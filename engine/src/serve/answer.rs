//! The shapes of answers: OpenAI's objects, with vLLM's additions.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::ask::Endpoint;
use super::generation::{End, Piece};

/// What all chunks of an answer share.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) kind: Endpoint,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) prompt_tokens: u32,
    pub(super) include_usage: bool,
    pub(super) continuous_usage: bool,
}

fn finish(end: Option<&End>) -> (Value, Value) {
    match end {
        Some(End::Finished(reason, stop)) => (json!(reason.name()), json!(stop)),
        _ => (Value::Null, Value::Null),
    }
}

impl Answer {
    fn usage(&self, output: u32) -> Value {
        let total = self.prompt_tokens + output;
        json!({ "prompt_tokens": self.prompt_tokens, "total_tokens": total, "completion_tokens": output })
    }

    fn object(&self, object: &str, choices: Value) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".into(), json!(self.id));
        map.insert("object".into(), json!(object));
        map.insert("created".into(), json!(self.created));
        map.insert("model".into(), json!(self.model));
        map.insert("choices".into(), choices);
        map
    }

    fn event(&self, choices: Value, usage: Option<u32>) -> String {
        let object = match self.kind {
            Endpoint::Completion => "text_completion",
            Endpoint::Chat => "chat.completion.chunk",
        };
        let mut map = self.object(object, choices);
        if let Some(tokens) = usage {
            map.insert("usage".into(), self.usage(tokens));
        }
        format!("data: {}\n\n", Value::Object(map))
    }

    /// The events of a piece of a stream.
    pub(super) fn events(&self, piece: &Piece) -> String {
        if let Some(End::Failed(error)) = &piece.end {
            // No `[DONE]`: a client that looks for nothing else must not take the answer for whole.
            return format!("data: {}\n\n", error.body());
        }
        let usage = self.continuous_usage.then_some(piece.tokens);
        let (reason, stop) = finish(piece.end.as_ref());
        let mut out = String::new();
        let choice = match self.kind {
            Endpoint::Completion => json!({
                "index": 0, "text": piece.text, "logprobs": null, "finish_reason": reason, "stop_reason": stop
            }),
            Endpoint::Chat => {
                let role = json!([{ "index": 0, "delta": { "role": "assistant", "content": "" }, "logprobs": null,
                    "finish_reason": null }]);
                if piece.tokens == 1 {
                    out.push_str(&self.event(role, usage.map(|_| 0)));
                }
                json!({ "index": 0, "delta": { "content": piece.text }, "logprobs": null, "finish_reason": reason,
                    "stop_reason": stop })
            }
        };
        out.push_str(&self.event(json!([choice]), usage));
        if piece.end.is_some() {
            if self.include_usage {
                out.push_str(&self.event(json!([]), Some(piece.tokens)));
            }
            out.push_str("data: [DONE]\n\n");
        }
        out
    }

    /// The whole answer.
    pub(super) fn whole(&self, text: &str, last: &Piece) -> Response {
        let (reason, stop) = finish(last.end.as_ref());
        let (object, choice) = match self.kind {
            Endpoint::Completion => (
                "text_completion",
                json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": reason, "stop_reason": stop }),
            ),
            Endpoint::Chat => (
                "chat.completion",
                json!({ "index": 0, "message": { "role": "assistant", "content": text }, "logprobs": null,
                    "finish_reason": reason, "stop_reason": stop }),
            ),
        };
        let mut map = self.object(object, json!([choice]));
        map.insert("usage".into(), self.usage(last.tokens));
        json_response(&Value::Object(map))
    }
}

/// A JSON document.
pub(super) fn json_response(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], value.to_string()).into_response()
}
