//! The laws of the serving state machine, attacked: random worlds, planted faults, theory, schedules worked by hand, and the
//! record of vLLM's own scheduler.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the laws bind the library; its tests read files"
)]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::print_stderr, clippy::float_cmp)]

mod boxes;
mod client;
mod combined;
mod conformance;
mod evictions;
mod fairness;
mod faults;
mod figures;
mod future;
mod gaps;
mod golden;
mod jitter;
mod jumps;
mod lanes;
mod laws;
mod points;
mod pools;
mod power;
mod progress;
mod regressions;
mod retention;
mod routers;
mod scaling;
mod schedulers;
mod schedules;
mod sessions;
mod shards;
mod speculation;
mod stores;
mod theory;
mod world;
mod world_random;
