//! One pass over a trace file: detects the format, decodes rows, cuts, filters, skips, takes, and watches the order of
//! time.

use std::path::PathBuf;

use overbook_sim::time::Span;
use overbook_sim::workload::arrival::ClassId;

use crate::azure::Azure;
use crate::burstgpt::{self, BurstGpt};
use crate::clock::Clock;
use crate::columns::{Columns, Mapped};
use crate::counts::Counts;
use crate::draw::stream;
use crate::error::TraceError;
use crate::export::{BLOCK_TOKENS, CLASS, ELAPSED, EXTRA, PRIORITY, SESSION};
use crate::fault::{LeftOut, about_row, line_of};
use crate::format::Format;
use crate::header::Header;
use crate::keep::Keep;
use crate::load::{Failures, LeaveOut};
use crate::mooncake::{Blocks, HASH_IDS, HASH_TOKENS, IdSize, Mooncake, SESSION_ID};
use crate::number::TimeUnit;
use crate::outcome::{Decoded, Outcome, Recorded};
use crate::preset::preset;
use crate::redraw::{Redraw, Sizes};
use crate::session::SessionColumn;
use crate::spec::TraceSpec;
use crate::table::{Row, Table};
use crate::vidur::Vidur;

/// The decoder of the file's format.
#[derive(Debug)]
enum Decoder {
    BurstGpt(BurstGpt),
    Azure(Azure, [String; 1]),
    Vidur(Vidur, [String; 1]),
    Mooncake(Mooncake, [String; 1]),
    Mapped(Mapped),
}

impl Decoder {
    fn new(format: Format, columns: &[usize], keep: &Keep) -> Decoder {
        let class = [format.to_string()];
        match format {
            Format::Azure => Decoder::Azure(Azure::new(columns), class),
            Format::Vidur => Decoder::Vidur(Vidur::new(columns), class),
            Format::Mooncake => Decoder::Mooncake(Mooncake::new(columns), class),
            // All others are read by a map of columns, or are no rows.
            _ => Decoder::BurstGpt(BurstGpt::new(columns, keep.clone())),
        }
    }

    fn decode(&mut self, row: &Row<'_>) -> Result<Decoded, TraceError> {
        match self {
            Decoder::BurstGpt(decoder) => decoder.decode(row),
            Decoder::Azure(decoder, _) => decoder.decode(row),
            Decoder::Vidur(decoder, _) => decoder.decode(row),
            Decoder::Mooncake(decoder, _) => decoder.decode(row),
            Decoder::Mapped(decoder) => decoder.decode(row),
        }
    }

    /// Unit of the times.
    fn unit(&self) -> TimeUnit {
        match self {
            Decoder::BurstGpt(_) | Decoder::Vidur(..) => TimeUnit::S,
            Decoder::Azure(..) => TimeUnit::Datetime,
            Decoder::Mooncake(..) => TimeUnit::Ms,
            Decoder::Mapped(decoder) => decoder.unit(),
        }
    }

    /// All columns that decoding needs.
    fn columns(&self) -> Vec<usize> {
        match self {
            Decoder::BurstGpt(decoder) => decoder.columns(),
            Decoder::Azure(decoder, _) => decoder.columns(),
            Decoder::Vidur(decoder, _) => decoder.columns(),
            Decoder::Mooncake(decoder, _) => decoder.columns(),
            Decoder::Mapped(decoder) => decoder.columns(),
        }
    }

