//! How many slots a sequence occupies, and when it is brought back to its budget: the rules of
//! [`Keep`](overbook_sim::kv::retention::Keep), which need no arithmetic.

use overbook_sim::kv::retention::{Keep, OutputRule, PromptRule};

use super::{ExecutorError, Sequence};

/// Slots of a sequence, in every layer and head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots {
    /// Positions computed.
    pub computed: u32,
    /// Slots occupied.
    pub kept: u32,
    /// Slots that it may keep.
    pub budget: u32,
    /// Whether its prompt is computed: a step has sampled.
    pub decodes: bool,
}

impl Slots {
    /// Of a sequence that begins.
    pub fn new(keep: Keep) -> Slots {
        Slots { computed: 0, kept: 0, budget: keep.budget, decodes: false }
    }

    /// Slots of a sequence while its part of a step is computed; it may be one that begins.
    ///
    /// # Errors
    /// It does not go on where it stopped.
    pub fn during(of: Option<&Slots>, sequence: &Sequence) -> Result<u64, ExecutorError> {
        let Sequence { seat, past, tokens, .. } = *sequence;
        match of {
            _ if past == 0 => Ok(u64::from(tokens)),
            Some(slots) if slots.computed == past => Ok(u64::from(slots.kept) + u64::from(tokens)),
            slots => {
                let computed = slots.map_or(0, |slots| slots.computed);
                Err(ExecutorError(format!(
                    "sequence in seat {seat} goes on at position {past}, and has computed {computed}; one that keeps only some \
                     tokens shares none with others"
                )))
            }
        }
    }

    /// To how many slots it is brought back after a step; `None`: nothing goes.
    pub fn cut(&self, keep: Keep, sequence: &Sequence) -> Option<u32> {
        let (slots, budget) = (u64::from(self.kept) + u64::from(sequence.tokens), u64::from(self.budget));
        let goes = if self.decodes {
            keep.output == OutputRule::Evict && slots >= budget + u64::from(keep.every)
        } else {
            slots > budget && (keep.prompt == PromptRule::EachChunk || sequence.samples)
        };
        goes.then_some(self.budget)
    }

    /// Goes on after a step and its cut.
    pub fn advance(&mut self, sequence: &Sequence, cut: Option<u32>) {
        self.computed += sequence.tokens;
        self.kept = cut.unwrap_or(self.kept + sequence.tokens);
        self.decodes |= sequence.samples;
    }

    /// Lowers the budget. `Some`: it is brought back to so many slots at once.
    pub fn shrink(&mut self, keep: Keep, budget: u32) -> Option<u32> {
        self.budget = self.budget.min(budget);
        let later = !self.decodes && keep.prompt == PromptRule::AtEnd;
        (self.kept > self.budget && !later).then(|| {
            self.kept = self.budget;
            self.budget
        })
    }
}
