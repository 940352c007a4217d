//! What the name of a column says about what it holds.

use super::sample::Sample;
use super::times;
use crate::number;

/// What a column may be taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Arrival,
    Prompt,
    Output,
    Session,
    Class,
}

/// Words that stand for a number of tokens beside the name of what is counted.
const TOKENS: &[&str] =
    &["tokens", "token", "toks", "tok", "length", "len", "lens", "count", "num", "n", "size", "lengths"];

/// Words of columns that a web server writes, with the sizes of its messages in bytes: only with a word for tokens are they lengths.
const OF_MESSAGES: &[&str] = &["request", "response"];

/// Words that say tokens and nothing else.
const TOKENS_ONLY: &[&str] = &["tokens", "token", "toks", "tok"];

/// Words of columns that count something else of a request, or part of it.
const OTHER: &[&str] = &[
    "cached",
    "cache",
    "cost",
    "costs",
    "price",
    "text",
    "id",
    "ids",
    "uuid",
    "max",
    "min",
    "limit",
    "details",
    "audio",
    "image",
    "images",
    "video",
    "hash",
    "per",
    "rate",
    "latency",
    "ms",
    "seconds",
    "duration",
    "creation",
    "read",
    "reasoning",
    "accepted",
    "rejected",
    "prediction",
    "bytes",
    "byte",
    "chars",
    "total",
    "avg",
    "mean",
    "cumulative",
    "unit",
    "std",
];

/// Words that only lengths of prompts have, and those of answers.
const OF_PROMPTS: &[&str] = &["prompt", "input", "prefill", "context", "isl"];
const OF_ANSWERS: &[&str] = &["completion", "output", "generated", "answer", "osl"];

/// Words of times that are not those of the arrival.
const LATER: &[&str] = &[
    "end",
    "ended",
    "finish",
    "finished",
    "complete",
    "completed",
    "completion",
    "done",
    "last",
    "first",
    "duration",
    "latency",
    "elapsed",
    "ttft",
    "tpot",
    "itl",
    "update",
    "updated",
    "modified",
    "expires",
    "ack",
    "zone",
    "timezone",
    "queue",
    "wait",
    "per",
    "think",
    "api",
    "count",
    "unit",
];

/// Words of the arrival, and how much they speak for it.
const ARRIVALS: &[(&str, u32)] = &[
    ("arrival", 10),
    ("arrived", 10),
    ("received", 9),
    ("start", 8),
    ("started", 8),
    ("timestamp", 7),
    ("ts", 7),
    ("datetime", 7),
    ("created", 6),
    ("when", 5),
    ("time", 4),
    ("date", 3),
    ("at", 2),
];

