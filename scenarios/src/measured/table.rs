//! A CSV table, plain or packed with Zstandard, whole in memory.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::MeasuredError;

/// A table of text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeasuredTable {
    /// Names of the columns.
    pub header: Vec<String>,
    /// Cells, row by row.
    pub rows: Vec<Vec<String>>,
}

impl MeasuredTable {
    /// Reads a file; `.zst` at the end of its name says that it is packed.
    ///
    /// # Errors
    /// The file cannot be opened or unpacked, or is no table.
    pub fn read(path: &Path) -> Result<MeasuredTable, MeasuredError> {
        let io = |source| MeasuredError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let packed = path.extension().is_some_and(|ending| ending == "zst");
        let stream: Box<dyn Read> =
            if packed { Box::new(zstd::stream::read::Decoder::new(file).map_err(io)?) } else { Box::new(file) };
        let csv = |source| MeasuredError::Csv { path: path.to_owned(), source };
        let mut reader = csv::Reader::from_reader(stream);
        let header = reader.headers().map_err(csv)?.iter().map(str::to_owned).collect();
        let cells = |record: csv::StringRecord| record.iter().map(str::to_owned).collect();
        let rows = reader.records().map(|record| record.map(cells)).collect::<Result<_, _>>().map_err(csv)?;
        Ok(MeasuredTable { header, rows })
    }

    /// Where a column is.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// A column as numbers; `None` in a row where the cell is none.
    pub fn numbers(&self, name: &str) -> Option<Vec<Option<f64>>> {
        let at = self.column(name)?;
        Some(self.rows.iter().map(|row| row.get(at).and_then(|cell| cell.parse().ok())).collect())
    }
}
