//! What has gone through the KV stores: a line on the terminal, a table of the page, an entry of `summary.json`. All are empty where
//! the cache is vLLM's on the GPUs.

use overbook_sim::kv::{Bound, KvTraffic};
use overbook_sim::results::summary::Summary;

use crate::format::{Unit, count};
use crate::json::Json;
use crate::table::Table;

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { Unit::Share.show(part as f64 / whole as f64) }
}

fn tokens(kv: &KvTraffic, blocks: u64) -> u64 {
    blocks * u64::from(kv.block_tokens)
}

/// "37.5 % of 12,000 blocks found, at best 40.1 %, without limit 44.0 %".
fn bound_text(bound: &Bound) -> String {
    format!(
        "{} of {} blocks found, at best {}, without limit {}",
        share(bound.found, bound.asked),
        count(bound.asked as f64),
        share(bound.belady, bound.asked),
        share(bound.unlimited, bound.asked),
    )
}

/// The lines on the terminal: (heading, text).
pub(crate) fn lines(summary: &Summary) -> Vec<(&'static str, String)> {
    let Some(kv) = &summary.kv else { return Vec::new() };
    let mut lines = Vec::new();
    for tier in &kv.tiers {
        let traffic = &tier.traffic;
        lines.push((
            "tier",
            format!(
                "{}: {} tokens loaded ({} of prompt tokens), {} written, {} dropped",
                tier.name,
                count(tokens(kv, traffic.loaded) as f64),
                share(tokens(kv, traffic.loaded), summary.tokens.prompt),
                count(tokens(kv, traffic.written) as f64),
                count(tokens(kv, traffic.dropped) as f64),
            ),
        ));
    }
    if let Some(bound) = &kv.bound {
        lines.push(("cache", bound_text(bound)));
    }
    lines
}

/// The page's table of memories, from the GPUs down.
pub(crate) fn table(summary: &Summary) -> Table {
    let header = [
        "Memory",
        "Tokens found",
        "of the prompts",
        "Found, computed again",
        "Written",
        "Dropped",
        "Moved up early",
        "Links in use",
    ];
    let mut table = Table {
        title: "Prefix cache".to_owned(),
        header: header.map(str::to_owned).into(),
        rows: Vec::new(),
        note: String::new(),
    };
    let Some(kv) = &summary.kv else { return table };
    let whole = |blocks: u64| count(tokens(kv, blocks) as f64);
    let loaded: u64 = kv.tiers.iter().map(|tier| tokens(kv, tier.traffic.loaded)).sum();
    let on_gpus = summary.tokens.cached.saturating_sub(loaded);
    let none = || "–".to_owned();
    table.rows.push(vec![
        "GPUs".to_owned(),
        count(on_gpus as f64),
        share(on_gpus, summary.tokens.prompt),
        none(),
        none(),
        whole(kv.evicted),
        none(),
        none(),
    ]);
    let time = summary.makespan().0.saturating_mul(u64::from(summary.fleet.replicas));
    for tier in &kv.tiers {
        let traffic = &tier.traffic;
        table.rows.push(vec![
            tier.name.clone(),
            whole(traffic.loaded),
            share(tokens(kv, traffic.loaded), summary.tokens.prompt),
            whole(traffic.passed),
            whole(traffic.written),
            whole(traffic.dropped),
            whole(traffic.prefetched),
            share(traffic.busy, time),
        ]);
    }
    let bound = kv.bound.as_ref().map(|bound| format!(" {}.", bound_text(bound))).unwrap_or_default();
    table.note = format!(
        "Tokens, of all replicas. What a tier gives is loaded to the GPUs before its request is admitted. Links: both ways of all replicas \
         together; above 100 % where both are busy.{bound}"
    );
    table
}

/// The entry of `summary.json`.
pub(crate) fn entry(summary: &Summary) -> Option<Json> {
    let kv = summary.kv.as_ref()?;
    let object = |entries: Vec<(&str, Json)>| {
        Json::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let tier = |tier: &overbook_sim::kv::NamedTraffic| {
        let traffic = &tier.traffic;
        object(vec![
            ("tier", tier.name.as_str().into()),
            ("blocks", u64::from(tier.blocks).into()),
            ("loaded_tokens", tokens(kv, traffic.loaded).into()),
            ("passed_tokens", tokens(kv, traffic.passed).into()),
            ("written_tokens", tokens(kv, traffic.written).into()),
            ("dropped_tokens", tokens(kv, traffic.dropped).into()),
            ("prefetched_tokens", tokens(kv, traffic.prefetched).into()),
            ("link_busy_s", Json::Float(traffic.busy as f64 / 1e9)),
        ])
    };
    let mut entries = vec![
        ("block_tokens", u64::from(kv.block_tokens).into()),
        ("evicted_tokens", tokens(kv, kv.evicted).into()),
        ("tiers", Json::List(kv.tiers.iter().map(tier).collect())),
    ];
    if let Some(bound) = &kv.bound {
        let blocks = vec![
            ("asked_blocks", bound.asked.into()),
            ("found_blocks", bound.found.into()),
            ("bound_blocks", bound.belady.into()),
            ("unlimited_blocks", bound.unlimited.into()),
        ];
        entries.push(("bound", object(blocks)));
    }
    Some(object(entries))
}
