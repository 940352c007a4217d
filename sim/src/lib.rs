//! The core of Overbook: a discrete-event simulation of LLM serving without IO, clocks or threads.
//!
//! ```text
//! Workload ──arrivals──► Cluster ──route──► Replica (pool, scheduler, lanes) ──rows──► Recorder
//!                           │                  ▲
//!                        Calendar          CostModel
//! ```
//!
//! A [`Cluster`] takes requests from a [`Workload`], routes each to a replica, plans the replica's steps with its
//! [`Scheduler`], prices them with a [`CostModel`], and hands rows of ended requests to a [`Recorder`]. Time is an integer number
//! of nanoseconds. Many equal steps are applied at once, and the result is that of single steps, to the nanosecond: the
//! [`Digest`](digest::Digest) of a run says so.
//!
//! ```
//! use overbook_sim::{Arrival, Cluster, ClusterSpec, Constant, Cost, Discard, StepCost, Time, Workload, WorkloadError};
//!
//! /// A hundred requests, ten a second: 500 tokens in, 50 out.
//! struct Even(u64);
//!
//! impl Workload for Even {
//!     fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
//!         let at = Time(self.0 * 100_000_000);
//!         self.0 += 1;
//!         Ok((self.0 <= 100).then(|| Arrival::new(at, 500, 50)))
//!     }
//!
//!     fn classes(&self) -> &[String] {
//!         &[]
//!     }
//! }
//!
//! # fn main() -> Result<(), overbook_sim::RunError> {
//! // Two replicas of vLLM's defaults; every step takes 12 ms.
//! let spec = ClusterSpec { replicas: 2, ..ClusterSpec::default() };
//! let mut cost = Constant(StepCost { device: Cost::from_us(12_000.0), host: Cost::from_us(500.0) });
//! let result = Cluster::new(spec)?.run(&mut Even(0), &mut cost, &mut Discard, &mut |_| true)?;
//!
//! assert_eq!(result.summary.metric("finished"), Some(100.0));
//! let tpot = result.summary.metric("tpot_mean").expect("requests have more than one token");
//! assert!((tpot - 0.012).abs() < 1e-3);
//! # Ok(())
//! # }
//! ```
//!
//! What is not here: files, traces, names of GPUs and models (they are specifications here: [`hardware`]), reports. The same
//! [`Replica`](serving::replica::Replica) runs real steps under the crate `overbook-engine`.
#![forbid(unsafe_code)]

pub mod calibrate;
pub mod check;
pub mod cost;
pub mod counter;
pub mod digest;
pub mod fleet;
pub mod golden;
pub mod hardware;
pub mod kv;
pub mod lengths;
pub mod partitioners;
pub mod power;
pub mod results;
pub mod routers;
pub mod schedulers;
pub mod serving;
pub mod streams;
pub mod time;
pub mod units;
pub mod workload;

pub use cost::{Constant, Cost, CostModel, DecodeCost, DecodeParts, Parts, StepCost, StepShape};
pub use fleet::{Cluster, ClusterSpec, Progress, RunError, RunResult};
pub use results::rows::{Discard, Keep, Recorder, RequestRow, StepRow};
pub use results::summary::Summary;
pub use routers::{FleetView, RequestInfo, Router, RouterSpec};
pub use schedulers::SchedulerSpec;
pub use serving::replica::Limits;
pub use serving::step::{Infeasible, StepBuilder};
pub use serving::{Horizon, Scheduler};
pub use time::{Span, Time};
pub use workload::arrival::{Arrival, Workload, WorkloadError};
