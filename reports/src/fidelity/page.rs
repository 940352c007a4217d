//! `fidelity.html`: one self-contained page.

use askama::Template;

use super::{Fidelity, FidelityPoint, Power, Trial, power, signed};
use crate::ReportError;
use crate::format::{Unit, label};

struct PointView<'a> {
    point: &'a FidelityPoint,
    finding: &'static str,
    /// Of, steps, mean error, p95, bias.
    steps: Vec<[String; 5]>,
    /// Metric, measured, simulated, error, what is open, spread, bar, finding.
    figures: Vec<[String; 8]>,
    /// Lines on power.
    power: Vec<String>,
}

#[derive(Template)]
#[template(path = "fidelity.html")]
struct Page<'a> {
    fidelity: &'a Fidelity,
    finding: &'static str,
    counts: [usize; 3],
    /// Load by load: name, finding, and the errors of the headline figures.
    summary: Vec<Vec<String>>,
    points: Vec<PointView<'a>>,
}

/// Figures of the table on top.
const HEADLINE: [&str; 6] = ["output_throughput", "ttft_mean", "tpot_mean", "itl_p99", "e2el_mean", "e2el_p99"];

/// The page: a line per load, then everything about each.
///
/// # Errors
/// The template fails, which no input should make it do.
pub fn fidelity_html(fidelity: &Fidelity) -> Result<String, ReportError> {
    let page = Page {
        fidelity,
        finding: fidelity.finding().word(),
        counts: fidelity.counts(),
        summary: fidelity.points.iter().map(|point| line(fidelity, point)).collect(),
        points: fidelity.points.iter().map(|point| view(fidelity, point)).collect(),
    };
    Ok(page.render()?)
}

fn line(fidelity: &Fidelity, point: &FidelityPoint) -> Vec<String> {
    let error = |metric: &str| {
        let trial = point.trials.iter().find(|trial| trial.metric == metric);
        trial.map_or_else(|| "–".to_owned(), |trial| signed(trial.error()))
    };
    let head = [point.name.clone(), fidelity.point_finding(point).word().to_owned()];
    head.into_iter().chain(HEADLINE.map(error)).chain(power::headline(&point.power)).collect()
}

fn view<'a>(fidelity: &Fidelity, point: &'a FidelityPoint) -> PointView<'a> {
    let steps = point.steps.iter().map(|errors| {
        [
            errors.of.clone(),
            errors.steps.to_string(),
            format!("{:.1} %", errors.mape_percent),
            format!("{:.1} %", errors.p95_percent),
            format!("{:+.1} %", errors.bias_percent),
        ]
    });
    PointView {
        point,
        finding: fidelity.point_finding(point).word(),
        steps: steps.collect(),
        figures: point.trials.iter().chain(point.power.trials()).map(|trial| figure(fidelity, point, trial)).collect(),
        power: match &point.power {
            Power::NotMeasured(why) => vec![format!("Power: not measured: {why}.")],
            Power::Measured(power) => {
                let finding = fidelity.unless_void(point, power.mape_finding()).word();
                vec![format!("{}: {finding}.", power.seconds_text()), format!("Power: {}.", power.conditions())]
            }
        },
    }
}

fn figure(fidelity: &Fidelity, point: &FidelityPoint, trial: &Trial) -> [String; 8] {
    let unit = Unit::of(trial.metric);
    // One run says nothing of others.
    let one = trial.measured.len() < 2;
    [
        label(trial.metric),
        unit.show(trial.mean()),
        unit.show(trial.simulated),
        signed(trial.error()),
        if one { "unknown".to_owned() } else { format!("± {:.1} %", trial.uncertainty() * 100.0) },
        if one { "unknown".to_owned() } else { format!("{:.1} %", trial.spread() * 100.0) },
        trial.bar.map_or_else(String::new, |bar| format!("{:.0} %", bar.error * 100.0)),
        fidelity.figure_finding(point, trial).map_or_else(String::new, |finding| finding.word().to_owned()),
    ]
}
