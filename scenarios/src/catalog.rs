//! The catalog: GPUs and models that scenarios name.

use overbook_sim::gpu::GpuSpec;
use overbook_sim::model::ModelSpec;
use serde::de::DeserializeOwned;

use crate::nearest::suggestion;
use crate::yaml::{self, SourceId};

macro_rules! embedded {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../catalog/", $folder, "/", $name, ".yaml")))),*]
    };
}

const GPUS: &[(&str, &str)] = embedded!("gpus": "a100-80", "b200", "h100", "h200");

const MODELS: &[(&str, &str)] = embedded!("models":
    "llama-2-7b",
    "llama-3.1-70b",
    "llama-3.1-8b",
    "llama-3.2-1b",
    "qwen3-0.6b",
    "qwen3-32b",
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

    /// Names of all GPUs, sorted.
    pub fn gpu_names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.gpus.iter().map(|(name, _)| *name)
    }

    /// Names of all models, sorted.
    pub fn model_names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.models.iter().map(|(name, _)| *name)
    }
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
    fn unknown_names_get_a_suggestion() {
        let catalog = Catalog::embedded();
        let message = catalog.gpu("h20").expect_err("unknown").to_string();
        assert_eq!(message, "no GPU is called `h20`; did you mean `h200`?");
        let message = catalog.model("gpt-5").expect_err("unknown").to_string();
        assert!(message.contains("`llama-3.1-8b`") && message.contains("`qwen3-8b`"), "{message}");
    }
}
