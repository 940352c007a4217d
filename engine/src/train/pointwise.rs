//! Norm, gated activation and log-sigmoid, each as one operation with its gradient.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Rows that a thread computes before it looks for more.
const ROWS: usize = 256;

/// The numbers of a tensor that lies in one piece.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { candle_core::bail!("a tensor lies in pieces") };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// `log σ(z)` without overflow.
fn log_sigmoid(z: f32) -> f32 {
    z.min(0.0) - (-z.abs()).exp().ln_1p()
}

/// The numbers of a tensor, row by row.
pub(super) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// `x / √(mean(x²) + epsilon) · weight` of every row.
pub struct RmsNorm {
    /// Added to the mean square.
    pub epsilon: f32,
}

impl RmsNorm {
    fn scale(&self, x: &[f32]) -> f32 {
        (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32 + self.epsilon).sqrt().recip()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(x, lx)?, slice(w, lw)?);
        let width = weight.len();
        let mut y = vec![0.0; x.len()];
        y.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width)).with_min_len(ROWS).for_each(|(y, x)| {
            let scale = self.scale(x);
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * scale * weight;
            }
        });
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let shape = x.shape().clone();
        let (x, weight, dy) = (values(x)?, values(w)?, values(dy)?);
        let width = weight.len();
        let mut dx = vec![0.0; x.len()];
        let rows = dx.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width)).zip(dy.par_chunks_exact(width));
        rows.with_min_len(ROWS).for_each(|((dx, x), dy)| {
            let scale = self.scale(x);
            let along: f32 = dy.iter().zip(&weight).zip(x).map(|((dy, weight), x)| dy * weight * x).sum();
            let back = along * scale * scale * scale / width as f32;
            for (((dx, x), dy), weight) in dx.iter_mut().zip(x).zip(dy).zip(&weight) {
                *dx = dy * weight * scale - x * back;
            }
        });
        let mut dw = vec![0.0; width];
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            let scale = self.scale(x);
            dw.iter_mut().zip(x).zip(dy).for_each(|((dw, x), dy)| *dw += dy * x * scale);
        }
        Ok((Some(Tensor::from_vec(dx, shape, w.device())?), Some(Tensor::from_vec(dw, width, w.device())?)))
    }
}

/// `SiLU(gate) · up` of rows `[gate, up]`.
pub struct SwiGlu;

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let x = slice(x, layout)?;
        let mut y = vec![0.0; rows * width / 2];
        y.par_chunks_exact_mut(width / 2).zip(x.par_chunks_exact(width)).with_min_len(ROWS).for_each(|(y, x)| {
            let (gate, up) = x.split_at(width / 2);
            for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate / (1.0 + (-gate).exp()) * up;
            }
        });
        Ok((CpuStorage::F32(y), Shape::from((rows, width / 2))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = x.dims2()?;
        let (numbers, dy) = (values(x)?, values(dy)?);
        let mut dx = vec![0.0; rows * width];
        let all = dx.par_chunks_exact_mut(width).zip(numbers.par_chunks_exact(width));
        all.zip(dy.par_chunks_exact(width / 2)).with_min_len(ROWS).for_each(|((dx, x), dy)| {
            let (gate, up) = x.split_at(width / 2);
            let (d_gate, d_up) = dx.split_at_mut(width / 2);
            for at in 0..width / 2 {
                let sigmoid = (1.0 + (-gate[at]).exp()).recip();
                d_up[at] = dy[at] * gate[at] * sigmoid;
                d_gate[at] = dy[at] * up[at] * sigmoid * (1.0 + gate[at] * (1.0 - sigmoid));
            }
        });
        Ok(Some(Tensor::from_vec(dx, (rows, width), x.device())?))
    }
}

/// `log σ(z)`, without overflow, and with a gradient that does not vanish in rounding.
pub struct LogSigmoid;

impl CustomOp1 for LogSigmoid {
    fn name(&self) -> &'static str {
        "log_sigmoid"
    }

    fn cpu_fwd(&self, z: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = slice(z, layout)?.iter().map(|z| log_sigmoid(*z)).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, z: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let slope = |(z, dy): (&f32, f32)| dy / (1.0 + z.exp());
        let dz: Vec<f32> = values(z)?.iter().zip(values(dy)?).map(slope).collect();
        Ok(Some(Tensor::from_vec(dz, z.shape().clone(), z.device())?))
    }
}
