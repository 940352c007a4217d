//! Between text and tokens: a model's own `tokenizer.json`, or bytes.

mod bytes;
mod file;
mod template;

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use file::{Window, Words};

/// Makes tokens of text and text of tokens.
#[derive(Debug)]
pub struct Tokenizer {
    kind: Vocabulary,
    /// Tokens that end an answer.
    ends: Vec<u32>,
}

#[derive(Debug)]
enum Vocabulary {
    Bytes,
    Words(Box<Words>),
}

/// A tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct TokenizerError {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

impl Tokenizer {
    /// Bytes as tokens: enough to talk to a model whose words mean nothing, or that was trained on bytes.
    pub fn bytes() -> Self {
        Tokenizer { kind: Vocabulary::Bytes, ends: vec![bytes::END] }
    }

    /// The same text, other tokens that end an answer; none given, none changed.
    #[must_use]
    pub fn ending(mut self, ends: &[u32]) -> Self {
        if !ends.is_empty() {
            ends.clone_into(&mut self.ends);
        }
        self
    }

    /// The tokenizer in a model's folder: `tokenizer.json`, with the chat template and special tokens of `tokenizer_config.json`
    /// (or `chat_template.jinja`). Its own end of text ends answers, and so do the end tokens of `generation_config.json`, or
    /// else `ends`. `None` if the folder has no `tokenizer.json`.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it should be; the tokenizer has more tokens than the model.
    pub fn load(folder: &Path, vocab: usize, ends: &[u32]) -> Result<Option<Self>, TokenizerError> {
        let Some(words) = Words::load(folder, vocab)? else { return Ok(None) };
        let others = file::ends(folder)?.unwrap_or_else(|| ends.to_vec());
        let mut ends: Vec<u32> = words.end().into_iter().collect();
        ends.extend(others.into_iter().filter(|token| words.end() != Some(*token)));
        Ok(Some(Tokenizer { kind: Vocabulary::Words(Box::new(words)), ends }))
    }

    /// What is wrong with the model's chat template, if it cannot be used: conversations are refused then.
    pub fn broken_template(&self) -> Option<&str> {
        self.words().and_then(Words::broken_template)
    }

    /// Size of the vocabulary that a model needs at least.
    pub fn vocab_min(&self) -> u32 {
        match &self.kind {
            Vocabulary::Bytes => bytes::VOCAB_MIN,
            Vocabulary::Words(words) => words.vocab(),
        }
    }

    /// Tokens that end an answer, the end of text first.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The tokens of a prompt, with those that the tokenizer puts around it.
    ///
    /// # Errors
    /// The text cannot fit into `most` tokens, or the tokenizer refuses it, in its words.
    pub fn encode(&self, text: &str, most: u32) -> Result<Vec<u32>, String> {
        self.fits(text, most)?;
        match &self.kind {
            Vocabulary::Bytes => Ok(bytes::encode(text)),
            Vocabulary::Words(words) => words.encode(text, true),
        }
    }

    /// The tokens of a conversation up to where the answer begins. `variables` are the template's own, such as `enable_thinking`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; the model has no chat template, or its template refuses the messages, in its words.
    pub fn encode_chat(
        &self,
        messages: &[Message<'_>],
        variables: &Map<String, Value>,
        most: u32,
    ) -> Result<Vec<u32>, String> {
        match &self.kind {
            Vocabulary::Bytes => {
                messages.iter().try_for_each(|message| self.fits(&message.content, most))?;
                Ok(bytes::encode_chat(messages.iter().map(|message| (message.role, message.content.as_str()))))
            }
            Vocabulary::Words(words) => {
                let text = words.render(messages, variables)?;
                self.fits(&text, most)?;
                // The template has written the special tokens itself.
                words.encode(&text, false)
            }
        }
    }

    /// Megabytes that can never fit are not worth the time that it takes to cut them up.
    fn fits(&self, text: &str, most: u32) -> Result<(), String> {
        let longest = self.words().map_or(1, Words::longest);
        if text.len() / ROOM <= most as usize * longest {
            return Ok(());
        }
        Err(format!("{} bytes of text are far more than {most} tokens, the longest sequence here.", text.len()))
    }
}

/// Text this many times longer than the longest tokens is not even tried: a tokenizer may leave out some of it.
const ROOM: usize = 4;

/// A message of a conversation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Message<'a> {
    /// Its author: `user`, `assistant`, `system`, …
    pub role: &'a str,
    /// Its text.
    pub content: String,
}

/// Makes text of the tokens of an answer as they come. A character shows when it is complete; what is none shows as `�`.
#[derive(Debug)]
pub struct Decoder(State);

#[derive(Debug)]
enum State {
    Bytes(bytes::Decoder),
    Words(Arc<Tokenizer>, Window),
}

impl Decoder {
    /// Of a new answer to a prompt: the text of its first token depends on what is before it.
    pub fn new(tokenizer: &Arc<Tokenizer>, prompt: &[u32]) -> Self {
        Decoder(match tokenizer.kind {
            Vocabulary::Bytes => State::Bytes(bytes::Decoder::default()),
            Vocabulary::Words(_) => State::Words(Arc::clone(tokenizer), Window::behind(prompt)),
        })
    }

    /// The text that a token adds.
    pub fn push(&mut self, token: u32) -> String {
        match &mut self.0 {
            State::Bytes(decoder) => decoder.push(token),
            State::Words(tokenizer, window) => {
                tokenizer.words().map_or_else(String::new, |words| window.push(words, token))
            }
        }
    }

    /// The text of what is held back, at the end.
    pub fn finish(&mut self) -> String {
        match &mut self.0 {
            State::Bytes(decoder) => decoder.finish(),
            State::Words(tokenizer, window) => tokenizer.words().map_or_else(String::new, |words| window.finish(words)),
        }
    }
}

impl Tokenizer {
    fn words(&self) -> Option<&Words> {
        match &self.kind {
            Vocabulary::Bytes => None,
            Vocabulary::Words(words) => Some(words),
        }
    }
}
