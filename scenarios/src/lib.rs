//! Scenarios: what a user asks Overbook to do, read from YAML, checked and completed.
//!
//! ```text
//! file ──Source::load──► Source ──resolve──► Study: points (complete scenarios) + expectations
//!                          ▲ set(path, value)   └► or Problems: all of them, each with its place
//! ```
#![forbid(unsafe_code)]

pub mod amount;
pub mod catalog;
pub mod diagnostics;
pub mod export;
pub mod hull;
pub mod import;
pub mod measured;
pub mod metric;
mod nearest;
mod point;
mod provenance;
pub mod scenario;
mod schema;
mod source;
mod study;
pub mod world;
pub mod yaml;

pub use catalog::Catalog;
pub use diagnostics::{Diagnostic, Problems};
pub use point::Point;
pub use scenario::Scenario;
pub use schema::scenario_schema;
pub use source::{LoadError, Source};
pub use study::{Expectation, Study, Verdict};
