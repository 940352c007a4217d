//! Activations times weights: `y[m, n] = Σ x[m, k] · w[n, k]`.
//!
//! One kernel serves decode and prefill. Weights stream through once per [`ROWS_BYTES`] of activations, so that a step of
//! a few dozen sequences reads them once. Every number of `y` is one sum in one order, whatever is computed beside it and on
//! however many threads: 16 partial sums along `k`, added up at the end. A sequence therefore gets the same bits alone,
//! in a batch, and in chunks of any size.

use fearless_simd::{Level, Simd, SimdBase, dispatch, f32x16, prelude::*, u32x16};
use rayon::prelude::*;

use crate::weights::{Dtype, Matrix};

/// Activations that a thread works on before it reads its weights again [bytes]: half of a usual second-level cache.
const ROWS_BYTES: usize = 512 << 10;
/// Rows of activations that share a load of weights.
const TILE: usize = 2;

/// What becomes of the sums.
#[derive(Clone, Copy)]
pub(super) enum Epilogue<'a> {
    /// They are the result, plus a bias per column unless it is empty.
    Store(&'a [f32]),
    /// They are added to what is there.
    Add,
    /// Half the columns of each [`Matrix::GROUP`] are of the gate, half of the up projection: `y = silu(gate) · up`, half as wide.
    Gate,
}

/// Multiplies `x`, rows of `w.width()`, into `y`, on the threads of the current pool. `packed` is memory to work in.
pub(super) fn matmul(level: Level, w: &Matrix, x: &[f32], y: &mut [f32], epilogue: Epilogue, packed: &mut Vec<f32>) {
    pack(x, w.width(), w.dtype(), packed);
    let x = &packed[..];
    let per_group = if matches!(epilogue, Epilogue::Gate) { Matrix::GROUP / 2 } else { Matrix::GROUP };
    let y_width = if matches!(epilogue, Epilogue::Gate) { w.rows() / 2 } else { w.rows() };
    // Enough parts that a thread that is held up does not hold up the others, each long enough to be worth its start.
    let groups = w.rows().div_ceil(Matrix::GROUP);
    let parts = (8 * rayon::current_num_threads()).min(groups);
    let part_groups = groups.div_ceil(parts);
    let mut columns: Vec<Vec<&mut [f32]>> = Vec::new();
    columns.resize_with(groups.div_ceil(part_groups), || Vec::with_capacity(y.len() / y_width));
    for row in y.chunks_exact_mut(y_width) {
        columns.iter_mut().zip(row.chunks_mut(part_groups * per_group)).for_each(|(part, row)| part.push(row));
    }
    let part_words = part_groups * Matrix::GROUP * w.row_words();
    columns.into_par_iter().zip(w.words().par_chunks(part_words)).enumerate().for_each(|(index, (mut y, words))| {
        let first = index * part_groups * Matrix::GROUP;
        let part = Part { words, row_words: w.row_words(), width: w.width(), first, epilogue };
        match w.dtype() {
            Dtype::F32 => dispatch!(level, simd => part.run::<_, 1>(simd, x, &mut y)),
            Dtype::Bf16 => dispatch!(level, simd => part.run::<_, 2>(simd, x, &mut y)),
        }
    });
}

/// Some columns of the result.
struct Part<'a> {
    /// Their rows of the matrix.
    words: &'a [u32],
    row_words: usize,
    width: usize,
    /// Number of the first column.
    first: usize,
    epilogue: Epilogue<'a>,
}

