//! Data-parallel attention: what a step is to the busiest of the ranks that divide a group's requests, and what the group
//! does together.
//!
//! What the mean hides: contexts of decoding requests differ, and engines hand requests out by count. Where contexts are
//! uniform between nothing and twice their mean, the busiest of 8 ranks with 32 requests each has 15 % more than the mean,
//! with 8 each 29 % (`the_busiest_rank_has_more_context_than_the_mean` in this crate's tests); the time per attended token
//! is that much higher, all else is not. Nor does the mean know a rank whose KV pool is full while others have room.

use super::{Roofline, graph_size};
use crate::cost::{Bound, Cost, Parts, StepShape};
use crate::hardware::model::WeightDtype;

/// Sums over the prompts of a step.
#[derive(Clone, Copy, Default)]
pub(super) struct Prompts {
    /// Whether there are any.
    pub any: bool,
    pub pairs: u64,
    /// Pairs that a window leaves.
    pub near_pairs: u64,
    pub tokens: u64,
    pub past: u64,
}

/// What a step is to the busiest rank; without ranks the whole step.
#[derive(Clone, Copy)]
pub(super) struct Share {
    /// Tokens of its own.
    pub tokens: u64,
    /// Tokens that the experts see; 0 without ranks.
    pub gathered: u64,
    /// Decoding requests.
    pub seqs: u64,
    /// Rows of logits.
    pub rows: u64,
    /// Requests that its host looks after.
    pub requests: u64,
    pub prompts: Prompts,
}

impl Prompts {
    /// Of all prompts, and the largest of each sum in a single one.
    fn of(shape: &StepShape<'_>, window: u64) -> (Prompts, Prompts) {
        let mut all = Prompts { any: !shape.prefill.is_empty(), ..Prompts::default() };
        let mut most = all;
        for part in shape.prefill {
            let (new, present) = (u64::from(part.tokens), u64::from(part.past));
            let pairs = new.saturating_mul(new + 2 * present);
            let near = new.saturating_mul((new + 2 * present).min(2 * window));
            all.pairs = all.pairs.saturating_add(pairs);
            all.near_pairs = all.near_pairs.saturating_add(near);
            all.tokens += new;
            all.past += present;
            most.pairs = most.pairs.max(pairs);
            most.near_pairs = most.near_pairs.max(near);
            most.tokens = most.tokens.max(new);
            most.past = most.past.max(present);
        }
        (all, most)
    }

    /// Of the busiest of so many ranks: no prompt is on two of them.
    fn busiest(shape: &StepShape<'_>, ranks: u64, window: u64) -> Prompts {
        let (all, most) = Prompts::of(shape, window);
        Prompts {
            any: all.any,
            pairs: all.pairs.div_ceil(ranks).max(most.pairs),
            near_pairs: all.near_pairs.div_ceil(ranks).max(most.near_pairs),
            tokens: all.tokens.div_ceil(ranks).max(most.tokens),
            past: all.past.div_ceil(ranks).max(most.past),
        }
    }
}

impl Roofline {
    /// What the busiest rank has of a step.
    pub(super) fn share(&self, shape: &StepShape<'_>) -> Share {
        let (seqs, chunks) = (u64::from(shape.decode_seqs), shape.prefill.len() as u64);
        let rows = self.rows(shape);
        if self.ranks == 1 {
            let prompts = Prompts::of(shape, self.attention.window).0;
            return Share { tokens: self.tokens(shape), gathered: 0, seqs, rows, requests: seqs + chunks, prompts };
        }
        if chunks == 0 {
            return self.decode_share(shape.decode_seqs);
        }
        let prompts = Prompts::busiest(shape, self.ranks, self.attention.window);
        Share {
            tokens: seqs.div_ceil(self.ranks) * self.queries + prompts.tokens,
            // Ranks have different numbers of tokens, so that no graph is replayed.
            gathered: self.tokens(shape),
            seqs: seqs.div_ceil(self.ranks),
            rows: rows.div_ceil(self.ranks),
            requests: (seqs + chunks).div_ceil(self.ranks),
            prompts,
        }
    }

