//! Heads that draft tokens for a model out of its own hidden states: one layer, and what stands before it.

use super::memory::{Stage, stage_weight_bytes};
use super::model::{ModelError, ModelSpec, MoeSpec, Shard, WeightDtype};

/// How a head drafts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DraftHeadKind {
    /// EAGLE: the last hidden state and the token's embedding, side by side, through a matrix into one dense layer; head and embedding
    /// are the model's (Li et al. 2024, `github.com/SafeAILab/EAGLE`).
    Eagle,
    /// EAGLE-3: hidden states of three layers through a matrix, once; the layer's attention reads token and state side by side, and its
    /// own head knows 32,000 words (the published heads of Llama 3.1 and 3.3: `draft_vocab_size` of their config.json).
    Eagle3,
    /// Multi-token prediction: state and embedding, side by side, through a matrix into one layer as the model's last ones, experts
    /// included; head and embedding are the model's (DeepSeek-V3, report §2.2).
    Mtp,
}

/// Words that the own heads of EAGLE-3 know.
const EAGLE3_VOCAB: u32 = 32_000;

/// Why a model has no such head.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{model} has experts, and the width of the dense layer of its EAGLE heads is not published with it; use mtp, draft-model or n-gram"
)]
pub struct NoHead {
    /// The model.
    pub model: String,
}

/// A head: a layer, and the matrices before it.
#[derive(Clone, PartialEq, Debug)]
pub struct DraftHead {
    /// The layer as a model of its own, with embedding and head.
    pub layer: ModelSpec,
    kind: DraftHeadKind,
}

/// Matrices, each (outputs, inputs).
pub type Matrices = Vec<(u64, u64)>;

impl DraftHead {
    /// The head of a model.
    ///
    /// # Errors
    /// Nothing is known of such a head.
    pub fn of(model: &ModelSpec, kind: DraftHeadKind) -> Result<DraftHead, NoHead> {
        if kind != DraftHeadKind::Mtp && model.moe.is_some() {
            return Err(NoHead { model: model.name.clone() });
        }
        let moe = model.moe.map(|moe| MoeSpec { dense_layers: 0, ..moe });
        let vocab = if kind == DraftHeadKind::Eagle3 { EAGLE3_VOCAB.min(model.vocab) } else { model.vocab };
        let layer = ModelSpec { layers: 1, sliding: None, recurrent: None, moe, vocab, ..model.clone() };
        Ok(DraftHead { layer, kind })
    }

    /// The matrices (outputs, inputs) before its layer: those that it passes for each draft, and those for the first one alone.
    pub fn entry(&self, shard: &Shard) -> (Matrices, Matrices) {
        let hidden = u64::from(self.layer.hidden);
        match self.kind {
            DraftHeadKind::Eagle | DraftHeadKind::Mtp => (vec![(hidden, 2 * hidden)], Vec::new()),
            DraftHeadKind::Eagle3 => {
                let heads = u64::from(shard.heads) + 2 * u64::from(shard.kv_heads);
                (vec![(heads * u64::from(self.layer.head_dim), hidden)], vec![(hidden, 3 * hidden)])
            }
        }
    }

    /// Bytes of its weights on one GPU of a group. Embeddings are the model's; so is the head, but for EAGLE-3.
    ///
    /// # Errors
    /// The layer does not split over the group.
    pub fn weight_bytes(&self, shard: &Shard, dtype: WeightDtype) -> Result<u64, ModelError> {
        let dense = self.layer.dense_layers();
        let own = self.kind == DraftHeadKind::Eagle3;
        let stage = Stage { layers: 1, dense, first: false, last: own };
        let (each, once) = self.entry(shard);
        let entry: u64 = each.iter().chain(&once).map(|(outputs, inputs)| outputs * inputs).sum();
        Ok(stage_weight_bytes(&self.layer, shard, dtype, stage) + dtype.outside_experts().bytes(entry))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn llama() -> ModelSpec {
        serde_json::from_value(serde_json::json!({
            "name": "l", "hidden": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "head_dim": 128, "intermediate": 14336,
            "vocab": 128_256, "gated": true, "tied_embeddings": false, "context": 131_072,
            "origin": { "kind": "datasheet", "source": "a test" },
        }))
        .unwrap()
    }

    #[test]
    fn the_published_eagle3_head_of_llama_has_its_size() {
        let head = DraftHead::of(&llama(), DraftHeadKind::Eagle3).unwrap();
        let bytes = head.weight_bytes(&head.layer.shard(1).unwrap(), WeightDtype::Bf16).unwrap();
        // yuhuili/EAGLE3-LLaMA3.1-Instruct-8B: pytorch_model.bin of 850 MB, 425 million weights.
        let published = 425e6 * 2.0;
        assert!((bytes as f64 / published - 1.0).abs() < 0.02, "{bytes}");
    }
}
