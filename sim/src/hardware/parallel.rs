//! How one replica is spread over GPUs.
//!
//! A replica is `stages` groups of `tensor` GPUs. A group splits every layer: attention by heads (tensor parallelism,
//! the default) or by requests (data-parallel attention: `ranks` parts of the group, each with requests and KV of its
//! own), experts by width (tensor parallelism, the default) or by number ([`ExpertParallel`]).
//!
//! Ranks step together, because every layer's experts need the tokens of all. They are simulated as one replica whose
//! decoding requests are spread evenly over them; a prompt is computed by one rank alone ([`crate::cost::Roofline`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hardware::server::Topology;

/// Whole experts on every GPU of the group, as many on each.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExpertParallel {
    /// How tokens and experts meet.
    pub exchange: Exchange,
    /// Rows of the busiest GPU ÷ the mean over the group, at least 1: a step waits for the busiest. 1 is a router that
    /// likes all experts alike, where only chance makes one GPU busier than another, which is charged in any case; AIConfigurator's tables of skewed routing (power law 1.2) come out with 1.5 on 2, 2 on 4 and 3 on 8 GPUs
    /// (Hopper, large batches: error 3 to 6 % at the median; B200 13 to 28 %).
    pub imbalance: f64,
}

impl Default for ExpertParallel {
    fn default() -> ExpertParallel {
        ExpertParallel { exchange: Exchange::default(), imbalance: 1.0 }
    }
}

/// How tokens get to experts on other GPUs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exchange {
    /// Every GPU has every token and computes what its experts have to say; an all-reduce adds it up, as under tensor
    /// parallelism (vLLM's `--enable-expert-parallel` without data parallelism). Shared experts are split by width.
    /// Under data-parallel attention the tokens are gathered before the experts and the sums scattered behind them.
    #[default]
    AllReduce,
    /// Every GPU keeps its share of the tokens after the attention, sends each to the GPUs of its experts and gets the
    /// results back (SGLang's `--moe-a2a-backend deepep`). Shared experts are copied to every GPU.
    AllToAll,
}

/// How a group of GPUs splits every layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Split {
    /// GPUs of the group.
    pub tensor: u32,
    /// Parts of it that divide the requests among them.
    pub ranks: u32,
    /// Experts by number instead of by width.
    pub experts: Option<Exchange>,
}

/// How one replica is spread over GPUs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Parallelism {
    /// GPUs that split every layer.
    pub tensor: u32,
    /// Groups of such GPUs, each with a run of the layers. One step is in flight: the groups wait for each other.
    pub stages: u32,
    /// Parts of a group that divide its requests among them, each of `tensor / ranks` GPUs; 1: attention by heads alone.
    pub ranks: u32,
    /// Experts by number instead of by width.
    pub experts: Option<ExpertParallel>,
    /// Whether groups may use the engine's own all-reduce where it has one; else NCCL's.
    pub custom_all_reduce: bool,
    /// The servers that they are in; unknown: one server, however many GPUs.
    pub topology: Option<Topology>,
}

impl From<u32> for Parallelism {
    /// Tensor parallelism alone.
    fn from(tensor: u32) -> Parallelism {
        Parallelism { tensor, stages: 1, ranks: 1, experts: None, custom_all_reduce: true, topology: None }
    }
}

impl Parallelism {
    /// GPUs of one replica.
    pub fn gpus(&self) -> u32 {
        self.tensor.saturating_mul(self.stages)
    }

    /// GPUs that split the attention of a request by heads; at least 1.
    pub fn attention_gpus(&self) -> u32 {
        (self.tensor / self.ranks.max(1)).max(1)
    }

    /// How every layer is split over the group.
    pub fn split(&self) -> Split {
        Split { tensor: self.tensor, ranks: self.ranks, experts: self.experts.map(|experts| experts.exchange) }
    }

    /// GPUs of a group that share a server, and over how many servers the group spreads; `None` if it does not divide.
    pub(crate) fn groups(&self) -> Option<(u32, u32)> {
        let Some(topology) = &self.topology else { return Some((self.tensor, 1)) };
        if self.tensor <= topology.gpus {
            return topology.gpus.is_multiple_of(self.tensor).then_some((self.tensor, 1));
        }
        self.tensor.is_multiple_of(topology.gpus).then(|| (topology.gpus, self.tensor / topology.gpus))
    }

    /// Boundaries between stages inside a server, and across servers. Stages fill one server after the other.
    pub(crate) fn boundaries(&self) -> (u32, u32) {
        let per_server = self.topology.as_ref().map_or(u32::MAX, |topology| (topology.gpus / self.tensor).max(1));
        let crossing = self.stages.saturating_sub(1) / per_server;
        (self.stages.saturating_sub(1) - crossing, crossing)
    }
}

/// Layers of each stage: as many on each as go evenly, the rest from the last but one backwards (vLLM's
/// `get_pp_indices`: the last stage has the head to compute).
pub fn stage_layers(layers: u32, stages: u32) -> Vec<u32> {
    let stages = stages.max(1);
    let rest = (layers % stages) as usize;
    let mut counts = vec![layers / stages; stages as usize];
    counts.iter_mut().rev().skip(1).take(rest).for_each(|count| *count += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_split_as_vllm_splits_them() {
        // vLLM's own examples: 7 layers on 3 stages, 43 on 10.
        assert_eq!(stage_layers(7, 3), [2, 3, 2]);
        assert_eq!(stage_layers(43, 10), [4, 4, 4, 4, 4, 4, 5, 5, 5, 4]);
        assert_eq!(stage_layers(80, 4), [20; 4]);
        assert_eq!(stage_layers(61, 1), [61]);
        // 61 on 2: the first of two stages is the last but one.
        assert_eq!(stage_layers(61, 2), [31, 30]);
    }

    #[test]
    fn stages_fill_servers() {
        let mut spread = Parallelism { stages: 4, ..Parallelism::from(2) };
        assert_eq!((spread.gpus(), spread.groups(), spread.boundaries()), (8, Some((2, 1)), (3, 0)));
        let link = crate::hardware::server::LinkSpec {
            name: "x".to_owned(),
            bandwidth: crate::units::Bandwidth(1e9),
            origin: crate::hardware::gpu::Origin {
                kind: crate::hardware::gpu::OriginKind::Inferred,
                source: String::new(),
            },
            efficiency: 1.0,
            latency: crate::units::Duration(crate::time::Span::ZERO),
            achieved: crate::hardware::gpu::Origin {
                kind: crate::hardware::gpu::OriginKind::Inferred,
                source: String::new(),
            },
            collectives: None,
        };
        spread.topology = Some(Topology { server: "s".to_owned(), gpus: 4, inside: link, network: None });
        assert_eq!((spread.groups(), spread.boundaries()), (Some((2, 1)), (2, 1)));
        spread.tensor = 8;
        assert_eq!((spread.groups(), spread.boundaries()), (Some((4, 2)), (0, 3)));
        spread.tensor = 3;
        assert_eq!(spread.groups(), None);
        spread.tensor = 6;
        assert_eq!(spread.groups(), None);
    }
}
