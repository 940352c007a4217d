//! Which column of a log holds what.

use super::names::Role;
use super::sample::{self, Sample};
use super::{Choice, Hints, Said, quoted, shorten_list, times};
use crate::columns::Columns;
use crate::error::TraceError;
use crate::number::{TimeUnit, written_otherwise};
use crate::quote::shorten;
use crate::table::Table;

/// Guesses which column holds what, and says why.
///
/// # Errors
/// A column that is needed is not found, or what it holds is not clear.
pub(super) fn find(table: &mut Table, hints: &Hints, said: &mut Said) -> Result<Columns, TraceError> {
    let names = table.header().names().to_vec();
    let candidates: Vec<usize> = (0..names.len()).filter(|&column| table.want(&[column]).is_ok()).collect();
    let samples = sample::take(table, &candidates)?;
    let search = Search { table, names: &names, candidates: &candidates, samples: &samples };
    let mut find = |role: Role| match hints.of(role) {
        Some(name) => search.named(role, name).map(Some),
        None => Ok(search.best(role, &mut said.choices)),
    };
    let arrival = find(Role::Arrival)?;
    if arrival.is_none() && hints.arrivals.is_none() {
        return Err(search.missing(Role::Arrival));
    }
    let prompt = find(Role::Prompt)?.ok_or_else(|| search.missing(Role::Prompt))?;
    let output = find(Role::Output)?.ok_or_else(|| search.missing(Role::Output))?;
    let (session, class) = (find(Role::Session)?, find(Role::Class)?);
    let unit = match (hints.unit, arrival) {
        (Some(unit), _) => unit,
        // They are not read.
        (None, Some(arrival)) if hints.arrivals.is_some() => {
            times::decide(&names[arrival], &samples[arrival]).map_or(TimeUnit::S, |decision| decision.unit)
        }
        (None, Some(arrival)) => {
            let columns = times::Found { arrival, prompt, output };
            times::unit(table.path(), hints.records.as_deref(), &columns, (&names[arrival], &samples[arrival]), said)?
        }
        (None, None) => TimeUnit::S,
    };
    let name = |column: usize| names[column].clone();
    Ok(Columns {
        arrival: arrival.map(name),
        session: session.map(name),
        class: class.map(name),
        unit,
        records: hints.records.clone(),
        ..Columns::new("", &names[prompt], &names[output])
    })
}

struct Search<'a> {
    table: &'a Table,
    names: &'a [String],
    /// Columns that can be read.
    candidates: &'a [usize],
    samples: &'a [Sample],
}

impl Search<'_> {
    /// The column that an option names.
    fn named(&self, role: Role, name: &str) -> Result<usize, TraceError> {
        let at = self.names.iter().position(|column| column.eq_ignore_ascii_case(name.trim()));
        at.ok_or_else(|| TraceError::NoColumn {
            path: self.table.path().to_owned(),
            missing: vec![format!("`{}` ({})", shorten(name), role.option())],
            found: shorten_list(self.names),
        })
    }

    /// Columns whose names speak for a role, the best first; of equal ones the first column.
    fn ranked(&self, role: Role, holds: impl Fn(usize) -> bool) -> Vec<usize> {
        let ranked = self.candidates.iter().filter_map(|&column| Some((role.rank(&self.names[column])?, column)));
        let mut ranked: Vec<(u32, usize)> = ranked.filter(|(_, column)| holds(*column)).collect();
        ranked.sort_by_key(|&(rank, column)| (std::cmp::Reverse(rank), column));
        ranked.into_iter().map(|(_, column)| column).collect()
    }

    /// The column that fits best.
    fn best(&self, role: Role, choices: &mut Vec<Choice>) -> Option<usize> {
        let mut ranked = self.ranked(role, |column| role.fits(&self.samples[column]));
        if ranked.is_empty() && role == Role::Arrival {
            // No name says it: the only column of dates.
            ranked = self.candidates.iter().copied().filter(|&at| times::are_dates(&self.samples[at])).collect();
        }
        let (&best, others) = ranked.split_first()?;
        let others: Vec<&str> = others.iter().map(|column| self.names[*column].as_str()).collect();
        let taken = match others.as_slice() {
            [] => format!("{}: `{}`", role.what(), self.names[best]),
            others => format!("{}: `{}`, and not {}", role.what(), self.names[best], quoted(others)),
        };
        choices.push(Choice { taken, instead: others.first().map(|other| format!("{} {other}", role.option())) });
        Some(best)
    }

    /// The error for a role that no column has: it names the column that comes nearest, and what of it cannot be read.
    fn missing(&self, role: Role) -> TraceError {
        let path = self.table.path().to_owned();
        let sized = |&&column: &&usize| role.may_be_bytes(&self.names[column]) && role.fits(&self.samples[column]);
        let nearest = self.ranked(role, |_| true).first().copied();
        let Some(nearest) = nearest.or_else(|| self.candidates.iter().find(sized).copied()) else {
            return TraceError::Unclear {
                path,
                what: role.what(),
                option: role.option(),
                found: shorten_list(self.names),
            };
        };
        let column = self.names[nearest].clone();
        let sample = &self.samples[nearest];
        if sample.texts().is_empty() {
            let problem = format!("no column seems to hold the {}: all cells of `{column}` are empty", role.what());
            return TraceError::Document {
                path,
                problem,
                help: "name another column with `--arrival`, `--prompt` or `--output`",
            };
        }
        let unfit = sample.first_without(|text| role.reads(text));
        let help = match unfit {
            None => {
                "nothing says that these are tokens: they may be bytes or characters; if they are tokens, name the column"
            }
            Some((_, text)) => written_otherwise(text).unwrap_or_else(|| role.wants()),
        };
        let (line, found) = unfit.or_else(|| sample.first_without(|_| false)).unwrap_or_default();
        let help = format!("{help}; `{} NAME` names a column", role.option());
        TraceError::Misfit { path, line, column, what: role.what(), found: shorten(found), help }
    }
}
