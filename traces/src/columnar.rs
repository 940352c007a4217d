//! A Parquet file as rows: the columns that are wanted, a batch at a time, whatever the size of file and row groups.
//!
//! Values stay what they are in the file: integers are not printed and parsed again. A field's bytes are its eight
//! little-endian bytes, or those of its string; [`ColumnKind`] says which, and how they read as a time, as tokens, as text.

mod kind;

use std::fs::File;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use crate::error::TraceError;
pub(crate) use kind::ColumnKind;

/// Rows decoded at a time.
const BATCH: usize = 8192;

/// The first bytes of a Parquet file.
const MAGIC: &[u8] = b"PAR1";

/// Whether the file says that it is Parquet. A pipe is none: the footer stands at the end.
pub(crate) fn is_parquet(path: &Path) -> bool {
    if !path.metadata().is_ok_and(|data| data.is_file()) {
        return false;
    }
    let mut magic = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut magic));
    read.is_ok() && magic == MAGIC
}

/// A file whose columns are read by position.
pub(crate) struct Columnar {
    path: PathBuf,
    file: SerializedFileReader<File>,
    names: Vec<String>,
    kinds: Vec<ColumnKind>,
    /// Columns to decode.
    wanted: Vec<usize>,
    /// The next row group.
    group: usize,
    /// Readers of the wanted columns in the current row group, and the rows left in it.
    readers: Vec<ColumnReader>,
    left: usize,
    batch: Batch,
    /// The row that is read next, in the batch, and rows before the batch.
    next: usize,
    before: u64,
}

impl Columnar {
    /// Opens the file and reads its footer.
    pub(crate) fn open(path: &Path) -> Result<Columnar, TraceError> {
        let file = File::open(path).map_err(|source| TraceError::Open { path: path.to_owned(), source })?;
        let read = catch_unwind(AssertUnwindSafe(|| SerializedFileReader::new(file)));
        let read = read.unwrap_or_else(|_| Err(ParquetError::General("the decoder gave up".to_owned())));
        let file = read.map_err(|why| broken(path, 0, &why))?;
        let schema = file.metadata().file_metadata().schema_descr();
        let (names, kinds) = schema.columns().iter().map(|column| ColumnKind::of(column)).unzip();
        let batch = Batch { rows: 0, columns: schema.columns().iter().map(|_| Column::default()).collect() };
        Ok(Columnar {
            path: path.to_owned(),
            file,
            names,
            kinds,
            wanted: Vec::new(),
            group: 0,
            readers: Vec::new(),
            left: 0,
            batch,
            next: 0,
            before: 0,
        })
    }

    /// Names of the columns, in order.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Decodes these columns from now on, and no others.
    ///
    /// # Errors
    /// One of them holds what no column of a trace can be.
    pub(crate) fn want(&mut self, columns: &[usize]) -> Result<(), TraceError> {
        for &column in columns {
            if let ColumnKind::Other(found) = self.kinds[column] {
                let (path, column) = (self.path.clone(), self.names[column].clone());
                return Err(TraceError::ColumnType { path, column, found });
            }
        }
        self.wanted = columns.to_vec();
        self.wanted.sort_unstable();
        self.wanted.dedup();
        Ok(())
    }

    /// Moves on to the next row: its number in the file, from 1, and its place in the batch; `None` at the end.
    pub(crate) fn advance(&mut self) -> Result<Option<(u64, usize)>, TraceError> {
        if self.next == self.batch.rows {
            self.before += self.batch.rows as u64;
            // The decoder panics on some damaged files. What it leaves behind is not read again.
            let filled = catch_unwind(AssertUnwindSafe(|| self.fill()));
            let filled = filled.unwrap_or_else(|_| Err(ParquetError::General("the decoder gave up".to_owned())));
            filled.map_err(|why| broken(&self.path, self.before + 1, &why))?;
            self.next = 0;
            if self.batch.rows == 0 {
                return Ok(None);
            }
        }
        self.next += 1;
        Ok(Some((self.before + self.next as u64, self.next - 1)))
    }

    /// The batch that [`advance`](Columnar::advance) points into, and what its columns hold.
    pub(crate) fn batch(&self) -> (&Batch, &[ColumnKind]) {
        (&self.batch, &self.kinds)
    }

