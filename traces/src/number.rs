//! Decimal text to integers, without a detour over floats: `19440110.0` seconds are exactly that many nanoseconds.

use overbook_sim::time::NS_PER_S;
use serde::{Deserialize, Serialize};

/// Tokens of one request at most. No model has a context of 2²⁴ tokens; a larger number is a broken file.
pub const TOKENS_MAX: u32 = 1 << 24;

/// Unit of a column of times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeUnit {
    /// Seconds, whole or decimal.
    #[default]
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
    /// Date and time, like `2023-11-16 18:15:46.68`, `2023-11-16T18:15:46Z` or `2023/11/16 18:15`.
    Datetime,
    /// Date and time with the month first, like `11/28/2026 18:15:46` or `11/28/2026, 6:15 PM`.
    Mdy,
    /// Date and time with the day first, like `28/11/2026 18:15:46` or `28.11.2026 18:15`.
    Dmy,
}

/// What stands first in a date of numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Year,
    Month,
    Day,
}

impl TimeUnit {
    /// Powers of ten down to the nanosecond; `None` for dates.
    pub(crate) fn places(self) -> Option<u32> {
        match self {
            TimeUnit::S => Some(9),
            TimeUnit::Ms => Some(6),
            TimeUnit::Us => Some(3),
            TimeUnit::Ns => Some(0),
            TimeUnit::Datetime | TimeUnit::Mdy | TimeUnit::Dmy => None,
        }
    }

    /// What stands first in a date; dates with the year first for what is no date.
    pub(crate) fn order(self) -> Order {
        match self {
            TimeUnit::Mdy => Order::Month,
            TimeUnit::Dmy => Order::Day,
            _ => Order::Year,
        }
    }
}

/// Why a field is not the number that is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadNumber {
    /// Not a number of the wanted form.
    Malformed,
    /// Below zero.
    Negative,
    /// Over the limit of the field.
    TooLarge,
}

/// What to do about a number with separators of thousands or a decimal comma; `None` if the text is neither.
pub(crate) fn written_otherwise(text: &str) -> Option<&'static str> {
    let text = text.trim();
    let groups: Vec<&str> = text.split([',', '.', '\'', '_', ' ', '\u{a0}', '\u{202f}']).collect();
    let digits = |group: &&str| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
    if groups.len() < 2 || !groups.iter().all(digits) || text.parse::<f64>().is_ok() {
        return None;
    }
    if groups[0].len() <= 3 && groups[1..].iter().all(|group| group.len() == 3) {
        return Some("the numbers have separators of thousands: write them without, 1200 for 1,200");
    }
    (groups.len() == 2 && text.contains(',')).then_some("the numbers have a decimal comma: write a point, 0.5 for 0,5")
}

/// Whole seconds with at most this many digits cannot overflow `u64` before the multiplication is checked.
const SECONDS_DIGITS_MAX: usize = 11;

/// Digits of the largest number of nanoseconds.
const NS_DIGITS_MAX: i64 = 20;

/// Reads seconds (`45`, `45.0`, `45.123456789`, `1e-05`) as nanoseconds; digits past the ninth are rounded half up.
pub(crate) fn nanoseconds(text: &[u8]) -> Result<u64, BadNumber> {
    let text = text.trim_ascii();
    let (whole, used) = leading_digits(text);
    if used == 0 || used > SECONDS_DIGITS_MAX {
        return decimal_nanoseconds(text, 9);
    }
    let ns = whole.checked_mul(NS_PER_S).ok_or(BadNumber::TooLarge)?;
    match text.get(used) {
        None => Ok(ns),
        Some(b'.') => match fraction_nanoseconds(&text[used + 1..]) {
            Some(fraction) => ns.checked_add(fraction).ok_or(BadNumber::TooLarge),
            None => decimal_nanoseconds(text, 9),
        },
        Some(_) => decimal_nanoseconds(text, 9),
    }
}

