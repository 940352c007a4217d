//! The page of a plan.

use askama::Template;
use overbook_sim::results::trust::Trust;

use super::text::{a_month, binds_line, headroom_line, power_lines, times};
use super::{Fleet, Plan, chart, heat};
use crate::figure::Figure;
use crate::format::{Unit, number};
use crate::table::Table;
use crate::tornado::{Bar, Tornado};
use crate::{Report, ReportError};

/// Rows of the ledger on the page; the file has all.
const LEDGER_SHOWN: usize = 60;

#[derive(Template)]
#[template(path = "plan.html")]
struct Page<'a> {
    plan: &'a Plan,
    /// Whether there is an answer, and it is a sure one.
    sure: bool,
    /// The answer, and what else is said of it.
    sentences: (&'a str, &'a str),
    keys: Vec<(&'static str, String, String)>,
    headroom: Vec<(String, String)>,
    growth: Vec<[String; 4]>,
    alternatives: Vec<[String; 6]>,
    /// Power, reserved GPUs, what binds steps: of what, and the line.
    facts: Vec<(String, String)>,
    heat: String,
    figures: String,
    ledger: Vec<[String; 5]>,
    left_out: usize,
    trust: String,
    /// How far the figures are to be trusted, in columns.
    errors: Vec<[String; 4]>,
    /// Of what, its share in percent, and the same in words.
    uses: Vec<(String, Option<String>, String)>,
    tornado: String,
    /// Charts over time, and tables of the worst minutes and of outages.
    over_time: String,
    tables: Vec<Table>,
}

pub(super) fn html(plan: &Plan) -> Result<String, ReportError> {
    let dash = || "–".to_owned();
    let or_dash = |text: String| if text.is_empty() { dash() } else { text };
    let growth = plan.growth.iter().map(|one| {
        let gpus = one.gpus.map_or_else(|| "none within the limit".to_owned(), |gpus| gpus.to_string());
        [times(one.factor), one.replicas.clone().unwrap_or_else(dash), gpus, or_dash(a_month(one.usd_per_month))]
    });
    let alternatives = plan.alternatives.iter().map(|one| {
        let price = or_dash(a_month(one.usd_per_month));
        let kw = one.kw_peak.map_or_else(dash, number);
        let binds = one.binds.as_ref().map_or_else(dash, binds_line);
        [one.shape.clone(), format!("{} ({})", one.gpus, one.replicas), price, kw, binds, one.why.clone()]
    });
    let ledger = plan.ledger.iter().take(LEDGER_SHOWN).map(|row| {
        let gpus = row.gpus.map_or_else(dash, |gpus| gpus.to_string());
        [row.shape.clone(), row.replicas.clone(), gpus, row.outcome.to_owned(), row.reason.clone()]
    });
    let page = Page {
        plan,
        sure: plan.answer.is_some() && !plan.too_close_to_call,
        sentences: plan.sentence.split_once(". ").unwrap_or((&plan.sentence, "")),
        keys: keys(plan),
        headroom: plan.headroom.iter().map(|one| (one.growth.clone(), headroom_line(one))).collect(),
        growth: growth.collect(),
        alternatives: alternatives.collect(),
        facts: facts(plan),
        heat: heat::html(plan),
        figures: chart::figures(plan).iter().map(Figure::html).collect(),
        ledger: ledger.collect(),
        left_out: plan.ledger.len().saturating_sub(LEDGER_SHOWN),
        trust: plan.trust.as_ref().map_or_else(String::new, ToString::to_string),
        errors: plan.trust.iter().map(errors).collect(),
        uses: plan.uses.iter().map(|one| (one.of.clone(), one.share.map(percent), one.text.clone())).collect(),
        tornado: tornado(plan),
        over_time: plan.run.iter().flat_map(|run| crate::html::over_time(run)).map(|figure| figure.html()).collect(),
        tables: plan.run.iter().flat_map(|run| tables(run)).filter(|table| !table.rows.is_empty()).collect(),
    };
    Ok(page.render()?)
}