    /// The same of a step that only decodes.
    pub(super) fn decode_share(&self, seqs: u32) -> Share {
        let seqs = u64::from(seqs).div_ceil(self.ranks);
        let tokens = seqs * self.queries;
        let gathered = match self.ranks {
            1 => 0,
            ranks if self.graph_padding => ranks * graph_size(tokens),
            ranks => ranks * tokens,
        };
        Share { tokens, gathered, seqs, rows: seqs * self.scored, requests: seqs, prompts: Prompts::default() }
    }

    /// Routed experts of all ranks' tokens; nothing without ranks.
    pub(super) fn among_ranks(&mut self, gathered: u64) -> Cost {
        if gathered == 0 {
            return Cost(0);
        }
        match self.gathered.get(gathered as usize) {
            Some(known) if known.0 != 0 => *known,
            _ => self.fill_gathered(gathered),
        }
    }

    #[cold]
    fn fill_gathered(&mut self, tokens: u64) -> Cost {
        let cost = self.gathered_time(tokens).cost();
        if let Some(slot) = self.gathered.get_mut(tokens as usize) {
            *slot = cost;
        }
        cost
    }

    /// What a rank computes of its own `tokens` tokens, all layers: attention's matrices, dense MLPs, routers and shared
    /// experts, and where tokens are exchanged, their ways there and back.
    pub(super) fn rank_time(&self, tokens: u64) -> Bound {
        let m = if self.graph_padding { graph_size(tokens) } else { tokens };
        let (layers, dense) = (f64::from(self.model.layers), f64::from(self.model.dense_layers()));
        let hidden_bytes = m as f64 * f64::from(self.model.hidden) * 2.0;
        let reduce = Bound::link(self.rank_comm.all_reduce_us(hidden_bytes));
        let mlp = if dense > 0.0 { self.mlp(m, self.shard.intermediate) + reduce } else { Bound::default() };
        let sparse = self.model.moe.map_or(Bound::default(), |moe| {
            let router = self.matmul(WeightDtype::Bf16, m, u64::from(moe.experts), u64::from(self.model.hidden));
            let width = self.shard.shared_intermediate * moe.shared_experts;
            let shared = if width > 0 { self.mlp(m, width) } else { Bound::default() };
            router + shared + self.sent(m, moe.experts_per_token)
        });
        let ends = small_ends(self, hidden_bytes);
        (self.attention_matmuls(m) + self.layer_small(m) + reduce) * layers
            + mlp * dense
            + sparse * (layers - dense)
            + ends
            + reduce
            + self.recurrent_instead(m, reduce)
    }

    /// A rank's tokens to their experts and back, in bf16, if they travel.
    fn sent(&self, m: u64, experts_per_token: u32) -> Bound {
        let Some(experts) = self.experts.filter(|_| self.exchanges()) else { return Bound::default() };
        let pairs = m as f64 * f64::from(experts_per_token) / self.rank_comm.gpus() * experts.imbalance;
        Bound::link(2.0 * self.comm.all_to_all_us(pairs * f64::from(self.model.hidden) * 2.0))
    }

    /// Routed experts of the tokens of all ranks, all layers; gathered before and scattered behind, unless each token
    /// travels by itself.
    pub(super) fn gathered_time(&self, tokens: u64) -> Bound {
        let Some(moe) = self.model.moe else { return Bound::default() };
        let sparse = f64::from(self.model.layers - self.model.dense_layers());
        let bytes = tokens as f64 * f64::from(self.model.hidden) * 2.0;
        let both = if self.exchanges() {
            Bound::default()
        } else {
            Bound::link(self.comm.gather_tokens_us(bytes) + self.comm.scatter_sums_us(bytes))
        };
        (self.routed(tokens, moe) + both) * sparse
    }

    /// Parts of [`Roofline::gathered_time`] by tokens, computed once.
    pub(super) fn gathered_parts(&mut self, tokens: u64) -> Parts {
        if tokens == 0 {
            return Parts::default();
        }
        let mut memo = std::mem::take(&mut self.gathered_parts);
        let parts = super::known(&mut memo, self.gathered.len(), tokens, |tokens| self.gathered_time(tokens));
        self.gathered_parts = memo;
        parts
    }
}

/// Embedding and final norm.
fn small_ends(roofline: &Roofline, hidden_bytes: f64) -> Bound {
    let small = |bytes: f64| crate::cost::forms::small_kernel(&roofline.gpu, bytes);
    small(2.0 * hidden_bytes) + small(3.0 * hidden_bytes)
}
