//! The cost and memory models against physics, measured kernels, published facts and Vidur.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the laws bind the library; its tests read files"
)]
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr, clippy::float_cmp)]

mod catalog;
mod experts;
mod hybrid;
mod kernels;
mod memory;
mod parallel;
mod parts;
mod power;
mod ranks;
mod retained;
mod roofline;
mod serving;
mod speculative;
mod table;
mod vidur;

use std::path::{Path, PathBuf};

use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::model::ModelSpec;

/// GPUs with measured kernels.
pub const GPUS: [&str; 4] = ["a100-80", "h100", "h200", "b200"];
/// GPUs with measured kernels that are linked by PCIe alone.
pub const PCIE: [&str; 2] = ["l40s", "rtx-pro-6000"];
/// GPUs whose efficiencies are inferred.
pub const INFERRED: [&str; 9] =
    ["a100-40", "a100-pcie-80", "a10g", "h100-64", "h100-pcie", "l4", "mi300x", "rtx-4090", "rtx-pro-6000-max-q"];
/// Models with dense layers and grouped-query attention.
pub const MODELS: [&str; 26] = [
    "codellama-34b",
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
    "llama-7b",
    "mistral-7b",
    "qwen2.5-1.5b",
    "qwen2.5-14b",
    "qwen2.5-32b",
    "qwen2.5-7b",
    "qwq-32b",
    "qwen3-0.6b",
    "qwen3-1.7b",
    "qwen3-14b",
    "qwen3-32b",
    "qwen3-4b",
    "qwen3-8b",
];
/// Models with experts.
pub const MOE_MODELS: [&str; 11] = [
    "deepseek-v2-lite",
    "deepseek-v3",
    "gpt-oss-120b",
    "gpt-oss-20b",
    "llama-4-scout",
    "minimax-m2.5",
    "mixtral-8x7b",
    "qwen3-235b-a22b",
    "qwen3-30b-a3b",
    "qwen3-coder-30b-a3b",
    "qwen3-coder-480b-a35b",
];
/// Models some of whose layers see a window, or keep a state instead of keys and values.
pub const HYBRID_MODELS: [&str; 5] =
    ["gemma-3-12b", "gemma-3-27b", "nemotron-nano-12b-v2", "nemotron-nano-9b-v2", "qwen3.5-397b-a17b"];

fn read(folder: &str, name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios/catalog").join(folder);
    std::fs::read_to_string(path.join(format!("{name}.yaml"))).unwrap()
}

pub fn gpu(name: &str) -> GpuSpec {
    serde_yaml_ng::from_str(&read("gpus", name)).unwrap()
}

pub fn model(name: &str) -> ModelSpec {
    serde_yaml_ng::from_str(&read("models", name)).unwrap()
}

/// An entry of the catalog.
pub fn entry<T: serde::de::DeserializeOwned>(folder: &str, name: &str) -> T {
    serde_yaml_ng::from_str(&read(folder, name)).unwrap()
}

/// The text of a file, packed or not.
pub fn text(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap();
    let packed = file.extension().is_some_and(|ending| ending == "zst");
    String::from_utf8(if packed { zstd::decode_all(&bytes[..]).unwrap() } else { bytes }).unwrap()
}

/// The rows of a CSV file behind its header.
pub fn rows(file: &Path) -> Vec<Vec<String>> {
    text(file).lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Median and 90th percentile of relative errors [%].
pub fn spread(errors: &mut [f64]) -> (f64, f64) {
    errors.sort_by(f64::total_cmp);
    let at = |q: f64| errors[((errors.len() - 1) as f64 * q) as usize] * 100.0;
    (at(0.5), at(0.9))
}

/// A few random numbers, the same every time.
pub struct Draw(pub u64);

impl Draw {
    /// Uniform in `low..=high`.
    pub fn uniform(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + (self.0 >> 33) % (high - low + 1)
    }

    /// About uniform in the logarithm, from 1 to `high`.
    pub fn log(&mut self, high: u64) -> u64 {
        let bits = self.uniform(0, u64::from(high.ilog2()));
        self.uniform(1 << bits, (2 << bits) - 1).min(high)
    }
}
