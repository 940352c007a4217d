//! Mooncake's traces (kvcache-ai/Mooncake, FAST'25, Apache-2.0): JSON lines with the content of every prompt.
//!
//! `hash_ids` names each 512-token block of the prompt, the partial last one included; an id stands for the block *and*
//! all blocks before it. Blocks of the engine are smaller: block `i` of the 512-token block `id` becomes
//! `id * (512 / block) + i`, which keeps that property. Only blocks that the prompt fills have an id.

use overbook_sim::workload::arrival::{ClassId, Content};

use crate::error::TraceError;
use crate::number::TimeUnit;
use crate::outcome::{Decoded, Outcome};
use crate::table::Row;

/// The key of the block ids; a file without it has no content.
pub(crate) const HASH_IDS: &str = "hash_ids";

/// The key of the session, which `AIPerf` adds.
pub(crate) const SESSION_ID: &str = "session_id";

/// Tokens that one id of Mooncake's stands for.
pub(crate) const HASH_TOKENS: u32 = 512;

/// Reads rows; all requests are of one class.
#[derive(Debug)]
pub(crate) struct Mooncake {
    time: usize,
    prompt: usize,
    output: usize,
}

impl Mooncake {
    /// The columns are those of `Format::Mooncake`, in that order.
    pub(crate) fn new(columns: &[usize]) -> Mooncake {
        Mooncake { time: columns[0], prompt: columns[1], output: columns[2] }
    }

    pub(crate) fn columns(&self) -> Vec<usize> {
        vec![self.time, self.prompt, self.output]
    }

    pub(crate) fn time_column(&self) -> usize {
        self.time
    }

    pub(crate) fn decode(&self, row: &Row<'_>) -> Result<Decoded, TraceError> {
        let at_ns = row.time(self.time, TimeUnit::Ms)?;
        let (prompt_tokens, output_tokens) = (row.tokens(self.prompt)?, row.tokens(self.output)?);
        Ok(Decoded { at_ns, outcome: Outcome::of(prompt_tokens, output_tokens, ClassId(0), 0) })
    }
}

/// How many tokens an id stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IdSize {
    /// So many, in every row.
    Tokens(u32),
    /// What stands in this column; the ids are those of full blocks.
    Column(usize),
    /// What stands in this column; the last id may stand for fewer.
    Partial(usize),
}

/// Turns a list of block ids into the ids of the engine's blocks.
#[derive(Debug)]
pub(crate) struct Blocks {
    column: usize,
    size: IdSize,
    block_tokens: u32,
    /// Tokens that an id stands for: of the last row, where rows say it.
    id_tokens: Option<u32>,
    ids: Vec<u64>,
}

impl Blocks {
    /// `block_tokens` divides the size of the ids.
    pub(crate) fn new(column: usize, size: IdSize, block_tokens: u32) -> Blocks {
        let id_tokens = if let IdSize::Tokens(tokens) = size { Some(tokens) } else { None };
        Blocks { column, size, block_tokens, id_tokens, ids: Vec::new() }
    }

    /// How many tokens an id stands for; where rows say it, of the last one, and `None` before a row had ids.
    pub(crate) fn id_tokens(&self) -> Option<u32> {
        self.id_tokens
    }

    /// The content of a row's prompt, of which `kept` tokens are left; `None` if the row names no blocks.
    pub(crate) fn content(
        &mut self,
        row: &Row<'_>,
        prompt_tokens: u32,
        kept: u32,
    ) -> Result<Option<Box<Content>>, TraceError> {
        let text = row.field(self.column);
        if text.is_empty() {
            return Ok(None);
        }
        if !parse_ids(text, &mut self.ids) {
            return Err(row.bad(self.column, "a list of block ids, like [0, 14, 15]", "check how the file was made"));
        }
        let (hash_tokens, whole) = match self.size {
            IdSize::Tokens(tokens) => (tokens, false),
            IdSize::Column(column) => (self.tokens_per_id(row, column)?, true),
            IdSize::Partial(column) => (self.tokens_per_id(row, column)?, false),
        };
        self.id_tokens = Some(hash_tokens);
        let full = if whole { prompt_tokens / hash_tokens } else { prompt_tokens.div_ceil(hash_tokens) };
        // Files of ours may have the ids of answers behind those of prompts: the history of a conversation.
        let fits = if whole { self.ids.len() >= full as usize } else { self.ids.len() == full as usize };
        if !fits {
            return Err(row.bad(
                self.column,
                if whole {
                    "one id for each full block of the prompt"
                } else {
                    "one id for each block of the prompt, the last partial one included"
                },
                "the ids may stand for blocks of another size; Mooncake's have 512 tokens, `hash_tokens` names others",
            ));
        }
        let parts = u64::from(hash_tokens / self.block_tokens);
        let full = if whole && kept >= prompt_tokens {
            self.ids.len() as u64 * parts
        } else {
            u64::from(kept.min(prompt_tokens) / self.block_tokens)
        };
        let mut ids = Vec::with_capacity(full as usize);
        for &id in &self.ids {
            let first = id.wrapping_mul(parts);
            let here = parts.min(full - ids.len() as u64);
            ids.extend((0..here).map(|part| first.wrapping_add(part)));
        }
        Ok(Some(Box::new(Content { block_tokens: self.block_tokens, ids: ids.into_boxed_slice() })))
    }

    fn tokens_per_id(&self, row: &Row<'_>, column: usize) -> Result<u32, TraceError> {
        let tokens = row.tokens(column)?;
        if tokens == 0 || !tokens.is_multiple_of(self.block_tokens) {
            return Err(row.bad(
                column,
                "a multiple of the engine's block size",
                "set `engine.block_tokens` to this number, or to one that divides it",
            ));
        }
        Ok(tokens)
    }
}

/// Reads `[0, 14, 15]`; false if it is anything else. Negative ids are taken by their bits.
fn parse_ids(text: &[u8], ids: &mut Vec<u64>) -> bool {
    ids.clear();
    let Some(inner) = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")) else {
        return false;
    };
    if inner.trim_ascii().is_empty() {
        return true;
    }
    let mut rest = inner;
    loop {
        rest = rest.trim_ascii_start();
        let negative = rest.first() == Some(&b'-');
        rest = &rest[usize::from(negative)..];
        // Exact up to 19 digits.
        let (mut value, mut digits) = (0u64, 0);
        while let Some(digit) = rest.get(digits).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            digits += 1;
        }
        if digits == 0 || digits > 20 {
            return false;
        }
        if digits == 20 {
            let Some(large) = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse().ok()) else {
                return false;
            };
            value = large;
        }
        ids.push(if negative { value.wrapping_neg() } else { value });
        rest = rest[digits..].trim_ascii_start();
        match rest {
            [] => return true,
            [b',', after @ ..] => rest = after,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ids() {
        let ids = |text: &str| {
            let mut ids = Vec::new();
            parse_ids(text.as_bytes(), &mut ids).then_some(ids)
        };
        assert_eq!(ids("[0, 14 ,15]"), Some(vec![0, 14, 15]));
        assert_eq!(ids("[18446744073709551615,-1]"), Some(vec![u64::MAX, u64::MAX]));
        assert_eq!(ids("[ ]"), Some(vec![]));
        for bad in ["", "[", "1", "[1,]", "[,1]", "[1 2]", "[1.5]", "[--1]", "[-]", "[18446744073709551616]"] {
            assert_eq!(ids(bad), None, "{bad}");
        }
    }
}
