//! The engine's Llama model in candle tensors, for batches of sequences with one layout.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};
use fearless_simd::Level;
use overbook_sim::streams::{Purpose, stream};
use rand::{Rng, RngExt as _};

use super::attention::{Attention, rotation};
use super::pointwise::{LogSigmoid, RmsNorm, SwiGlu};
use crate::config::{Config, Family, RopeScaling};
use crate::recall::tasks::VOCAB;
use crate::retention::GateKind;

/// Weights by their names in files.
pub type Vars = BTreeMap<String, Var>;

/// The model that is trained: two layers, 64 wide, two heads of 32.
pub fn config() -> Config {
    Config {
        family: Family::Llama,
        hidden: 64,
        intermediate: 128,
        layers: 2,
        heads: 2,
        kv_heads: 2,
        head_dim: 32,
        vocab: VOCAB,
        max_positions: 256,
        norm_eps: 1e-5,
        rope_theta: 100.0,
        rope_scaling: RopeScaling::None,
        tied: false,
        eos: Vec::new(),
    }
}

/// Names and shapes of a model's weights, with the standard deviation of their first values; none for weights that begin at 1.
/// Embeddings begin as large as what the norms make of them: smaller ones never led to recall in trials of 1,500 steps.
fn shapes(config: &Config) -> Vec<(String, Vec<usize>, Option<f64>)> {
    let (hidden, inner) = (config.hidden, config.intermediate);
    let wide = (hidden as f64).sqrt().recip();
    // What is added to the stream begins small, so that its sum over the layers has the size of one.
    let added = |width: usize| ((2 * config.layers * width) as f64).sqrt().recip();
    let mut all = vec![
        ("model.embed_tokens.weight".to_owned(), vec![config.vocab, hidden], Some(1.0)),
        ("model.norm.weight".to_owned(), vec![hidden], None),
    ];
    if !config.tied {
        all.push(("lm_head.weight".to_owned(), vec![config.vocab, hidden], Some(0.02)));
    }
    for layer in 0..config.layers {
        let mut put = |part: &str, shape: Vec<usize>, deviation| {
            all.push((format!("model.layers.{layer}.{part}.weight"), shape, deviation));
        };
        put("input_layernorm", vec![hidden], None);
        put("self_attn.q_proj", vec![config.query_width(), hidden], Some(wide));
        put("self_attn.k_proj", vec![config.kv_width(), hidden], Some(wide));
        put("self_attn.v_proj", vec![config.kv_width(), hidden], Some(wide));
        put("self_attn.o_proj", vec![hidden, config.query_width()], Some(added(config.query_width())));
        put("post_attention_layernorm", vec![hidden], None);
        put("mlp.gate_proj", vec![inner, hidden], Some(wide));
        put("mlp.up_proj", vec![inner, hidden], Some(wide));
        put("mlp.down_proj", vec![hidden, inner], Some(added(inner)));
    }
    all
}

/// Names and shapes of a model's weights.
pub(super) fn names(config: &Config) -> impl Iterator<Item = (String, Vec<usize>)> {
    shapes(config).into_iter().map(|(name, shape, _)| (name, shape))
}

/// First weights of a model under a seed.
///
/// # Errors
/// Candle refuses: a bug here.
pub fn first_weights(config: &Config, seed: u64) -> Result<Vars> {
    let mut rng = stream(seed, Purpose::Weights);
    let var = |(name, shape, deviation): (String, Vec<usize>, Option<f64>)| {
        let count = shape.iter().product();
        let numbers = match deviation {
            None => vec![1.0; count],
            Some(deviation) => (0..count).map(|_| (normal(&mut rng) * deviation) as f32).collect(),
        };
        Ok((name, Var::from_tensor(&Tensor::from_vec(numbers, shape, &Device::Cpu)?)?))
    };
    shapes(config).into_iter().map(var).collect()
}

