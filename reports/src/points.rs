//! `points.parquet`: all points of a study in one table, for data frames and notebooks.
//!
//! A row per point that ended, in the sweep's order: its place on every axis (doubles where an axis has quantities, with the unit in the
//! name: `workload.rate [/s]`; else strings), as strings how far the point is to be trusted (`trust`: validated, extrapolated or prior, and
//! `trust_why`), then every figure under the names and in the units of `study.csv` and `slo:`, null where a run does not define it: seconds,
//! shares, rates per second. Figures that only `summary.json` has follow by the same rule, nested ones as `tokens/cached_tokens`.

use std::path::Path;

use serde_json::Value;

use crate::sheet::{self, Column};
use crate::{ReportError, axes};

/// File name of the table.
pub const POINTS: &str = "points.parquet";

/// Statistics that stand before the name of what they are of in `summary.json`, and behind it in metrics.
const STATISTICS: [&str; 10] = ["mean", "std", "p50", "p90", "p95", "p99", "p99.9", "max", "min", "count"];

/// The points of a study, side by side.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Points {
    axes: Vec<String>,
    /// Per point, its place on every axis.
    places: Vec<Vec<String>>,
    /// Per point, standing and reason of its trust; empty where the summary has none.
    trust: Vec<[String; 2]>,
    /// Names of the figures, in order of appearance, and per point its value.
    figures: Vec<(String, Vec<Option<f64>>)>,
}

impl Points {
    /// A table without points; the axes are named.
    pub fn new(axes: Vec<String>) -> Points {
        Points { axes, ..Points::default() }
    }

    /// Adds a point: its place on every axis, its metrics, and the text of its `summary.json`.
    ///
    /// # Errors
    /// The summary is not JSON.
    pub fn push<'m>(
        &mut self,
        places: Vec<String>,
        metrics: impl Iterator<Item = (&'m str, f64)>,
        summary: &str,
    ) -> Result<(), ReportError> {
        let unreadable =
            |error: serde_json::Error| ReportError::unreadable(Path::new("summary.json"))(error.to_string());
        let summary: Value = serde_json::from_str(summary).map_err(unreadable)?;
        let told = |key: &str| summary["trust"][key].as_str().unwrap_or_default().to_owned();
        self.trust.push([told("standing"), told("why")]);
        metrics.for_each(|(name, value)| self.figure(name, Some(value)));
        self.add("", &summary);
        self.places.push(places);
        let points = self.places.len();
        // What this point has not is empty; what only this point has is empty before it.
        self.figures.iter_mut().for_each(|(_, values)| values.resize(points, None));
        Ok(())
    }

    fn add(&mut self, path: &str, value: &Value) {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| self.add(&below(key), value)),
            Value::Number(number) => {
                let (name, scale) = metric_name(path);
                self.figure(&name, number.as_f64().map(|value| value * scale));
            }
            _ => {}
        }
    }

    /// A figure of the point that is being added; of two of one name the first counts.
    fn figure(&mut self, name: &str, value: Option<f64>) {
        let points = self.places.len();
        let known = self.figures.iter().position(|(other, _)| other == name);
        let at = known.unwrap_or_else(|| {
            self.figures.push((name.to_owned(), Vec::new()));
            self.figures.len() - 1
        });
        let values = &mut self.figures[at].1;
        if values.len() <= points {
            values.resize(points, None);
            values.push(value);
        }
    }

    /// The columns: axes, how far the point is to be trusted, figures.
    pub fn columns(&self) -> Vec<Column> {
        let axis = |(at, path): (usize, &String)| {
            let places = self.places.iter().map(|place| place.get(at).map_or("", String::as_str));
            let (head, numbers) = axes::column(path, places.clone());
            match numbers {
                Some(numbers) => Column::numbers(&head, numbers.into_iter().map(Some).collect()),
                None => Column::words(&head, places.map(str::to_owned).collect()),
            }
        };
        let trust = ["trust", "trust_why"]
            .into_iter()
            .enumerate()
            .map(|(at, name)| Column::words(name, self.trust.iter().map(|words| words[at].clone()).collect()));
        let figures = self.figures.iter().map(|(name, values)| Column::numbers(name, values.clone()));
        self.axes.iter().enumerate().map(axis).chain(trust).chain(figures).collect()
    }

    /// The file.
    ///
    /// # Errors
    /// The encoder fails, which no input should make it do.
    pub fn parquet(&self) -> Result<Vec<u8>, ReportError> {
        sheet::parquet(POINTS, "point", &self.columns())
    }
}

