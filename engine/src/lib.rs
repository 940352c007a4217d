//! The real engine: a model's forward pass on CPU and CUDA, driven by the same [`Replica`](overbook_sim::serving::replica::Replica)
//! that the simulator drives, around real steps.
//!
//! The replica is sans-IO: the engine calls `enqueue`, `plan` and `complete` with a wall clock where the simulator has a
//! virtual one. There is no second scheduler.

pub mod calibrate;
pub mod client;
pub mod config;
pub mod cpu;
pub mod driver;
pub mod executor;
pub mod history;
pub mod parity;
pub mod prompt;
pub mod run;
mod sample;
pub mod serve;
pub mod tables;
pub mod weights;
