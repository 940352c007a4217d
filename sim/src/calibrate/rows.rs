//! Measured kernel times, whatever tool they come from.

use crate::cost::forms::{
    DecodeAttention, ExpertShape, ExpertShare, HeadShape, PrefillAttention, expert_share_us, matmul_us, small_kernel_us,
};
use crate::hardware::gpu::GpuSpec;
use crate::hardware::model::{KvDtype, MoeSpec, WeightDtype};

/// One row of a table: a shape and its time.
pub(super) trait Row {
    /// The measured time [µs].
    fn us(&self) -> f64;
    /// What the closed form says, with a GPU's constants [µs].
    fn predicted(&self, gpu: &GpuSpec) -> Option<f64>;
    /// Rows of the same shape are fitted or held out together.
    fn shape(&self) -> [u64; 3];
    /// The sizes that a hull is made of.
    fn axes(&self) -> Vec<(&'static str, u64)>;
    /// Bytes that a cold kernel has to fetch, as far as another call could have left them in the cache.
    fn resident_bytes(&self) -> f64;
}

/// A matrix product `y[m,n] = x[m,k] · W[n,k]ᵀ`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MatmulRow {
    /// Arithmetic.
    pub dtype: WeightDtype,
    /// Rows of the activations.
    pub m: u64,
    /// Output features.
    pub n: u64,
    /// Input features.
    pub k: u64,
    /// Time [µs].
    pub us: f64,
}

/// Decode attention of equal sequences.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DecodeRow {
    /// Stored keys and values.
    pub kv: KvDtype,
    /// Heads of one GPU.
    pub heads: HeadShape,
    /// Sequences.
    pub batch: u64,
    /// Tokens attended by each, the current one included.
    pub context: u64,
    /// Time [µs].
    pub us: f64,
}

/// Prefill attention of equal prompts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PrefillRow {
    /// Stored keys and values.
    pub kv: KvDtype,
    /// Heads of one GPU.
    pub heads: HeadShape,
    /// Sequences.
    pub batch: u64,
    /// New tokens of each.
    pub tokens: u64,
    /// Tokens already present.
    pub past: u64,
    /// Time [µs].
    pub us: f64,
}

/// One GPU's part of a fused layer of experts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ExpertsRow {
    /// Arithmetic.
    pub dtype: WeightDtype,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of one whole expert.
    pub width: u32,
    /// Experts that each token visits.
    pub per_token: u32,
    /// Experts of the layer.
    pub experts: u32,
    /// GPUs over the width.
    pub tensor: u32,
    /// GPUs over the experts.
    pub spread: u32,
    /// Whether every expert gets as many tokens; else routing is random.
    pub balanced: bool,
    /// Tokens of the layer.
    pub tokens: u64,
    /// Time [µs].
    pub us: f64,
}

/// A collective over the GPUs of one server.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CollectiveRow {
    /// GPUs.
    pub gpus: u32,
    /// Buffer of each [bytes].
    pub bytes: u64,
    /// Time [µs].
    pub us: f64,
}

/// A kernel that only moves activations.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SmallRow {
    /// Bytes read and written.
    pub bytes: u64,
    /// Time [µs].
    pub us: f64,
}

/// All that a tool has measured on one kind of GPU.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Samples {
    /// Matrix products.
    pub matmul: Vec<MatmulRow>,
    /// Copies of the weights that the timing went through in turn (1: always the same).
    pub weight_copies: u32,
    /// Decode attention.
    pub decode: Vec<DecodeRow>,
    /// Prefill attention.
    pub prefill: Vec<PrefillRow>,
    /// Experts.
    pub experts: Vec<ExpertsRow>,
    /// All-reduces.
    pub all_reduce: Vec<CollectiveRow>,
    /// All-to-alls.
    pub all_to_all: Vec<CollectiveRow>,
    /// Small kernels.
    pub small: Vec<SmallRow>,
}

impl Row for MatmulRow {
    fn us(&self) -> f64 {
        self.us
    }

    fn predicted(&self, gpu: &GpuSpec) -> Option<f64> {
        matmul_us(gpu, self.dtype, self.m, self.n, self.k)
    }

    fn shape(&self) -> [u64; 3] {
        [self.n, self.k, 0]
    }

    fn axes(&self) -> Vec<(&'static str, u64)> {
        vec![("m", self.m), ("n", self.n), ("k", self.k)]
    }

    fn resident_bytes(&self) -> f64 {
        self.dtype.bytes(self.n * self.k) as f64
    }
}

impl Row for DecodeRow {
    fn us(&self) -> f64 {
        self.us
    }

    fn predicted(&self, gpu: &GpuSpec) -> Option<f64> {
        Some(DecodeAttention::new(gpu, self.kv, self.heads)?.us(self.batch, self.batch * self.context))
    }

