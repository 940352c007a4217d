//! What an unknown log of requests probably means: which column holds what, in which unit, and what of it must be mended.
//!
//! Names decide first (`names`), then the values of the first rows. Every decision that could have been another is a [`Choice`],
//! with the words to say in its place.

mod columns;
mod names;
mod sample;
mod times;

use std::path::Path;

use overbook_sim::workload::arrival::Workload as _;

use crate::arrivals::ArrivalSpec;
use crate::clock::Clock;
use crate::counts::Counts;
use crate::error::TraceError;
use crate::fault::{LeftOut, about_row};
use crate::format::Format;
use crate::inspect::RowFault;
use crate::layout::detect;
use crate::load::LeaveOut;
use crate::number::TimeUnit;
use crate::quote::shorten;
use crate::spec::TraceSpec;
use crate::table::Table;
use names::Role;

/// Fewer rows in all are no log.
const LEAST: u64 = 1;

/// What is known of a log already; the rest is guessed.
#[derive(Clone, Default, Debug)]
pub struct Hints {
    /// Column of the arrival.
    pub arrival: Option<String>,
    /// Column of the prompt's length.
    pub prompt: Option<String>,
    /// Column of the output's length.
    pub output: Option<String>,
    /// Column of the session.
    pub session: Option<String>,
    /// Column of the class, such as the model.
    pub class: Option<String>,
    /// Unit of the arrival.
    pub unit: Option<TimeUnit>,
    /// Where a JSON document has its requests.
    pub records: Option<String>,
    /// When requests arrive, in place of the log's times.
    pub arrivals: Option<ArrivalSpec>,
}

impl Hints {
    /// Whether it says anything of columns.
    fn any(&self) -> bool {
        let Hints { arrival, prompt, output, session, class, unit, records, arrivals: _ } = self;
        let names = [arrival, prompt, output, session, class, records];
        unit.is_some() || names.iter().any(|name| name.is_some())
    }

    fn of(&self, role: Role) -> Option<&str> {
        match role {
            Role::Arrival => self.arrival.as_deref(),
            Role::Prompt => self.prompt.as_deref(),
            Role::Output => self.output.as_deref(),
            Role::Session => self.session.as_deref(),
            Role::Class => self.class.as_deref(),
        }
    }
}

/// A decision, and how to decide otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// What was taken, and why.
    pub taken: String,
    /// The option with another value; `None` where nothing else fits.
    pub instead: Option<String>,
}

/// What is said of the columns.
#[derive(Default)]
struct Said {
    choices: Vec<Choice>,
    doubts: Vec<String>,
    /// Whether the log has times, and others take their place.
    replaced: bool,
}

/// How a log is read.
#[derive(Debug)]
pub struct Guess {
    /// What a scenario says of it.
    pub trace: TraceSpec,
    /// The format, as its columns tell it.
    pub format: Format,
    /// All decisions.
    pub choices: Vec<Choice>,
    /// What of the log looks wrong, and what was done about it.
    pub doubts: Vec<String>,
    /// Whether the log has times, and those of [`Hints::arrivals`] take their place.
    pub replaced: bool,
    /// Whose clock the times are by.
    pub clock: Clock,
    /// What became of the rows, all of them.
    pub counts: Counts,
    /// What is wrong with rows, before anything is mended.
    pub faults: Vec<RowFault>,
    /// Where the rows stand that are left out.
    pub left_out: LeftOut,
    /// Classes, and the requests of each.
    pub classes: Vec<(String, u64)>,
    /// Time between the first request and the last [s].
    pub lasts_s: f64,
}

impl Guess {
    /// Looks at a log: reads it twice or more.
    ///
    /// # Errors
    /// It cannot be read, or a column that is needed is not found.
    pub fn of(path: &Path, hints: &Hints) -> Result<Guess, TraceError> {
        let mut trace = TraceSpec { arrivals: hints.arrivals.clone(), ..TraceSpec::new(path) };
        let mut said = Said::default();
        if !trace.is_of_sessions()? {
            let mut table = Table::open_at(path, hints.records.as_deref())?;
            match detect(&table) {
                Ok((format, _)) if !hints.any() => {
                    said.replaced = hints.arrivals.is_some() && format != Format::SglangBench;
                }
                Err(error @ TraceError::Sums { .. }) => return Err(error),
                _ => {
                    let columns = columns::find(&mut table, hints, &mut said)?;
                    said.replaced = hints.arrivals.is_some() && columns.arrival.is_some();
                    trace.columns = Some(columns);
                }
            }
        }
        mended(trace, said)
    }
}

