//! Closed forms of kernel times [µs], as functions of shape and a GPU's constants. Symbols: [`crate::hardware::gpu`].

use super::Bound;
use crate::hardware::gpu::{GpuSpec, MatmulFit};
use crate::hardware::model::{KvDtype, MlaSpec, MoeSpec, WeightDtype};
use crate::hardware::parallel::{Exchange, ExpertParallel};

/// Heads of one attention kernel, as one GPU sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadShape {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
}

/// Head dimension whose constants stand in for latent attention.
pub(crate) const LATENT_FIT: u32 = 128;

/// A matrix product `y[m,n] = x[m,k] · W[n,k]ᵀ` by form G; `None` where the GPU has no arithmetic for the dtype.
///
/// int4 weights, and fp8 where the GPU has no fp8 arithmetic (inferred, no measurements): the bf16 constants over fewer bits per weight.
pub fn matmul_us(gpu: &GpuSpec, dtype: WeightDtype, m: u64, n: u64, k: u64) -> Option<f64> {
    matmul(gpu, dtype, m, n, k).map(|time| time.us)
}

/// The same by what binds it: its two rooflines, launch, and quantising, which moves activations.
pub(crate) fn matmul(gpu: &GpuSpec, dtype: WeightDtype, m: u64, n: u64, k: u64) -> Option<Bound> {
    let (fit, peak) = match dtype {
        WeightDtype::Bf16 | WeightDtype::Int4 | WeightDtype::Mxfp4 | WeightDtype::Bits(_) => {
            (gpu.matmul.bf16, gpu.peak_bf16.0)
        }
        WeightDtype::Fp8 => match gpu.peak_fp8 {
            Some(peak) => (gpu.matmul.fp8?, peak.0),
            // Marlin: read as fp8, multiplied in bf16.
            None => (gpu.matmul.bf16, gpu.peak_bf16.0),
        },
    };
    let MatmulFit { compute, memory, floor_us, k0, sharpness, quantise } = fit;
    let weight_bytes = dtype.bytes(n * k) as f64;
    let (m, n, k) = (m as f64, n as f64, k as f64);
    let flops_us = 2.0 * m * n * k * (1.0 + k0 / k) / (compute * peak) * 1e6;
    let bytes_us = (weight_bytes + 2.0 * m * (n + k)) / (memory * gpu.bandwidth.0) * 1e6;
    let quantise_us = quantise.map_or(0.0, |fraction| 3.0 * m * k / (fraction * gpu.bandwidth.0) * 1e6);
    Some(Bound::roof(flops_us, bytes_us, sharpness) + Bound::fixed(floor_us) + Bound::memory(quantise_us))
}

/// The routed experts of one layer, as one GPU sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpertShape {
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of one expert here.
    pub width: u32,
    /// Matrices of an expert that read the residual stream.
    pub inputs: u32,
    /// Experts that each token visits.
    pub per_token: u32,
}

/// Which part of a layer's experts one GPU computes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ExpertShare {
    /// Pairs of token and expert among its own.
    pub own: f64,
    /// Pairs that it sees and others compute.
    pub elsewhere: f64,
    /// Distinct experts of its own among them.
    pub touched: f64,
    /// Whether experts are spread by number: their kernel then costs a little more.
    pub spread: bool,
}

impl ExpertShare {
    /// What the mean GPU of a group of `gpus` computes of a layer's experts when `tokens` tokens visit them. It holds
    /// `held` of the experts: all, split by width, or its share of them, whole.
    pub fn of(moe: MoeSpec, held: u32, spread: Option<ExpertParallel>, gpus: f64, tokens: u64) -> ExpertShare {
        ExpertShare::above(moe, held, spread, gpus, tokens, 0.0)
    }

    /// What the busiest GPU of the group computes. Experts that are picked at random do not fall on its GPUs alike: with
    /// `n` pairs of mean, the busiest of `g` has `n + z·√(n·(1 − 1/g))`, where `z` is the expected maximum of `g` normal
    /// values, and as many more distinct experts by the same rule. That is chance alone; [`ExpertParallel::imbalance`]
    /// is on top of it.
    pub fn busiest(moe: MoeSpec, held: u32, spread: Option<ExpertParallel>, gpus: f64, tokens: u64) -> ExpertShare {
        ExpertShare::above(moe, held, spread, gpus, tokens, expected_maximum(gpus))
    }

