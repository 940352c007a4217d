//! Retention gates: how long each layer and KV head should keep a token, as the token's hidden state says.
//!
//! TRIM-KV (arXiv 2512.03324 §4): `log β = log σ(W₂ SiLU(W₁ x + b₁) + b₂)`, `x` the normalised hidden state that makes queries, keys
//! and values. At position `t` a token of position `i` is worth `(t + 1 - i) · log β`; the least worth goes.

use std::path::Path;

use super::reference::dot;
use crate::config::Config;
use crate::weights::{Files, Source as _, WeightsError};

/// The gate of one layer.
#[derive(Clone, PartialEq, Debug)]
pub struct Gate {
    /// `[width, hidden]`.
    pub w1: Vec<f32>,
    /// `[width]`.
    pub b1: Vec<f32>,
    /// `[kv heads, width]`.
    pub w2: Vec<f32>,
    /// `[kv heads]`.
    pub b2: Vec<f32>,
}

/// The gates of a model, one a layer.
#[derive(Clone, PartialEq, Debug)]
pub struct Gates {
    /// In the order of the layers.
    pub layers: Vec<Gate>,
}

/// Name of a part of a layer's gate in files.
pub fn name(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.gate.{part}")
}

impl Gates {
    /// Reads a `gates.safetensors` made for a model.
    ///
    /// # Errors
    /// The file cannot be read, or a tensor is missing or of another shape than the model asks for.
    pub fn load(config: &Config, path: &Path) -> Result<Gates, WeightsError> {
        let files = Files::open(path)?;
        let layers = (0..config.layers).map(|layer| {
            // The width is the file's; all else is the model's.
            let width = files.shape(&name(layer, "b1")).and_then(|shape| shape.first().copied()).unwrap_or(0);
            Ok(Gate {
                w1: files.tensor(&name(layer, "w1"), &[width, config.hidden])?,
                b1: files.tensor(&name(layer, "b1"), &[width])?,
                w2: files.tensor(&name(layer, "w2"), &[config.kv_heads, width])?,
                b2: files.tensor(&name(layer, "b2"), &[config.kv_heads])?,
            })
        });
        Ok(Gates { layers: layers.collect::<Result<_, WeightsError>>()? })
    }
}

impl Gate {
    /// `log β` of a token for one KV head, below 0; `x` is its normalised hidden state.
    pub fn log_beta(&self, x: &[f32], head: usize) -> f32 {
        let width = self.b1.len();
        let inner: Vec<f32> = self
            .w1
            .chunks_exact(x.len())
            .zip(&self.b1)
            .map(|(row, bias)| dot(row, x) + bias)
            .map(|z| z / (1.0 + (-z).exp()))
            .collect();
        log_sigmoid(dot(&self.w2[head * width..(head + 1) * width], &inner) + self.b2[head])
    }
}

/// `log σ(z)` without overflow.
pub fn log_sigmoid(z: f32) -> f32 {
    z.min(0.0) - (-z.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sigmoid_holds_at_both_ends() {
        assert!((log_sigmoid(0.0) + std::f32::consts::LN_2).abs() < 1e-7);
        assert!((log_sigmoid(-50.0) + 50.0).abs() < 1e-4);
        assert!(log_sigmoid(18.0) < 0.0 && log_sigmoid(18.0) > -2e-8);
    }
}
