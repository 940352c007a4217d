//! `validation.parquet`: the same lines as `validation.csv`, for data frames.
//!
//! Strings `run_id`, `set`, `quality`, `engine`, `gpu`, `model`, `load`, `metric`; whether constants were fitted on the run
//! (`training`, null without a list of such runs); doubles `measured`, `simulated` [SI], `error` (null where nothing was
//! measured to be there).

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::{JudgedRun, Pair, Validation};
use crate::ReportError;

type Text = fn(&JudgedRun) -> &str;

const TEXTS: [(&str, Text); 7] = [
    ("run_id", |run| &run.id),
    ("set", |run| &run.set),
    ("quality", |run| &run.quality),
    ("engine", |run| &run.engine),
    ("gpu", |run| &run.gpu),
    ("model", |run| &run.model),
    ("load", |run| &run.load),
];

/// The file.
///
/// # Errors
/// The encoder fails, which no input should make it do.
pub fn validation_parquet(validation: &Validation) -> Result<Vec<u8>, ReportError> {
    encode(validation).map_err(ReportError::parquet(Path::new("validation.parquet")))
}

fn encode(validation: &Validation) -> Result<Vec<u8>, ParquetError> {
    let lines: Vec<(&JudgedRun, &Pair)> =
        validation.runs.iter().flat_map(|run| run.pairs.iter().map(move |pair| (run, pair))).collect();
    let text = |name: &str| {
        Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::String))
            .build()
    };
    let number =
        |name: &str, kind, repetition| Type::primitive_type_builder(name, kind).with_repetition(repetition).build();
    let mut fields: Vec<_> = TEXTS.iter().map(|(name, _)| text(name)).collect();
    fields.push(text("metric"));
    fields.push(number("training", Physical::BOOLEAN, Repetition::OPTIONAL));
    fields.push(number("measured", Physical::DOUBLE, Repetition::REQUIRED));
    fields.push(number("simulated", Physical::DOUBLE, Repetition::REQUIRED));
    fields.push(number("error", Physical::DOUBLE, Repetition::OPTIONAL));
    let fields = fields.into_iter().map(|field| field.map(Arc::new)).collect::<Result<_, _>>()?;
    let schema = Type::group_type_builder("row").with_fields(fields).build()?;
    let properties =
        WriterProperties::builder().set_created_by("overbook".to_owned()).set_compression(Compression::UNCOMPRESSED);
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties.build()))?;
    let mut group = writer.next_row_group()?;
    let words = |of: &dyn Fn(&(&JudgedRun, &Pair)) -> String| -> Vec<ByteArray> {
        lines.iter().map(|line| ByteArray::from(of(line).as_bytes())).collect()
    };
    let mut texts: Vec<Vec<ByteArray>> = TEXTS.iter().map(|(_, of)| words(&|(run, _)| of(run).to_owned())).collect();
    texts.push(words(&|(_, pair)| pair.metric.clone()));
    let mut at = 0;
    while let Some(mut column) = group.next_column()? {
        let doubles = |of: fn(&Pair) -> Option<f64>| -> (Vec<f64>, Vec<i16>) {
            let values = lines.iter().map(|(_, pair)| of(pair));
            (values.clone().flatten().collect(), values.map(|value| i16::from(value.is_some())).collect())
        };
        match at {
            at if at < texts.len() => {
                column.typed::<ByteArrayType>().write_batch(&texts[at], None, None)?;
            }
            8 => {
                let values: Vec<bool> = lines.iter().filter_map(|(run, _)| run.training).collect();
                let there: Vec<i16> = lines.iter().map(|(run, _)| i16::from(run.training.is_some())).collect();
                column.typed::<BoolType>().write_batch(&values, Some(&there), None)?;
            }
            9 => {
                column.typed::<DoubleType>().write_batch(&doubles(|pair| Some(pair.measured)).0, None, None)?;
            }
            10 => {
                column.typed::<DoubleType>().write_batch(&doubles(|pair| Some(pair.simulated)).0, None, None)?;
            }
            _ => {
                let (values, there) = doubles(Pair::error);
                column.typed::<DoubleType>().write_batch(&values, Some(&there), None)?;
            }
        }
        column.close()?;
        at += 1;
    }
    group.close()?;
    writer.into_inner()
}
