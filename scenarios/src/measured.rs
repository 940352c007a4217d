//! Measured runs of real engines: a folder with `runs.csv`, one row per run (conditions and results), and per-request and
//! engine-state tables beside it. A run's conditions become an ordinary scenario, or a named gap.
//!
//! ```text
//! runs.csv ──read──► MeasuredRun ──scenario()──► Imitation: a scenario and what was assumed
//!                        └ figure(), requests(), series()    └► or Gap: the piece that is missing
//! ```

mod conditions;
mod constants;
mod data_sets;
mod engine;
mod fit;
mod gap;
mod limits;
mod table;
mod words;
mod workload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use conditions::Imitation;
pub use constants::{Constants, ConstantsError, Drawing, Fitted};
pub use gap::Gap;
pub(crate) use limits::{ASYNC_SINCE, vllm_limits};
pub use table::MeasuredTable;
pub use workload::Window;

/// Why a folder of measured runs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MeasuredError {
    /// A file cannot be opened or unpacked.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not a CSV table.
    #[error("{}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: csv::Error,
    },
    /// A column that every row must have is not there.
    #[error("{}: no column `{column}`", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
    },
}

/// Latencies of one request [s].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Latencies {
    /// To the first token.
    pub ttft: f64,
    /// Per token after it; none of a single token.
    pub tpot: Option<f64>,
    /// To the last token.
    pub e2el: f64,
}

/// One measured run: its row of `runs.csv`. An empty cell is "not measured" or "not published", never zero.
#[derive(Clone, PartialEq, Debug)]
pub struct MeasuredRun {
    folder: PathBuf,
    cells: BTreeMap<String, String>,
}

impl MeasuredRun {
    /// All runs of a folder, in the order of `runs.csv`.
    ///
    /// # Errors
    /// `runs.csv` cannot be read.
    pub fn read(folder: &Path) -> Result<Vec<MeasuredRun>, MeasuredError> {
        let path = folder.join("runs.csv");
        let table = MeasuredTable::read(&path)?;
        for column in ["run_id", "set", "engine", "model", "gpu"] {
            if table.column(column).is_none() {
                return Err(MeasuredError::Column { path, column });
            }
        }
        let run = |row: &Vec<String>| {
            let cells = table.header.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
            let cells = cells.map(|(name, cell)| (name.clone(), cell.clone())).collect();
            MeasuredRun { folder: folder.to_owned(), cells }
        };
        Ok(table.rows.iter().map(run).collect())
    }

    /// Name of the run.
    pub fn id(&self) -> &str {
        self.text("run_id")
    }

    /// A cell; empty where nothing is known.
    pub fn text(&self, column: &str) -> &str {
        self.cells.get(column).map_or("", String::as_str)
    }

    /// A cell as a number, if it is one.
    pub fn number(&self, column: &str) -> Option<f64> {
        self.cells.get(column)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// A cell as a whole number, if it is one.
    pub(crate) fn whole(&self, column: &str) -> Option<u64> {
        self.number(column).filter(|number| *number >= 0.0 && number.fract() == 0.0).map(|number| number as u64)
    }

    /// A published figure by the name that [`overbook_sim::results::summary::Summary::metric`] has for it, in the same unit; and
    /// `preemption_rate` [1/s].
    pub fn figure(&self, metric: &str) -> Option<f64> {
        if metric == "preemption_rate" {
            let stated = self.text("notes").split("preemption rate ").nth(1)?;
            return stated.split("/s").next()?.parse().ok();
        }
        if metric.starts_with("itl_") && self.itl_contradicts() {
            return None;
        }
        let (column, scale) = words::column_of(metric)?;
        self.number(&column).map(|value| value * scale)
    }

    /// Whether the mean gap between tokens, times their number, is more than a tenth off the time between first and last token:
    /// what was measured contradicts itself then, and the gaps are not compared.
    pub fn itl_contradicts(&self) -> bool {
        let stated = self.number("output_tokens_total").zip(self.number("n_requests"));
        let described = || words::number(self.text("output_spec")).map(f64::from);
        let tokens = stated.map(|(tokens, requests)| tokens / requests).or_else(described);
        let means = self.number("itl_mean_ms").zip(self.number("e2e_mean_ms")).zip(self.number("ttft_mean_ms"));
        let of_gaps = means.zip(tokens).map(|(((itl, e2e), ttft), tokens)| itl * (tokens - 1.0) / (e2e - ttft));
        of_gaps.is_some_and(|share| (share - 1.0).abs() > 0.1)
    }

    /// The run whose results stand here too, to the digit, though it was of another model on more GPUs: one of the two tables was
    /// copied over the other.
    pub fn copied_from<'a>(&self, runs: &'a [MeasuredRun]) -> Option<&'a str> {
        let same = |other: &MeasuredRun| {
            ["set", "prompt_spec", "output_spec", "output_tok_per_s"].iter().all(|c| self.text(c) == other.text(c))
        };
        let larger = |other: &MeasuredRun| {
            self.text("model") != other.text("model") && self.number("n_gpus") < other.number("n_gpus")
        };
        let known = !self.text("output_tok_per_s").is_empty();
        runs.iter().find(|other| known && larger(other) && same(other)).map(MeasuredRun::id)
    }

    /// Where its requests are, one a row, if they were published.
    pub fn requests(&self) -> Option<PathBuf> {
        self.beside("requests")
    }

    /// Where its engine state over time is, if it was published.
    pub fn series(&self) -> Option<PathBuf> {
        self.beside("series")
    }

    /// (Arrival, time to first token) [s] of every request that has both.
    pub fn ttft_by_arrival(&self) -> Option<Vec<(f64, f64)>> {
        points(&self.requests()?, "arrival_s", "ttft_s")
    }

    /// (Time [s], level) of `running`, `waiting` or `kv_usage` (0 to 1), if it was published.
    pub fn level_over_time(&self, level: &str) -> Option<Vec<(f64, f64)>> {
        points(&self.series()?, "t_s", level)
    }

    /// Its requests in order of arrival, if all three latencies were published.
    pub fn latencies(&self) -> Option<Vec<Latencies>> {
        let table = MeasuredTable::read(&self.requests()?).ok()?;
        let columns = ["arrival_s", "ttft_s", "tpot_s", "e2e_s"];
        let [arrivals, ttft, tpot, e2el] = columns.map(|column| table.numbers(column));
        let rows = arrivals?.into_iter().zip(ttft?).zip(tpot?).zip(e2el?);
        let row = |(((arrival, ttft), tpot), e2el)| Some((arrival?, Latencies { ttft: ttft?, tpot, e2el: e2el? }));
        let mut rows: Vec<(f64, Latencies)> = rows.map(row).collect::<Option<_>>()?;
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        Some(rows.into_iter().map(|(_, latencies)| latencies).collect())
    }

    fn beside(&self, kind: &str) -> Option<PathBuf> {
        let path = self.folder.join(kind).join(format!("{}.csv.zst", self.id()));
        (self.text(&format!("has_{kind}")) == "1" && path.is_file()).then_some(path)
    }
}

/// Two columns of a table, where both are numbers; `None` if there are none.
fn points(path: &Path, x: &str, y: &str) -> Option<Vec<(f64, f64)>> {
    let table = MeasuredTable::read(path).ok()?;
    let (x, y) = (table.numbers(x)?, table.numbers(y)?);
    let points: Vec<_> = x.into_iter().zip(y).filter_map(|(x, y)| x.zip(y)).collect();
    (!points.is_empty()).then_some(points)
}
