//! Speculative decoding: a step verifies several drafted tokens of a sequence at once, and some of them are accepted.
//!
//! ```text
//!   drafts d1 d2 d3     one step computes the current token and all drafts (1 + k positions)
//!   accepted d1 d2      the sequence gains 1 + 2 tokens: the accepted drafts and the token that the model itself puts behind them
//! ```
//!
//! How many are accepted is drawn for each sequence and step, never taken by its mean: a draw from a stream that is keyed by the
//! request and its position, so that neither batch nor scheduler change what a request gets.

use crate::results::speculation::SpeculationFigures;
use crate::streams::{Purpose, keyed};

/// Draft tokens of a sequence in a step at most.
pub const DRAFTS_MAX: u32 = 16;

/// What a replica must know of speculation to plan steps. By default there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drafts {
    /// Draft tokens that a step verifies for each sequence (vLLM's `num_speculative_tokens`); 0: no speculation.
    pub tokens: u32,
    /// Slots that a sequence has beyond those that the step computes: where a draft model writes its own keys and values (vLLM's
    /// `num_lookahead_tokens`).
    pub lookahead: u32,
    /// Whether the host plans the next step while the device computes. What was accepted is known all the same when a step is
    /// planned: lanes that speculate have depth 1.
    pub overlaps: bool,
}

impl Drafts {
    /// Whether there is any speculation.
    pub fn are_on(&self) -> bool {
        self.tokens > 0
    }

    /// Tokens of a decoding sequence in a step: its current one, and the drafts behind it.
    pub fn queries(&self) -> u32 {
        1 + self.tokens
    }

    /// Slots that a sequence has beyond that of its current token while a step of it is planned.
    pub fn ahead(&self) -> u32 {
        self.tokens + self.lookahead
    }
}

/// How many drafts are accepted: by position, the share of draws that reach it.
#[derive(Clone, PartialEq, Debug)]
pub struct Acceptance {
    /// For each class of requests (the last one counts for all further classes): the probability that at least so many drafts are
    /// accepted, from one on.
    reach: Vec<Vec<f64>>,
}

impl Acceptance {
    /// From the probability, by position, that a draft is accepted given that those before it were. One list for all classes, or one
    /// for each.
    pub fn new(by_class: &[Vec<f64>]) -> Acceptance {
        let reach = |given: &Vec<f64>| {
            given
                .iter()
                .scan(1.0, |reached, &probability| {
                    *reached *= probability;
                    Some(*reached)
                })
                .collect()
        };
        Acceptance { reach: by_class.iter().map(reach).collect() }
    }

    fn of(&self, class: u16) -> &[f64] {
        let last = self.reach.len().saturating_sub(1);
        self.reach.get(usize::from(class).min(last)).map_or(&[], Vec::as_slice)
    }

    /// Drafts that are accepted of those that a request gets at a position (its output tokens so far).
    pub fn draw(&self, seed: u64, request: u64, position: u32, class: u16) -> u32 {
        let reach = self.of(class);
        let draw = keyed(seed, Purpose::Speculating, &[request, u64::from(position)]);
        reach.iter().take_while(|&&reached| draw < reached).count() as u32
    }

    /// Accepted drafts of a step in the mean, for a class.
    pub fn mean(&self, class: u16) -> f64 {
        self.of(class).iter().sum()
    }
}

/// What a replica speculates with: the draws, and what became of them.
#[derive(Clone, Debug)]
pub(crate) struct Speculation {
    pub(crate) acceptance: Acceptance,
    pub(crate) seed: u64,
    pub(crate) figures: SpeculationFigures,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_drawn_has_the_stated_probabilities() {
        let given = vec![0.8, 0.5, 0.25];
        let acceptance = Acceptance::new(&[given]);
        let mut figures = SpeculationFigures::default();
        let draws = 200_000;
        for at in 0..draws {
            let accepted = acceptance.draw(7, at % 100, (at / 100) as u32, 0);
            figures.verified(3, accepted, accepted);
        }
        let expected = [0.8, 0.4, 0.1];
        for (at, expected) in figures.accepted_at.iter().zip(expected) {
            let share = *at as f64 / draws as f64;
            let error = (expected * (1.0 - expected) / draws as f64).sqrt();
            assert!((share - expected).abs() < 5.0 * error, "{share} is not {expected}");
        }
        assert!((acceptance.mean(0) - 1.3).abs() < 1e-12);
        let length = figures.mean_acceptance_length().unwrap();
        assert!((length - 2.3).abs() < 0.02, "{length}");
    }

    #[test]
    fn draws_are_a_function_of_request_and_position() {
        let acceptance = Acceptance::new(&[vec![0.6; 4], vec![0.0; 4]]);
        let all: Vec<u32> = (0..500).map(|at| acceptance.draw(3, 11, at, 0)).collect();
        let again: Vec<u32> = (0..500).rev().map(|at| acceptance.draw(3, 11, at, 0)).collect();
        assert!(all.iter().eq(again.iter().rev()));
        assert!(all.contains(&0) && all.contains(&4));
        let other: Vec<u32> = (0..500).map(|at| acceptance.draw(3, 12, at, 0)).collect();
        assert_ne!(all, other, "requests have draws of their own");
        assert!((0..500).all(|at| acceptance.draw(3, 11, at, 1) == 0), "a class has its own");
        assert!((0..500).all(|at| acceptance.draw(3, 11, at, 9) == 0), "further classes are as the last one");
    }

    #[test]
    fn certain_drafts_are_all_accepted() {
        let acceptance = Acceptance::new(&[vec![1.0; 5]]);
        assert!((0..100).all(|at| acceptance.draw(1, at, 0, 0) == 5));
    }
}
