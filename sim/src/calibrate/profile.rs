//! Kernel constants of one GPU that take the place of the catalog's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Residual;
use crate::cost::roofline::graph_size;
use crate::hardware::gpu::{
    CollectiveSpec, DecodeAttentionSpec, ExpertsSpec, GpuSpec, MatmulSpec, OriginKind, PrefillAttentionSpec,
    SmallKernels,
};
use crate::hardware::memory::Layout;
use crate::hardware::model::{KvDtype, ModelSpec, Shard, WeightDtype};

/// The version of the profile format.
pub(super) const VERSION: u32 = 1;

/// Fitted kernel constants with their source, their errors and the ranges that they were fitted in. Groups that are absent
/// stay the catalog's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Version of the profile format: 1.
    pub version: u32,
    /// Name, for messages and reports.
    pub name: String,
    /// How the times came to be known.
    pub kind: OriginKind,
    /// The GPU: a name in the catalog, whose peaks and bandwidth the constants are fractions of.
    pub gpu: String,
    /// Where the times come from.
    pub source: ProfileSource,
    /// Errors on rows held out.
    pub residuals: Vec<Residual>,
    /// Ranges of the tables.
    pub hull: Vec<HullRange>,
    /// Matrix multiplication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matmul: Option<MatmulSpec>,
    /// Attention of one new token per sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_attention: Option<DecodeAttentionSpec>,
    /// Attention of many new tokens per sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_attention: Option<PrefillAttentionSpec>,
    /// Sum over the GPUs of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_reduce: Option<CollectiveSpec>,
    /// Exchange between the GPUs of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_to_all: Option<CollectiveSpec>,
    /// Kernels that only move activations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small_kernels: Option<SmallKernels>,
    /// Fused mixture of experts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertsSpec>,
}

/// Where a profile's times come from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileSource {
    /// The tool whose tables they are.
    pub tool: String,
    /// The engine and its version, as far as the tables say.
    pub engine: String,
    /// The device, as the tables call it.
    pub device: String,
    /// Licence of the tables.
    pub licence: String,
    /// Day of the import.
    pub imported: String,
    /// The files, relative to the folder that was imported.
    pub tables: Vec<String>,
}

/// The range of the shapes that one operation was measured at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HullRange {
    /// The operation, as in the residuals.
    pub operation: String,
    /// Least and largest value by axis.
    pub axes: BTreeMap<String, [u64; 2]>,
}

impl Profile {
    /// The GPU with the profile's constants where it has any.
    pub fn applied(&self, gpu: &GpuSpec) -> GpuSpec {
        let mut gpu = gpu.clone();
        if let Some(matmul) = &self.matmul {
            gpu.matmul = matmul.clone();
        }
        if let Some(decode) = &self.decode_attention {
            gpu.decode_attention = decode.clone();
        }
        if let Some(prefill) = &self.prefill_attention {
            gpu.prefill_attention = prefill.clone();
        }
        if let Some(all_reduce) = &self.all_reduce {
            gpu.all_reduce = all_reduce.clone();
        }
        if let Some(small) = &self.small_kernels {
            gpu.small_kernels = small.clone();
        }
        if let Some(all_to_all) = &self.all_to_all {
            gpu.all_to_all = Some(all_to_all.clone());
        }
        if let Some(experts) = &self.experts {
            // Tables of kernels have no MXFP4: the catalog's constants for it stay.
            let mxfp4 = experts.mxfp4.clone().or_else(|| gpu.experts.take().and_then(|known| known.mxfp4));
            gpu.experts = Some(ExpertsSpec { mxfp4, ..experts.clone() });
        }
        gpu
    }

