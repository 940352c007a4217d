//! The core of Overbook: a discrete-event simulation of LLM serving without IO, clocks or threads.
//!
//! ```text
//! Workload ──arrivals──► Cluster ──route──► Replica (pool, scheduler, lanes) ──rows──► Recorder
//!                           │                  ▲
//!                        Calendar          CostModel
//! ```
#![forbid(unsafe_code)]

pub mod arrival;
pub mod cost;
pub mod policy;
pub mod rows;
pub mod time;
