//! What a run leaves behind: the run directory with its Parquet, JSON and HTML files, and the summary on the terminal.
//!
//! Nothing here computes new figures: [`overbook_sim::summary::Summary`] has them all. The library never prints; the same
//! input gives the same bytes, except for the manifest, which alone holds facts of the wall clock.
#![forbid(unsafe_code)]

pub mod parquet;
mod error;

pub use error::ReportError;
