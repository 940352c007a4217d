//! Prompts: text, token ids, or messages.

use serde_json::Value;

use super::fields::{Fields, tokens};
use crate::serve::error::{ApiError, cut};
use crate::serve::tokenizer::{Message, Tokenizer};

/// The `prompt` of a completion: a string, token ids, or a list with one of these.
pub(super) fn completion(fields: Fields<'_>, tokenizer: &Tokenizer, longest: u32) -> Result<Vec<u32>, ApiError> {
    let Some(mut prompt) = fields.get("prompt") else {
        return Err(ApiError::field("prompt", "`prompt` is missing."));
    };
    if let Value::Array(items) = prompt
        && matches!(items.first(), Some(Value::String(_) | Value::Array(_)))
    {
        if items.len() > 1 {
            let message = format!("`prompt` has {} prompts; send one per request.", items.len());
            return Err(ApiError::field("prompt", message));
        }
        prompt = &items[0];
    }
    let read = match prompt {
        Value::String(text) => Some(tokenizer.encode(text, longest).map_err(|what| ApiError::field("prompt", what))?),
        Value::Array(items) => tokens(items),
        _ => None,
    };
    read.ok_or_else(|| {
        let message = format!("`prompt` must be a string or a list of token ids, got {}.", fields.shown("prompt"));
        ApiError::field("prompt", message)
    })
}

/// The `messages` of a conversation.
pub(super) fn chat(fields: Fields<'_>, tokenizer: &Tokenizer, longest: u32) -> Result<Vec<u32>, ApiError> {
    let messages = fields.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty());
    let Some(messages) = messages else {
        return Err(ApiError::field("messages", "`messages` must be a list of at least one message."));
    };
    let mut texts = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let wrong = |what: &str| ApiError::field("messages", format!("`messages[{index}]` {what}."));
        let role = message["role"].as_str().ok_or_else(|| wrong("has no `role`"))?;
        if !["system", "developer", "user", "assistant", "tool"].contains(&role) {
            return Err(wrong(&format!("has the unknown role `{}`", cut(role))));
        }
        if message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) {
            return Err(wrong("has `tool_calls`, and this server knows no tools"));
        }
        let content = match &message["content"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Array(parts) => parts
                .iter()
                .map(|part| part["text"].as_str())
                .collect::<Option<Vec<&str>>>()
                // As vLLM joins them for templates that take texts.
                .map(|texts| texts.join("\n"))
                .ok_or_else(|| wrong("has content that is not text; this server takes text only"))?,
            _ => return Err(wrong("has a `content` that is neither a string nor a list of text parts")),
        };
        texts.push(Message { role, content });
    }
    let variables = fields.object("chat_template_kwargs")?.map(|fields| fields.0.clone()).unwrap_or_default();
    tokenizer.encode_chat(&texts, &variables, longest).map_err(|what| ApiError::field("messages", what))
}
