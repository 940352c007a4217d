//! Attention of ragged chunks over the paged cache.
//!
//! Every query is computed alone, over its slots in order: what is in the batch beside it, where its blocks lie and in how
//! large a chunk it comes changes no bit.

use fearless_simd::{Level, Simd, SimdBase, dispatch, f32x16, prelude::*, u32x16};
use rayon::prelude::*;

use super::cache::Layer;
use super::math;
use super::matmul::widen;
use crate::weights::Dtype;

/// Query heads that share a load of a key or a value; more go round again.
const SHARE: usize = 8;

/// One new position.
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    /// Blocks of its sequence.
    pub table: &'a [u32],
    /// Slots it attends to, its own included, which is the last.
    pub context: usize,
    /// Its position in the sequence; as long as nothing is thrown away, that of its slot.
    pub position: usize,
}

/// Sizes of heads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    /// Query heads per KV head.
    pub group: usize,
    /// Key and value heads.
    pub kv: usize,
    /// Width of one head.
    pub dim: usize,
}

/// `out[position, head, dim]`; a position's queries come first in its row of `qkv`, and its keys and values are already stored.
pub(super) fn attention(level: Level, heads: Heads, layer: &Layer, rows: &[Query], qkv: &[f32], out: &mut [f32]) {
    let stride = qkv.len() / rows.len();
    let width = heads.group * heads.dim;
    let scale = (heads.dim as f32).sqrt().recip();
    out.par_chunks_exact_mut(width).enumerate().for_each_init(Vec::new, |scores, (index, out)| {
        let (row, head) = (index / heads.kv, index % heads.kv);
        let queries = &qkv[row * stride + head * width..][..width];
        let task = Task { layer, row: rows[row], head, dim: heads.dim, scale };
        match layer.dtype() {
            Dtype::F32 => dispatch!(level, simd => task.run::<_, 1>(simd, queries, scores, out)),
            Dtype::Bf16 => dispatch!(level, simd => task.run::<_, 2>(simd, queries, scores, out)),
        }
    });
}

/// Scaled products of queries of one KV head's group, `[query, dim]`, with the keys of a row's slots: `[query, slot]`, added to `out`. `weigh`
/// turns each query's into weights that add up to one. Both have the bits that [`attention`] has.
pub(super) fn products(
    level: Level,
    heads: Heads,
    layer: &Layer,
    (row, head): (Query, usize),
    queries: &[f32],
    weigh: bool,
    out: &mut Vec<f32>,
) {
    let (dim, start) = (heads.dim, out.len());
    out.resize(start + queries.len() / dim * row.context, 0.0);
    let task = Task { layer, row, head, dim, scale: (dim as f32).sqrt().recip() };
    for (query, out) in queries.chunks_exact(dim).zip(out[start..].chunks_exact_mut(row.context)) {
        match layer.dtype() {
            Dtype::F32 => dispatch!(level, simd => task.scores::<_, 1, 1>(simd, query, out)),
            Dtype::Bf16 => dispatch!(level, simd => task.scores::<_, 2, 1>(simd, query, out)),
        }
        if weigh {
            dispatch!(level, simd => math::softmax(simd, out));
        }
    }
}

