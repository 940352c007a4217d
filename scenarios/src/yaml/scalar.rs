//! What a plain scalar means: the core schema of YAML 1.2.2, §10.3.

/// The meaning of a scalar.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scalar<'t> {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that is not negative.
    Unsigned(u64),
    /// A negative whole number.
    Signed(i64),
    /// Any other number; whole numbers beyond 64 bits too.
    Float(f64),
    /// Text.
    Text(&'t str),
}

/// Settles what a scalar means; anything but a plain one is text.
pub fn resolve(text: &str, plain: bool) -> Scalar<'_> {
    if !plain {
        return Scalar::Text(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        _ => number(text).unwrap_or(Scalar::Text(text)),
    }
}

fn number(text: &str) -> Option<Scalar<'_>> {
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let (negative, unsigned) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(Scalar::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let whole =
            if negative { text.parse().map(Scalar::Signed).ok() } else { unsigned.parse().map(unsigned_of).ok() };
        return whole.or_else(|| text.parse().ok().map(Scalar::Float));
    }
    is_float(unsigned).then(|| text.parse().ok().map(Scalar::Float))?
}

fn unsigned_of<'t>(value: u64) -> Scalar<'t> {
    Scalar::Unsigned(value)
}

fn radix(digits: &str, base: u32) -> Option<Scalar<'_>> {
    let valid = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
    valid.then(|| u64::from_str_radix(digits, base).ok().map(Scalar::Unsigned))?
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_float(text: &str) -> bool {
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    has_digits
        && all_digits(whole)
        && all_digits(fraction)
        && exponent.is_none_or(|exponent| !exponent.is_empty() && all_digits(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_core_schema() {
        let plain = |text| resolve(text, true);
        assert_eq!(plain("~"), Scalar::Null);
        assert_eq!(plain(""), Scalar::Null);
        assert_eq!(plain("True"), Scalar::Bool(true));
        assert_eq!(plain("12"), Scalar::Unsigned(12));
        assert_eq!(plain("+12"), Scalar::Unsigned(12));
        assert_eq!(plain("-3"), Scalar::Signed(-3));
        assert_eq!(plain("0x1F"), Scalar::Unsigned(31));
        assert_eq!(plain("0o17"), Scalar::Unsigned(15));
        assert_eq!(plain("1."), Scalar::Float(1.0));
        assert_eq!(plain(".5e-1"), Scalar::Float(0.05));
        assert_eq!(plain("-.inf"), Scalar::Float(f64::NEG_INFINITY));
        assert_eq!(plain("99999999999999999999"), Scalar::Float(1e20));
        for text in ["yes", "off", "1_000", "20/s", "1e", ".", "-", "+", "0x", "1.2.3", "infinity", "nan", "e5"] {
            assert_eq!(plain(text), Scalar::Text(text));
        }
        assert_eq!(resolve("12", false), Scalar::Text("12"));
    }
}
