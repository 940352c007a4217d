//! Simulated against measured: errors per metric and group of runs, as text, page, JSON and CSV.

mod files;
mod loss;
mod observed;
mod page;
mod table;
mod terminal;

pub use files::{validation_csv, validation_json};
pub use observed::{Observed, Part, Window};
pub use page::validation_html;
pub use table::validation_parquet;
pub use terminal::validation_text;

/// A figure of a run, measured and simulated, in the unit of the metric (SI).
#[derive(Clone, PartialEq, Debug)]
pub struct Pair {
    /// Name of the metric, as [`overbook_sim::results::summary::Summary::metric`] has it, or `ttft_slope`.
    pub metric: String,
    /// What was published.
    pub measured: f64,
    /// What the simulator says.
    pub simulated: f64,
}

impl Pair {
    /// Relative error, simulated / measured - 1; `None` where nothing was measured to be there.
    pub fn error(&self) -> Option<f64> {
        (self.measured != 0.0).then(|| self.simulated / self.measured - 1.0)
    }
}

/// Levels over time, for a figure: (time [s], value).
pub type Curve = Vec<(f64, f64)>;

/// A level over time, for a figure.
#[derive(Clone, PartialEq, Debug)]
pub struct Level {
    /// Its name.
    pub label: String,
    /// As published.
    pub measured: Curve,
    /// As simulated.
    pub simulated: Curve,
}

/// A run that was simulated.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct JudgedRun {
    /// Its name.
    pub id: String,
    /// The set that it belongs to.
    pub set: String,
    /// Engine and version.
    pub engine: String,
    /// The GPU.
    pub gpu: String,
    /// The model.
    pub model: String,
    /// How loaded it was.
    pub load: String,
    /// How completely it is described: A, B or C; `B, lengths of the data set` where the run names a data set whose lengths others published.
    pub quality: String,
    /// Whether constants were fitted on it, if there is a list of such runs.
    pub training: Option<bool>,
    /// What was taken to be so.
    pub assumptions: Vec<String>,
    /// Its figures.
    pub pairs: Vec<Pair>,
    /// Levels over time, where they were published.
    pub levels: Vec<Level>,
    /// Only a part of a run, which stands for itself elsewhere in the list.
    pub is_part: bool,
}

impl JudgedRun {
    /// How far off it is: the median of the absolute errors of throughput and mean latencies.
    pub fn distance(&self) -> Option<f64> {
        quantile(self.headline().filter_map(|pair| pair.error().map(f64::abs)).collect(), 0.5)
    }

    /// Relative errors, without sign, of mean TTFT, of mean TPOT (else of the time between tokens), of the mean end-to-end time and of throughput.
    pub fn figure_errors(&self) -> [Option<f64>; 4] {
        let of = |metric: &str| self.pairs.iter().find(|pair| pair.metric == metric)?.error().map(f64::abs);
        [of("ttft_mean"), of("tpot_mean").or_else(|| of("itl_mean")), of("e2el_mean"), of("output_throughput")]
    }

    /// Its figures that are among [`HEADLINE`].
    pub fn headline(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(|pair| HEADLINE.contains(&pair.metric.as_str()))
    }
}

/// A run that was not simulated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissedRun {
    /// Its name.
    pub id: String,
    /// The set that it belongs to.
    pub set: String,
    /// A, B or C.
    pub quality: String,
    /// The missing piece.
    pub missing: String,
}

/// All of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Validation {
    /// Version of the tool.
    pub tool: String,
    /// The command that makes it again.
    pub command: String,
    /// Runs that were simulated.
    pub runs: Vec<JudgedRun>,
    /// Runs that were not.
    pub missed: Vec<MissedRun>,
    /// Errors of sets with constants that were fitted without them, if they were.
    pub left_out: Vec<ErrorGroup>,
}

/// What runs are grouped by.
type Key = fn(&JudgedRun) -> &str;

/// The figures that say most about a run.
pub const HEADLINE: [&str; 5] = ["output_throughput", "ttft_mean", "tpot_mean", "itl_mean", "e2el_mean"];

/// Goals for completely described runs that nothing was fitted on: metric, largest median and largest ninth decile of the
/// absolute errors.
pub const GOALS: [(&str, f64, f64); 5] = [
    ("output_throughput", 0.04, 0.12),
    ("ttft_mean", 0.12, 0.30),
    ("tpot_mean", 0.06, 0.15),
    ("itl_mean", 0.06, 0.15),
    ("e2el_mean", 0.06, 0.15),
];

/// Errors of one metric over a group of runs.
#[derive(Clone, PartialEq, Debug)]
pub struct ErrorRow {
    /// The metric.
    pub metric: String,
    /// Runs that have it.
    pub runs: usize,
    /// Median of the relative errors with their sign.
    pub bias: f64,
    /// Median of the absolute relative errors.
    pub median: f64,
    /// Nine of ten are at most so large.
    pub p90: f64,
}

