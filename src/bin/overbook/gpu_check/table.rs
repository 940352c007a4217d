//! What a person wants to know at the end, in one text.

use std::fmt::Write as _;

use overbook_engine::nvml::Window;
use overbook_sim::calibrate::steps::StepErrors;

use super::rows::{Ceiling, Cell, Fitted, Line, Load, Row, Share, Steady, Whole};
use super::{Part, book};

/// The ceilings among all results, each the last time that it was measured.
pub(crate) fn ceilings(results: &[(Part, Vec<Line>)]) -> Vec<&Ceiling> {
    let mut found: Vec<&Ceiling> = Vec::new();
    for line in results.iter().flat_map(|(_, lines)| lines) {
        if let Row::Ceiling(ceiling) = &line.row {
            found.retain(|other| other.name != ceiling.name);
            found.push(ceiling);
        }
    }
    found
}

/// Everything, a part after the other.
pub(crate) fn text(results: &[(Part, Vec<Line>)]) -> String {
    let mut text = String::new();
    for (part, lines) in results {
        let seconds = lines.iter().find_map(|line| match line.row {
            Row::Ended { seconds, .. } => Some(seconds),
            _ => None,
        });
        let state = if book::is_complete(lines) { "complete" } else { "NOT COMPLETE" };
        let _ = writeln!(text, "{}: {state}, {:.0} s", part.name(), seconds.unwrap_or(0.0));
        kernels(&mut text, lines);
        for line in lines {
            row(&mut text, line);
        }
    }
    let rows = || results.iter().flat_map(|(_, lines)| lines);
    let wrong = rows().filter(|line| line.row.is_wrong()).count();
    let failed = rows().filter(|line| matches!(line.row, Row::Failed { .. })).count();
    let left = rows().filter(|line| matches!(line.row, Row::Left { .. })).count();
    let below = rows().filter(|line| is_below(&line.row)).count();
    let _ = writeln!(
        text,
        "{wrong} checks wrong, {failed} items failed, {left} left for lack of time; {below} steps below their bar (a figure, \
         no failure)"
    );
    text
}

/// Kernels in one line, but for those that are wrong.
fn kernels(text: &mut String, lines: &[Line]) {
    let all: Vec<_> =
        lines.iter().filter_map(|line| if let Row::Kernel(row) = &line.row { Some(row) } else { None }).collect();
    if all.is_empty() {
        return;
    }
    let mut names: Vec<&str> = all.iter().map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let right = all.iter().filter(|row| row.passed).count();
    let _ = writeln!(text, "  {right} of {} launches of {} kernels are right", all.len(), names.len());
    for row in all.iter().filter(|row| !row.passed) {
        let error = row.error.map_or("no number, or written outside".to_owned(), |error| format!("{error:.2e}"));
        let _ = writeln!(text, "  WRONG  {}, {}: {error}, at most {:.2e}", row.name, row.case, row.bound);
    }
}

fn is_below(row: &Row) -> bool {
    let Row::Cell(cell) = row else { return false };
    matches!((cell.floor_percent, cell.bar_percent), (Some(got), Some(bar)) if got < bar)
}

fn row(text: &mut String, line: &Line) {
    let written = match &line.row {
        Row::Kernel(_) | Row::Ended { .. } => return,
        Row::Whole(row) => whole(row),
        Row::Ceiling(row) => {
            let wrong = if row.passed { "" } else { "  WRONG RESULT" };
            let (name, unit) = (&row.name, &row.unit);
            format!("{name:<26}{:>10.3} {unit:<8} {}{}{wrong}", row.value, row.how, said(&row.gpu))
        }
        Row::Loaded(row) => format!(
            "{}: {:.1} GB loaded in {:.1} s, opened in {:.1} s, {} KV tokens",
            row.model,
            row.weight_bytes as f64 / 1e9,
            row.load_s,
            row.open_s,
            row.kv_tokens
        ),
        Row::Cell(row) => cell(row, is_below(&line.row)),
        Row::Profile(row) => format!(
            "{} of {}: {} shapes, repeats spread by {:.1} %, drift {}; closed form {}; table {}{}",
            row.file,
            row.model,
            row.shapes,
            row.repeats_percent,
            row.drift_percent.map_or("unknown".to_owned(), |drift| format!("{drift:.1} %")),
            steps(&row.form_errors),
            steps(&row.table_errors),
            said(&row.gpu)
        ),
        Row::Load(row) => load(row),
        Row::Share(row) => {
            let Share { model, step, percent, device_us, gpu } = row;
            let ms = device_us / 1e3;
            format!("{model:<14}{step:<22}{percent:>4} % of the multiprocessors{ms:>10.3} ms{}", said(gpu))
        }
        Row::Steady(row) => steady(row),
        Row::Fitted(row) => fitted(row),
        Row::Skipped { why } => format!("skipped  {}: {why}", line.item),
        Row::Left { why } => format!("LEFT  {}: {why}", line.item),
        Row::Failed { error } => format!("FAILED  {}: {error}", line.item),
    };
    let _ = writeln!(text, "  {written}");
}

