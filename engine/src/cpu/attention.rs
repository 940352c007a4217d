//! Attention of ragged chunks over the paged cache.
//!
//! Every query is computed alone, over its positions in order: what is in the batch beside it, where its blocks lie and in how
//! large a chunk it comes changes no bit.

use fearless_simd::{Level, Simd, SimdBase, dispatch, f32x16, prelude::*, u32x16};
use rayon::prelude::*;

use super::cache::Layer;
use super::math;
use super::matmul::widen;
use crate::weights::Dtype;

/// One new position.
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    /// Blocks of its sequence.
    pub table: &'a [u32],
    /// Positions it attends to, itself included.
    pub context: usize,
}

/// Sizes of heads.
#[derive(Clone, Copy)]
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
        let context = self.row.context;
        scores.clear();
        scores.resize(queries.len() / self.dim * context, 0.0);
        self.scores::<S, NUMBERS>(simd, queries, scores);
        for scores in scores.chunks_exact_mut(context) {
            math::softmax(simd, scores);
        }
        let (mut scores, mut out) = (&scores[..], out);
        // Heads that share a load of values.
        while !out.is_empty() {
            let heads = (out.len() / self.dim).min(4);
            let (now, rest) = out.split_at_mut(heads * self.dim);
            match heads {
                1 => self.values::<S, NUMBERS, 1>(simd, scores, now),
                2 => self.values::<S, NUMBERS, 2>(simd, scores, now),
                3 => self.values::<S, NUMBERS, 3>(simd, scores, now),
                _ => self.values::<S, NUMBERS, 4>(simd, scores, now),
            }
            (scores, out) = (&scores[heads * context..], rest);
        }
    }

    /// Scaled products of each query with the keys of its positions.
    #[inline(always)]
    fn scores<S: Simd, const NUMBERS: usize>(&self, simd: S, queries: &[f32], scores: &mut [f32]) {
        let vectors = self.dim / NUMBERS / 16;
        let queries = queries.as_chunks::<16>().0;
        let mut position = 0;
        for slots in self.slots() {
            for slot in slots {
                let key = &self.layer.key(slot, self.head).as_chunks::<16>().0[..vectors];
                for (query, scores) in
                    queries.chunks_exact(NUMBERS * vectors).zip(scores.chunks_exact_mut(self.row.context))
                {
                    let mut sum = f32x16::splat(simd, 0.0);
                    for i in 0..vectors {
                        let words = u32x16::from_slice(simd, &key[i]);
                        for number in 0..NUMBERS {
                            let query = f32x16::from_slice(simd, &query[number * vectors + i]);
                            sum = query.mul_add(widen::<S, NUMBERS>(words, number), sum);
                        }
                    }
                    scores[position] = simd.reduce_sum_f32x16(sum) * self.scale;
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
