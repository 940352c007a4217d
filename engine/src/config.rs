//! A model's shape and constants, as its `config.json` on Hugging Face states them.

mod parse;

use std::path::{Path, PathBuf};

use overbook_sim::hardware::model::ModelSpec;

/// Families that the engine runs. They share one forward pass and differ in biases and norms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Llama 1 to 3.
    Llama,
    /// Mistral without a sliding window.
    Mistral,
    /// Qwen2 and Qwen2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen3: queries and keys are normalised per head.
    Qwen3,
}

/// How rotary frequencies are stretched beyond the length the model was first trained on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, those between blended.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Turns within the original length below which a frequency is low.
        low: f64,
        /// Turns within the original length above which it is high.
        high: f64,
        /// Length of the first training [tokens].
        original: f64,
    },
}

/// A decoder-only transformer with grouped-query attention and a gated MLP.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Which names and extras its weights have.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Longest sequence it was made for [tokens].
    pub max_positions: usize,
    /// Added to the mean square in norms.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Their scaling.
    pub rope_scaling: RopeScaling,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Tokens that end a text; may be none.
    pub eos: Vec<u32>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not JSON, or a field of the wrong type.
    #[error("{origin}: {source}")]
    Json {
        /// The file.
        origin: String,
        /// What the parser says, with line and column.
        source: serde_json::Error,
    },
    /// A field that must be there is not.
    #[error("{origin}: no field `{field}`")]
    Missing {
        /// The file.
        origin: String,
        /// The field.
        field: &'static str,
    },
    /// A field's value is wrong, or stands for what the engine does not do.
    #[error("{origin}: `{field}`: {detail}")]
    Field {
        /// The file.
        origin: String,
        /// The field.
        field: &'static str,
        /// Why, and what would do.
        detail: String,
    },
    /// No such preset.
    #[error("no preset `{name}`; there are: {}", PRESETS.map(|(name, _)| name).join(", "))]
    Preset {
        /// What was asked for.
        name: String,
    },
}

/// Models that come with the engine, without weights: `tiny` (3 million of them, for tests), `small` (217 million, far larger than a
/// CPU's cache), and the shapes of public models, as their own `config.json` states them.
const PRESETS: [(&str, &str); 5] = [
    ("tiny", include_str!("../presets/tiny.json")),
    ("small", include_str!("../presets/small.json")),
    ("llama-3.1-8b", include_str!("../presets/llama-3.1-8b.json")),
    ("llama-3.2-1b", include_str!("../presets/llama-3.2-1b.json")),
    ("qwen3-0.6b", include_str!("../presets/qwen3-0.6b.json")),
];

impl Config {
    /// A model that comes with the engine, without weights, under its name in scenarios.
    pub fn preset(name: &str) -> Result<Config, ConfigError> {
        let found = PRESETS.iter().find(|(preset, _)| *preset == name);
        let (_, text) = found.ok_or_else(|| ConfigError::Preset { name: name.to_owned() })?;
        Config::parse(text, &format!("preset {name}"))
    }

    /// Names of all models that come with the engine.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// The first size in which this model is another than a simulated one: what, here, there.
    pub fn difference(&self, model: &ModelSpec) -> Option<(&'static str, usize, u32)> {
        let pairs = [
            ("hidden size", self.hidden, model.hidden),
            ("layers", self.layers, model.layers),
            ("heads", self.heads, model.heads),
            ("KV heads", self.kv_heads, model.kv_heads),
            ("head size", self.head_dim, model.head_dim),
            ("intermediate size", self.intermediate, model.intermediate),
            ("vocabulary", self.vocab, model.vocab),
        ];
        pairs.into_iter().find(|(_, ours, theirs)| *ours != *theirs as usize)
    }

    /// Reads a `config.json`, or the one in a folder.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let path = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        Config::parse(&text, &path.display().to_string())
    }

    /// Reads the text of a `config.json`; `origin` names it in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
        parse::parse(text, origin)
    }

    /// Width of all queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all keys, and of all values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Whether queries, keys and values have biases.
    pub fn qkv_bias(&self) -> bool {
        self.family == Family::Qwen2
    }

    /// Whether queries and keys are normalised per head.
    pub fn qk_norm(&self) -> bool {
        self.family == Family::Qwen3
    }

    /// Weights of the matrices that every step reads: those of the layers, and the head.
    pub fn step_weights(&self) -> u64 {
        let attention = self.hidden * (2 * self.query_width() + 2 * self.kv_width());
        let layer = attention + 3 * self.hidden * self.intermediate;
        (self.layers * layer + self.vocab * self.hidden) as u64
    }

    /// Rotary frequency of each pair of a head's halves [radians per position], length `head_dim / 2`.
    pub fn rope_frequencies(&self) -> Vec<f64> {
        let pairs = self.head_dim / 2;
        let plain = (0..pairs).map(|pair| self.rope_theta.powf(-(pair as f64) / pairs as f64));
        plain.map(|frequency| self.rope_scaling.apply(frequency)).collect()
    }
}

impl RopeScaling {
    fn apply(self, frequency: f64) -> f64 {
        match self {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 { factor, low, high, original } => {
                let turns = original * frequency / std::f64::consts::TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / factor)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]

    use super::*;

    #[test]
    fn presets_have_the_sizes_that_they_promise() {
        assert_eq!(Config::preset("tiny").unwrap().step_weights(), 3_145_728);
        assert_eq!(Config::preset("small").unwrap().step_weights(), 217_579_520);
        assert_eq!(Config::preset("llama-3.1-8b").unwrap().step_weights(), 7_504_658_432);
        assert_eq!(Config::preset("llama-3.2-1b").unwrap().step_weights(), 1_235_746_816);
        assert_eq!(Config::preset("qwen3-0.6b").unwrap().step_weights(), 595_984_384);
        let error = Config::preset("medium").unwrap_err().to_string();
        assert_eq!(error, "no preset `medium`; there are: tiny, small, llama-3.1-8b, llama-3.2-1b, qwen3-0.6b");
    }

    #[test]
    fn another_model_is_told_by_the_first_size_that_differs() {
        let config = Config::preset("tiny").unwrap();
        let text = format!(
            r#"{{ "name": "tiny", "hidden": {}, "layers": {}, "heads": {}, "kv_heads": {}, "head_dim": {}, "intermediate": {},
                "vocab": {}, "gated": true, "tied_embeddings": true, "context": 2048, "origin": {{ "kind": "datasheet", "source": "x" }} }}"#,
            config.hidden,
            config.layers,
            config.heads,
            config.kv_heads,
            config.head_dim,
            config.intermediate,
            config.vocab
        );
        let mut model: ModelSpec = serde_json::from_str(&text).unwrap();
        assert_eq!(config.difference(&model), None);
        model.vocab += 1;
        (model.layers, model.heads) = (99, 1);
        assert_eq!(config.difference(&model), Some(("layers", config.layers, 99)));
    }

    #[test]
    fn llama3_scaling_keeps_high_and_divides_low_frequencies() {
        let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        let frequency = |turns: f64| turns * std::f64::consts::TAU / 8192.0;
        assert_eq!(scaling.apply(1.0), 1.0);
        assert!((scaling.apply(frequency(0.5)) - frequency(0.5) / 8.0).abs() < 1e-15);
        // Halfway between: half kept, half divided.
        assert!((scaling.apply(frequency(2.5)) / frequency(2.5) - (0.5 + 0.5 / 8.0)).abs() < 1e-12);
    }
}