/// Reads a time in units of `10^places` nanoseconds.
pub(crate) fn scaled_nanoseconds(text: &[u8], places: u32) -> Result<u64, BadNumber> {
    let text = text.trim_ascii();
    let (whole, used) = leading_digits(text);
    if used == text.len() && (1..=18).contains(&used) {
        return whole.checked_mul(10u64.pow(places)).ok_or(BadNumber::TooLarge);
    }
    decimal_nanoseconds(text, i64::from(places))
}

/// The digits after the decimal point of a number of seconds, as nanoseconds; `None` unless there are 1 to 9 digits.
pub(crate) fn fraction_nanoseconds(digits: &[u8]) -> Option<u64> {
    let (value, used) = leading_digits(digits);
    let whole_field = used == digits.len() && (1..=9).contains(&used);
    whole_field.then(|| value * 10u64.pow(9 - used as u32))
}

/// Value and count of the leading digits. The value is right for up to 19 digits (callers check the count).
fn leading_digits(text: &[u8]) -> (u64, usize) {
    let mut value = 0u64;
    for (used, byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return (value, used);
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    (value, text.len())
}

/// The general case, in units of `10^places` ns: a sign, any number of digits, an exponent.
fn decimal_nanoseconds(text: &[u8], places: i64) -> Result<u64, BadNumber> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let end = text.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(text.len());
    let exponent = if end == text.len() { 0 } else { exponent(&text[end + 1..])? };
    let dot = text[..end].iter().position(|&b| b == b'.').unwrap_or(end);
    let (whole, fraction) = (&text[..dot], text.get(dot + 1..end).unwrap_or_default());
    let digits = || whole.iter().chain(fraction).copied();
    if digits().count() == 0 || !digits().all(|b| b.is_ascii_digit()) {
        return Err(BadNumber::Malformed);
    }
    let zeros = digits().take_while(|&b| b == b'0').count();
    let mut digits = digits().skip(zeros).peekable();
    if digits.peek().is_none() {
        return Ok(0);
    }
    if negative {
        return Err(BadNumber::Negative);
    }
    // The first digit stands `point` places before the decimal point; nanoseconds want `places` more.
    let point = whole.len() as i64 - zeros as i64 + exponent;
    if point + places > NS_DIGITS_MAX {
        return Err(BadNumber::TooLarge);
    }
    if point < -places {
        return Ok(0);
    }
    let mut digit = || digits.next().map_or(0, |b| u128::from(b - b'0'));
    let mut ns = 0u128;
    for _ in 0..point + places {
        ns = ns * 10 + digit();
    }
    ns += u128::from(digit() >= 5);
    u64::try_from(ns).map_err(|_| BadNumber::TooLarge)
}

/// The power of ten after `e`, cut to ±10 000 (beyond which every number is zero or too large).
fn exponent(text: &[u8]) -> Result<i64, BadNumber> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadNumber::Malformed);
    }
    let value = digits.iter().fold(0i64, |value, b| (value * 10 + i64::from(b - b'0')).min(10_000));
    Ok(sign * value)
}

