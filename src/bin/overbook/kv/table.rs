//! What caches found, as text, CSV and JSON.

use std::fmt::Write as _;

use overbook::kv::CacheTable;
use overbook_sim::kv::eviction::{EvictionNeeds, EvictionSpec};
use overbook_sim::kv::replay::{CacheTraffic, Found};
use serde_json::{Value, json};

use crate::trace::columns::numbers;

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(rate: f64) -> String {
    format!("{:.2}", rate * 100.0)
}

/// What a policy goes by and this trace does not say.
fn lacks(needs: EvictionNeeds, traffic: &CacheTraffic) -> Option<&'static str> {
    if needs.categories && !traffic.categories {
        return Some("Here all requests are of one class and no session: one category, which is `lru`.");
    }
    (needs.priorities && !traffic.priorities).then_some("Here all requests have one priority: `sglang lru`.")
}

/// The bound first, then the policies.
fn rows(table: &CacheTable) -> impl Iterator<Item = (&EvictionSpec, &[Found])> {
    let bound = (&EvictionSpec::Belady, table.bound.as_slice());
    std::iter::once(bound).chain(table.rows.iter().map(|(policy, found)| (policy, found.as_slice())))
}

pub(super) fn text(table: &CacheTable) -> String {
    let traffic = &table.traffic;
    let mut text = format!(
        "{} requests with {} prompt tokens: {} blocks of {} tokens, of which {} are full and named; {} contents, at most {} in a \
         request\n",
        grouped(traffic.requests - traffic.unnamed),
        grouped(traffic.prompt_tokens),
        grouped(traffic.blocks),
        traffic.block_tokens,
        grouped(traffic.accesses),
        grouped(traffic.distinct),
        grouped(u64::from(traffic.longest)),
    );
    if traffic.unnamed > 0 {
        let _ = writeln!(
            text,
            "{} more requests do not say what they contain; they are left out",
            grouped(traffic.unnamed)
        );
    }
    let unlimited = traffic.unlimited;
    let (blocks, tokens) = (percent(traffic.block_rate(unlimited)), percent(traffic.token_rate(unlimited)));
    let _ = writeln!(text, "a cache without limit finds {blocks} % of the blocks, {tokens} % of the prompt tokens\n");
    let part = |title: &str, cell: &dyn Fn(Found, usize) -> String| {
        let head = std::iter::once(title.to_owned());
        let mut cells = vec![head.chain(table.sizes.iter().map(|&size| grouped(u64::from(size)))).collect::<Vec<_>>()];
        for (policy, found) in rows(table) {
            let name = match policy {
                EvictionSpec::Belady => "belady (bound)".to_owned(),
                policy => policy.label(),
            };
            let found = found.iter().enumerate().map(|(size, &found)| cell(found, size));
            cells.push(std::iter::once(name).chain(found).collect());
        }
        numbers(&cells)
    };
    text.push_str(&part("blocks found [%], cache of", &|found, _| percent(traffic.block_rate(found))));
    text.push_str("\n\n");
    text.push_str(&part("prompt tokens found [%]", &|found, _| percent(traffic.token_rate(found))));
    text.push_str("\n\n");
    text.push_str(&part("below the bound [points]", &|found, size| percent(table.below_bound(found, size))));
    text.push_str("\n\n");
    text.push_str(&notes(table));
    text
}

fn notes(table: &CacheTable) -> String {
    let mut notes =
        "Nothing is pinned, and what is missing is admitted. Tokens count up to the first block that is missing.\n"
            .to_owned();
    let mut before = "";
    for (policy, _) in rows(table) {
        let (name, about) = (policy.label(), policy.about());
        // SGLang's seven orders have one note.
        if about != before {
            let _ = writeln!(notes, "{}: {about}", if policy.name() == "sglang" { "sglang" } else { &name });
        }
        before = about;
        if let Some(lacks) = lacks(policy.needs(), &table.traffic) {
            let _ = writeln!(notes, "{name}: {lacks}");
        }
    }
    notes
}

pub(super) fn csv(table: &CacheTable) -> String {
    let mut csv =
        "policy,cache_blocks,blocks_found,block_rate,leading_blocks_found,token_rate,below_bound\n".to_owned();
    for (policy, found) in rows(table) {
        for (size, &found) in found.iter().enumerate() {
            let (block_rate, token_rate) = (table.traffic.block_rate(found), table.traffic.token_rate(found));
            let _ = writeln!(
                csv,
                "{},{},{},{block_rate:.6},{},{token_rate:.6},{:.6}",
                policy.label(),
                table.sizes[size],
                found.blocks,
                found.leading,
                table.below_bound(found, size)
            );
        }
    }
    csv
}

pub(super) fn json(table: &CacheTable) -> String {
    let traffic = &table.traffic;
    let found = |found: Found| {
        json!({
            "blocks_found": found.blocks,
            "block_rate": traffic.block_rate(found),
            "leading_blocks_found": found.leading,
            "token_rate": traffic.token_rate(found),
        })
    };
    let policies: Vec<Value> = rows(table)
        .map(|(policy, all)| {
            let at = |(size, &one): (usize, &Found)| {
                let mut cell = json!({ "cache_blocks": table.sizes[size] });
                if let (Value::Object(cell), Value::Object(more)) = (&mut cell, found(one)) {
                    cell.extend(more);
                    cell.insert("below_bound".to_owned(), json!(table.below_bound(one, size)));
                }
                cell
            };
            json!({
                "policy": policy.label(),
                "settings": policy,
                "about": policy.about(),
                "lacks": lacks(policy.needs(), traffic),
                "caches": all.iter().enumerate().map(at).collect::<Vec<_>>(),
            })
        })
        .collect();
    let document = json!({
        "requests": traffic.requests,
        "requests_without_contents": traffic.unnamed,
        "prompt_tokens": traffic.prompt_tokens,
        "block_tokens": traffic.block_tokens,
        "blocks": traffic.blocks,
        "accesses": traffic.accesses,
        "contents": traffic.distinct,
        "unlimited": found(traffic.unlimited),
        "policies": policies,
    });
    format!("{document:#}")
}