/// The name that metrics have for a figure of `summary.json`, and the factor to SI units: `p99_ttft_ms` is `ttft_p99`, in seconds.
fn metric_name(path: &str) -> (String, f64) {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let (name, scale) = match name {
        "duration_s" => ("makespan", 1.0),
        "completed" => ("finished", 1.0),
        _ => match (name.strip_suffix("_ms"), name.strip_suffix("_s")) {
            (Some(name), _) => (name, 1e-3),
            (None, Some(name)) => (name, 1.0),
            (None, None) => (name, 1.0),
        },
    };
    let ordered = STATISTICS.iter().find_map(|statistic| {
        let of = name.strip_prefix(statistic)?.strip_prefix('_')?;
        Some(format!("{of}_{}", statistic.replace('.', "_")))
    });
    let name = ordered.unwrap_or_else(|| name.to_owned());
    (if folder.is_empty() { name } else { format!("{folder}/{name}") }, scale)
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    #[test]
    fn points_stand_side_by_side() {
        let mut points = Points::new(vec!["fleet.replicas".into(), "gpu".into(), "workload.rate".into()]);
        let place = |replicas: &str| vec![replicas.to_owned(), "h200".to_owned(), format!("{replicas}/s")];
        let metrics = |ttft: f64| [("ttft_p99", ttft)].into_iter();
        points.push(place("2"), metrics(0.5), r#"{"title": "x", "a": 1, "p99_ttft_ms": 499.9, "max_ttft_ms": 750, "tokens": {"cached": 2.5}, "list": [1]}"#).expect("reads");
        points
            .push(
                place("4"),
                metrics(0.25),
                r#"{"a": null, "trust": {"standing": "prior", "why": "new"}, "tokens": {"cached": 3}, "late": 7}"#,
            )
            .expect("reads");
        let bytes = points.parquet().expect("encodes");
        assert_eq!(bytes, points.parquet().expect("encodes"));
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a file");
        let schema = file.metadata().file_metadata().schema_descr();
        let names: Vec<_> = schema.columns().iter().map(|column| column.name().to_owned()).collect();
        assert_eq!(
            names,
            [
                "fleet.replicas",
                "gpu",
                "workload.rate [/s]",
                "trust",
                "trust_why",
                "ttft_p99",
                "a",
                "ttft_max",
                "tokens/cached",
                "late"
            ]
        );
        let rows: Vec<_> = file.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
        let values = |row: usize| rows[row].get_column_iter().map(|(_, field)| field.clone()).collect::<Vec<_>>();
        let (text, number) = (|text: &str| Field::Str(text.to_owned()), Field::Double);
        let first = [number(2.0), text("h200"), number(2.0), text(""), text("")];
        assert_eq!(values(0)[..5], first);
        assert_eq!(values(0)[5..], [number(0.5), number(1.0), number(0.75), number(2.5), Field::Null]);
        assert_eq!(
            values(1)[3..],
            [text("prior"), text("new"), number(0.25), Field::Null, Field::Null, number(3.0), number(7.0)]
        );
        assert!(points.push(place("8"), metrics(1.0), "{").is_err());
    }

    #[test]
    fn figures_of_summaries_have_the_names_of_metrics() {
        for (path, name, scale) in [
            ("p99.9_queue_time_ms", "queue_time_p99_9", 1e-3),
            ("mean_batch_seqs", "batch_seqs_mean", 1.0),
            ("outages/p99_ttft_ms", "outages/ttft_p99", 1e-3),
            ("duration_s", "makespan", 1.0),
            ("request_throughput", "request_throughput", 1.0),
        ] {
            assert_eq!(metric_name(path), (name.to_owned(), scale));
        }
    }
}
