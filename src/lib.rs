//! Overbook: how far can GPUs, KV memory and power be oversubscribed before the latency promises of an LLM service break?
//!
//! An [`Experiment`] is a scenario (a YAML file or text) with changes. It is simulated exactly, request by request and step by
//! step, and gives an [`Outcome`]: latencies, throughput and goodput, the targets judged, and how far the figures are to be
//! trusted.
//!
//! ```
//! use overbook::{Experiment, Options};
//!
//! # fn main() -> Result<(), overbook::Error> {
//! let scenario = "
//! version: 1
//! name: chat
//! model: llama-3.1-8b
//! gpu: h100
//! workload:
//!   generate: { arrivals: { poisson: { rate: 5/s } }, lengths: { fixed: { prompt: 800, output: 200 } }, requests: 500 }
//! slo: { ttft_p99: 1s }
//! ";
//! let chat = Experiment::from_text("chat", scenario);
//! let outcome = chat.run(&Options::default())?;
//! println!("TTFT p99 {:.3} s", outcome.metric("ttft_p99").unwrap_or(f64::NAN));
//! assert!(outcome.keeps_targets());
//!
//! // One thing changed, everything else the same: the same requests at the same times.
//! let sarathi = chat.set("scheduler", "sarathi")?.run(&Options::default())?;
//! assert_eq!(sarathi.metric("finished"), outcome.metric("finished"));
//! # Ok(())
//! # }
//! ```
//!
//! A scenario with `sweep:`, or one that [`Experiment::vary`] was called on, is a [`Study`]: many runs on all processors, with
//! progress, cancellation ([`Cancel`]) and the requests that points have in common read once.
//!
//! Schedulers, routers, eviction policies and cost models of one's own run beside those that scenarios name: implement [`Scheduler`],
//! [`Router`], [`BlockEviction`] or [`CostModel`] and hand a factory to [`Experiment::with_scheduler`] and its siblings. The programs in `examples/` do so.
//!
//! What lies below: [`overbook_sim`] simulates, [`overbook_traces`] reads and makes requests, [`overbook_scenarios`] resolves
//! scenarios, [`overbook_reports`] writes run directories. The command line on top of this library is the binary `overbook`.
#![forbid(unsafe_code)]

mod cancel;
mod error;
pub mod estimate;
mod experiment;
pub mod kv;
mod outcome;
mod plan;
mod policies;
mod pool;
#[cfg(feature = "python")]
mod python;
pub mod shards;
mod shared;
mod simulate;
pub mod study;
mod traffic;
pub mod validation;

pub use cancel::Cancel;
pub use error::Error;
pub use experiment::{Experiment, Options};
pub use outcome::{Outcome, verdicts};
pub use plan::PlanOutcome;
pub use policies::Place;
pub use study::{PointDone, Study, StudyOutcome};

pub use overbook_reports::Status;
pub use overbook_scenarios::Point;
pub use overbook_sim::cost::{Cost, CostModel, DecodeCost, DecodeParts, Parts, StepCost, StepShape};
pub use overbook_sim::kv::eviction::{Block, BlockEviction, BlockView};
pub use overbook_sim::routers::{FleetView, ReplicaView, RequestInfo, Router};
pub use overbook_sim::serving::step::{Infeasible, StepBuilder};
pub use overbook_sim::serving::{Horizon, Scheduler};

/// Name and version of the tool, as results carry it.
pub const TOOL: &str = concat!("overbook ", env!("CARGO_PKG_VERSION"));
