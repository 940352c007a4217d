//! `points.parquet`: all points of a study in one table, for data frames and notebooks.
//!
//! A row per point that ended, in the sweep's order: its place on every axis (strings, named after the paths of the
//! scenario), then every figure of its `summary.json` (doubles, null where a run does not define it), nested ones as
//! `tokens/cached_tokens`, and as strings how far the point is to be trusted: `trust` (validated, extrapolated or prior) and
//! `trust/why`.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::Value;

use crate::ReportError;

/// File name of the table.
pub const POINTS: &str = "points.parquet";

/// Columns of words after the axes.
const TRUST: [&str; 2] = ["trust", "trust/why"];

/// The name of a column of words, and per point the word.
pub type WordColumn<'a> = (&'a str, Vec<&'a str>);

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

    /// Adds a point: its place on every axis, and the text of its `summary.json`.
    ///
    /// # Errors
    /// The summary is not JSON.
    pub fn push(&mut self, places: Vec<String>, summary: &str) -> Result<(), ReportError> {
        let unreadable =
            |error: serde_json::Error| ReportError::unreadable(Path::new("summary.json"))(error.to_string());
        let summary: Value = serde_json::from_str(summary).map_err(unreadable)?;
        let told = |key: &str| summary["trust"][key].as_str().unwrap_or_default().to_owned();
        self.trust.push([told("standing"), told("why")]);
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
                let points = self.places.len();
                let known = self.figures.iter().position(|(name, _)| name == path);
                let at = known.unwrap_or_else(|| {
                    self.figures.push((path.to_owned(), Vec::new()));
                    self.figures.len() - 1
                });
                let values = &mut self.figures[at].1;
                values.resize(points, None);
                values.push(number.as_f64());
            }
            _ => {}
        }
    }

    /// Columns of words, and of figures: names, and per point the value. Axes come first, then how far the point is to be trusted.
    pub fn columns(&self) -> (Vec<WordColumn<'_>>, &[(String, Vec<Option<f64>>)]) {
        let axes = self.axes.iter().enumerate();
        let axes = axes.map(|(at, axis)| (axis.as_str(), self.places.iter().map(|row| row[at].as_str()).collect()));
        let trust = TRUST.into_iter().enumerate();
        let trust = trust.map(|(at, name)| (name, self.trust.iter().map(|row| row[at].as_str()).collect()));
        (axes.chain(trust).collect(), &self.figures)
    }

    /// The file.
    ///
    /// # Errors
    /// The encoder fails, which no input should make it do.
    pub fn parquet(&self) -> Result<Vec<u8>, ReportError> {
        self.encode().map_err(ReportError::parquet(Path::new(POINTS)))
    }

    fn encode(&self) -> Result<Vec<u8>, ParquetError> {
        let text = |name: &String| {
            let kind = Type::primitive_type_builder(name, Physical::BYTE_ARRAY).with_repetition(Repetition::REQUIRED);
            kind.with_logical_type(Some(LogicalType::String)).build().map(Arc::new)
        };
        let number = |(name, _): &(String, Vec<Option<f64>>)| {
            let kind = Type::primitive_type_builder(name, Physical::DOUBLE).with_repetition(Repetition::OPTIONAL);
            kind.build().map(Arc::new)
        };
        let trust = TRUST.map(str::to_owned);
        let fields: Vec<_> = self
            .axes
            .iter()
            .map(text)
            .chain(trust.iter().map(text))
            .chain(self.figures.iter().map(number))
            .collect::<Result<_, _>>()?;
        let schema = Type::group_type_builder("point").with_fields(fields).build()?;
        let properties = WriterProperties::builder()
            .set_created_by("overbook".to_owned())
            .set_compression(Compression::UNCOMPRESSED)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .build();
        let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        for text in 0..self.axes.len() + TRUST.len() {
            let words = self.places.iter().zip(&self.trust);
            let words = words.map(|(places, trust)| places.iter().chain(trust).nth(text).map_or("", String::as_str));
            let places: Vec<ByteArray> = words.map(ByteArray::from).collect();
            if let Some(mut column) = group.next_column()? {
                column.typed::<ByteArrayType>().write_batch(&places, None, None)?;
                column.close()?;
            }
        }
        for (_, values) in &self.figures {
            let present: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
            let values: Vec<f64> = values.iter().flatten().copied().collect();
            if let Some(mut column) = group.next_column()? {
                column.typed::<DoubleType>().write_batch(&values, Some(&present), None)?;
                column.close()?;
            }
        }
        group.close()?;
        writer.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    #[test]
    fn points_stand_side_by_side() {
        let mut points = Points::new(vec!["fleet.replicas".into(), "gpu".into()]);
        let place = |replicas: &str| vec![replicas.to_owned(), "h200".to_owned()];
        points.push(place("2"), r#"{"title": "x", "a": 1, "tokens": {"cached": 2.5}, "list": [1]}"#).expect("reads");
        points
            .push(
                place("4"),
                r#"{"a": null, "trust": {"standing": "prior", "why": "new"}, "tokens": {"cached": 3}, "late": 7}"#,
            )
            .expect("reads");
        let bytes = points.parquet().expect("encodes");
        assert_eq!(bytes, points.parquet().expect("encodes"));
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a file");
        let schema = file.metadata().file_metadata().schema_descr();
        let names: Vec<_> = schema.columns().iter().map(|column| column.name().to_owned()).collect();
        assert_eq!(names, ["fleet.replicas", "gpu", "trust", "trust/why", "a", "tokens/cached", "late"]);
        let rows: Vec<_> = file.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
        let values = |row: usize| rows[row].get_column_iter().map(|(_, field)| field.clone()).collect::<Vec<_>>();
        let (text, number) = (|text: &str| Field::Str(text.to_owned()), Field::Double);
        assert_eq!(values(0), [text("2"), text("h200"), text(""), text(""), number(1.0), number(2.5), Field::Null]);
        assert_eq!(
            values(1),
            [text("4"), text("h200"), text("prior"), text("new"), Field::Null, number(3.0), number(7.0)]
        );
        assert!(points.push(place("8"), "{").is_err());
    }
}
