//! Learned networks of retention on the CPU.

use fearless_simd::Level;
use rayon::prelude::*;

use super::matmul::{Epilogue, matmul};
use crate::retention::{Gate, GateKind};

/// What the network of a layer gives every row of `x`, `[row, kv head]`. `inner` and `packed` are memory to work in.
pub(super) fn gate(
    level: Level,
    kind: GateKind,
    gate: &Gate,
    x: &[f32],
    out: &mut Vec<f32>,
    (inner, packed): (&mut Vec<f32>, &mut Vec<f32>),
) {
    let rows = x.len() / gate.w1.width();
    inner.resize(rows * gate.w1.rows(), 0.0);
    matmul(level, &gate.w1, x, inner, Epilogue::Store(&gate.b1), packed);
    inner.par_iter_mut().with_min_len(1 << 12).for_each(|value| *value /= 1.0 + (-*value).exp());
    out.resize(rows * gate.w2.rows(), 0.0);
    matmul(level, &gate.w2, inner, out, Epilogue::Store(&gate.b2), packed);
    if kind == GateKind::Retention {
        // log σ(z) = min(z, 0) − log(1 + e^−|z|), which loses nothing where β is near 1.
        for value in out {
            *value = value.min(0.0) - (-value.abs()).exp().ln_1p();
        }
    }
}
