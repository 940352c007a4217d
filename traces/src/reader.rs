//! One pass over a trace file: detects the format, decodes rows, cuts, filters, skips, takes, and watches the order of
//! time.

use std::path::PathBuf;

use overbook_sim::time::Span;
use overbook_sim::workload::arrival::ClassId;

use crate::clock::Clock;
use crate::counts::Counts;
use crate::decoder::Decoder;
use crate::draw::stream;
use crate::error::TraceError;
use crate::fault::{LeftOut, about_row, line_of};
use crate::format::Format;
use crate::layout::{Layout, built_in, mapped, no_times};
use crate::load::{Failures, LeaveOut};
use crate::mooncake::{Blocks, IdSize};
use crate::outcome::{Decoded, Outcome, Recorded};
use crate::redraw::{Redraw, Sizes};
use crate::session::SessionColumn;
use crate::spec::TraceSpec;
use crate::table::{Row, Table};

/// The timestamp of the row above, as time and as text.
#[derive(Default)]
struct Above {
    at_ns: u64,
    text: Vec<u8>,
}

/// Reads the requests that a specification takes from its file, one at a time.
pub(crate) struct Reader {
    path: PathBuf,
    /// Where a JSON document has its requests.
    records: Option<String>,
    table: Table,
    /// Columns that are read.
    wanted: Vec<usize>,
    format: Format,
    decoder: Decoder,
    /// Content of the prompts, if the file has it.
    blocks: Option<Blocks>,
    sessions: Option<SessionColumn>,
    /// Column of the time that the whole answer took [s].
    elapsed: Option<usize>,
    leave_out: LeaveOut,
    keep_failures: bool,
    max_prompt_tokens: u32,
    max_output_tokens: u32,
    /// Start and end of the window [ns since the first row].
    from_ns: u64,
    to_ns: u64,
    /// Time of the first row, and of the first request taken.
    origin_ns: Option<u64>,
    first_ns: Option<u64>,
    /// The clock of the first request.
    clock: Clock,
    /// Sizes for failed requests; without, they are dropped.
    redraw: Option<Redraw>,
    skip: u64,
    take: u64,
    above: Above,
    /// Whether rows may be earlier than one above them: they are counted.
    any_order: bool,
    counts: Counts,
    /// Rows that were counted before the first one is read: those that sorting has left out or found out of order.
    before: Counts,
    left_out: LeftOut,
    line: u64,
}

impl Reader {
    /// Opens the file; with `failures: redraw`, reads it once before.
    pub(crate) fn open(spec: &TraceSpec, seed: u64) -> Result<Reader, TraceError> {
        let mut reader = Reader::without_redraw(spec)?;
        if spec.failures == Failures::Redraw {
            let mut rng = stream(seed, *b"sizes   ");
            let mut sizes = Sizes::default();
            let mut every = Reader::without_redraw(spec)?;
            (every.skip, every.take, every.blocks) = (0, u64::MAX, None);
            while let Some(request) = every.next_request()? {
                sizes.record(request.class, (request.prompt_tokens, request.output_tokens), &mut rng);
            }
            // The classes keep the numbers that the first pass gave them.
            reader.decoder = every.decoder;
            reader.redraw = Some(Redraw::new(sizes, seed));
        }
        Ok(reader)
    }

