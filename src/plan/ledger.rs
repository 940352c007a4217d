//! The ledger: every fleet that could have been chosen, alone or with others that lost for the same reason.

use overbook_reports::plan::{LedgerRow, Stage as StageLine};
use overbook_scenarios::scenario::PlanMode;

use super::candidate::{Candidate, kilowatts};
use super::hunt::{Hunt, Stage};
use super::space::Size;
use super::trial::Trial;

/// Rows of all shapes: in their order, each shape's in the order of what decided.
pub(crate) fn rows(hunt: &Hunt<'_>, found: Option<(usize, Size)>) -> Vec<LedgerRow> {
    let answer = found.and_then(|(at, size)| {
        let candidate = &hunt.candidates[at];
        Some((candidate.weight.gpus(size), candidate.cost_of_tried(size)?))
    });
    let mut all = Vec::new();
    for (at, candidate) in hunt.candidates.iter().enumerate() {
        let own = found.filter(|(other, _)| *other == at).map(|(_, size)| size);
        of_shape(candidate, own, answer, &mut all);
    }
    all
}

/// Fleets of a shape that have no fewer replicas than these, of so many GPUs at most.
fn fleets(candidate: &Candidate, (least, least_decode): (u32, u32)) -> u64 {
    let gpus = u64::from(candidate.gpus_most);
    let first = u64::from(candidate.weight.first.gpus.max(1));
    let second = candidate.weight.second.map_or(first, |second| u64::from(second.gpus.max(1)));
    let (least, least_decode) = (u64::from(least.max(1)), u64::from(least_decode.max(1)));
    let more = |room: u64, each: u64, least: u64| (room / each).saturating_sub(least - 1);
    match candidate.shape.mode {
        PlanMode::Together => more(gpus, first, least),
        PlanMode::Apart => {
            let room = |prefill: u64| gpus.saturating_sub(prefill * first);
            (least..=gpus / first).map(|prefill| more(room(prefill), second, least_decode)).sum()
        }
    }
}

/// Those of them that bounds rule out.
fn below(candidate: &Candidate) -> u64 {
    let Some(bounds) = &candidate.bounds else { return 0 };
    fleets(candidate, (1, 1)) - fleets(candidate, (bounds.replicas, bounds.decode))
}

/// A row about so many fleets of a shape, without figures.
fn row(
    candidate: &Candidate,
    replicas: String,
    fleets: u64,
    (stage, outcome): (&'static str, &'static str),
    reason: String,
) -> LedgerRow {
    let shape = &candidate.shape;
    LedgerRow {
        shape: shape.label.clone(),
        gpu: shape.kind.gpu.clone(),
        tensor_parallel: shape.kind.tensor_parallel,
        decode_gpu: shape.decode.as_ref().map(|kind| kind.gpu.clone()),
        decode_tensor_parallel: shape.decode.as_ref().map(|kind| kind.tensor_parallel),
        mode: if shape.mode == PlanMode::Apart { "apart" } else { "together" }.to_owned(),
        replicas,
        fleets,
        gpus: None,
        servers: None,
        usd_per_hour: None,
        kw_mean: None,
        kw_peak: None,
        nearest_to_bound: None,
        binds: None,
        stage,
        outcome,
        reason,
    }
}

fn of_shape(candidate: &Candidate, answer: Option<Size>, best: Option<(u32, f64)>, rows: &mut Vec<LedgerRow>) {
    let mode = candidate.shape.mode;
    let all = fleets(candidate, (1, 1));
    let group = |replicas: String, fleets: u64, stage: &'static str, outcome: &'static str, reason: String| {
        row(candidate, replicas, fleets, (stage, outcome), reason)
    };
    let any = || "any".to_owned();
    if let Err(why) = &candidate.built {
        return rows.push(group(any(), all, "build", "lost", why.clone()));
    }
    let Some(bounds) = &candidate.bounds else { return };
    if let Some(why) = &bounds.hopeless {
        return rows.push(group(any(), all, "bounds", "lost", why.clone()));
    }
    let Some(search) = &candidate.search else {
        let most = candidate.gpus_most;
        let least = if mode == PlanMode::Apart {
            Size::Apart(bounds.replicas, bounds.decode)
        } else {
            Size::Together(bounds.replicas)
        };
        let needed =
            format!("{least} replicas take {} GPUs, and a fleet has at most {most}", candidate.weight.gpus(least));
        let reason = if bounds.why.is_empty() { needed } else { format!("{}: {needed}", bounds.why) };
        return rows.push(group(any(), all, "bounds", "lost", reason));
    };
    let ruled_out = below(candidate);
    if ruled_out > 0 {
        let least = match mode {
            PlanMode::Together => bounds.replicas.to_string(),
            PlanMode::Apart => Size::Apart(bounds.replicas, bounds.decode).to_string(),
        };
        rows.push(group(format!("below {least}"), ruled_out, "bounds", "lost", bounds.why.clone()));
    }
    let mut tried: Vec<Size> = Vec::new();
    for (size, stage, trial) in &candidate.trials {
        tried.push(*size);
        rows.push(of_trial(candidate, *size, *stage, trial, answer, best, &group));
    }
    tried.sort_by_key(|size| (size.replicas(), size.to_string()));
    tried.dedup();
    let rest = all.saturating_sub(ruled_out + tried.len() as u64);
    if rest == 0 {
        return;
    }
    let least = search.least();
    let reason = match (search.best(), search.next(), best) {
        (Some(holds), None, _) if candidate.shape.decode.is_some() => {
            format!("smaller than fleets that fail, or no cheaper than {holds} replicas, which hold")
        }
        (Some(holds), None, _) => {
            format!("smaller than fleets that fail, or larger than {holds} replicas, which hold")
        }
        (None, None, _) => format!("none of up to {} GPUs holds: the largest tried fail", candidate.gpus_most),
        (_, _, Some((gpus, _))) => {
            let own = candidate.weight.gpus(least);
            format!("at least {least} replicas are needed, {own} GPUs: no cheaper than the answer with {gpus}")
        }
        (_, _, None) => "not tried".to_owned(),
    };
    let (stage, outcome) = match (search.next(), best) {
        (None, _) => ("order", "lost"),
        (Some(_), Some(_)) => ("price", "lost"),
        (Some(_), None) => ("order", "open"),
    };
    rows.push(group("all others".to_owned(), rest, stage, outcome, reason));
}

