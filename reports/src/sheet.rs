//! Small tables of words and numbers, a column each, and as Parquet.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::ReportError;

/// The values of a column.
#[derive(Clone, PartialEq, Debug)]
pub enum Values {
    /// Strings; empty where there is none.
    Words(Vec<String>),
    /// Doubles; null where there is none.
    Numbers(Vec<Option<f64>>),
}

/// A named column.
#[derive(Clone, PartialEq, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its values, row by row.
    pub values: Values,
}

impl Column {
    pub(crate) fn words(name: &str, words: Vec<String>) -> Column {
        Column { name: name.to_owned(), values: Values::Words(words) }
    }

    pub(crate) fn numbers(name: &str, numbers: Vec<Option<f64>>) -> Column {
        Column { name: name.to_owned(), values: Values::Numbers(numbers) }
    }
}

/// The file of a table whose rows are called `row`.
///
/// # Errors
/// The encoder fails, which no input should make it do.
pub(crate) fn parquet(file: &str, row: &str, columns: &[Column]) -> Result<Vec<u8>, ReportError> {
    encode(row, columns).map_err(ReportError::parquet(Path::new(file)))
}

fn encode(row: &str, columns: &[Column]) -> Result<Vec<u8>, ParquetError> {
    let field = |column: &Column| match column.values {
        Values::Words(_) => Type::primitive_type_builder(&column.name, Physical::BYTE_ARRAY)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::String))
            .build()
            .map(Arc::new),
        Values::Numbers(_) => Type::primitive_type_builder(&column.name, Physical::DOUBLE)
            .with_repetition(Repetition::OPTIONAL)
            .build()
            .map(Arc::new),
    };
    let fields = columns.iter().map(field).collect::<Result<_, _>>()?;
    let schema = Type::group_type_builder(row).with_fields(fields).build()?;
    let properties = WriterProperties::builder()
        .set_created_by("overbook".to_owned())
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for column in columns {
        let Some(mut written) = group.next_column()? else { break };
        match &column.values {
            Values::Words(words) => {
                let words: Vec<ByteArray> = words.iter().map(|word| ByteArray::from(word.as_str())).collect();
                written.typed::<ByteArrayType>().write_batch(&words, None, None)?;
            }
            Values::Numbers(numbers) => {
                let present: Vec<i16> = numbers.iter().map(|number| i16::from(number.is_some())).collect();
                let numbers: Vec<f64> = numbers.iter().flatten().copied().collect();
                written.typed::<DoubleType>().write_batch(&numbers, Some(&present), None)?;
            }
        }
        written.close()?;
    }
    group.close()?;
    writer.into_inner()
}
