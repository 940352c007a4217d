//! What the times of a column are: dates, or numbers in which unit.

use super::names::words;
use super::{Choice, mostly};
use crate::datetime::nanoseconds_since_1970;
use crate::number::{TimeUnit, nanoseconds};

/// Units of a number, with the words of a column's name that say so and how large the times since 1970 are at least: the year 1973
/// on, and up to 1973 in the next unit.
const UNITS: [(TimeUnit, &[&str], f64, &str); 4] = [
    (TimeUnit::Ns, &["ns", "nanos", "nanoseconds"], 1e17, "nanoseconds"),
    (TimeUnit::Us, &["us", "micros", "microseconds"], 1e14, "microseconds"),
    (TimeUnit::Ms, &["ms", "millis", "milliseconds"], 1e11, "milliseconds"),
    (TimeUnit::S, &["s", "sec", "secs", "seconds"], 1e8, "seconds"),
];

/// Mean gap between rows from which on whole numbers are rather milliseconds.
const GAP: f64 = 100.0;

/// Whether most of these are dates.
pub(super) fn are_dates(sample: &[String]) -> bool {
    mostly(sample, |text| nanoseconds_since_1970(text.as_bytes()).is_some())
}

/// Whether most of these are dates or numbers.
pub(super) fn are_times(sample: &[String]) -> bool {
    are_dates(sample) || mostly(sample, is_number)
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// The unit of a column of times, and why.
pub(super) fn unit(name: &str, sample: &[String], choices: &mut Vec<Choice>) -> TimeUnit {
    let mut choose = |unit: TimeUnit, why: String, other: Option<&str>| {
        choices.push(Choice { taken: why, instead: other.map(|other| format!("--unit {other}")) });
        unit
    };
    if are_dates(sample) {
        return choose(TimeUnit::Datetime, format!("unit of `{name}`: dates, like {}", sample[0]), None);
    }
    let numbers: Vec<f64> =
        sample.iter().filter_map(|text| text.parse().ok()).filter(|n: &f64| n.is_finite()).collect();
    let largest = numbers.iter().copied().fold(0.0, f64::max);
    let said = UNITS.iter().find(|(_, words_of, ..)| words(name).iter().any(|word| words_of.contains(&word.as_str())));
    if let Some(&(unit, _, _, what)) = said {
        return choose(unit, format!("unit of `{name}`: {what}, as its name says"), None);
    }
    if let Some(&(unit, _, _, what)) = UNITS.iter().find(|(_, _, since_1970, _)| largest >= *since_1970) {
        let other = if unit == TimeUnit::S { "ms" } else { "s" };
        return choose(unit, format!("unit of `{name}`: {what} since 1970, by their size ({largest})"), Some(other));
    }
    let fraction = sample
        .iter()
        .any(|text| text.contains('.') && nanoseconds(text.as_bytes()).is_ok_and(|ns| ns % 1_000_000_000 != 0));
    if fraction {
        return choose(TimeUnit::S, format!("unit of `{name}`: seconds, for they have decimals"), Some("ms"));
    }
    let smallest = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let gap = if numbers.len() > 1 { (largest - smallest) / (numbers.len() - 1) as f64 } else { 0.0 };
    if gap >= GAP {
        let why = format!("unit of `{name}`: milliseconds, for rows are {gap:.0} apart on average; nothing else tells");
        return choose(TimeUnit::Ms, why, Some("s"));
    }
    choose(TimeUnit::S, format!("unit of `{name}`: seconds; nothing tells but their size"), Some("ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, sample: &[&str]) -> (TimeUnit, bool) {
        let sample: Vec<String> = sample.iter().map(|&text| text.to_owned()).collect();
        let mut choices = Vec::new();
        let unit = unit(name, &sample, &mut choices);
        (unit, choices[0].instead.is_some())
    }

    #[test]
    fn units_are_told_by_name_and_size() {
        assert_eq!(of("ts", &["2026-03-02T09:00:05Z", "x"]), (TimeUnit::Datetime, false));
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
}