impl Role {
    pub(super) fn what(self) -> &'static str {
        match self {
            Role::Arrival => "arrival",
            Role::Prompt => "prompt tokens",
            Role::Output => "output tokens",
            Role::Session => "session",
            Role::Class => "class",
        }
    }

    /// The option of `overbook init` that names the column.
    pub(super) fn option(self) -> &'static str {
        match self {
            Role::Arrival => "--arrival",
            Role::Prompt => "--prompt",
            Role::Output => "--output",
            Role::Session => "--session",
            Role::Class => "--class",
        }
    }

    /// How much a name speaks for this, larger is better; `None` if it does not.
    pub(super) fn rank(self, name: &str) -> Option<u32> {
        let words = words(name);
        let has = |word: &str| words.iter().any(|found| found == word);
        let any = |list: &[&str]| list.iter().any(|word| has(word));
        match self {
            Role::Arrival => {
                if any(LATER) {
                    return None;
                }
                ARRIVALS.iter().filter(|(word, _)| has(word)).map(|(_, rank)| *rank).max()
            }
            Role::Prompt => {
                const NAMES: &[(&str, u32)] = &[
                    ("prompt", 10),
                    ("input", 9),
                    ("context", 8),
                    ("prefill", 8),
                    ("request", 6),
                    ("isl", 8),
                    ("in", 7),
                ];
                lengths(&words, NAMES, &["isl", "in", "input", "prompt"], OF_ANSWERS)
            }
            Role::Output => {
                const NAMES: &[(&str, u32)] = &[
                    ("completion", 10),
                    ("output", 9),
                    ("generated", 8),
                    ("generation", 7),
                    ("decode", 8),
                    ("response", 6),
                    ("answer", 6),
                    ("osl", 8),
                    ("out", 7),
                ];
                lengths(&words, NAMES, &["osl", "out", "output", "completion"], OF_PROMPTS)
            }
            Role::Session => {
                const NAMES: &[(&str, u32)] = &[("session", 10), ("conversation", 9), ("chat", 8), ("thread", 6)];
                let counts = ["num", "count", "type", "index", "start", "turn", "parent", "length", "tokens"];
                if any(&counts) {
                    return None;
                }
                NAMES.iter().filter(|(word, _)| has(word)).map(|(_, rank)| *rank).max()
            }
            Role::Class => {
                // Of a nested name only the last key: what is around it is no model.
                let last = self::words(name.rsplit('.').next().unwrap_or(name));
                let rest: Vec<&str> = last.iter().map(String::as_str).filter(|word| *word != "model").collect();
                match rest.as_slice() {
                    _ if !last.iter().any(|word| word == "model") => None,
                    [] => Some(10),
                    ["name"] => Some(9),
                    ["id"] => Some(8),
                    ["request"] => Some(7),
                    _ => None,
                }
            }
        }
    }

    /// Whether values can be what the name says.
    pub(super) fn fits(self, sample: &Sample) -> bool {
        match self {
            Role::Arrival | Role::Prompt | Role::Output => sample.mostly(|text| self.reads(text)),
            Role::Session | Role::Class => {
                !sample.texts().is_empty() && sample.texts().iter().all(|text| self.reads(text))
            }
        }
    }

    /// Whether a value can be what the name says.
    pub(super) fn reads(self, text: &str) -> bool {
        match self {
            Role::Arrival => times::is_time(text),
            Role::Prompt | Role::Output => number::tokens(text.as_bytes()).is_ok(),
            // A list or an object is neither the name of a model nor an id.
            Role::Session | Role::Class => !text.starts_with(['[', '{']),
        }
    }

    /// What such a value looks like.
    pub(super) fn wants(self) -> &'static str {
        match self {
            Role::Arrival => {
                "a time is a number, or a date such as 2026-03-02T09:00:05Z, 2026/03/02 09:00 or 28.11.2026 10:00:00"
            }
            Role::Prompt | Role::Output => "a number of tokens is whole and not negative, like 472",
            Role::Session | Role::Class => "a name or an id is no list and no object",
        }
    }

    /// Whether a name is that of a length in bytes as web servers write it, such as nginx's `request_length`.
    pub(super) fn may_be_bytes(self, name: &str) -> bool {
        let words = words(name);
        let has = |word: &str| words.iter().any(|found| found == word);
        let of = match self {
            Role::Prompt => "request",
            Role::Output => "response",
            Role::Arrival | Role::Session | Role::Class => return false,
        };
        let counted = TOKENS.iter().any(|word| has(word)) && !TOKENS_ONLY.iter().any(|word| has(word));
        has(of) && counted && !OTHER.iter().any(|word| has(word))
    }
}

/// How much words speak for a length: a name beside a word for tokens, or one that stands alone.
fn lengths(words: &[String], names: &[(&str, u32)], alone: &[&str], of_others: &[&str]) -> Option<u32> {
    let has = |word: &str| words.iter().any(|found| found == word);
    if OTHER.iter().chain(of_others).any(|word| has(word)) {
        return None;
    }
    let rank = names.iter().filter(|(word, _)| has(word)).map(|(_, rank)| *rank).max()?;
    let of_messages = OF_MESSAGES.iter().any(|word| has(word))
        && !names.iter().any(|(word, _)| !OF_MESSAGES.contains(word) && has(word));
    let counted = if of_messages { TOKENS_ONLY } else { TOKENS }.iter().any(|word| has(word));
    let bare = words.last().is_some_and(|word| alone.contains(&word.as_str()));
    match (counted, bare) {
        (true, _) => Some(10 + rank),
        (false, true) => Some(rank),
        (false, false) => None,
    }
}

