//! The shape of a model from its Hugging Face `config.json`.

use overbook_sim::hardware::gpu::{Origin, OriginKind};
use overbook_sim::hardware::model::{MlaSpec, ModelError, ModelSpec, MoeSpec, SlidingSpec};
use serde_json::Value;

/// Why a `config.json` gives no shape.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImportError {
    /// Not JSON, or not an object.
    #[error("the config is not a JSON object: {0}")]
    Json(String),
    /// Neither `architectures` nor `model_type` says what it is.
    #[error("the config says neither `architectures` nor `model_type`")]
    Anonymous,
    /// Not a family that Overbook has forms for.
    #[error("cannot import `{architecture}`; known are {known}")]
    Architecture {
        /// What the config says.
        architecture: String,
        /// Those that can be imported.
        known: String,
    },
    /// A key is missing.
    #[error("the config has no `{0}`")]
    Missing(&'static str),
    /// A key does not hold what it should.
    #[error("`{key}` is {value}; expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// The config asks for something that is not modelled.
    #[error("not modelled: {0}")]
    NotModelled(String),
    /// The sizes make no model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Families with forms, as `architectures` and `model_type` call them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Mixtral,
    Qwen3Moe,
    GptOss,
    DeepSeek,
}

const FAMILIES: &[(&str, &str, Family)] = &[
    ("LlamaForCausalLM", "llama", Family::Llama),
    ("MistralForCausalLM", "mistral", Family::Mistral),
    ("Qwen2ForCausalLM", "qwen2", Family::Qwen2),
    ("Qwen3ForCausalLM", "qwen3", Family::Qwen3),
    ("MixtralForCausalLM", "mixtral", Family::Mixtral),
    ("Qwen3MoeForCausalLM", "qwen3_moe", Family::Qwen3Moe),
    ("GptOssForCausalLM", "gpt_oss", Family::GptOss),
    ("DeepseekV2ForCausalLM", "deepseek_v2", Family::DeepSeek),
    ("DeepseekV3ForCausalLM", "deepseek_v3", Family::DeepSeek),
];

/// Reads a model's shape from its `config.json`. The number formats of weights and cache are the scenario's choice and
/// not read; the name is `_name_or_path`, else the architecture.
///
/// # Errors
/// The text is no config, the architecture is not known, or a key is missing, wrong or asks for what is not modelled.
pub fn model_from_config(json: &str) -> Result<ModelSpec, ImportError> {
    let root: Value = serde_json::from_str(json).map_err(|error| ImportError::Json(error.to_string()))?;
    if !root.is_object() {
        return Err(ImportError::Json(format!("it is {root:.40}")));
    }
    let config = Config(&root);
    let (architecture, family) = config.family()?;
    let name = root["_name_or_path"].as_str().filter(|name| !name.is_empty()).unwrap_or(architecture);
    let heads = config.size("num_attention_heads")?;
    let hidden = config.size("hidden_size")?;
    let mla = if family == Family::DeepSeek { Some(config.mla()?) } else { None };
    let (kv_heads, head_dim) = match mla {
        Some(mla) => (1, mla.stored()),
        None => (config.size_or("num_key_value_heads", heads)?, config.head_dim(hidden, heads)?),
    };
    let layers = config.size("num_hidden_layers")?;
    let spec = ModelSpec {
        name: name.to_owned(),
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate: config.size("intermediate_size")?,
        vocab: config.size("vocab_size")?,
        gated: true,
        qk_norm: matches!(family, Family::Qwen3 | Family::Qwen3Moe),
        tied_embeddings: config.flag("tie_word_embeddings")?,
        context: config.size("max_position_embeddings")?,
        moe: config.moe(family)?,
        mla,
        sliding: config.sliding(family, layers)?,
        recurrent: None,
        output_gate: false,
        origin: Origin { kind: OriginKind::Imported, source: format!("config.json of {name} ({architecture})") },
    };
    spec.validate()?;
    Ok(spec)
}

/// The top level of a config.
#[derive(Clone, Copy)]
struct Config<'v>(&'v Value);

