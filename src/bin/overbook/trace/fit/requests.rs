//! A generator fitted to requests.

use std::path::Path;

use overbook_traces::{
    Compared, Counts, GapFamily, GapFit, LengthDist, LengthFamily, SessionFit, TraceFit, TraceFrame, compare,
};

use super::{Fitted, name_of};
use crate::cli::{FitArgs, Gaps, Globals, Lengths, TraceArgs};
use crate::output::Failure;
use crate::trace::columns::{left, number, numbers};
use crate::trace::source::Requests;

/// Share of requests at the very time of the one before from which on it is a matter of the clock.
const TIES: f64 = 0.05;

pub(super) fn fit(source: &Path, args: &FitArgs, globals: &Globals) -> Result<Fitted, Failure> {
    let open = TraceArgs { source: source.to_owned(), columns: None, set: args.set.clone(), seed: None };
    let (frame, counts) = match Requests::open(&open, globals)? {
        Requests::Recorded(mut replay) => (TraceFrame::read(&mut *replay), Some(replay.counts())),
        Requests::Other(mut workload) => (TraceFrame::read(&mut *workload), None),
    };
    let frame = frame.map_err(Failure::input)?;
    let fit = TraceFit::of(&frame, args.window.0).map_err(Failure::input)?;
    let gaps = args.gaps.map(|gaps| if gaps == Gaps::Gamma { GapFamily::Gamma } else { GapFamily::Weibull });
    let lengths = match args.lengths {
        Lengths::Quantiles => LengthFamily::Quantiles,
        Lengths::LogNormal => LengthFamily::LogNormal,
        Lengths::Zipf => LengthFamily::Zipf,
        Lengths::ParetoMixture => LengthFamily::ParetoMixture,
    };
    let generate = fit.spec(gaps, lengths);
    let compared = compare(frame.stats(), &generate, 0).map_err(Failure::input)?;
    let remarks = remarks(&fit, counts, frame.stats().sessions.turns.count());
    let mut parts = vec![arrivals(&fit, frame.requests(), gaps), lengths_of(&fit)];
    parts.extend(fit.sessions.as_ref().map(sessions));
    parts.push(comparison(&compared));
    parts.extend((!remarks.is_empty()).then(|| remarks.join("\n")));
    let report = parts.join("\n\n");
    Ok(Fitted { report, generate, source: source.display().to_string(), name: name_of(source), remarks })
}

/// What the generator does not have.
fn remarks(fit: &TraceFit, counts: Option<Counts>, sessions: u64) -> Vec<String> {
    let mut remarks = Vec::new();
    if fit.sessions.is_none() && sessions > 0 {
        remarks.push(format!(
            "The {sessions} sessions of the trace have too few turns to be fitted: every request stands alone."
        ));
    }
    if let Some(fit) = fit.sessions.as_ref().filter(|fit| fit.early > 0.0) {
        let early = 100.0 * fit.early;
        remarks.push(format!(
            "{early:.0} % of the follow-ups came before the answer can have ended: no part of the time to think."
        ));
    }
    if let Some(counts) = counts.filter(|counts| counts.failed > 0) {
        let share = 100.0 * counts.failed as f64 / (counts.failed + counts.taken) as f64;
        remarks.push(format!("Left out: {} failed requests without lengths ({share:.1} %).", counts.failed));
    }
    if fit.arrivals.left_out > 0 {
        let left_out = fit.arrivals.left_out;
        remarks
            .push(format!("Left out: {left_out} requests in a last window that the trace covers by less than half."));
    }
    let zero = fit.arrivals.gaps.as_ref().map_or(0.0, |gaps| gaps.zero_share);
    if zero > TIES {
        let share = 100.0 * zero;
        remarks.push(format!(
            "{share:.0} % of the gaps are zero and no part of the shape: the times are coarse. Fit a scenario whose trace has \
             `spread: 1s` (or the step of the times) instead."
        ));
    }
    remarks
}