/// Requests so far.
fn counted(requests: &[u64]) -> u64 {
    requests.iter().sum()
}

/// Nanoseconds in a day.
const DAY: u64 = 86_400_000_000_000;
/// A pause that no service makes.
const MANY_DAYS: u64 = 30 * DAY;

/// A log most of which is one gap of days has a wrong date, more likely than a rate of nothing.
fn torn(lasts: u64, (gap, number): (u64, u64)) -> Option<String> {
    (gap > MANY_DAYS && gap > lasts / 10 * 9).then(|| {
        let days = gap / DAY;
        format!("no request for {days} days before request {number}: are the dates on both sides right? Nearly all of the log is that gap, and rates are near nothing")
    })
}

/// Adds what the rows need, and reads the log with it.
fn mended(mut trace: TraceSpec, said: Said) -> Result<Guess, TraceError> {
    let Said { mut choices, mut doubts, replaced } = said;
    if replaced {
        let taken = "arrivals: drawn, in place of the times of the log".to_owned();
        choices.push(Choice { taken, instead: None });
    }
    let faults = trace.inspect(u64::MAX)?.faults;
    for RowFault { first, .. } in &faults {
        match about_row(first) {
            Some(LeaveOut::Invalid) => trace.leave_out = LeaveOut::Invalid,
            Some(_) if trace.leave_out == LeaveOut::Nothing => trace.leave_out = LeaveOut::Empty,
            Some(_) => {}
            None => trace.sort = true,
        }
    }
    let left_out = trace.inspect(u64::MAX)?.left_out;
    if trace.is_of_sessions()? {
        let format = Format::KvCacheTester;
        let counts = trace.inspect(u64::MAX)?.counts;
        let (clock, classes) = (Clock::Elapsed, Vec::new());
        return Ok(Guess {
            trace,
            format,
            choices,
            doubts,
            replaced,
            clock,
            counts,
            faults,
            left_out,
            classes,
            lasts_s: 0.0,
        });
    }
    let mut replay = match trace.replay() {
        Err(error @ TraceError::NoRequests { .. }) => {
            return Err(none_readable(faults, trace.inspect(u64::MAX)?.counts.rows).unwrap_or(error));
        }
        replay => replay?,
    };
    let mut requests: Vec<u64> = Vec::new();
    let (mut last, mut widest) = (0, (0, 0));
    while let Some(arrival) = replay.next_request()? {
        let class = usize::from(arrival.class.0);
        requests.resize(requests.len().max(class + 1), 0);
        requests[class] += 1;
        widest = widest.max((arrival.at.0 - last, counted(&requests)));
        last = arrival.at.0;
    }
    doubts.extend(torn(last, widest));
    let counts = replay.counts();
    if counts.taken < LEAST {
        return Err(TraceError::Document {
            path: trace.path,
            problem: "no request is left".to_owned(),
            help: "the columns may be others than they seem; name them",
        });
    }
    let format = replay.format();
    if format != Format::Columns {
        choices.insert(0, Choice { taken: format!("format {format}, as its columns say"), instead: None });
    }
    if replay.clock() == Clock::Local {
        let taken = "the dates have no zone: taken as they stand, for only differences count".to_owned();
        choices.push(Choice { taken, instead: None });
    }
    let names = replay.classes();
    requests.resize(names.len(), 0);
    let classes = names.iter().cloned().zip(requests).collect();
    let (clock, lasts_s) = (replay.clock(), last as f64 / 1e9);
    Ok(Guess { trace, format, choices, doubts, replaced, clock, counts, faults, left_out, classes, lasts_s })
}

/// The error for a log of which no row can be read: why the first one cannot.
fn none_readable(faults: Vec<RowFault>, rows: u64) -> Option<TraceError> {
    let mut faults: Vec<RowFault> = faults.into_iter().filter(|fault| about_row(&fault.first).is_some()).collect();
    faults.sort_by_key(|fault| std::cmp::Reverse(fault.lines.len()));
    let RowFault { first, lines, .. } = faults.into_iter().next()?;
    Some(TraceError::NoneReadable { first: Box::new(first), alike: lines, rows })
}

fn quoted(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", shorten(name))).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// Names of columns, as many as a message bears.
fn shorten_list(names: &[String]) -> String {
    const SHOWN: usize = 40;
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", names.iter().take(SHOWN).map(|name| shorten(name)).collect::<Vec<_>>().join(","))
}
