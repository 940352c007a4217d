//! How faithful the simulator is to the engine at hand: one scenario, or several loads of it, run for real and simulated.

mod page;
mod power;
mod text;

use overbook_sim::calibrate::median;
use overbook_sim::calibrate::steps::StepErrors;
use overbook_sim::results::interval::t975;
use overbook_sim::results::rows::Outcome;
use overbook_sim::results::summary::Summary;
use serde::Serialize;
use serde_json::json;

use crate::json;

pub use page::fidelity_html;
pub use power::{Drawn, Power, PowerTrial};
pub use text::fidelity_text;

/// What a figure may differ by, and how much its repeats may leave open before nothing can be said.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Bar {
    /// Largest error that passes.
    pub error: f64,
    /// Most that the repeats may leave open: half of the 95 % confidence interval of their mean, as a share of it.
    pub open: f64,
}

/// The figures that are compared, with their bars; those without a bar are printed and not judged.
pub const FIGURES: [(&str, Option<Bar>); 22] = [
    ("output_throughput", Some(bar(0.02, 0.02))),
    ("request_throughput", Some(bar(0.02, 0.02))),
    ("ttft_mean", Some(bar(0.08, 0.05))),
    ("ttft_p50", None),
    ("ttft_p90", None),
    ("ttft_p99", None),
    ("tpot_mean", Some(bar(0.05, 0.05))),
    ("tpot_p50", Some(bar(0.05, 0.05))),
    ("tpot_p90", None),
    ("tpot_p99", Some(bar(0.10, 0.10))),
    ("itl_mean", None),
    ("itl_p50", Some(bar(0.05, 0.05))),
    ("itl_p90", None),
    ("itl_p99", Some(bar(0.10, 0.10))),
    ("e2el_mean", Some(bar(0.05, 0.05))),
    ("e2el_p50", Some(bar(0.05, 0.05))),
    ("e2el_p90", None),
    ("e2el_p99", Some(bar(0.10, 0.10))),
    ("running_mean", None),
    ("kv_usage_max", None),
    ("preemptions", None),
    ("goodput_fraction", None),
];

/// The figures of a server that only its client sees: times to the first and the last token are the client's, on both sides.
pub const SERVED: [(&str, Option<Bar>); 19] = [
    ("output_throughput", Some(bar(0.03, 0.03))),
    ("request_throughput", Some(bar(0.03, 0.03))),
    ("client_ttft_mean", None),
    ("client_ttft_p50", None),
    ("client_ttft_p90", None),
    ("client_ttft_p99", None),
    ("tpot_mean", Some(bar(0.06, 0.06))),
    ("tpot_p50", None),
    ("tpot_p90", None),
    ("tpot_p99", None),
    ("itl_mean", None),
    ("itl_p50", None),
    ("itl_p99", None),
    ("client_e2el_mean", Some(bar(0.06, 0.06))),
    ("client_e2el_p50", None),
    ("client_e2el_p99", None),
    ("running_mean", None),
    ("kv_usage_max", None),
    ("preemptions", None),
];

const fn bar(error: f64, open: f64) -> Bar {
    Bar { error, open }
}

/// Largest share by which the anchors' median time may differ before the machine counts as another one.
const SPEED: f64 = 0.05;

/// Fewer repeats judge nothing.
pub const REPEATS_MIN: usize = 5;

/// A 99th percentile of fewer requests is their slowest, and no percentile: it is printed and not judged.
pub const TAIL_MIN: u64 = 100;

/// What a comparison shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The error is within the bar.
    Passed,
    /// The engine's own repeats lie too far apart, or its runs are void: nothing can be said.
    Inconclusive,
    /// The error is beyond the bar.
    Failed,
}

impl Finding {
    /// In capitals where it matters.
    pub fn word(self) -> &'static str {
        match self {
            Finding::Passed => "passed",
            Finding::Inconclusive => "inconclusive",
            Finding::Failed => "FAILED",
        }
    }
}

/// One figure, as measured again and again and as simulated.
#[derive(Clone, PartialEq, Debug)]
pub struct Trial {
    /// The metric.
    pub metric: &'static str,
    /// What it may differ by, if it is judged.
    pub bar: Option<Bar>,
    /// Its value in every repeat.
    pub measured: Vec<f64>,
    /// Its value in the simulation.
    pub simulated: f64,
}

