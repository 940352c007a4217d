//! Steps that verify drafts: several tokens of each decoding sequence, some or all of which need logits.

use super::{Attention, Roofline, attention_error};
use crate::cost::forms::{DecodeAttention, HeadShape, LATENT_FIT, PrefillAttention};
use crate::cost::{Cost, CostError, StepShape};

impl Roofline {
    /// The same where every decoding sequence has so many tokens in a row, `scored` of which need logits. Keys and values are read once
    /// for all tokens of a sequence; matrices, experts and the head see every token.
    ///
    /// # Errors
    /// No attention constants: those that [`Roofline::new`] has found are looked up again.
    pub fn verifying(mut self, queries: u32, scored: u32) -> Result<Roofline, CostError> {
        let (gpu, model, kv) = (&self.gpu, &self.model, self.kv);
        let found = if let Some(mla) = model.mla {
            // To absorbed attention, further tokens over the same latents are as further heads.
            let heads = self.shard.heads;
            let decode = DecodeAttention::latent(gpu, kv, heads * queries, mla);
            decode.map(|decode| decode.longer(queries - 1)).zip(PrefillAttention::latent(gpu, kv, heads, mla))
        } else {
            let heads = HeadShape { heads: self.shard.heads, kv_heads: self.shard.kv_heads, head_dim: model.head_dim };
            let decode = DecodeAttention::new(gpu, kv, heads).map(|decode| decode.verifying(queries));
            decode.zip(PrefillAttention::new(gpu, kv, heads))
        };
        let head_dim = if model.mla.is_some() { LATENT_FIT } else { model.head_dim };
        let (decode, prefill) = found.ok_or_else(|| attention_error(gpu, kv, head_dim))?;
        self.attention = Attention::new(gpu, model, &self.shard, (&decode, &prefill), self.ranks as u32);
        (self.queries, self.scored) = (u64::from(queries), u64::from(scored));
        self.linear.fill(Cost(0));
        self.head.fill(Cost(0));
        self.linear_parts.clear();
        self.head_parts.clear();
        self.gathered.fill(Cost(0));
        self.gathered_parts.clear();
        Ok(self)
    }

    /// Tokens in the batch.
    pub(super) fn tokens(&self, shape: &StepShape<'_>) -> u64 {
        shape.tokens() + u64::from(shape.decode_seqs) * (self.queries - 1)
    }

    /// Tokens that need logits.
    pub(super) fn rows(&self, shape: &StepShape<'_>) -> u64 {
        u64::from(shape.decode_seqs) * self.scored + u64::from(shape.prefill_ends)
    }
}
