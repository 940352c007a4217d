//! What became of drafted tokens: a line on the terminal, a table of the page, an entry of `summary.json`. All are empty without
//! speculative decoding.

use overbook_sim::results::summary::Summary;

use crate::format::{Unit, count, number};
use crate::json::Json;
use crate::table::Table;

/// The line on the terminal: (heading, text).
pub(crate) fn line(summary: &Summary) -> Option<(&'static str, String)> {
    let figures = summary.speculation.as_ref()?;
    let length = figures.mean_acceptance_length().map_or_else(|| "no".to_owned(), number);
    let rate = figures.acceptance_rate().map_or_else(|| "none".to_owned(), |rate| Unit::Share.show(rate));
    let text = format!(
        "{length} tokens a sequence and step; {rate} of {} drafts accepted, {} behind the end of an output",
        count(figures.draft_tokens as f64),
        count(figures.past_end_tokens as f64)
    );
    Some(("speculation", text))
}

/// Accepted drafts of a position over the sequences and steps that verified some.
fn share(summary: &Summary, at: u64) -> f64 {
    let drafts = summary.speculation.as_ref().map_or(0, |figures| figures.drafts);
    at as f64 / drafts.max(1) as f64
}

/// The page's table, a row for each position.
pub(crate) fn table(summary: &Summary) -> Table {
    let header = ["Position", "Accepted", "of steps and sequences", "of those that came so far"];
    let mut table = Table {
        title: "Speculation".to_owned(),
        header: header.map(str::to_owned).into(),
        rows: Vec::new(),
        note: String::new(),
    };
    let Some(figures) = &summary.speculation else { return table };
    let mut before = figures.drafts;
    for (position, &at) in figures.accepted_at.iter().enumerate() {
        let given = if before == 0 { "none".to_owned() } else { Unit::Share.show(at as f64 / before as f64) };
        table.rows.push(vec![
            (position + 1).to_string(),
            count(at as f64),
            Unit::Share.show(share(summary, at)),
            given,
        ]);
        before = at;
    }
    table.note = format!(
        "Drafts are drawn for each sequence and step. {} sequences and steps; {} accepted drafts came behind the end of an output: no \
         client gets them.",
        count(figures.drafts as f64),
        count(figures.past_end_tokens as f64)
    );
    table
}

/// The entry of `summary.json`, under vLLM's names.
pub(crate) fn entry(summary: &Summary) -> Option<Json> {
    let figures = summary.speculation.as_ref()?;
    let float = |value: Option<f64>| value.map_or(Json::Null, Json::Float);
    let entries = vec![
        ("num_drafts", figures.drafts.into()),
        ("num_draft_tokens", figures.draft_tokens.into()),
        ("num_accepted_tokens", figures.accepted_tokens.into()),
        ("num_accepted_tokens_per_pos", Json::List(figures.accepted_at.iter().map(|&at| at.into()).collect())),
        ("past_end_tokens", figures.past_end_tokens.into()),
        ("acceptance_rate", float(figures.acceptance_rate())),
        ("mean_acceptance_length", float(figures.mean_acceptance_length())),
    ];
    Some(Json::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}
