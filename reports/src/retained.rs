//! What requests under a budget kept, and what their answers are worth: lines on the terminal, a table of the page, an entry of
//! `summary.json`. All are empty where nothing is thrown away and no quality is asked for.

use overbook_sim::results::summary::Summary;

use crate::format::{Unit, count, number};
use crate::json::Json;
use crate::table::Table;

fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| Unit::Share.show(value))
}

/// The lines on the terminal: (heading, text).
pub(crate) fn lines(summary: &Summary) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(retained) = &summary.retained {
        let (total, whole) = (retained.total(), retained.finished.get(&0).map_or(0, |of| of.requests));
        let kept = total.kept_tokens as f64 / total.tokens.max(1) as f64;
        let shrunk = if retained.shrunk == 0 {
            String::new()
        } else {
            format!(", {} times shrunk instead of preempted", count(retained.shrunk as f64))
        };
        let cut = count((total.requests - whole) as f64);
        lines.push((
            "retention",
            format!(
                "{cut} of {} requests lost tokens; {} of tokens kept at the end{shrunk}",
                count(total.requests as f64),
                Unit::Share.show(kept)
            ),
        ));
    }
    if let Some(quality) = &summary.quality {
        let unknown = summary.quality_unknown().unwrap_or(0.0);
        let (task, model) = (&quality.task, &quality.model);
        let told = match summary.quality_share().zip(summary.answers_per_gpu_second()) {
            Some((value, rate)) => format!(
                "{} of the answers of full caches, {} right answers per GPU second ({task} on {model}; {})",
                Unit::Share.show(value),
                number(rate),
                quality.source
            ),
            None => {
                format!(
                    "unknown for {} of requests ({task} on {model}): {}",
                    Unit::Share.show(unknown),
                    quality.unknown
                )
            }
        };
        lines.push(("quality", told));
    }
    lines
}

/// The page's table, a row for each budget.
pub(crate) fn table(summary: &Summary) -> Table {
    let header = ["Slots", "Requests", "Output tokens", "Tokens kept at the end", "Right answers", "of full caches'"];
    let mut table = Table {
        title: "Retention".to_owned(),
        header: header.map(str::to_owned).into(),
        rows: Vec::new(),
        note: String::new(),
    };
    let Some(retained) = &summary.retained else { return table };
    let quality = summary.quality.as_ref();
    for (&budget, of) in &retained.finished {
        let score = quality.and_then(|quality| quality.by_budget.get(&budget).copied().flatten());
        let full = quality.map(|quality| quality.full);
        table.rows.push(vec![
            if budget == 0 { "all".to_owned() } else { count(f64::from(budget)) },
            count(of.requests as f64),
            count(of.output_tokens as f64),
            Unit::Share.show(of.kept_tokens as f64 / of.tokens.max(1) as f64),
            share(score),
            share(score.zip(full).map(|(score, full)| score / full)),
        ]);
    }
    let source = match quality {
        Some(quality) => format!(
            " Answers: {} on {}, `{}`, {}. Interpolated between measured budgets, unknown beyond them{}{}.",
            quality.task,
            quality.model,
            quality.policy,
            quality.source,
            if quality.unknown.is_empty() { "" } else { ": " },
            quality.unknown
        ),
        None => " No quality is stated: `slo.quality` names a task.".to_owned(),
    };
    table.note = format!("Finished requests by the slots that each layer and KV head could keep.{source}");
    table
}

/// The entry of `summary.json`.
pub(crate) fn entry(summary: &Summary) -> Option<Json> {
    if summary.retained.is_none() && summary.quality.is_none() {
        return None;
    }
    let object = |entries: Vec<(&str, Json)>| {
        Json::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let float = |value: Option<f64>| value.map_or(Json::Null, Json::Float);
    let quality = summary.quality.as_ref();
    let mut entries = Vec::new();
    if let Some(retained) = &summary.retained {
        let by_budget = retained.finished.iter().map(|(&budget, of)| {
            let score = quality.and_then(|quality| quality.by_budget.get(&budget).copied().flatten());
            object(vec![
                ("slots", if budget == 0 { Json::Null } else { u64::from(budget).into() }),
                ("requests", of.requests.into()),
                ("output_tokens", of.output_tokens.into()),
                ("tokens", of.tokens.into()),
                ("kept_tokens", of.kept_tokens.into()),
                ("score", float(score)),
            ])
        });
        entries.push(("finished", Json::List(by_budget.collect())));
        entries.push(("shrunk", retained.shrunk.into()));
    }
    if let Some(quality) = quality {
        let of = vec![
            ("task", quality.task.as_str().into()),
            ("model", quality.model.as_str().into()),
            ("policy", quality.policy.as_str().into()),
            ("full_score", Json::Float(quality.full)),
            ("source", quality.source.as_str().into()),
            ("unknown", if quality.unknown.is_empty() { Json::Null } else { quality.unknown.as_str().into() }),
        ];
        entries.push(("quality", object(of)));
        entries.push(("answers_of_full_caches", float(summary.quality_share())));
        entries.push(("quality_unknown", float(summary.quality_unknown())));
        entries.push(("answers_per_gpu_second", float(summary.answers_per_gpu_second())));
    }
    Some(object(entries))
}
