//! What an unknown log of requests probably means: which column holds what, in which unit, and what of it must be mended.
//!
//! Names decide first (`names`), then the values of the first rows. Every decision that could have been another is a [`Choice`],
//! with the words to say in its place.

mod names;
mod times;

use std::path::Path;

use overbook_sim::workload::arrival::Workload as _;

use crate::arrivals::ArrivalSpec;
use crate::clock::Clock;
use crate::columns::Columns;
use crate::counts::Counts;
use crate::error::TraceError;
use crate::fault::{LeftOut, about_row};
use crate::format::Format;
use crate::inspect::RowFault;
use crate::layout::detect;
use crate::load::LeaveOut;
use crate::number::{self, TimeUnit};
use crate::quote::shorten;
use crate::spec::TraceSpec;
use crate::table::{Row, Table};
use names::Role;

/// Rows that are looked at to tell what a column holds.
const SAMPLE: usize = 1000;

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

/// How a log is read.
#[derive(Debug)]
pub struct Guess {
    /// What a scenario says of it.
    pub trace: TraceSpec,
    /// The format, as its columns tell it.
    pub format: Format,
    /// All decisions.
    pub choices: Vec<Choice>,
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
        let mut choices = Vec::new();
        if !trace.is_of_sessions()? {
            let mut table = Table::open_at(path, hints.records.as_deref())?;
            match detect(&table) {
                Ok(_) if !hints.any() => {}
                Err(error @ TraceError::Sums { .. }) => return Err(error),
                _ => trace.columns = Some(columns(&mut table, hints, &mut choices)?),
            }
        }
        mended(trace, choices)
    }
}

/// Adds what the rows need, and reads the log with it.
fn mended(mut trace: TraceSpec, mut choices: Vec<Choice>) -> Result<Guess, TraceError> {
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
        return Ok(Guess { trace, format, choices, clock, counts, faults, left_out, classes, lasts_s: 0.0 });
    }
    let mut replay = trace.replay()?;
    let mut requests = Vec::new();
    let mut last = 0;
    while let Some(arrival) = replay.next_request()? {
        let class = usize::from(arrival.class.0);
        requests.resize(requests.len().max(class + 1), 0);
        requests[class] += 1;
        last = arrival.at.0;
    }
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
    Ok(Guess { trace, format, choices, clock, counts, faults, left_out, classes, lasts_s })
}

/// Guesses which column holds what.
fn columns(table: &mut Table, hints: &Hints, choices: &mut Vec<Choice>) -> Result<Columns, TraceError> {
    let names = table.header().names().to_vec();
    let candidates: Vec<usize> = (0..names.len()).filter(|&column| table.want(&[column]).is_ok()).collect();
    let samples = sample(table, &candidates)?;
    let missing = |role: Role| TraceError::Unclear {
        path: table.path().to_owned(),
        what: role.what(),
        option: role.option(),
        found: shorten_list(&names),
    };
    let mut find = |role: Role| -> Result<Option<String>, TraceError> {
        if let Some(name) = hints.of(role) {
            let at = names.iter().position(|column| column.eq_ignore_ascii_case(name.trim()));
            return at.map(|at| Some(names[at].clone())).ok_or_else(|| TraceError::NoColumn {
                path: table.path().to_owned(),
                missing: vec![format!("`{}` ({})", shorten(name), role.option())],
                found: shorten_list(&names),
            });
        }
        let mut ranked: Vec<(u32, usize)> = candidates
            .iter()
            .filter_map(|&column| Some((role.rank(&names[column])?, column)))
            .filter(|(_, column)| role.fits(&samples[*column]))
            .collect();
        if ranked.is_empty() && role == Role::Arrival {
            // No name says it: the only column of dates.
            ranked = candidates.iter().filter(|at| times::are_dates(&samples[**at])).map(|at| (1, *at)).collect();
        }
        // The best name; of equal ones the first column.
        ranked.sort_by_key(|&(rank, column)| (std::cmp::Reverse(rank), column));
        let Some(&(_, best)) = ranked.first() else { return Ok(None) };
        let others: Vec<&str> = ranked.iter().skip(1).map(|(_, column)| names[*column].as_str()).collect();
        let taken = match others.as_slice() {
            [] => format!("{}: `{}`", role.what(), names[best]),
            others => format!("{}: `{}`, and not {}", role.what(), names[best], quoted(others)),
        };
        let instead = others.first().map(|other| format!("{} {other}", role.option()));
        choices.push(Choice { taken, instead });
        Ok(Some(names[best].clone()))
    };
    let arrival = find(Role::Arrival)?.ok_or_else(|| missing(Role::Arrival))?;
    let prompt = find(Role::Prompt)?.ok_or_else(|| missing(Role::Prompt))?;
    let output = find(Role::Output)?.ok_or_else(|| missing(Role::Output))?;
    let (session, class) = (find(Role::Session)?, find(Role::Class)?);
    let at = names.iter().position(|name| *name == arrival).unwrap_or_default();
    let unit = match hints.unit {
        Some(unit) => unit,
        None => times::unit(&arrival, &samples[at], choices),
    };
    Ok(Columns { session, class, unit, records: hints.records.clone(), ..Columns::new(&arrival, &prompt, &output) })
}

/// What the first rows have in each column, as text; empty cells are left out.
fn sample(table: &mut Table, columns: &[usize]) -> Result<Vec<Vec<String>>, TraceError> {
    table.want(columns)?;
    let mut samples = vec![Vec::new(); table.header().names().len()];
    for _ in 0..SAMPLE {
        let row: Row<'_> = match table.next_row() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            // A broken row is reported when all are read.
            Err(error) if about_row(&error).is_some() => continue,
            Err(error) => return Err(error),
        };
        for &column in columns {
            if !row.is_empty(column)
                && let Ok(text) = row.text(column)
            {
                samples[column].push(text.trim().to_owned());
            }
        }
    }
    Ok(samples)
}

/// Whether most of these are numbers of tokens.
fn are_tokens(sample: &[String]) -> bool {
    mostly(sample, |text| number::tokens(text.as_bytes()).is_ok())
}

fn mostly(sample: &[String], holds: impl Fn(&str) -> bool) -> bool {
    let holding = sample.iter().filter(|text| holds(text)).count();
    holding > 0 && 2 * holding >= sample.len()
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