impl Part<'_> {
    /// `NUMBERS`: how many a word holds.
    #[inline(always)]
    fn run<S: Simd, const NUMBERS: usize>(&self, simd: S, x: &[f32], y: &mut [&mut [f32]]) {
        let block = (ROWS_BYTES / (4 * self.width)).max(TILE) / TILE * TILE;
        let blocks = x.chunks(block * self.width).zip(y.chunks_mut(block));
        for (x, y) in blocks {
            for (index, words) in self.words.chunks(Matrix::GROUP * self.row_words).enumerate() {
                let tiles = x.chunks(TILE * self.width).zip(y.chunks_mut(TILE));
                for (x, y) in tiles {
                    match y.len() {
                        1 => self.group::<S, NUMBERS, 1>(simd, index, words, x, y),
                        _ => self.group::<S, NUMBERS, TILE>(simd, index, words, x, y),
                    }
                }
            }
        }
    }

    /// A group of columns for `ROWS` rows.
    #[inline(always)]
    fn group<S: Simd, const NUMBERS: usize, const ROWS: usize>(
        &self,
        simd: S,
        index: usize,
        words: &[u32],
        x: &[f32],
        y: &mut [&mut [f32]],
    ) {
        let sums = tile::<S, NUMBERS, ROWS>(simd, words, x);
        let at = index * Matrix::GROUP;
        for (y, sums) in y.iter_mut().zip(&sums) {
            match self.epilogue {
                Epilogue::Store(bias) => {
                    let bias = bias.get(self.first + at..).unwrap_or(&[]).iter().chain(std::iter::repeat(&0.0));
                    y[at..].iter_mut().zip(sums).zip(bias).for_each(|((y, sum), bias)| *y = sum + bias);
                }
                Epilogue::Add => y[at..].iter_mut().zip(sums).for_each(|(y, sum)| *y += sum),
                Epilogue::Gate => {
                    let (gate, up) = sums.split_at(Matrix::GROUP / 2);
                    let out = y[at / 2..].iter_mut().zip(gate.iter().zip(up));
                    out.for_each(|(y, (gate, up))| *y = gate / (1.0 + (-gate).exp()) * up);
                }
            }
        }
    }
}

/// Lays rows out in the order in which [`tile`] reads them: by tiles, then by 16 words of a matrix row, by the numbers of a
/// word, by rows of the tile.
fn pack(x: &[f32], width: usize, dtype: Dtype, packed: &mut Vec<f32>) {
    let numbers = 4 / dtype.bytes();
    packed.resize(x.len(), 0.0);
    let tiles = packed.par_chunks_mut(TILE * width).zip(x.par_chunks(TILE * width));
    tiles.with_min_len(8).for_each(|(packed, tile)| {
        let rows = tile.len() / width;
        for (row, x) in tile.chunks_exact(width).enumerate() {
            for (number, part) in x.chunks_exact(width / numbers).enumerate() {
                let places =
                    packed.as_chunks_mut::<16>().0.iter_mut().skip(number * rows + row).step_by(numbers * rows);
                places.zip(part.as_chunks::<16>().0).for_each(|(to, from)| *to = *from);
            }
        }
    });
}

/// The sums of one group of matrix rows with `ROWS` packed rows of activations.
#[inline(always)]
fn tile<S: Simd, const NUMBERS: usize, const ROWS: usize>(
    simd: S,
    words: &[u32],
    x: &[f32],
) -> [[f32; Matrix::GROUP]; ROWS] {
    let words = words.as_chunks::<16>().0.as_chunks::<{ Matrix::GROUP }>().0;
    let x = x.as_chunks::<16>().0.chunks_exact(NUMBERS * ROWS);
    let mut sums = [[f32x16::splat(simd, 0.0); Matrix::GROUP]; ROWS];
    for (group, x) in words.iter().zip(x) {
        for (number, x) in x.chunks_exact(ROWS).enumerate() {
            for n in 0..Matrix::GROUP {
                let weight = widen::<S, NUMBERS>(u32x16::from_slice(simd, &group[n]), number);
                for m in 0..ROWS {
                    sums[m][n] = weight.mul_add(f32x16::from_slice(simd, &x[m]), sums[m][n]);
                }
            }
        }
    }
    let mut out = [[0.0; Matrix::GROUP]; ROWS];
    for m in 0..ROWS {
        for n in 0..Matrix::GROUP {
            out[m][n] = simd.reduce_sum_f32x16(sums[m][n]);
        }
    }
    out
}

/// The numbers in one place of 16 words (see [`crate::weights::Matrix`]).
#[inline(always)]
pub(super) fn widen<S: Simd, const NUMBERS: usize>(words: u32x16<S>, number: usize) -> f32x16<S> {
    match (NUMBERS, number) {
        (1, _) => words.bitcast(),
        (_, 0) => (words << 16).bitcast(),
        _ => (words & 0xffff_0000).bitcast(),
    }
}
