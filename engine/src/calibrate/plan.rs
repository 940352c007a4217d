//! Which steps are measured, and in which order.

use std::ops::Add;
use std::time::Duration;

use overbook_kernels::Work;
use overbook_kernels::work::{Chunk, Heads, matmul, paged_decode_attention, prefill_attention};
use overbook_sim::cost::PrefillPart;
use overbook_sim::counter::draw;

use crate::config::Config;

/// The shape of a step to measure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Part of the plan.
    pub kind: &'static str,
    /// KV tokens before the step of each sequence that decodes.
    pub decode_past: Vec<u32>,
    /// Prefill parts.
    pub prefill: Vec<PrefillPart>,
    /// How many of those end their prompt, from the first on.
    pub prefill_ends: u32,
}

impl Shape {
    /// Sequences that decode, each with so many KV tokens before the step.
    pub fn decode(kind: &'static str, past: Vec<u32>) -> Self {
        Shape { kind, decode_past: past, prefill: Vec::new(), prefill_ends: 0 }
    }

    /// The end of a prompt: so many tokens behind so many others.
    pub fn prefill(kind: &'static str, tokens: u32, past: u32) -> Self {
        Shape { kind, decode_past: Vec::new(), prefill: vec![PrefillPart { tokens, past }], prefill_ends: 1 }
    }

    /// Its name, in words.
    pub fn name(&self) -> String {
        let seqs = self.decode_past.len();
        let mean = self.decode_past.iter().map(|&past| u64::from(past) + 1).sum::<u64>() / (seqs.max(1) as u64);
        let decode = (seqs > 0).then(|| format!("{seqs} sequences at {mean}"));
        let prefill = self.prefill.iter().map(|part| format!("{} tokens after {}", part.tokens, part.past));
        decode.into_iter().chain(prefill).collect::<Vec<_>>().join(", ")
    }

    /// Blocks that all its sequences hold after it.
    pub fn blocks(&self, block_tokens: u32) -> u64 {
        let decode = self.decode_past.iter().map(|past| past + 1);
        let prefill = self.prefill.iter().map(|part| part.past + part.tokens);
        decode.chain(prefill).map(|tokens| u64::from(tokens.div_ceil(block_tokens))).sum()
    }

    /// What a step of this shape must at least move and compute: every weight read once, the keys and values of each sequence once,
    /// causal attention, logits of those rows alone that draw. What lies between two kernels need not leave the chip, and does not
    /// count.
    pub fn work(&self, config: &Config) -> Work {
        let heads = Heads { query: config.heads as u64, kv: config.kv_heads as u64, dim: config.head_dim as u64 };
        let (hidden, inner, rows) = (config.hidden as u64, config.intermediate as u64, u64::from(self.tokens()));
        let product = |rows, outputs, inputs| matmul(rows, outputs, inputs, 16, 0);
        let queries = heads.query * heads.dim;
        let chunks = self.prefill.iter().map(|part| Chunk { tokens: part.tokens.into(), past: part.past.into() });
        let parts = [
            product(rows, queries + 2 * heads.kv * heads.dim, hidden),
            product(rows, hidden, queries),
            product(rows, 2 * inner, hidden),
            product(rows, hidden, inner),
            paged_decode_attention(heads, 2, self.decode_past.iter().map(|past| u64::from(*past) + 1)),
            prefill_attention(heads, 2, chunks),
        ];
        let layer = parts.into_iter().fold(Work::default(), Work::add);
        let layers = config.layers as u64;
        let draws = self.decode_past.len() as u64 + u64::from(self.prefill_ends);
        let head = if draws > 0 { product(draws, config.vocab as u64, hidden) } else { Work::default() };
        Work { bytes: layers * layer.bytes, flop: layers * layer.flop } + head
    }

    fn tokens(&self) -> u32 {
        self.decode_past.len() as u32 + self.prefill.iter().map(|part| part.tokens).sum::<u32>()
    }
}

/// What a calibration covers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShapePlan {
    /// Most sequences in a step.
    pub max_seqs: u32,
    /// Most tokens in a step.
    pub max_tokens: u32,
    /// Longest sequence.
    pub max_model_len: u32,
    /// KV blocks that there are.
    pub blocks: u32,
    /// Tokens per block.
    pub block_tokens: u32,
    /// Seed of the order and of the mixed shapes.
    pub seed: u64,
    /// How long each shape is repeated.
    pub repeat_for: Duration,
    /// At least and at most so many times.
    pub repeats: (u32, u32),
    /// How long the run lasts at most that host times come from.
    pub host_for: Duration,
}

/// A stream of numbers: a key, and how many were drawn.
struct Draws(u64, u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.1 += 1;
        draw(self.0, self.1 - 1)
    }

    /// From `low` to `high`, both included; the same weight for every octave.
    fn octave(&mut self, low: u32, high: u32) -> u32 {
        let share = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        let (low, high) = (f64::from(low.max(1)), f64::from(high.max(low).max(1)));
        (low * (high / low).powf(share)).round() as u32
    }
}

