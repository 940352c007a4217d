//! Markdown: tables as GitHub shows them.

/// Text that stands for itself in a cell.
fn cell(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*").replace('`', "\\`")
}

/// A line of text.
pub(crate) fn line(text: &str) -> String {
    cell(text)
}

/// A table; the first `left` columns are set left, the others right.
pub(crate) fn table(header: &[String], rows: &[Vec<String>], left: usize) -> String {
    let row =
        |cells: &[String]| format!("| {} |\n", cells.iter().map(|text| cell(text)).collect::<Vec<_>>().join(" | "));
    let rule: Vec<&str> = (0..header.len()).map(|at| if at < left { "---" } else { "---:" }).collect();
    let body: String = rows.iter().map(|cells| row(cells)).collect();
    format!("{}| {} |\n{body}", row(header), rule.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_stands_for_itself() {
        let own = |cells: &[&str]| cells.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let text = table(&own(&["a", "b"]), &[own(&["x|y", "<b>*1*"]), own(&["two\nlines", "2"])], 1);
        assert_eq!(text, "| a | b |\n| --- | ---: |\n| x\\|y | &lt;b>\\*1\\* |\n| two lines | 2 |\n");
    }
}
