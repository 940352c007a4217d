//! GPUs, models, servers, and the layout of models on GPUs.

pub mod draft;
pub mod gpu;
pub mod memory;
pub mod model;
pub mod parallel;
pub mod power;
pub mod server;
pub mod server_power;
