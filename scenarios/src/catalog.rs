//! The catalog: GPUs, models, links, servers and sites.

mod facts;
mod site;

use std::fmt;

use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::model::ModelSpec;
use overbook_sim::hardware::server::{LinkSpec, ServerSpec, Topology};
use serde::de::DeserializeOwned;

pub use site::{SiteFigure, SiteSpec};

use crate::nearest::suggestion;
use crate::yaml::{self, SourceId};

macro_rules! embedded {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../catalog/", $folder, "/", $name, ".yaml")))),*]
    };
}

/// Names and texts of the entries of one kind.
type Entries = &'static [(&'static str, &'static str)];

const GPUS: Entries = embedded!("gpus":
    "a100-40",
    "a100-80",
    "a100-pcie-80",
    "a10g",
    "b200",
    "h100",
    "h100-64",
    "h100-pcie",
    "h200",
    "l4",
    "l40s",
    "mi300x",
    "rtx-4090",
    "rtx-pro-6000",
    "rtx-pro-6000-max-q",
);

const MODELS: Entries = embedded!("models":
    "codellama-34b",
    "deepseek-v2-lite",
    "deepseek-v3",
    "gemma-3-12b",
    "gemma-3-27b",
    "gpt-oss-120b",
    "gpt-oss-20b",
    "llama-13b",
    "llama-2-13b",
    "llama-2-70b",
    "llama-2-7b",
    "llama-3-70b",
    "llama-3-8b",
    "llama-3.1-405b",
    "llama-3.1-70b",
    "llama-3.1-8b",
    "llama-3.2-1b",
    "llama-3.2-3b",
    "llama-3.3-70b",
    "llama-4-scout",
    "llama-7b",
    "minimax-m2.5",
    "mistral-7b",
    "mixtral-8x7b",
    "nemotron-nano-12b-v2",
    "nemotron-nano-9b-v2",
    "qwen2.5-1.5b",
    "qwen2.5-14b",
    "qwen2.5-32b",
    "qwen2.5-7b",
    "qwen3-0.6b",
    "qwen3-1.7b",
    "qwen3-14b",
    "qwen3-235b-a22b",
    "qwen3-30b-a3b",
    "qwen3-32b",
    "qwen3-4b",
    "qwen3-8b",
    "qwen3-coder-30b-a3b",
    "qwen3-coder-480b-a35b",
    "qwen3.5-397b-a17b",
    "qwq-32b",
    "small",
    "tiny",
);

const LINKS: Entries = embedded!("links":
    "efa-100g",
    "efa-200g",
    "efa-400g",
    "ethernet-100g",
    "ethernet-25g",
    "infiniband-hdr",
    "infiniband-ndr",
    "infinity-fabric-3",
    "nvlink3",
    "nvlink3-pairs",
    "nvlink4",
    "nvlink4-pairs",
    "nvlink5",
    "pcie4-x16",
    "pcie4-x16-no-p2p",
    "pcie5-x16",
    "roce-400g",
);

const SERVERS: Entries = embedded!("servers":
    "a100-pcie-pairs-x4",
    "a100-pcie-x8",
    "aws-g5.48xlarge",
    "aws-g6.48xlarge",
    "aws-g6e.48xlarge",
    "aws-g7e.48xlarge",
    "aws-p4d.24xlarge",
    "aws-p4de.24xlarge",
    "aws-p5.48xlarge",
    "aws-p5en.48xlarge",
    "aws-p6-b200.48xlarge",
    "azure-nd-a100-v4",
    "azure-nd-h100-v5",
    "azure-nd-h200-v5",
    "azure-nd-mi300x-v5",
    "dgx-a100",
    "dgx-b200",
    "dgx-h100",
    "dgx-h200",
    "h100-pcie-pairs-x4",
    "h100-pcie-x8",
    "hgx-b200",
    "hgx-h100",
    "hgx-h200",
    "l40s-x8",
    "l40s-x8-no-p2p",
    "rtx-4090-x8",
    "rtx-pro-6000-x8",
);

const SITES: Entries = embedded!("sites":
    "us-average",
);

/// Why the catalog has no such entry.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CatalogError {
    /// No entry of this name.
    #[error("no {kind} is called `{name}`; {suggestion}")]
    Unknown {
        /// What kind of entry, in words.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// `did you mean …?`, or all names.
        suggestion: String,
    },
    /// The entry's file is not a valid entry.
    #[error("the catalog's {kind} `{name}` is broken: {message}")]
    Broken {
        /// What kind of entry, in words.
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
    /// A link between GPUs.
    Link,
    /// A server.
    Server,
    /// A place with its price and carbon of power.
    Site,
}

impl EntryKind {
    /// All kinds, as lists show them.
    pub const ALL: [EntryKind; 5] =
        [EntryKind::Gpu, EntryKind::Model, EntryKind::Link, EntryKind::Server, EntryKind::Site];

