//! A byte-level tokenizer: enough to talk to a model whose words mean nothing, or that was trained on bytes.
//!
//! | ids | text |
//! |---|---|
//! | 0 to 255 | the byte |
//! | 256, 257, 258 | begin of text, end of text, end of a turn: no text |
//! | above | ` ⁇`, so that every token of a larger vocabulary shows |

/// Begins a conversation.
pub(super) const BEGIN: u32 = 256;
/// Ends an answer.
pub(super) const END: u32 = 257;
/// Ends a message of a conversation.
pub(super) const END_OF_TURN: u32 = 258;
/// Tokens that have a meaning here: a model's vocabulary is at least so large.
pub(super) const VOCAB_MIN: u32 = 259;

/// Text of a token without one.
const UNKNOWN: &str = " ⁇";

/// The tokens of a text: its bytes.
pub(super) fn encode(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// The tokens of a conversation, given as roles and texts, up to where the answer begins.
pub(super) fn encode_chat<'a>(messages: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u32> {
    let mut tokens = vec![BEGIN];
    for (role, text) in messages {
        tokens.extend(encode(&format!("<|{role}|>\n{text}")));
        tokens.push(END_OF_TURN);
    }
    tokens.extend(encode("<|assistant|>\n"));
    tokens
}

/// Makes text of tokens as they come. A character shows with its last byte; bytes that are no UTF-8 show as `�`.
#[derive(Clone, Default, Debug)]
pub(super) struct Decoder {
    /// Bytes of a character that is not complete.
    held: Vec<u8>,
}

impl Decoder {
    /// The text that a token adds.
    pub(super) fn push(&mut self, token: u32) -> String {
        if let Ok(byte) = u8::try_from(token) {
            self.held.push(byte);
            return self.take(false);
        }
        let mut text = self.take(true);
        if token >= VOCAB_MIN {
            text.push_str(UNKNOWN);
        }
        text
    }

    /// The text of what is held back, at the end.
    pub(super) fn finish(&mut self) -> String {
        self.take(true)
    }

    /// What of the held bytes is text by now; at the `end` all of it.
    fn take(&mut self, end: bool) -> String {
        let keep = match std::str::from_utf8(&self.held) {
            Err(error) if error.error_len().is_none() && !end => self.held.len() - error.valid_up_to(),
            _ => 0,
        };
        let rest = self.held.split_off(self.held.len() - keep);
        let whole = std::mem::replace(&mut self.held, rest);
        String::from_utf8_lossy(&whole).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(tokens: &[u32]) -> Vec<String> {
        let mut decoder = Decoder::default();
        let mut texts: Vec<_> = tokens.iter().map(|&token| decoder.push(token)).collect();
        texts.push(decoder.finish());
        texts
    }

    #[test]
    fn text_survives_the_round_trip() {
        for text in ["", "plain", "größer, 7 € and 🦀"] {
            assert_eq!(decoded(&encode(text)).concat(), text);
        }
    }

    #[test]
    fn a_character_shows_with_its_last_byte() {
        assert_eq!(decoded(&encode("a€")), ["a", "", "", "€", ""]);
        assert_eq!(decoded(&[0xE2, 0x82]), ["", "", "\u{FFFD}"], "cut short");
        assert_eq!(decoded(&[0xE2, u32::from(b'x')]).concat(), "\u{FFFD}x", "never completed");
        assert_eq!(decoded(&[0xFF]).concat(), "\u{FFFD}", "no first byte");
    }

    #[test]
    fn tokens_beyond_the_bytes_show_or_not() {
        assert_eq!(decoded(&[BEGIN, END, END_OF_TURN]).concat(), "");
        assert_eq!(decoded(&[VOCAB_MIN, 31_999]).concat(), " ⁇ ⁇");
        assert_eq!(decoded(&[0xE2, 400]).concat(), "\u{FFFD} ⁇");
    }

    #[test]
    fn a_conversation_is_marked_by_tokens_that_no_text_holds() {
        let tokens = encode_chat([("user", "hi")]);
        assert_eq!((tokens[0], tokens.iter().filter(|&&token| token == END_OF_TURN).count()), (BEGIN, 1));
        assert!(tokens.ends_with(&encode("<|assistant|>\n")));
    }
}
