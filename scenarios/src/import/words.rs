//! Commands that start a server, taken apart: words of a shell, flags and their values.

/// Why a command gives no scenario.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// A quote is not closed.
    #[error("the command ends inside a quote")]
    Quote,
    /// Not a command that starts a vLLM server.
    #[error(
        "not a vLLM server: expected `vllm serve MODEL …` or `python -m vllm.entrypoints.openai.api_server --model MODEL …`"
    )]
    NotVllm,
    /// Not a command that starts an SGLang server.
    #[error("not an SGLang server: expected `python -m sglang.launch_server --model-path MODEL …` or `sglang serve …`")]
    NotSglang,
    /// A word holds a variable, which the shell would have filled in.
    #[error(
        "`{0}` is a variable of the shell: put its value there, or let the shell do it with double quotes around the command"
    )]
    Variable(String),
    /// The beginning of several flags.
    #[error("`{flag}` could be {candidates}")]
    Ambiguous {
        /// What is written.
        flag: String,
        /// The flags.
        candidates: String,
    },
    /// No model is named.
    #[error("the command names no model")]
    NoModel,
    /// The model is not in the catalog.
    #[error("the catalog has no model `{model}`; {suggestion}; of another model, import its config.json")]
    Model {
        /// The model.
        model: String,
        /// `did you mean …?`, or all names.
        suggestion: String,
    },
    /// A flag needs a value, or has one that cannot be read.
    #[error("`{flag}`: {message}")]
    Value {
        /// The flag.
        flag: String,
        /// What is wrong.
        message: String,
    },
    /// A flag asks for what is not modelled, and leaving it out would change the result.
    #[error("`{flag}` is not modelled: {what}")]
    NotModelled {
        /// The flag.
        flag: String,
        /// What is missing.
        what: String,
    },
}

/// Flags with their values, and the words that are neither.
pub(super) type Arguments = (Vec<(String, Option<String>)>, Vec<String>);

/// The flags of a server, in their long form.
pub(super) struct Grammar {
    /// Those without a value.
    pub(super) switches: &'static [&'static str],
    /// Those with a value that mean something here.
    pub(super) valued: &'static [&'static str],
    /// Those that change neither schedule nor time.
    pub(super) harmless: &'static [&'static str],
    /// The long form of a flag.
    pub(super) canonical: fn(&str) -> String,
}

impl Grammar {
    /// The flags of a command with their values, and its words that are neither; `--flag value` and `--flag=value`.
    pub(super) fn flags(&self, words: &[String]) -> Result<Arguments, CommandError> {
        if let Some(word) = words.iter().find(|word| word.contains('$')) {
            return Err(CommandError::Variable(word.clone()));
        }
        let (mut flags, mut bare) = (Vec::new(), Vec::new());
        let mut rest = words.iter().map(String::as_str).peekable();
        while let Some(word) = rest.next() {
            if !word.starts_with('-') {
                bare.push(word.to_owned());
                continue;
            }
            let (flag, mut value) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (word, None),
            };
            let flag = self.whole((self.canonical)(flag))?;
            if value.is_none()
                && !self.switches.contains(&flag.as_str())
                && rest.peek().is_some_and(|next| is_value(next))
            {
                value = rest.next();
            }
            flags.push((flag, value.map(str::to_owned)));
        }
        Ok((flags, bare))
    }

    /// The flag that a word is the beginning of, as Python's argparse takes it; the word itself if there is none.
    fn whole(&self, word: String) -> Result<String, CommandError> {
        let known = || self.switches.iter().chain(self.valued).chain(self.harmless).copied();
        if known().any(|flag| flag == word) {
            return Ok(word);
        }
        let begun: Vec<&str> =
            if word.len() > 4 { known().filter(|flag| flag.starts_with(&word)).collect() } else { Vec::new() };
        match begun.as_slice() {
            [] => Ok(word),
            [flag] => Ok((*flag).to_owned()),
            several => Err(CommandError::Ambiguous { flag: word, candidates: several.join(" or ") }),
        }
    }
}

/// Whether a word can be the value of the flag before it: anything but a flag; negative numbers are values.
fn is_value(word: &str) -> bool {
    !word.starts_with('-') || word.parse::<f64>().is_ok()
}

pub(super) fn wrong(flag: &str, message: &str) -> CommandError {
    CommandError::Value { flag: flag.to_owned(), message: message.to_owned() }
}

/// A whole number as vLLM reads it: `8192`, `8k` (8000), `8K` (8192), `1.5k`, and so with m, M.
pub(super) fn count(flag: &str, text: &str) -> Result<u64, CommandError> {
    let (digits, unit) = match text.chars().last() {
        Some('k') => (&text[..text.len() - 1], 1e3),
        Some('K') => (&text[..text.len() - 1], 1024.0),
        Some('m') => (&text[..text.len() - 1], 1e6),
        Some('M') => (&text[..text.len() - 1], 1_048_576.0),
        _ => (text, 1.0),
    };
    let number = digits.parse::<f64>().ok().map(|number| number * unit);
    let whole = number.filter(|number| number.fract() == 0.0 && (0.0..=4_294_967_295.0).contains(number));
    whole.map(|number| number as u64).ok_or_else(|| wrong(flag, &format!("`{text}` is not a whole number")))
}

/// A share, such as that of the memory.
pub(super) fn share(flag: &str, text: &str) -> Result<f64, CommandError> {
    text.parse().map_err(|_| wrong(flag, &format!("`{text}` is not a number")))
}

/// Splits a command as a POSIX shell does: blanks, quotes, backslashes (also at line ends). Nothing is expanded.
pub(super) fn shell_words(command: &str) -> Result<Vec<String>, CommandError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(CommandError::Quote);
    }
    words.extend(word);
    Ok(words)
}
