//! A model's weights, fused and packed as the CPU reads them.

mod dummy;
mod files;
mod loud;
mod matrix;

use std::path::{Path, PathBuf};

use crate::config::Config;

pub use dummy::Dummy;
pub use files::Files;
pub use loud::Loud;
pub use matrix::Matrix;
pub(crate) use matrix::{bf16, pack_row, unpack_row};

/// How matrices and cached keys and values are stored; sums are in f32 either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// 16-bit brain floats: half the bytes of a decode step.
    Bf16,
}

impl Dtype {
    /// Bytes per number.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::Bf16 => 2,
        }
    }
}

/// Where tensors come from: weight files, or a generator.
pub trait Source {
    /// The tensor of a name, row by row.
    ///
    /// # Errors
    /// It is missing, has another shape or a type that is not a float, or cannot be read.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError>;

    /// Writes some numbers of a tensor in bf16, two bytes each, from the one of number `first` on, and makes no others. `false`: it
    /// cannot, and [`Source::tensor`] has them.
    fn narrow(&self, _name: &str, _first: usize, _bytes: &mut [u8]) -> bool {
        false
    }
}

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Norm before attention, `[hidden]`.
    pub input_norm: Vec<f32>,
    /// Queries, then keys, then values: `[heads + 2 kv_heads, head_dim]` rows of `hidden`.
    pub qkv: Matrix,
    /// Their biases; empty where there are none.
    pub qkv_bias: Vec<f32>,
    /// Norm of each query head, `[head_dim]`; empty where there is none.
    pub query_norm: Vec<f32>,
    /// Norm of each key head, `[head_dim]`; empty where there is none.
    pub key_norm: Vec<f32>,
    /// From attention to the residual stream: `hidden` rows of `heads * head_dim`.
    pub output: Matrix,
    /// Norm before the MLP, `[hidden]`.
    pub mlp_norm: Vec<f32>,
    /// Gate and up projections in turns, half a [`Matrix::GROUP`] each, so that what is multiplied is computed side by side.
    pub gate_up: Matrix,
    /// Back to the residual stream: `hidden` rows of `intermediate`.
    pub down: Matrix,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Rows of `hidden`, one per token; also the head of a tied model.
    pub embedding: Matrix,
    /// The head; none in a tied model.
    pub head: Option<Matrix>,
    /// Norm before the head, `[hidden]`.
    pub norm: Vec<f32>,
    /// From first to last.
    pub layers: Vec<Layer>,
    /// How the matrices are stored.
    pub dtype: Dtype,
}

/// Why weights cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A header or an index is broken, or a file is shorter than its header says.
    #[error("{path}: not a usable safetensors file: {detail}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// There are no weight files where they were looked for.
    #[error("{path}: neither model.safetensors nor model.safetensors.index.json is there")]
    NoFiles {
        /// The folder.
        path: PathBuf,
    },
    /// A tensor that the model needs is not in the files.
    #[error("{path}: no tensor `{name}`, which the configuration asks for")]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor of another shape than the configuration makes it.
    #[error("{path}: tensor `{name}` has shape {got:?}; the configuration makes it {wanted:?}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        got: Vec<usize>,
        /// The configuration's.
        wanted: Vec<usize>,
    },
    /// A tensor whose numbers are not f32, f16 or bf16.
    #[error("{path}: tensor `{name}` holds {got}; f32, f16 and bf16 are supported")]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        got: String,
    },
    /// A number that is none, or infinite: everything computed with it would be too.
    #[error(
        "{path}: tensor `{name}` holds {value} at number {at} of {of}; weights must be finite: the file is damaged, or training diverged"
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Which number, from 0, row by row.
        at: usize,
        /// Numbers of the tensor.
        of: usize,
        /// The number.
        value: f32,
    },
    /// The CPU computes 32 numbers at a time and takes no remainders.
    #[error("`{field}` is {value}; the CPU engine needs a multiple of {multiple}")]
    Width {
        /// Which size.
        field: &'static str,
        /// Its value.
        value: usize,
        /// What it must be a multiple of.
        multiple: usize,
    },
}

impl Weights {
    /// Random weights from a seed: the same numbers for the same tensor name, whatever else is in the model.
    pub fn dummy(config: &Config, seed: u64, dtype: Dtype) -> Result<Weights, WeightsError> {
        Weights::from_source(config, &Dummy { seed }, dtype)
    }

