//! What became of requests under a budget.

use std::collections::BTreeMap;

/// Finished requests by what they kept.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RetentionFigures {
    /// By the slots that they could keep at last, those of which tokens went; 0: those that kept all.
    pub finished: BTreeMap<u32, Kept>,
    /// Times that a running request was shrunk instead of another one being preempted.
    pub shrunk: u64,
}

/// Finished requests of one budget.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Kept {
    /// How many.
    pub requests: u64,
    /// Their output tokens.
    pub output_tokens: u64,
    /// Tokens that they had computed, prompts included.
    pub tokens: u64,
    /// Those of them whose keys and values they had at the end.
    pub kept_tokens: u64,
}

impl RetentionFigures {
    /// A request has finished.
    pub(crate) fn finish(&mut self, budget: u32, output_tokens: u32, (tokens, kept): (u32, u32)) {
        let of = self.finished.entry(if tokens == kept { 0 } else { budget }).or_default();
        of.requests += 1;
        of.output_tokens += u64::from(output_tokens);
        of.tokens += u64::from(tokens);
        of.kept_tokens += u64::from(kept);
    }

    /// Adds another replica's.
    pub fn add(&mut self, other: &RetentionFigures) {
        for (&budget, theirs) in &other.finished {
            let of = self.finished.entry(budget).or_default();
            of.requests += theirs.requests;
            of.output_tokens += theirs.output_tokens;
            of.tokens += theirs.tokens;
            of.kept_tokens += theirs.kept_tokens;
        }
        self.shrunk += other.shrunk;
    }

    /// All finished requests.
    pub fn total(&self) -> Kept {
        let mut total = Kept::default();
        for of in self.finished.values() {
            total.requests += of.requests;
            total.output_tokens += of.output_tokens;
            total.tokens += of.tokens;
            total.kept_tokens += of.kept_tokens;
        }
        total
    }
}