    const fn name(self) -> &'static str {
        match self {
            EntryKind::Gpu => "GPU",
            EntryKind::Model => "model",
            EntryKind::Link => "link",
            EntryKind::Server => "server",
            EntryKind::Site => "site",
        }
    }

    const fn entries(self) -> Entries {
        match self {
            EntryKind::Gpu => GPUS,
            EntryKind::Model => MODELS,
            EntryKind::Link => LINKS,
            EntryKind::Server => SERVERS,
            EntryKind::Site => SITES,
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One entry, for lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its kind.
    pub kind: EntryKind,
    /// Its name in scenarios.
    pub name: &'static str,
    /// What matters about it, in one line.
    pub facts: String,
}

/// What scenarios name, by name.
#[derive(Clone, Copy, Debug)]
pub struct Catalog(());

impl Catalog {
    /// The catalog that comes with Overbook.
    pub fn embedded() -> Catalog {
        Catalog(())
    }

    /// The GPU of this name.
    ///
    /// # Errors
    /// There is none; the message suggests one or lists all.
    pub fn gpu(&self, name: &str) -> Result<GpuSpec, CatalogError> {
        look_up(EntryKind::Gpu, name)
    }

    /// The model of this name.
    ///
    /// # Errors
    /// There is none; the message suggests one or lists all.
    pub fn model(&self, name: &str) -> Result<ModelSpec, CatalogError> {
        look_up(EntryKind::Model, name)
    }

    /// The link of this name.
    ///
    /// # Errors
    /// There is none; the message suggests one or lists all.
    pub fn link(&self, name: &str) -> Result<LinkSpec, CatalogError> {
        look_up(EntryKind::Link, name)
    }

    /// The server of this name.
    ///
    /// # Errors
    /// There is none; the message suggests one or lists all.
    pub fn server(&self, name: &str) -> Result<ServerSpec, CatalogError> {
        look_up(EntryKind::Server, name)
    }

    /// The site of this name.
    ///
    /// # Errors
    /// There is none; the message suggests one or lists all.
    pub fn site(&self, name: &str) -> Result<SiteSpec, CatalogError> {
        look_up(EntryKind::Site, name)
    }

    /// A server's links, looked up.
    ///
    /// # Errors
    /// The server names a link that there is not.
    pub fn topology(&self, server: &ServerSpec) -> Result<Topology, CatalogError> {
        let network = match &server.network {
            Some(network) => Some((self.link(&network.link)?, network.ports)),
            None => None,
        };
        Ok(Topology { server: server.name.clone(), gpus: server.gpus, inside: self.link(&server.inside)?, network })
    }

    /// All entries with their facts, by kind and then by name.
    pub fn list(&self) -> Vec<Entry> {
        let of = |kind: EntryKind| {
            let entry = move |(name, _): &(&'static str, &str)| Entry { kind, name, facts: self.facts(kind, name) };
            kind.entries().iter().map(entry)
        };
        EntryKind::ALL.into_iter().flat_map(of).collect()
    }

    fn facts(self, kind: EntryKind, name: &str) -> String {
        let facts = match kind {
            EntryKind::Gpu => self.gpu(name).map(|spec| facts::gpu(&spec)),
            EntryKind::Model => self.model(name).map(|spec| facts::model(&spec)),
            EntryKind::Link => self.link(name).map(|spec| facts::link(&spec)),
            EntryKind::Server => self.server(name).map(|spec| facts::server(&spec)),
            EntryKind::Site => self.site(name).map(|spec| facts::site(&spec)),
        };
        facts.unwrap_or_else(|error| error.to_string())
    }

    /// The entry of this name as YAML, every group of numbers with its origin; its facts stand above as a comment.
    ///
    /// # Errors
    /// There is none; the message suggests one or lists all.
    pub fn show(&self, name: &str) -> Result<String, CatalogError> {
        let all = || EntryKind::ALL.into_iter().flat_map(|kind| kind.entries().iter().map(move |entry| (kind, entry)));
        let Some((kind, (_, text))) = all().find(|(_, (known, _))| *known == name) else {
            let suggestion = suggestion(name, all().map(|(_, (known, _))| *known));
            return Err(CatalogError::Unknown { kind: "entry", name: name.to_owned(), suggestion });
        };
        Ok(format!("# {kind} {name}: {}\n{text}", self.facts(kind, name)))
    }

    /// Names of all entries of a kind, sorted.
    pub fn names(&self, kind: EntryKind) -> impl Iterator<Item = &'static str> + Clone + use<> {
        kind.entries().iter().map(|(name, _)| *name)
    }

    /// Names of all GPUs, sorted.
    pub fn gpu_names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.names(EntryKind::Gpu)
    }

    /// Names of all models, sorted.
    pub fn model_names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.names(EntryKind::Model)
    }
}

