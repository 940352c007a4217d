//! What fits into a GPU's memory: weights, a reserve, and the pool of KV blocks in what is left.
//!
//! vLLM profiles one step of its largest size before it makes the pool, which takes what remains of `utilization × memory`. What
//! counts is what the process adds after its first look at the GPU, so that neither the CUDA context nor the graphs captured later
//! are in it. SGLang sets its reserve aside by a rule of its own.
//!
//! Checked against what engines print as they start (`sim/tests/cost/memory.rs`).

use std::fmt;

use crate::hardware::gpu::GpuSpec;
use crate::hardware::model::{KvDtype, ModelError, ModelSpec, Shard, WeightDtype};
use crate::hardware::parallel::{Exchange, Split, stage_layers};
use crate::units::Bytes;

/// Memory outside of the allocator that a process adds on every GPU (libraries, kernels). Inferred: Qwen2.5-7B on an A100 takes 0.6 GiB
/// beside weights and pool, nearly all of which is [`SAMPLER_BYTES`].
pub const LIBRARY_BYTES: u64 = 240 << 20;

/// Memory per sequence and word of the vocabulary while tokens are drawn: logits in bf16 and f32, probabilities, indices. Inferred from
/// the same logs, whose vLLM draws with FlashInfer. PyTorch's sort takes more than twice as much: gpt-oss-120b had 7.5 GiB less.
pub const SAMPLER_BYTES: u64 = 16;

/// Communication buffers of a GPU in a tensor-parallel group (NCCL, custom all-reduce). Inferred from logs of Qwen2.5-7B and 14B on two
/// GPUs.
pub const COMMUNICATION_BYTES: u64 = 450 << 20;

/// What these buffers take more where GPUs have no NVLink between them: without custom all-reduce NCCL has more channels.
pub const PCIE_BYTES: u64 = 400 << 20;

/// Whose rule gives the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PoolRule {
    /// vLLM: `utilization × memory`, less weights and the peak of a profiled step.
    #[default]
    Profiled,
    /// SGLang: `utilization × memory`, less weights. The rest is the reserve.
    SetAside,
    /// TensorRT-LLM: as vLLM, with buffers for logits in bf16 and f32, and none to draw tokens by sorting.
    Logits,
}

/// How a replica is laid out in memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Layout {
    /// GPUs that split every layer.
    pub tensor_parallel: u32,
    /// Groups of them, each with a run of the layers.
    pub stages: u32,
    /// Parts of a group that divide its requests among them; each holds the KV of its own.
    pub ranks: u32,
    /// Experts spread by number instead of by width.
    pub experts: Option<Exchange>,
    /// Weights of the layers.
    pub weights: WeightDtype,
    /// Keys and values.
    pub kv: KvDtype,
    /// Share of the memory that the engine may use (vLLM `gpu_memory_utilization`).
    pub utilization: f64,
    /// Tokens per KV block.
    pub block_tokens: u32,
    /// Bytes that a token has in each layer and KV head beside its key and value: position and score, under a retention policy.
    pub slot_bytes: u32,
    /// Largest batch [tokens]: sizes the activations.
    pub max_batched_tokens: u32,
    /// Most sequences in a batch: sizes the logits.
    pub max_seqs: u32,
    /// Whose rule gives the pool.
    pub rule: PoolRule,
}

impl Layout {
    /// How every layer is split over a group.
    pub fn split(&self) -> Split {
        Split { tensor: self.tensor_parallel, ranks: self.ranks, experts: self.experts }
    }
}

/// Memory of one GPU, split up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryPlan {
    /// What the engine may use.
    pub budget: Bytes,
    /// Weights.
    pub weights: Bytes,
    /// Libraries, communication, activations and the sampler.
    pub reserve: Bytes,
    /// One KV block, all layers.
    pub block: Bytes,
    /// Blocks in the pool: of each rank, where requests are divided among ranks.
    pub blocks: u64,
}

/// Why there is no room.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum MemoryError {
    /// The shape is wrong or does not split.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// `utilization` is not a share.
    #[error("utilization {0} is not between 0 and 1")]
    Utilization(f64),
    /// Not even one KV block fits.
    #[error("{0}")]
    DoesNotFit(Box<Shortfall>),
}

