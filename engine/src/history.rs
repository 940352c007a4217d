//! The tokens of every sequence that an executor knows: every executor with a model keeps them the same way.

use crate::executor::{Bans, Begin, Capacity, ExecutorError, Sampling, Seat, Sequence, TableChange};
use crate::sample::sample;

/// Histories by seat.
pub struct Histories {
    capacity: Capacity,
    seats: Vec<Option<History>>,
    /// Sequences that have begun so far.
    begun: u64,
}

/// One sequence. Its tokens never change; a preempted sequence is recomputed from them.
struct History {
    /// The prompt, then what was drawn.
    tokens: Vec<u32>,
    sampling: Sampling,
    bans: Bans,
    /// Its blocks.
    table: Vec<u32>,
    /// Tells it from others in its seat, before and after.
    number: u64,
}

/// A token that a step draws, until it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Of which sequence.
    pub seat: Seat,
    /// Its position.
    pub position: u32,
    /// Tells the sequence from others in its seat.
    number: u64,
}

impl Histories {
    /// No sequences yet.
    pub fn new(capacity: Capacity) -> Histories {
        Histories { capacity, seats: Vec::new(), begun: 0 }
    }

    /// Forgets and learns sequences, and where their blocks lie.
    ///
    /// # Errors
    /// A seat ends that has not begun, begins while it runs, or begins with what cannot be run; or a block table changes that is
    /// not there, beyond its end, or to blocks that the cache does not have.
    pub fn update(&mut self, ends: &[Seat], begins: Vec<Begin>, tables: &[TableChange]) -> Result<(), ExecutorError> {
        for seat in ends {
            if self.seats.get_mut(*seat as usize).and_then(Option::take).is_none() {
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
            if bans.leave_none(self.capacity.vocab) {
                return Err(fault(seat, "bans all tokens of the vocabulary"));
            }
            self.begun += 1;
            // A token that is not in the vocabulary is never drawn.
            let mut bans = bans;
            bans.tokens.retain(|token| *token < self.capacity.vocab);
            let history = History { tokens: prompt, sampling, bans, table: Vec::new(), number: self.begun };
            if self.seats.len() <= seat as usize {
                self.seats.resize_with(seat as usize + 1, || None);
            }
            if self.seats[seat as usize].replace(history).is_some() {
                return Err(fault(seat, "begins while it runs"));
            }
        }
        let Capacity { blocks: all, max_model_len, block_tokens, .. } = self.capacity;
        let longest = max_model_len.div_ceil(block_tokens) as usize;
        for TableChange { seat, from, blocks } in tables {
            let history = self.at_mut(*seat).ok_or_else(|| fault(*seat, "gets blocks without having begun"))?;
            if *from as usize > history.table.len() {
                return Err(fault(*seat, "has a gap in its block table"));
            }
            if blocks.iter().any(|block| *block >= all) {
                return Err(fault(*seat, "has a block that the cache does not have"));
            }
            if *from as usize + blocks.len() > longest {
                return Err(fault(*seat, "has more blocks than the longest sequence"));
            }
            history.table.truncate(*from as usize);
            history.table.extend_from_slice(blocks);
        }
        Ok(())
    }

    fn at(&self, seat: Seat) -> Option<&History> {
        self.seats.get(seat as usize)?.as_ref()
    }

    fn at_mut(&mut self, seat: Seat) -> Option<&mut History> {
        self.seats.get_mut(seat as usize)?.as_mut()
    }

    /// The blocks of a sequence; none for one that has not begun.
    pub fn table(&self, seat: Seat) -> &[u32] {
        self.at(seat).map_or(&[], |history| &history.table)
    }

    /// The blocks of sequences, in their order; none for one that has not begun.
    pub fn tables(&self, sequences: &[Sequence]) -> Vec<&[u32]> {
        let table = |sequence: &Sequence| self.table(sequence.seat);
        sequences.iter().map(table).collect()
    }

    /// Input tokens of all positions of a step, in order.
    ///
    /// # Errors
    /// A sequence has not begun, lacks the input of a position, or has blocks that do not cover its positions.
    pub fn inputs(&self, sequences: &[Sequence]) -> Result<Vec<u32>, ExecutorError> {
        self.inputs_in(sequences, |sequence| Ok(u64::from(sequence.past) + u64::from(sequence.tokens)))
    }

    /// [`Histories::inputs`] of sequences that need so many slots each.
    ///
    /// # Errors
    /// As there, or what `slots` says.
    pub fn inputs_in(
        &self,
        sequences: &[Sequence],
        slots: impl Fn(&Sequence) -> Result<u64, ExecutorError>,
    ) -> Result<Vec<u32>, ExecutorError> {
        let mut inputs = Vec::new();
        for sequence in sequences {
            let known = self.known(sequence, slots(sequence)?)?;
            if known.len() < sequence.tokens as usize {
                return Err(fault(sequence.seat, "lacks the input of a position"));
            }
            inputs.extend_from_slice(known);
        }
        Ok(inputs)
    }

    /// Input tokens of the positions of a sequence, which needs so many slots, as far as they are known: fewer than it computes where a
    /// step that is out draws them.
    ///
    /// # Errors
    /// The sequence has not begun, computes nothing or too much, or has blocks that do not cover its slots.
    pub fn known(&self, sequence: &Sequence, slots: u64) -> Result<&[u32], ExecutorError> {
        let Sequence { seat, past, tokens, .. } = *sequence;
        let history = self.at(seat).ok_or_else(|| fault(seat, "is computed without having begun"))?;
        let end = u64::from(past) + u64::from(tokens);
        if tokens == 0 || end > u64::from(self.capacity.max_model_len) {
            return Err(fault(seat, "computes nothing, or more than the longest sequence"));
        }
        if history.table.len() as u64 * u64::from(self.capacity.block_tokens) < slots {
            return Err(fault(seat, "has too few blocks for its positions"));
        }
        let len = history.tokens.len();
        Ok(&history.tokens[len.min(past as usize)..len.min(end as usize)])
    }

    /// How the token at the end of a sequence's part is drawn, and what is banned there.
    pub fn draw(&self, sequence: &Sequence) -> Option<(Pending, Sampling, &[u32])> {
        let (seat, position) = (sequence.seat, sequence.past + sequence.tokens);
        let history = self.at(seat)?;
        let banned = if position < history.bans.until { &history.bans.tokens[..] } else { &[] };
        Some((Pending { seat, position, number: history.number }, history.sampling, banned))
    }

    /// Whether the token at a position is known, so that what is drawn there does not count.
    pub fn is_known(&self, pending: Pending) -> bool {
        self.at(pending.seat).is_some_and(|history| history.tokens.len() > pending.position as usize)
    }

    /// Takes in a token that was drawn. Returns the sequence's token at that position: the one that was known, if there is one.
    pub fn take(&mut self, pending: Pending, drawn: u32) -> u32 {
        let Pending { seat, position, number } = pending;
        // What is drawn for a sequence that has ended meanwhile is of no use.
        let Some(history) = self.at_mut(seat).filter(|history| history.number == number) else { return drawn };
        if history.tokens.len() == position as usize {
            history.tokens.push(drawn);
        }
        history.tokens.get(position as usize).copied().unwrap_or(drawn)
    }

    /// The tokens of the sequences that sample: drawn from the logits, `[sequence that samples, vocab]`, or those that were
    /// known.
    pub fn sample(&mut self, sequences: &[Sequence], logits: &[f32]) -> Vec<(Seat, u32)> {
        let mut logits = logits.chunks_exact(self.capacity.vocab as usize);
        let mut drawn = Vec::new();
        for sequence in sequences.iter().filter(|sequence| sequence.samples) {
            let (Some((pending, sampling, banned)), Some(logits)) = (self.draw(sequence), logits.next()) else {
                continue;
            };
            // Drawn in any case: what is known saves an engine no work, and a step's time must not depend on it.
            let token = if banned.is_empty() {
                sample(logits, &sampling, pending.position)
            } else {
                sample(&without(logits, banned), &sampling, pending.position)
            };
            drawn.push((sequence.seat, self.take(pending, token)));
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
    fn a_sequence_that_bans_everything_is_refused() {
        let begins = |tokens: &[u32]| {
            let mut histories = Histories::new(Capacity::unbounded(4, 16, 64, 4));
            let bans = Bans { tokens: tokens.to_vec(), until: 5 };
            let begin = Begin { seat: 0, prompt: vec![1], sampling: Sampling::GREEDY, bans };
            histories.update(&[], vec![begin], &[]).map_err(|error| error.0)
        };
        assert_eq!(begins(&[3, 2, 1, 0]), Err("sequence in seat 0 bans all tokens of the vocabulary".to_owned()));
        assert_eq!(begins(&[3, 2, 2, 0, 99]), Ok(()), "1 is left, whatever is named twice or is no token");
    }

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
