//! The serving state machine, without IO, clock or cost: a replica, its lanes, its requests, and the step that a scheduler
//! builds. The simulator and the real engine drive the same objects.

mod gaps;
pub(crate) mod lane;
pub(crate) mod queue;
pub mod replica;
pub mod request;
pub mod scheduler;
pub mod speculation;
pub mod step;

pub use queue::QueueOrder;
pub use scheduler::{Horizon, Scheduler};
