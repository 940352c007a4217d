//! Requests as Parquet, one row group at a time.

use std::fs::File;
use std::sync::Arc;

use overbook_sim::workload::arrival::Arrival;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};

use super::COLUMNS;

/// Rows of a row group.
const GROUP_ROWS: usize = 128 * 1024;

/// A file in the making, and the rows of its next group.
pub(super) struct ParquetRows {
    writer: SerializedFileWriter<File>,
    at: Vec<i64>,
    prompt: Vec<i32>,
    output: Vec<i32>,
    class: Vec<ByteArray>,
    names: Vec<ByteArray>,
}

fn schema() -> Result<Type, ParquetError> {
    let column = |name, physical, logical| {
        let kind = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        kind.with_logical_type(logical).build().map(Arc::new)
    };
    let [at, prompt, output, class] = COLUMNS;
    let fields = vec![
        column(at, Physical::INT64, Some(LogicalType::timestamp(false, TimeUnit::NANOS)))?,
        column(prompt, Physical::INT32, None)?,
        column(output, Physical::INT32, None)?,
        column(class, Physical::BYTE_ARRAY, Some(LogicalType::String))?,
    ];
    Type::group_type_builder("request").with_fields(fields).build()
}

fn properties() -> WriterProperties {
    let class = ColumnPath::from(COLUMNS[3]);
    // Times shrink best as differences of neighbours, class names to numbers; what is packed so does not compress.
    WriterProperties::builder()
        .set_created_by("overbook".to_owned())
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(class.clone(), Encoding::PLAIN)
        .set_column_dictionary_enabled(class, true)
        .set_offset_index_disabled(true)
        .build()
}

impl ParquetRows {
    pub(super) fn create(file: File) -> Result<ParquetRows, ParquetError> {
        let writer = SerializedFileWriter::new(file, Arc::new(schema()?), Arc::new(properties()))?;
        let (at, prompt, output) = (Vec::new(), Vec::new(), Vec::new());
        Ok(ParquetRows { writer, at, prompt, output, class: Vec::new(), names: Vec::new() })
    }

    pub(super) fn push(&mut self, arrival: &Arrival, classes: &[String]) -> Result<(), ParquetError> {
        for name in classes.get(self.names.len()..).unwrap_or_default() {
            self.names.push(ByteArray::from(name.as_str()));
        }
        let at = i64::try_from(arrival.at.0)
            .map_err(|_| ParquetError::General("a request arrives more than 292 years after the start".to_owned()))?;
        self.at.push(at);
        // Tokens are at most 2²⁴.
        self.prompt.push(arrival.prompt_tokens as i32);
        self.output.push(arrival.output_tokens as i32);
        self.class.push(self.names.get(usize::from(arrival.class.0)).cloned().unwrap_or_default());
        if self.at.len() == GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        if let Some(mut column) = group.next_column()? {
            column.typed::<Int64Type>().write_batch(&self.at, None, None)?;
            column.close()?;
        }
        for values in [&self.prompt, &self.output] {
            if let Some(mut column) = group.next_column()? {
                column.typed::<Int32Type>().write_batch(values, None, None)?;
                column.close()?;
            }
        }
        if let Some(mut column) = group.next_column()? {
            column.typed::<ByteArrayType>().write_batch(&self.class, None, None)?;
            column.close()?;
        }
        group.close()?;
        self.at.clear();
        self.prompt.clear();
        self.output.clear();
        self.class.clear();
        Ok(())
    }

    /// Writes what is left and the footer.
    pub(super) fn finish(mut self) -> Result<(), ParquetError> {
        if !self.at.is_empty() {
            self.write_group()?;
        }
        self.writer.finish()?;
        Ok(self.writer.flush()?)
    }
}
