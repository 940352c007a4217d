//! What a GPU is to the cost models: datasheet peaks and the achieved fractions of its kernels.
//!
//! The kernel constants belong to simple closed forms, named as in the measurement study that they come from:
//!
//! ```text
//! matmul, form G       t = [ (2mnk(1 + k0/k) / (e_c P))^p + (bytes / (e_m W))^p ]^(1/p) + t0 (fp8: + 3mk / (e_q W))
//! decode attention, C  t = (KV + 4bhd) / (e_m W) + 4bhd·ctx / (e_c P) + u·b·kv_heads + t0
//! prefill attention, C t = 2bhd·s(s + s0) / (e_c P) + bytes / (e_m W) + t0
//! collectives          t = t0 + min(bytes, knee)/β + max(bytes − knee, 0)/β2
//! experts              t = [ (FLOP / (e_c P))^p + (bytes / (e_m W))^p ]^(1/p) + u·touched + t0
//! ```
//!
//! `P` is the peak of the arithmetic's dtype (attention: always bf16), `W` the datasheet bandwidth. Every group says
//! where its numbers come from ([`Origin`]).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hardware::model::{KvDtype, WeightDtype};
use crate::hardware::power::PowerSpec;
use crate::units::{Bandwidth, Bytes, Flops, Watts};

/// How a number came to be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OriginKind {
    /// Measured by this project.
    Measured,
    /// Fitted or reasoned from outside evidence.
    Inferred,
    /// Taken from the measurements of others.
    Imported,
    /// Stated by the maker.
    Datasheet,
}

impl fmt::Display for OriginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            OriginKind::Measured => "measured",
            OriginKind::Inferred => "inferred",
            OriginKind::Imported => "imported",
            OriginKind::Datasheet => "datasheet",
        })
    }
}

/// Provenance of a group of numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// How the numbers came to be known.
    pub kind: OriginKind,
    /// Where they come from, in words.
    pub source: String,
}

/// A GPU model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuSpec {
    /// Name, for messages and reports.
    pub name: String,
    /// Memory as CUDA reports it (less than the number on the box).
    pub memory: Bytes,
    /// Datasheet memory bandwidth `W`.
    pub bandwidth: Bandwidth,
    /// Dense bf16 peak.
    pub peak_bf16: Flops,
    /// Dense fp8 peak; absent where the GPU has no fp8 arithmetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_fp8: Option<Flops>,
    /// Second-level cache.
    pub l2: Bytes,
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Thermal design power.
    pub tdp: Watts,
    /// Link to the GPUs of the same server, one direction.
    pub link: Bandwidth,
    /// Origin of all of the above.
    pub origin: Origin,
    /// Matrix multiplication.
    pub matmul: MatmulSpec,
    /// Attention of one new token per sequence.
    pub decode_attention: DecodeAttentionSpec,
    /// Attention of many new tokens per sequence.
    pub prefill_attention: PrefillAttentionSpec,
    /// Sum over the GPUs of a tensor-parallel group; no entries: one GPU only.
    pub all_reduce: CollectiveSpec,
    /// Exchange of equal parts between all GPUs of a group; absent: no experts that exchange tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_to_all: Option<CollectiveSpec>,
    /// The same by NCCL: groups that do without the engine's own all-reduce, and data-parallel attention; absent: neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nccl: Option<Collectives>,
    /// Kernels that only move activations (norms, rotary embedding, gating).
    pub small_kernels: SmallKernels,
    /// Fused mixture of experts; absent: no models with experts here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertsSpec>,
    /// What it draws; absent: not known, and asking for power is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<PowerSpec>,
}

/// Matrix multiplication, by dtype of the arithmetic.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatmulSpec {
    /// Origin of the constants.
    pub origin: Origin,
    /// bf16 activations.
    pub bf16: MatmulFit,
    /// fp8 activations, quantised on the fly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp8: Option<MatmulFit>,
}

/// Constants of form G.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatmulFit {
    /// Fraction of the peak FLOP/s, `e_c`.
    pub compute: f64,
    /// Fraction of the bandwidth, `e_m`.
    pub memory: f64,
    /// Fixed time of one launch, `t0` [µs].
    pub floor_us: f64,
    /// Inner dimension at which the start-up of a tile costs as much as its work, `k0`.
    pub k0: f64,
    /// How sharply compute and memory time combine: 1 adds them, ∞ takes the larger. `p`.
    pub sharpness: f64,
    /// Fraction of the bandwidth of the kernel that quantises the activations, `e_q`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantise: Option<f64>,
}

/// The fused experts of one layer, from router logits to summed outputs, by dtype of the arithmetic.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpertsSpec {
    /// Origin of the constants.
    pub origin: Origin,
    /// bf16 activations.
    pub bf16: ExpertsFit,
    /// fp8 activations, quantised on the fly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp8: Option<ExpertsFit>,
    /// Experts in MXFP4; absent: the constants of `bf16` over fewer weight bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mxfp4: Option<Mxfp4Experts>,
}

