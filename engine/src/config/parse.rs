//! `config.json`, old and new spellings, to a [`Config`].

use serde::Deserialize;

use super::{Config, ConfigError, Family, RopeScaling};

/// What is read of the file; everything may be absent.
#[derive(Deserialize)]
struct File {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    /// transformers 4.
    rope_scaling: Option<Rope>,
    /// transformers 5, with the base inside.
    rope_parameters: Option<Rope>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    quantization_config: Option<serde_json::Value>,
    eos_token_id: Option<Tokens>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Tokens {
    One(u32),
    Many(Vec<u32>),
}

#[derive(Deserialize)]
#[allow(clippy::struct_field_names, reason = "the file's names")]
struct Rope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// Makes errors that name the file.
struct Check<'a> {
    origin: &'a str,
}

impl Check<'_> {
    fn size(&self, field: &'static str, value: Option<usize>) -> Result<usize, ConfigError> {
        match value {
            None => Err(self.missing(field)),
            Some(0) => Err(self.wrong(field, "must be above 0")),
            Some(value) => Ok(value),
        }
    }

    fn positive(&self, field: &'static str, value: Option<f64>) -> Result<f64, ConfigError> {
        match value {
            None => Err(self.missing(field)),
            Some(value) if value > 0.0 && value.is_finite() => Ok(value),
            Some(value) => Err(self.wrong(field, format!("{value} is not above 0"))),
        }
    }

    fn missing(&self, field: &'static str) -> ConfigError {
        ConfigError::Missing { origin: self.origin.to_owned(), field }
    }

    fn wrong(&self, field: &'static str, detail: impl Into<String>) -> ConfigError {
        ConfigError::Field { origin: self.origin.to_owned(), field, detail: detail.into() }
    }
}

pub(super) fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
    let check = Check { origin };
    let file: File =
        serde_json::from_str(text).map_err(|source| ConfigError::Json { origin: origin.to_owned(), source })?;
    let family = family(&check, &file)?;
    supported(&check, &file, family)?;
    let heads = check.size("num_attention_heads", file.num_attention_heads)?;
    let hidden = check.size("hidden_size", file.hidden_size)?;
    let kv_heads = check.size("num_key_value_heads", file.num_key_value_heads.or(Some(heads)))?;
    if !heads.is_multiple_of(kv_heads) {
        let detail = format!("{kv_heads} does not divide num_attention_heads ({heads})");
        return Err(check.wrong("num_key_value_heads", detail));
    }
    if file.head_dim.is_none() && !hidden.is_multiple_of(heads) {
        return Err(check.wrong("hidden_size", format!("{hidden} is not a multiple of num_attention_heads ({heads})")));
    }
    let head_dim = check.size("head_dim", file.head_dim.or(Some(hidden / heads)))?;
    if head_dim % 2 == 1 {
        return Err(check.wrong("head_dim", format!("{head_dim} is odd; rotary embeddings turn pairs")));
    }
    let inside = file.rope_parameters.as_ref().and_then(|rope| rope.rope_theta);
    Ok(Config {
        family,
        hidden,
        intermediate: check.size("intermediate_size", file.intermediate_size)?,
        layers: check.size("num_hidden_layers", file.num_hidden_layers)?,
        heads,
        kv_heads,
        head_dim,
        vocab: check.size("vocab_size", file.vocab_size)?,
        max_positions: match check.size("max_position_embeddings", file.max_position_embeddings)? {
            longest if longest > LONGEST => {
                let detail = format!("{longest} is more than the engine can place; {LONGEST} at most");
                return Err(check.wrong("max_position_embeddings", detail));
            }
            longest => longest,
        },
        norm_eps: check.positive("rms_norm_eps", file.rms_norm_eps)? as f32,
        rope_theta: check.positive("rope_theta", inside.or(file.rope_theta).or(Some(10_000.0)))?,
        rope_scaling: rope_scaling(&check, file.rope_parameters.as_ref().or(file.rope_scaling.as_ref()))?,
        tied: file.tie_word_embeddings.unwrap_or(false),
        eos: match file.eos_token_id {
            None => Vec::new(),
            Some(Tokens::One(token)) => vec![token],
            Some(Tokens::Many(tokens)) if tokens.len() > ENDS => {
                return Err(check.wrong("eos_token_id", format!("{} tokens end a text; {ENDS} at most", tokens.len())));
            }
            Some(Tokens::Many(tokens)) => tokens,
        },
    })
}

/// Longest sequence of a model [tokens]: angles of all positions are kept.
const LONGEST: usize = 1 << 24;
/// Tokens that end a text, at most.
const ENDS: usize = 64;

fn family(check: &Check, file: &File) -> Result<Family, ConfigError> {
    match file.model_type.as_deref() {
        None => Err(check.missing("model_type")),
        Some("llama") => Ok(Family::Llama),
        Some("mistral") => Ok(Family::Mistral),
        Some("qwen2") => Ok(Family::Qwen2),
        Some("qwen3") => Ok(Family::Qwen3),
        Some(other) => {
            Err(check.wrong("model_type", format!("`{other}` is not supported; llama, mistral, qwen2 and qwen3 are")))
        }
    }
}

