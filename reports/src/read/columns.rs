//! Columns of a Parquet file by name, a batch of rows at a time.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};

use crate::ReportError;

/// Rows of a batch.
const BATCH: usize = 8192;

/// A file whose columns are read by name.
pub(super) struct Columns {
    path: PathBuf,
    file: SerializedFileReader<File>,
}

/// Some rows: values per column, in the order in which the columns were asked for.
pub(super) struct Batch {
    pub(super) rows: usize,
    pub(super) numbers: Vec<Vec<u64>>,
    pub(super) optional: Vec<Vec<Option<u64>>>,
    pub(super) words: Vec<ByteArray>,
}

impl Columns {
    pub(super) fn open(path: &Path) -> Result<Columns, ReportError> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ReportError::NoRows(path.to_owned()),
            _ => ReportError::unreadable(path)(error.to_string()),
        })?;
        let unfinished = |error| format!("it is no whole Parquet file ({error}); was the run killed?");
        let file = SerializedFileReader::new(file).map_err(|e| ReportError::unreadable(path)(unfinished(e)))?;
        Ok(Columns { path: path.to_owned(), file })
    }

    /// An entry of the file's key-value metadata.
    pub(super) fn fact(&self, key: &str) -> Option<String> {
        let facts = self.file.metadata().file_metadata().key_value_metadata()?;
        facts.iter().find(|fact| fact.key == key)?.value.clone()
    }

    /// Whether the file has this column.
    pub(super) fn has(&self, name: &str) -> bool {
        self.index(name).is_ok()
    }

    fn index(&self, name: &str) -> Result<usize, ReportError> {
        let schema = self.file.metadata().file_metadata().schema_descr();
        let found = schema.columns().iter().position(|column| column.name() == name);
        found.ok_or_else(|| ReportError::unreadable(&self.path)(format!("it has no column {name}")))
    }

    fn indices(&self, names: &[&str]) -> Result<Vec<usize>, ReportError> {
        names.iter().map(|name| self.index(name)).collect()
    }

    /// Shows the columns batch by batch until `see` says that it has seen enough. `words` is a column of strings.
    pub(super) fn read(
        &mut self,
        numbers: &[&str],
        optional: &[&str],
        words: Option<&str>,
        mut see: impl FnMut(&Batch) -> bool,
    ) -> Result<(), ReportError> {
        let numbers = self.indices(numbers)?;
        let optional = self.indices(optional)?;
        let words = words.map(|name| self.index(name)).transpose()?;
        let mut batch = Batch {
            rows: 0,
            numbers: vec![Vec::new(); numbers.len()],
            optional: vec![Vec::new(); optional.len()],
            words: Vec::new(),
        };
        let mut buffers = Buffers::default();
        let mut read = || {
            for index in 0..self.file.num_row_groups() {
                let group = self.file.get_row_group(index)?;
                let mut of_numbers = readers(&*group, &numbers)?;
                let mut of_optional = readers(&*group, &optional)?;
                let mut of_words = words.map(|index| group.get_column_reader(index)).transpose()?;
                let mut left = group.metadata().num_rows() as usize;
                while left > 0 {
                    batch.rows = left.min(BATCH);
                    left -= batch.rows;
                    for (reader, values) in of_numbers.iter_mut().zip(&mut batch.numbers) {
                        buffers.numbers(reader, batch.rows, values)?;
                    }
                    for (reader, values) in of_optional.iter_mut().zip(&mut batch.optional) {
                        buffers.optional(reader, batch.rows, values)?;
                    }
                    if let Some(reader) = &mut of_words {
                        words_of(reader, batch.rows, &mut batch.words)?;
                    }
                    if !see(&batch) {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        let result: Result<(), ParquetError> = read();
        result.map_err(|error| ReportError::unreadable(&self.path)(error.to_string()))
    }
}

fn readers(group: &dyn RowGroupReader, indices: &[usize]) -> Result<Vec<ColumnReader>, ParquetError> {
    indices.iter().map(|&index| group.get_column_reader(index)).collect()
}

fn kind() -> ParquetError {
    ParquetError::General("a column has another type than Overbook writes".to_owned())
}

fn check(got: usize, want: usize) -> Result<(), ParquetError> {
    if got == want { Ok(()) } else { Err(ParquetError::General(format!("{got} values where {want} rows are"))) }
}

#[derive(Default)]
struct Buffers {
    ints: Vec<i32>,
    longs: Vec<i64>,
    present: Vec<i16>,
}

impl Buffers {
    fn numbers(&mut self, reader: &mut ColumnReader, rows: usize, values: &mut Vec<u64>) -> Result<(), ParquetError> {
        values.clear();
        match reader {
            ColumnReader::Int32ColumnReader(reader) => {
                self.ints.clear();
                reader.read_records(rows, None, None, &mut self.ints)?;
                values.extend(self.ints.iter().map(|&value| u64::from(value.max(0) as u32)));
            }
            ColumnReader::Int64ColumnReader(reader) => {
                self.longs.clear();
                reader.read_records(rows, None, None, &mut self.longs)?;
                values.extend(self.longs.iter().map(|&value| value.max(0) as u64));
            }
            _ => return Err(kind()),
        }
        check(values.len(), rows)
    }

    fn optional(
        &mut self,
        reader: &mut ColumnReader,
        rows: usize,
        values: &mut Vec<Option<u64>>,
    ) -> Result<(), ParquetError> {
        values.clear();
        let ColumnReader::Int64ColumnReader(reader) = reader else { return Err(kind()) };
        self.longs.clear();
        self.present.clear();
        reader.read_records(rows, Some(&mut self.present), None, &mut self.longs)?;
        let mut longs = self.longs.iter();
        values.extend(
            self.present.iter().map(|&there| if there > 0 { longs.next().map(|&v| v.max(0) as u64) } else { None }),
        );
        check(values.len(), rows)
    }
}

fn words_of(reader: &mut ColumnReader, rows: usize, values: &mut Vec<ByteArray>) -> Result<(), ParquetError> {
    let ColumnReader::ByteArrayColumnReader(reader) = reader else { return Err(kind()) };
    values.clear();
    reader.read_records(rows, None, None, values)?;
    check(values.len(), rows)
}
