//! What a run leaves behind: the run directory with its Parquet, JSON and HTML files, and the summary on the terminal.
//!
//! Nothing here computes new figures: [`overbook_sim::results::summary::Summary`] has them all. The library never prints; the same
//! input gives the same bytes, except for the manifest, which alone holds facts of the wall clock.
#![forbid(unsafe_code)]

pub mod compare;
pub mod dialect;
mod error;
pub mod fidelity;
pub mod figure;
pub mod format;
pub mod html;
mod json;
pub mod manifest;
pub mod parquet;
pub mod perfetto;
pub mod points;
mod pools;
pub mod read;
pub mod report;
pub mod run_dir;
pub mod study;
pub mod summary_json;
mod table;
pub mod terminal;
pub mod validation;

pub use dialect::Dialect;
pub use error::ReportError;
pub use manifest::{Manifest, Status};
pub use read::RunData;
pub use report::{Report, Traffic, TrafficScale, Verdict};
pub use run_dir::RunDir;

#[cfg(test)]
mod sample;
