//! Simulated against measured: errors per metric and group of runs, as text, page, JSON and CSV.

mod files;
mod observed;
mod page;
mod terminal;

pub use files::{validation_csv, validation_json};
pub use observed::Observed;
pub use page::validation_html;
pub use terminal::validation_text;

/// A figure of a run, measured and simulated, in the unit of the metric (SI).
#[derive(Clone, PartialEq, Debug)]
pub struct Pair {
    /// Name of the metric, as [`overbook_sim::summary::Summary::metric`] has it, or `ttft_slope`.
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
    /// How completely it is described: A, B or C.
    pub quality: String,
    /// Whether constants were fitted on it, if there is a list of such runs.
    pub training: Option<bool>,
    /// What was taken to be so.
    pub assumptions: Vec<String>,
    /// Its figures.
    pub pairs: Vec<Pair>,
    /// Running requests over time, measured and simulated, where the former were published.
    pub running: Option<(Curve, Curve)>,
}

impl JudgedRun {
    /// How far off it is: the median of the absolute errors of throughput and mean latencies.
    pub fn distance(&self) -> Option<f64> {
        let main = self.pairs.iter().filter(|pair| HEADLINE.contains(&pair.metric.as_str()));
        quantile(main.filter_map(|pair| pair.error().map(f64::abs)).collect(), 0.5)
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
}

/// What runs are grouped by.
type Key = fn(&JudgedRun) -> &str;

/// The figures that say most about a run.
pub const HEADLINE: [&str; 5] = ["output_throughput", "ttft_mean", "tpot_mean", "itl_mean", "e2el_mean"];

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
        let mut groups = vec![group("all runs".to_owned(), &self.runs.iter().collect::<Vec<_>>())];
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
                let runs: Vec<&JudgedRun> = self.runs.iter().filter(|run| key(run) == name).collect();
                groups.push(group(format!("{kind} {name}"), &runs));
            }
        }
        groups
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

/// A quantile, linear between order statistics; `None` of nothing.
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