/// Refuses settings that would be computed wrongly in silence.
fn supported(check: &Check, file: &File, family: Family) -> Result<(), ConfigError> {
    if let Some(act) = file.hidden_act.as_deref().filter(|act| *act != "silu") {
        return Err(check.wrong("hidden_act", format!("`{act}` is not supported; `silu` is")));
    }
    // Qwen2 has its biases whatever the file says.
    if file.attention_bias == Some(true) && family != Family::Qwen2 {
        return Err(check.wrong("attention_bias", "biases are supported in qwen2 only"));
    }
    if file.mlp_bias == Some(true) {
        return Err(check.wrong("mlp_bias", "an MLP with biases is not supported"));
    }
    // Qwen's files state a window that is switched off.
    if file.sliding_window.is_some() && file.use_sliding_window != Some(false) {
        return Err(check.wrong("sliding_window", "windowed attention is not supported"));
    }
    if file.use_sliding_window == Some(true) {
        return Err(check.wrong("use_sliding_window", "windowed attention is not supported"));
    }
    if file.quantization_config.as_ref().is_some_and(|value| !value.is_null()) {
        return Err(check.wrong("quantization_config", "quantised weights are not supported; use f32, f16 or bf16"));
    }
    Ok(())
}

fn rope_scaling(check: &Check, rope: Option<&Rope>) -> Result<RopeScaling, ConfigError> {
    let Some(rope) = rope else { return Ok(RopeScaling::None) };
    match rope.rope_type.as_deref() {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: check.positive("rope_scaling.factor", rope.factor)? }),
        Some("llama3") => {
            let low = check.positive("rope_scaling.low_freq_factor", rope.low_freq_factor)?;
            let high = check.positive("rope_scaling.high_freq_factor", rope.high_freq_factor)?;
            if high <= low {
                return Err(check.wrong("rope_scaling.high_freq_factor", format!("{high} is not above {low}")));
            }
            let original = "rope_scaling.original_max_position_embeddings";
            Ok(RopeScaling::Llama3 {
                factor: check.positive("rope_scaling.factor", rope.factor)?,
                low,
                high,
                original: check.positive(original, rope.original_max_position_embeddings)?,
            })
        }
        Some(other) => Err(check.wrong("rope_scaling", format!("`{other}` is not supported; linear and llama3 are"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]

    use super::*;

    /// The tiny preset with one field replaced, or removed.
    fn changed(field: &str, value: Option<serde_json::Value>) -> Result<Config, String> {
        let mut file: serde_json::Value = serde_json::from_str(include_str!("../../presets/tiny.json")).unwrap();
        let fields = file.as_object_mut().unwrap();
        fields.remove(field);
        if let Some(value) = value {
            fields.insert(field.to_owned(), value);
        }
        parse(&file.to_string(), "m/config.json").map_err(|error| error.to_string())
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        for field in ["model_type", "hidden_size", "vocab_size", "rms_norm_eps", "max_position_embeddings"] {
            assert_eq!(changed(field, None).unwrap_err(), format!("m/config.json: no field `{field}`"));
        }
        for (field, value) in [
            ("model_type", serde_json::json!("gpt2")),
            ("num_key_value_heads", serde_json::json!(3)),
            ("hidden_act", serde_json::json!("gelu")),
            ("num_hidden_layers", serde_json::json!(0)),
            ("attention_bias", serde_json::json!(true)),
            ("sliding_window", serde_json::json!(4096)),
            ("quantization_config", serde_json::json!({"bits": 4})),
            ("rope_scaling", serde_json::json!({"rope_type": "yarn", "factor": 4.0})),
        ] {
            let error = changed(field, Some(value)).unwrap_err();
            assert!(error.starts_with(&format!("m/config.json: `{field}`: ")), "{error}");
        }
        let error = changed("rope_scaling", Some(serde_json::json!({"type": "linear"}))).unwrap_err();
        assert_eq!(error, "m/config.json: no field `rope_scaling.factor`");
        let error = changed("hidden_size", Some(serde_json::json!("256"))).unwrap_err();
        assert!(error.contains("m/config.json: invalid type"), "{error}");
    }

    #[test]
    fn absent_fields_get_the_defaults_of_the_family() {
        let config = changed("num_key_value_heads", None).unwrap();
        assert_eq!((config.kv_heads, config.heads), (8, 8));
        assert_eq!(changed("head_dim", None).unwrap().head_dim, 32);
        assert_eq!(changed("rope_theta", None).unwrap().rope_theta, 10_000.0);
        assert_eq!(changed("eos_token_id", Some(serde_json::json!([1, 2]))).unwrap().eos, [1, 2]);
    }

    #[test]
    fn old_and_new_spellings_of_rotary_scaling_are_one() {
        let llama3 = serde_json::json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_theta": 500_000.0
        });
        let old = changed("rope_scaling", Some(llama3.clone())).unwrap();
        assert_eq!(old, changed("rope_parameters", Some(llama3)).unwrap());
        assert_eq!(old.rope_scaling, RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 });
        let theta = changed("rope_parameters", Some(serde_json::json!({"rope_type": "default", "rope_theta": 7.0})));
        assert_eq!(theta.unwrap().rope_theta, 7.0);
        let linear = changed("rope_scaling", Some(serde_json::json!({"type": "linear", "factor": 2.0}))).unwrap();
        assert_eq!(linear.rope_scaling, RopeScaling::Linear { factor: 2.0 });
        assert_eq!(linear.rope_frequencies()[0], 0.5);
    }
}
