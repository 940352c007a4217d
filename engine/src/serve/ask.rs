//! What a client asks for: the JSON of a request, checked field by field.
//!
//! Unknown fields are ignored, as vLLM does. Fields that are known to OpenAI or vLLM, change the answer, and are not
//! supported are refused unless they have the value that changes nothing.

mod body;
mod fields;
mod prompt;

use serde_json::{Value, json};

use super::error::ApiError;
use super::tokenizer::Tokenizer;
use fields::Fields;

/// The two ways to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Endpoint {
    /// `/v1/completions`.
    Completion,
    /// `/v1/chat/completions`.
    Chat,
}

/// A request.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Ask {
    pub(super) prompt: Vec<u32>,
    /// Output limit [tokens], at least 1; `None`: up to the longest sequence.
    pub(super) max_tokens: Option<u32>,
    pub(super) min_tokens: u32,
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) top_k: u32,
    pub(super) seed: Option<u64>,
    /// Texts that end the answer and do not show.
    pub(super) stop: Vec<String>,
    /// Tokens that end the answer.
    pub(super) stop_tokens: Vec<u32>,
    pub(super) ignore_eos: bool,
    pub(super) priority: i32,
    pub(super) stream: bool,
    /// Streams: a last chunk with the usage, and the usage so far in every chunk.
    pub(super) include_usage: bool,
    pub(super) continuous_usage: bool,
}

/// Values and keys of a body beside the tokens of a prompt. A conversation has some three for each message and key.
const VALUES_MAX: usize = 1 << 16;
/// Stop texts of a request: all are looked for at every token. OpenAI takes 4, vLLM any number.
const STOPS_MAX: usize = 64;
/// Longest of them [bytes]: so much of an answer is held back for it.
const STOP_MAX: usize = 1024;
/// Stop tokens of a request: each token is compared with all.
const STOP_TOKENS_MAX: usize = 1024;

