//! What the times of a column are: dates, or numbers in which unit. Most of them decide; those that disagree are named.

use std::ops::Range;
use std::path::Path;

use super::names::words;
use super::sample::Sample;
use super::{Choice, Said};
use crate::datetime::{is_whole_minutes, nanoseconds_since_1970};
use crate::error::TraceError;
use crate::fault::about_row;
use crate::number::{Order, TimeUnit, nanoseconds, scaled_nanoseconds};
use crate::places::Lines;
use crate::quote::shorten;
use crate::table::Table;

/// A unit of numbers.
struct Unit {
    is: TimeUnit,
    /// Words of a column's name that say so.
    words: &'static [&'static str],
    /// How large times since 1970 are at least: the year 1973 on, and up to 1973 in the next unit.
    since_1970: f64,
    name: &'static str,
}

const UNITS: [Unit; 4] = [
    Unit { is: TimeUnit::Ns, words: &["ns", "nanos", "nanoseconds"], since_1970: 1e17, name: "nanoseconds" },
    Unit { is: TimeUnit::Us, words: &["us", "micros", "microseconds"], since_1970: 1e14, name: "microseconds" },
    Unit { is: TimeUnit::Ms, words: &["ms", "millis", "milliseconds"], since_1970: 1e11, name: "milliseconds" },
    Unit { is: TimeUnit::S, words: &["s", "sec", "secs", "seconds"], since_1970: 1e8, name: "seconds" },
];

/// Times since 1970 are near each other: at least half of them within this part of the one in the middle. Times since the begin of a log
/// are spread from zero on.
const NEAR: f64 = 0.2;

/// Mean gap between rows from which on whole numbers are rather milliseconds.
const GAP: f64 = 100.0;

/// More than one row in so many that are in another unit: the file has several.
const MIXED: u64 = 4;

/// Columns of a log by their numbers.
pub(super) struct Found {
    pub(super) arrival: usize,
    pub(super) prompt: usize,
    pub(super) output: usize,
}

/// Which unit the times of a column probably have.
pub(super) struct Decision {
    pub(super) unit: TimeUnit,
    /// What they are, in words.
    what: String,
    /// Where the numbers lie.
    expected: Range<f64>,
    choice: Choice,
    doubt: Option<String>,
}

fn in_order(text: &str, order: Order) -> bool {
    nanoseconds_since_1970(text.as_bytes(), order).is_some()
}

fn is_date(text: &str) -> bool {
    [Order::Year, Order::Month, Order::Day].into_iter().any(|order| in_order(text, order))
}

/// Whether most of these are dates.
pub(super) fn are_dates(sample: &Sample) -> bool {
    sample.mostly(is_date)
}

