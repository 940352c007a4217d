//! What a run leaves behind: the run directory with its Parquet, JSON and HTML files, and the summary on the terminal.
//!
//! Nothing here computes new figures: [`overbook_sim::results::summary::Summary`] has them all. The library never prints; the same
//! input gives the same bytes, except for the manifest, which alone holds facts of the wall clock.
//!
//! ```
//! use overbook_reports::{Report, RunDir, Status, Verdict, terminal};
//! use overbook_reports::summary_json::summary_json;
//! use overbook_sim::{Arrival, Cluster, ClusterSpec, Constant, Cost, Discard, StepCost, Time, Workload, WorkloadError};
//!
//! # struct Even(u64);
//! # impl Workload for Even {
//! #     fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
//! #         self.0 += 1;
//! #         Ok((self.0 <= 20).then(|| Arrival::new(Time(self.0 * 100_000_000), 500, 50)))
//! #     }
//! #     fn classes(&self) -> &[String] {
//! #         &[]
//! #     }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Any run will do; here twenty requests on one replica, whose steps take 12 ms.
//! let mut cost = Constant(StepCost { device: Cost::from_us(12_000.0), host: Cost::from_us(0.0) });
//! let run = Cluster::new(ClusterSpec::default())?.run(&mut Even(0), &mut cost, &mut Discard, &mut |_| true)?;
//!
//! let report = Report {
//!     title: "Twenty requests".to_owned(),
//!     status: Status::Complete,
//!     verdicts: vec![Verdict::at_most("ttft_p99", 0.5, &run.summary)],
//!     summary: run.summary,
//!     timeline: run.timeline,
//!     traffic: None,
//!     recorded_traffic: None,
//!     clock: None,
//!     assumptions: vec![("Step cost".to_owned(), "12 ms".to_owned())],
//!     remarks: Vec::new(),
//!     trust: None,
//!     trace_rows: Vec::new(),
//!     calibration: "constant step cost; no hardware is modelled".to_owned(),
//!     command: String::new(),
//!     tool: "an example".to_owned(),
//!     directory: String::new(),
//! };
//! assert!(report.all_met());
//! println!("{}", terminal::summary(&report, false));
//!
//! # let folder = tempfile::tempdir()?;
//! # let target = folder.path().join("run");
//! // Files are written aside; `finish` (with a manifest) moves them into place.
//! let dir = RunDir::create(&target, false)?;
//! dir.write("summary.json", summary_json(&report))?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod axes;
pub mod columns;
pub mod compare;
pub mod dialect;
mod economics;
mod error;
pub mod fidelity;
pub mod figure;
pub mod format;
pub mod html;
mod json;
mod kv_traffic;
mod limiter;
pub mod manifest;
mod markdown;
mod outages;
pub mod parquet;
pub mod perfetto;
pub mod plan;
pub mod points;
mod pools;
mod power;
pub mod read;
pub mod report;
mod retained;
pub mod run_dir;
mod sessions;
pub mod sheet;
mod speculation;
pub mod study;
pub mod summary_json;
mod table;
pub mod terminal;
mod tornado;
pub mod validation;
mod worst;

pub use dialect::Dialect;
pub use error::ReportError;
pub use manifest::{Manifest, Status};
pub use read::RunData;
pub use report::{Report, Traffic, TrafficScale, Verdict};
pub use run_dir::RunDir;

#[cfg(test)]
mod sample;
