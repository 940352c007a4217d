//! What a replica runs on and what runs there: GPUs, models, servers, and how the one is laid out on the others.

pub mod gpu;
pub mod memory;
pub mod model;
pub mod parallel;
pub mod server;