/// The words of a name, in lower case: `metadata.request_start_ns`, `startTime`, `ContextTokens`.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before = ' ';
    for c in name.chars() {
        let begins = c.is_uppercase() && before.is_lowercase();
        if (!c.is_alphanumeric() || begins) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The best of several names.
    fn best<'a>(role: Role, names: &[&'a str]) -> Option<&'a str> {
        let ranked = names.iter().filter_map(|name| Some((role.rank(name)?, *name)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, name)| name)
    }

    #[test]
    fn names_are_told_apart() {
        let litellm = [
            "request_id",
            "startTime",
            "endTime",
            "completionStartTime",
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "model",
            "model_id",
            "session_id",
        ];
        let wanted = [
            (Role::Arrival, "startTime"),
            (Role::Prompt, "prompt_tokens"),
            (Role::Output, "completion_tokens"),
            (Role::Session, "session_id"),
            (Role::Class, "model"),
        ];
        for (role, name) in wanted {
            assert_eq!(best(role, &litellm), Some(name), "{role:?}");
        }
        let nested = [
            "ts",
            "usage.prompt_tokens",
            "usage.completion_tokens",
            "usage.prompt_tokens_details.cached_tokens",
            "usage.completion_tokens_details.reasoning_tokens",
            "usage.total_tokens",
            "latency_ms",
            "response.model",
        ];
        assert_eq!(best(Role::Arrival, &nested), Some("ts"));
        assert_eq!(best(Role::Prompt, &nested), Some("usage.prompt_tokens"));
        assert_eq!(best(Role::Output, &nested), Some("usage.completion_tokens"));
        assert_eq!(best(Role::Class, &nested), Some("response.model"));
        assert_eq!(Role::Output.rank("response.usage.prompt_tokens"), None);
        let own = ["when", "in", "out", "tenant"];
        assert_eq!((best(Role::Arrival, &own), best(Role::Prompt, &own)), (Some("when"), Some("in")));
        assert_eq!((best(Role::Output, &own), best(Role::Session, &own)), (Some("out"), None));
        let azure = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];
        assert_eq!(best(Role::Prompt, &azure), Some("ContextTokens"));
        assert_eq!(best(Role::Output, &azure), Some("GeneratedTokens"));
    }

    #[test]
    fn sizes_of_messages_are_no_tokens() {
        for (role, name) in
            [(Role::Prompt, "request_length"), (Role::Output, "response_length"), (Role::Prompt, "request.size")]
        {
            assert!(role.rank(name).is_none() && role.may_be_bytes(name), "{name}");
        }
        for (role, name) in [
            (Role::Prompt, "Request tokens"),
            (Role::Output, "response_tokens"),
            (Role::Prompt, "request.input_length"),
        ] {
            assert!(role.rank(name).is_some() && !(role.may_be_bytes(name) && role.rank(name).is_none()), "{name}");
        }
        assert!(Role::Prompt.rank("input_bytes").is_none());
    }

    #[test]
    fn what_counts_something_else_is_not_taken() {
        for name in
            ["max_tokens", "output_tokens_per_second", "prompt", "input_text", "cached_input_tokens", "input_cost"]
        {
            let rank = Role::Prompt.rank(name).filter(|_| name != "prompt");
            assert!(rank.is_none() && Role::Output.rank(name).is_none(), "{name}");
        }
        for name in ["end_time", "first_token_time", "updated_at", "completion_time", "time_zone"] {
            assert_eq!(Role::Arrival.rank(name), None, "{name}");
        }
        assert_eq!(words("metadata.request_start_ns"), ["metadata", "request", "start", "ns"]);
        assert_eq!(words("ContextTokens"), ["context", "tokens"]);
    }
}
