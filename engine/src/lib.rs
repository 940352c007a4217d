//! The real engine: a model's forward pass on CPU and CUDA, driven by the same [`Replica`](overbook_sim::replica::Replica)
//! that the simulator drives, around real steps.
//!
//! Nothing runs here yet. What stands is the contract that keeps it honest: the replica is sans-IO, so the engine will call
//! `enqueue`, `plan` and `complete` with a wall clock where the simulator has a virtual one, and there will be no second
//! scheduler.
#![forbid(unsafe_code)]
