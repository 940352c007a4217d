//! The catalog: GPUs and models that scenarios name.

use std::fmt;

use overbook_sim::gpu::{GpuSpec, OriginKind};
use overbook_sim::model::{KvDtype, ModelSpec};
use serde::de::DeserializeOwned;

use crate::nearest::suggestion;
use crate::yaml::{self, SourceId};

macro_rules! embedded {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../catalog/", $folder, "/", $name, ".yaml")))),*]
    };
}

const GPUS: &[(&str, &str)] = embedded!("gpus":
    "a100-40",
    "a100-80",
    "a10g",
    "b200",
    "h100",
    "h200",
    "l4",
    "l40s",
    "mi300x",
    "rtx-4090",
    "rtx-pro-6000",
);

const MODELS: &[(&str, &str)] = embedded!("models":
    "deepseek-v2-lite",
    "deepseek-v3",
    "gpt-oss-120b",
    "gpt-oss-20b",
    "llama-2-13b",
    "llama-2-70b",
    "llama-2-7b",
    "llama-3-8b",
    "llama-3.1-405b",
    "llama-3.1-70b",
    "llama-3.1-8b",
    "llama-3.2-1b",
    "llama-3.2-3b",
    "llama-3.3-70b",
    "mistral-7b",
    "mixtral-8x7b",
    "qwen2.5-7b",
    "qwen3-0.6b",
    "qwen3-1.7b",
    "qwen3-14b",
    "qwen3-235b-a22b",
    "qwen3-30b-a3b",
    "qwen3-32b",
    "qwen3-4b",
    "qwen3-8b",
);

/// Why the catalog has no such entry.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CatalogError {
    /// No entry of this name.
    #[error("no {kind} is called `{name}`; {suggestion}")]
    Unknown {
        /// `GPU` or `model`.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// `did you mean …?`, or all names.
        suggestion: String,
    },
    /// The entry's file is not a valid entry.
    #[error("the catalog's {kind} `{name}` is broken: {message}")]
    Broken {
        /// `GPU` or `model`.
        kind: &'static str,
        /// The entry.
        name: String,
        /// What is wrong with it.
        message: String,
    },
}

/// What an entry of the catalog is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EntryKind {
    /// A GPU.
    Gpu,
    /// A model.
    Model,
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EntryKind::Gpu => "GPU",
            EntryKind::Model => "model",
        })
    }
}

/// One entry, for lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// What scenarios call it.
    pub name: &'static str,
    /// What matters about it, in one line.
    pub facts: String,
}

/// GPUs and models by name.
#[derive(Clone, Copy, Debug)]
pub struct Catalog {
    gpus: &'static [(&'static str, &'static str)],
    models: &'static [(&'static str, &'static str)],
}

impl Catalog {
    /// The catalog that comes with Overbook.
    pub fn embedded() -> Catalog {
        Catalog { gpus: GPUS, models: MODELS }
    }

    /// The GPU of this name.
    ///
    /// # Errors
    /// There is none; the message suggests one or lists all.
    pub fn gpu(&self, name: &str) -> Result<GpuSpec, CatalogError> {
        look_up("GPU", self.gpus, name)
    }

    /// The model of this name.
    ///
    /// # Errors
    /// There is none; the message suggests one or lists all.
    pub fn model(&self, name: &str) -> Result<ModelSpec, CatalogError> {
        look_up("model", self.models, name)
    }

    /// All entries with their facts: GPUs, then models, each sorted by name.
    pub fn list(&self) -> Vec<Entry> {
        let gpus = self.gpus.iter().map(|(name, _)| Entry {
            kind: EntryKind::Gpu,
            name,
            facts: self.gpu(name).map_or_else(|error| error.to_string(), |spec| gpu_facts(&spec)),
        });
        let models = self.models.iter().map(|(name, _)| Entry {
            kind: EntryKind::Model,
            name,
            facts: self.model(name).map_or_else(|error| error.to_string(), |spec| model_facts(&spec)),
        });
        gpus.chain(models).collect()
    }

    /// The entry of this name as YAML, every group of numbers with its origin; its facts stand above as a comment.
    ///
    /// # Errors
    /// There is none; the message suggests one or lists all.
    pub fn show(&self, name: &str) -> Result<String, CatalogError> {
        let all = || self.gpus.iter().chain(self.models);
        let Some((_, text)) = all().find(|(known, _)| *known == name) else {
            let suggestion = suggestion(name, all().map(|(known, _)| *known));
            return Err(CatalogError::Unknown { kind: "GPU or model", name: name.to_owned(), suggestion });
        };
        let entry = self.list().into_iter().find(|entry| entry.name == name);
        let facts = entry.map_or_else(String::new, |entry| format!("# {} {name}: {}\n", entry.kind, entry.facts));
        Ok(facts + text)
    }

    /// Names of all GPUs, sorted.
    pub fn gpu_names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.gpus.iter().map(|(name, _)| *name)
    }

    /// Names of all models, sorted.
    pub fn model_names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.models.iter().map(|(name, _)| *name)
    }
}

