//! What training leaves: `config.json`, `model.safetensors` and gates, as the engine loads them.
//!
//! Gates stand in a file of their own, f32, per layer N:
//!
//! ```text
//! model.layers.N.gate.w1   [width, hidden]
//! model.layers.N.gate.b1   [width]
//! model.layers.N.gate.w2   [kv heads, width]
//! model.layers.N.gate.b2   [kv heads]
//! ```

use std::path::Path;

use candle_core::{Device, Tensor, Var};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use super::TrainError;
use super::net::{Vars, names};
use super::pointwise::values;
use crate::config::Config;
use crate::weights::Source;

/// Writes `config.json` into a folder.
///
/// # Errors
/// The file cannot be written.
pub fn write_config(config: &Config, folder: &Path) -> Result<(), TrainError> {
    // The shortest decimal that reads back as the same f32.
    let norm_eps: f64 = config.norm_eps.to_string().parse().unwrap_or(f64::from(config.norm_eps));
    let json = serde_json::json!({
        "model_type": "llama",
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
    });
    let path = folder.join("config.json");
    std::fs::write(&path, format!("{json:#}\n")).map_err(|error| TrainError::Write { path, detail: error.to_string() })
}

/// Writes weights in f32 under their names.
///
/// # Errors
/// The file cannot be written.
pub fn write_weights(vars: &Vars, path: &Path) -> Result<(), TrainError> {
    let mut all = Vec::new();
    for (name, var) in vars {
        let bytes: Vec<u8> = values(var)?.into_iter().flat_map(f32::to_le_bytes).collect();
        all.push((name, var.dims().to_vec(), bytes));
    }
    let failed = |detail: String| TrainError::Write { path: path.to_owned(), detail };
    let views = all.iter().map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let views = views.map_err(|error| failed(error.to_string()))?;
    // Not by `serialize_to_file`, whose files only their owner may read. A file that is there is whole.
    let bytes = serialize(views, None).map_err(|error| failed(error.to_string()))?;
    let begun = path.with_extension("part");
    std::fs::write(&begun, bytes).map_err(|error| failed(error.to_string()))?;
    std::fs::rename(&begun, path).map_err(|error| failed(error.to_string()))
}

/// Reads a model's weights back.
///
/// # Errors
/// A weight is missing or of another shape.
pub fn read_weights(config: &Config, source: &impl Source) -> Result<Vars, TrainError> {
    let read = |(name, shape): (String, Vec<usize>)| {
        let numbers = source.tensor(&name, &shape)?;
        Ok((name, Var::from_tensor(&Tensor::from_vec(numbers, shape, &Device::Cpu)?)?))
    };
    names(config).map(read).collect()
}