/// A group of runs and the errors in it.
#[derive(Clone, PartialEq, Debug)]
pub struct ErrorGroup {
    /// What the runs have in common: `set vtc`.
    pub name: String,
    /// Runs in it.
    pub runs: usize,
    /// A row for each metric that at least one run has.
    pub rows: Vec<ErrorRow>,
}

impl Validation {
    /// Errors over all runs, of those that constants were fitted on and the others, then by quality, set, GPU and load class, each in the order in which they appear.
    pub fn groups(&self) -> Vec<ErrorGroup> {
        let whole: Vec<&JudgedRun> = self.runs.iter().filter(|run| !run.is_part).collect();
        let mut groups = vec![group("all runs".to_owned(), &whole)];
        for (name, kind) in [("training runs", true), ("held-out runs", false)] {
            let runs: Vec<&JudgedRun> = self.runs.iter().filter(|run| run.training == Some(kind)).collect();
            if !runs.is_empty() {
                groups.push(group(name.to_owned(), &runs));
            }
        }
        let keys: [(&str, Key); 4] = [
            ("quality", |run| &run.quality),
            ("set", |run| &run.set),
            ("GPU", |run| &run.gpu),
            ("load", |run| &run.load),
        ];
        for (kind, key) in keys {
            let mut names: Vec<&str> = Vec::new();
            for run in &self.runs {
                if !names.contains(&key(run)) {
                    names.push(key(run));
                }
            }
            for name in names {
                let runs: Vec<&JudgedRun> = whole.iter().copied().filter(|run| key(run) == name).collect();
                groups.push(group(format!("{kind} {name}"), &runs));
            }
        }
        groups.extend(self.left_out.iter().cloned());
        groups
    }

    /// Errors of the completely described runs (grade A) that nothing was fitted on: of all that were not, without a list of training runs.
    pub fn complete(&self) -> ErrorGroup {
        let told = |run: &&JudgedRun| run.quality == "A" && run.training.map_or(!run.is_part, |training| !training);
        group("quality A, nothing fitted".to_owned(), &self.runs.iter().filter(told).collect::<Vec<_>>())
    }

    /// Errors of such runs.
    pub fn group(name: String, runs: &[JudgedRun]) -> ErrorGroup {
        group(name, &runs.iter().collect::<Vec<_>>())
    }

    /// Runs that were simulated, without those that are a part of another.
    pub fn simulated(&self) -> usize {
        self.runs.iter().filter(|run| !run.is_part).count()
    }

    /// The runs, the worst first; those without any headline figure at the end.
    pub fn worst_first(&self) -> Vec<&JudgedRun> {
        let mut runs: Vec<&JudgedRun> = self.runs.iter().collect();
        let distance = |run: &JudgedRun| run.distance().unwrap_or(-1.0);
        runs.sort_by(|a, b| distance(b).total_cmp(&distance(a)).then_with(|| a.id.cmp(&b.id)));
        runs
    }

    /// Missing pieces with the runs that miss them, the most frequent first.
    pub fn gaps(&self) -> Vec<(&str, Vec<&MissedRun>)> {
        let mut gaps: Vec<(&str, Vec<&MissedRun>)> = Vec::new();
        for run in &self.missed {
            match gaps.iter_mut().find(|(missing, _)| *missing == run.missing) {
                Some((_, runs)) => runs.push(run),
                None => gaps.push((&run.missing, vec![run])),
            }
        }
        gaps.sort_by_key(|(_, runs)| std::cmp::Reverse(runs.len()));
        gaps
    }
}

fn group(name: String, runs: &[&JudgedRun]) -> ErrorGroup {
    let mut metrics: Vec<&str> = HEADLINE.to_vec();
    for pair in runs.iter().flat_map(|run| &run.pairs) {
        if !metrics.contains(&pair.metric.as_str()) {
            metrics.push(&pair.metric);
        }
    }
    let row = |metric: &str| {
        let pairs = runs.iter().filter_map(|run| run.pairs.iter().find(|pair| pair.metric == metric));
        let errors: Vec<f64> = pairs.filter_map(Pair::error).collect();
        let absolute: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
        Some(ErrorRow {
            metric: metric.to_owned(),
            runs: errors.len(),
            bias: quantile(errors, 0.5)?,
            median: quantile(absolute.clone(), 0.5)?,
            p90: quantile(absolute, 0.9)?,
        })
    };
    ErrorGroup { rows: metrics.into_iter().filter_map(row).collect(), runs: runs.len(), name }
}

/// A quantile, linear between order statistics; `None` without values.
fn quantile(mut values: Vec<f64>, p: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let place = p * (values.len().checked_sub(1)? as f64);
    let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

/// An error in percent with its sign: `+3.2 %`.
fn percent(error: f64) -> String {
    format!("{:+.1} %", error * 100.0)
}

/// A share in percent without a sign.
fn share(error: f64) -> String {
    format!("{:.1} %", error * 100.0)
}

#[cfg(test)]
mod tests;
