//! Where a word stands in a text, as diagnostics say it.

/// `FILE:LINE:COLUMN` of the first place of `word` in `text`.
pub(crate) fn place(file: &str, text: &str, word: &str) -> String {
    let at = text.find(word).unwrap_or_else(|| panic!("`{word}` is not in the text"));
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
    format!("{file}:{line}:{column}")
}
