//! The real engine: a model's forward pass on CPU and CUDA, driven by the same [`Replica`](overbook_sim::serving::replica::Replica)
//! that the simulator drives, around real steps.
//!
//! The replica is sans-IO: the engine calls `enqueue`, `plan` and `complete` with a wall clock where the simulator has a
//! virtual one. There is no second scheduler.
//!
//! ```
//! use std::sync::Arc;
//!
//! use overbook_engine::{Capacity, Config, CpuExecutor, Dtype, Weights, run};
//! use overbook_sim::{Arrival, ClusterSpec, Time, Workload, WorkloadError};
//!
//! /// Four requests at once: 12 tokens in, 5 out.
//! struct Four(u32);
//!
//! impl Workload for Four {
//!     fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
//!         self.0 += 1;
//!         Ok((self.0 <= 4).then(|| Arrival::new(Time::ZERO, 12, 5)))
//!     }
//!
//!     fn classes(&self) -> &[String] {
//!         &[]
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A model of two layers with dummy weights on one thread, behind vLLM's scheduler.
//! let config = Config::preset("tiny")?;
//! let weights = Arc::new(Weights::dummy(&config, 0, Dtype::F32)?);
//! let mut spec = ClusterSpec::default();
//! (spec.limits.blocks, spec.limits.max_model_len) = (32, 64);
//! let capacity = Capacity::unbounded(32, 16, 64, config.vocab as u32);
//! let executor = CpuExecutor::new(config, weights, capacity, 1)?;
//!
//! let measured = run(&spec, &mut Four(0), Box::new(executor), &mut |_| true)?;
//! assert_eq!(measured.result.summary.metric("finished"), Some(4.0));
//! // Every step with its shape and its times.
//! assert!(measured.steps.iter().all(|step| step.row.end > step.row.start));
//! # Ok(())
//! # }
//! ```
//!
//! What was run can be replayed on the simulator ([`parity`]), priced step by step ([`priced`]), and turned into a profile of step
//! costs ([`calibrate`]); other engines are asked over HTTP ([`client`]), and this one answers ([`serve`]).

pub mod calibrate;
pub mod client;
pub mod config;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod driver;
pub mod executor;
pub mod history;
mod memory;
pub mod nvml;
pub mod parity;
pub mod priced;
pub mod prompt;
pub mod recall;
pub mod retention;
pub mod run;
mod sample;
pub mod serve;
pub mod tables;
#[cfg(feature = "train")]
pub mod train;
pub mod weights;

pub use config::Config;
pub use cpu::CpuExecutor;
pub use device::Device;
pub use executor::{Capacity, Executor};
pub use retention::{Retention, TokenRetention};
pub use run::{Measured, run};
pub use weights::{Dtype, Weights};
