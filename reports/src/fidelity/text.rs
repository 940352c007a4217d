//! The comparison on the terminal.

use std::fmt::Write as _;

use super::{Fidelity, FidelityPoint, Power, signed};
use crate::format::Unit;

/// Tables of figures and steps, point by point.
pub fn fidelity_text(fidelity: &Fidelity) -> String {
    let [passed, inconclusive, failed] = fidelity.counts();
    let mut text = format!(
        "{}: {}\n{passed} figures passed, {inconclusive} inconclusive, {failed} failed; {} real runs of each load\non {}\nsimulated with {}\n",
        fidelity.title,
        fidelity.finding().word(),
        fidelity.repeats,
        fidelity.device,
        fidelity.cost
    );
    if !fidelity.slower.is_empty() {
        let _ = writeln!(text, "machine: {}", fidelity.speed());
    }
    for point in &fidelity.points {
        text += &of_point(fidelity, point);
    }
    text
}

fn of_point(fidelity: &Fidelity, point: &FidelityPoint) -> String {
    let [steps, requests, differences] = point.replayed;
    let mut text = format!("\n{}: {}\n", point.name, fidelity.point_finding(point).word());
    for why in &point.void {
        let _ = writeln!(text, "  void: {why}");
    }
    if point.again > 0 {
        let _ = writeln!(text, "  {} void runs were made again", point.again);
    }
    // Of a server only what a client hears is known, and no steps.
    if steps > 0 {
        let _ = writeln!(
            text,
            "  replayed {steps} steps and {requests} requests: {differences} differences (determinism, not accuracy)"
        );
    }
    if !point.steps.is_empty() {
        let _ = writeln!(
            text,
            "  {:<34}{:>8}{:>12}{:>10}{:>10}",
            "steps as the engine ran them", "steps", "mean error", "p95", "bias"
        );
    }
    for errors in &point.steps {
        let _ = writeln!(
            text,
            "  {:<34}{:>8}{:>10.1} %{:>8.1} %{:>+8.1} %",
            errors.of, errors.steps, errors.mape_percent, errors.p95_percent, errors.bias_percent
        );
    }
    let _ = writeln!(
        text,
        "  {:<20}{:>12}{:>12}{:>9}{:>8}{:>9}{:>7}",
        "whole runs", "measured", "simulated", "error", "±", "spread", "bar"
    );
    for trial in point.trials.iter().chain(point.power.trials()) {
        let unit = Unit::of(trial.metric);
        let bar = trial.bar.map_or_else(String::new, |bar| format!("{:.0} %", bar.error * 100.0));
        let finding = fidelity.figure_finding(point, trial).map_or("", |finding| finding.word());
        let (measured, simulated) = (unit.show(trial.mean()), unit.show(trial.simulated));
        let error = signed(trial.error());
        // One run says nothing of others.
        let percent =
            |share: f64| if share.is_finite() { format!("{:.1} %", share * 100.0) } else { "unknown".to_owned() };
        let one = trial.measured.len() < 2;
        let (open, spread) = (percent(trial.uncertainty()), percent(if one { f64::NAN } else { trial.spread() }));
        let line = format!(
            "  {:<20}{measured:>12}{simulated:>12}{error:>9}{open:>8}{spread:>9}{bar:>7}  {finding}",
            trial.metric
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    match &point.power {
        Power::NotMeasured(why) => {
            let _ = writeln!(text, "  power: not measured: {why}");
        }
        Power::Measured(power) => {
            let finding = fidelity.unless_void(point, power.mape_finding()).word();
            let _ = writeln!(text, "  {}  {finding}\n  power: {}", power.seconds_text(), power.conditions());
        }
    }
    text
}
