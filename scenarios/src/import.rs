//! From what others write to what Overbook reads: `config.json` of a model, `vllm serve` commands and logs, kernel tables.

mod aiconfigurator;
mod command;
mod config;
mod hugging_face;
mod log;
mod profile;
mod samples;
mod tables;
mod vidur;

pub use command::{CommandError, ImportedCommand, vllm_command};
pub use config::{ImportError, model_from_config};
pub(crate) use hugging_face::published;
pub use hugging_face::{catalog_name, repository};
pub use log::{LogError, vllm_log};
pub use profile::{ImportedProfile, ProfileImportError, Tool, import_profile};
pub use tables::TablesError;
