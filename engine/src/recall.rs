//! Retention of tokens on small recall tasks: what is kept decides what is still known.
//!
//! Everything here is written for reading: sequences are computed token by token in plain f32, each layer and KV head has an explicit
//! set of the positions that it keeps, and policies are plain second implementations. Faster implementations are tested against it.

pub mod evaluate;
pub mod gates;
pub mod policies;
pub mod reference;
pub mod regress;
pub mod statistics;
pub mod table;
pub mod tasks;

pub use evaluate::{Judge, Phase};
pub use gates::Gates;
pub use policies::{Rule, Setting};
pub use reference::Reference;
pub use tasks::{Layout, Sample, TASKS, Task};