/// The arithmetic of a model that does not fit.
#[derive(Clone, PartialEq, Debug)]
pub struct Shortfall {
    /// The model.
    pub model: String,
    /// The GPU.
    pub gpu: String,
    /// The layout that was asked for.
    pub layout: Layout,
    /// Memory of one GPU.
    pub memory: Bytes,
    /// The plan, with no blocks in it.
    pub plan: MemoryPlan,
    /// Layouts that would fit, simplest first.
    pub remedies: Vec<(u32, WeightDtype)>,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: Bytes| bytes.0 as f64 / f64::from(1 << 30);
        let Layout { tensor_parallel, weights, utilization, .. } = self.layout;
        let (plan, needed) = (&self.plan, self.plan.weights.0 + self.plan.reserve.0 + self.plan.block.0);
        write!(
            f,
            "{} ({weights}, tensor_parallel {tensor_parallel}) does not fit on {}: per GPU, weights {:.1} GiB + reserve \
             {:.1} GiB + one KV block {:.1} MiB = {:.1} GiB > {utilization:.2} x {:.1} GiB = {:.1} GiB",
            self.model,
            self.gpu,
            gib(plan.weights),
            gib(plan.reserve),
            plan.block.0 as f64 / f64::from(1 << 20),
            gib(Bytes(needed)),
            gib(self.memory),
            gib(plan.budget),
        )?;
        for (index, (tp, dtype)) in self.remedies.iter().enumerate() {
            f.write_str(if index == 0 { "; try " } else { ", or " })?;
            match (*tp != tensor_parallel, *dtype != weights) {
                (true, false) => write!(f, "tensor_parallel {tp}")?,
                (false, _) => write!(f, "{dtype} weights")?,
                (true, true) => write!(f, "{dtype} weights with tensor_parallel {tp}")?,
            }
        }
        if self.remedies.is_empty() {
            f.write_str("; no tensor_parallel up to 8 and no weight dtype helps")
        } else {
            Ok(())
        }
    }
}

/// A run of a model's layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stage {
    /// How many.
    pub layers: u32,
    /// Those of them with a dense MLP.
    pub dense: u32,
    /// Whether the embedding is here.
    pub first: bool,
    /// Whether final norm and head are here.
    pub last: bool,
}

impl Stage {
    /// The stages of a pipeline over that many groups of GPUs, in order.
    pub fn all(model: &ModelSpec, stages: u32) -> Vec<Stage> {
        let counts = stage_layers(model.layers, stages);
        let mut start = 0;
        let stage = |(index, &layers): (usize, &u32)| {
            let dense = model.dense_layers().saturating_sub(start).min(layers);
            start += layers;
            Stage { layers, dense, first: index == 0, last: index + 1 == counts.len() }
        };
        counts.iter().enumerate().map(stage).collect()
    }
}

/// Bytes of weights on one GPU. Norms and routers are copied, embedding and head split; these four are bf16.
pub fn weight_bytes(model: &ModelSpec, shard: &Shard, dtype: WeightDtype) -> u64 {
    let whole = Stage { layers: model.layers, dense: model.dense_layers(), first: true, last: true };
    stage_weight_bytes(model, shard, dtype, whole)
}

/// The same for one stage of a pipeline; with tied embeddings the last one has a copy.
pub fn stage_weight_bytes(model: &ModelSpec, shard: &Shard, dtype: WeightDtype, stage: Stage) -> u64 {
    let hidden = u64::from(model.hidden);
    let attention = model.attention_weights_of(shard.heads, shard.kv_heads);
    let layer = |mlp: u64| dtype.outside_experts().bytes(attention + mlp) + 2 * model.layer_norm_weights();
    // Recurrent layers have a recurrence where the others have attention. They are spread over all stages alike.
    let recurrent =
        u64::from(model.layers - model.attention_layers()) * u64::from(stage.layers) / u64::from(model.layers);
    let of = |weights: u64| recurrent * dtype.outside_experts().bytes(weights);
    let (instead, gone) = (of(model.recurrent_weights_of(shard.recurrent)), of(attention));
    let (layers, dense) = (u64::from(stage.layers), u64::from(stage.dense));
    let experts = layer(0) + model.expert_bytes_of(shard, dtype) + 2 * model.router_weights();
    let both = stage.first && stage.last && !model.tied_embeddings;
    let vocabularies = u64::from(stage.first || stage.last) + u64::from(both);
    dense * layer(model.mlp_weights_of(shard.intermediate)) + (layers - dense) * experts + instead - gone
        + 2 * (vocabularies * u64::from(shard.vocab) * hidden + u64::from(stage.last) * hidden)
}

/// Bytes of keys and values of one token on one GPU, all layers that keep them. The latent of `mla` is copied to every GPU.
pub fn kv_bytes_per_token(model: &ModelSpec, shard: &Shard, dtype: KvDtype) -> u64 {
    u64::from(model.whole_layers()) * model.stored_per_token(shard.kv_heads) * dtype.bytes()
}

