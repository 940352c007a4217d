//! Retention on a GPU: how a policy scores tokens there, its networks, positions and notes beside the cache, and when tokens go.
//!
//! Which kernels run is the same in every step, so that a graph holds them; whether a sequence loses tokens after it, and how many,
//! stands in its [`Part`] of the step. The host knows that without waiting for the device: it follows from counts alone.

use std::sync::Arc;

use overbook_kernels::cuda::{Note, Part, Score};
use overbook_sim::counter::mix;
use overbook_sim::kv::retention::RetentionPolicy as Policy;

use super::CudaError;
use super::driver::{Address, Buffer, Gpu};
use super::executor::Model;
use super::kernels::Retains;
use super::upload::Uploader;
use crate::executor::{Capacity, ExecutorError, Seat, Sequence, Shrink, Slots};
use crate::retention::{Gate, Retention};

/// Attention weights that a policy looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Weighs {
    /// None.
    Nothing,
    /// Those of all queries, which add up.
    All,
    /// Those of the last query, the mean over all heads of the layer.
    Latest,
}

/// How a policy is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Method {
    /// What is noted of a token when it comes.
    pub(super) note: Note,
    /// Attention that its note becomes, or gets added.
    pub(super) weighs: Weighs,
    /// Whether its note becomes a score from all keys when some go.
    pub(super) keys: bool,
    score: Score,
    /// First layers in which the oldest token goes instead.
    skip: usize,
}

impl Method {
    /// That of a policy.
    ///
    /// # Errors
    /// There is none, and why.
    pub(super) fn of(policy: &Policy) -> Result<Method, String> {
        let method = |note, score| Method { note, weighs: Weighs::Nothing, keys: false, score, skip: 0 };
        let why = match policy {
            Policy::Random => return Ok(method(Note::Random, Score::Note)),
            Policy::Window | Policy::StreamingLlm(_) => return Ok(method(Note::Nothing, Score::Position)),
            Policy::H2o(_) => return Ok(Method { weighs: Weighs::All, ..method(Note::Nothing, Score::Note) }),
            Policy::Tova => return Ok(Method { weighs: Weighs::Latest, ..method(Note::Nothing, Score::Note) }),
            Policy::KeyDiff => return Ok(Method { keys: true, ..method(Note::Nothing, Score::Note) }),
            Policy::Knorm(it) => {
                return Ok(Method { skip: it.skip_layers as usize, ..method(Note::Norm, Score::Note) });
            }
            Policy::KvZap(_) => return Ok(method(Note::Gate, Score::Note)),
            Policy::TrimKv(_) => return Ok(method(Note::LogGate, Score::Age)),
            Policy::SnapKv(_) | Policy::RKv(_) => "it looks at queries of earlier steps, which the GPU does not keep",
            Policy::ExpectedAttention(_) => {
                "it needs mean and covariance of all queries so far, which the GPU does not keep"
            }
            Policy::Full | Policy::Oracle => "it is none that a GPU computes",
        };
        Err(format!("the CUDA engine has no `{}`: {why}; use `--on cpu`", policy.name()))
    }

    /// What the score of a token is in a layer.
    pub(super) fn score(&self, layer: usize) -> Score {
        if layer < self.skip { Score::Position } else { self.score }
    }
}

/// The network of a layer in device memory; zero where there is none.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct GateAt {
    /// `[width, hidden]` in bf16.
    pub(super) w1: Address,
    /// `[width]`.
    pub(super) b1: Address,
    /// `[kv head, width]`.
    pub(super) w2: Address,
    /// `[kv head]`.
    pub(super) b2: Address,
}

/// What sequences keep, with its networks in device memory: for any number of executors of a model.
#[derive(Debug)]
pub struct Retained {
    retention: Retention,
    method: Method,
    gates: Vec<GateAt>,
    /// Width of the networks, a multiple of 8.
    width: u32,
    /// Keys of what `random` draws, `[layer, kv head]`.
    draws: Address,
    kv_heads: usize,
    /// Keeps the memory.
    _buffers: Vec<Buffer>,
}

impl Retained {
    /// Puts on the GPU of a model what a policy needs. `seed` is that of `random`.
    ///
    /// # Errors
    /// The CUDA engine does not have the policy, or the GPU has no memory for its networks.
    pub fn new(model: &Model, retention: Retention, seed: u64) -> Result<Arc<Retained>, CudaError> {
        let method = Method::of(&retention.spec().policy).map_err(CudaError::Unfit)?;
        let (layers, kv_heads) = (model.config.layers, model.config.kv_heads);
        let mut uploader = Uploader::new(&model.gpu)?;
        let mut gates = Vec::new();
        let mut width = 0;
        if let Some(networks) = retention.gates() {
            for layer in 0..layers {
                let gate = networks.layer(layer);
                width = gate.w1.rows() as u32;
                gates.push(upload(&mut uploader, gate)?);
            }
        }
        let keys = (0..layers as u64).flat_map(|layer| (0..kv_heads as u64).map(move |head| (layer, head)));
        let keys = keys.map(|(layer, head)| mix(mix(seed, layer), head));
        let words: Vec<u32> = keys.flat_map(|key| [key as u32, (key >> 32) as u32]).collect();
        let draws = if method.note == Note::Random { uploader.words(&words)? } else { 0 };
        Ok(Arc::new(Retained { retention, method, gates, width, draws, kv_heads, _buffers: uploader.finish()? }))
    }

