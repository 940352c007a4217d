//! Vidur's lookup cost (microsoft/vidur 7d475133), for agreement with its published logs.
//!
//! ```text
//! batch = layers × ( Σ ops[⌈T⌉₈] + decode[D, ⌈⌊mean context⌋⌉₆₄] + prefill[Σ ⌈past⌉₆₄, round √(Σ chunk²)] )
//! ```
//!
//! `T` is all tokens, `D` the decode sequences. Vidur counts the token that a finished prefill emits as processed, so
//! the context that it looks up in a decode step is the tokens attended *with* the current one: the same sum as
//! [`StepShape::decode_context`] (its logs show it: a prompt of 374 crosses to the next 64 at the 11th decode step).
//! Embedding, head and host cost nothing here.
//!
//! What binds its times the tables do not say. By their form: decode attention is memory, prefill attention arithmetic, operators of a step
//! with prompts arithmetic, of others memory.

use super::{Cost, CostModel, DecodeCost, DecodeParts, Parts, StepCost, StepShape};

/// What is wrong with a table.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VidurError {
    /// A cell that is not a number, or a row that is too short.
    #[error("{table} table, line {line}: `{text}` is not a row of at least {columns} numbers")]
    Row {
        /// Which table.
        table: &'static str,
        /// Line number, from 1.
        line: usize,
        /// The row.
        text: String,
        /// Numbers wanted.
        columns: usize,
    },
    /// A key off the table's raster.
    #[error("{table} table, line {line}: key {key} is not a multiple of {step}")]
    Key {
        /// Which table.
        table: &'static str,
        /// Line number, from 1.
        line: usize,
        /// The key.
        key: u64,
        /// The raster.
        step: u64,
    },
    /// Rows that are missing.
    #[error("{table} table has no row for {key}")]
    Missing {
        /// Which table.
        table: &'static str,
        /// The key.
        key: String,
    },
}

/// Vidur's tables, times in whole nanoseconds of all layers together.
///
/// Keys beyond a table take its last row or column.
#[derive(Clone, Debug)]
pub struct Vidur {
    /// Token-wise operators, by tokens / 8.
    ops: Vec<u64>,
    /// Decode attention, by sequences, then context / 64.
    decode: Plane,
    /// Prefill attention, by past / 64, then chunk norm.
    prefill: Plane,
}

impl Vidur {
    /// Reads the three tables from CSV text with a header line: tokens and one column per operator; sequences,
    /// context and time; past, chunk norm and time. Times are milliseconds per layer.
    pub fn from_csv(ops: &str, decode: &str, prefill: &str, layers: u32) -> Result<Vidur, VidurError> {
        let layers = u64::from(layers);
        let mut by_tokens = Vec::new();
        for row in rows("ops", ops, 2) {
            let (line, cells) = row?;
            let index = key("ops", line, cells[0], 8)?;
            put(&mut by_tokens, index, layers * cells[1..].iter().map(|ms| ns(*ms)).sum::<u64>());
        }
        let ops = complete("ops", by_tokens.split_off(1.min(by_tokens.len())))?;
        Ok(Vidur {
            ops,
            decode: Plane::read("decode", decode, 1, 64, layers)?,
            prefill: Plane::read("prefill", prefill, 64, 1, layers)?,
        })
    }

    fn ops(&self, tokens: u64) -> u64 {
        let index = tokens.div_ceil(8).saturating_sub(1) as usize;
        self.ops[index.min(self.ops.len() - 1)]
    }

    fn decode_ns(&self, seqs: u64, context: u64) -> u64 {
        match context.checked_div(seqs) {
            Some(mean) => self.decode.get(seqs, mean.div_ceil(64)),
            None => 0,
        }
    }

    fn prefill_ns(&self, shape: &StepShape<'_>) -> u64 {
        if shape.prefill.is_empty() {
            return 0;
        }
        let blocks = shape.prefill.iter().map(|part| u64::from(part.past).div_ceil(64)).sum();
        let squares = shape.prefill.iter().map(|part| u64::from(part.tokens).pow(2)).sum();
        self.prefill.get(blocks, rounded_root(squares))
    }
}

