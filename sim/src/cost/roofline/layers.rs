//! What depends on the number of tokens or rows of a step alone: matrices, experts, collectives, small kernels.

use super::{Roofline, graph_size};
use crate::cost::Bound;
use crate::cost::forms::{ExpertShape, ExpertShare, expert_share, matmul, small_kernel};
use crate::hardware::model::{MoeSpec, WeightDtype};
use crate::hardware::parallel::Exchange;

impl Roofline {
    /// Matmuls, all-reduces, small kernels and embedding of a step with `tokens` tokens; with ranks all but the routed experts.
    pub(super) fn linear_time(&self, tokens: u64) -> Bound {
        if self.ranks > 1 {
            return self.rank_time(tokens);
        }
        let m = if self.graph_padding { graph_size(tokens) } else { tokens };
        let (layers, dense) = (f64::from(self.model.layers), f64::from(self.model.dense_layers()));
        let hidden_bytes = m as f64 * f64::from(self.model.hidden) * 2.0;
        let all_reduce = Bound::link(self.comm.all_reduce_us(hidden_bytes));
        let shared = self.attention_matmuls(m) + self.layer_small(m) + all_reduce * 2.0;
        // Around experts that exchange tokens one of the two all-reduces falls apart into its halves.
        let exchange = self.exchange(m) - if self.exchanges() { all_reduce } else { Bound::default() };
        let mlp = if dense > 0.0 { self.mlp(m, self.shard.intermediate) } else { Bound::default() };
        let experts = self.model.moe.map_or(Bound::default(), |moe| self.experts_time(m, moe));
        // Embedding: gather and write one row per token, sum over the shards. Final norm: read both streams, write one.
        let ends = small_kernel(&self.gpu, 2.0 * hidden_bytes) + small_kernel(&self.gpu, 3.0 * hidden_bytes);
        let stages = Bound::link(self.comm.stages_us(hidden_bytes));
        shared * layers
            + mlp * dense
            + (experts + exchange) * (layers - dense)
            + ends
            + all_reduce
            + stages
            + self.recurrent_instead(m, all_reduce)
    }

    /// Whether tokens travel to their experts.
    pub(super) fn exchanges(&self) -> bool {
        self.experts.is_some_and(|experts| experts.exchange == Exchange::AllToAll)
    }

    /// Tokens to their experts and back, in bf16.
    fn exchange(&self, m: u64) -> Bound {
        let Some((experts, moe)) = self.experts.zip(self.model.moe).filter(|_| self.exchanges()) else {
            return Bound::default();
        };
        let pairs = m as f64 * f64::from(moe.experts_per_token) / self.comm.gpus() * experts.imbalance;
        Bound::link(2.0 * self.comm.all_to_all_us(pairs * f64::from(self.model.hidden) * 2.0))
    }

    pub(super) fn attention_matmuls(&self, m: u64) -> Bound {
        let matrices = self.model.attention_matrices(self.shard.heads, self.shard.kv_heads);
        matrices.into_iter().map(|(n, k)| self.matmul(self.weights.outside_experts(), m, n, k)).sum()
    }

    /// What recurrent layers have more than the attention that stands in their place otherwise, and layers without an MLP less.
    pub(super) fn recurrent_instead(&self, m: u64, all_reduce: Bound) -> Bound {
        let Some(recurrent) = self.model.recurrent else { return Bound::default() };
        let matrices = recurrent.matrices(self.model.hidden, self.shard.recurrent);
        let own: Bound = matrices.into_iter().map(|(n, k)| self.matmul(self.weights.outside_experts(), m, n, k)).sum();
        // One sum over the group and one norm.
        let norm = small_kernel(&self.gpu, 8.0 * m as f64 * f64::from(self.model.hidden));
        (own - self.attention_matmuls(m)) * f64::from(recurrent.layers)
            - (all_reduce + norm) * f64::from(recurrent.without_mlp)
    }

