//! From what others write to what Overbook reads: `config.json` of a model, `vllm serve` commands.

mod command;
mod config;
mod hugging_face;

pub use command::{CommandError, ImportedCommand, vllm_command};
pub use config::{ImportError, model_from_config};
pub use hugging_face::{catalog_name, repository};
