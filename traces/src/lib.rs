//! Workloads for Overbook: recorded traces replayed, and synthetic ones generated.
//!
//! Both become a [`Workload`](overbook_sim::workload::arrival::Workload), a lazy source of requests in order of arrival; one
//! request is in memory at a time, whatever the length of the trace.
//!
//! ```text
//! TraceSpec ─open─► source ─► lines ─► table, json ─► burstgpt | azure | vidur ─► reader ─► replay ──────┐
//!                   unpack    blocks   fields         mooncake | columns          window,   rebase,      │
//!                                                     decode a row                filter,   repeat,      ├─► Workload
//!                                                                                 redraw,   superpose,   │     │
//!                                                                                 skip,     cells,       │     ▼
//!                                                                                 take,     compress     │  burstiness
//!                                                                                 clip                   │
//!                    of_sessions ─► agents (kv-cache-tester): what waits for what, open sessions ────────┤
//! GenerateSpec ─open─► arrivals (steady | profile), lengths (dist, quantile), sessions ─► generate ──────┤
//! PopulationSpec ─open─► rates, lengths of clients ─► merge ─► population ───────────────────────────────┘
//! ```
//!
//! ```
//! use overbook_sim::workload::arrival::Workload;
//! use overbook_traces::{TraceSpec, burstiness};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("trace.csv");
//! std::fs::write(&path, "arrived_at,num_prefill_tokens,num_decode_tokens\n10.0,800,200\n10.5,120,40\n14.0,60,300\n")?;
//! let trace = TraceSpec { time_scale: Some(2.0), ..TraceSpec::new(&path) };
//!
//! // The first request arrives at time zero; played twice as fast the second comes a quarter of a second later.
//! let mut workload = trace.open()?;
//! let first = workload.next_arrival()?.expect("three requests");
//! let second = workload.next_arrival()?.expect("three requests");
//! assert_eq!((first.at.0, second.at.0), (0, 250_000_000));
//! assert_eq!((second.prompt_tokens, second.output_tokens), (120, 40));
//!
//! let stats = burstiness(&mut *trace.open()?)?;
//! assert_eq!(stats.requests, 3);
//! println!("{stats}");
//! # Ok(())
//! # }
//! ```
//!
//! * [`TraceSpec`], [`GenerateSpec`] and [`PopulationSpec`] are what a scenario says. `problems()` lists all that is wrong with the values,
//!   each with its dotted path, before anything is opened.
//! * A [`TraceError`] names file, line and column, what was expected and found, and what to do. A file that is wrong
//!   from the start fails when opened, not in mid-run.
//! * Times are integers from the first digit on: no timestamp passes through a float.
//! * [`burstiness()`] says how bursty a workload is: peak over mean, index of dispersion, gap CV, lengths.
//! * The `burstgpt` arrivals and lengths are generators with constants from the real trace; hourly counts, the share of
//!   failures and conversation lengths are measured, the tail of API lengths is fitted, the rest says "inferred" in its
//!   documentation. With the real files at hand, replay them with [`TraceSpec`].
//! * [`Guess`] says what an unknown log probably means, and what of it must be mended.
//! * A Parquet file is a table as well: the columns that are wanted are decoded, batch by batch.
//! * [`Held`] keeps a workload in memory, to be played by many runs that have it in common.
//! * [`write_requests`] writes any workload as a trace; [`Metrics`] reads one off a server's counters and histograms.
//! * With the feature `frames`: `TraceFrame` holds a whole trace as a polars table, `TraceFit` fits a generator to it.
//! * A generator draws each purpose from its own stream of one seed, so changing lengths never moves an arrival.
#![forbid(unsafe_code)]

mod agents;
mod arrivals;
mod azure;
mod bounded;
mod burstgpt;
mod burstgpt_hours;
mod burstiness;
mod busiest;
mod cells;
mod clock;
mod columnar;
mod columns;
mod counts;
mod csv;
mod datetime;
mod decoder;
mod dist;
mod document;
mod draw;
mod error;
mod export;
mod fault;
mod figures;
#[cfg(feature = "frames")]
mod fit;
mod format;
#[cfg(feature = "frames")]
mod frame;
mod generate;
mod growth;
mod guess;
mod header;
mod held;
mod inspect;
mod json;
mod keep;
mod layout;
mod lengths;
mod lines;
mod load;
mod mix;
mod mooncake;
mod number;
mod outcome;
mod packing;
mod per_replica;
mod places;
mod population;
mod preset;
mod profile;
mod prometheus;
mod quantile;
mod quote;
mod reader;
mod redraw;
mod repeats;
mod replay;
mod rows;
mod scale;
mod session;
mod session_spec;
mod sessions;
mod significant;
mod sorted;
mod source;
mod spec;
mod superpose;
mod table;
mod timed;
mod transcripts;
mod usage;
mod vidur;
mod week;

pub use agents::SessionReplay;
pub use arrivals::{ArrivalSpec, GapFamily};
pub use bounded::Bounded;
pub use burstgpt_hours::{BURSTGPT_1_HOURLY, BURSTGPT_1_HOURS};
pub use burstiness::{Bins, BurstStats, Burstiness, SessionStats, Tapped, burstiness};
pub use busiest::{Stretch, busiest};
pub use clock::Clock;
pub use columns::Columns;
pub use counts::Counts;
pub use dist::LengthDist;
pub use error::{GenerateError, Problem, TraceError};
pub use export::{ExportError, Extra, Layout, write_requests};
pub use fault::LeftOut;
pub use figures::{BURSTGPT_FAILURES, BURSTGPT_HOURLY_MEAN, BURSTGPT_MEAN_TOKENS, BURSTGPT_SHAPE};
#[cfg(feature = "frames")]
pub use fit::{
    ArrivalFit, ClassFit, Compared, Counts as LengthCounts, FitError, GAPS_MIN, GapFit, Gaps, LengthFamily, LengthFit,
    SessionFit, TraceFit, compare,
};
pub use format::Format;
#[cfg(feature = "frames")]
pub use frame::{By, FrameError, Groups, TraceFrame};
pub use generate::{GenerateSpec, Generator};
pub use growth::Growth;
pub use guess::{Choice, Guess, Hints};
pub use held::{Held, Playback};
pub use inspect::{Inspection, RowFault};
pub use keep::Keep;
pub use lengths::{Keeps, LengthSpec};
pub use load::{Failures, LeaveOut, ScaleSpec, Window};
pub use mix::ClassLengths;
pub use number::{TOKENS_MAX, TimeUnit};
pub use packing::Packing;
pub use per_replica::PerReplica;
pub use places::Lines;
pub use population::{MissingLengths, Population, PopulationClasses, PopulationSpec};
pub use prometheus::{BucketFit, Metrics, MetricsError, MetricsFit, MetricsOptions};
pub use repeats::{RepeatOrder, RepeatSpec};
pub use replay::Replay;
pub use session_spec::{Pace, SessionTraceSpec};
pub use sessions::SessionSpec;
pub use spec::TraceSpec;
pub use transcripts::TranscriptSpec;
pub use usage::Usage;
pub use week::WeekSpec;