fn arrivals(fit: &TraceFit, requests: u64, chosen: Option<GapFamily>) -> String {
    let arrivals = &fit.arrivals;
    let peak = arrivals.rates.iter().copied().fold(0.0, f64::max);
    let mean = arrivals.rates.iter().sum::<f64>() / arrivals.rates.len() as f64;
    let (windows, window) = (arrivals.rates.len(), arrivals.window);
    let head = format!(
        "{requests} requests; {windows} window{} of {window}: mean {}/s, highest {}/s",
        if windows == 1 { "" } else { "s" },
        number(mean),
        number(peak)
    );
    let Some(gaps) = &arrivals.gaps else {
        return format!("{head}\ntoo few gaps in every window for a shape: Poisson");
    };
    let chosen = chosen.unwrap_or_else(|| gaps.better());
    let of = |values: [f64; 3]| format!("{} ({} to {})", number(values[1]), number(values[0]), number(values[2]));
    let within = [
        vec!["gaps above zero".to_owned(), format!("{} in {} windows with 30 or more", gaps.gaps, gaps.windows)],
        vec!["gaps of zero".to_owned(), format!("{:.1} %", 100.0 * gaps.zero_share)],
        vec!["CV in a window".to_owned(), of(gaps.cv)],
        vec!["Gamma shape in a window".to_owned(), of(gaps.gamma_shape)],
    ];
    let row = |name: &str, fit: GapFit, chosen: bool| {
        let mark = if chosen { "  <- used" } else { "" };
        vec![name.to_owned(), number(fit.shape), format!("{:.4}", fit.log_likelihood), format!("{:.4}{mark}", fit.ks)]
    };
    let families = [
        ["all windows", "shape", "log-likelihood per gap", "KS distance"].map(str::to_owned).to_vec(),
        row("exponential", gaps.exponential, false),
        row("gamma", gaps.gamma, chosen == GapFamily::Gamma),
        row("weibull", gaps.weibull, chosen == GapFamily::Weibull),
    ];
    format!("{head}\n{}\n\n{}", left(&within), left(&families))
}

fn lengths_of(fit: &TraceFit) -> String {
    let header = ["class", "requests", "tokens", "family", "parameters", "mean", "KS distance"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for class in &fit.classes {
        for (what, (counts, fits)) in [("prompt", &class.prompt), ("output", &class.output)] {
            for fit in fits {
                let (family, parameters) = described(&fit.dist);
                let mean = format!("{} of {}", number(fit.mean), number(counts.mean()));
                let ks = format!("{:.4}", fit.ks);
                let (name, total) = (class.class.clone(), counts.total().to_string());
                rows.push(vec![name, total, what.to_owned(), family.to_owned(), parameters, mean, ks]);
            }
        }
    }
    let correlations = fit.classes.iter().map(|class| format!("{} {:.2}", class.class, class.correlation));
    let correlations = correlations.collect::<Vec<_>>().join(", ");
    format!("{}\nrank correlation of prompt and output, which the generator has not: {correlations}", left(&rows))
}

fn sessions(fit: &SessionFit) -> String {
    let spec = &fit.spec;
    let answers = if fit.recorded { "recorded" } else { "assumed, the trace does not say" };
    let answer = format!("{} and {} per output token ({answers})", spec.answer_base, spec.answer_per_token);
    let rows = [
        ("sessions", format!("{} of {} turns on average", fit.sessions, number(fit.turns_mean))),
        ("follow-ups", format!("{}, each adds {} tokens", fit.follow_ups, described(&spec.follow_up).1)),
        ("time to think", format!("log-normal, median {}, sigma {}", spec.think_median, spec.think_sigma)),
        ("time to answer", answer),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]).collect();
    format!("arrivals and prompts above are those of the starts of sessions\n{}", left(&rows))
}

fn described(dist: &LengthDist) -> (&'static str, String) {
    match dist {
        LengthDist::Fixed(tokens) => ("fixed", tokens.to_string()),
        LengthDist::Quantiles(points) => ("quantiles", format!("{} points", points.len())),
        LengthDist::LogNormal { median, sigma, .. } => ("log-normal", format!("median {median}, sigma {sigma}")),
        LengthDist::Zipf { exponent, max } => ("zipf", format!("exponent {exponent}, max {max}")),
        LengthDist::ParetoMixture { median, sigma, tail_share, tail_min, tail_alpha, .. } => (
            "pareto-mixture",
            format!("median {median}, sigma {sigma}; tail {tail_share} from {tail_min}, alpha {tail_alpha}"),
        ),
    }
}

fn comparison(compared: &[Compared]) -> String {
    let mut rows = vec![["", "trace", "generated", "difference"].map(str::to_owned).to_vec()];
    for Compared { name, trace, fit } in compared {
        let difference = if *trace == 0.0 { "-".to_owned() } else { format!("{:+.1} %", 100.0 * (fit / trace - 1.0)) };
        rows.push(vec![name.clone(), number(*trace), number(*fit), difference]);
    }
    numbers(&rows)
}