fn whole(row: &Whole) -> String {
    let verdict = if row.passed { "right" } else { "WRONG" };
    let error = row.error.map_or("no number".to_owned(), |error| format!("{error:.2e}"));
    format!(
        "{verdict}  {}: {} compared, {} wrong, {} ties (at most {:.3}, of {}); apart {error}, at most {:.2e}",
        row.what, row.tokens, row.wrong, row.ties, row.tie, row.tie_most, row.bound
    )
}

fn cell(row: &Cell, below: bool) -> String {
    let floor = or_none(row.floor_us.map(|us| format!("{:.3} ms", us / 1e3)));
    let below = if below { ", BELOW" } else { "" };
    let bar = row.bar_percent.map_or(String::new(), |bar| format!(" (bar {bar:.0} %{below})"));
    format!(
        "{:<14}{:<22}{:>10.3} ms on the device, {:>10.3} for the host; floor {floor:>9}, {:>7} of it{bar}{}",
        row.model,
        row.step,
        row.device_us / 1e3,
        row.host_us / 1e3,
        percent(row.floor_percent),
        said(&row.gpu)
    )
}

fn load(row: &Load) -> String {
    let figures = row.figures.iter().filter(|figure| FIGURES.contains(&figure.metric.as_str()));
    let figures: Vec<String> =
        figures.map(|figure| format!("{} {}", figure.metric, percent(figure.error_percent))).collect();
    let void = if row.void.is_empty() { String::new() } else { format!(" VOID: {}", row.void.join("; ")) };
    format!(
        "{} at {} of capacity, {:.2}/s, {} requests: {} steps scheduled otherwise; errors of steps: {}; of runs: {}{void}{}",
        row.name,
        row.of_capacity,
        row.rate,
        row.requests,
        row.differences,
        steps(&row.steps),
        figures.join(", "),
        said(&row.gpu)
    )
}

fn steady(row: &Steady) -> String {
    let watts = or_none(row.watts.map(|watts| format!("{watts:.0} W")));
    let (compute, memory) = (100.0 * row.compute, 100.0 * row.memory);
    let step = row.step_us.map_or(String::new(), |us| format!(", {:.3} ms a step", us / 1e3));
    format!(
        "{:<44}{watts:>7}: {compute:.1} % of the arithmetic, {memory:.1} % of the bandwidth{step}{}",
        row.what,
        said(&row.gpu)
    )
}

fn fitted(row: &Fitted) -> String {
    let made_up = if row.emulated { "  EMULATED: the watts are a stand-in's" } else { "" };
    format!(
        "{}: P_ctx {:.1} W, c_w {:.1} W, c_c {:.1} W, c_m {:.1} W, a {}, b {}; {} points, {} more with their clock held down; left out of the \
         fit: mean {:.1} % off, median {:.1} %{made_up}",
        row.file,
        row.idle_w,
        row.resident_w,
        row.compute_w,
        row.memory_w,
        row.compute_exponent,
        row.memory_exponent,
        row.used,
        row.held_down,
        row.held_out_mean_percent,
        row.held_out_median_percent
    )
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| "–".to_owned())
}

fn percent(value: Option<f64>) -> String {
    or_none(value.map(|value| format!("{value:.1} %")))
}

/// Figures of a load that are shown.
const FIGURES: [&str; 8] =
    ["request_throughput", "ttft_mean", "ttft_p99", "tpot_mean", "tpot_p50", "e2el_mean", "e2el_p50", "e2el_p99"];

fn steps(errors: &[StepErrors]) -> String {
    let one = |error: &StepErrors| format!("{} {:.1} %", error.of, error.mape_percent);
    errors.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What the GPU said of itself, as far as it says anything.
fn said(gpu: &Window) -> String {
    let mut parts = Vec::new();
    parts.extend(gpu.power_w.or(gpu.instant_w).map(|w| format!("{w:.0} W")));
    parts.extend(gpu.sm_mhz.map(|mhz| format!("{mhz:.0} MHz")));
    let idle = |reason: &String| reason == "gpu idle";
    let reasons = gpu.throttled.iter().flatten().filter(|reason| !idle(reason)).cloned();
    parts.extend(reasons);
    if parts.is_empty() {
        return String::new();
    }
    if gpu.emulated {
        parts.push("EMULATED".to_owned());
    }
    format!("  [{}]", parts.join(", "))
}
