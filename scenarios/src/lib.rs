//! Scenarios: what a user asks Overbook to do, read from YAML, checked and completed.
//!
//! ```text
//! file ──Source::load──► Source ──resolve──► Study: points (complete scenarios) + expectations
//!                          ▲ set(path, value)   └► or Problems: all of them, each with its place
//! ```
//!
//! A scenario names a workload, a model, GPUs, a fleet, a scheduler and promises. What it leaves out has defaults; what is wrong
//! with it is reported all at once, with line, column and a suggestion. A [`Point`] is one complete scenario with everything that
//! it names looked up in the [`Catalog`]; it builds the parts of a run, and runs nothing itself.
//!
//! ```
//! use overbook_scenarios::Source;
//!
//! let text = "
//! version: 1
//! name: chat
//! model: llama-3.1-8b
//! gpu: h100
//! workload:
//!   generate: { arrivals: { poisson: { rate: 5/s } }, lengths: { fixed: { prompt: 800, output: 200 } }, requests: 100 }
//! ";
//! let mut source = Source::from_text("chat", text);
//! source.set("fleet.replicas", "2");
//! let study = source.resolve().expect("a valid scenario");
//! let point = &study.points()[0];
//! assert_eq!(point.cluster().expect("it fits into memory").replicas, 2);
//!
//! // What the memory of the GPU leaves for KV, as blocks of a replica.
//! let (limits, _) = point.limits().expect("it fits into memory");
//! assert!(limits.blocks > 10_000);
//!
//! // Mistakes come together, each with its place.
//! source.set("gpu", "h1oo");
//! source.set("fleet.replicas", "0");
//! let problems = source.resolve().expect_err("two mistakes");
//! assert_eq!(problems.list().len(), 2);
//! assert!(problems.to_string().contains("h100"));
//! ```
#![forbid(unsafe_code)]

pub mod amount;
pub mod catalog;
pub mod defaults;
pub mod diagnostics;
pub mod export;
pub mod facts;
pub mod hull;
pub mod import;
pub mod measured;
pub mod metric;
mod nearest;
mod point;
mod provenance;
pub mod quality;
pub mod scenario;
mod schema;
pub mod small_file;
mod source;
mod study;
pub mod world;
pub mod yaml;

pub use catalog::Catalog;
pub use diagnostics::{Diagnostic, Problems};
pub use point::Point;
pub use scenario::{Basis, Scenario};
pub use schema::{scenario_reference, scenario_schema};
pub use source::{LoadError, Source};
pub use study::{Choice, Expectation, Judgement, Planned, Study};
