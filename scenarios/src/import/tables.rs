//! Tables of measurements in the folders of other tools: CSV text (however it is called) or Parquet.

use std::fs;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

use crate::small_file;

/// Why a folder or a table of it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {message}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system or the decoder says.
        message: String,
    },
    /// Only the place of a file is there.
    #[error("{} is a Git LFS pointer, not the table itself; run `git lfs pull` in its repository", .0.display())]
    Pointer(PathBuf),
    /// A column is missing.
    #[error("{}: there is no column `{column}`; the header has {}", path.display(), header.join(", "))]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The columns there are.
        header: Vec<String>,
    },
    /// A cell is not what it should be.
    #[error("{}, line {line}: `{column}` is `{value}`; expected {expected}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// Line of a text, or row of a Parquet table behind its header, from 1.
        line: usize,
        /// The column.
        column: String,
        /// The cell.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Nothing in the folder is a table of the tool.
    #[error("{}: no table of {tool} in it; looked for {wanted}", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
        /// The tool.
        tool: &'static str,
        /// What was looked for.
        wanted: String,
    },
    /// Several tables of the same operation.
    #[error("{}: several {table} tables: {found}; choose with --select, e.g. --select {example}", path.display())]
    Several {
        /// The folder.
        path: PathBuf,
        /// The table.
        table: String,
        /// Those found.
        found: String,
        /// A part of a path that names one of them.
        example: String,
    },
    /// Nothing says which GPU it was, or the catalog does not have it.
    #[error("the tables are of {device}, which the catalog does not know; name the GPU with --gpu: {known}")]
    Gpu {
        /// What the tables say.
        device: String,
        /// GPUs of the catalog.
        known: String,
    },
    /// The tables do not fit together.
    #[error("{0}")]
    Mixed(String),
}

/// A table with its header.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Table {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<(usize, Vec<String>)>,
}

/// One row of a table.
#[derive(Clone, Copy)]
pub(super) struct Cells<'t> {
    table: &'t Table,
    line: usize,
    values: &'t [String],
}

impl Table {
    pub(super) fn read(path: &Path) -> Result<Table, TablesError> {
        let failed = |message: String| TablesError::Read { path: path.to_owned(), message };
        let bytes = small_file::read(path, small_file::TABLE_MAX).map_err(|error| failed(error.to_string()))?;
        if bytes.starts_with(b"version https://git-lfs") {
            return Err(TablesError::Pointer(path.to_owned()));
        }
        if bytes.starts_with(b"PAR1") { Table::parquet(path) } else { Table::csv(path, &bytes) }
    }

    fn csv(path: &Path, bytes: &[u8]) -> Result<Table, TablesError> {
        let failed = |error: csv::Error| TablesError::Read { path: path.to_owned(), message: error.to_string() };
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
        let header = reader.headers().map_err(failed)?.iter().map(str::to_owned).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(failed)?;
            let line = record.position().map_or(0, |position| position.line() as usize);
            rows.push((line, record.iter().map(str::to_owned).collect()));
        }
        Ok(Table { path: path.to_owned(), header, rows })
    }

    fn parquet(path: &Path) -> Result<Table, TablesError> {
        let failed = |message: String| TablesError::Read { path: path.to_owned(), message };
        let file = fs::File::open(path).map_err(|error| failed(error.to_string()))?;
        let reader = SerializedFileReader::new(file).map_err(|error| failed(error.to_string()))?;
        let schema = reader.metadata().file_metadata().schema();
        let header = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
        let mut rows = Vec::new();
        for (index, row) in reader.get_row_iter(None).map_err(|error| failed(error.to_string()))?.enumerate() {
            let row = row.map_err(|error| failed(error.to_string()))?;
            let text = |(_, field): (&String, &Field)| match field {
                Field::Null => String::new(),
                Field::Str(text) => text.clone(),
                other => other.to_string(),
            };
            rows.push((index + 1, row.get_column_iter().map(text).collect()));
        }
        Ok(Table { path: path.to_owned(), header, rows })
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Cells<'_>> {
        self.rows.iter().map(|(line, cells)| Cells { table: self, line: *line, values: cells })
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.header.iter().any(|name| name == column)
    }
}

impl<'t> Cells<'t> {
    /// The text of a column.
    pub(super) fn text(&self, column: &str) -> Result<&'t str, TablesError> {
        let table = self.table;
        let at = table.header.iter().position(|name| name == column).ok_or_else(|| TablesError::Column {
            path: table.path.clone(),
            column: column.to_owned(),
            header: table.header.clone(),
        })?;
        Ok(self.values.get(at).map_or("", String::as_str))
    }

    fn wrong(&self, column: &str, value: &str, expected: &'static str) -> TablesError {
        let (path, line) = (self.table.path.clone(), self.line);
        TablesError::Cell { path, line, column: column.to_owned(), value: value.to_owned(), expected }
    }

    /// A whole number; `4096.0` is one.
    pub(super) fn size(&self, column: &str) -> Result<u64, TablesError> {
        let text = self.text(column)?;
        let number = text.parse::<f64>().ok().filter(|x| x.fract() == 0.0 && (0.0..=1e15).contains(x));
        number.map(|x| x as u64).ok_or_else(|| self.wrong(column, text, "a whole number"))
    }

    /// A whole number of at least 1 that 32 bits hold.
    pub(super) fn count(&self, column: &str) -> Result<u32, TablesError> {
        let size = self.size(column)?;
        let count = u32::try_from(size).ok().filter(|count| *count > 0);
        count.ok_or_else(|| self.wrong(column, self.text(column).unwrap_or_default(), "a number from 1"))
    }

    /// Milliseconds, as microseconds.
    pub(super) fn us(&self, column: &str) -> Result<f64, TablesError> {
        let text = self.text(column)?;
        let time = text.parse::<f64>().ok().filter(|ms| *ms > 0.0 && *ms < 1e7);
        time.map(|ms| ms * 1e3).ok_or_else(|| self.wrong(column, text, "a time in ms above 0"))
    }
}

/// All files below a folder, six levels deep, sorted; paths relative to it.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, TablesError> {
    let failed =
        |path: &Path, error: &std::io::Error| TablesError::Read { path: path.to_owned(), message: error.to_string() };
    let mut found = Vec::new();
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((path, depth)) = open.pop() {
        for entry in fs::read_dir(&path).map_err(|error| failed(&path, &error))? {
            let path = entry.map_err(|error| failed(&path, &error))?.path();
            if path.is_dir() {
                if depth < 6 {
                    open.push((path, depth + 1));
                }
            } else if let Ok(relative) = path.strip_prefix(folder) {
                found.push(relative.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The one file of those that is a table of this name; among several, those whose path has `select` in it.
pub(super) fn choose<'f>(
    folder: &Path,
    files: &'f [PathBuf],
    table: &str,
    select: Option<&str>,
    is: impl Fn(&Path) -> bool,
) -> Result<Option<&'f PathBuf>, TablesError> {
    let mut found: Vec<&PathBuf> = files.iter().filter(|path| is(path)).collect();
    let selected: Vec<&PathBuf> = found
        .iter()
        .copied()
        .filter(|path| select.is_some_and(|select| path.to_string_lossy().contains(select)))
        .collect();
    if found.len() > 1 && !selected.is_empty() {
        found = selected;
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        [first, ..] => {
            let names: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
            let example = first.parent().map_or_else(String::new, |path| path.display().to_string());
            let (path, table) = (folder.to_owned(), table.to_owned());
            Err(TablesError::Several { path, table, found: names.join(", "), example })
        }
    }
}
