//! TRIM-KV (arXiv 2512.03324): learned retention that decays with age.

use super::{Head, Token, TokenRetention, Wants};

/// `(t + 1 − i) · log β_i`, with `log β` noted when the token comes. Attention is not changed by it.
#[derive(Debug)]
pub(super) struct TrimKv;

impl TokenRetention for TrimKv {
    fn wants(&self) -> Wants {
        Wants { notes: true, ..Wants::default() }
    }

    fn note(&self, token: &Token<'_>) -> f32 {
        token.gate
    }

    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        for ((score, position), log_beta) in scores.iter_mut().zip(head.positions).zip(head.notes) {
            *score = (head.now + 1 - position) as f32 * log_beta;
        }
    }
}