/// Simulated ÷ measured − 1; 0 where both are 0.
fn error(simulated: f64, measured: f64) -> f64 {
    let apart = simulated - measured;
    if apart.abs() > 0.0 { apart / measured } else { 0.0 }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard deviation of a sample.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    if values.len() < 2 { 0.0 } else { (squares / (values.len() - 1) as f64).sqrt() }
}

impl Trial {
    /// A figure of these runs and of their simulation; `None` if one of them does not have it.
    pub fn of((metric, bar): (&'static str, Option<Bar>), measured: &[Summary], simulated: &Summary) -> Option<Trial> {
        let finished = measured.iter().map(|summary| summary.count(Outcome::Finished)).min().unwrap_or(0);
        let is_tail = metric.ends_with("_p99") && finished < TAIL_MIN;
        Some(Trial {
            metric,
            bar: bar.filter(|_| !is_tail),
            measured: measured.iter().map(|summary| summary.metric(metric)).collect::<Option<Vec<_>>>()?,
            simulated: simulated.metric(metric)?,
        })
    }

    /// Mean of the repeats.
    pub fn mean(&self) -> f64 {
        mean(&self.measured)
    }

    /// Simulated ÷ mean of the repeats − 1.
    pub fn error(&self) -> f64 {
        error(self.simulated, self.mean())
    }

    /// Coefficient of variation of the measured repeats: what the machine and the engine do by themselves.
    pub fn spread(&self) -> f64 {
        let deviation = deviation(&self.measured);
        if deviation > 0.0 { deviation / self.mean() } else { 0.0 }
    }

    /// Half of the 95 % confidence interval of the measured mean, as a share of it (Student's t).
    pub fn uncertainty(&self) -> f64 {
        let repeats = self.measured.len();
        match repeats {
            0 | 1 => f64::INFINITY,
            _ => t975(repeats - 1) * self.spread() / (repeats as f64).sqrt(),
        }
    }

    /// The judgement, if it is judged: nothing is said where the repeats leave more open than they may.
    pub fn finding(&self) -> Option<Finding> {
        let bar = self.bar?;
        Some(if self.measured.len() < REPEATS_MIN || self.uncertainty() > bar.open {
            Finding::Inconclusive
        } else if self.error().abs() <= bar.error {
            Finding::Passed
        } else {
            Finding::Failed
        })
    }
}

/// One scenario (a load, say), run for real and simulated.
#[derive(Clone, PartialEq, Debug)]
pub struct FidelityPoint {
    /// What sets it apart from the others.
    pub name: String,
    /// Hash of its plan, and its seed.
    pub plan: String,
    /// Its seed.
    pub seed: u64,
    /// Why some of its runs are void, although they were made again.
    pub void: Vec<String>,
    /// Void runs that were made again.
    pub again: usize,
    /// BLAKE3 of the steps of each run, shapes and times.
    pub runs: Vec<String>,
    /// Steps and requests that were replayed, and how many differ.
    pub replayed: [usize; 3],
    /// Errors of predicted steps, the shapes being those that the engine ran.
    pub steps: Vec<StepErrors>,
    /// Figures of whole runs.
    pub trials: Vec<Trial>,
    /// What they drew.
    pub power: Power,
}

impl FidelityPoint {
    /// The worst judgement of its figures; a void run says nothing.
    pub fn finding(&self) -> Finding {
        let findings = self.trials.iter().filter_map(Trial::finding).chain(self.power.findings());
        let worst = findings.max().unwrap_or(Finding::Inconclusive);
        if self.replayed[2] > 0 {
            Finding::Failed
        } else if self.void.is_empty() {
            worst
        } else {
            Finding::Inconclusive
        }
    }
}

/// What the simulator knew, and how it is shown not to be what it is judged by.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Calibrated {
    /// Name of the profile.
    pub profile: String,
    /// BLAKE3 of the profile.
    pub profile_blake3: String,
    /// BLAKE3 of the steps that it was fitted to.
    pub samples_blake3: String,
    /// Seed of those.
    pub seed: u64,
    /// What of the scenario lies outside of its range.
    pub outside: Vec<String>,
}

/// A comparison of the simulator with the engine at hand.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Fidelity {
    /// What was run.
    pub title: String,
    /// On what.
    pub device: String,
    /// How the simulator came to its step costs.
    pub cost: String,
    /// Its profile, if that is how.
    pub calibrated: Option<Calibrated>,
    /// How much slower the machine was before each run than when the profile was measured, by the same few steps; empty if the
    /// profile has none.
    pub slower: Vec<f64>,
    /// The scenarios.
    pub points: Vec<FidelityPoint>,
    /// How often each was run for real.
    pub repeats: usize,
    /// What makes the same again.
    pub command: String,
    /// Name and version of the tool.
    pub tool: String,
    /// When it was measured.
    pub measured: String,
}