/// Powers of two up to `most`, the one after each (a kernel's edge), and `most` itself.
fn edges(least: u32, most: u32) -> Vec<u32> {
    let powers = (0..).map(|i| least << i).take_while(|&power| power <= most);
    let mut all: Vec<u32> = powers.flat_map(|power| [power, power + 1]).filter(|&edge| edge <= most).collect();
    all.push(most);
    all.sort_unstable();
    all.dedup();
    all
}

/// Every fourth power of two and the longest.
fn lengths(most: u32) -> Vec<u32> {
    let mut all: Vec<u32> = [16, 64, 256, 1024, 4096, 16384].into_iter().filter(|&length| length < most).collect();
    all.push(most);
    all
}

/// Mixed shapes.
const MIXED: u32 = 36;
/// Prompts beside the decoding sequences of a mixed shape, at most: so many more sequences than the plan's may be in a step.
pub const PROMPTS: u32 = 3;
/// An anchor after so many shapes.
const ANCHOR_EVERY: usize = 8;

impl ShapePlan {
    fn fits(&self, shape: &Shape) -> bool {
        shape.blocks(self.block_tokens) <= u64::from(self.blocks) && shape.tokens() <= self.max_tokens
    }

    /// All shapes but the anchors.
    pub fn shapes(&self) -> Vec<Shape> {
        let mut draws = Draws(self.seed ^ 0x5AFE, 0);
        let longest = self.max_model_len - 1;
        let mut shapes = Vec::new();
        for seqs in edges(1, self.max_seqs) {
            for context in lengths(longest) {
                shapes.push(Shape::decode("decode", vec![context - 1; seqs as usize]));
            }
        }
        for tokens in edges(16, self.max_tokens.min(longest)).into_iter().chain([1, 4]) {
            // The same for every row, so that they make a grid.
            let mut pasts = vec![0, longest / 4, longest / 2, longest.saturating_sub(self.max_tokens)];
            pasts.sort_unstable();
            pasts.dedup();
            for past in pasts {
                if past + tokens <= longest {
                    shapes.push(Shape::prefill("prefill", tokens, past));
                }
            }
        }
        for _ in 0..MIXED {
            shapes.push(self.mixed(&mut draws));
        }
        for seqs in [4, 16, self.max_seqs].into_iter().filter(|&seqs| seqs <= self.max_seqs) {
            // One long sequence beside short ones.
            let mut past = vec![15; seqs as usize];
            past[0] = longest - 1;
            shapes.push(Shape::decode("skew", past));
        }
        shapes.retain(|shape| self.fits(shape));
        shapes.dedup();
        shapes
    }

    /// Decoding sequences beside one to three prompts.
    fn mixed(&self, draws: &mut Draws) -> Shape {
        let longest = self.max_model_len - 1;
        let seqs = draws.octave(1, self.max_seqs);
        let mean = draws.octave(16, longest / 2);
        let past = (0..seqs).map(|_| draws.octave(mean / 2, (mean * 2).min(longest - 1))).collect();
        let chunks = 1 + draws.next() % u64::from(PROMPTS);
        let room = self.max_tokens.saturating_sub(seqs) / chunks as u32;
        let part = |draws: &mut Draws| {
            let tokens = draws.octave(4, room.min(longest / 2).max(4));
            let whole = draws.next().is_multiple_of(2);
            PrefillPart { tokens, past: if whole { 0 } else { draws.octave(1, longest - tokens) } }
        };
        let prefill: Vec<PrefillPart> = (0..chunks).map(|_| part(draws)).collect();
        let prefill_ends = (draws.next() % (chunks + 1)) as u32;
        Shape { kind: "mixed", decode_past: past, prefill, prefill_ends }
    }

    /// Operating points for watts, as far as the plan has room: decodes of rising batches at three contexts, prompts of rising length, in
    /// turn, so that neighbours are unlike and all coefficients of the power law are told apart.
    pub fn held(&self) -> Vec<Shape> {
        let longest = self.max_model_len - 1;
        let contexts =
            [(127, longest / 16), (2047, longest / 4), (8191, longest - 1)].map(|(past, room)| past.min(room.max(1)));
        let batches = (0..).map(|i| 1 << (2 * i)).take_while(|&seqs| seqs < self.max_seqs).chain([self.max_seqs]);
        let mut decodes: Vec<Shape> = Vec::new();
        for (at, seqs) in batches.enumerate() {
            // Contexts take turns; the largest batch has all of them.
            let of: &[u32] = if seqs == self.max_seqs { &contexts } else { &contexts[at % 3..=at % 3] };
            decodes.extend(of.iter().map(|&past| Shape::decode("held", vec![past; seqs as usize])));
        }
        let most = self.max_tokens.min(longest);
        let lengths = (0..6).map(|i| (most >> i).max(1));
        let prompts: Vec<Shape> = lengths.map(|tokens| Shape::prefill("held", tokens, 0)).collect();
        let mut shapes = Vec::new();
        for at in 0..decodes.len().max(prompts.len()) {
            shapes.extend(decodes.get(at).cloned());
            shapes.extend(prompts.get(at).cloned());
        }
        shapes.retain(|shape| self.fits(shape));
        let mut seen: Vec<Shape> = Vec::new();
        shapes.retain(|shape| {
            let is_new = !seen.contains(shape);
            if is_new {
                seen.push(shape.clone());
            }
            is_new
        });
        shapes
    }