/// One position and one KV head, with all query heads that share it.
struct Task<'a> {
    layer: &'a Layer,
    row: Query<'a>,
    head: usize,
    dim: usize,
    scale: f32,
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const NUMBERS: usize>(&self, simd: S, queries: &[f32], scores: &mut Vec<f32>, out: &mut [f32]) {
        let shared = SHARE * self.dim;
        for (queries, out) in queries.chunks(shared).zip(out.chunks_mut(shared)) {
            match out.len() / self.dim {
                1 => self.heads::<S, NUMBERS, 1>(simd, queries, scores, out),
                2 => self.heads::<S, NUMBERS, 2>(simd, queries, scores, out),
                3 => self.heads::<S, NUMBERS, 3>(simd, queries, scores, out),
                4 => self.heads::<S, NUMBERS, 4>(simd, queries, scores, out),
                5 => self.heads::<S, NUMBERS, 5>(simd, queries, scores, out),
                6 => self.heads::<S, NUMBERS, 6>(simd, queries, scores, out),
                7 => self.heads::<S, NUMBERS, 7>(simd, queries, scores, out),
                _ => self.heads::<S, NUMBERS, SHARE>(simd, queries, scores, out),
            }
        }
    }

    /// Attention of `HEADS` query heads, which share each load of a key or a value.
    #[inline(always)]
    fn heads<S: Simd, const NUMBERS: usize, const HEADS: usize>(
        &self,
        simd: S,
        queries: &[f32],
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        scores.resize(HEADS * self.row.context, 0.0);
        self.scores::<S, NUMBERS, HEADS>(simd, queries, scores);
        for scores in scores.chunks_exact_mut(self.row.context) {
            math::softmax(simd, scores);
        }
        self.values::<S, NUMBERS, HEADS>(simd, scores, out);
    }

    /// Scaled products of each query with the keys of its positions.
    #[inline(always)]
    fn scores<S: Simd, const NUMBERS: usize, const HEADS: usize>(&self, simd: S, queries: &[f32], scores: &mut [f32]) {
        let vectors = self.dim / NUMBERS / 16;
        let queries = &queries.as_chunks::<16>().0[..HEADS * NUMBERS * vectors];
        let context = self.row.context;
        let scores = &mut scores[..HEADS * context];
        let mut position = 0;
        for slots in self.slots() {
            for slot in slots {
                let key = &self.layer.key(slot, self.head).as_chunks::<16>().0[..vectors];
                let mut sums = [f32x16::splat(simd, 0.0); HEADS];
                for i in 0..vectors {
                    let words = u32x16::from_slice(simd, &key[i]);
                    for number in 0..NUMBERS {
                        let key = widen::<S, NUMBERS>(words, number);
                        for head in 0..HEADS {
                            let query = &queries[(head * NUMBERS + number) * vectors + i];
                            sums[head] = f32x16::from_slice(simd, query).mul_add(key, sums[head]);
                        }
                    }
                }
                for head in 0..HEADS {
                    scores[head * context + position] = simd.reduce_sum_f32x16(sums[head]) * self.scale;
                }
                position += 1;
            }
        }
    }

    /// Sums of values weighted by scores, for `HEADS` query heads.
    #[inline(always)]
    fn values<S: Simd, const NUMBERS: usize, const HEADS: usize>(&self, simd: S, scores: &[f32], out: &mut [f32]) {
        let vectors = self.dim / NUMBERS / 16;
        let context = self.row.context;
        for i in 0..vectors {
            let mut sums = [[f32x16::splat(simd, 0.0); NUMBERS]; HEADS];
            let mut position = 0;
            for slots in self.slots() {
                for slot in slots {
                    let value = &self.layer.value(slot, self.head).as_chunks::<16>().0[i];
                    let words = u32x16::from_slice(simd, value);
                    for number in 0..NUMBERS {
                        let value = widen::<S, NUMBERS>(words, number);
                        for head in 0..HEADS {
                            let weight = f32x16::splat(simd, scores[head * context + position]);
                            sums[head][number] = weight.mul_add(value, sums[head][number]);
                        }
                    }
                    position += 1;
                }
            }
            for head in 0..HEADS {
                for number in 0..NUMBERS {
                    let at = head * self.dim + (number * vectors + i) * 16;
                    sums[head][number].store_slice(&mut out[at..at + 16]);
                }
            }
        }
    }

    /// Slots of the positions in order, block by block.
    #[inline(always)]
    fn slots(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (size, context) = (self.layer.block_tokens(), self.row.context);
        self.row.table.iter().enumerate().take(context.div_ceil(size)).map(move |(index, block)| {
            let start = *block as usize * size;
            start..start + size.min(context - index * size)
        })
    }
}
