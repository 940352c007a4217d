//! Causal attention as one operation: rotation, retention bias, softmax and mixing, with the gradient by queries, keys, values and bias.
//!
//! `o_t = Σ_{i ≤ t} softmax_i( q_t·k_i / √d + (t - i) · log β_i ) v_i` (TRIM-KV, arXiv 2512.03324, eq. 3: the bias is added to the logit).
//! No matrix of weights is stored: the backward pass computes them again.
#![allow(clippy::inline_always, reason = "compiled for the instructions that `dispatch!` has chosen")]

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use fearless_simd::{Level, Simd, dispatch};
use rayon::prelude::*;

use super::pointwise::{slice, values};

/// Attention of queries `[batch, rows, heads · dim]` to `[batch, time, (keys, values) · kv heads · dim]` with `log β`
/// `[batch, time, kv heads]`; gives `[batch, rows, heads · dim]`.
#[derive(Clone)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub dim: usize,
    /// Position of each row of queries.
    pub rows: Arc<Vec<usize>>,
    /// Whether `log β` counts; without, its numbers are not read.
    pub gated: bool,
    /// Cosines and sines, `[position, dim / 2]`.
    pub rotation: Arc<(Vec<f32>, Vec<f32>)>,
    /// Vector instructions at hand.
    pub level: Level,
}

/// Cosines and sines of all positions.
pub fn rotation(frequencies: &[f64], positions: usize) -> (Vec<f32>, Vec<f32>) {
    let angles = (0..positions).flat_map(|at| frequencies.iter().map(move |frequency| at as f64 * frequency));
    angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip()
}

/// Keys and values of one sequence and KV head, both ways round.
struct Side {
    time: usize,
    /// Rotated keys and values, `[time, dim]`.
    keys: Vec<f32>,
    values: Vec<f32>,
    /// The same, `[dim, time]`.
    keys_across: Vec<f32>,
    values_across: Vec<f32>,
    log_beta: Vec<f32>,
}

/// Gradients of one sequence and KV head.
struct Slopes {
    keys: Vec<f32>,
    values: Vec<f32>,
    log_beta: Vec<f32>,
}

impl Attention {
    /// Turns a head's halves against each other, or back with `sign` -1.
    fn turn(&self, head: &mut [f32], position: usize, sign: f32) {
        let half = self.dim / 2;
        let (cos, sin) = (&self.rotation.0[position * half..], &self.rotation.1[position * half..]);
        let (first, second) = head.split_at_mut(half);
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            let sin = sin * sign;
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }

    /// One sequence's keys and values of a KV head.
    fn side(&self, kv: &[f32], log_beta: &[f32], head: usize) -> Side {
        let (dim, width) = (self.dim, 2 * self.kv_heads * self.dim);
        let time = kv.len() / width;
        let at = |row: &[f32], part: usize| row[(part * self.kv_heads + head) * dim..][..dim].to_vec();
        let mut keys: Vec<f32> = kv.chunks_exact(width).flat_map(|row| at(row, 0)).collect();
        keys.chunks_exact_mut(dim).enumerate().for_each(|(position, key)| self.turn(key, position, 1.0));
        let values: Vec<f32> = kv.chunks_exact(width).flat_map(|row| at(row, 1)).collect();
        let across = |rows: &[f32]| (0..dim).flat_map(|d| rows.iter().skip(d).step_by(dim).copied()).collect();
        let log_beta =
            if self.gated { log_beta.iter().skip(head).step_by(self.kv_heads).copied().collect() } else { Vec::new() };
        Side { time, keys_across: across(&keys), values_across: across(&values), keys, values, log_beta }
    }

    /// A query, rotated and scaled.
    fn query(&self, row: &[f32], position: usize) -> Vec<f32> {
        let mut query = row.to_vec();
        self.turn(&mut query, position, 1.0);
        let scale = (self.dim as f32).sqrt().recip();
        for q in &mut query {
            *q *= scale;
        }
        query
    }
}