    /// `None` if the rows have no times.
    fn time_column(&self) -> Option<usize> {
        match self {
            Decoder::BurstGpt(decoder) => Some(decoder.time_column()),
            Decoder::Azure(decoder, _) => Some(decoder.time_column()),
            Decoder::Vidur(decoder, _) => Some(decoder.time_column()),
            Decoder::Mooncake(decoder, _) => Some(decoder.time_column()),
            Decoder::Mapped(decoder) => decoder.time_column(),
        }
    }
}

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
        let mut left_out = LeftOut::default();
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
            self.counts.filtered += 1;
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
            _ if counts.outside > 0 => "`window` must hold rows; it counts from the first row of the file".to_owned(),
            _ if counts.skipped > 0 => format!("`skip` must be below {}", counts.skipped),
            _ if counts.failed > 0 => "choose a file with successful requests".to_owned(),
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
        Outcome::Filtered | Outcome::NoRequest => {
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

/// How a file is read.
struct Layout {
    format: Format,
    decoder: Decoder,
    /// Position of a column of block ids, and tokens per id.
    ids: Option<(usize, IdSize)>,
    sessions: Option<SessionColumn>,
    elapsed: Option<usize>,
    /// Whether rows of the format come in any order.
    sorts: bool,
}

/// The error for requests that have lengths alone.
#[cold]
fn no_times(table: &mut Table, format: Format) -> TraceError {
    let path = table.path().to_owned();
    let stated = table.header().position("request_rate").and_then(|column| {
        table.want(&[column]).ok()?;
        let rate = table.next_row().ok()??.text(column).ok()?.into_owned();
        rate.parse::<f64>().ok().filter(|rate| rate.is_finite()).map(|_| format!("{rate}/s"))
    });
    TraceError::NoTimes { path, format, rate: stated.unwrap_or_else(|| "2/s".to_owned()) }
}

fn mapped(format: Format, columns: &Columns, table: &Table, keep: &Keep) -> Result<Layout, TraceError> {
    let (decoder, found) = Mapped::new(columns, table.header(), keep, table.path())?;
    let ids = found.hash_ids.map(|column| (column, IdSize::Tokens(columns.hash_tokens)));
    let sessions = found.session.map(|column| SessionColumn::new(column, found.parent));
    Ok(Layout { format, decoder: Decoder::Mapped(decoder), ids, sessions, elapsed: None, sorts: false })
}

fn built_in(spec: &TraceSpec, table: &Table) -> Result<Layout, TraceError> {
    let (format, columns) = match spec.format {
        Format::Auto => detect(table)?,
        format => (format, columns_of(format, table)?),
    };
    if format == Format::Bailian {
        if !(spec.keep.model.is_empty() && spec.keep.log_type.is_empty()) {
            return Err(TraceError::NothingToFilter { path: spec.path.clone(), format });
        }
        let has_ids = table.header().position(HASH_IDS).is_some();
        return mapped(format, &Columns::bailian(has_ids), table, &spec.keep);
    }
    if let Some(preset) = preset(format, table.header()) {
        if !(spec.keep.model.is_empty() && spec.keep.log_type.is_empty())
            || (preset.columns.class.is_none() && !spec.keep.class.is_empty())
        {
            return Err(TraceError::NothingToFilter { path: spec.path.clone(), format });
        }
        let layout = mapped(format, &preset.columns, table, &spec.keep)?;
        let size = preset.id_tokens.and_then(|name| table.header().position(name)).map(IdSize::Partial);
        return Ok(Layout {
            decoder: match layout.decoder {
                Decoder::Mapped(decoder) => Decoder::Mapped(decoder.preset(&preset, table.header())),
                other => other,
            },
            ids: layout.ids.map(|(column, tokens)| (column, size.unwrap_or(tokens))),
            sorts: true,
            ..layout
        });
    }
    // What this program writes has more columns.
    let by_class = spec.keep.model.is_empty() && spec.keep.log_type.is_empty();
    let written = EXTRA.iter().any(|name| table.header().position(name).is_some());
    if format == Format::Vidur && by_class && written {
        let [time, prompt, output] = [0, 1, 2].map(|at| Format::Vidur.columns()[at]);
        let has = |name: &str| table.header().position(name).map(|_| name.to_owned());
        let columns = Columns {
            class: has(CLASS),
            priority: has(PRIORITY),
            hash_ids: has(HASH_IDS),
            ..Columns::new(time, prompt, output)
        };
        let layout = mapped(format, &columns, table, &spec.keep)?;
        let at = |name: &str| table.header().position(name);
        return Ok(Layout {
            ids: layout.ids.map(|(column, size)| (column, at(BLOCK_TOKENS).map_or(size, IdSize::Column))),
            sessions: at(SESSION).map(SessionColumn::written),
            elapsed: at(ELAPSED),
            ..layout
        });
    }
    if format != Format::BurstGpt && !spec.keep.is_all() {
        return Err(TraceError::NothingToFilter { path: spec.path.clone(), format });
    }
    let of = |wanted: Format, name: &str| table.header().position(name).filter(|_| format == wanted);
    let session = of(Format::BurstGpt, burstgpt::SESSION).or_else(|| of(Format::Mooncake, SESSION_ID));
    Ok(Layout {
        format,
        decoder: Decoder::new(format, &columns, &spec.keep),
        ids: of(Format::Mooncake, HASH_IDS).map(|column| (column, IdSize::Tokens(HASH_TOKENS))),
        sessions: session.map(|column| SessionColumn::new(column, None)),
        elapsed: of(Format::BurstGpt, burstgpt::ELAPSED),
        sorts: false,
    })
}

fn columns_of(format: Format, table: &Table) -> Result<Vec<usize>, TraceError> {
    table.header().find(format.columns()).map_err(|missing| TraceError::MissingColumns {
        path: table.path().to_owned(),
        format,
        missing: missing.join(", "),
        found: table.header().text(),
    })
}

/// Columns that count the requests of a row: OpenAI's usage exports, now and until 2024.
pub(crate) const SUMS: [&str; 2] = ["num_model_requests", "n_requests"];

pub(crate) fn detect(table: &Table) -> Result<(Format, Vec<usize>), TraceError> {
    let header = table.header();
    if let Some(column) = SUMS.into_iter().find(|name| header.position(name).is_some()) {
        return Err(TraceError::Sums { path: table.path().to_owned(), column: column.to_owned() });
    }
    let fits = |format: Format| header.find(format.columns()).ok().map(|columns| (format, columns));
    Format::ALL.into_iter().find_map(fits).ok_or_else(|| TraceError::UnknownHeader {
        path: table.path().to_owned(),
        found: header.text(),
        help: guess(header),
    })
}

/// What a file that is no trace probably is.
fn guess(header: &Header) -> &'static str {
    let text = header.text().to_ascii_lowercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    if starts(&["version https://git-lfs"]) {
        "this is a Git LFS pointer, not the data; run `git lfs pull` or download the file from the release page"
    } else if starts(&["<!doctype", "<html", "<?xml"]) {
        "this is a web page, not the data; use the link to the raw file"
    } else if header.is_json() {
        "name the keys with `columns: { arrival: KEY, prompt: KEY, output: KEY, unit: ms }` in a scenario, or with `trace stats --columns 'arrival: KEY, prompt: KEY, output: KEY, unit: ms'`"
    } else if starts(&["par1"]) {
        "this is Parquet, which can only be read from a plain file; unpack it"
    } else if starts(&["pk"]) {
        "this is a ZIP archive; unpack it"
    } else if text.starts_with(|c: char| c.is_ascii_digit()) {
        "the header line is missing; add it above the first row"
    } else {
        "name the columns with `columns: { arrival: NAME, prompt: NAME, output: NAME, unit: s }` in a scenario, or with `trace stats --columns 'arrival: NAME, prompt: NAME, output: NAME, unit: s'`"
    }
}
