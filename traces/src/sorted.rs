//! The rows of a table in order of time, held in memory: for files whose rows are not.

use crate::columnar::ColumnKind;

/// The columns of a row that are read.
pub(crate) struct HeldRow {
    /// Its time; rows whose time cannot be read come first and are reported first.
    at_ns: Option<u64>,
    /// Its line in the file.
    pub(crate) line: u64,
    /// Where each field ends.
    ends: Box<[u32]>,
    bytes: Box<[u8]>,
}

impl HeldRow {
    pub(crate) fn new<'a>(at_ns: Option<u64>, line: u64, fields: impl Iterator<Item = &'a [u8]>) -> HeldRow {
        let (mut ends, mut bytes) = (Vec::new(), Vec::new());
        for field in fields {
            bytes.extend_from_slice(field);
            ends.push(bytes.len() as u32);
        }
        HeldRow { at_ns, line, ends: ends.into(), bytes: bytes.into() }
    }

    /// The field at a place among those that are held.
    pub(crate) fn field(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.bytes[start..self.ends[at] as usize]
    }
}

/// All rows of a file, in order of time; rows at the same time keep theirs.
pub(crate) struct Sorted {
    rows: Vec<HeldRow>,
    next: usize,
    /// Columns that are held.
    pub(crate) columns: Vec<usize>,
    /// What the columns of a Parquet file hold.
    pub(crate) kinds: Option<Vec<ColumnKind>>,
    /// Rows that were earlier than a row above them.
    pub(crate) out_of_order: u64,
}

impl Sorted {
    pub(crate) fn new(mut rows: Vec<HeldRow>, columns: Vec<usize>, kinds: Option<Vec<ColumnKind>>) -> Sorted {
        let mut latest = None;
        let mut out_of_order = 0;
        for row in &rows {
            out_of_order += u64::from(row.at_ns.is_some() && row.at_ns < latest);
            latest = latest.max(row.at_ns);
        }
        rows.sort_by_key(|row| row.at_ns);
        Sorted { rows, next: 0, columns, kinds, out_of_order }
    }

    /// Moves on to the next row: its place.
    pub(crate) fn advance(&mut self) -> Option<usize> {
        let at = self.next;
        self.next += usize::from(at < self.rows.len());
        (at < self.rows.len()).then_some(at)
    }

    pub(crate) fn row(&self, at: usize) -> &HeldRow {
        &self.rows[at]
    }

    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }
}