impl CostModel for Vidur {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        if shape.tokens() == 0 {
            return StepCost::default();
        }
        let decode = self.decode_ns(u64::from(shape.decode_seqs), shape.decode_context);
        let ns = self.ops(shape.tokens()) + decode + self.prefill_ns(shape);
        StepCost { device: Cost::from_whole_ns(ns), host: Cost(0) }
    }

    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        let n = u64::from(seqs);
        let ns = if n == 0 { 0 } else { self.ops(n) + self.decode_ns(n, context) };
        // ⌊context / n⌋ leaves its raster cell after the cell's upper line.
        let valid_below = match context.checked_div(n) {
            Some(mean) => n * (mean.next_multiple_of(64) + 1),
            None => u64::MAX,
        };
        DecodeCost { base: Cost::from_whole_ns(ns), per_context: Cost(0), valid_below, host: Cost(0) }
    }

    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        if shape.tokens() == 0 {
            return Parts::default();
        }
        let ops = Cost::from_whole_ns(self.ops(shape.tokens()));
        let ops = if shape.prefill.is_empty() { Parts::memory(ops) } else { Parts::compute(ops) };
        let decode = self.decode_ns(u64::from(shape.decode_seqs), shape.decode_context);
        let prefill = Cost::from_whole_ns(self.prefill_ns(shape));
        ops + Parts::memory(Cost::from_whole_ns(decode)) + Parts::compute(prefill)
    }

    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        DecodeParts::all(self.decode(seqs, context), Parts::memory)
    }
}

/// A dense table over two rasters.
#[derive(Clone, Debug)]
struct Plane {
    /// First row of the raster that the table has.
    first: u64,
    width: usize,
    /// First column of the raster that the table has.
    left: u64,
    ns: Vec<u64>,
}

impl Plane {
    fn read(
        table: &'static str,
        text: &str,
        row_step: u64,
        column_step: u64,
        layers: u64,
    ) -> Result<Plane, VidurError> {
        let mut entries = Vec::new();
        for row in rows(table, text, 3) {
            let (line, cells) = row?;
            let at = (key(table, line, cells[0], row_step)?, key(table, line, cells[1], column_step)?);
            entries.push((at.0, at.1, layers * ns(cells[2])));
        }
        let missing = || VidurError::Missing { table, key: "anything".to_owned() };
        let first = entries.iter().map(|entry| entry.0).min().ok_or_else(missing)?;
        let left = entries.iter().map(|entry| entry.1).min().ok_or_else(missing)?;
        let right = entries.iter().map(|entry| entry.1).max().ok_or_else(missing)?;
        let width = right - left + 1;
        let mut cells = Vec::new();
        for (row, column, value) in entries {
            put(&mut cells, (row - first) * width + column - left, value);
        }
        Ok(Plane { first, width: width as usize, left, ns: complete(table, cells)? })
    }

    fn get(&self, row: u64, column: u64) -> u64 {
        let height = self.ns.len() / self.width;
        let row = (row.saturating_sub(self.first) as usize).min(height - 1);
        let column = (column.saturating_sub(self.left) as usize).min(self.width - 1);
        self.ns[row * self.width + column]
    }
}

/// The rows of a CSV text after its header: line number and numbers.
fn rows<'t>(
    table: &'static str,
    text: &'t str,
    columns: usize,
) -> impl Iterator<Item = Result<(usize, Vec<f64>), VidurError>> + 't {
    text.lines().enumerate().skip(1).filter(|(_, row)| !row.trim().is_empty()).map(move |(index, row)| {
        let cells: Option<Vec<f64>> =
            row.split(',').map(|cell| cell.trim().parse().ok().filter(|x| (0.0..1e9).contains(x))).collect();
        cells.filter(|cells| cells.len() >= columns).map(|cells| (index + 1, cells)).ok_or_else(|| VidurError::Row {
            table,
            line: index + 1,
            text: row.to_owned(),
            columns,
        })
    })
}

/// A key's place on its raster.
fn key(table: &'static str, line: usize, value: f64, step: u64) -> Result<u64, VidurError> {
    let key = value as u64;
    if key.is_multiple_of(step) { Ok(key / step) } else { Err(VidurError::Key { table, line, key, step }) }
}

fn put(cells: &mut Vec<Option<u64>>, index: u64, value: u64) {
    let index = index as usize;
    if cells.len() <= index {
        cells.resize(index + 1, None);
    }
    cells[index] = Some(value);
}

fn complete(table: &'static str, cells: Vec<Option<u64>>) -> Result<Vec<u64>, VidurError> {
    let missing = |key: String| VidurError::Missing { table, key };
    if cells.is_empty() {
        return Err(missing("anything".to_owned()));
    }
    cells.into_iter().enumerate().map(|(index, cell)| cell.ok_or_else(|| missing(format!("cell {index}")))).collect()
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6).round() as u64
}

/// The square root, rounded to the nearest whole number (halves do not occur).
fn rounded_root(square: u64) -> u64 {
    let root = square.isqrt();
    root + u64::from(square - root * root > root)
}