    /// A dense MLP of that width: two matrix products and the activation between them.
    pub(super) fn mlp(&self, m: u64, width: u32) -> Bound {
        let (hidden, inputs, wide) =
            (u64::from(self.model.hidden), u64::from(self.model.mlp_inputs()), u64::from(width));
        let activation = 2.0 * m as f64 * f64::from(width) * (inputs + 1) as f64;
        self.matmul(self.weights.outside_experts(), m, inputs * wide, hidden)
            + self.matmul(self.weights.outside_experts(), m, hidden, wide)
            + small_kernel(&self.gpu, activation)
    }

    /// Router, fused routed experts, and the shared experts as one MLP.
    fn experts_time(&self, m: u64, moe: MoeSpec) -> Bound {
        // Tokens that are this GPU's own outside of the routed experts.
        let own = if self.exchanges() { m.div_ceil(self.comm.gpus() as u64) } else { m };
        let router = self.matmul(WeightDtype::Bf16, own, u64::from(moe.experts), u64::from(self.model.hidden));
        let width = self.shard.shared_intermediate * moe.shared_experts;
        let shared = if width > 0 { self.mlp(own, width) } else { Bound::default() };
        router + self.routed(m, moe) + shared
    }

    /// The routed experts of one layer.
    pub(super) fn routed(&self, m: u64, moe: MoeSpec) -> Bound {
        let shape = ExpertShape {
            hidden: self.model.hidden,
            width: self.shard.expert_intermediate,
            inputs: self.model.mlp_inputs(),
            per_token: moe.experts_per_token,
        };
        // `new` has checked that there are constants.
        expert_share(&self.gpu, self.weights, shape, self.expert_share(m, moe)).unwrap_or_default()
    }

    /// What the busiest GPU of the group computes of a layer's experts: at least what chance makes of an even router.
    fn expert_share(&self, m: u64, moe: MoeSpec) -> ExpertShare {
        ExpertShare::busiest(moe, self.shard.experts, self.experts, self.comm.gpus(), m)
    }

    /// Two norms with residual (four streams each), rotary embedding in place, and norms of queries and keys where the
    /// model has them (with `mla`: of both latents).
    pub(super) fn layer_small(&self, m: u64) -> Bound {
        let m = m as f64;
        let hidden = m * f64::from(self.model.hidden);
        let heads = m * f64::from((self.shard.heads + self.shard.kv_heads) * self.rotated());
        let norm = small_kernel(&self.gpu, 8.0 * hidden);
        let in_place = small_kernel(&self.gpu, 4.0 * heads);
        let latents = self.model.mla.map_or(Bound::default(), |mla| {
            small_kernel(&self.gpu, 4.0 * m * f64::from(mla.kv_lora_rank + mla.q_lora_rank.unwrap_or(0)))
        });
        norm * 2.0 + in_place + latents + if self.model.qk_norm { in_place } else { Bound::default() }
    }

    /// Width of the part of a head that carries the position.
    fn rotated(&self) -> u32 {
        self.model.mla.map_or(self.model.head_dim, |mla| mla.rope_head_dim)
    }

    /// Head, gathering of its shards, and greedy sampling in f32.
    pub(super) fn head_time(&self, rows: u64) -> Bound {
        let logits = rows as f64 * f64::from(self.model.vocab);
        let head = self.matmul(WeightDtype::Bf16, rows, u64::from(self.shard.vocab), u64::from(self.model.hidden));
        // A gather moves half of what an all-reduce of the same buffer moves.
        let gather = if self.rank_comm.is_group() { self.rank_comm.gather_us(2.0 * logits) } else { 0.0 };
        let gather = Bound::link(gather);
        head + gather + small_kernel(&self.gpu, 6.0 * logits) + small_kernel(&self.gpu, 4.0 * logits)
    }

    pub(super) fn matmul(&self, dtype: WeightDtype, m: u64, n: u64, k: u64) -> Bound {
        // `new` has checked that the GPU can multiply the dtype.
        matmul(&self.gpu, dtype, m, n, k).unwrap_or_default()
    }
}