/// What else there is to say of the answer.
fn facts(plan: &Plan) -> Vec<(String, String)> {
    let fleet = plan.answer.as_ref();
    let power = fleet.iter().flat_map(|fleet| power_lines(fleet)).map(|line| ("Power".to_owned(), line));
    let binds = fleet.and_then(|fleet| fleet.binds.as_ref());
    let binds = binds.map(|binds| ("Its steps are bound by".to_owned(), binds_line(binds)));
    let split = plan.split.iter().flat_map(|split| [split.sentence(), split.note()]);
    let split = split.map(|line| ("Reserved and on demand".to_owned(), line));
    binds.into_iter().chain(power).chain(split).collect()
}

fn percent(share: f64) -> String {
    format!("{:.1}", share.clamp(0.0, 1.0) * 100.0)
}

fn tables(run: &Report) -> [Table; 2] {
    let summary = &run.summary;
    [crate::worst::table(&run.timeline, summary.last_end, run.clock), crate::outages::table(summary)]
}

/// Standing, measured runs, their median error, and by what the answer lies outside of what was measured.
fn errors(trust: &Trust) -> [String; 4] {
    let (runs, error) = trust.runs.as_ref().map_or_else(
        || ("none".to_owned(), "–".to_owned()),
        |runs| {
            let within = Unit::Share.short(runs.within);
            (format!("{} of {} within {within}", runs.confirmed, runs.of), Unit::Share.show(runs.error))
        },
    );
    let why = trust.standing.why();
    [trust.standing.name().to_owned(), runs, error, if why.is_empty() { "–".to_owned() } else { why }]
}

/// What the price of tokens hangs on.
fn tornado(plan: &Plan) -> String {
    let Some(base) = plan.answer.as_ref().and_then(|fleet| fleet.usd_per_mtoken) else { return String::new() };
    let bar = |one: &super::Sensitivity| {
        let told = |usd: f64, sign: &str| (usd, format!("${} ({sign} 20 %)", number(usd)));
        let (less, more) = (told(one.less, "−"), told(one.more, "+"));
        let (low, high) = if one.less <= one.more { (less, more) } else { (more, less) };
        Bar { name: one.of.clone(), ends: (low.0, high.0), told: (low.1, high.1) }
    };
    let bars = plan.sensitivity.iter().map(bar).collect();
    let told = format!("Around ${}: one thing is a fifth less or more, all else the same.", number(base));
    Tornado { title: "$ per million output tokens".to_owned(), base, told, bars }.html()
}

/// Replicas and what they run on: `8 + 3 of h200`, `8 of h100 + 3 of h200`.
fn replicas_of(fleet: &Fleet) -> String {
    match (&fleet.decode_gpu, fleet.replicas.split_once(" + ")) {
        (Some(gpu), Some((prefill, decode))) => format!("{prefill} of {} + {decode} of {gpu}", fleet.gpu),
        _ => format!("{} of {}", fleet.replicas, fleet.gpu),
    }
}

/// The main figures: name, value, what it means.
fn keys(plan: &Plan) -> Vec<(&'static str, String, String)> {
    let Some(fleet) = &plan.answer else { return Vec::new() };
    let mut keys = vec![("GPUs", fleet.gpus.to_string(), replicas_of(fleet))];
    if let Some(month) = fleet.usd_per_month {
        let hour = fleet.usd_per_hour.map_or_else(String::new, |usd| format!("${} an hour", number(usd)));
        keys.push(("A month", a_month(Some(month)).replace(" a month", ""), hour));
    }
    if let Some(one) = plan.headroom.first() {
        keys.push(("Headroom", times(one.factor), format!("{:.2} to {:.2}", one.low, one.high)));
    }
    if let Some(usd) = fleet.usd_per_mtoken {
        keys.push(("A million tokens", format!("${}", number(usd)), "of output, at this load".to_owned()));
    }
    if let Some(power) = &fleet.power {
        let mean = format!("servers at their peak; {} on average", number(power.servers_mean_kw));
        keys.push(("Power", format!("{} kW", number(power.servers_peak_kw)), mean));
    }
    if let (Some(user), Some(gpu)) = (fleet.tokens_per_s_per_user, fleet.tokens_per_s_per_gpu) {
        keys.push(("Speed", format!("{} tok/s", number(user)), format!("a user's; {} per GPU", number(gpu))));
    }
    keys
}
