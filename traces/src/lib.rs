//! Workloads for Overbook: recorded traces replayed, and synthetic ones generated.
//!
//! Both become a [`Workload`](overbook_sim::arrival::Workload), a lazy source of requests in order of arrival; one
//! request is in memory at a time, whatever the length of the trace.
//!
//! ```text
//! TraceSpec ─open─► source ─► lines ─► table ─► burstgpt | azure | vidur ─► reader ─► replay ─┐
//!                   unpack    blocks   fields   decode a row             filter,    rebase,   ├─► Workload
//!                                                                        skip, take clip,     │
//!                                                                                   scale,    │
//!                                                                                   repeat    │
//! GenerateSpec ─open─► arrivals (steady | profile), lengths (quantile) ─► generate ───────────┘
//! ```
//!
//! * [`TraceSpec`] and [`GenerateSpec`] are what a scenario says. `problems()` lists all that is wrong with the values,
//!   each with its dotted path, before anything is opened.
//! * A [`TraceError`] names file, line and column, what was expected and found, and what to do. A file that is wrong
//!   from the start fails when opened, not in mid-run.
//! * Times are integers from the first digit on: no timestamp passes through a float.
//! * A generator draws each purpose from its own stream of one seed, so changing lengths never moves an arrival.
#![forbid(unsafe_code)]

mod arrivals;
mod azure;
mod burstgpt;
mod datetime;
mod draw;
mod error;
mod figures;
mod generate;
mod lengths;
mod lines;
mod number;
mod profile;
mod quantile;
mod reader;
mod replay;
mod scale;
mod source;
mod spec;
mod table;
mod vidur;

pub use arrivals::ArrivalSpec;
pub use error::{GenerateError, Problem, TraceError};
pub use figures::{BURSTGPT_HOURLY_MEAN, BURSTGPT_MEAN_TOKENS};
pub use generate::{GenerateSpec, Generator};
pub use lengths::LengthSpec;
pub use number::TOKENS_MAX;
pub use replay::{Counts, Replay};
pub use source::Packing;
pub use spec::{Format, Keep, TraceSpec};
