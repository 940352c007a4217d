//! Retention of tokens on small recall tasks: what is kept decides what is still known.
//!
//! [`Subject`] runs a model through the CPU engine, a token a step, with real eviction. It knows nothing of the policies; [`trials`]
//! lists the settings that each of them may try.

pub mod evaluate;
pub mod table;
pub mod tasks;
pub mod trials;

pub use evaluate::Subject;
pub use tasks::{Layout, Sample, TASKS, Task};
