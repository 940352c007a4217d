//! A plan on a terminal, and money and multiples in words.

use std::fmt::Write as _;

use super::{Headroom, Plan};
use crate::format::count;
use crate::manifest::Status;
use crate::terminal::folded;

/// Widest line [characters].
const COLUMNS: usize = 100;

/// `$20,075 a month`, or nothing without a price.
pub(super) fn a_month(usd: Option<f64>) -> String {
    usd.map_or_else(String::new, |usd| format!("${} a month", count(usd)))
}

/// `1.24×`.
pub(super) fn times(factor: f64) -> String {
    format!("{factor:.2}×")
}

/// `holds until 1.24× (1.18 to 1.30): the same requests in half the time`.
pub(super) fn headroom_line(one: &Headroom) -> String {
    format!("holds until {} ({:.2} to {:.2}), where 2× is {}", times(one.factor), one.low, one.high, one.twice)
}

pub(super) fn terminal(plan: &Plan) -> String {
    let mut text = String::new();
    let mut paragraph = |line: &str| {
        for part in folded(line, COLUMNS) {
            let _ = writeln!(text, "{part}");
        }
    };
    if plan.status == Status::Interrupted {
        paragraph("Interrupted, what was known by then:");
    }
    paragraph(&plan.sentence);
    let mut section = |heading: &str, lines: Vec<(String, String)>| {
        if lines.is_empty() {
            return;
        }
        let _ = writeln!(text, "\n{heading}");
        let width = lines.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0).min(40);
        for (left, right) in lines {
            let pad = " ".repeat(width.saturating_sub(left.chars().count()));
            for (at, part) in folded(&right, COLUMNS - width - 4).iter().enumerate() {
                let head = if at == 0 { format!("{left}{pad}") } else { " ".repeat(width) };
                let _ = writeln!(text, "  {head}  {part}");
            }
        }
    };
    let kept = plan.answer.iter().flat_map(|fleet| &fleet.kept).map(|line| ("✓".to_owned(), line.clone()));
    section("Promises", kept.collect());
    let headroom = plan.headroom.iter().map(|one| (one.growth.clone(), headroom_line(one)));
    let binding = (!plan.binding.is_empty()).then(|| ("then".to_owned(), plan.binding.clone()));
    section("Headroom", headroom.chain(binding).collect());
    let grown = plan.growth.iter().map(|one| {
        let fleet = one.gpus.map_or_else(
            || "no fleet within the limit".to_owned(),
            |gpus| {
                let replicas = one.replicas.as_deref().unwrap_or("–");
                let price = a_month(one.usd_per_month);
                let price = if price.is_empty() { price } else { format!(", {price}") };
                format!("{gpus} GPUs ({replicas} replicas){price}")
            },
        );
        (format!("{}×", one.factor), fleet)
    });
    section("Growth", grown.collect());
    let lost = plan.alternatives.iter().map(|one| {
        let price = a_month(one.usd_per_month);
        let price = if price.is_empty() { price } else { format!(", {price}") };
        (one.shape.clone(), format!("{} GPUs ({} replicas){price}: {}", one.gpus, one.replicas, one.why))
    });
    section("Next best", lost.collect());
    section("Stages", plan.stages.iter().map(|stage| (stage.name.clone(), stage.text.clone())).collect());
    section("Requests", plan.requests.clone());
    let trust = plan.trust.iter().map(|trust| ("Trust".to_owned(), trust.to_string()));
    section("How sure", trust.chain([("Step costs".to_owned(), plan.calibration.clone())]).collect());
    section("Start a replica", plan.start.iter().map(|line| ("$".to_owned(), line.clone())).collect());
    text
}
