//! The page of a plan.

use askama::Template;

use super::text::{a_month, headroom_line, times};
use super::{Plan, chart};
use crate::ReportError;
use crate::figure::Figure;
use crate::format::number;

/// Rows of the ledger on the page; the file has all.
const LEDGER_SHOWN: usize = 60;

#[derive(Template)]
#[template(path = "plan.html")]
struct Page<'a> {
    plan: &'a Plan,
    /// Whether there is an answer, and it is a sure one.
    sure: bool,
    keys: Vec<(&'static str, String, String)>,
    headroom: Vec<(String, String)>,
    growth: Vec<[String; 4]>,
    alternatives: Vec<[String; 4]>,
    figures: String,
    ledger: Vec<[String; 5]>,
    left_out: usize,
    trust: String,
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
        [one.shape.clone(), format!("{} ({})", one.gpus, one.replicas), price, one.why.clone()]
    });
    let ledger = plan.ledger.iter().take(LEDGER_SHOWN).map(|row| {
        let gpus = row.gpus.map_or_else(dash, |gpus| gpus.to_string());
        [row.shape.clone(), row.replicas.clone(), gpus, row.outcome.to_owned(), row.reason.clone()]
    });
    let page = Page {
        plan,
        sure: plan.answer.is_some() && !plan.too_close_to_call,
        keys: keys(plan),
        headroom: plan.headroom.iter().map(|one| (one.growth.clone(), headroom_line(one))).collect(),
        growth: growth.collect(),
        alternatives: alternatives.collect(),
        figures: chart::figures(plan).iter().map(Figure::html).collect(),
        ledger: ledger.collect(),
        left_out: plan.ledger.len().saturating_sub(LEDGER_SHOWN),
        trust: plan.trust.as_ref().map_or_else(String::new, ToString::to_string),
    };
    Ok(page.render()?)
}

/// The main figures: name, value, what it means.
fn keys(plan: &Plan) -> Vec<(&'static str, String, String)> {
    let Some(fleet) = &plan.answer else { return Vec::new() };
    let mut keys = vec![("GPUs", fleet.gpus.to_string(), format!("{} of {}", fleet.replicas, fleet.gpu))];
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
    if let (Some(user), Some(gpu)) = (fleet.tokens_per_s_per_user, fleet.tokens_per_s_per_gpu) {
        keys.push(("Speed", format!("{} tok/s", number(user)), format!("a user's; {} per GPU", number(gpu))));
    }
    keys
}
