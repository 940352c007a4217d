//! The tokens of every sequence that an executor knows: every executor with a model keeps them the same way.

use std::collections::BTreeMap;

use crate::executor::{Bans, Begin, Capacity, ExecutorError, Sampling, Seat, Sequence, TableChange};
use crate::sample::sample;

/// Histories by seat.
pub struct Histories {
    capacity: Capacity,
    seats: BTreeMap<Seat, History>,
}

/// One sequence. Its tokens never change; a preempted sequence is recomputed from them.
struct History {
    /// The prompt, then what was drawn.
    tokens: Vec<u32>,
    sampling: Sampling,
    bans: Bans,
    /// Its blocks.
    table: Vec<u32>,
}

impl Histories {
    /// No sequences yet.
    pub fn new(capacity: Capacity) -> Histories {
        Histories { capacity, seats: BTreeMap::new() }
    }

    /// Forgets and learns sequences, and where their blocks lie.
    ///
    /// # Errors
    /// A seat ends that has not begun, begins while it runs, or begins with what cannot be run; or a block table changes that is
    /// not there, beyond its end, or to blocks that the cache does not have.
    pub fn update(&mut self, ends: &[Seat], begins: Vec<Begin>, tables: &[TableChange]) -> Result<(), ExecutorError> {
        for seat in ends {
            if self.seats.remove(seat).is_none() {
                return Err(fault(*seat, "ends without having begun"));
            }
        }
        for Begin { seat, prompt, sampling, bans } in begins {
            if prompt.is_empty() || prompt.iter().any(|token| *token >= self.capacity.vocab) {
                return Err(fault(seat, "begins with no prompt, or with tokens outside the vocabulary"));
            }
            let temperature = sampling.temperature >= 0.0 && sampling.temperature.is_finite();
            let top_p = sampling.top_p > 0.0 && sampling.top_p <= 1.0;
            if !temperature || !top_p {
                return Err(fault(seat, "samples with a temperature below 0 or a top_p outside (0, 1]"));
            }
            let history = History { tokens: prompt, sampling, bans, table: Vec::new() };
            if self.seats.insert(seat, history).is_some() {
                return Err(fault(seat, "begins while it runs"));
            }
        }
        for TableChange { seat, from, blocks } in tables {
            let history = self.seats.get_mut(seat).ok_or_else(|| fault(*seat, "gets blocks without having begun"))?;
            if *from as usize > history.table.len() {
                return Err(fault(*seat, "has a gap in its block table"));
            }
            if blocks.iter().any(|block| *block >= self.capacity.blocks) {
                return Err(fault(*seat, "has a block that the cache does not have"));
            }
            history.table.truncate(*from as usize);
            history.table.extend_from_slice(blocks);
        }
        Ok(())
    }

    /// The blocks of sequences, in their order; none for one that has not begun.
    pub fn tables(&self, sequences: &[Sequence]) -> Vec<&[u32]> {
        let table = |sequence: &Sequence| self.seats.get(&sequence.seat).map_or(&[][..], |history| &history.table);
        sequences.iter().map(table).collect()
    }

    /// Input tokens of all positions of a step, in order.
    ///
    /// # Errors
    /// A sequence has not begun, lacks the input of a position, or has blocks that do not cover its positions.
    pub fn inputs(&self, sequences: &[Sequence]) -> Result<Vec<u32>, ExecutorError> {
        let mut inputs = Vec::new();
        for sequence in sequences {
            let Sequence { seat, past, tokens, .. } = *sequence;
            let history = self.seats.get(&seat).ok_or_else(|| fault(seat, "is computed without having begun"))?;
            let end = u64::from(past) + u64::from(tokens);
            if tokens == 0 || end > u64::from(self.capacity.max_model_len) {
                return Err(fault(seat, "computes nothing, or more than the longest sequence"));
            }
            let positions = past as usize..end as usize;
            let known = history.tokens.get(positions).ok_or_else(|| fault(seat, "lacks the input of a position"))?;
            inputs.extend_from_slice(known);
            if history.table.len() as u64 * u64::from(self.capacity.block_tokens) < end {
                return Err(fault(seat, "has too few blocks for its positions"));
            }
        }
        Ok(inputs)
    }

    /// The tokens of the sequences that sample: drawn from the logits, `[sequence that samples, vocab]`, or those that were
    /// known.
    pub fn sample(&mut self, sequences: &[Sequence], logits: &[f32]) -> Vec<(Seat, u32)> {
        let mut logits = logits.chunks_exact(self.capacity.vocab as usize);
        let mut drawn = Vec::new();
        for sequence in sequences.iter().filter(|sequence| sequence.samples) {
            let end = sequence.past + sequence.tokens;
            let (Some(history), Some(logits)) = (self.seats.get_mut(&sequence.seat), logits.next()) else { continue };
            // Drawn in any case: what is known saves an engine no work, and a step's time must not depend on it.
            let token = if end < history.bans.until {
                sample(&without(logits, &history.bans.tokens), &history.sampling, end)
            } else {
                sample(logits, &history.sampling, end)
            };
            if history.tokens.len() == end as usize {
                history.tokens.push(token);
            }
            drawn.push((sequence.seat, history.tokens[end as usize]));
        }
        drawn
    }
}

/// Logits of which some are impossible.
fn without(logits: &[f32], banned: &[u32]) -> Vec<f32> {
    let mut logits = logits.to_vec();
    for &token in banned {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
    logits
}

fn fault(seat: Seat, what: &str) -> ExecutorError {
    ExecutorError(format!("sequence in seat {seat} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Sampling;

    #[test]
    fn banned_tokens_are_drawn_only_when_the_sequence_is_long_enough() {
        let mut histories = Histories::new(Capacity::unbounded(4, 16, 64, 4));
        let bans = Bans { tokens: vec![2, 99], until: 5 };
        let begin = Begin { seat: 0, prompt: vec![1, 1, 1], sampling: Sampling::GREEDY, bans };
        assert!(histories.update(&[], vec![begin], &[]).is_ok());
        // Token 2 is always the likeliest, 1 the next.
        let drawn: Vec<u32> = (2..6)
            .flat_map(|past| {
                let step = [Sequence { seat: 0, past, tokens: 1, samples: true }];
                histories.sample(&step, &[0.0, 1.0, 2.0, -1.0])
            })
            .map(|(_, token)| token)
            .collect();
        assert_eq!(drawn, [1, 1, 2, 2], "lengths 3 and 4 are below 5");
    }
}
