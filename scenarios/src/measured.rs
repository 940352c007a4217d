//! Measured runs of real engines: a folder with `runs.csv`, one row per run (conditions and results), and per-request and
//! engine-state tables beside it. A run's conditions become an ordinary scenario, or a named gap.
//!
//! ```text
//! runs.csv ──read──► MeasuredRun ──scenario()──► Imitation: a scenario and what was assumed
//!                        └ figure(), requests(), series()    └► or Gap: the piece that is missing
//! ```

mod conditions;
mod constants;
mod engine;
mod table;
mod words;
mod workload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use conditions::{Gap, Imitation};
pub use table::MeasuredTable;

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

    /// A published figure by the name that [`overbook_sim::summary::Summary::metric`] has for it, in the same unit.
    pub fn figure(&self, metric: &str) -> Option<f64> {
        let (column, scale) = words::column_of(metric)?;
        self.number(&column).map(|value| value * scale)
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

    /// (Time [s], running requests), if it was published.
    pub fn running_over_time(&self) -> Option<Vec<(f64, f64)>> {
        points(&self.series()?, "t_s", "running")
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