/// Adds `x · column` of `[x.len(), time]` to the first `y.len()` places.
#[inline(always)]
fn gather(x: &[f32], across: &[f32], time: usize, y: &mut [f32]) {
    for (x, line) in x.iter().zip(across.chunks_exact(time)) {
        for (y, a) in y.iter_mut().zip(line) {
            *y += x * a;
        }
    }
}

/// Adds `Σ weight · row` over rows of `[weights.len(), dim]`.
#[inline(always)]
fn mix(weights: &[f32], rows: &[f32], y: &mut [f32]) {
    for (weight, row) in weights.iter().zip(rows.chunks_exact(y.len())) {
        for (y, x) in y.iter_mut().zip(row) {
            *y += weight * x;
        }
    }
}

/// Adds `weight · x` to every row of `[weights.len(), x.len()]`.
#[inline(always)]
fn spread(weights: &[f32], x: &[f32], rows: &mut [f32]) {
    for (weight, row) in weights.iter().zip(rows.chunks_exact_mut(x.len())) {
        for (row, x) in row.iter_mut().zip(x) {
            *row += weight * x;
        }
    }
}

/// Weights of a query at a position.
#[inline(always)]
fn weigh(side: &Side, query: &[f32], position: usize, weights: &mut [f32]) {
    weights.fill(0.0);
    gather(query, &side.keys_across, side.time, weights);
    if !side.log_beta.is_empty() {
        for (i, (weight, log_beta)) in weights.iter_mut().zip(&side.log_beta).enumerate() {
            *weight += (position - i) as f32 * log_beta;
        }
    }
    let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for weight in weights.iter_mut() {
        *weight = (*weight - largest).exp();
        sum += *weight;
    }
    for weight in weights {
        *weight /= sum;
    }
}

#[inline(always)]
fn forward<S: Simd>(_: S, side: &Side, query: &[f32], position: usize, weights: &mut [f32], out: &mut [f32]) {
    weigh(side, query, position, weights);
    mix(weights, &side.values, out);
}