    /// A GPU that is `deviations` standard deviations above the mean one.
    fn above(
        moe: MoeSpec,
        held: u32,
        spread: Option<ExpertParallel>,
        gpus: f64,
        tokens: u64,
        deviations: f64,
    ) -> ExpertShare {
        let pairs = tokens as f64 * f64::from(moe.experts_per_token);
        let touched = moe.touched(tokens as f64);
        let Some(experts) = spread else {
            return ExpertShare { own: pairs, elsewhere: 0.0, touched, spread: false };
        };
        let (held, mean) = (f64::from(held), pairs / gpus);
        let own = ((mean + deviations * (mean * (1.0 - 1.0 / gpus)).sqrt()) * experts.imbalance).min(pairs);
        let mean = (touched / gpus).min(held);
        let touched = ((mean + deviations * (mean * (1.0 - mean / held)).sqrt()) * experts.imbalance).min(held);
        let elsewhere = if experts.exchange == Exchange::AllToAll { 0.0 } else { pairs - own };
        ExpertShare { own, elsewhere, touched, spread: true }
    }
}

/// The expected maximum of 1, 2, 4, 8 ... independent standard normal values.
const EXPECTED_MAXIMA: [f64; 8] = [0.0, 0.5642, 1.0294, 1.4236, 1.7660, 2.0697, 2.3437, 2.5941];

/// The expected maximum of `n` independent standard normal values; linear in the logarithm between powers of two.
fn expected_maximum(n: f64) -> f64 {
    let doublings = n.max(1.0).log2().min((EXPECTED_MAXIMA.len() - 1) as f64);
    let below = doublings.floor() as usize;
    let above = (below + 1).min(EXPECTED_MAXIMA.len() - 1);
    EXPECTED_MAXIMA[below] + (EXPECTED_MAXIMA[above] - EXPECTED_MAXIMA[below]) * doublings.fract()
}

/// One fused layer of experts for `m` tokens that visit `touched` distinct experts; `None` where the GPU has no
/// constants for the dtype.
///
/// `FLOP = 2·m·k·w` and `bytes = touched·w + activations`, `w` the weights of one expert. int4 weights, and MXFP4 where the GPU has no
/// constants for it (inferred, no measurements): the bf16 constants over fewer bits per weight.
pub fn experts_us(gpu: &GpuSpec, dtype: WeightDtype, shape: ExpertShape, m: u64, touched: f64) -> Option<f64> {
    let own = m as f64 * f64::from(shape.per_token);
    expert_share_us(gpu, dtype, shape, ExpertShare { own, elsewhere: 0.0, touched, spread: false })
}

/// The same for a GPU that holds a part of the experts. Where it sees all tokens, the buffers of the pairs that are
/// computed elsewhere are cleared and summed all the same.
pub fn expert_share_us(gpu: &GpuSpec, dtype: WeightDtype, shape: ExpertShape, share: ExpertShare) -> Option<f64> {
    expert_share(gpu, dtype, shape, share).map(|time| time.us)
}

/// The same by what binds it: its two rooflines, the buffers of pairs that are computed elsewhere, launches and the start of each expert.
pub(crate) fn expert_share(gpu: &GpuSpec, dtype: WeightDtype, shape: ExpertShape, share: ExpertShare) -> Option<Bound> {
    let experts = gpu.experts.as_ref()?;
    let fp8 = gpu.peak_fp8.filter(|_| dtype == WeightDtype::Fp8);
    let fit = if dtype == WeightDtype::Fp8 && fp8.is_none() { experts.bf16 } else { experts.fit(dtype)? };
    let peak = fp8.unwrap_or(gpu.peak_bf16).0;
    let ExpertShape { hidden, width, inputs, .. } = shape;
    let weights = u64::from(hidden) * u64::from(width) * u64::from(inputs + 1);
    let stream = fit.memory * gpu.bandwidth.0;
    let flops_us = 2.0 * share.own * weights as f64 / (fit.compute * peak) * 1e6;
    let activations = 2.0 * share.own * (2.0 * f64::from(hidden) + f64::from(inputs + 1) * f64::from(width));
    let bytes = share.touched * dtype.bytes(weights) as f64 + activations;
    let bytes_us = bytes / stream * 1e6;
    let both = Bound::roof(flops_us, bytes_us, fit.sharpness);
    let elsewhere = match (share.spread, fit.elsewhere) {
        (false, _) => Bound::default(),
        (true, None) => return None,
        (true, Some(fit)) => {
            let moved = 2.0 * share.elsewhere * f64::from(hidden) * fit.passes / stream * 1e6;
            Bound::fixed(fit.floor_us) + Bound::memory(moved)
        }
    };
    Some(both + Bound::fixed(fit.expert_ns * 1e-3 * share.touched) + Bound::fixed(fit.floor_us) + elsewhere)
}