/// Constants of experts in MXFP4, which come from elsewhere than the others: no kernel tables have them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mxfp4Experts {
    /// Origin of the constants.
    pub origin: Origin,
    /// They themselves; `compute` is a fraction of the bf16 peak.
    pub fit: ExpertsFit,
}

impl ExpertsSpec {
    /// The constants for weights of a dtype; none where the GPU has no fp8.
    pub fn fit(&self, dtype: WeightDtype) -> Option<ExpertsFit> {
        match dtype {
            WeightDtype::Fp8 => self.fp8,
            WeightDtype::Mxfp4 => Some(self.mxfp4.as_ref().map_or(self.bf16, |experts| experts.fit)),
            WeightDtype::Bf16 | WeightDtype::Int4 | WeightDtype::Bits(_) => Some(self.bf16),
        }
    }

    /// Where the constants for weights of a dtype come from.
    pub fn origin_of(&self, dtype: WeightDtype) -> &Origin {
        let own = self.mxfp4.as_ref().filter(|_| dtype == WeightDtype::Mxfp4);
        own.map_or(&self.origin, |experts| &experts.origin)
    }
}

/// Constants of the form for experts.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpertsFit {
    /// Fraction of the peak FLOP/s, `e_c`.
    pub compute: f64,
    /// Fraction of the bandwidth, `e_m`.
    pub memory: f64,
    /// Fixed time of one layer, `t0` [µs].
    pub floor_us: f64,
    /// Time per expert that at least one token visits, `u` [ns].
    pub expert_ns: f64,
    /// How sharply compute and memory time combine, `p`, as for matrices.
    pub sharpness: f64,
    /// What the kernel spends on pairs of token and expert that are another GPU's; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<ElsewhereFit>,
}

/// Experts of other GPUs, in a kernel that sees all tokens and computes only its own experts.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElsewhereFit {
    /// Fixed time of one layer beyond that of a kernel with all experts [µs].
    pub floor_us: f64,
    /// Passes over the residual stream per pair whose expert is elsewhere, at the kernel's bandwidth.
    pub passes: f64,
}

/// Attention of decode steps.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecodeAttentionSpec {
    /// Origin of the constants.
    pub origin: Origin,
    /// One entry per KV dtype and head dimension.
    pub fits: Vec<DecodeAttentionFit>,
}

/// Constants of form C for decode.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecodeAttentionFit {
    /// Stored keys and values.
    pub kv: KvDtype,
    /// Head dimension.
    pub head_dim: u32,
    /// Fraction of the bf16 peak, `e_c`; 2 where compute does not matter.
    pub compute: f64,
    /// Fraction of the bandwidth, `e_m`.
    pub memory: f64,
    /// Fixed time of one launch, `t0` [µs].
    pub floor_us: f64,
    /// Time per sequence and KV head, `u` [ns].
    pub sequence_ns: f64,
    /// Origin, where it is not the group's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Attention of prefill steps.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefillAttentionSpec {
    /// Origin of the constants.
    pub origin: Origin,
    /// One entry per KV dtype and head dimension.
    pub fits: Vec<PrefillAttentionFit>,
}

/// Constants of form C for prefill.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefillAttentionFit {
    /// Stored keys and values.
    pub kv: KvDtype,
    /// Head dimension.
    pub head_dim: u32,
    /// Fraction of the bf16 peak, `e_c`.
    pub compute: f64,
    /// Fraction of the bandwidth, `e_m`.
    pub memory: f64,
    /// Fixed time of one launch, `t0` [µs].
    pub floor_us: f64,
    /// Tokens added to the length in the quadratic term (half-empty tiles), `s0`.
    pub offset_tokens: f64,
    /// Origin, where it is not the group's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A collective inside one server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectiveSpec {
    /// Origin of the constants.
    pub origin: Origin,
    /// One entry per group size.
    pub fits: Vec<CollectiveFit>,
}

/// Collectives of one library over one kind of link, inside one server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Collectives {
    /// Origin of the constants.
    pub origin: Origin,
    /// Sum over the GPUs, on every one of them.
    pub all_reduce: Vec<CollectiveFit>,
    /// Every GPU's part on every GPU; sizes are those of the whole. Empty: half of an all-reduce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all_gather: Vec<CollectiveFit>,
    /// The sum, a part of it on each GPU; sizes are those of the whole. Empty: half of an all-reduce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reduce_scatter: Vec<CollectiveFit>,
    /// Exchange of equal parts; empty: no experts that exchange tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all_to_all: Vec<CollectiveFit>,
}