/// What a field must be to change nothing.
fn refused(kind: Endpoint) -> [(&'static str, Vec<Value>); 41] {
    [
        ("n", vec![json!(1)]),
        ("best_of", vec![json!(1)]),
        ("echo", vec![json!(false)]),
        ("logprobs", vec![json!(false)]),
        ("top_logprobs", vec![json!(0)]),
        ("prompt_logprobs", vec![]),
        ("suffix", vec![json!("")]),
        ("presence_penalty", vec![json!(0), json!(0.0)]),
        ("frequency_penalty", vec![json!(0), json!(0.0)]),
        ("repetition_penalty", vec![json!(1), json!(1.0)]),
        ("min_p", vec![json!(0), json!(0.0)]),
        ("logit_bias", vec![json!({})]),
        ("tools", vec![json!([])]),
        ("tool_choice", vec![json!("none"), json!("auto")]),
        ("function_call", vec![json!("none"), json!("auto")]),
        ("response_format", vec![json!({ "type": "text" })]),
        ("structured_outputs", vec![]),
        ("guided_json", vec![]),
        ("guided_regex", vec![]),
        ("guided_choice", vec![]),
        ("guided_grammar", vec![]),
        ("functions", vec![json!([])]),
        ("documents", vec![json!([])]),
        ("chat_template", vec![]),
        // Completions get the tokens around a text, conversations those that their template writes.
        ("add_special_tokens", vec![json!(kind == Endpoint::Completion)]),
        ("add_generation_prompt", vec![json!(true)]),
        ("continue_final_message", vec![json!(false)]),
        ("skip_special_tokens", vec![json!(true)]),
        ("spaces_between_special_tokens", vec![json!(true)]),
        ("include_stop_str_in_output", vec![json!(false)]),
        ("truncate_prompt_tokens", vec![]),
        ("bad_words", vec![json!([])]),
        ("allowed_token_ids", vec![]),
        ("use_beam_search", vec![json!(false)]),
        ("modalities", vec![json!(["text"])]),
        ("audio", vec![]),
        ("prompt_embeds", vec![]),
        ("return_token_ids", vec![json!(false)]),
        ("return_tokens_as_token_ids", vec![json!(false)]),
        ("web_search_options", vec![]),
        ("kv_transfer_params", vec![]),
    ]
}

impl Ask {
    /// Reads a request to the server of `model`, whose text is that of `tokenizer`, in sequences of `longest` tokens at most.
    ///
    /// # Errors
    /// It is no JSON object or one of too many values, a field has a wrong type or range, or asks for what is not supported.
    pub(super) fn read(
        kind: Endpoint,
        body: &[u8],
        model: &str,
        tokenizer: &Tokenizer,
        longest: u32,
    ) -> Result<Ask, ApiError> {
        let map = body::object(body, longest as usize + VALUES_MAX)?;
        let fields = Fields(&map);
        if let Some(asked) = fields.text("model")?.filter(|asked| *asked != model) {
            return Err(ApiError::no_model(asked, model));
        }
        for (name, neutral) in refused(kind) {
            if fields.get(name).is_some_and(|value| !neutral.contains(value)) {
                return Err(ApiError::field(name, format!("`{name}`: {} is not supported.", fields.shown(name))));
            }
        }
        let prompt = match kind {
            Endpoint::Completion => prompt::completion(fields, tokenizer, longest)?,
            Endpoint::Chat => prompt::chat(fields, tokenizer, longest)?,
        };
        if prompt.is_empty() {
            return Err(ApiError::field("prompt", "The prompt is empty; it needs at least one token."));
        }
        let limit = match fields.count("max_completion_tokens")? {
            None => fields.count("max_tokens")?,
            limit => limit,
        };
        let (default, least) = match kind {
            // OpenAI's default, which vLLM keeps.
            Endpoint::Completion => (Some(16), 1),
            Endpoint::Chat => (None, 1),
        };
        if limit.is_some_and(|limit| limit < least) {
            return Err(ApiError::field("max_tokens", format!("max_tokens must be at least {least}.")));
        }
        let options = fields.object("stream_options")?;
        let option = |name| options.as_ref().map_or(Ok(None), |options| options.flag(name));
        let ask = Ask {
            prompt,
            max_tokens: limit.or(default),
            min_tokens: fields.count("min_tokens")?.unwrap_or(0),
            temperature: fields.real("temperature")?.unwrap_or(1.0) as f32,
            top_p: fields.real("top_p")?.unwrap_or(1.0) as f32,
            // vLLM: -1 and 0 keep all.
            top_k: fields.whole("top_k")?.map_or(0, |k| k.max(0) as u32),
            seed: fields.whole("seed")?.map(|seed| seed as u64),
            stop: fields.texts("stop")?,
            stop_tokens: fields.tokens("stop_token_ids")?,
            ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
            priority: fields.whole("priority")?.unwrap_or(0).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32,
            stream: fields.flag("stream")?.unwrap_or(false),
            include_usage: option("include_usage")?.unwrap_or(false),
            continuous_usage: option("continuous_usage_stats")?.unwrap_or(false),
        };
        ask.check(fields)?;
        Ok(ask)
    }

    fn check(&self, fields: Fields<'_>) -> Result<(), ApiError> {
        let wrong = |name: &str, what: &str| {
            Err(ApiError::field(name, format!("{name} must be {what}, got {}.", fields.shown(name))))
        };
        if !(0.0..=f32::MAX).contains(&self.temperature) {
            return wrong("temperature", "non-negative");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p", "in (0, 1]");
        }
        if fields.whole("top_k")?.is_some_and(|k| k < -1) {
            return wrong("top_k", "-1 (all), 0 (all), or at least 1");
        }
        if self.stop.iter().any(String::is_empty) {
            return wrong("stop", "without empty strings");
        }
        if self.stop.len() > STOPS_MAX || self.stop.iter().any(|stop| stop.len() > STOP_MAX) {
            return wrong("stop", &format!("at most {STOPS_MAX} strings of at most {STOP_MAX} bytes"));
        }
        if self.stop_tokens.len() > STOP_TOKENS_MAX {
            return wrong("stop_token_ids", &format!("at most {STOP_TOKENS_MAX} token ids"));
        }
        if self.max_tokens.is_some_and(|most| self.min_tokens > most) {
            return wrong("min_tokens", "less than or equal to max_tokens");
        }
        if !self.stream && fields.get("stream_options").is_some() {
            return Err(ApiError::field("stream_options", "Stream options can only be defined when `stream=True`."));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
