//! A measured cost model: step times on a grid, linear in between.
//!
//! * **Decode** is a grid of batch size by mean context per sequence. For a given batch size the grid lines become
//!   context sums; between two of them the cost is affine, and [`DecodeCost::valid_below`] names the next one.
//! * **Prefill** is a grid of new tokens by tokens already present, measured with one sequence.
//! * **Mixed steps** stream the weights once: all tokens are charged as one prefill with as many attended pairs as the
//!   prefill sequences have, and the decode sequences add the context part of their decode cost.
//!
//! Noise is smoothed at construction so that decode cost never falls with context or batch, and never grows faster
//! than in proportion to the context (an intercept below zero would mean negative work). Outside of the grid:
//! below the first line the first line holds (decode: its segment goes on), beyond the last line of batch or prefill
//! tokens cost grows in proportion, beyond the last line of context or present tokens the last segment goes on.
//!
//! A table does not know what binds its times. By its form: the prefill grid is arithmetic, the decode grid memory.

use super::{Cost, CostModel, DecodeCost, DecodeParts, HostCost, Parts, StepCost, StepShape};

/// Measured step times over two axes.
#[derive(Clone, PartialEq, Debug)]
pub struct Grid {
    /// Lines of the first axis (sequences, or new tokens), ascending from at least 1.
    pub rows: Vec<u32>,
    /// Lines of the second axis (mean context per sequence, or tokens present), ascending.
    pub columns: Vec<u32>,
    /// Device time [µs], row by row.
    pub device_us: Vec<f64>,
}

/// What is wrong with a grid.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum TableError {
    /// An axis without lines.
    #[error("the {grid} grid has no {axis}")]
    Empty {
        /// Which grid.
        grid: &'static str,
        /// Which axis.
        axis: &'static str,
    },
    /// An axis that does not ascend, or rows that start at zero.
    #[error("the {grid} grid's {axis} do not ascend: number {} of them", line + 1)]
    Order {
        /// Which grid.
        grid: &'static str,
        /// Which axis.
        axis: &'static str,
        /// Index of the line, from 0.
        line: usize,
    },
    /// Too many or too few times.
    #[error("the {grid} grid has {got} times, its axes make {wanted}")]
    Size {
        /// Which grid.
        grid: &'static str,
        /// How many there are.
        got: usize,
        /// How many there should be.
        wanted: usize,
    },
    /// A time that is not a positive number below an hour.
    #[error("the {grid} grid's time number {} is {us} us", index + 1)]
    Time {
        /// Which grid.
        grid: &'static str,
        /// Index into the times, from 0.
        index: usize,
        /// The time [µs].
        us: f64,
    },
}

/// A checked grid in fixed point.
#[derive(Clone, Debug)]
struct Fixed {
    rows: Vec<u64>,
    columns: Vec<u64>,
    cost: Vec<u64>,
}

impl Grid {
    /// What is wrong with the grid, if anything; `name` is what errors call it.
    pub fn check(&self, name: &'static str) -> Result<(), TableError> {
        for (axis, lines, first) in [("rows", &self.rows, 1), ("columns", &self.columns, 0)] {
            if lines.is_empty() {
                return Err(TableError::Empty { grid: name, axis });
            }
            let disorder =
                (0..lines.len()).find(|&i| lines[i] < if i == 0 { first } else { lines[i - 1].saturating_add(1) });
            if let Some(line) = disorder {
                return Err(TableError::Order { grid: name, axis, line });
            }
        }
        let wanted = self.rows.len() * self.columns.len();
        if self.device_us.len() != wanted {
            return Err(TableError::Size { grid: name, got: self.device_us.len(), wanted });
        }
        let bad = |us: &f64| !(*us > 0.0 && *us < 3.6e9);
        if let Some(index) = self.device_us.iter().position(bad) {
            return Err(TableError::Time { grid: name, index, us: self.device_us[index] });
        }
        Ok(())
    }
}

impl Fixed {
    fn new(grid: &Grid, name: &'static str) -> Result<Fixed, TableError> {
        grid.check(name)?;
        Ok(Fixed {
            rows: grid.rows.iter().copied().map(u64::from).collect(),
            columns: grid.columns.iter().copied().map(u64::from).collect(),
            cost: grid.device_us.iter().map(|us| Cost::from_us(*us).0).collect(),
        })
    }

    /// Caps growth along columns to proportion, then lifts what falls along columns or rows. Each pass keeps what the
    /// ones before it made true.
    fn smooth(&mut self) {
        let width = self.columns.len();
        for row in self.cost.chunks_mut(width) {
            for j in 1..width {
                if self.columns[j - 1] > 0 {
                    row[j] = row[j].min(scale(row[j - 1], self.columns[j], self.columns[j - 1]));
                }
            }
            for j in 1..width {
                row[j] = row[j].max(row[j - 1]);
            }
        }
        for at in width..self.cost.len() {
            self.cost[at] = self.cost[at].max(self.cost[at - width]);
        }
    }

    /// The cost at a row coordinate, on grid column `j`.
    fn at_row(&self, row: u64, j: usize) -> u64 {
        let width = self.columns.len();
        let cost = |i: usize| self.cost[i * width + j];
        let last = self.rows.len() - 1;
        match self.rows.partition_point(|line| *line <= row) {
            0 => cost(0),
            above if above > last => scale(cost(last), row, self.rows[last]),
            above => between(
                cost(above - 1),
                cost(above),
                row - self.rows[above - 1],
                self.rows[above] - self.rows[above - 1],
            ),
        }
    }

