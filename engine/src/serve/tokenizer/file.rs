//! A model's own tokenizer, from the files beside its weights.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::template::Template;
use super::{Message, TokenizerError};

/// Tokens without a settled text that are held back at most: a model may say nothing but halves of characters.
const HELD_MAX: usize = 16;

/// `tokenizer.json`, and the chat template.
#[derive(Debug)]
pub(super) struct Words {
    tokenizer: Tokenizer,
    vocab: u32,
    /// Bytes of its longest token.
    longest: usize,
    /// The end of text, if it has one.
    end: Option<u32>,
    /// A template that cannot be used is reported when it is asked for, and at the start.
    template: Option<Result<Template, String>>,
}

/// What is read of `tokenizer_config.json`.
#[derive(Deserialize, Default)]
struct Settings {
    chat_template: Option<Templates>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

/// What is read of `generation_config.json`.
#[derive(Deserialize)]
struct Generation {
    eos_token_id: Option<Ends>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ends {
    One(u32),
    Many(Vec<u32>),
}

fn failed(path: &Path, what: &impl ToString) -> TokenizerError {
    TokenizerError { path: path.display().to_string(), what: what.to_string() }
}

/// A file's text; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>, TokenizerError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

fn json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, TokenizerError> {
    let Some(text) = read(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| failed(path, &error))
}

/// The end tokens of `generation_config.json`, if it has some.
pub(super) fn ends(folder: &Path) -> Result<Option<Vec<u32>>, TokenizerError> {
    let ends = json::<Generation>(&folder.join("generation_config.json"))?.and_then(|file| file.eos_token_id);
    Ok(ends.map(|ends| match ends {
        Ends::One(token) => vec![token],
        Ends::Many(tokens) => tokens,
    }))
}

/// Special tokens by name: texts, or objects with a `content`.
fn special(settings: &Settings) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned);
    let tokens = settings.others.iter().filter(|(name, _)| name.ends_with("_token"));
    tokens.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

impl Words {
    /// Reads the files; `None` if there is no `tokenizer.json`.
    pub(super) fn load(folder: &Path, vocab: usize) -> Result<Option<Self>, TokenizerError> {
        let path = folder.join("tokenizer.json");
        let Some(text) = read(&path)? else { return Ok(None) };
        let mut tokenizer: Tokenizer = text.parse().map_err(|error| failed(&path, &error))?;
        // How a tokenizer was last used is saved with it; a server cuts no prompts, and fills none up.
        tokenizer.with_truncation(None).map_err(|error| failed(&path, &error))?.with_padding(None);
        let ids = tokenizer.get_vocab(true);
        let last = ids.values().copied().max().map_or(0, |last| last + 1);
        let longest = ids.keys().map(String::len).max().unwrap_or(1);
        if last as usize > vocab {
            return Err(failed(&path, &format!("it has tokens up to {}, the model only {vocab}", last - 1)));
        }
        let path = folder.join("tokenizer_config.json");
        let settings: Settings = json(&path)?.unwrap_or_default();
        let apart = folder.join("chat_template.jinja");
        let special = special(&settings);
        let (origin, source) = match (read(&apart)?, settings.chat_template) {
            (Some(source), _) => (apart, Some(source)),
            (None, Some(Templates::One(source))) => (path, Some(source)),
            (None, Some(Templates::Named(named))) => {
                let default = named.into_iter().find(|one| one.name == "default");
                (path, default.map(|one| one.template))
            }
            (None, None) => (path, None),
        };
        let end = special.iter().find(|(name, _)| name == "eos_token");
        let end = end.and_then(|(_, token)| tokenizer.token_to_id(token));
        let told = |error: String| format!("{}: `chat_template`: {error}", origin.display());
        let template = source.map(|source| Template::parse(&source, special).map_err(told));
        Ok(Some(Words { tokenizer, vocab: last, longest, end, template }))
    }

    pub(super) fn vocab(&self) -> u32 {
        self.vocab
    }

    pub(super) fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, special).map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    pub(super) fn end(&self) -> Option<u32> {
        self.end
    }

    pub(super) fn broken_template(&self) -> Option<&str> {
        self.template.as_ref()?.as_ref().err().map(String::as_str)
    }

    /// A conversation as the model wants it written.
    pub(super) fn render(&self, messages: &[Message<'_>], variables: &Map<String, Value>) -> Result<String, String> {
        match &self.template {
            None => Err("This model has no chat template; use /v1/completions.".to_owned()),
            Some(Err(broken)) => Err(format!("This model's chat template cannot be used: {broken}")),
            Some(Ok(template)) => template.render(messages, variables),
        }
    }

    /// The text of tokens; unknown ones have none.
    fn decode(&self, tokens: &[u32]) -> String {
        self.tokenizer.decode(tokens, true).unwrap_or_default()
    }
}

/// The last tokens of an answer: the text of a token depends on those before it, and may wait for those behind it.
#[derive(Debug)]
pub(super) struct Window {
    tokens: Vec<u32>,
    /// How many of them have been shown.
    shown: usize,
}

/// Tokens of a prompt that the text of an answer's first ones may depend on.
const BEFORE: usize = 8;

impl Window {
    /// Of an answer to a prompt.
    pub(super) fn behind(prompt: &[u32]) -> Self {
        let tokens = prompt[prompt.len().saturating_sub(BEFORE)..].to_vec();
        Window { shown: tokens.len(), tokens }
    }

    /// The text that a token adds.
    pub(super) fn push(&mut self, words: &Words, token: u32) -> String {
        self.tokens.push(token);
        let text = self.rest(words);
        let held = self.tokens.len() - self.shown;
        if held < HELD_MAX && (text.is_empty() || text.ends_with('\u{FFFD}')) {
            return String::new();
        }
        self.tokens.drain(..self.shown);
        self.shown = self.tokens.len();
        text
    }

    /// The text of what is held back.
    pub(super) fn finish(&mut self, words: &Words) -> String {
        let text = self.rest(words);
        self.tokens.clear();
        self.shown = 0;
        text
    }

    /// The text behind what has been shown.
    fn rest(&self, words: &Words) -> String {
        let (before, all) = (words.decode(&self.tokens[..self.shown]), words.decode(&self.tokens));
        match all.strip_prefix(&before) {
            Some(rest) => rest.to_owned(),
            // Cleaning up may have joined what was shown with what is new.
            None => words.decode(&self.tokens[self.shown..]),
        }
    }
}
