//! Date and time of day, as Azure's traces and other programs write them, to nanoseconds since 1970.

mod loose;

use overbook_sim::time::NS_PER_S;

use crate::number::{Order, fraction_nanoseconds};

/// Years that fit in 64 bits of nanoseconds since 1970, with room to spare.
const YEARS: std::ops::RangeInclusive<u64> = 1970..=2500;

/// A date as written: seconds since 1970 by its own clock, and the text of the zone.
struct Stamp<'a> {
    seconds: u64,
    fraction_ns: u64,
    zone: &'a [u8],
}

/// Reads `2023-11-16 18:15:46.6805900`: a blank or `T` between, up to nine decimals or none, and either no zone or
/// `Z`, `UTC`, `GMT`, `+02`, `+0200`, `+02:00`; with slashes or points, or without seconds, as well, and in another order where that is
/// asked for. `None` if the text is anything else or the date does not exist.
pub(crate) fn nanoseconds_since_1970(text: &[u8], order: Order) -> Option<u64> {
    let Stamp { seconds, fraction_ns, zone } = stamp(text, order)?;
    let utc = seconds.checked_add_signed(-zone_seconds(zone)?)?;
    Some(utc * NS_PER_S + fraction_ns)
}

/// Whether a date has no seconds: it is exact to the minute.
pub(crate) fn is_whole_minutes(text: &[u8]) -> bool {
    // A zone may have a colon of its own, behind its sign; dashes of a date come before any colon.
    let first = memchr::memchr(b':', text);
    let rest = first.map_or(&[][..], |at| &text[at + 1..]);
    let time = rest.split(|byte| matches!(byte, b'+' | b'-')).next().unwrap_or_default();
    first.is_some() && !time.contains(&b':')
}

fn stamp(text: &[u8], order: Order) -> Option<Stamp<'_>> {
    let text = text.trim_ascii();
    let fixed = if order == Order::Year { fixed(text) } else { None };
    // What ends in AM or PM begins like an ISO date, and is none.
    fixed.filter(|stamp| zone_seconds(stamp.zone).is_some()).or_else(|| loose::stamp(text, order))
}

/// The form of ISO 8601 with all of its digits.
fn fixed(text: &[u8]) -> Option<Stamp<'_>> {
    let (fixed, rest) = text.split_at_checked(19)?;
    let separators = [(4, b"-"), (7, b"-"), (10, b" T"), (13, b":"), (16, b":")] as [(usize, &[u8]); 5];
    if !separators.iter().all(|(at, allowed)| allowed.contains(&fixed[*at])) {
        return None;
    }
    let (year, month, day) = (digits(&fixed[..4])?, digits(&fixed[5..7])?, digits(&fixed[8..10])?);
    let (hour, minute, second) = (digits(&fixed[11..13])?, digits(&fixed[14..16])?, digits(&fixed[17..])?);
    if !on_calendar(year, month)
        || !(1..=days_in(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    let (fraction_ns, zone) = match rest {
        // Python's logging writes a comma.
        [b'.' | b',', rest @ ..] => {
            let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            (fraction_nanoseconds(&rest[..length])?, &rest[length..])
        }
        _ => (0, rest),
    };
    Some(Stamp { seconds, fraction_ns, zone })
}

fn on_calendar(year: u64, month: u64) -> bool {
    YEARS.contains(&year) && (1..=12).contains(&month)
}

/// Seconds that the zone of a date is ahead of UTC; `None` if it has no zone, or is no date.
pub(crate) fn zone_of(text: &[u8], order: Order) -> Option<i64> {
    let zone = stamp(text, order)?.zone.trim_ascii_start();
    if zone.is_empty() { None } else { zone_seconds(zone) }
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |value, b| b.is_ascii_digit().then(|| value * 10 + u64::from(b - b'0')))
}

/// Seconds that the zone is ahead of UTC; no zone reads as UTC (only differences matter).
fn zone_seconds(zone: &[u8]) -> Option<i64> {
    let (sign, rest) = match zone.trim_ascii_start() {
        [] | [b'Z' | b'z'] | b"UTC" | b"GMT" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [_, _] => (digits(rest)?, 0),
        [_, _, b':', _, _] => (digits(&rest[..2])?, digits(&rest[3..])?),
        [_, _, _, _] => (digits(&rest[..2])?, digits(&rest[2..])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then(|| sign * (hours * 3_600 + minutes * 60) as i64)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the date (proleptic Gregorian; Hinnant, "chrono-compatible low-level date algorithms").
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era_year = shifted_year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = era_year * 365 + era_year / 4 - era_year / 100 + day_of_year;
    shifted_year / 400 * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_1970() {
        let ns = |text: &str| nanoseconds_since_1970(text.as_bytes(), Order::Year);
        assert_eq!(ns("1970-01-01 00:00:00"), Some(0));
        assert_eq!(ns("1970-01-01 00:00:00.5"), Some(500_000_000));
        assert_eq!(ns("2000-03-01T00:00:00Z"), Some(951_868_800 * NS_PER_S));
        assert_eq!(ns("2023-11-16 18:15:46.6805900"), Some(1_700_158_546_680_590_000));
        assert_eq!(ns("2024-02-29 23:59:59"), Some(1_709_251_199 * NS_PER_S));
    }

    #[test]
    fn zones_shift_to_utc() {
        let ns = |text: &str| nanoseconds_since_1970(text.as_bytes(), Order::Year);
        let utc = ns("2024-05-10 00:00:00.0099");
        assert!(utc.is_some());
        for text in ["+00:00", "Z", " +0000", "+00"] {
            assert_eq!(ns(&format!("2024-05-10 00:00:00.0099{text}")), utc);
        }
        assert_eq!(ns("2024-05-10 02:30:00.0099+02:30"), utc);
        assert_eq!(ns("2024-05-09 19:00:00.0099-0500"), utc);
    }

    #[test]
    fn the_zone_of_a_date() {
        for (text, zone) in [
            ("2024-05-10 00:00:00", None),
            ("2024-05-10 00:00:00.5", None),
            ("2024-05-10T00:00:00Z", Some(0)),
            ("2024-05-10 00:00:00,250 UTC", Some(0)),
            ("2024-05-10 00:00:00.25 +02:00", Some(7200)),
            ("2024-05-10 00:00:00-0530", Some(-19_800)),
            ("2024/05/10 00:00 +02:00", Some(7200)),
            ("no date", None),
        ] {
            assert_eq!(zone_of(text.as_bytes(), Order::Year), zone, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_date_is_refused() {
        for text in [
            "",
            "2023-11-16",
            "2023-02-29 00:00:00",
            "2023-13-01 00:00:00",
            "2023-00-01 00:00:00",
            "2023-11-31 00:00:00",
            "2023-11-16 24:00:00",
            "2023-11-16 00:60:00",
            "1969-12-31 23:59:59",
            "1970-01-01 00:00:00+01:00",
            "2023-11-16 18:15:46.",
            "2023-11-16 18:15:46.1234567890",
            "2023-11-16 18:15:46 PM",
            "2023/11-16 18:15:46",
            "11/16/2023 18:15:46",
            "2023-11-16 18:15:46+1",
            "2023-11-16 18:15:4é",
        ] {
            assert_eq!(nanoseconds_since_1970(text.as_bytes(), Order::Year), None, "{text}");
        }
    }
}
