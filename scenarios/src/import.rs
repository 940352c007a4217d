//! From what others write to what Overbook reads: `config.json` of a model, commands that start vLLM and SGLang, vLLM's logs, kernel tables.

mod aiconfigurator;
mod command;
mod config;
mod hugging_face;
mod log;
mod profile;
mod samples;
mod served;
mod sglang;
mod speculation;
mod tables;
mod vidur;
mod words;

pub use command::{vllm_command, vllm_served};
pub use config::{ImportError, model_from_config};
pub(crate) use hugging_face::published;
pub use hugging_face::{catalog_name, repository};
pub use log::{LogError, vllm_log};
pub use profile::{ImportedProfile, ProfileImportError, Tool, catalog_gpu, import_profile};
pub use served::{ImportedCommand, Served};
pub use sglang::sglang_served;
pub use tables::TablesError;
pub use words::CommandError;