/// Gradients of one row; `d_query` is that of the rotated and scaled query.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the parts of one formula")]
fn backward<S: Simd>(
    _: S,
    side: &Side,
    query: &[f32],
    position: usize,
    d_out: &[f32],
    scratch: &mut (Vec<f32>, Vec<f32>),
    d_query: &mut [f32],
    slopes: &mut Slopes,
) {
    let count = position + 1;
    let (weights, d_weights) = (&mut scratch.0[..count], &mut scratch.1[..count]);
    weigh(side, query, position, weights);
    spread(weights, d_out, &mut slopes.values);
    d_weights.fill(0.0);
    gather(d_out, &side.values_across, side.time, d_weights);
    let mut mean = 0.0;
    for (weight, slope) in weights.iter().zip(d_weights.iter()) {
        mean += weight * slope;
    }
    for (weight, slope) in weights.iter().zip(d_weights.iter_mut()) {
        *slope = weight * (*slope - mean);
    }
    mix(d_weights, &side.keys, d_query);
    spread(d_weights, query, &mut slopes.keys);
    for (i, (d_log_beta, slope)) in slopes.log_beta.iter_mut().zip(d_weights.iter()).enumerate() {
        *d_log_beta += (position - i) as f32 * slope;
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        kv: &CpuStorage,
        lkv: &Layout,
        log_beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, kv, log_beta) = (slice(q, lq)?, slice(kv, lkv)?, slice(log_beta, lb)?);
        let (batch, rows, width) = lq.shape().dims3()?;
        let (_, time, _) = lkv.shape().dims3()?;
        let group = self.heads / self.kv_heads;
        let mut out = vec![0.0; q.len()];
        out.par_chunks_exact_mut(rows * width).enumerate().for_each(|(at, out)| {
            let q = &q[at * rows * width..][..rows * width];
            let mut weights = vec![0.0; time];
            for kv_head in 0..self.kv_heads {
                let side = self.side(part(kv, batch, at), part(log_beta, batch, at), kv_head);
                for (row, position) in self.rows.iter().copied().enumerate() {
                    for head in kv_head * group..(kv_head + 1) * group {
                        let place = row * width + head * self.dim..row * width + (head + 1) * self.dim;
                        let query = self.query(&q[place.clone()], position);
                        let weights = &mut weights[..=position];
                        dispatch!(self.level, simd => forward(simd, &side, &query, position, weights, &mut out[place]));
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), lq.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        kv: &Tensor,
        log_beta: &Tensor,
        _: &Tensor,
        d_out: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (batch, rows, width) = q.dims3()?;
        let (_, time, kv_width) = kv.dims3()?;
        let (qs, kvs, betas, d_out) = (values(q)?, values(kv)?, values(log_beta)?, values(d_out)?);
        let (mut d_q, mut d_kv) = (vec![0.0; qs.len()], vec![0.0; kvs.len()]);
        let mut d_beta = vec![0.0; batch * time * self.kv_heads];
        d_q.par_chunks_exact_mut(rows * width)
            .zip(d_kv.par_chunks_exact_mut(time * kv_width))
            .zip(d_beta.par_chunks_exact_mut(time * self.kv_heads))
            .enumerate()
            .for_each(|(at, ((d_q, d_kv), d_beta))| {
                let (q, d_out) = (part(&qs, batch, at), part(&d_out, batch, at));
                for kv_head in 0..self.kv_heads {
                    let side = self.side(part(&kvs, batch, at), part(&betas, batch, at), kv_head);
                    let slopes = self.slopes(&side, q, d_out, kv_head, d_q);
                    self.store(slopes, kv_head, d_kv, d_beta);
                }
            });
        let device = q.device();
        let d_beta = if self.gated { Some(Tensor::from_vec(d_beta, log_beta.shape().clone(), device)?) } else { None };
        let d_q = Tensor::from_vec(d_q, q.shape().clone(), device)?;
        Ok((Some(d_q), Some(Tensor::from_vec(d_kv, kv.shape().clone(), device)?), d_beta))
    }
}

/// The part of one sequence of a batch.
fn part(all: &[f32], batch: usize, at: usize) -> &[f32] {
    let length = all.len() / batch;
    &all[at * length..(at + 1) * length]
}

impl Attention {
    /// Gradients of one sequence and KV head; those of the queries go to `d_q`.
    fn slopes(&self, side: &Side, q: &[f32], d_out: &[f32], kv_head: usize, d_q: &mut [f32]) -> Slopes {
        let (dim, group, width) = (self.dim, self.heads / self.kv_heads, self.heads * self.dim);
        let zeros = || vec![0.0; side.time * dim];
        let mut slopes = Slopes { keys: zeros(), values: zeros(), log_beta: vec![0.0; side.log_beta.len()] };
        let mut scratch = (vec![0.0; side.time], vec![0.0; side.time]);
        let scale = (dim as f32).sqrt().recip();
        for (row, position) in self.rows.iter().copied().enumerate() {
            for head in kv_head * group..(kv_head + 1) * group {
                let place = row * width + head * dim..row * width + (head + 1) * dim;
                let query = self.query(&q[place.clone()], position);
                let (d_query, d_out) = (&mut d_q[place.clone()], &d_out[place]);
                let (scratch, slopes) = (&mut scratch, &mut slopes);
                dispatch!(self.level, simd => backward(simd, side, &query, position, d_out, scratch, d_query, slopes));
                for slope in d_query.iter_mut() {
                    *slope *= scale;
                }
                self.turn(d_query, position, -1.0);
            }
        }
        slopes
    }

    /// Puts gradients of a KV head where its numbers stand.
    fn store(&self, mut slopes: Slopes, head: usize, d_kv: &mut [f32], d_beta: &mut [f32]) {
        let dim = self.dim;
        for (position, row) in d_kv.chunks_exact_mut(2 * self.kv_heads * dim).enumerate() {
            let key = &mut slopes.keys[position * dim..(position + 1) * dim];
            self.turn(key, position, -1.0);
            row[head * dim..(head + 1) * dim].copy_from_slice(key);
            let value = &slopes.values[position * dim..(position + 1) * dim];
            row[(self.kv_heads + head) * dim..][..dim].copy_from_slice(value);
        }
        d_beta
            .iter_mut()
            .skip(head)
            .step_by(self.kv_heads)
            .zip(slopes.log_beta)
            .for_each(|(place, slope)| *place = slope);
    }
}
