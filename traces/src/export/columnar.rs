//! Requests as Parquet, one row group at a time.

use std::fs::File;
use std::sync::Arc;

use overbook_sim::time::Span;
use overbook_sim::workload::arrival::Arrival;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type};

use super::{BLOCK_TOKENS, COLUMNS, ELAPSED, PRIORITY, SESSION, lines};
use crate::mooncake::HASH_IDS;

/// Rows of a row group.
const GROUP_ROWS: usize = 128 * 1024;

/// Values of a column in which some rows have none.
struct Sparse<T> {
    values: Vec<T>,
    present: Vec<i16>,
}

impl<T> Sparse<T> {
    fn new() -> Sparse<T> {
        Sparse { values: Vec::new(), present: Vec::new() }
    }

    fn push(&mut self, value: Option<T>) {
        self.present.push(i16::from(value.is_some()));
        self.values.extend(value);
    }

    fn clear(&mut self) {
        self.values.clear();
        self.present.clear();
    }
}

/// A file in the making, and the rows of its next group.
pub(super) struct ParquetRows {
    writer: SerializedFileWriter<File>,
    at: Vec<i64>,
    prompt: Vec<i32>,
    output: Vec<i32>,
    class: Vec<ByteArray>,
    priority: Sparse<i32>,
    session: Sparse<i64>,
    elapsed: Sparse<f64>,
    block_tokens: Sparse<i32>,
    ids: Sparse<ByteArray>,
    names: Vec<ByteArray>,
}

fn schema() -> Result<Type, ParquetError> {
    let column = |name, physical, logical, repetition| {
        let kind = Type::primitive_type_builder(name, physical).with_repetition(repetition);
        kind.with_logical_type(logical).build().map(Arc::new)
    };
    let [at, prompt, output, class] = COLUMNS;
    let (always, maybe) = (Repetition::REQUIRED, Repetition::OPTIONAL);
    let fields = vec![
        column(at, Physical::INT64, Some(LogicalType::timestamp(false, TimeUnit::NANOS)), always)?,
        column(prompt, Physical::INT32, None, always)?,
        column(output, Physical::INT32, None, always)?,
        column(class, Physical::BYTE_ARRAY, Some(LogicalType::String), always)?,
        column(PRIORITY, Physical::INT32, None, maybe)?,
        column(SESSION, Physical::INT64, None, maybe)?,
        column(ELAPSED, Physical::DOUBLE, None, maybe)?,
        column(BLOCK_TOKENS, Physical::INT32, None, maybe)?,
        column(HASH_IDS, Physical::BYTE_ARRAY, Some(LogicalType::String), maybe)?,
    ];
    Type::group_type_builder("request").with_fields(fields).build()
}

fn properties() -> WriterProperties {
    let (class, ids, elapsed) = (ColumnPath::from(COLUMNS[3]), ColumnPath::from(HASH_IDS), ColumnPath::from(ELAPSED));
    // Times shrink best as differences of neighbours, class names to numbers; what is packed so does not compress.
    WriterProperties::builder()
        .set_created_by("overbook".to_owned())
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(class.clone(), Encoding::PLAIN)
        .set_column_dictionary_enabled(class, true)
        .set_column_encoding(elapsed, Encoding::PLAIN)
        .set_column_encoding(ids.clone(), Encoding::PLAIN)
        // Lists of ids begin alike.
        .set_column_compression(ids, Compression::ZSTD(parquet::basic::ZstdLevel::default()))
        .set_offset_index_disabled(true)
        .build()
}

impl ParquetRows {
    pub(super) fn create(file: File) -> Result<ParquetRows, ParquetError> {
        Ok(ParquetRows {
            writer: SerializedFileWriter::new(file, Arc::new(schema()?), Arc::new(properties()))?,
            at: Vec::new(),
            prompt: Vec::new(),
            output: Vec::new(),
            class: Vec::new(),
            priority: Sparse::new(),
            session: Sparse::new(),
            elapsed: Sparse::new(),
            block_tokens: Sparse::new(),
            ids: Sparse::new(),
            names: Vec::new(),
        })
    }

    pub(super) fn push(&mut self, arrival: &Arrival, classes: &[String]) -> Result<(), ParquetError> {
        for name in classes.get(self.names.len()..).unwrap_or_default() {
            self.names.push(ByteArray::from(name.as_str()));
        }
        let at = i64::try_from(arrival.at.0)
            .map_err(|_| ParquetError::General("a request arrives more than 292 years after the start".to_owned()))?;
        self.at.push(at);
        // Tokens are at most 2²⁴, sessions below 2⁶³.
        self.prompt.push(arrival.prompt_tokens as i32);
        self.output.push(arrival.output_tokens as i32);
        self.class.push(self.names.get(usize::from(arrival.class.0)).cloned().unwrap_or_default());
        self.priority.push((arrival.priority != 0).then_some(arrival.priority));
        self.session.push(arrival.session.map(|session| session.get() as i64));
        self.elapsed.push(arrival.recorded_e2el.map(Span::as_secs_f64));
        let content = arrival.content.as_deref();
        self.block_tokens.push(content.map(|content| content.block_tokens as i32));
        self.ids.push(content.map(|content| ByteArray::from(lines::list(content).as_str())));
        if self.at.len() == GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        column::<Int64Type>(&mut group, &self.at, None)?;
        column::<Int32Type>(&mut group, &self.prompt, None)?;
        column::<Int32Type>(&mut group, &self.output, None)?;
        column::<ByteArrayType>(&mut group, &self.class, None)?;
        column::<Int32Type>(&mut group, &self.priority.values, Some(&self.priority.present))?;
        column::<Int64Type>(&mut group, &self.session.values, Some(&self.session.present))?;
        column::<DoubleType>(&mut group, &self.elapsed.values, Some(&self.elapsed.present))?;
        column::<Int32Type>(&mut group, &self.block_tokens.values, Some(&self.block_tokens.present))?;
        column::<ByteArrayType>(&mut group, &self.ids.values, Some(&self.ids.present))?;
        group.close()?;
        self.at.clear();
        self.prompt.clear();
        self.output.clear();
        self.class.clear();
        self.priority.clear();
        self.session.clear();
        self.elapsed.clear();
        self.block_tokens.clear();
        self.ids.clear();
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

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    present: Option<&[i16]>,
) -> Result<(), ParquetError> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, present, None)?;
        column.close()?;
    }
    Ok(())
}
