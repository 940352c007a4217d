//! Requests moved and multiplied within cells of time: one cell is in memory at a time, so order is kept.

use std::collections::VecDeque;

use overbook_sim::time::NS_PER_S;
use rand::rngs::ChaCha8Rng;

use crate::draw::{stream, uniform};
use crate::error::TraceError;
use crate::outcome::Recorded;
use crate::reader::Reader;
use crate::rows::{Rows, salt};

/// What happens to the requests of a cell.
enum Change {
    /// Each gets a new time in its cell.
    Spread,
    /// Each is played so many times on average; copies get a new time in the cell.
    Multiply(f64),
}

/// A stage that changes requests cell by cell.
pub(crate) struct Cells {
    rows: Box<dyn Rows>,
    width_ns: u64,
    change: Change,
    rng: ChaCha8Rng,
    /// Requests of the cell in hand, in order.
    ready: VecDeque<Recorded>,
    /// The first request of the next cell.
    ahead: Option<Recorded>,
}

impl Cells {
    /// Spreads requests evenly over cells of `width_ns`, more than 0.
    pub(crate) fn spread(rows: Box<dyn Rows>, width_ns: u64, seed: u64) -> Cells {
        Cells::new(rows, width_ns, Change::Spread, stream(seed, *b"spread  "))
    }

    /// Plays each request `factor` times within its second.
    pub(crate) fn multiply(rows: Box<dyn Rows>, factor: f64, seed: u64) -> Cells {
        Cells::new(rows, NS_PER_S, Change::Multiply(factor), stream(seed, *b"multiply"))
    }

    fn new(rows: Box<dyn Rows>, width_ns: u64, change: Change, rng: ChaCha8Rng) -> Cells {
        Cells { rows, width_ns, change, rng, ready: VecDeque::new(), ahead: None }
    }

    /// Fills `ready` with the next cell that has requests; false at the end.
    fn fill(&mut self) -> Result<bool, TraceError> {
        while self.ready.is_empty() {
            let first = match self.ahead.take() {
                Some(first) => Some(first),
                None => self.rows.next_row()?,
            };
            let Some(first) = first else { return Ok(false) };
            let cell = self.cell(first.at_ns);
            self.change(first, cell);
            while let Some(next) = self.rows.next_row()? {
                if self.cell(next.at_ns) != cell {
                    self.ahead = Some(next);
                    break;
                }
                self.change(next, cell);
            }
            self.ready.make_contiguous().sort_by_key(|request| request.at_ns);
        }
        Ok(true)
    }

    /// The cell of a time. Recorded time steps jitter (Mooncake's by milliseconds), so the nearest start counts there.
    fn cell(&self, at_ns: u64) -> u64 {
        match self.change {
            Change::Spread => at_ns.saturating_add(self.width_ns / 2) / self.width_ns,
            Change::Multiply(_) => at_ns / self.width_ns,
        }
    }

    fn change(&mut self, request: Recorded, cell: u64) {
        let start = cell * self.width_ns;
        let within = |rng: &mut ChaCha8Rng| {
            start.saturating_add(((uniform(rng) * self.width_ns as f64) as u64).min(self.width_ns - 1))
        };
        match self.change {
            Change::Spread => {
                let at_ns = within(&mut self.rng);
                self.ready.push_back(Recorded { at_ns, ..request });
            }
            Change::Multiply(factor) => {
                let times = factor as u32 + u32::from(uniform(&mut self.rng) < factor.fract());
                for copy in 1..times {
                    let at_ns = within(&mut self.rng);
                    let mut copied = Recorded { at_ns, ..request.clone() };
                    salt(&mut copied, u64::from(copy) << 32);
                    self.ready.push_back(copied);
                }
                if times > 0 {
                    self.ready.push_back(request);
                }
            }
        }
    }
}

impl Rows for Cells {
    fn next_row(&mut self) -> Result<Option<Recorded>, TraceError> {
        Ok(if self.fill()? { self.ready.pop_front() } else { None })
    }

    fn reader(&self) -> &Reader {
        self.rows.reader()
    }

    fn classes(&self) -> &[String] {
        self.rows.classes()
    }
}