/// Memory that is neither weights nor pool. Activations: the MLP's projections beside three copies of the residual stream, or what
/// the sampler holds where that is larger; they are never alive together. Experts: every token's copies on the way in and out, which
/// share their memory with the gate and up projections (vLLM's fused kernel). And the states of recurrent layers.
pub fn reserve_bytes(gpu: &GpuSpec, model: &ModelSpec, shard: &Shard, layout: &Layout) -> u64 {
    let inputs = u64::from(model.mlp_inputs());
    let dense = u64::from(shard.intermediate) * (inputs + 1);
    let routed = model.moe.map_or(0, |moe| {
        let width = u64::from(shard.expert_intermediate);
        let shared = u64::from(moe.shared_experts) * u64::from(shard.shared_intermediate) * (inputs + 1);
        shared + u64::from(moe.experts_per_token) * ((inputs * width).max(u64::from(model.hidden)) + width)
    });
    // A rank holds the tokens of its own requests; before the experts those of all are gathered.
    let ranks = layout.ranks.max(1);
    let own = u64::from(layout.max_batched_tokens.div_ceil(ranks));
    let activations = if ranks == 1 {
        own * 2 * (dense.max(routed) + 3 * u64::from(model.hidden))
    } else {
        let gathered = u64::from(layout.max_batched_tokens) * 2 * (routed + u64::from(model.hidden));
        (own * 2 * dense).max(gathered) + own * 6 * u64::from(model.hidden)
    };
    let drawn = layout.max_seqs.min(layout.max_batched_tokens).div_ceil(ranks);
    let per_word = if layout.rule == PoolRule::Logits { 6 } else { SAMPLER_BYTES };
    let sampler = u64::from(drawn) * u64::from(model.vocab) * per_word;
    // Every sequence that may run has its state, from the memory that is the pool's otherwise. Engines take it as sequences come, and run fewer where
    // that is too much: no more is set aside than half of what the weights leave.
    let stages = u64::from(layout.stages.max(1));
    let budget = (gpu.memory.0 as f64 * layout.utilization) as u64;
    let left = budget.saturating_sub(weight_bytes(model, shard, layout.weights) / stages);
    let states = model.recurrent.map_or(0, |recurrent| {
        let one = u64::from(recurrent.layers) * recurrent.bytes_per_sequence(shard.recurrent);
        (u64::from(layout.max_seqs) * one / stages).min(left / 2)
    });
    let communication = match (layout.tensor_parallel * layout.stages > 1, gpu.has_nvlink()) {
        (false, _) => 0,
        (true, true) => COMMUNICATION_BYTES,
        (true, false) => COMMUNICATION_BYTES + PCIE_BYTES,
    };
    LIBRARY_BYTES + communication + activations.max(sampler) + states
}

/// The memory of a GPU of the stage with the fewest blocks: every stage has as many.
fn split(gpu: &GpuSpec, model: &ModelSpec, layout: &Layout) -> Result<MemoryPlan, ModelError> {
    let shard = model.shard_split(layout.split())?;
    let share = |bytes: u64| (bytes as f64 * layout.utilization) as u64;
    let profiled = reserve_bytes(gpu, model, &shard, layout);
    let beside = u64::from(shard.kv_heads) * u64::from(layout.slot_bytes);
    let per_token = model.stored_per_token(shard.kv_heads) * layout.kv.bytes() + beside;
    let per_layer = per_token * u64::from(layout.block_tokens.max(1));
    let plan = |stage: Stage| {
        let weights = stage_weight_bytes(model, &shard, layout.weights, stage);
        let (budget, reserve) = match layout.rule {
            PoolRule::Profiled | PoolRule::Logits => (share(gpu.memory.0), profiled),
            PoolRule::SetAside => (share(gpu.memory.0), 0),
        };
        // Layers with a window keep next to nothing of a long sequence.
        let whole = (u64::from(stage.layers) * u64::from(model.whole_layers())).div_ceil(u64::from(model.layers));
        let block = per_layer * whole;
        let blocks = budget.saturating_sub(weights).saturating_sub(reserve) / block.max(1);
        MemoryPlan {
            budget: Bytes(budget),
            weights: Bytes(weights),
            reserve: Bytes(reserve),
            block: Bytes(block),
            blocks,
        }
    };
    if layout.stages == 0 || layout.stages > model.layers {
        return Err(ModelError::Stages { model: model.name.clone(), stages: layout.stages, layers: model.layers });
    }
    let plans = Stage::all(model, layout.stages).into_iter().map(plan);
    Ok(plans.min_by_key(|plan| plan.blocks).expect("at least one stage"))
}

/// Splits up the memory of one GPU of a replica, or says why the model does not fit.
pub fn plan(gpu: &GpuSpec, model: &ModelSpec, layout: &Layout) -> Result<MemoryPlan, MemoryError> {
    if !(layout.utilization > 0.0 && layout.utilization <= 1.0) {
        return Err(MemoryError::Utilization(layout.utilization));
    }
    let plan = split(gpu, model, layout)?;
    if plan.blocks > 0 {
        return Ok(plan);
    }
    let fits = |tensor_parallel, weights| {
        let other = Layout { tensor_parallel, weights, ..*layout };
        gpu.supports_weights(weights) && split(gpu, model, &other).is_ok_and(|plan| plan.blocks > 0)
    };
    let tps = || [1, 2, 4, 8].into_iter().filter(|tp| *tp >= layout.tensor_parallel);
    // On more GPUs as it is, or with fewer bits.
    let bits = |dtype: WeightDtype| dtype.bytes(1 << 20);
    let fewer = [WeightDtype::Bf16, WeightDtype::Fp8, WeightDtype::Int4].into_iter();
    let dtypes = std::iter::once(layout.weights).chain(fewer.filter(|dtype| bits(*dtype) < bits(layout.weights)));
    let remedies = dtypes.filter_map(|dtype| Some((tps().find(|tp| fits(*tp, dtype))?, dtype))).collect();
    Err(MemoryError::DoesNotFit(Box::new(Shortfall {
        model: model.name.clone(),
        gpu: gpu.name.clone(),
        layout: *layout,
        memory: gpu.memory,
        plan,
        remedies,
    })))
}
