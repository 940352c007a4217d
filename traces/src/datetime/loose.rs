//! Dates as spreadsheets, web servers and browsers write them: other separators, months or days first, no seconds, a clock of twelve hours.

use super::{Stamp, days_in, days_since_1970, digits, fraction_nanoseconds, on_calendar};
use crate::number::Order;

/// Reads `2026/11/28 10:00:00`, `11/28/2026, 9:05 PM` or `28.11.2026 10:00:00.5+01:00`.
pub(super) fn stamp(text: &[u8], order: Order) -> Option<Stamp<'_>> {
    let (first, rest) = number(text, 4)?;
    let (&separator, rest) = rest.split_first().filter(|(byte, _)| b"/.-".contains(byte))?;
    let (second, rest) = number(rest, 2)?;
    let (third, rest) = number(rest.strip_prefix(&[separator])?, 4)?;
    let is_year = |digits: &[u8]| digits.len() == 4;
    let (year, month, day) = match order {
        Order::Year => (first, second, third),
        Order::Month => (third, first, second),
        Order::Day => (third, second, first),
    };
    if !is_year(year) || is_year(month) || is_year(day) || month.len() > 2 || day.len() > 2 {
        return None;
    }
    let (year, month, day) = (digits(year)?, digits(month)?, digits(day)?);
    if !on_calendar(year, month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let rest = rest.strip_prefix(b",").unwrap_or(rest);
    let rest = match rest {
        [b'T', rest @ ..] => rest,
        [b' ', rest @ ..] => rest.trim_ascii_start(),
        _ => return None,
    };
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest.strip_prefix(b":")?, 2).filter(|(minute, _)| minute.len() == 2)?;
    let (second, rest) = match rest.strip_prefix(b":") {
        Some(rest) => number(rest, 2).filter(|(second, _)| second.len() == 2)?,
        None => (&b"0"[..], rest),
    };
    let (fraction_ns, rest) = match rest {
        [b'.', rest @ ..] => {
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (fraction_nanoseconds(&rest[..length])?, &rest[length..])
        }
        _ => (0, rest),
    };
    let (hour, minute, second) = (digits(hour)?, digits(minute)?, digits(second)?);
    let word = rest.trim_ascii_start();
    let (hour, zone) = match word.get(..2) {
        Some(half) if half.eq_ignore_ascii_case(b"AM") && (1..=12).contains(&hour) => (hour % 12, &word[2..]),
        Some(half) if half.eq_ignore_ascii_case(b"PM") && (1..=12).contains(&hour) => (hour % 12 + 12, &word[2..]),
        _ => (hour, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Stamp { seconds, fraction_ns, zone })
}

/// The digits at the beginning, at least one and at most so many, and what is behind them.
fn number(text: &[u8], at_most: usize) -> Option<(&[u8], &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=at_most).contains(&length).then(|| text.split_at(length))
}

#[cfg(test)]
mod tests {
    use crate::datetime::nanoseconds_since_1970;
    use crate::number::Order;

    #[test]
    fn dates_of_other_programs() {
        let iso = |text: &str| nanoseconds_since_1970(text.as_bytes(), Order::Year);
        let morning = iso("2026-11-28 09:05:00");
        assert!(morning.is_some());
        for (text, order) in [
            ("2026/11/28 09:05:00", Order::Year),
            ("2026-11-28 09:05", Order::Year),
            ("2026.11.28T9:05:00Z", Order::Year),
            ("11/28/2026, 9:05:00 AM", Order::Month),
            ("11-28-2026 09:05", Order::Month),
            ("28.11.2026 09:05:00.0", Order::Day),
            ("28/11/2026 10:05:00+01:00", Order::Day),
        ] {
            assert_eq!(nanoseconds_since_1970(text.as_bytes(), order), morning, "{text}");
        }
        assert_eq!(nanoseconds_since_1970(b"1/2/2026 12:30 am", Order::Day), iso("2026-02-01 00:30:00"));
        assert_eq!(nanoseconds_since_1970(b"1/2/2026 12:30 PM", Order::Month), iso("2026-01-02 12:30:00"));
        for text in [
            "28/11/2026 10:00",
            "11/28/26 10:00",
            "11/28/2026",
            "11/28.2026 10:00",
            "2/30/2026 10:00",
            "1/2/2026 13:00 PM",
        ] {
            assert_eq!(nanoseconds_since_1970(text.as_bytes(), Order::Month), None, "{text}");
        }
    }
}
