//! The fleet in virtual time: a kernel (replicas, their lanes, one calendar, one sink) and controllers around it.
//!
//! ```text
//!   workload ──► Cluster ──says what happens──► controllers (router, faults, autoscaling, retries, patience, transfers, …)
//!                 │   ▲ ◄──────── actions ─────────┘
//!                 ▼   │ what happened
//!               Kernel: calendar, replicas, lanes ──rows and levels──► Sink
//! ```
//!
//! The kernel decides nothing. Controllers know nothing of each other.

pub mod calendar;
mod cluster;
mod controller;
mod controllers;
mod devices;
mod drive;
mod intake;
mod kernel;
mod outcome;
mod policies;
mod pools;
mod power;
mod segment;
mod sink;
mod spec;

#[cfg(feature = "planted-faults")]
pub use crate::serving::replica::Leak;
pub use cluster::Cluster;
pub use controllers::{
    Autoscale, ClientTime, Clients, Disaggregation, EarlyRejection, Failure, Faults, Frontend, Growth, Patience,
    PointChange, Retry, ScaleTarget,
};
pub use devices::{DeviceSpec, Reading, Usage};
pub use drive::{Effort, StopReason};
#[cfg(feature = "planted-faults")]
pub use kernel::PowerFault;
pub use outcome::{Halt, Progress, RunError, RunResult};
pub use policies::{MakeEviction, Policies};
pub use pools::ReplicaPool;
pub use power::{Brake, FleetPower, GpuLimiter, LOW_PRIORITY, RowServer};
pub use spec::{ClusterSpec, Controllers, OutputLimit, Traffic};
