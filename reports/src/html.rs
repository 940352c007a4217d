//! `report.html`: one self-contained page, for a phone, a desk and a printer; no network, and whole without its script.

mod charts;

use askama::Template;
use overbook_sim::results::histogram::Histogram;
use overbook_sim::results::rows::Outcome;
use overbook_sim::results::summary::{Class, Summary};

use crate::ReportError;
use crate::figure::{Figure, escaped};
use crate::format::{Unit, count, number, seconds};
use crate::manifest::Status;
use crate::report::{Report, Verdict};

pub use crate::table::Table;

/// Classes that get a row; more are only counted.
const CLASSES_SHOWN: usize = 20;

/// A large figure at the top of the page.
struct Key {
    label: &'static str,
    value: String,
    note: String,
}

struct ClassRow {
    name: String,
    cells: Vec<String>,
}

struct LatencyRow {
    name: &'static str,
    meaning: &'static str,
    cells: Vec<String>,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    /// `good`, `bad` or `plain`: the banner's colour.
    tone: &'static str,
    requests: String,
    keys: Vec<Key>,
    over_time: String,
    distribution: String,
    steps: String,
    latencies: Vec<LatencyRow>,
    classes: Vec<ClassRow>,
    classes_left_out: usize,
    work: Vec<(&'static str, String)>,
    tables: &'a [Table],
}

/// The charts over time of a run, with its outages and worst minutes marked.
pub(crate) fn over_time(report: &Report) -> Vec<Figure> {
    charts::over_time(report)
}

/// The page.
///
/// # Errors
/// The template fails, which no input should make it do.
pub fn report_html(report: &Report) -> Result<String, ReportError> {
    report_html_with(report, &[])
}

/// The page with further tables; those without rows are left out.
///
/// # Errors
/// The template fails, which no input should make it do.
pub fn report_html_with(report: &Report, tables: &[Table]) -> Result<String, ReportError> {
    let summary = &report.summary;
    let figures = |figures: Vec<Figure>| figures.iter().map(Figure::html).collect::<String>();
    let (classes, classes_left_out) = classes(summary);
    let pools = crate::pools::table(summary);
    let outages = crate::outages::table(summary);
    let worst = crate::worst::table(&report.timeline, summary.last_end, report.clock);
    let sessions = crate::sessions::table(summary);
    let kv = crate::kv_traffic::table(summary);
    let retained = crate::retained::table(summary);
    let drafts = crate::speculation::table(summary);
    let power = crate::power::table(summary);
    let economics = crate::economics::table(summary);
    let tables = [&[worst, sessions, outages, pools, kv, retained, drafts, power, economics], tables].concat();
    let page = Page {
        report,
        tone: tone(report),
        requests: crate::terminal::requests(summary, report.status == crate::manifest::Status::Complete),
        keys: keys(summary),
        over_time: figures(charts::over_time(report)),
        distribution: figures(charts::distribution(report).into_iter().collect()),
        steps: figures(charts::steps(report)),
        latencies: latencies(summary),
        classes,
        classes_left_out,
        work: work(summary),
        tables: &tables,
    };
    Ok(page.render()?)
}

fn tone(report: &Report) -> &'static str {
    match report.status {
        Status::Complete if report.verdicts.is_empty() => "plain",
        Status::Complete if report.all_met() => "good",
        _ => "bad",
    }
}

fn shown(summary: &Summary, metric: &str) -> String {
    summary.metric(metric).map_or_else(|| "–".to_owned(), |value| Unit::of(metric).show(value))
}

fn keys(summary: &Summary) -> Vec<Key> {
    let show = |metric| shown(summary, metric);
    let key = |label, metric, note| Key { label, value: show(metric), note };
    let mut keys = vec![
        key("Finished requests", "request_throughput", format!("over {}", show("makespan"))),
        key("Output", "output_throughput", format!("{} with prompts", show("total_token_throughput"))),
        key("TTFT p99", "ttft_p99", format!("median {}", show("ttft_p50"))),
        key("TPOT p99", "tpot_p99", format!("median {}", show("tpot_p50"))),
        key("KV use, mean", "kv_usage_mean", format!("fullest pool {}", show("kv_usage_max"))),
        key("Preemptions", "preemptions", format!("{} recomputed", show("recompute_tax"))),
    ];
    if summary.slo.is_set() {
        keys.insert(0, key("Good requests", "goodput_fraction", format!("{} goodput", show("request_goodput"))));
    }
    keys
}

fn cells(statistics: [Option<f64>; 6]) -> Vec<String> {
    statistics.map(|ns| ns.map_or_else(|| "–".to_owned(), |ns| seconds(ns / 1e9))).into()
}

