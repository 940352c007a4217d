//! The loss that makes gates forget: how far the sum of all retentions lies above the slots there are.
//!
//! TRIM-KV (arXiv 2512.03324 §4.3): mean over sequences, layers and KV heads of `1/T · Σ_t 1/t · max(0, Σ_{i ≤ t} β_i^(t-i) - M)`.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::pointwise::{slice, values};

/// The loss of `log β`, `[batch, time, kv heads]`, as one number.
pub struct Capacity {
    /// M: slots in each layer and KV head.
    pub slots: f32,
}

impl Capacity {
    /// Loss of one sequence and head, and its gradient by `log β`.
    fn of(&self, log_beta: &[f32], gradient: &mut [f32]) -> f32 {
        let time = log_beta.len();
        let mut retained = vec![0.0; time];
        let mut loss = 0.0;
        for t in 0..time {
            let mut sum = 0.0;
            for (i, log_beta) in log_beta[..=t].iter().enumerate() {
                retained[i] = ((t - i) as f32 * log_beta).exp();
                sum += retained[i];
            }
            if sum > self.slots {
                let weight = 1.0 / (time as f32 * (t + 1) as f32);
                loss += weight * (sum - self.slots);
                for i in 0..=t {
                    gradient[i] += weight * (t - i) as f32 * retained[i];
                }
            }
        }
        loss
    }

    /// Mean loss, and its gradient.
    fn mean(&self, log_beta: &[f32], batch: usize, time: usize, heads: usize) -> (f32, Vec<f32>) {
        let mut gradient = vec![0.0; log_beta.len()];
        let count = (batch * heads) as f32;
        let losses: Vec<f32> = gradient
            .par_chunks_exact_mut(time * heads)
            .zip(log_beta.par_chunks_exact(time * heads))
            .map(|(gradient, log_beta)| {
                let mut loss = 0.0;
                for head in 0..heads {
                    let of_head: Vec<f32> = log_beta.iter().skip(head).step_by(heads).copied().collect();
                    let mut slopes = vec![0.0; time];
                    loss += self.of(&of_head, &mut slopes);
                    for (gradient, slope) in gradient.iter_mut().skip(head).step_by(heads).zip(slopes) {
                        *gradient = slope / count;
                    }
                }
                loss
            })
            .collect();
        (losses.iter().sum::<f32>() / count, gradient)
    }
}

impl CustomOp1 for Capacity {
    fn name(&self) -> &'static str {
        "capacity"
    }

    fn cpu_fwd(&self, log_beta: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, time, heads) = layout.shape().dims3()?;
        let (loss, _) = self.mean(slice(log_beta, layout)?, batch, time, heads);
        Ok((CpuStorage::F32(vec![loss]), Shape::from(())))
    }

    fn bwd(&self, log_beta: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (batch, time, heads) = log_beta.dims3()?;
        let (_, mut gradient) = self.mean(&values(log_beta)?, batch, time, heads);
        let dy = dy.to_scalar::<f32>()?;
        for slope in &mut gradient {
            *slope *= dy;
        }
        Ok(Some(Tensor::from_vec(gradient, (batch, time, heads), log_beta.device())?))
    }
}
