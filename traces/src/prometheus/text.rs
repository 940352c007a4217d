//! Prometheus' text format: `name{label="value"} 5 1700000000000`, one sample per line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Key, Metrics, MetricsError, When};
use crate::quote::shorten;

/// Reads scrapes. Without timestamps, a series that comes again begins the next scrape.
pub(super) fn read(metrics: &mut Metrics, path: &Path, content: &str) -> Result<(), MetricsError> {
    let mut seen = BTreeSet::new();
    metrics.scrapes += 1;
    for (at, line) in content.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = |expected| MetricsError::Syntax {
            path: path.to_owned(),
            line: at as u64 + 1,
            expected,
            found: shorten(line),
        };
        let sample = sample(line).map_err(bad)?;
        let key = Key { name: sample.name.to_owned(), labels: sample.labels };
        let when = if let Some(ms) = sample.at_ms {
            When::At(ms / 1e3)
        } else {
            if seen.contains(&key) {
                seen.clear();
                metrics.scrapes += 1;
            }
            seen.insert(key.clone());
            When::Scrape(metrics.scrapes - 1)
        };
        metrics.push(sample.name, key.labels, when, sample.value);
    }
    Ok(())
}

struct Sample<'a> {
    name: &'a str,
    labels: BTreeMap<String, String>,
    value: f64,
    at_ms: Option<f64>,
}

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace()).ok_or("a metric and its value")?;
    let name = &line[..end];
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || !name.chars().all(valid) {
        return Err("the name of a metric");
    }
    let (labels, rest) = match line[end..].strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), &line[end..]),
    };
    let mut words = rest.split_whitespace();
    let value = words.next().and_then(|word| word.parse().ok()).ok_or("a number after the metric")?;
    let at_ms = match words.next() {
        None | Some("#") => None,
        Some(word) => Some(word.parse().map_err(|_| "a timestamp in milliseconds after the value")?),
    };
    Ok(Sample { name, labels, value, at_ms })
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), &'static str> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, after) = rest.split_once("=\"").ok_or("labels like {model_name=\"...\"}")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, other)) => value.push(other),
                    None => return Err("the closing quote of a label"),
                },
                Some((_, other)) => value.push(other),
                None => return Err("the closing quote of a label"),
            }
        };
        labels.insert(name.trim().to_owned(), value);
        rest = &after[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        let read =
            sample(r#"vllm:x_bucket{le="+Inf", model_name="a \"b\" \\ {c}",} 5e3 1700000000123"#).expect("reads");
        assert_eq!((read.name, read.value, read.at_ms), ("vllm:x_bucket", 5000.0, Some(1_700_000_000_123.0)));
        assert_eq!(read.labels["model_name"], "a \"b\" \\ {c}");
        assert_eq!(read.labels["le"], "+Inf");
        assert_eq!(sample("up 1").map(|sample| sample.value), Ok(1.0));
        assert!(sample("up NaN").is_ok_and(|sample| sample.value.is_nan()));
        for bad in ["up", "up{a=\"b} 1", "up{a=b} 1", "up one", "a-b 1", "up 1 soon"] {
            assert!(sample(bad).is_err(), "{bad}");
        }
    }
}