    /// The cost at any point.
    fn at(&self, row: u64, column: u64) -> u64 {
        let j = segment(&self.columns, column);
        let left = self.at_row(row, j);
        if self.columns.len() == 1 || column <= self.columns[0] {
            return left;
        }
        between(left, self.at_row(row, j + 1), column - self.columns[j], self.columns[j + 1] - self.columns[j])
    }
}

/// `cost × to / from`, rounded down.
fn scale(cost: u64, to: u64, from: u64) -> u64 {
    u64::try_from(u128::from(cost) * u128::from(to) / u128::from(from)).unwrap_or(u64::MAX)
}

/// The point `part / whole` of the way from `a` to `b` and on, not below zero.
fn between(a: u64, b: u64, part: u64, whole: u64) -> u64 {
    let delta = (i128::from(b) - i128::from(a)) * i128::from(part) / i128::from(whole);
    u64::try_from((i128::from(a) + delta).max(0)).unwrap_or(u64::MAX)
}

/// Index of the segment that holds `x`; the first and last go on outside.
fn segment(lines: &[u64], x: u64) -> usize {
    lines.partition_point(|line| *line <= x).saturating_sub(1).min(lines.len().saturating_sub(2))
}

/// Step costs from measured grids.
#[derive(Clone, Debug)]
pub struct Table {
    decode: Fixed,
    prefill: Fixed,
    host: HostCost,
    /// Decode cost at every context line, by batch size; empty: not interpolated yet.
    batches: Vec<Box<[u64]>>,
}

impl Table {
    /// A model from a decode grid (sequences × mean context) and a prefill grid (new tokens × tokens present).
    pub fn new(decode: &Grid, prefill: &Grid, host: HostCost) -> Result<Table, TableError> {
        let mut decode = Fixed::new(decode, "decode")?;
        decode.smooth();
        Ok(Table { decode, prefill: Fixed::new(prefill, "prefill")?, host, batches: Vec::new() })
    }

    fn batch(&mut self, seqs: u32) -> &[u64] {
        let index = seqs as usize;
        if self.batches.len() <= index {
            self.batches.resize_with(index + 1, Box::default);
        }
        if self.batches[index].is_empty() {
            let row = u64::from(seqs);
            self.batches[index] = (0..self.decode.columns.len()).map(|j| self.decode.at_row(row, j)).collect();
        }
        &self.batches[index]
    }

    /// Device cost of the prefill sequences and of `extra` tokens beside them, without the latter's attention.
    fn prefill_cost(&self, shape: &StepShape<'_>, extra: u64) -> u64 {
        let (mut tokens, mut pairs) = (0u64, 0u64);
        for part in shape.prefill {
            let (new, past) = (u64::from(part.tokens), u64::from(part.past));
            tokens += new;
            pairs = pairs.saturating_add(new.saturating_mul(new + 2 * past));
        }
        // One sequence of all tokens attends to as many pairs after a past of (pairs / tokens − tokens) / 2.
        let total = (tokens + extra).max(1);
        self.prefill.at(total, (pairs / total).saturating_sub(total) / 2)
    }
}

impl CostModel for Table {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let host = self.host.of(u64::from(shape.decode_seqs) + shape.prefill.len() as u64);
        if shape.tokens() == 0 {
            return StepCost::default();
        }
        let mut device = 0u64;
        if shape.decode_seqs > 0 {
            let decode = self.decode(shape.decode_seqs, shape.decode_context);
            let context = decode.per_context.0.saturating_mul(shape.decode_context);
            device = decode.base.0.saturating_add(context);
            if !shape.prefill.is_empty() {
                let weights = self.batch(shape.decode_seqs)[0];
                device = device.saturating_sub(weights);
            }
        }
        if !shape.prefill.is_empty() {
            device = device.saturating_add(self.prefill_cost(shape, u64::from(shape.decode_seqs)));
        }
        StepCost { device: Cost(device), host }
    }

    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        let host = self.host.of(u64::from(seqs));
        if seqs == 0 {
            return DecodeCost { base: Cost(0), per_context: Cost(0), valid_below: u64::MAX, host };
        }
        let n = u64::from(seqs);
        let lines = self.decode.columns.len();
        let j = segment(&self.decode.columns, context / n);
        let (left, right) = (self.decode.columns[j], self.decode.columns[(j + 1).min(lines - 1)]);
        let batch = self.batch(seqs);
        if lines == 1 {
            return DecodeCost { base: Cost(batch[0]), per_context: Cost(0), valid_below: u64::MAX, host };
        }
        let slope = batch[j + 1].saturating_sub(batch[j]) / (n * (right - left));
        let base = batch[j].saturating_sub(slope * n * left);
        let valid_below = if j + 2 < lines { n * right } else { u64::MAX };
        DecodeCost { base: Cost(base), per_context: Cost(slope), valid_below, host }
    }

    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        let whole = self.step(shape).device;
        let compute = match shape.prefill {
            [] => Cost(0),
            _ => Cost(self.prefill_cost(shape, u64::from(shape.decode_seqs))).min(whole),
        };
        Parts { whole, compute, memory: Cost(whole.0 - compute.0), link: Cost(0) }
    }

    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        DecodeParts::all(self.decode(seqs, context), Parts::memory)
    }
}
