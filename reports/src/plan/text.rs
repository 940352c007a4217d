//! A plan on a terminal, and money and multiples in words.

use std::fmt::Write as _;

use super::{Binds, Fleet, Headroom, Plan};
use crate::format::{Unit, count, number};
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

/// `arithmetic 61 %, memory 30 %, links 2 %, launches and host 7 %`.
pub(super) fn binds_line(binds: &Binds) -> String {
    let share = |share: f64| Unit::Share.show(share);
    let Binds { compute, memory, link, host } = *binds;
    format!(
        "arithmetic {}, memory {}, links {}, launches and host {}",
        share(compute),
        share(memory),
        share(link),
        share(host)
    )
}

/// What a fleet draws: GPUs, servers, facility.
pub(super) fn power_lines(fleet: &Fleet) -> Vec<String> {
    let Some(power) = &fleet.power else { return Vec::new() };
    let kw = |kw: f64| format!("{} kW", number(kw));
    let mut lines = vec![
        format!("GPUs: {} on average", kw(power.gpus_mean_kw)),
        format!("servers: {} on average, {} at their peak", kw(power.servers_mean_kw), kw(power.servers_peak_kw)),
    ];
    lines.extend(
        power
            .facility_mean_kw
            .zip(power.facility_peak_kw)
            .map(|(mean, peak)| format!("facility: {} on average, {} at the servers' peak", kw(mean), kw(peak))),
    );
    lines
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
    let bound = plan.answer.iter().filter_map(|fleet| fleet.binds.as_ref());
    section("Steps", bound.map(|binds| ("bound by".to_owned(), binds_line(binds))).collect());
    let power = plan.answer.iter().flat_map(power_lines);
    section(
        "Power",
        power.filter_map(|line| line.split_once(": ").map(|(of, kw)| (of.to_owned(), kw.to_owned()))).collect(),
    );
    let split =
        plan.split.iter().flat_map(|split| [("split".to_owned(), split.sentence()), ("by".to_owned(), split.note())]);
    section("Reserved and on demand", split.collect());
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
        let kw = one.kw_peak.map_or_else(String::new, |kw| format!(", {} kW at the peak", number(kw)));
        (one.shape.clone(), format!("{} GPUs ({} replicas){price}{kw}: {}", one.gpus, one.replicas, one.why))
    });
    section("Next best", lost.collect());
    section("Stages", plan.stages.iter().map(|stage| (stage.name.clone(), stage.text.clone())).collect());
    section("Requests", plan.requests.clone());
    let trust = plan.trust.iter().map(|trust| ("Trust".to_owned(), trust.to_string()));
    let errors = plan.errors.iter().map(|one| {
        let binds = if one.binds { " (stops the answer at a larger load)" } else { "" };
        (format!("Error of {}", one.figure), format!("{}{binds}", one.text))
    });
    section("How sure", trust.chain(errors).chain([("Step costs".to_owned(), plan.calibration.clone())]).collect());
    section("Start a replica", plan.start.iter().map(|line| ("$".to_owned(), line.clone())).collect());
    text
}