fn latencies(summary: &Summary) -> Vec<LatencyRow> {
    let meanings = [
        ("ttft", "TTFT", "first token − arrival, and the front end"),
        ("tpot", "TPOT", "mean gap per request after the first token"),
        ("itl", "ITL", "every gap between two tokens"),
        ("e2el", "E2EL", "last token − arrival, and the front end"),
        ("queue_time", "Queue", "first scheduled − arrival"),
        ("first_turn_ttft", "TTFT, first", "of the first request of a session"),
        ("later_turn_ttft", "TTFT, later", "of the other requests of sessions"),
        ("client_ttft", "TTFT, client", "first token at the client − sent"),
        ("client_e2el", "E2EL, client", "last token at the client − sent"),
    ];
    let row = |(metric, name, meaning)| {
        let histogram = summary.latency(metric)?;
        let quantile = |p| histogram.quantile(p).map(|ns| ns as f64);
        let max = histogram.max().map(|ns| ns as f64);
        let cells = cells([histogram.mean(), quantile(0.5), quantile(0.9), quantile(0.99), quantile(0.999), max]);
        Some(LatencyRow { name, meaning, cells })
    };
    meanings.into_iter().filter_map(row).collect()
}

/// The largest classes, and how many more there are.
fn classes(summary: &Summary) -> (Vec<ClassRow>, usize) {
    let mut order: Vec<&Class> = summary.classes.iter().filter(|class| class.ended() > 0).collect();
    if order.len() < 2 {
        return (Vec::new(), 0);
    }
    order.sort_by_key(|class| std::cmp::Reverse(class.ended()));
    let row = |class: &&Class| {
        let (ended, l) = (class.ended(), &class.latencies);
        let at = |h: &Histogram, p| h.quantile(p).map(|ns| ns as f64);
        let mut all = vec![count(ended as f64), count(class.outcomes[Outcome::Finished as usize] as f64)];
        if summary.slo.is_set() {
            all.push(Unit::Share.show(class.good as f64 / class.served() as f64));
        }
        all.extend(cells([
            at(&l.ttft, 0.5),
            at(&l.ttft, 0.99),
            at(&l.tpot, 0.5),
            at(&l.tpot, 0.99),
            at(&l.e2el, 0.5),
            at(&l.e2el, 0.99),
        ]));
        ClassRow { name: class.name.clone(), cells: all }
    };
    let left_out = order.len().saturating_sub(CLASSES_SHOWN);
    (order.iter().take(CLASSES_SHOWN).map(row).collect(), left_out)
}

fn work(summary: &Summary) -> Vec<(&'static str, String)> {
    let show = |metric| shown(summary, metric);
    let whole = |n: u64| count(n as f64);
    let (tokens, load) = (&summary.tokens, &summary.load);
    let on_one = |n: u32| format!("at most {} on one replica", count(f64::from(n)));
    vec![
        ("Running requests", format!("mean {}, {}", show("running_mean"), on_one(load.running_max))),
        ("Waiting requests", format!("mean {}, {}", show("waiting_mean"), on_one(load.waiting_max))),
        ("Time in steps", format!("{} of the run: a step was running, however small its batch", show("utilization"))),
        ("Prompt tokens", format!("{} ({} from the prefix cache)", whole(tokens.prompt), show("prefix_hit_rate"))),
        ("Output tokens", whole(tokens.output)),
        ("Recomputed tokens", format!("{} ({} of all computed)", whole(tokens.recomputed), show("recompute_tax"))),
        ("Swapped tokens", whole(tokens.swapped)),
        ("Sequences per step", sizes(&summary.batches.seqs)),
        ("Tokens per step", sizes(&summary.batches.tokens)),
        ("Steps", format!("{} in {} jumps of {} on average", show("steps"), show("segments"), show("mean_jump"))),
    ]
}

/// "mean 31.0, p99 80, at most 96".
fn sizes(histogram: &Histogram) -> String {
    let whole = |n: Option<u64>| n.map_or_else(|| "–".to_owned(), |n| count(n as f64));
    let mean = histogram.mean().map_or_else(|| "–".to_owned(), number);
    format!("mean {mean}, p99 {}, at most {}", whole(histogram.quantile(0.99)), whole(histogram.max()))
}

/// A target as a table row.
impl Verdict {
    fn html_row(&self) -> String {
        let (class, mark) = if self.met() { ("met", "✓ met") } else { ("missed", "✗ missed") };
        format!(
            "<tr class=\"{class}\"><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"verdict\">{mark}</td></tr>",
            escaped(&self.label()),
            escaped(&self.value_text()),
            escaped(&self.target_text()),
        )
    }
}

#[cfg(test)]
mod tests;
