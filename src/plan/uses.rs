//! What of the answer today's load uses, what its price hangs on, and its run over time.

use overbook_reports::format::{Unit, count};
use overbook_reports::plan::{Fleet, Headroom, Plan, Sensitivity, Use};
use overbook_reports::{Report, Status};
use overbook_scenarios::Point;
use overbook_sim::results::summary::Summary;

use super::candidate::kilowatts;
use super::trial::{Trial, Watts};
use crate::outcome::verdicts;

/// The change that sensitivities are told for.
const FIFTH: f64 = 0.2;

/// Load, KV memory, seats, time, power.
pub(super) fn of(summary: &Summary, point: &Point, headroom: Option<&Headroom>, watts: Option<Watts>) -> Vec<Use> {
    let share = Unit::Share;
    let load = headroom.filter(|one| one.factor > 0.0).map(|one| Use {
        of: "Load that the GPUs bear".to_owned(),
        share: Some((1.0 / one.factor).min(1.0)),
        text: format!(
            "today's load is {} of what keeps the promises ({:.2}×)",
            share.show(1.0 / one.factor),
            one.factor
        ),
    });
    let kv = Use {
        of: "KV memory".to_owned(),
        share: Some(summary.load.kv_usage_max),
        text: format!(
            "{} of the fullest replica's pool at its fullest moment; {} on average",
            share.show(summary.load.kv_usage_max),
            share.show(summary.load.kv_usage_mean)
        ),
    };
    let seats = point.scenario.scheduler.needs().max_seqs;
    let most = summary.load.running_max;
    let seats = Use {
        of: "Requests at once".to_owned(),
        share: Some(f64::from(most) / f64::from(seats.max(1))),
        text: format!(
            "{} of the {} that a replica runs, at its fullest moment",
            count(f64::from(most)),
            count(f64::from(seats))
        ),
    };
    let time = summary.metric("utilization").map(|busy| Use {
        of: "Time in steps".to_owned(),
        share: Some(busy),
        text: format!("{} of the time a step was running, however small its batch", share.show(busy)),
    });
    let power = power(summary, watts);
    load.into_iter().chain([kv, seats]).chain(time).chain([power]).collect()
}

/// The servers' peak, of what their row may draw.
fn power(summary: &Summary, watts: Option<Watts>) -> Use {
    let of = "Power".to_owned();
    let Some((watts, power)) = watts.zip(summary.power.as_ref()) else {
        let text = "not counted: it is where servers are known (`plan.servers`) and the catalog knows what they draw";
        return Use { of, share: None, text: text.to_owned() };
    };
    let budget = power.figures.budget.as_watts_f64();
    let text = format!(
        "peak {} of the {} that the row may draw; mean {}, of which GPUs {}",
        kilowatts(watts.peak),
        kilowatts(budget),
        kilowatts(watts.mean),
        kilowatts(watts.gpus)
    );
    Use { of, share: (budget > 0.0).then_some(watts.peak / budget), text }
}

/// Prices of a million output tokens with a fifth less and more of what enters them: as the figures of the run have it, or, where only the plan
/// knows a price, of that price; and of the load on the same fleet.
pub(super) fn sensitivity(summary: &Summary, fleet: Option<&Fleet>, headroom: Option<&Headroom>) -> Vec<Sensitivity> {
    let Some(usd) = fleet.and_then(|fleet| fleet.usd_per_mtoken) else { return Vec::new() };
    let base = summary.cost_per_mtoken_output();
    // The run counts the time in which its last requests end, the plan that in which requests come: shares are the same.
    let scaled = |of: f64| base.filter(|base| *base > 0.0).map(|base| of / base * usd);
    let known = summary.sensitivities().into_iter().filter_map(|line| {
        Some(Sensitivity { of: line.of.to_owned(), less: scaled(line.usd.0)?, more: scaled(line.usd.1)? })
    });
    let mut all: Vec<Sensitivity> = known.collect();
    if all.is_empty() {
        let of = "price of a GPU hour".to_owned();
        all.push(Sensitivity { of, less: usd * (1.0 - FIFTH), more: usd * (1.0 + FIFTH) });
    }
    let holds = headroom.is_some_and(|one| one.factor >= 1.0 + FIFTH);
    let beyond = if holds { "" } else { "; more than it holds with a fifth more" };
    all.push(Sensitivity {
        of: format!("load on the same fleet{beyond}"),
        less: usd / (1.0 - FIFTH),
        more: usd / (1.0 + FIFTH),
    });
    all
}

/// The answer's run as it is reported; times of day only where it began with the trace.
pub(super) fn run(trial: &Trial, point: &Point, from_the_start: bool, plan: &Plan) -> Option<Report> {
    let (summary, timeline) = (trial.summary.clone()?, trial.timeline.as_deref()?.clone());
    Some(Report {
        title: plan.title.clone(),
        status: Status::Complete,
        verdicts: verdicts(&point.scenario, &summary),
        summary,
        timeline,
        traffic: None,
        recorded_traffic: None,
        clock: from_the_start.then(|| point.began_at()).flatten(),
        assumptions: Vec::new(),
        remarks: Vec::new(),
        trust: None,
        calibration: String::new(),
        trace_rows: Vec::new(),
        command: String::new(),
        tool: String::new(),
        directory: String::new(),
    })
}
