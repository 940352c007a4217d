//! Answers of Prometheus' HTTP API: `/api/v1/query_range` (a matrix) and `/api/v1/query` (a vector), one or several.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Metrics, MetricsError, When};

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    metric: BTreeMap<String, String>,
    /// Time [s] and value, as text.
    #[serde(default)]
    values: Vec<(f64, String)>,
    value: Option<(f64, String)>,
}

pub(super) fn read(metrics: &mut Metrics, path: &Path, content: &str) -> Result<(), MetricsError> {
    for answer in serde_json::Deserializer::from_str(content).into_iter::<Answer>() {
        let bad = |why: &serde_json::Error| MetricsError::Syntax {
            path: path.to_owned(),
            line: why.line() as u64,
            expected: "an answer of Prometheus in JSON",
            found: why.to_string(),
        };
        let answer = answer.map_err(|why| bad(&why))?;
        let Some(data) = answer.data.filter(|_| answer.status == "success") else {
            let message = if answer.error.is_empty() { answer.status } else { answer.error };
            return Err(MetricsError::Answer { path: path.to_owned(), message });
        };
        for Found { mut metric, values, value } in data.result {
            let name = metric.remove("__name__").ok_or_else(|| MetricsError::NoName { path: path.to_owned() })?;
            for (at, value) in values.into_iter().chain(value) {
                let number = value.parse().map_err(|_| MetricsError::Syntax {
                    path: path.to_owned(),
                    line: 1,
                    expected: "a number as text",
                    found: crate::quote::shorten(&value),
                })?;
                metrics.push(&name, metric.clone(), When::At(at), number);
            }
        }
    }
    Ok(())
}