/// Constants of the two-slope form.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectiveFit {
    /// GPUs in the group.
    pub gpus: u32,
    /// Fixed time, `t0` [µs].
    pub floor_us: f64,
    /// Buffer bytes per time below the knee, `β`.
    pub below: Bandwidth,
    /// Buffer size at which the slope changes.
    pub knee: Bytes,
    /// Buffer bytes per time above the knee, `β2`.
    pub above: Bandwidth,
}

impl CollectiveFit {
    /// Time of one collective over a buffer of `bytes` per rank [µs].
    pub fn us(&self, bytes: f64) -> f64 {
        let knee = self.knee.0 as f64;
        let below = bytes.min(knee) / self.below.0;
        let above = (bytes - knee).max(0.0) / self.above.0;
        self.floor_us + (below + above) * 1e6
    }
}

/// Kernels that move activations and compute next to nothing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmallKernels {
    /// Origin of the constants.
    pub origin: Origin,
    /// Fraction of the bandwidth at which they stream.
    pub memory: f64,
    /// Fixed time of each [µs].
    pub floor_us: f64,
}

impl GpuSpec {
    /// No GPU: what runs on it must have its pool and step costs given. Every rate is zero.
    pub fn none() -> GpuSpec {
        let origin = Origin { kind: OriginKind::Datasheet, source: "no GPU".to_owned() };
        let fit = MatmulFit { compute: 0.0, memory: 0.0, floor_us: 0.0, k0: 0.0, sharpness: 0.0, quantise: None };
        GpuSpec {
            name: "no GPU".to_owned(),
            memory: Bytes(0),
            bandwidth: Bandwidth(0.0),
            peak_bf16: Flops(0.0),
            peak_fp8: None,
            l2: Bytes(0),
            sms: 0,
            tdp: Watts(0.0),
            link: Bandwidth(0.0),
            matmul: MatmulSpec { origin: origin.clone(), bf16: fit, fp8: None },
            decode_attention: DecodeAttentionSpec { origin: origin.clone(), fits: Vec::new() },
            prefill_attention: PrefillAttentionSpec { origin: origin.clone(), fits: Vec::new() },
            all_reduce: CollectiveSpec { origin: origin.clone(), fits: Vec::new() },
            all_to_all: None,
            nccl: None,
            small_kernels: SmallKernels { origin: origin.clone(), memory: 0.0, floor_us: 0.0 },
            experts: None,
            power: None,
            origin,
        }
    }

    /// Whether its link to others is faster than PCIe 5.0 x16.
    pub fn has_nvlink(&self) -> bool {
        self.link.0 > 64e9
    }

    /// Whether weights of this dtype can be multiplied here.
    pub fn supports_weights(&self, dtype: WeightDtype) -> bool {
        match dtype {
            WeightDtype::Bf16 | WeightDtype::Int4 | WeightDtype::Mxfp4 | WeightDtype::Bits(_) => true,
            // Without arithmetic of its own it is multiplied in bf16.
            WeightDtype::Fp8 => self.peak_fp8.is_none() || self.matmul.fp8.is_some(),
        }
    }

    /// Whether there are constants for experts with weights of this dtype.
    pub fn supports_experts(&self, dtype: WeightDtype) -> bool {
        let in_bf16 = dtype == WeightDtype::Fp8 && self.peak_fp8.is_none();
        self.experts.as_ref().is_some_and(|experts| in_bf16 || experts.fit(dtype).is_some())
    }

    /// Whether there are constants for experts spread over GPUs by number.
    pub fn knows_spread_experts(&self, dtype: WeightDtype) -> bool {
        self.experts.as_ref().and_then(|experts| experts.fit(dtype)).is_some_and(|fit| fit.elsewhere.is_some())
    }

    /// Constants of decode attention, if there are any for this KV dtype and head dimension.
    pub fn decode_fit(&self, kv: KvDtype, head_dim: u32) -> Option<&DecodeAttentionFit> {
        self.decode_attention.fits.iter().find(|fit| fit.kv == kv && fit.head_dim == head_dim)
    }

    /// Constants of prefill attention, if there are any for this KV dtype and head dimension.
    pub fn prefill_fit(&self, kv: KvDtype, head_dim: u32) -> Option<&PrefillAttentionFit> {
        self.prefill_attention.fits.iter().find(|fit| fit.kv == kv && fit.head_dim == head_dim)
    }

    /// Constants of the all-reduce over `gpus` GPUs, if there are any.
    pub fn all_reduce_fit(&self, gpus: u32) -> Option<&CollectiveFit> {
        self.all_reduce.fits.iter().find(|fit| fit.gpus == gpus)
    }

    /// Constants of the all-to-all over `gpus` GPUs, if there are any.
    pub fn all_to_all_fit(&self, gpus: u32) -> Option<&CollectiveFit> {
        self.all_to_all.as_ref()?.fits.iter().find(|fit| fit.gpus == gpus)
    }
}
