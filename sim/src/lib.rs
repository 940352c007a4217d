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
pub mod calendar;
pub mod calibrate;
pub mod cluster;
pub mod cost;
pub mod digest;
mod drive;
mod gaps;
pub mod golden;
pub mod gpu;
pub mod histogram;
mod lane;
pub mod length;
pub mod memory;
pub mod model;
pub mod parallel;
pub mod partition;
pub mod policy;
mod queue;
pub mod replica;
pub mod request;
pub mod route;
pub mod rows;
mod segment;
pub mod server;
pub mod step;
pub mod streams;
pub mod summary;
pub mod time;
pub mod timeline;
pub mod units;
