//! What caches found, as text, CSV and JSON.

use std::fmt::Write as _;

use overbook::kv::CacheTable;
use overbook_sim::kv::eviction::EvictionSpec;
use overbook_sim::kv::replay::Found;
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

/// Three digits, without zeros at the end.
fn short(number: f64) -> String {
    let decimals = (2.0 - number.abs().max(1e-6).log10().floor()).clamp(0.0, 8.0) as usize;
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A policy's name with the settings that are not its own: two rows of one policy must not look alike.
fn name(policy: &EvictionSpec) -> String {
    let defaults = EvictionSpec::defaults();
    if defaults.contains(policy) {
        return policy.label();
    }
    let settings = |policy: &EvictionSpec| json!(policy)[policy.name()].clone();
    let usual = defaults.iter().find(|other| other.name() == policy.name()).map(settings).unwrap_or_default();
    let mut name = policy.label();
    for (key, value) in settings(policy).as_object().into_iter().flatten() {
        if usual.get(key) != Some(value) {
            let _ = write!(name, " {key}={value}");
        }
    }
    name
}

/// A cell of a CSV file.
fn cell(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The bound first, then the policies.
fn rows(table: &CacheTable) -> impl Iterator<Item = (&EvictionSpec, &[Found])> {
    let bound = (&EvictionSpec::Belady, table.bound.as_slice());
    std::iter::once(bound).chain(table.rows.iter().map(|(policy, found)| (policy, found.as_slice())))
}

pub(super) fn text(table: &CacheTable) -> String {
    let traffic = &table.traffic;
    let unlimited = traffic.unlimited;
    let mut text = summary(table);
    let blocks = |found: Found| traffic.block_rate(found);
    let tokens = |found: Found| traffic.token_rate(found);
    for part in [
        part(table, "Blocks found [% of all blocks]", blocks(unlimited), &|found, _| blocks(found)),
        part(table, "Prompt tokens found [% of all prompt tokens]", tokens(unlimited), &|found, _| tokens(found)),
        part(table, "Blocks missed that the bound finds [points]", 0.0, &|found, at| table.below_bound(found, at)),
    ] {
        text.push_str(&part);
        text.push_str("\n\n");
    }
    text.push_str(&notes(table));
    text
}

/// What the requests are, and the most that a cache can find.
fn summary(table: &CacheTable) -> String {
    let traffic = &table.traffic;
    let mut text = format!(
        "{} requests, {} prompt tokens: {} blocks of {} tokens, {} of them full and named, with {} contents\n",
        grouped(traffic.requests - traffic.unnamed),
        grouped(traffic.prompt_tokens),
        grouped(traffic.blocks),
        traffic.block_tokens,
        grouped(traffic.accesses),
        grouped(traffic.distinct),
    );
    if traffic.unnamed > 0 {
        let _ = writeln!(
            text,
            "{} more requests do not say what they contain; they are left out",
            grouped(traffic.unnamed)
        );
    }
    if let Some(small) = table.sizes.iter().rfind(|&&size| size < traffic.longest) {
        let _ = writeln!(
            text,
            "the longest request has {} blocks: caches up to {} cannot hold it",
            grouped(u64::from(traffic.longest)),
            grouped(u64::from(*small))
        );
    }
    text.push('\n');
    text
}

/// A figure of every policy at every size.
fn part(table: &CacheTable, title: &str, unlimited: f64, cell: &dyn Fn(Found, usize) -> f64) -> String {
    let line = |head: &str, cells: Vec<String>, last: String| -> Vec<String> {
        std::iter::once(head.to_owned()).chain(cells).chain([last]).collect()
    };
    let sizes = table.sizes.iter().map(|&size| grouped(u64::from(size))).collect();
    let shares = table.sizes.iter().map(|&size| format!("{} %", short(table.share(size) * 100.0))).collect();
    let mut lines = vec![
        line("  cache [blocks]", sizes, "unlimited".to_owned()),
        line("  of all contents", shares, "100 %".to_owned()),
    ];
    for (policy, found) in rows(table) {
        let name = match policy {
            EvictionSpec::Belady => "  belady (bound)".to_owned(),
            policy => format!("  {}", name(policy)),
        };
        let cells = found.iter().enumerate().map(|(at, &found)| percent(cell(found, at))).collect();
        lines.push(line(&name, cells, percent(unlimited)));
    }
    format!("{title}\n{}", numbers(&lines))
}

fn notes(table: &CacheTable) -> String {
    let mut notes = "An unlimited cache finds every content but its first use: the ceiling. Belady's policy knows all uses to come; \
                     no policy finds more blocks in a\ncache of that size. Nothing is pinned, and what is missing is admitted. \
                     Tokens count up to a prompt's first missing block: what an engine\nneed not compute.\n"
        .to_owned();
    let mut before = "";
    for (policy, _) in rows(table) {
        let (name, about) = (name(policy), policy.about());
        // SGLang's orders have one note.
        if about != before {
            let _ = writeln!(notes, "{}: {about}", if policy.name() == "sglang" { "sglang" } else { &name });
        }
        before = about;
    }
    for (policy, lacks) in &table.left_out {
        let _ = writeln!(notes, "left out, {}: {lacks}", policy.label());
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
                cell(&name(policy)),
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
                let mut cell =
                    json!({ "cache_blocks": table.sizes[size], "share_of_contents": table.share(table.sizes[size]) });
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
                "caches": all.iter().enumerate().map(at).collect::<Vec<_>>(),
            })
        })
        .collect();
    let left_out: Vec<Value> = table
        .left_out
        .iter()
        .map(|(policy, lacks)| json!({ "policy": policy.label(), "settings": policy, "lacks": lacks }))
        .collect();
    let document = json!({
        "requests": traffic.requests,
        "requests_without_contents": traffic.unnamed,
        "prompt_tokens": traffic.prompt_tokens,
        "block_tokens": traffic.block_tokens,
        "blocks": traffic.blocks,
        "accesses": traffic.accesses,
        "contents": traffic.distinct,
        "longest_request_blocks": traffic.longest,
        "unlimited": found(traffic.unlimited),
        "policies": policies,
        "left_out": left_out,
    });
    format!("{document:#}")
}