    /// Decodes the next rows; none are left if the batch is empty then.
    fn fill(&mut self) -> Result<(), ParquetError> {
        while self.left == 0 && self.group < self.file.num_row_groups() {
            let group = self.file.get_row_group(self.group)?;
            self.group += 1;
            for &at in &self.wanted {
                placed(group.metadata().column(at))?;
            }
            self.left = group.metadata().num_rows().max(0) as usize;
            self.readers = self.wanted.iter().map(|&at| group.get_column_reader(at)).collect::<Result<_, _>>()?;
        }
        self.batch.rows = self.left.min(BATCH);
        self.left -= self.batch.rows;
        for (reader, &at) in self.readers.iter_mut().zip(&self.wanted) {
            self.batch.columns[at].fill(reader, self.kinds[at], self.batch.rows)?;
        }
        Ok(())
    }
}

/// The decoder takes it for granted that a column stands somewhere in the file.
fn placed(column: &ColumnChunkMetaData) -> Result<(), ParquetError> {
    let start = column.dictionary_page_offset().unwrap_or(0).min(column.data_page_offset());
    if start < 0 || column.compressed_size() < 0 || column.num_values() < 0 {
        return Err(ParquetError::General("a column stands nowhere in the file".to_owned()));
    }
    Ok(())
}

#[cold]
fn broken(path: &Path, line: u64, why: &ParquetError) -> TraceError {
    TraceError::Parquet { path: path.to_owned(), line, why: why.to_string() }
}

/// Some rows of a file, by column.
pub(crate) struct Batch {
    rows: usize,
    columns: Vec<Column>,
}

impl Batch {
    /// The bytes of a field of a wanted column: eight, those of the string, or none for null.
    pub(crate) fn field(&self, column: usize, row: usize) -> &[u8] {
        let column = &self.columns[column];
        if column.null.get(row).is_some_and(|null| *null) {
            return &[];
        }
        match column.words.get(row) {
            Some(word) => word.data(),
            None => column.numbers.get(row).map_or(&[], |bytes| bytes),
        }
    }
}

/// The values of a column: numbers or words; rows without a value have a place as well.
#[derive(Default)]
struct Column {
    numbers: Vec<[u8; 8]>,
    words: Vec<ByteArray>,
    /// Which rows have no value; empty if all have one.
    null: Vec<bool>,
}

impl Column {
    fn fill(&mut self, reader: &mut ColumnReader, kind: ColumnKind, rows: usize) -> Result<(), ParquetError> {
        self.words.clear();
        self.numbers.clear();
        let into = (&mut self.numbers, &mut self.null);
        match reader {
            ColumnReader::Int32ColumnReader(reader) if kind == ColumnKind::Unsigned => {
                numbers(reader, rows, into, |v| u64::from(v as u32).to_le_bytes())
            }
            ColumnReader::Int32ColumnReader(reader) => numbers(reader, rows, into, |v| i64::from(v).to_le_bytes()),
            ColumnReader::Int64ColumnReader(reader) => numbers(reader, rows, into, i64::to_le_bytes),
            ColumnReader::Int96ColumnReader(reader) => numbers(reader, rows, into, |v| v.to_nanos().to_le_bytes()),
            ColumnReader::FloatColumnReader(reader) => numbers(reader, rows, into, |v| f64::from(v).to_le_bytes()),
            ColumnReader::DoubleColumnReader(reader) => numbers(reader, rows, into, f64::to_le_bytes),
            ColumnReader::ByteArrayColumnReader(reader) => records(reader, rows, &mut self.words, &mut self.null),
            _ => Err(ParquetError::General("a column of an unexpected type".to_owned())),
        }
    }
}

fn numbers<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    (numbers, null): (&mut Vec<[u8; 8]>, &mut Vec<bool>),
    bytes: impl Fn(T::T) -> [u8; 8],
) -> Result<(), ParquetError> {
    let mut values = Vec::new();
    records(reader, rows, &mut values, null)?;
    numbers.extend(values.into_iter().map(bytes));
    Ok(())
}

/// The values of the next rows, each at its row, and which of the rows have none.
fn records<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    values: &mut Vec<T::T>,
    null: &mut Vec<bool>,
) -> Result<(), ParquetError> {
    let mut levels = Vec::new();
    let (read, found, _) = reader.read_records(rows, Some(&mut levels), None, values)?;
    null.clear();
    if read != rows {
        return Err(ParquetError::General(format!("{read} values where {rows} rows are")));
    }
    if found < rows {
        // Only a row whose level is the highest has a value.
        let depth = levels.iter().copied().max().filter(|_| found > 0).unwrap_or(i16::MAX);
        null.extend(levels.iter().map(|level| *level < depth));
        let mut present = std::mem::take(values).into_iter();
        values.extend(null.iter().map(|null| if *null { T::T::default() } else { present.next().unwrap_or_default() }));
    }
    Ok(())
}
