//! The core of Overbook: a discrete-event simulation of LLM serving without IO, clocks or threads.
//!
//! ```text
//! Workload ──arrivals──► Cluster ──route──► Replica (pool, scheduler, lanes) ──rows──► Recorder
//!                           │                  ▲
//!                        Calendar          CostModel
//! ```
#![forbid(unsafe_code)]

pub mod calibrate;
pub mod check;
pub mod cost;
pub mod digest;
pub mod fleet;
pub mod golden;
pub mod hardware;
pub mod kv;
pub mod lengths;
pub mod partitioners;
pub mod results;
pub mod routers;
pub mod schedulers;
pub mod serving;
pub mod streams;
pub mod time;
pub mod units;
pub mod workload;
