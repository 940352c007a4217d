//! Tables of text, aligned.

/// Two spaces between columns, all of them flush left.
pub(crate) fn left(rows: &[Vec<String>]) -> String {
    aligned(rows, |_| true)
}

/// The first column flush left, numbers flush right.
pub(crate) fn numbers(rows: &[Vec<String>]) -> String {
    aligned(rows, |column| column == 0)
}

fn aligned(rows: &[Vec<String>], flush_left: impl Fn(usize) -> bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cell = |(at, cell): (usize, &String)| {
            let width = widths[at];
            if flush_left(at) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        };
        row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A number with as many digits as say something.
#[cfg(feature = "frames")]
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        0.0 => "0".to_owned(),
        0.001..0.995 => format!("{value:.3}"),
        0.995..9.995 => format!("{value:.2}"),
        9.995..999.5 => format!("{value:.1}"),
        999.5..1e15 => format!("{value:.0}"),
        _ => format!("{value:.1e}"),
    }
}