    fn without_redraw(spec: &TraceSpec) -> Result<Reader, TraceError> {
        if spec.is_of_sessions()? {
            return Err(TraceError::HoldsSessions { path: spec.path.clone() });
        }
        let records = spec.columns.as_ref().and_then(|columns| columns.records.clone());
        let mut table = Table::open_at(&spec.path, records.as_deref())?;
        let Layout { format, decoder, ids, sessions, elapsed, sorts } = match &spec.columns {
            Some(columns) => mapped(Format::Columns, columns, &table, &spec.keep)?,
            None => built_in(spec, &table)?,
        };
        let decoder = match decoder {
            Decoder::Mapped(mapped) if spec.arrivals.is_some() => Decoder::Mapped(mapped.untimed()),
            other => other,
        };
        if decoder.time_column().is_none() && spec.arrivals.is_none() {
            return Err(no_times(&mut table, format));
        }
        let sizes = ids.and_then(|(_, size)| match size {
            IdSize::Tokens(_) => None,
            IdSize::Column(column) | IdSize::Partial(column) => Some(column),
        });
        let beside = ids.map(|(column, _)| column).into_iter().chain(sizes).chain(elapsed);
        let beside = beside.chain(sessions.iter().flat_map(SessionColumn::columns));
        let wanted: Vec<usize> = decoder.columns().into_iter().chain(beside).collect();
        table.want(&wanted)?;
        let sorts = (spec.sort || sorts) && spec.arrivals.is_none();
        let mut left_out =
            LeftOut { no_request_why: decoder.no_request(table.header()).unwrap_or_default(), ..LeftOut::default() };
        let before =
            if sorts { sort(&mut table, &decoder, &wanted, spec.leave_out, &mut left_out)? } else { Counts::default() };
        let blocks = ids.map(|(column, size)| {
            let block_tokens = spec.block_tokens;
            match size {
                IdSize::Tokens(hash_tokens) if !hash_tokens.is_multiple_of(block_tokens) => {
                    Err(TraceError::BlockTokens { path: spec.path.clone(), hash_tokens, block_tokens })
                }
                size => Ok(Blocks::new(column, size, block_tokens)),
            }
        });
        Ok(Reader {
            path: spec.path.clone(),
            records,
            table,
            wanted,
            format,
            decoder,
            blocks: blocks.transpose()?,
            sessions,
            elapsed,
            leave_out: spec.leave_out,
            keep_failures: spec.failures == Failures::Keep,
            max_prompt_tokens: spec.max_prompt_tokens.unwrap_or(u32::MAX),
            max_output_tokens: spec.max_output_tokens.unwrap_or(u32::MAX),
            from_ns: spec.window.from.map_or(0, |from| from.0.0),
            to_ns: spec.window.to.map_or(u64::MAX, |to| to.0.0),
            origin_ns: None,
            first_ns: None,
            clock: Clock::Elapsed,
            redraw: None,
            skip: spec.skip,
            take: spec.requests.unwrap_or(u64::MAX),
            above: Above::default(),
            any_order: false,
            counts: before,
            before,
            left_out,
            line: 1,
        })
    }

    /// Starts over at the first row; the classes keep their numbers.
    pub(crate) fn rewind(&mut self) -> Result<(), TraceError> {
        if self.table.rewind_sorted().is_none() {
            let mut table = Table::open_at(&self.path, self.records.as_deref())?;
            if table.header() != self.table.header() {
                return Err(TraceError::Changed { path: self.path.clone() });
            }
            table.want(&self.wanted)?;
            self.table = table;
        }
        self.above = Above::default();
        self.counts = self.before;
        self.line = 1;
        self.origin_ns = None;
        self.redraw.iter_mut().for_each(Redraw::rewind);
        self.sessions.iter_mut().for_each(SessionColumn::rewind);
        Ok(())
    }

