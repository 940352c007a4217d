//! What became of drafted tokens under speculative decoding.

/// What became of drafted tokens. Names as vLLM's `vllm:spec_decode_*`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SpeculationFigures {
    /// Sequences over the steps that verified drafts of them (`num_drafts`).
    pub drafts: u64,
    /// Tokens drafted and verified (`num_draft_tokens`).
    pub draft_tokens: u64,
    /// Those of them that were accepted (`num_accepted_tokens`), the last ones of an output that ends before them included.
    pub accepted_tokens: u64,
    /// Accepted ones that came behind the end of an output: no client gets them.
    pub past_end_tokens: u64,
    /// Accepted tokens by position (`num_accepted_tokens_per_pos`).
    pub accepted_at: Vec<u64>,
}

impl SpeculationFigures {
    /// A sequence has had `drafted` tokens verified; `accepted` were, `kept` of which it gets.
    pub(crate) fn verified(&mut self, drafted: u32, accepted: u32, kept: u32) {
        self.drafts += 1;
        self.draft_tokens += u64::from(drafted);
        self.accepted_tokens += u64::from(accepted);
        self.past_end_tokens += u64::from(accepted - kept);
        if self.accepted_at.len() < drafted as usize {
            self.accepted_at.resize(drafted as usize, 0);
        }
        self.accepted_at[..accepted as usize].iter_mut().for_each(|at| *at += 1);
    }

    /// Adds another replica's.
    pub fn add(&mut self, other: &SpeculationFigures) {
        self.drafts += other.drafts;
        self.draft_tokens += other.draft_tokens;
        self.accepted_tokens += other.accepted_tokens;
        self.past_end_tokens += other.past_end_tokens;
        if self.accepted_at.len() < other.accepted_at.len() {
            self.accepted_at.resize(other.accepted_at.len(), 0);
        }
        self.accepted_at.iter_mut().zip(&other.accepted_at).for_each(|(at, theirs)| *at += theirs);
    }

    /// Accepted over drafted tokens; `None` without any.
    pub fn acceptance_rate(&self) -> Option<f64> {
        (self.draft_tokens > 0).then(|| self.accepted_tokens as f64 / self.draft_tokens as f64)
    }

    /// Tokens that a sequence gains in a step in the mean, its own included (vLLM's mean acceptance length).
    pub fn mean_acceptance_length(&self) -> Option<f64> {
        (self.drafts > 0).then(|| 1.0 + self.accepted_tokens as f64 / self.drafts as f64)
    }
}
