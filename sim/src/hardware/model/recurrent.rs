//! Layers that keep a state of fixed size in place of keys and values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Layers whose attention is replaced by a recurrence over a state per sequence: Mamba-2 (Nemotron-H) and the gated delta net
/// (Qwen3-Next, Qwen3.5). A step reads and writes the whole state of every sequence, however long it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecurrentSpec {
    /// How many of the layers.
    pub layers: u32,
    /// Heads, each with a state of its own; split over the GPUs of a group.
    pub heads: u32,
    /// Numbers of one head's state: the width of a value times that of a key (Mamba-2: head width times `ssm_state_size`).
    pub state: u32,
    /// Bytes of such a number: 4 where the engine keeps the state in f32, else 2.
    pub state_bytes: u32,
    /// Outputs of the projection in front of the recurrence.
    pub inputs: u32,
    /// Inputs of the projection behind it: all heads' values.
    pub width: u32,
    /// Channels of the causal convolution before the recurrence.
    pub channels: u32,
    /// Tokens that the convolution sees; a sequence keeps all but one of them, in bf16.
    pub kernel: u32,
    /// Layers of the model, of any kind, that have no MLP (Nemotron-H, whose blocks are an attention, a recurrence or an MLP).
    #[serde(default)]
    pub without_mlp: u32,
}

impl RecurrentSpec {
    /// What does not fit, in a model of that many layers.
    pub(super) fn misfit(&self, layers: u32) -> Option<String> {
        let sizes = [self.layers, self.heads, self.state, self.state_bytes, self.inputs, self.width, self.kernel];
        if sizes.contains(&0) {
            return Some("the sizes of `recurrent` must be at least 1".to_owned());
        }
        (self.layers > layers || self.without_mlp >= layers).then(|| {
            let (recurrent, bare) = (self.layers, self.without_mlp);
            format!("{recurrent} recurrent layers and {bare} without an MLP do not fit into {layers} layers")
        })
    }

    /// Matrices of one layer as (outputs, inputs), for so many of the heads.
    pub(crate) fn matrices(&self, hidden: u32, heads: u32) -> [(u64, u64); 2] {
        let share = |size: u32| (u64::from(size) * u64::from(heads)).div_ceil(u64::from(self.heads));
        [(share(self.inputs), u64::from(hidden)), (u64::from(hidden), share(self.width))]
    }

    /// Weights in the matrices of one layer, and in its convolution, for so many of the heads.
    pub(crate) fn weights(&self, hidden: u32, heads: u32) -> u64 {
        let matrices: u64 = self.matrices(hidden, heads).into_iter().map(|(n, k)| n * k).sum();
        let convolution = u64::from(self.channels) * u64::from(self.kernel) * u64::from(heads) / u64::from(self.heads);
        matrices + convolution
    }

    /// Bytes that one sequence keeps in one layer, for so many of the heads.
    pub fn bytes_per_sequence(&self, heads: u32) -> u64 {
        let state = u64::from(heads) * u64::from(self.state) * u64::from(self.state_bytes);
        let kept = u64::from(self.channels) * u64::from(heads) / u64::from(self.heads) * u64::from(self.kernel - 1);
        state + 2 * kept
    }
}