type Group<'a> = dyn Fn(String, u64, &'static str, &'static str, String) -> LedgerRow + 'a;

fn of_trial(
    candidate: &Candidate,
    size: Size,
    stage: Stage,
    trial: &Trial,
    answer: Option<Size>,
    best: Option<(u32, f64)>,
    group: &Group<'_>,
) -> LedgerRow {
    let name = if stage == Stage::Window { "window" } else { "whole" };
    let cost = candidate.cost_of_tried(size).unwrap_or_else(|| candidate.cost(size));
    let excess = candidate.too_many_watts(size).filter(|_| trial.held());
    let outcome = match (trial.held(), answer == Some(size)) {
        _ if excess.is_some() => "lost",
        (true, true) => "answer",
        (true, false) => "held",
        (false, _) => "lost",
    };
    let mut reason = trial.reason();
    if let Some((peak, most)) = excess {
        reason = format!("peak {} > {}; {reason}", kilowatts(peak), kilowatts(most));
    }
    if outcome == "held"
        && let Some((gpus, least)) = best
    {
        let own = candidate.weight.gpus(size);
        let than = if cost > least {
            format!("dearer than the answer: {own} GPUs for {gpus}")
        } else {
            "as cheap as the answer".to_owned()
        };
        reason = format!("{reason}; {than}");
    }
    let watts = trial.watts();
    LedgerRow {
        gpus: Some(candidate.weight.gpus(size)),
        servers: candidate.weight.servers(size),
        usd_per_hour: candidate.weight.usd(size),
        kw_mean: watts.map(|watts| watts.mean / 1e3),
        kw_peak: watts.map(|watts| watts.peak / 1e3),
        nearest_to_bound: trial.nearest_to_bound(),
        binds: trial.binds,
        ..group(size.to_string(), 1, name, outcome, reason)
    }
}

/// What each stage ruled out, by the ledger.
pub(crate) fn stages(rows: &[LedgerRow], shapes: usize, window: &str) -> Vec<StageLine> {
    let ruled_out = |stage: &str| -> u64 {
        rows.iter().filter(|row| row.stage == stage && row.outcome == "lost").map(|row| row.fleets).sum()
    };
    let count = |stage: &str| rows.iter().filter(|row| row.stage == stage).count();
    let all: u64 = rows.iter().filter(|row| row.stage != "whole").map(|row| row.fleets).sum();
    let line =
        |name: &str, stage: &str, text: String| StageLine { name: name.to_owned(), ruled_out: ruled_out(stage), text };
    let order = ruled_out("order") + ruled_out("price");
    let mut lines = vec![
        line("candidates", "none", format!("{all} fleets of {shapes} shapes")),
        line(
            "build",
            "build",
            format!("{} cannot be built: memory, or settings that exclude each other", ruled_out("build")),
        ),
        line("bounds", "bounds", format!("{} are too few or too slow by the cost model alone", ruled_out("bounds"))),
        line("window", "window", format!("{} tried on {window}, {} fail", count("window"), ruled_out("window"))),
        StageLine {
            name: "order".to_owned(),
            ruled_out: order,
            text: format!(
                "{order} not tried: smaller than one that fails, larger than one that holds, or no cheaper than the answer"
            ),
        },
    ];
    if count("whole") > 0 {
        lines.push(line(
            "whole",
            "whole",
            format!("{} tried on all requests, {} fail", count("whole"), ruled_out("whole")),
        ));
    }
    lines
}