fn look_up<T: DeserializeOwned>(kind: EntryKind, name: &str) -> Result<T, CatalogError> {
    let (entries, kind) = (kind.entries(), kind.name());
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
    use overbook_sim::check::Check;
    use overbook_sim::power::server::Server;

    use super::*;

    #[test]
    fn every_entry_is_valid() {
        let catalog = Catalog::embedded();
        for name in catalog.gpu_names() {
            let gpu = catalog.gpu(name).expect(name);
            let mut problems = Vec::new();
            if let Some(power) = gpu.power {
                power.check(&mut Check::new("power", &mut problems));
            }
            assert!(problems.is_empty(), "{name}: {problems:?}");
        }
        for name in catalog.model_names() {
            catalog.model(name).expect(name).validate().expect(name);
        }
        for name in catalog.names(EntryKind::Link) {
            let link = catalog.link(name).expect(name);
            assert!((0.1..1.0).contains(&link.efficiency) && link.latency_us() < 100.0, "{name}");
        }
        for name in catalog.names(EntryKind::Server) {
            let server = catalog.server(name).expect(name);
            let (gpu, topology) = (catalog.gpu(&server.gpu).expect(name), catalog.topology(&server).expect(name));
            // The GPU's own figure for its link is the server's.
            let link = if server.inside == "infinity-fabric-3" { 7.0 } else { 1.0 } * topology.inside.bandwidth.0;
            assert!((link / gpu.link.0 - 1.0).abs() < 0.02, "{name}");
            let gpus = f64::from(server.gpus) * gpu.tdp.0;
            assert!(
                server.power_max.as_ref().is_none_or(|power| (1.2..2.1).contains(&(power.watts.0 / gpus))),
                "{name}"
            );
            assert!(server.power_idle.is_none_or(|power| power.watts.0 < gpus), "{name}");
            if let (Some(power), Some(most)) = (&server.power, &server.power_max) {
                let mut problems = Vec::new();
                power.check(&mut Check::new("power", &mut problems));
                assert!(problems.is_empty(), "{name}: {problems:?}");
                let idle = gpu.power.as_ref().expect(name).idle.0 * f64::from(server.gpus);
                let full = Server::new(power, idle).settled(gpus, 1.0);
                assert!((0.75..0.95).contains(&(full / most.watts.0)), "{name}: {full}");
            }
        }
        for name in catalog.names(EntryKind::Site) {
            let site = catalog.site(name).expect(name);
            assert!(site.pue.value >= 1.0, "{name}");
        }
        assert!(EntryKind::ALL.into_iter().all(|kind| catalog.names(kind).is_sorted()));
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
        let folders = ["gpus", "models", "links", "servers", "sites"];
        for (kind, folder) in EntryKind::ALL.into_iter().zip(folders) {
            assert!(catalog.names(kind).eq(files(folder)), "{folder}");
        }
    }

    /// The simulator's shape of the models that come with the engine is the shape that the engine runs.
    #[test]
    fn presets_of_the_engine_have_the_same_shape() {
        for name in ["tiny", "small"] {
            let path = format!("{}/../engine/presets/{name}.json", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).expect(name);
            let preset: serde_json::Value = serde_json::from_str(&text).expect(name);
            let model = Catalog::embedded().model(name).expect(name);
            let shape = [
                ("hidden_size", model.hidden),
                ("num_hidden_layers", model.layers),
                ("num_attention_heads", model.heads),
                ("num_key_value_heads", model.kv_heads),
                ("head_dim", model.head_dim),
                ("intermediate_size", model.intermediate),
                ("vocab_size", model.vocab),
                ("max_position_embeddings", model.context),
            ];
            for (field, value) in shape {
                assert_eq!(preset[field], value, "{name}: {field}");
            }
            assert_eq!(preset["tie_word_embeddings"], model.tied_embeddings, "{name}");
            assert!(model.gated && !model.qk_norm && preset["model_type"] == "llama", "{name}");
        }
    }

    #[test]
    fn entries_are_listed_and_shown_with_their_origins() {
        let catalog = Catalog::embedded();
        let list = catalog.list();
        assert_eq!(list.len(), EntryKind::ALL.map(|kind| kind.entries().len()).iter().sum::<usize>());
        // `show` finds entries by name alone.
        let mut names: Vec<_> = list.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), list.len());
        let facts = |name| &list.iter().find(|entry| entry.name == name).expect(name).facts;
        assert_eq!(
            facts("h200"),
            "NVIDIA H200 (SXM), 139.8 GiB at 4.8TB/s, bf16 989TFLOP/s, fp8 1978TFLOP/s, 700W; kernel times imported; \
             power inferred"
        );
        assert!(facts("mi300x").ends_with("kernel times inferred; power not known"), "{}", facts("mi300x"));
        assert_eq!(
            facts("dgx-h100"),
            "NVIDIA DGX H100, 8 h100 on nvlink4, 8 ports of infiniband-ndr, at most 10200W, idle 2800W, power inferred"
        );
        assert_eq!(
            facts("infiniband-ndr"),
            "InfiniBand NDR, 400 Gb/s, 50GB/s per port and direction, 73 % of it and 18.75us latency (inferred)"
        );
        assert_eq!(facts("us-average"), "United States, average, PUE 1.56, 373.4 g CO2/kWh, 0.0862 USD/kWh");
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
        assert_eq!(message, "no entry is called `h20`; did you mean `h200`?");
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
