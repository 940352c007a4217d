//! The core of Overbook: a discrete-event simulation of LLM serving without IO, clocks or threads.
//!
//! ```text
//! Workload ──arrivals──► Cluster ──route──► Replica (pool, scheduler, lanes) ──rows──► Recorder
//!                           │                  ▲
//!                        Calendar          CostModel
//! ```
#![forbid(unsafe_code)]

pub mod arrival;
pub mod blocks;
pub mod cost;
pub mod golden;
pub mod histogram;
mod lane;
pub mod policy;
mod queue;
pub mod replica;
pub mod request;
pub mod rows;
pub mod step;
pub mod summary;
pub mod time;
pub mod timeline;
pub mod units;