    /// The groups that stay the catalog's.
    pub fn absent(&self) -> Vec<&'static str> {
        let groups = [
            ("matmul", self.matmul.is_none()),
            ("decode attention", self.decode_attention.is_none()),
            ("prefill attention", self.prefill_attention.is_none()),
            ("all-reduce", self.all_reduce.is_none()),
            ("all-to-all", self.all_to_all.is_none()),
            ("small kernels", self.small_kernels.is_none()),
            ("experts", self.experts.is_none()),
        ];
        groups.into_iter().filter_map(|(group, absent)| absent.then_some(group)).collect()
    }

    /// What a replica may ask of the profile's own groups that is outside of their tables: shapes of the model on either
    /// side, and the largest batches and contexts (below the smallest ones the forms end in their floors).
    /// `operation: axis value (measured low to high)`; `longest` is the longest sequence.
    pub fn outside(&self, model: &ModelSpec, layout: &Layout, longest: u32) -> Vec<String> {
        let mut asked = Asked { hull: &self.hull, list: Vec::new() };
        if let Ok(shard) = model.shard_split(layout.split()) {
            let batch = graph_size(u64::from(layout.max_batched_tokens.max(layout.max_seqs)));
            asked.matrices(model, &shard, layout.weights, batch);
            if model.mla.is_none() {
                asked.attention(model, &shard, layout, longest);
            }
            if let Some(moe) = model.moe {
                let operation = format!("experts {}", arithmetic(layout.weights));
                asked.at_most(&operation, "tokens", batch);
                asked.within(&operation, "experts", u64::from(moe.experts));
                asked.within(&operation, "hidden", u64::from(model.hidden));
            }
            let operation = format!("all-reduce over {}", layout.tensor_parallel);
            asked.at_most(&operation, "bytes", 2 * u64::from(model.hidden) * batch);
        }
        asked.list
    }
}

/// Questions to a hull, and those that it does not contain.
struct Asked<'p> {
    hull: &'p [HullRange],
    list: Vec<String>,
}

impl Asked<'_> {
    fn check(&mut self, operation: &str, axis: &str, value: u64, least: bool) {
        let range = self.hull.iter().find(|range| range.operation == operation);
        let Some([low, high]) = range.and_then(|range| range.axes.get(axis)).copied() else { return };
        if value > high || (least && value < low) {
            let told = format!("{operation}: {axis} {value} (measured {low} to {high})");
            if !self.list.contains(&told) {
                self.list.push(told);
            }
        }
    }

    fn within(&mut self, operation: &str, axis: &str, value: u64) {
        self.check(operation, axis, value, true);
    }

    fn at_most(&mut self, operation: &str, axis: &str, value: u64) {
        self.check(operation, axis, value, false);
    }

    fn matrices(&mut self, model: &ModelSpec, shard: &Shard, weights: WeightDtype, batch: u64) {
        let hidden = u64::from(model.hidden);
        let mut matrices = model.attention_matrices(shard.heads, shard.kv_heads);
        if model.dense_layers() > 0 {
            let width = u64::from(shard.intermediate);
            matrices.extend([(u64::from(model.mlp_inputs()) * width, hidden), (hidden, width)]);
        }
        let operation = format!("matmul {}", arithmetic(weights));
        self.at_most(&operation, "m", batch);
        for (n, k) in matrices {
            self.within(&operation, "n", n);
            self.within(&operation, "k", k);
        }
        // The head.
        self.within("matmul bf16", "n", u64::from(shard.vocab));
        self.within("matmul bf16", "k", hidden);
    }

    fn attention(&mut self, model: &ModelSpec, shard: &Shard, layout: &Layout, longest: u32) {
        for kind in ["decode", "prefill"] {
            let operation = attention(kind, layout.kv, model.head_dim);
            self.within(&operation, "heads", u64::from(shard.heads));
            self.within(&operation, "kv_heads", u64::from(shard.kv_heads));
        }
        let decode = attention("decode", layout.kv, model.head_dim);
        self.at_most(&decode, "batch", u64::from(layout.max_seqs));
        self.at_most(&decode, "context", u64::from(longest));
        let prefill = attention("prefill", layout.kv, model.head_dim);
        self.at_most(&prefill, "tokens", u64::from(longest.min(layout.max_batched_tokens)));
    }
}

/// What tables call the arithmetic of such weights.
const fn arithmetic(weights: WeightDtype) -> &'static str {
    match weights {
        WeightDtype::Bf16 | WeightDtype::Int4 | WeightDtype::Mxfp4 | WeightDtype::Bits(_) => "bf16",
        WeightDtype::Fp8 => "fp8",
    }
}

/// What residuals and hull call an attention kernel.
pub(super) fn attention(kind: &str, kv: KvDtype, head_dim: u32) -> String {
    format!("{kind} attention {kv}, head_dim {head_dim}")
}