/// Whether a text is a date or a number.
pub(super) fn is_time(text: &str) -> bool {
    is_date(text) || text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// The unit of a column of times, by all rows of the file.
///
/// # Errors
/// The file cannot be read, its times are in several units, or nothing tells the order of day and month.
pub(super) fn unit(
    path: &Path,
    records: Option<&str>,
    columns: &Found,
    (name, sample): (&str, &Sample),
    said: &mut Said,
) -> Result<TimeUnit, TraceError> {
    if are_dates(sample) {
        let unit = if sample.mostly(|text| in_order(text, Order::Year)) {
            TimeUnit::Datetime
        } else {
            order(path, records, columns, name)?
        };
        let like = sample.texts().iter().find(|text| in_order(text, unit.order())).map_or("", String::as_str);
        let how = match unit {
            TimeUnit::Mdy => "dates with the month first",
            TimeUnit::Dmy => "dates with the day first",
            _ => "dates",
        };
        said.choices.push(Choice { taken: format!("unit of `{name}`: {how}, like {}", shorten(like)), instead: None });
        if sample.mostly(|text| is_whole_minutes(text.as_bytes())) {
            said.doubts.push(format!(
                "the times in `{name}` are whole minutes: the requests of a minute come at once; `spread: 1min` deals them out"
            ));
        }
        return Ok(unit);
    }
    let Some(decision) = decide(name, sample) else { return Ok(TimeUnit::S) };
    said.choices.push(decision.choice.clone());
    said.doubts.extend(decision.doubt.clone());
    disagreeing(path, records, columns, (name, &decision), said)?;
    Ok(decision.unit)
}

/// Calls `each` with line, arrival and its text of every row that has lengths.
fn rows(
    path: &Path,
    records: Option<&str>,
    columns: &Found,
    each: &mut dyn FnMut(u64, &str),
) -> Result<(), TraceError> {
    let mut table = Table::open_at(path, records)?;
    table.want(&[columns.arrival, columns.prompt, columns.output])?;
    loop {
        match table.next_row() {
            Ok(None) => return Ok(()),
            Ok(Some(row)) => {
                let has = |column| row.tokens(column).is_ok_and(|tokens| tokens > 0);
                if has(columns.prompt)
                    && has(columns.output)
                    && let Ok(text) = row.text(columns.arrival)
                {
                    each(row.line, text.trim());
                }
            }
            // It is reported when all rows are read.
            Err(error) if about_row(&error).is_some() => {}
            Err(error) => return Err(error),
        }
    }
}

/// The order of day and month, by the rows that can have only one.
fn order(path: &Path, records: Option<&str>, columns: &Found, name: &str) -> Result<TimeUnit, TraceError> {
    let (mut months, mut days, mut like) = (Lines::default(), Lines::default(), String::new());
    rows(path, records, columns, &mut |line, text| match (in_order(text, Order::Month), in_order(text, Order::Day)) {
        (true, false) => months.add(line),
        (false, true) => days.add(line),
        (true, true) if like.is_empty() => text.clone_into(&mut like),
        _ => {}
    })?;
    let why = match (months.is_empty(), days.is_empty()) {
        (false, true) => return Ok(TimeUnit::Mdy),
        (true, false) => return Ok(TimeUnit::Dmy),
        (true, true) => format!("like `{}` could have the month first or the day", shorten(&like)),
        (false, false) => format!("have the month first in {months} and the day first in {days}"),
    };
    Err(TraceError::DateOrder { path: path.to_owned(), column: name.to_owned(), why })
}

/// Which unit numbers have; `None` if there are none.
pub(super) fn decide(name: &str, sample: &Sample) -> Option<Decision> {
    let number = |text: &String| text.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0);
    let mut numbers: Vec<(f64, &str)> =
        sample.texts().iter().filter_map(|text| Some((number(text)?, text.as_str()))).collect();
    numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
    let &(middle, text) = numbers.get(numbers.len() / 2)?;
    let near = numbers.iter().filter(|(n, _)| (n - middle).abs() <= NEAR * middle).count();
    let by_size = UNITS.iter().find(|unit| middle >= unit.since_1970 && 2 * near >= numbers.len());
    let by_name = UNITS.iter().find(|unit| words(name).iter().any(|word| unit.words.contains(&word.as_str())));
    let decision = |unit: &Unit, what: String, why: String, other: Option<&str>| Decision {
        unit: unit.is,
        expected: match by_size {
            Some(size) if size.is == unit.is => {
                size.since_1970..if size.is == TimeUnit::Ns { f64::INFINITY } else { 1000.0 * size.since_1970 }
            }
            // As large as times since 1970 in that unit.
            _ => 0.0..unit.since_1970,
        },
        choice: Choice {
            taken: format!("unit of `{name}`: {what}{why}"),
            instead: other.map(|other| format!("--unit {other}")),
        },
        what,
        doubt: None,
    };
    if let Some(named) = by_name {
        let what = named.name.to_owned();
        let readable = scaled_nanoseconds(text.as_bytes(), named.is.places().unwrap_or_default()).is_ok();
        return Some(match by_size {
            Some(size) if size.is != named.is && !readable => {
                let why = format!(", by their size ({text}), although its name says {what}");
                decision(size, format!("{} since 1970", size.name), why, None)
            }
            Some(size) if size.is != named.is => {
                let other = short(size.is);
                let doubt = format!(
                    "`{name}` has {what} by its name, and {} since 1970 by the size of its numbers ({text}): the name was taken; otherwise `--unit {other}`",
                    size.name
                );
                let decision = decision(named, what, ", as its name says".to_owned(), Some(other));
                Decision { doubt: Some(doubt), expected: 0.0..f64::INFINITY, ..decision }
            }
            _ => decision(named, what, ", as its name says".to_owned(), None),
        });
    }
    if let Some(size) = by_size {
        let other = if size.is == TimeUnit::S { "ms" } else { "s" };
        let upper = 1000.0 * size.since_1970;
        let largest = numbers.iter().rev().find(|(n, _)| *n < upper).map_or(text, |(_, text)| text);
        let why = format!(", by their size ({largest})");
        return Some(decision(size, format!("{} since 1970", size.name), why, Some(other)));
    }
    let [.., ms, s] = &UNITS;
    let whole = |text: &str| nanoseconds(text.as_bytes()).is_ok_and(|ns| ns % 1_000_000_000 == 0);
    if sample.texts().iter().any(|text| text.contains('.') && nanoseconds(text.as_bytes()).is_ok() && !whole(text)) {
        return Some(decision(s, "seconds".to_owned(), ", for they have decimals".to_owned(), Some("ms")));
    }
    // Of the smaller half, so that a few that are far from the others do not count.
    let gap = (middle - numbers[0].0) / (numbers.len() / 2).max(1) as f64;
    Some(if gap >= GAP {
        let why = format!(", for rows are {gap:.0} apart on average; nothing else tells");
        decision(ms, "milliseconds".to_owned(), why, Some("s"))
    } else {
        decision(s, "seconds".to_owned(), "; nothing tells but their size".to_owned(), Some("ms"))
    })
}

