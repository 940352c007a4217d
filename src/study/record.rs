//! What a study keeps of a point that has ended: all that its table, its files and its verdicts are made of. It can be written to a file
//! and read back without any loss, so that points may be run by several processes.

use std::collections::BTreeMap;

use overbook_reports::Status;
use overbook_reports::report::{left_out, put_in_order};
use overbook_reports::summary_json::summary_json;
use overbook_scenarios::Judgement;
use overbook_sim::results::summary::Summary;
use overbook_sim::results::trust::{MeasuredRuns, Standing, Trust};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Study;
use crate::Outcome;

/// What a study keeps of a point.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Whether the run came to its end.
    pub status: Status,
    /// Why it ended before its time by itself, if it did.
    pub halted: Option<String>,
    /// The text of its `summary.json`.
    pub summary: String,
    /// What its figures alone do not say, a sentence each.
    pub remarks: Vec<String>,
    /// What became of the rows of its trace, by [`Workload::rows`](overbook_sim::Workload::rows).
    pub trace_rows: BTreeMap<String, u64>,
    pub(super) targets: Vec<Target>,
    /// Rows of the trace that are not played, and those that `sort` has moved, in words.
    pub(super) left_out: String,
    pub(super) sorted: String,
    /// Every figure that the run defines, in SI units.
    figures: BTreeMap<String, Exact>,
    trusted: Option<Standing>,
    measured: Option<Measured>,
}

/// A target of `slo:`, judged.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) label: String,
    pub(super) bound: String,
    pub(super) got: String,
    /// What came, in SI units; infinite where there is none.
    pub(super) value: Exact,
    pub(super) met: bool,
}

/// The measured runs behind a [`Trust`].
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    confirmed: u32,
    of: u32,
    within: Exact,
    error: Exact,
}

/// A number that is written so that exactly the same one is read: as text.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Exact(pub(super) f64);

impl Exact {
    pub(super) fn total_cmp(self, other: Exact) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Exact, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Exact).map_err(|_| de::Error::custom(format!("{text:?} is not a number")))
    }
}

impl Record {
    /// What is kept of an outcome.
    pub fn of(outcome: &Outcome) -> Record {
        let figure = |name: String| outcome.metric(&name).map(|value| (name, Exact(value)));
        let target = |verdict: &overbook_reports::Verdict| Target {
            label: verdict.label(),
            bound: verdict.target_text(),
            got: verdict.value_text(),
            value: Exact(verdict.value.unwrap_or(f64::INFINITY)),
            met: verdict.met(),
        };
        let trust = outcome.trust.as_ref();
        let measured = |runs: &MeasuredRuns| Measured {
            confirmed: runs.confirmed,
            of: runs.of,
            within: Exact(runs.within),
            error: Exact(runs.error),
        };
        Record {
            status: outcome.status,
            halted: outcome.halted.as_ref().map(ToString::to_string),
            summary: summary_json(&outcome.report("", "")),
            remarks: outcome.remarks.clone(),
            trace_rows: outcome.trace_rows.iter().map(|&(name, rows)| (name.to_owned(), rows)).collect(),
            targets: outcome.verdicts.iter().map(target).collect(),
            left_out: left_out(&outcome.trace_rows),
            sorted: put_in_order(&outcome.trace_rows),
            figures: Summary::metric_names().into_iter().filter_map(figure).collect(),
            trusted: trust.map(|trust| trust.standing.clone()),
            measured: trust.and_then(|trust| trust.runs.as_ref()).map(measured),
        }
    }

    /// A figure by its name, in SI units; `None` if the run does not define it.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.figures.get(name).map(|figure| figure.0)
    }

    /// Every figure that the run defines, by name, in SI units.
    pub fn figures(&self) -> impl Iterator<Item = (&str, f64)> {
        self.figures.iter().map(|(name, figure)| (name.as_str(), figure.0))
    }

    /// Whether no target of `slo:` is missed.
    pub fn keeps_targets(&self) -> bool {
        self.targets.iter().all(|target| target.met)
    }

    /// How far the figures are to be trusted.
    pub fn trust(&self) -> Option<Trust> {
        let runs = self.measured.map(|Measured { confirmed, of, within, error }| MeasuredRuns {
            confirmed,
            of,
            within: within.0,
            error: error.0,
        });
        Some(Trust { standing: self.trusted.clone()?, runs })
    }
}

/// What a study keeps of its points.
#[derive(Clone, PartialEq, Debug)]
pub struct Records {
    /// In the order of the points; `None` of those that have not been run, or could not be.
    pub points: Vec<Option<Record>>,
    /// The figures of `expect:`, judged.
    pub expected: Vec<Judgement>,
}

impl Records {
    /// Those of a study, one for each of its points.
    pub fn new(study: &Study, points: Vec<Option<Record>>) -> Records {
        let lookup = |at: usize, metric: &str| points[at].as_ref()?.metric(metric);
        let expected = study.plan().expectations().iter().map(|expected| expected.judge(&lookup)).collect();
        Records { points, expected }
    }

    /// The record of each point that was not interrupted: a part of a run has no place beside whole ones.
    pub fn whole(&self) -> impl Iterator<Item = Option<&Record>> {
        self.points.iter().map(|record| record.as_ref().filter(|record| record.status != Status::Interrupted))
    }

    /// Whether every point has come to its end.
    pub fn is_complete(&self) -> bool {
        self.points.iter().all(|record| record.as_ref().is_some_and(|record| record.status == Status::Complete))
    }

    /// Whether the study shows what it should. Points that miss a target of `slo:` are what a study looks for; it is judged by what
    /// it expects. Without expectations it is judged by the targets.
    pub fn passes(&self) -> bool {
        if self.expected.is_empty() {
            self.points.iter().flatten().all(Record::keeps_targets)
        } else {
            self.expected.iter().all(|verdict| verdict.passed)
        }
    }
}