    /// Whether the CUDA engine has a policy.
    ///
    /// # Errors
    /// It has not, and why.
    pub fn can(policy: &Policy) -> Result<(), CudaError> {
        Method::of(policy).map(drop).map_err(CudaError::Unfit)
    }

    /// What a scenario says.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    pub(super) fn method(&self) -> Method {
        self.method
    }

    /// What it needs beside the cache.
    pub(super) fn sizes(&self) -> Retains {
        Retains { gate: self.width, weighs: self.method.weighs != Weighs::Nothing }
    }

    /// First layers of its networks, from first to last; empty if there are none.
    pub(super) fn first_layers(&self) -> Vec<Address> {
        self.gates.iter().map(|gate| gate.w1).collect()
    }
}

/// Copies a network to the device. Its width is a multiple of what the CPU multiplies at once already, and so of 8.
fn upload(uploader: &mut Uploader, gate: &Gate) -> Result<GateAt, CudaError> {
    let whole = |matrix: &crate::weights::Matrix| {
        let mut values = vec![0.0; matrix.rows() * matrix.width()];
        let rows = values.chunks_exact_mut(matrix.width()).enumerate();
        rows.for_each(|(row, values)| matrix.unpack_row(row, values));
        values
    };
    Ok(GateAt {
        w1: uploader.halves(&whole(&gate.w1))?,
        b1: uploader.floats(&gate.b1)?,
        w2: uploader.floats(&whole(&gate.w2))?,
        b2: uploader.floats(&gate.b2)?,
    })
}

/// Positions and notes of one layer, and what they are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerNotes {
    /// `[slot, kv head]`.
    pub(super) positions: Address,
    /// `[slot, kv head]`.
    pub(super) notes: Address,
    /// Keys of draws, `[kv head]`.
    pub(super) draws: Address,
    /// Its network.
    pub(super) gate: GateAt,
}

/// Positions and notes of the tokens in all slots of a cache.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) of: Arc<Retained>,
    /// `[layer, slot, kv head]`.
    positions: Buffer,
    /// The notes, laid out as the positions.
    values: Buffer,
    /// Bytes of a layer of either.
    layer_bytes: usize,
}

impl Notes {
    /// # Errors
    /// There is no memory for them.
    pub(super) fn new(
        gpu: &Arc<Gpu>,
        of: Arc<Retained>,
        layers: usize,
        capacity: &Capacity,
    ) -> Result<Notes, CudaError> {
        let slots = capacity.blocks as usize * capacity.block_tokens as usize;
        let layer_bytes = slots * of.kv_heads * 4;
        let buffer = || Buffer::new(gpu, layers * layer_bytes);
        Ok(Notes { positions: buffer()?, values: buffer()?, of, layer_bytes })
    }

    /// Those of a layer.
    pub(super) fn layer(&self, layer: usize) -> LayerNotes {
        let draws = if self.of.draws == 0 { 0 } else { self.of.draws + (layer * self.of.kv_heads * 8) as u64 };
        let gate = self.of.gates.get(layer).copied().unwrap_or_default();
        let at = layer * self.layer_bytes;
        LayerNotes { positions: self.positions.at(at), notes: self.values.at(at), draws, gate }
    }

    /// Bytes of the positions of a layer.
    pub(super) fn layer_bytes(&self) -> usize {
        self.layer_bytes
    }
}

/// Where the tokens of a sequence's part of a step land, and what goes after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Landing {
    /// Slots occupied before.
    pub(super) kept: u32,
    /// Slots to which it is brought back.
    pub(super) budget: Option<u32>,
    /// Tokens that never go: so many at the start, and so many of the latest.
    pub(super) protected: (u32, u32),
}

impl Landing {
    /// Of a sequence that keeps everything.
    pub(super) fn whole(sequence: &Sequence) -> Landing {
        Landing { kept: sequence.past, budget: None, protected: (0, 0) }
    }

    /// As the device has it.
    pub(super) fn part(&self, owner: u32, first_row: u32, sequence: &Sequence) -> Part {
        Part {
            owner: owner as i32,
            kept: self.kept as i32,
            rows: sequence.tokens as i32,
            first_row: first_row as i32,
            budget: self.budget.map_or(-1, |budget| budget as i32),
            now: (sequence.past + sequence.tokens) as i32 - 1,
            first: self.protected.0 as i32,
            latest: self.protected.1 as i32,
        }
    }
}

/// Landings of sequences that are parts of others, in their order: what goes, goes after the last part.
pub(super) fn landings_of(pieces: &[Sequence], whole: &[Sequence], landings: &[Landing]) -> Vec<Landing> {
    let mut wholes = whole.iter().zip(landings);
    let landing = |piece: &Sequence| {
        let Some((sequence, landing)) = wholes.find(|(sequence, _)| sequence.seat == piece.seat) else {
            return Landing::whole(piece);
        };
        let ends = piece.past + piece.tokens == sequence.past + sequence.tokens;
        let kept = landing.kept + (piece.past - sequence.past);
        Landing { kept, budget: landing.budget.filter(|_| ends), ..*landing }
    };
    pieces.iter().map(landing).collect()
}

