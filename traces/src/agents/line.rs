//! The JSON form of a session.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::TraceError;
use crate::number::{self, TOKENS_MAX};
use crate::quote::shorten;

/// A line of the file.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    pub(super) block_size: u32,
    pub(super) hash_id_scope: Option<String>,
    #[serde(borrow)]
    pub(super) requests: Vec<Entry<'a>>,
}

/// A request, or a sub-agent with requests of its own.
#[derive(Deserialize)]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    pub(super) t: &'a RawValue,
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    pub(super) model: Option<String>,
    #[serde(rename = "in")]
    pub(super) prompt: Option<u32>,
    #[serde(rename = "out")]
    pub(super) output: Option<u32>,
    #[serde(borrow)]
    pub(super) api_time: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) think_time: Option<&'a RawValue>,
    pub(super) keep: Option<u64>,
    pub(super) ids: Option<Vec<(u64, u64)>>,
    pub(super) hash_ids: Option<Vec<u64>>,
    #[serde(borrow)]
    pub(super) duration_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) requests: Option<Vec<Entry<'a>>>,
}

impl Entry<'_> {
    /// Requests that it is, those of sub-agents included.
    pub(super) fn requests(&self) -> u64 {
        self.requests.as_ref().map_or(1, |requests| requests.iter().map(Entry::requests).sum())
    }
}

/// Where a line is, for errors.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) path: &'p Path,
    pub(super) line: u64,
}

impl Place<'_> {
    /// Takes a line apart.
    pub(super) fn parse<'a>(&self, text: &'a [u8]) -> Result<Line<'a>, TraceError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        serde_json::from_slice(text).map_err(|error| {
            let message = error.to_string();
            let why = message.split(" at line ").next().unwrap_or_default();
            TraceError::Json {
                path: self.path.to_owned(),
                line: self.line,
                column: error.column(),
                expected: "a session: {\"id\": …, \"block_size\": …, \"hash_id_scope\": \"local\", \"requests\": [{\"t\": …, …}]}",
                found: shorten(why),
            }
        })
    }

    /// Something in the line is not as it should be.
    #[cold]
    pub(super) fn bad(
        &self,
        place: &str,
        key: &str,
        found: &dyn std::fmt::Display,
        expected: &'static str,
        help: &'static str,
    ) -> TraceError {
        let dot = if place.is_empty() || key.is_empty() { "" } else { "." };
        TraceError::Value {
            path: self.path.to_owned(),
            line: self.line,
            column: format!("{place}{dot}{key}"),
            expected,
            found: shorten(&found.to_string()),
            help,
        }
    }

    /// Seconds as nanoseconds.
    pub(super) fn seconds(&self, place: &str, key: &str, value: &RawValue) -> Result<u64, TraceError> {
        let read = number::nanoseconds(value.get().as_bytes());
        read.map_err(|_| {
            self.bad(place, key, &value.get(), "seconds, 0 or more, like 45 or 45.25", "check how the file was made")
        })
    }

    /// Milliseconds as nanoseconds.
    pub(super) fn milliseconds(&self, place: &str, key: &str, value: &RawValue) -> Result<u64, TraceError> {
        let read = number::scaled_nanoseconds(value.get().as_bytes(), 6);
        read.map_err(|_| {
            self.bad(place, key, &value.get(), "milliseconds, 0 or more, like 94117", "check how the file was made")
        })
    }

    /// A number of tokens that must be there.
    pub(super) fn tokens(&self, place: &str, key: &str, value: Option<u32>) -> Result<u32, TraceError> {
        let help = "requests of type `n` and `s` have `in` and `out`; the line may be of another format";
        match value {
            Some(tokens) if tokens <= TOKENS_MAX => Ok(tokens),
            Some(tokens) => Err(self.bad(place, key, &tokens, "at most 16777216 tokens (2^24)", help)),
            None => Err(self.bad(place, key, &"nothing", "a number of tokens", help)),
        }
    }
}