fn gpu_facts(spec: &GpuSpec) -> String {
    let fp8 = spec.peak_fp8.map_or_else(String::new, |peak| format!(", fp8 {peak}"));
    let kernels = match spec.matmul.origin.kind {
        OriginKind::Measured => "measured",
        OriginKind::Inferred => "inferred",
        OriginKind::Imported => "imported",
        OriginKind::Datasheet => "datasheet",
    };
    let gib = spec.memory.0 as f64 / f64::from(1 << 30);
    format!(
        "{}, {gib:.1} GiB at {}, bf16 {}{fp8}, {}; kernel times {kernels}",
        spec.name, spec.bandwidth, spec.peak_bf16, spec.tdp
    )
}

fn model_facts(spec: &ModelSpec) -> String {
    let billions = |weights: u64| weights as f64 / 1e9;
    let active = spec.moe.map_or_else(String::new, |moe| {
        let active = billions(spec.active_parameters());
        format!(" ({active:.2} B active, {} of {} experts)", moe.experts_per_token, moe.experts)
    });
    let kv = u64::from(spec.layers) * spec.stored_per_token(spec.kv_heads) * KvDtype::Bf16.bytes();
    format!(
        "{:.2} B weights{active}, {:.1} KiB of KV per token in bf16, context {}",
        billions(spec.parameters()),
        kv as f64 / 1024.0,
        spec.context
    )
}

fn look_up<T: DeserializeOwned>(
    kind: &'static str,
    entries: &'static [(&'static str, &'static str)],
    name: &str,
) -> Result<T, CatalogError> {
    let Some((_, text)) = entries.iter().find(|(known, _)| *known == name) else {
        let suggestion = suggestion(name, entries.iter().map(|(known, _)| *known));
        return Err(CatalogError::Unknown { kind, name: name.to_owned(), suggestion });
    };
    let (tree, mut faults) = yaml::parse(SourceId::default(), text);
    let decoded = tree.map(|tree| yaml::decode::<T>(&tree));
    let value = decoded.and_then(|decoded| {
        faults.extend(decoded.faults);
        decoded.value
    });
    match (value, faults.first()) {
        (Some(value), None) => Ok(value),
        (_, fault) => {
            let message = fault.map_or_else(String::new, |fault| format!("{}: {}", fault.path, fault.detail));
            Err(CatalogError::Broken { kind, name: name.to_owned(), message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_valid() {
        let catalog = Catalog::embedded();
        for name in catalog.gpu_names() {
            catalog.gpu(name).expect(name);
        }
        for name in catalog.model_names() {
            catalog.model(name).expect(name).validate().expect(name);
        }
        assert!(catalog.gpu_names().is_sorted() && catalog.model_names().is_sorted());
    }

    #[test]
    fn every_file_is_embedded() {
        let catalog = Catalog::embedded();
        let files = |folder: &str| {
            let folder = format!("{}/catalog/{folder}", env!("CARGO_MANIFEST_DIR"));
            let mut names: Vec<String> = std::fs::read_dir(folder)
                .expect("folder")
                .map(|entry| entry.expect("entry").path())
                .map(|path| path.file_stem().expect("stem").to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        assert!(catalog.gpu_names().eq(files("gpus")));
        assert!(catalog.model_names().eq(files("models")));
    }

    #[test]
    fn entries_are_listed_and_shown_with_their_origins() {
        let catalog = Catalog::embedded();
        let list = catalog.list();
        assert_eq!(list.len(), GPUS.len() + MODELS.len());
        let facts = |name| &list.iter().find(|entry| entry.name == name).expect(name).facts;
        assert_eq!(
            facts("h200"),
            "NVIDIA H200 (SXM), 139.8 GiB at 4.8TB/s, bf16 989TFLOP/s, fp8 1978TFLOP/s, 700W; kernel times imported"
        );
        assert!(facts("mi300x").ends_with("inferred"));
        assert_eq!(facts("llama-3.1-8b"), "8.03 B weights, 128.0 KiB of KV per token in bf16, context 131072");
        let sparse =
            "30.53 B weights (3.35 B active, 8 of 128 experts), 96.0 KiB of KV per token in bf16, context 40960";
        assert_eq!(facts("qwen3-30b-a3b"), sparse);
        for entry in &list {
            let text = catalog.show(entry.name).expect(entry.name);
            assert!(text.starts_with(&format!("# {} {}: ", entry.kind, entry.name)));
            assert!(text.contains("origin:") && text.contains("source: "), "{text}");
        }
        let message = catalog.show("h20").expect_err("unknown").to_string();
        assert_eq!(message, "no GPU or model is called `h20`; did you mean `h200`?");
    }

    #[test]
    fn unknown_names_get_a_suggestion() {
        let catalog = Catalog::embedded();
        let message = catalog.gpu("h20").expect_err("unknown").to_string();
        assert_eq!(message, "no GPU is called `h20`; did you mean `h200`?");
        let message = catalog.model("gpt-5").expect_err("unknown").to_string();
        assert!(message.contains("`llama-3.1-8b`") && message.contains("`qwen3-8b`"), "{message}");
    }
}
