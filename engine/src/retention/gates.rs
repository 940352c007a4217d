//! Learned networks that say of each token how long it is worth keeping, as weights.
//!
//! One network a layer, a hidden layer each: `w2 · silu(w1 · x + b1) + b2`, where `x` is the normalised hidden state that queries, keys and
//! values are made of. TRIM-KV's ends in a log-sigmoid (arXiv 2512.03324); KVzap's does not (2601.07891).

use std::path::{Path, PathBuf};

use overbook_sim::kv::retention::RetentionPolicy;

use crate::config::Config;
use crate::weights::{Dtype, Dummy, Files, Matrix, Source, WeightsError};

/// Which networks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GateKind {
    /// TRIM-KV's: tensors `model.layers.N.gate.*`; gives `log β`.
    Retention,
    /// KVzap's: tensors `model.layers.N.zap.*`; gives a score.
    Score,
}

impl GateKind {
    /// Those that a policy needs.
    pub fn of(policy: &RetentionPolicy) -> Option<GateKind> {
        match policy {
            RetentionPolicy::TrimKv(_) => Some(GateKind::Retention),
            RetentionPolicy::KvZap(_) => Some(GateKind::Score),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            GateKind::Retention => "gate",
            GateKind::Score => "zap",
        }
    }

    /// Name of a part of a layer's network in files.
    pub(crate) fn tensor(self, layer: usize, part: &str) -> String {
        format!("model.layers.{layer}.{}.{part}", self.name())
    }
}

/// The network of a layer. The hidden layer is filled up with zeros to what the CPU multiplies at once.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// `width` rows of `hidden`.
    pub(crate) w1: Matrix,
    /// `[width]`.
    pub(crate) b1: Vec<f32>,
    /// `kv_heads` rows of `width`.
    pub(crate) w2: Matrix,
    /// `[kv_heads]`.
    pub(crate) b2: Vec<f32>,
}

/// The networks of all layers.
#[derive(Clone, Debug)]
pub struct Gates {
    kind: GateKind,
    hidden: usize,
    layers: Vec<Gate>,
}

/// Width of the hidden layer as published.
const WIDTH: usize = 512;
/// Where gates lie beside weights.
const FILE: &str = "gates.safetensors";

impl Gates {
    /// Reads a file, or `gates.safetensors` in a folder: tensors `w1 [width, hidden]`, `b1 [width]`, `w2 [kv_heads, width]` and
    /// `b2 [kv_heads]` of each layer. The width is that of the file.
    ///
    /// # Errors
    /// The file cannot be read, or a tensor is missing, has another shape, or holds what is no finite number.
    pub fn load(config: &Config, path: &Path, kind: GateKind) -> Result<Gates, WeightsError> {
        let path = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let files = Files::open(&path)?;
        Gates::from_source(config, &files, kind, |name| {
            let shape = files.shape(name);
            let missing = || WeightsError::Missing { path: path.clone(), name: name.to_owned() };
            shape.ok_or_else(missing)?.first().copied().filter(|width| *width > 0).ok_or_else(|| WeightsError::Shape {
                path: path.clone(),
                name: name.to_owned(),
                got: shape.unwrap_or_default().to_vec(),
                wanted: vec![WIDTH, config.hidden],
            })
        })
    }

    /// Where the gates of a model lie whose weights are a file or a folder.
    pub fn beside(weights: &Path) -> PathBuf {
        if weights.is_dir() { weights.join(FILE) } else { weights.with_file_name(FILE) }
    }

    /// Random ones of the published width, to go with random weights.
    pub fn dummy(config: &Config, seed: u64, kind: GateKind) -> Result<Gates, WeightsError> {
        Gates::from_source(config, &Dummy { seed }, kind, |_| Ok(WIDTH))
    }

    /// Takes tensors under their names; `width` says how wide the hidden layer of a `w1` is.
    pub fn from_source(
        config: &Config,
        source: &dyn Source,
        kind: GateKind,
        width: impl Fn(&str) -> Result<usize, WeightsError>,
    ) -> Result<Gates, WeightsError> {
        let (hidden, heads) = (config.hidden, config.kv_heads);
        let layer = |layer: usize| {
            let tensor = |part: &str, shape: &[usize]| source.tensor(&kind.tensor(layer, part), shape);
            let width = width(&kind.tensor(layer, "w1"))?;
            let full = width.next_multiple_of(Matrix::WIDTH);
            let (mut w1, mut b1) = (tensor("w1", &[width, hidden])?, tensor("b1", &[width])?);
            w1.resize(full * hidden, 0.0);
            b1.resize(full, 0.0);
            let mut w2 = vec![0.0; heads * full];
            let rows = tensor("w2", &[heads, width])?;
            w2.chunks_exact_mut(full)
                .zip(rows.chunks_exact(width))
                .for_each(|(to, row)| to[..width].copy_from_slice(row));
            Ok(Gate {
                w1: Matrix::pack(&w1, full, hidden, Dtype::F32),
                b1,
                w2: Matrix::pack(&w2, heads, full, Dtype::F32),
                b2: tensor("b2", &[heads])?,
            })
        };
        Ok(Gates { kind, hidden, layers: (0..config.layers).map(layer).collect::<Result<_, WeightsError>>()? })
    }

    /// What they are.
    pub fn kind(&self) -> GateKind {
        self.kind
    }

    /// The network of a layer.
    pub(crate) fn layer(&self, layer: usize) -> &Gate {
        &self.layers[layer]
    }

    /// Whether they are those of a model and a kind.
    pub(super) fn check(&self, config: &Config, kind: GateKind) -> Result<(), String> {
        let heads = self.layers.first().map_or(0, |gate| gate.b2.len());
        let ours = (self.layers.len(), self.hidden, heads);
        let wanted = (config.layers, config.hidden, config.kv_heads);
        if self.kind != kind {
            return Err(format!("gates `{}`, where the policy needs `{}`", self.kind.name(), kind.name()));
        }
        if ours != wanted {
            return Err(format!(
                "gates of {} layers, hidden size {} and {} KV heads for a model of {}, {} and {}",
                ours.0, ours.1, ours.2, wanted.0, wanted.1, wanted.2
            ));
        }
        Ok(())
    }
}