/// Decode attention as an affine function of batch and context sum.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DecodeAttention {
    /// Per launch.
    pub floor: Bound,
    /// Per sequence.
    pub per_seq: Bound,
    /// Per attended KV token.
    pub per_context: Bound,
}

impl DecodeAttention {
    /// Form C with a GPU's constants; `None` where there are none for this KV dtype and head dimension.
    pub fn new(gpu: &GpuSpec, kv: KvDtype, shape: HeadShape) -> Option<DecodeAttention> {
        let fit = gpu.decode_fit(kv, shape.head_dim)?;
        let (heads, kv_heads) = (f64::from(shape.heads), f64::from(shape.kv_heads));
        let head_dim = f64::from(shape.head_dim);
        let stream = fit.memory * gpu.bandwidth.0;
        let kv_bytes = 2.0 * kv_heads * head_dim * kv.bytes() as f64;
        Some(DecodeAttention {
            floor: Bound::fixed(fit.floor_us),
            per_seq: Bound::memory(4.0 * heads * head_dim / stream * 1e6)
                + Bound::fixed(fit.sequence_ns * 1e-3 * kv_heads),
            per_context: (Bound::memory(kv_bytes / stream)
                + Bound::compute(4.0 * heads * head_dim / (fit.compute * gpu.peak_bf16.0)))
                * 1e6,
        })
    }

    /// Absorbed latent attention: every head reads the same stored vectors, once, and works in their width, so the time
    /// is the longer of reading (at the bandwidth of decode attention) and arithmetic (at the fraction of the peak of
    /// prefill attention, which many heads over one vector resemble).
    ///
    /// Inferred: no tables. On an H100 that is 0.94 of the bandwidth and 0.69 of the peak; FlashMLA's authors state
    /// 3000 GB/s and 660 TFLOP/s on an H800, 0.90 and 0.67.
    pub fn latent(gpu: &GpuSpec, kv: KvDtype, heads: u32, mla: MlaSpec) -> Option<DecodeAttention> {
        let decode = gpu.decode_fit(kv, LATENT_FIT)?;
        let prefill = gpu.prefill_fit(KvDtype::Bf16, LATENT_FIT)?;
        let (heads, stored) = (f64::from(heads), f64::from(mla.stored()));
        let stream = decode.memory.min(1.0) * gpu.bandwidth.0;
        let width = stored + f64::from(mla.kv_lora_rank);
        let read = stored * kv.bytes() as f64 / stream;
        let compute = 2.0 * heads * width / (prefill.compute * gpu.peak_bf16.0);
        Some(DecodeAttention {
            floor: Bound::fixed(decode.floor_us),
            per_seq: Bound::memory(2.0 * heads * width / stream * 1e6) + Bound::fixed(decode.sequence_ns * 1e-3),
            per_context: Bound::memory(read).max(Bound::compute(compute)) * 1e6,
        })
    }

    /// The same where every sequence has `queries` tokens in a row, the context being that of the first: keys and values are read once
    /// for all of them, each one's arithmetic is its own. For latent attention, whose arithmetic is not told apart here, see
    /// [`DecodeAttention::longer`].
    #[must_use]
    pub fn verifying(self, queries: u32) -> DecodeAttention {
        let more = f64::from(queries) - 1.0;
        let arithmetic = Bound::compute(self.per_context.compute);
        let reading = self.per_context - arithmetic;
        // The token at place i behind the first attends to i more.
        let tail = arithmetic * (more * (more + 1.0) / 2.0) + reading * more;
        DecodeAttention {
            floor: self.floor,
            per_seq: self.per_seq + Bound::memory(self.per_seq.memory) * more + tail,
            per_context: self.per_context + arithmetic * more,
        }
    }

    /// The same where every sequence attends to so many tokens more than its context.
    #[must_use]
    pub fn longer(self, tokens: u32) -> DecodeAttention {
        DecodeAttention { per_seq: self.per_seq + self.per_context * f64::from(tokens), ..self }
    }

    /// One launch over `seqs` sequences with `context` attended tokens in all.
    pub fn us(&self, seqs: u64, context: u64) -> f64 {
        self.floor.us + self.per_seq.us * seqs as f64 + self.per_context.us * context as f64
    }
}