fn short(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::S => "s",
        TimeUnit::Ms => "ms",
        TimeUnit::Us => "us",
        TimeUnit::Ns => "ns",
        TimeUnit::Datetime => "datetime",
        TimeUnit::Mdy => "mdy",
        TimeUnit::Dmy => "dmy",
    }
}

/// Finds the rows whose times are not in the unit of the others. Those that can be read in that unit would make a log of decades, and are
/// refused, as are many; a few that cannot be read are left out later.
fn disagreeing(
    path: &Path,
    records: Option<&str>,
    columns: &Found,
    (name, decision): (&str, &Decision),
    said: &mut Said,
) -> Result<(), TraceError> {
    let places = decision.unit.places().unwrap_or_default();
    let (mut odd, mut all, mut readable, mut first) = (Lines::default(), 0, 0_u64, String::new());
    rows(path, records, columns, &mut |line, text| {
        let Some(number) = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0) else { return };
        all += 1;
        if !decision.expected.contains(&number) {
            if odd.is_empty() {
                first = shorten(text);
            }
            odd.add(line);
            readable += u64::from(scaled_nanoseconds(text.as_bytes(), places).is_ok());
        }
    })?;
    if odd.is_empty() {
        return Ok(());
    }
    let what =
        format!("{} of {all} times are no {} as the others are: {odd}, the first `{first}`", odd.len(), decision.what);
    if readable > 0 || (odd.len() > 1 && MIXED * odd.len() > all) {
        return Err(TraceError::Mixed { path: path.to_owned(), column: name.to_owned(), what });
    }
    said.doubts.push(format!("column `{name}`: {what}; these rows are left out"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, sample: &[&str]) -> (TimeUnit, bool) {
        let decision = decide(name, &Sample::of(sample)).expect("numbers");
        (decision.unit, decision.choice.instead.is_some())
    }

    #[test]
    fn units_are_told_by_name_and_size() {
        assert_eq!(of("start_ns", &["12"]), (TimeUnit::Ns, false));
        for (text, unit) in [
            ("1764300000", TimeUnit::S),
            ("1764300000.25", TimeUnit::S),
            ("1764300000250", TimeUnit::Ms),
            ("1764300000250000", TimeUnit::Us),
            ("1764300000250000000", TimeUnit::Ns),
        ] {
            assert_eq!(of("ts", &[text]), (unit, true), "{text}");
        }
        assert_eq!(of("ts", &["0", "0.5"]), (TimeUnit::S, true));
        assert_eq!(of("ts", &["0", "5", "9"]), (TimeUnit::S, true));
        assert_eq!(of("ts", &["0", "500", "900"]), (TimeUnit::Ms, true));
    }

    #[test]
    fn most_of_the_numbers_decide() {
        // One in milliseconds among seconds, and a number that is none of a time.
        assert_eq!(of("ts", &["1764300000", "1764300001250", "1764300002", "1764300003"]), (TimeUnit::S, true));
        assert_eq!(of("ts", &["1", "2", "3", "4", "1e300"]), (TimeUnit::S, true));
        // Milliseconds since the start of a log of twelve days are no seconds since 1970.
        assert_eq!(of("ts", &["0", "250000000", "500000000", "750000000", "1000000000"]), (TimeUnit::Ms, true));
        // A size that the unit of the name cannot have, and one that it can.
        assert_eq!(of("start_s", &["1764300000250", "1764300001250"]), (TimeUnit::Ms, false));
        let doubtful = decide("start_ms", &Sample::of(&["1764300000", "1764300001"])).expect("numbers");
        assert_eq!((doubtful.unit, doubtful.choice.instead.as_deref()), (TimeUnit::Ms, Some("--unit s")));
        assert!(doubtful.doubt.is_some());
    }
}