    /// Reads a `.safetensors` file, or those in a folder.
    pub fn load(config: &Config, path: &Path, dtype: Dtype) -> Result<Weights, WeightsError> {
        Weights::from_source(config, &Files::open(path)?, dtype)
    }

    /// Takes tensors under their Hugging Face names.
    pub fn from_source(config: &Config, source: &dyn Source, dtype: Dtype) -> Result<Weights, WeightsError> {
        check_widths(config)?;
        let (hidden, vocab) = (config.hidden, config.vocab);
        let matrix = |name: &str, rows: usize| {
            source.tensor(name, &[rows, hidden]).map(|values| Matrix::pack(&values, rows, hidden, dtype))
        };
        let layers = (0..config.layers).map(|layer| Layer::from_source(config, source, dtype, layer));
        Ok(Weights {
            embedding: matrix("model.embed_tokens.weight", vocab)?,
            head: if config.tied { None } else { Some(matrix("lm_head.weight", vocab)?) },
            norm: source.tensor("model.norm.weight", &[hidden])?,
            layers: layers.collect::<Result<_, _>>()?,
            dtype,
        })
    }

    /// The matrix that makes logits.
    pub fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Bytes of the matrices that every step reads.
    pub fn step_bytes(&self) -> u64 {
        let layer =
            |layer: &Layer| layer.qkv.bytes() + layer.output.bytes() + layer.gate_up.bytes() + layer.down.bytes();
        self.layers.iter().map(layer).sum::<u64>() + self.head().bytes()
    }
}

impl Layer {
    fn from_source(config: &Config, source: &dyn Source, dtype: Dtype, layer: usize) -> Result<Layer, WeightsError> {
        let (hidden, query, kv) = (config.hidden, config.query_width(), config.kv_width());
        let intermediate = config.intermediate;
        let tensor = |name: &str, shape: &[usize]| source.tensor(&format!("model.layers.{layer}.{name}"), shape);
        let mut qkv = tensor("self_attn.q_proj.weight", &[query, hidden])?;
        qkv.extend(tensor("self_attn.k_proj.weight", &[kv, hidden])?);
        qkv.extend(tensor("self_attn.v_proj.weight", &[kv, hidden])?);
        let mut qkv_bias = Vec::new();
        if config.qkv_bias() {
            for (name, width) in [("q", query), ("k", kv), ("v", kv)] {
                qkv_bias.extend(tensor(&format!("self_attn.{name}_proj.bias"), &[width])?);
            }
        }
        let head_norm = |name| if config.qk_norm() { tensor(name, &[config.head_dim]) } else { Ok(Vec::new()) };
        let gate = tensor("mlp.gate_proj.weight", &[intermediate, hidden])?;
        let up = tensor("mlp.up_proj.weight", &[intermediate, hidden])?;
        let group = Matrix::GROUP / 2 * hidden;
        let turns = gate.chunks(group).zip(up.chunks(group));
        let gate_up: Vec<f32> = turns.flat_map(|(gate, up)| gate.iter().chain(up)).copied().collect();
        let output = tensor("self_attn.o_proj.weight", &[hidden, query])?;
        let down = tensor("mlp.down_proj.weight", &[hidden, intermediate])?;
        Ok(Layer {
            input_norm: tensor("input_layernorm.weight", &[hidden])?,
            qkv: Matrix::pack(&qkv, query + 2 * kv, hidden, dtype),
            qkv_bias,
            query_norm: head_norm("self_attn.q_norm.weight")?,
            key_norm: head_norm("self_attn.k_norm.weight")?,
            output: Matrix::pack(&output, hidden, query, dtype),
            mlp_norm: tensor("post_attention_layernorm.weight", &[hidden])?,
            gate_up: Matrix::pack(&gate_up, 2 * intermediate, hidden, dtype),
            down: Matrix::pack(&down, hidden, intermediate, dtype),
        })
    }
}

fn check_widths(config: &Config) -> Result<(), WeightsError> {
    let multiple = Matrix::WIDTH;
    let widths =
        [("hidden_size", config.hidden), ("intermediate_size", config.intermediate), ("head_dim", config.head_dim)];
    match widths.into_iter().find(|(_, value)| !value.is_multiple_of(multiple)) {
        None => Ok(()),
        Some((field, value)) => Err(WeightsError::Width { field, value, multiple }),
    }
}