    /// The next request; `None` when the file ends or enough were taken.
    pub(crate) fn next_request(&mut self) -> Result<Option<Recorded>, TraceError> {
        while self.counts.taken < self.take {
            match self.next_row() {
                Ok(Step::Taken(request)) => return Ok(Some(request)),
                Ok(Step::Passed) => {}
                Ok(Step::End) => return Ok(None),
                Err(error) => match about_row(&error) {
                    Some(fault) if leaves(self.leave_out, fault) => {
                        let (count, lines) = match fault {
                            LeaveOut::Empty => (&mut self.counts.empty, &mut self.left_out.empty),
                            _ => (&mut self.counts.invalid, &mut self.left_out.invalid),
                        };
                        *count += 1;
                        lines.add(line_of(&error).unwrap_or(self.line));
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(None)
    }

    /// Reads one row.
    fn next_row(&mut self) -> Result<Step, TraceError> {
        // A row that is cut off has been read as well.
        self.counts.rows += 1;
        let Some(row) = self.table.next_row()? else {
            self.counts.rows -= 1;
            return Ok(Step::End);
        };
        self.line = row.line;
        let Decoded { at_ns, outcome } = self.decoder.decode(&row)?;
        if outcome == Outcome::NoRequest {
            self.counts.no_request += 1;
            self.left_out.no_request.add(row.line);
            return Ok(Step::Passed);
        }
        let time_column = self.decoder.time_column();
        match time_column {
            Some(column) if at_ns >= self.above.at_ns => {
                self.above.at_ns = at_ns;
                self.above.text.clear();
                self.above.text.extend_from_slice(row.field(column));
            }
            Some(_) if self.any_order => self.counts.out_of_order += 1,
            Some(column) => return Err(backwards(&row, column, &self.above)),
            None => {}
        }
        let session = self.sessions.as_mut().and_then(|sessions| sessions.of(&row));
        let since_first = at_ns.saturating_sub(*self.origin_ns.get_or_insert(at_ns));
        if since_first >= self.to_ns {
            self.counts.outside += 1;
            return Ok(Step::End);
        }
        if since_first < self.from_ns {
            self.counts.outside += 1;
            return Ok(Step::Passed);
        }
        let dropped = self.counts.dropped;
        let sized = sized(outcome, self.redraw.as_mut(), self.keep_failures, &mut self.counts);
        if self.counts.dropped > dropped {
            self.left_out.failed.add(row.line);
        }
        let Some((size, class, priority)) = sized else { return Ok(Step::Passed) };
        if self.counts.skipped < self.skip {
            self.counts.skipped += 1;
            return Ok(Step::Passed);
        }
        let prompt_tokens = size.0.min(self.max_prompt_tokens);
        let content = match (&mut self.blocks, outcome) {
            (Some(blocks), Outcome::Request { prompt_tokens: recorded, .. }) => {
                blocks.content(&row, recorded, prompt_tokens)?
            }
            _ => None,
        };
        let output_tokens = size.1.min(self.max_output_tokens);
        let failed = self.keep_failures && matches!(outcome, Outcome::Failed { .. });
        let elapsed = self.elapsed.filter(|&column| !row.field(column).is_empty());
        let e2el = elapsed.map(|column| row.seconds(column)).transpose()?.map(Span);
        self.counts.taken += 1;
        if self.first_ns.is_none() {
            self.first_ns = Some(at_ns);
            self.clock = time_column.map_or(Clock::Elapsed, |column| row.clock(column, self.decoder.unit()));
        }
        Ok(Step::Taken(Recorded {
            at_ns,
            prompt_tokens,
            output_tokens,
            class,
            priority,
            content,
            session,
            e2el,
            failed,
        }))
    }

    /// Takes rows that are earlier than one above them, and counts them.
    pub(crate) fn in_any_order(&mut self) {
        self.any_order = true;
    }

    /// What became of the rows of this pass.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Where the rows stand that were left out in all passes so far.
    pub(crate) fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// When the first request was taken, by the clock of the file.
    pub(crate) fn first_ns(&self) -> Option<u64> {
        self.first_ns
    }

    /// The clock of the file.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// How many tokens an id of contents stands for in the row that was read last.
    pub(crate) fn id_tokens(&self) -> Option<u32> {
        self.blocks.as_ref()?.id_tokens()
    }

    /// The line that was read last.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(crate) fn classes(&self) -> &[String] {
        match &self.decoder {
            Decoder::BurstGpt(decoder) => decoder.classes(),
            Decoder::Mapped(decoder) => decoder.classes(),
            Decoder::Azure(_, class) | Decoder::Vidur(_, class) | Decoder::Mooncake(_, class) => class,
        }
    }

    /// The error for a pass without a single request.
    pub(crate) fn no_requests(&self) -> TraceError {
        let counts = self.counts;
        let help = match &self.decoder {
            Decoder::BurstGpt(decoder) if counts.filtered > 0 => {
                format!("`keep` must match what the file has: {}", decoder.seen().join(", "))
            }
            Decoder::Mapped(decoder) if counts.filtered > 0 => {
                format!("`keep.class` must match what the file has: {}", decoder.seen().join(", "))
            }
            _ if counts.no_request > 0 => {
                format!("no row is a request to an engine: of {} {}", counts.no_request, self.left_out.no_request_why)
            }
            _ if counts.outside > 0 => "`window` must hold rows; it counts from the first row of the file".to_owned(),
            _ if counts.skipped > 0 => format!("`skip` must be below {}", counts.skipped),
            _ if counts.failed > 0 => "choose a file with successful requests".to_owned(),
            _ if counts.rows > 0 => "`overbook check` says what is wrong with the rows that are left out".to_owned(),
            _ => "the file has a header and no rows; the download may be incomplete".to_owned(),
        };
        TraceError::NoRequests { path: self.path.clone(), line: self.line, counts: Box::new(counts), help }
    }
}

/// What became of a row.
enum Step {
    Taken(Recorded),
    /// It is not played.
    Passed,
    /// There is no more.
    End,
}

/// Prompt and output of a row [tokens], its class and priority; `None` if it is not played.
fn sized(
    outcome: Outcome,
    redraw: Option<&mut Redraw>,
    keep_failures: bool,
    counts: &mut Counts,
) -> Option<((u32, u32), ClassId, i32)> {
    match outcome {
        Outcome::NoRequest => None,
        Outcome::Filtered => {
            counts.filtered += 1;
            None
        }
        Outcome::Failed { class, priority } => {
            counts.failed += 1;
            let redrawn = redraw.and_then(|redraw| redraw.draw(class));
            let size = redrawn.or(keep_failures.then_some((0, 0)));
            counts.dropped += u64::from(size.is_none());
            Some((size?, class, priority))
        }
        Outcome::Request { prompt_tokens, output_tokens, class, priority } => {
            Some(((prompt_tokens, output_tokens), class, priority))
        }
    }
}

/// Whether rows with this fault are left out.
fn leaves(leave_out: LeaveOut, fault: LeaveOut) -> bool {
    leave_out == LeaveOut::Invalid || (leave_out == LeaveOut::Empty && fault == LeaveOut::Empty)
}

/// Puts the rows in order of time; what is known of them then.
fn sort(
    table: &mut Table,
    decoder: &Decoder,
    wanted: &[usize],
    leave_out: LeaveOut,
    left_out: &mut LeftOut,
) -> Result<Counts, TraceError> {
    let leave = |error: &TraceError| {
        let leave = about_row(error).is_some_and(|fault| leaves(leave_out, fault));
        if let Some(line) = line_of(error).filter(|_| leave) {
            left_out.invalid.add(line);
        }
        leave
    };
    let Some(time) = decoder.time_column() else { return Ok(Counts::default()) };
    let invalid = table.sort((time, decoder.unit()), wanted, leave)?;
    let out_of_order = table.rewind_sorted().unwrap_or(0);
    Ok(Counts { rows: invalid, invalid, out_of_order, ..Counts::default() })
}

fn backwards(row: &Row<'_>, time_column: usize, above: &Above) -> TraceError {
    TraceError::Backwards {
        path: row.path.to_owned(),
        line: row.line,
        column: row.name(time_column).to_owned(),
        before: row.shown(time_column, &above.text),
        found: row.shown(time_column, row.field(time_column)),
    }
}