/// First weights of gates `width` wide: `W ~ N(0, 0.02²)` (the released code's), `b₁ = 0`, `b₂` as given.
///
/// # Errors
/// Candle refuses: a bug here.
pub fn first_gates(config: &Config, width: usize, bias: f64, seed: u64) -> Result<Vars> {
    let mut rng = stream(!seed, Purpose::Weights);
    let mut all = Vars::new();
    for layer in 0..config.layers {
        let mut put = |part: &str, shape: Vec<usize>, middle: f64, deviation: f64| {
            let count = shape.iter().product();
            let numbers: Vec<f32> = (0..count).map(|_| (middle + normal(&mut rng) * deviation) as f32).collect();
            let var = Var::from_tensor(&Tensor::from_vec(numbers, shape, &Device::Cpu)?)?;
            all.insert(GateKind::Retention.tensor(layer, part), var);
            Ok::<(), candle_core::Error>(())
        };
        put("w1", vec![width, config.hidden], 0.0, 0.02)?;
        put("b1", vec![width], 0.0, 0.0)?;
        put("w2", vec![config.kv_heads, width], 0.0, 0.02)?;
        put("b2", vec![config.kv_heads], bias, 0.0)?;
    }
    Ok(all)
}

/// A draw of the normal distribution (Box and Muller).
fn normal(rng: &mut impl Rng) -> f64 {
    let (a, b): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// A model for batches.
pub struct Net {
    config: Config,
    level: Level,
    rotation: Arc<(Vec<f32>, Vec<f32>)>,
    embedding: Tensor,
    head: Tensor,
    norm: Tensor,
    layers: Vec<NetLayer>,
}

struct NetLayer {
    input_norm: Tensor,
    query: Tensor,
    kv: Tensor,
    output: Tensor,
    mlp_norm: Tensor,
    gate_up: Tensor,
    down: Tensor,
}

/// What a batch computes.
pub struct Computed {
    /// Logits where answers are asked for, `[batch · asked, vocab]`.
    pub logits: Tensor,
    /// `log β` of each layer, `[batch, time, kv heads]`; empty without gates.
    pub log_beta: Vec<Tensor>,
    /// Of each layer the normalised state that queries, keys and values are made of, `[batch · time, hidden]`.
    pub normed: Vec<Tensor>,
}

/// A batch of sequences of one layout.
pub struct Batch {
    /// `[batch · time]`.
    pub tokens: Tensor,
    /// Sequences.
    pub count: usize,
    /// Tokens of each.
    pub time: usize,
    /// Positions whose next tokens are asked for.
    pub asked: Arc<Vec<usize>>,
}

impl Net {
    /// A model of some weights; `frozen` ones get no gradients.
    ///
    /// # Errors
    /// Candle refuses: a bug here.
    ///
    /// # Panics
    /// If a weight of the model is missing.
    pub fn new(config: &Config, vars: &Vars, frozen: bool) -> Result<Net> {
        let tensor = |name: &str| {
            let var = vars.get(name).unwrap_or_else(|| panic!("no weights {name}"));
            if frozen { var.as_detached_tensor() } else { var.as_tensor().clone() }
        };
        let layer = |index: usize| {
            let part = |name: &str| tensor(&format!("model.layers.{index}.{name}.weight"));
            Ok(NetLayer {
                input_norm: part("input_layernorm"),
                query: part("self_attn.q_proj").t()?,
                kv: Tensor::cat(&[part("self_attn.k_proj"), part("self_attn.v_proj")], 0)?.t()?,
                output: part("self_attn.o_proj").t()?,
                mlp_norm: part("post_attention_layernorm"),
                gate_up: Tensor::cat(&[part("mlp.gate_proj"), part("mlp.up_proj")], 0)?.t()?,
                down: part("mlp.down_proj").t()?,
            })
        };
        Ok(Net {
            level: Level::new(),
            rotation: Arc::new(rotation(&config.rope_frequencies(), config.max_positions)),
            embedding: tensor("model.embed_tokens.weight"),
            head: tensor(if config.tied { "model.embed_tokens.weight" } else { "lm_head.weight" }).t()?,
            norm: tensor("model.norm.weight"),
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Logits where answers are asked for. With gates, attention fades by their retention. The last layer has queries, and all that
    /// follows from them, only there.
    ///
    /// # Errors
    /// Candle refuses: a bug here.
    pub fn forward(&self, batch: &Batch, gates: Option<&Vars>) -> Result<Computed> {
        let everywhere = Arc::new((0..batch.time).collect::<Vec<usize>>());
        let mut x = self.embedding.index_select(&batch.tokens, 0)?;
        let (mut log_beta, mut states) = (Vec::new(), Vec::new());
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = self.rms_norm(&x, &layer.input_norm)?;
            let last = index + 1 == self.layers.len();
            let rows = if last { &batch.asked } else { &everywhere };
            let mut asking = normed.clone();
            if last {
                let places = places(batch)?;
                x = x.index_select(&places, 0)?;
                asking = normed.index_select(&places, 0)?;
            }
            let shape = (batch.count, batch.time, self.config.kv_heads);
            let beta = match gates {
                Some(gates) => gate(gates, index, &normed)?.reshape(shape)?,
                None => Tensor::zeros((1, 1, 1), candle_core::DType::F32, &Device::Cpu)?,
            };
            let attended = self.attend(layer, batch, rows, &asking, &normed, &beta, gates.is_some())?;
            if gates.is_some() {
                log_beta.push(beta);
            }
            states.push(normed);
            x = (x + attended.matmul(&layer.output)?)?;
            let inner = self.rms_norm(&x, &layer.mlp_norm)?.matmul(&layer.gate_up)?.apply_op1(SwiGlu)?;
            x = (x + inner.matmul(&layer.down)?)?;
        }
        let logits = self.rms_norm(&x, &self.norm)?.matmul(&self.head)?;
        Ok(Computed { logits, log_beta, normed: states })
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one formula")]
    fn attend(
        &self,
        layer: &NetLayer,
        batch: &Batch,
        rows: &Arc<Vec<usize>>,
        asking: &Tensor,
        normed: &Tensor,
        log_beta: &Tensor,
        gated: bool,
    ) -> Result<Tensor> {
        let Config { heads, kv_heads, head_dim: dim, .. } = self.config;
        let query = asking.matmul(&layer.query)?.reshape((batch.count, rows.len(), heads * dim))?;
        let kv = normed.matmul(&layer.kv)?.reshape((batch.count, batch.time, 2 * kv_heads * dim))?;
        let (rows, rotation) = (rows.clone(), self.rotation.clone());
        let attention = Attention { heads, kv_heads, dim, rows: rows.clone(), gated, rotation, level: self.level };
        let attended = query.apply_op3(&kv, log_beta, attention)?;
        attended.reshape((batch.count * rows.len(), heads * dim))
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        x.apply_op2(weight, RmsNorm { epsilon: self.config.norm_eps })
    }
}

/// Rows of the batch where answers are asked for.
fn places(batch: &Batch) -> Result<Tensor> {
    let rows = |at: usize| batch.asked.iter().map(move |position| (at * batch.time + position) as u32);
    let rows: Vec<u32> = (0..batch.count).flat_map(rows).collect();
    Tensor::new(rows, &Device::Cpu)
}

/// `log β` of every token, `[batch · time, kv heads]`.
fn gate(gates: &Vars, layer: usize, normed: &Tensor) -> Result<Tensor> {
    let var = |part: &str| gates[&GateKind::Retention.tensor(layer, part)].as_tensor().clone();
    let inner = normed.matmul(&var("w1").t()?)?.broadcast_add(&var("b1"))?.silu()?;
    inner.matmul(&var("w2").t()?)?.broadcast_add(&var("b2"))?.apply_op1(LogSigmoid)
}