/// Reads a number of tokens: `472`, or `472.0` as written by tools that turn a column with gaps into floats.
pub(crate) fn tokens(text: &[u8]) -> Result<u32, BadNumber> {
    let text = text.trim_ascii();
    let (value, used) = leading_digits(text);
    if used == 0 {
        let negative = matches!(text, [b'-', b'0'..=b'9', ..]);
        return Err(if negative { BadNumber::Negative } else { BadNumber::Malformed });
    }
    match &text[used..] {
        [] => {}
        [b'.', zeros @ ..] if zeros.iter().all(|&b| b == b'0') => {}
        _ => return Err(BadNumber::Malformed),
    }
    let leading_zeros = text.iter().take_while(|&&b| b == b'0').count();
    if used - leading_zeros > 18 || value > u64::from(TOKENS_MAX) {
        return Err(BadNumber::TooLarge);
    }
    Ok(value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        let ns = |text: &str| nanoseconds(text.as_bytes());
        assert_eq!(ns("5"), Ok(5_000_000_000));
        assert_eq!(ns("19440110.0"), Ok(19_440_110_000_000_000));
        assert_eq!(ns("0.1"), Ok(100_000_000));
        assert_eq!(ns("12.123456789"), Ok(12_123_456_789));
        assert_eq!(ns("12.1234567894999999"), Ok(12_123_456_789));
        assert_eq!(ns("12.1234567895"), Ok(12_123_456_790));
        assert_eq!(ns("0.9999999999"), Ok(1_000_000_000));
        assert_eq!(ns("1e-05"), Ok(10_000));
        assert_eq!(ns("1.5E+3"), Ok(1_500_000_000_000));
        assert_eq!(ns("1e-10"), Ok(0));
        assert_eq!(ns("5e-10"), Ok(1));
        assert_eq!(ns("0.00000000000000000000000000001e29"), Ok(1_000_000_000));
        assert_eq!(ns(" 7 "), Ok(7_000_000_000));
        assert_eq!(ns(".5"), Ok(500_000_000));
        assert_eq!(ns("5."), Ok(5_000_000_000));
        assert_eq!(ns("-0.0"), Ok(0));
        assert_eq!(ns("18446744073.709551615"), Ok(u64::MAX));
    }

    #[test]
    fn other_units_are_exact() {
        let ns = |text: &str, places| scaled_nanoseconds(text.as_bytes(), places);
        assert_eq!(ns("3000", 6), Ok(3_000_000_000));
        assert_eq!(ns("0.0015", 6), Ok(1_500));
        assert_eq!(ns("1.5e3", 3), Ok(1_500_000));
        assert_eq!(ns("1700000000123456789", 0), Ok(1_700_000_000_123_456_789));
        assert_eq!(ns("18446744073709551616", 0), Err(BadNumber::TooLarge));
        assert_eq!(ns("18446744073709551615", 0), Ok(u64::MAX));
        assert_eq!(ns("0.5", 0), Ok(1));
        assert_eq!(ns("999999999999999999", 6), Err(BadNumber::TooLarge));
        assert_eq!(ns("", 6), Err(BadNumber::Malformed));
        assert_eq!(ns("-1", 6), Err(BadNumber::Negative));
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        let ns = |text: &str| nanoseconds(text.as_bytes());
        assert_eq!(ns("-1"), Err(BadNumber::Negative));
        for text in ["", ".", "e5", "1e", "1e+", "nan", "inf", "1.2.3", "0x10", "1,5", "--1", "1 2"] {
            assert_eq!(ns(text), Err(BadNumber::Malformed), "{text}");
        }
        for text in ["18446744073.709551616", "99999999999", "1e12", "123456789012", "1e999999999999999999"] {
            assert_eq!(ns(text), Err(BadNumber::TooLarge), "{text}");
        }
    }

    #[test]
    fn numbers_that_are_written_otherwise() {
        for text in ["1,200", "12'345'678", "1 200", "1_200"] {
            assert!(written_otherwise(text).is_some_and(|help| help.contains("thousands")), "{text}");
        }
        assert!(written_otherwise("1764579600,5").is_some_and(|help| help.contains("decimal comma")));
        for text in ["1200", "1.5", "1.200", "many", "1,", ",5", "2026-03-02"] {
            assert_eq!(written_otherwise(text), None, "{text}");
        }
    }

    #[test]
    fn tokens_are_whole_and_bounded() {
        assert_eq!(tokens(b"472"), Ok(472));
        assert_eq!(tokens(b"472.0"), Ok(472));
        assert_eq!(tokens(b"16777216"), Ok(TOKENS_MAX));
        assert_eq!(tokens(b"000000000000000000000000000007"), Ok(7));
        assert_eq!(tokens(b"16777217"), Err(BadNumber::TooLarge));
        assert_eq!(tokens(b"18446744073709551617"), Err(BadNumber::TooLarge));
        assert_eq!(tokens(b"-3"), Err(BadNumber::Negative));
        for text in ["", "-", "4.5", "1e3", "nan", "7 8", "\u{665}"] {
            assert_eq!(tokens(text.as_bytes()), Err(BadNumber::Malformed), "{text}");
        }
    }
}