    /// The shapes that come again and again.
    pub fn anchors(&self) -> Vec<Shape> {
        let longest = self.max_model_len - 1;
        let middle = (self.max_seqs / 4).max(1);
        let all = [
            Shape::decode("anchor", vec![127.min(longest - 1)]),
            Shape::decode("anchor", vec![127.min(longest - 1); middle as usize]),
            Shape::prefill("anchor", (self.max_tokens / 2).clamp(1, longest), 0),
        ];
        all.into_iter().filter(|shape| self.fits(shape)).collect()
    }

    /// Everything in the order in which it is measured.
    pub fn order(&self) -> Vec<Shape> {
        let mut shapes = self.shapes();
        let mut draws = Draws(self.seed, 0);
        for index in (1..shapes.len()).rev() {
            shapes.swap(index, (draws.next() % (index as u64 + 1)) as usize);
        }
        let anchors = self.anchors();
        let mut order = anchors.clone();
        for (index, shape) in shapes.into_iter().enumerate() {
            order.push(shape);
            if index % ANCHOR_EVERY == ANCHOR_EVERY - 1 {
                order.extend(anchors.iter().cloned());
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_covers_both_sides_of_every_edge() {
        let plan = ShapePlan::default();
        let shapes = plan.shapes();
        let batches: Vec<usize> = shapes
            .iter()
            .filter(|s| s.kind == "decode" && s.decode_past[0] == 15)
            .map(|s| s.decode_past.len())
            .collect();
        assert_eq!(batches, [1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64]);
        assert!(shapes.iter().all(|shape| plan.fits(shape)));
        assert!(shapes.iter().filter(|s| s.kind == "mixed").count() > 20);
        let order = plan.order();
        assert_eq!(order, ShapePlan::default().order(), "the same seed, the same order");
        assert!(order.iter().filter(|s| s.kind == "anchor").count() >= 3 * (shapes.len() / ANCHOR_EVERY));
        assert_ne!(order[3..20], shapes[..17]);
    }

    #[test]
    fn floors_of_steps_are_those_worked_out_by_hand() {
        let config = Config::preset("llama-3.1-8b").expect("a preset");
        let floor = |shape: Shape| shape.work(&config).floor_s(4.3e12, 788e12) * 1e3;
        // 15 GB of weights and 128 KiB for each token; 8 B weights but the embedding, twice, for each position of a prompt.
        for (rows, context, ms) in [(1, 512, 3.51), (32, 2048, 5.49), (64, 8192, 19.47), (256, 512, 7.49)] {
            let got = floor(Shape::decode("", vec![context - 1; rows]));
            assert!((got / ms - 1.0).abs() < 0.005, "{rows} x {context}: {got}");
        }
        for (tokens, ms) in [(512, 9.16), (2048, 37.7), (8192, 167.0)] {
            let got = floor(Shape::prefill("", tokens, 0));
            assert!((got / ms - 1.0).abs() < 0.01, "{tokens}: {got}");
        }
    }

    #[test]
    fn operating_points_alternate_and_differ() {
        let shapes = ShapePlan::default().held();
        assert_eq!(
            shapes.iter().filter(|shape| shape.prefill.is_empty()).count(),
            5,
            "1, 4, 16 and twice 64: the pool is too small for more"
        );
        assert_eq!(shapes.len(), 11);
        assert!(shapes[0].prefill.is_empty() && shapes[1].decode_past.is_empty() && shapes[2].prefill.is_empty());
        let large = ShapePlan {
            max_seqs: 256,
            max_tokens: 8192,
            max_model_len: 16384,
            blocks: 200_000,
            ..ShapePlan::default()
        };
        assert_eq!(large.held().len(), 13);
    }

    #[test]
    fn a_small_pool_gets_what_fits() {
        let plan = ShapePlan { max_seqs: 8, max_tokens: 64, max_model_len: 128, blocks: 20, ..ShapePlan::default() };
        let shapes = plan.shapes();
        assert!(shapes.len() > 20);
        assert!(shapes.iter().all(|shape| shape.blocks(16) <= 20 && shape.tokens() <= 64));
    }
}
