//! KVzap (arXiv 2601.07891): a learned score for each token, fixed when it comes.

use super::{Head, Token, TokenRetention, Wants};

/// What the network says of the token. The paper cuts at a threshold; here the lowest go.
#[derive(Debug)]
pub(super) struct KvZap;

impl TokenRetention for KvZap {
    fn wants(&self) -> Wants {
        Wants { notes: true, ..Wants::default() }
    }

    fn note(&self, token: &Token<'_>) -> f32 {
        token.gate
    }

    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        scores.copy_from_slice(head.notes);
    }
}