impl Fidelity {
    /// The worst of its points. If the machine is not the one that was measured, nothing is shown.
    pub fn finding(&self) -> Finding {
        self.points.iter().map(|point| self.point_finding(point)).max().unwrap_or(Finding::Inconclusive)
    }

    /// What a point shows.
    pub fn point_finding(&self, point: &FidelityPoint) -> Finding {
        match point.finding() {
            finding if point.replayed[2] > 0 => finding,
            _ if self.has_changed() => Finding::Inconclusive,
            finding => finding,
        }
    }

    /// What a figure of a point shows, if it is judged.
    pub fn figure_finding(&self, point: &FidelityPoint, trial: &Trial) -> Option<Finding> {
        trial.finding().map(|finding| self.unless_void(point, finding))
    }

    /// A finding on a point, as far as its runs say anything.
    fn unless_void(&self, point: &FidelityPoint, finding: Finding) -> Finding {
        if self.has_changed() || !point.void.is_empty() { Finding::Inconclusive } else { finding }
    }

    /// Whether the machine's speed has changed since the profile was measured.
    pub fn has_changed(&self) -> bool {
        median(&mut self.slower.clone()).abs() > SPEED
    }

    /// The machine's speed in words.
    pub fn speed(&self) -> String {
        let (least, most) = self.slower.iter().fold((f64::MAX, f64::MIN), |(l, m), v| (v.min(l), v.max(m)));
        let verdict = if self.has_changed() {
            "it has CHANGED since the profile was measured: calibrate again"
        } else {
            "as when the profile was measured"
        };
        format!(
            "the profile's anchors took {} time before the runs ({} to {}), {verdict}",
            signed(median(&mut self.slower.clone())),
            signed(least),
            signed(most)
        )
    }

    /// How many figures passed, were inconclusive, failed.
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        let figures = self.points.iter().flat_map(|point| point.trials.iter().map(move |trial| (point, trial)));
        for finding in figures.filter_map(|(point, trial)| self.figure_finding(point, trial)) {
            counts[finding as usize] += 1;
        }
        for point in &self.points {
            point.power.findings().for_each(|finding| counts[self.unless_void(point, finding) as usize] += 1);
        }
        counts
    }
}

/// A share in percent, signed.
pub(crate) fn signed(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

/// `fidelity.json`: one document.
pub fn fidelity_json(fidelity: &Fidelity) -> String {
    let trial = |point: &FidelityPoint, trial: &Trial| {
        json!({
            "metric": trial.metric,
            "simulated": trial.simulated,
            "measured": trial.measured,
            "mean": trial.mean(),
            "error": trial.error(),
            "uncertainty": trial.uncertainty(),
            "spread": (trial.measured.len() > 1).then(|| trial.spread()),
            "bar": trial.bar,
            "finding": fidelity.figure_finding(point, trial),
        })
    };
    let point = |point: &FidelityPoint| {
        let [steps, requests, differences] = point.replayed;
        json!({
            "name": point.name,
            "plan_hash": point.plan,
            "seed": point.seed,
            "finding": fidelity.point_finding(point),
            "void": point.void,
            "made_again": point.again,
            "runs_blake3": point.runs,
            "replay": { "steps": steps, "requests": requests, "differences": differences },
            "steps": point.steps,
            "figures": point.trials.iter().map(|figure| trial(point, figure)).collect::<Vec<_>>(),
            "power": power::value(
                &point.power,
                |finding| fidelity.unless_void(point, finding),
                |figure| trial(point, figure),
            ),
        })
    };
    let [passed, inconclusive, failed] = fidelity.counts();
    let document = json!({
        "title": fidelity.title,
        "finding": fidelity.finding(),
        "figures": { "passed": passed, "inconclusive": inconclusive, "failed": failed },
        "device": fidelity.device,
        "cost": fidelity.cost,
        "calibrated": fidelity.calibrated,
        "slower": fidelity.slower,
        "repeats": fidelity.repeats,
        "points": fidelity.points.iter().map(point).collect::<Vec<_>>(),
        "command": fidelity.command,
        "tool": fidelity.tool,
        "measured": fidelity.measured,
    });
    json::document(&document)
}

#[cfg(test)]
mod tests;