/// Prefill attention of one sequence with `s` new tokens after `p` present ones:
/// `per_pair · (s² + 2sp) + per_token · s + per_past · p`, and a floor per launch.
///
/// Form C knows whole prompts (`p = 0`). A chunk over a past does `4hd·(sp + s(s+1)/2)` FLOP, at the same fraction of
/// the peak, and reads the past's keys and values once, at the bandwidth that decode attention reaches on the same
/// paged cache (inferred: no chunked measurements).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PrefillAttention {
    /// Per launch.
    pub floor: Bound,
    /// Per unit of `s² + 2sp`.
    pub per_pair: Bound,
    /// Per new token.
    pub per_token: Bound,
    /// Per token already present.
    pub per_past: Bound,
}

impl PrefillAttention {
    /// Form C with a GPU's constants; `None` where there are none for this KV dtype and head dimension.
    pub fn new(gpu: &GpuSpec, kv: KvDtype, shape: HeadShape) -> Option<PrefillAttention> {
        let fit = gpu.prefill_fit(kv, shape.head_dim)?;
        let decode = gpu.decode_fit(kv, shape.head_dim)?;
        let (heads, kv_heads) = (f64::from(shape.heads), f64::from(shape.kv_heads));
        let head_dim = f64::from(shape.head_dim);
        let kv_size = kv.bytes() as f64;
        let per_pair = 2.0 * heads * head_dim / (fit.compute * gpu.peak_bf16.0);
        let bytes = head_dim * (4.0 * heads + (4.0 + 2.0 * kv_size) * kv_heads);
        let past_bytes = 2.0 * kv_size * kv_heads * head_dim;
        Some(PrefillAttention {
            floor: Bound::fixed(fit.floor_us),
            per_pair: Bound::compute(per_pair * 1e6),
            per_token: token(per_pair * fit.offset_tokens, bytes / (fit.memory * gpu.bandwidth.0)),
            per_past: Bound::memory(past_bytes / (decode.memory * gpu.bandwidth.0) * 1e6),
        })
    }

    /// Latent attention with keys and values made from the latents: as many of them as query heads. Those of a past
    /// are made again from the stored vectors. Inferred: the constants of head_dim 128 in bf16, no tables.
    pub fn latent(gpu: &GpuSpec, kv: KvDtype, heads: u32, mla: MlaSpec) -> Option<PrefillAttention> {
        let fit = gpu.prefill_fit(KvDtype::Bf16, LATENT_FIT)?;
        let decode = gpu.decode_fit(kv, LATENT_FIT)?;
        let heads = f64::from(heads);
        let (key, value) = (f64::from(mla.qk_head_dim()), f64::from(mla.v_head_dim));
        let arithmetic = fit.compute * gpu.peak_bf16.0;
        let per_pair = heads * (key + value) / arithmetic;
        let bytes = 2.0 * heads * 2.0 * (key + value);
        let stored = f64::from(mla.stored()) * kv.bytes() as f64;
        let made = f64::from(mla.nope_head_dim + mla.v_head_dim);
        let making = 2.0 * heads * f64::from(mla.kv_lora_rank) * made / arithmetic;
        let read = (stored + 2.0 * heads * (key + value)) / (decode.memory.min(1.0) * gpu.bandwidth.0);
        Some(PrefillAttention {
            floor: Bound::fixed(fit.floor_us),
            per_pair: Bound::compute(per_pair * 1e6),
            per_token: token(per_pair * fit.offset_tokens, bytes / (fit.memory * gpu.bandwidth.0)),
            per_past: (Bound::compute(making) + Bound::memory(read)) * 1e6,
        })
    }

    /// One launch over `batch` equal prompts of `tokens` tokens after `past` present ones.
    pub fn us(&self, batch: u64, tokens: u64, past: u64) -> f64 {
        let (batch, tokens, past) = (batch as f64, tokens as f64, past as f64);
        let pairs = self.per_pair.us * (tokens * tokens + 2.0 * tokens * past);
        self.floor.us + batch * (pairs + self.per_token.us * tokens + self.per_past.us * past)
    }
}

/// What a new token of a prompt costs beside its pairs, from seconds of arithmetic and of memory.
fn token(compute: f64, memory: f64) -> Bound {
    (Bound::compute(compute) + Bound::memory(memory)) * 1e6
}

/// A kernel that moves `bytes` of activations and computes next to nothing.
pub fn small_kernel_us(gpu: &GpuSpec, bytes: f64) -> f64 {
    small_kernel(gpu, bytes).us
}

/// The same by what binds it.
pub(crate) fn small_kernel(gpu: &GpuSpec, bytes: f64) -> Bound {
    Bound::fixed(gpu.small_kernels.floor_us) + Bound::memory(bytes / (gpu.small_kernels.memory * gpu.bandwidth.0) * 1e6)
}