    fn shape(&self) -> [u64; 3] {
        [u64::from(self.heads.heads), u64::from(self.heads.kv_heads), 0]
    }

    fn axes(&self) -> Vec<(&'static str, u64)> {
        let (heads, kv_heads) = (u64::from(self.heads.heads), u64::from(self.heads.kv_heads));
        vec![("heads", heads), ("kv_heads", kv_heads), ("batch", self.batch), ("context", self.context)]
    }

    fn resident_bytes(&self) -> f64 {
        let token = 2 * u64::from(self.heads.kv_heads) * u64::from(self.heads.head_dim) * self.kv.bytes();
        let bytes = self.batch * self.context * token;
        // Below a megabyte the launch is what takes time, wherever the data are.
        if bytes < 1_000_000 { f64::INFINITY } else { bytes as f64 }
    }
}

impl Row for PrefillRow {
    fn us(&self) -> f64 {
        self.us
    }

    fn predicted(&self, gpu: &GpuSpec) -> Option<f64> {
        Some(PrefillAttention::new(gpu, self.kv, self.heads)?.us(self.batch, self.tokens, self.past))
    }

    fn shape(&self) -> [u64; 3] {
        [u64::from(self.heads.heads), u64::from(self.heads.kv_heads), 0]
    }

    fn axes(&self) -> Vec<(&'static str, u64)> {
        let (heads, kv_heads) = (u64::from(self.heads.heads), u64::from(self.heads.kv_heads));
        vec![("heads", heads), ("kv_heads", kv_heads), ("batch", self.batch), ("tokens", self.tokens)]
    }

    /// Prefill is bound by arithmetic; nothing is left out.
    fn resident_bytes(&self) -> f64 {
        f64::INFINITY
    }
}

impl Row for ExpertsRow {
    fn us(&self) -> f64 {
        self.us
    }

    fn predicted(&self, gpu: &GpuSpec) -> Option<f64> {
        let pairs = self.tokens as f64 * f64::from(self.per_token);
        let own = pairs / f64::from(self.spread);
        let held = f64::from(self.experts) / f64::from(self.spread);
        let touched = if self.balanced {
            held.min(own.max(1.0))
        } else {
            let moe = MoeSpec {
                experts: self.experts,
                experts_per_token: self.per_token,
                expert_intermediate: self.width,
                shared_experts: 0,
                dense_layers: 0,
                skew: 0.0,
            };
            moe.touched(self.tokens as f64) / f64::from(self.spread)
        };
        let share = ExpertShare { own, elsewhere: pairs - own, touched, spread: self.spread > 1 };
        let width = self.width / self.tensor;
        let shape = ExpertShape { hidden: self.hidden, width, inputs: 2, per_token: self.per_token };
        expert_share_us(gpu, self.dtype, shape, share)
    }

    fn shape(&self) -> [u64; 3] {
        let width = u64::from(self.width / self.tensor);
        [u64::from(self.hidden) << 32 | width, u64::from(self.experts), u64::from(self.spread)]
    }

    fn axes(&self) -> Vec<(&'static str, u64)> {
        vec![("tokens", self.tokens), ("experts", u64::from(self.experts)), ("hidden", u64::from(self.hidden))]
    }

    fn resident_bytes(&self) -> f64 {
        let weights = 3 * u64::from(self.hidden) * u64::from(self.width / self.tensor);
        self.dtype.bytes(weights) as f64 * f64::from(self.experts / self.spread)
    }
}

impl Row for SmallRow {
    fn us(&self) -> f64 {
        self.us
    }

    fn predicted(&self, gpu: &GpuSpec) -> Option<f64> {
        Some(small_kernel_us(gpu, self.bytes as f64))
    }

    fn shape(&self) -> [u64; 3] {
        [self.bytes, 0, 0]
    }

    fn axes(&self) -> Vec<(&'static str, u64)> {
        vec![("bytes", self.bytes)]
    }

    /// Activations were written a moment ago, in a server too.
    fn resident_bytes(&self) -> f64 {
        f64::INFINITY
    }
}

/// A row of a collective table, with the fit that it belongs to set on an all-reduce of that size.
impl Row for CollectiveRow {
    fn us(&self) -> f64 {
        self.us
    }

    fn predicted(&self, gpu: &GpuSpec) -> Option<f64> {
        Some(gpu.all_reduce_fit(self.gpus)?.us(self.bytes as f64))
    }

    fn shape(&self) -> [u64; 3] {
        [0; 3]
    }

    fn axes(&self) -> Vec<(&'static str, u64)> {
        vec![("bytes", self.bytes)]
    }

    fn resident_bytes(&self) -> f64 {
        f64::INFINITY
    }
}