/// How many slots every sequence has.
#[derive(Debug)]
pub(super) struct Keeper {
    retention: Retention,
    /// By seat.
    slots: Vec<Option<Slots>>,
}

impl Keeper {
    pub(super) fn new(retention: Retention) -> Keeper {
        Keeper { retention, slots: Vec::new() }
    }

    /// Lets the parts of a step land.
    ///
    /// # Errors
    /// A sequence does not go on where it stopped.
    pub(super) fn land(&mut self, sequences: &[Sequence]) -> Result<Vec<Landing>, ExecutorError> {
        let keep = self.retention.keep();
        let land = |sequence: &Sequence| {
            let seat = sequence.seat as usize;
            if self.slots.len() <= seat {
                self.slots.resize(seat + 1, None);
            }
            Slots::during(self.slots[seat].as_ref(), sequence)?;
            let mut slots = self.slots[seat].filter(|_| sequence.past > 0).unwrap_or_else(|| Slots::new(keep));
            let (kept, budget) = (slots.kept, slots.cut(keep, sequence));
            slots.advance(sequence, budget);
            self.slots[seat] = Some(slots);
            Ok(Landing { kept, budget, protected: self.retention.protects(budget.unwrap_or(0)) })
        };
        sequences.iter().map(land).collect()
    }

    /// Slots that a sequence has.
    pub(super) fn kept(&self, seat: Seat) -> Option<u32> {
        self.slots.get(seat as usize)?.map(|slots| slots.kept)
    }

    /// Forgets a sequence.
    pub(super) fn forget(&mut self, seat: Seat) {
        if let Some(slots) = self.slots.get_mut(seat as usize) {
            *slots = None;
        }
    }

    /// Lowers the budget of a sequence. What goes at once, if something does: a part without rows.
    ///
    /// # Errors
    /// It has computed nothing, or the policy protects more.
    pub(super) fn shrink(&mut self, shrink: Shrink) -> Result<Option<(Sequence, Landing)>, ExecutorError> {
        let Shrink { seat, budget } = shrink;
        self.retention.takes(budget)?;
        let Some(Some(slots)) = self.slots.get_mut(seat as usize) else {
            return Err(ExecutorError(format!("the budget of seat {seat} shrinks, and nothing of it is computed")));
        };
        let (kept, past) = (slots.kept, slots.computed);
        let Some(budget) = slots.shrink(self.retention.keep(), budget) else { return Ok(None) };
        let landing = Landing { kept, budget: Some(budget), protected: self.retention.protects(budget) };
        Ok(Some((Sequence { seat, past, tokens: 0, samples: false }, landing)))
    }
}

#[cfg(test)]
mod tests {
    use overbook_sim::kv::retention::RetentionSpec;
    use overbook_sim::kv::retention::policies::StreamingLlm;

    use super::*;
    use crate::config::Config;
    use crate::retention::Extras;

    fn part(past: u32, tokens: u32, samples: bool) -> Sequence {
        Sequence { seat: 3, past, tokens, samples }
    }

    #[test]
    fn tokens_go_after_the_last_part_of_a_chunk() {
        let spec = RetentionSpec::strict(Policy::StreamingLlm(StreamingLlm { sinks: 2 }), 8);
        let config = Config::preset("tiny").expect("a preset");
        let retention = Retention::new(&spec, &config, &Extras::default()).expect("a retention");
        let mut keeper = Keeper::new(retention);
        let first = keeper.land(&[part(0, 5, false)]).expect("lands");
        assert_eq!(first, [Landing { kept: 0, budget: None, protected: (2, 0) }]);
        let whole = [part(5, 10, true)];
        let second = keeper.land(&whole).expect("lands");
        assert_eq!(second, [Landing { kept: 5, budget: Some(8), protected: (2, 0) }]);
        let pieces = [part(5, 4, false), part(9, 6, true)];
        let [early, late] = [0, 1].map(|piece| landings_of(&pieces[piece..=piece], &whole, &second)[0]);
        assert_eq!((early.kept, early.budget, late.kept, late.budget), (5, None, 9, Some(8)));
        assert_eq!(late.part(1, 40, &pieces[1]).words(), [1, 9, 6, 40, 8, 14, 2, 0]);
        assert_eq!(keeper.kept(3), Some(8));
        assert!(keeper.land(&[part(14, 1, true)]).is_err(), "it has computed 15");
        let shrink = keeper.shrink(Shrink { seat: 3, budget: 4 }).expect("shrinks").expect("some go");
        assert_eq!(shrink.1.part(1, 0, &shrink.0).words(), [1, 8, 0, 0, 4, 14, 2, 0]);
        keeper.forget(3);
        assert!(keeper.shrink(Shrink { seat: 3, budget: 4 }).is_err(), "it has ended");
    }
}