impl<'v> Config<'v> {
    /// The value of a key; `null` counts as absent.
    fn get(self, key: &'static str) -> Option<&'v Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn family(self) -> Result<(&'v str, Family), ImportError> {
        let said = self.get("architectures").and_then(|list| list.get(0)).or(self.get("model_type"));
        let said = said.and_then(Value::as_str).ok_or(ImportError::Anonymous)?;
        let known = FAMILIES.iter().find(|(class, kind, _)| *class == said || *kind == said);
        let (_, _, family) = known.ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|(class, ..)| *class).collect();
            ImportError::Architecture { architecture: said.to_owned(), known: known.join(", ") }
        })?;
        Ok((said, *family))
    }

    fn optional(self, key: &'static str) -> Result<Option<u32>, ImportError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.as_u64().and_then(|size| u32::try_from(size).ok());
        let wrong = || ImportError::Value { key, value: value.to_string(), expected: "a whole number" };
        size.map(Some).ok_or_else(wrong)
    }

    fn size(self, key: &'static str) -> Result<u32, ImportError> {
        self.optional(key)?.ok_or(ImportError::Missing(key))
    }

    fn size_or(self, key: &'static str, default: u32) -> Result<u32, ImportError> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    fn flag(self, key: &'static str) -> Result<bool, ImportError> {
        let Some(value) = self.get(key) else { return Ok(false) };
        let wrong = || ImportError::Value { key, value: value.to_string(), expected: "true or false" };
        value.as_bool().ok_or_else(wrong)
    }

    fn head_dim(self, hidden: u32, heads: u32) -> Result<u32, ImportError> {
        match self.optional("head_dim")? {
            Some(head_dim) => Ok(head_dim),
            None if heads > 0 && hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => Err(ImportError::Missing("head_dim")),
        }
    }

    fn mla(self) -> Result<MlaSpec, ImportError> {
        Ok(MlaSpec {
            q_lora_rank: self.optional("q_lora_rank")?,
            kv_lora_rank: self.size("kv_lora_rank")?,
            rope_head_dim: self.size("qk_rope_head_dim")?,
            nope_head_dim: self.size("qk_nope_head_dim")?,
            v_head_dim: self.size("v_head_dim")?,
        })
    }

    fn moe(self, family: Family) -> Result<Option<MoeSpec>, ImportError> {
        let (experts, width) = match family {
            Family::Mixtral | Family::GptOss => ("num_local_experts", "intermediate_size"),
            Family::Qwen3Moe => ("num_experts", "moe_intermediate_size"),
            Family::DeepSeek if self.get("n_routed_experts").is_some() => ("n_routed_experts", "moe_intermediate_size"),
            _ => return Ok(None),
        };
        for step in ["decoder_sparse_step", "moe_layer_freq"] {
            if self.size_or(step, 1)? != 1 {
                return Err(ImportError::NotModelled(format!("experts in some layers only (`{step}`)")));
            }
        }
        if self.get("mlp_only_layers").and_then(Value::as_array).is_some_and(|layers| !layers.is_empty()) {
            return Err(ImportError::NotModelled("dense layers between the others (`mlp_only_layers`)".to_owned()));
        }
        Ok(Some(MoeSpec {
            experts: self.size(experts)?,
            experts_per_token: self.size("num_experts_per_tok")?,
            expert_intermediate: self.size(width)?,
            shared_experts: self.size_or("n_shared_experts", 0)?,
            dense_layers: self.size_or("first_k_dense_replace", 0)?,
            // No published configuration says how routers spread tokens.
            skew: 0.0,
        }))
    }

    /// Layers with a window, where it is in use. Qwen's `sliding_window` counts only with `use_sliding_window`.
    fn sliding(self, family: Family, layers: u32) -> Result<Option<SlidingSpec>, ImportError> {
        let Some(window) = self.optional("sliding_window")? else { return Ok(None) };
        let switch = self.get("use_sliding_window");
        if matches!(family, Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe) && switch.is_none() {
            return Ok(None);
        }
        if switch.is_some() && !self.flag("use_sliding_window")? {
            return Ok(None);
        }
        let listed = self.get("layer_types").and_then(Value::as_array).map(|types| {
            let near = types.iter().filter(|kind| kind.as_str() == Some("sliding_attention")).count();
            u32::try_from(near).unwrap_or(u32::MAX)
        });
        let layers = match (listed, family) {
            (Some(near), _) => near,
            // Every other layer, the first one included.
            (None, Family::GptOss) => layers.div_ceil(2),
            (None, Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe) => {
                layers.saturating_sub(self.size_or("max_window_layers", 0)?)
            }
            (None, _) => layers,
        };
        Ok((layers > 0).then_some(SlidingSpec { layers, window }))
    }
}
