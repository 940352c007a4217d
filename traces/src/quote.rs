//! Foreign text in messages.

/// Characters of foreign text that a message repeats at most.
const QUOTE_MAX: usize = 80;

/// Cuts foreign text for a message and makes its control characters visible.
pub(crate) fn shorten(text: &str) -> String {
    let cut: String = text.chars().take(QUOTE_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_MAX).is_some() { cut + "..." } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_cut() {
        assert_eq!(shorten("a\tb"), "a\\tb");
        assert_eq!(shorten(&"ä".repeat(100)).chars().count(), QUOTE_MAX + 3);
    }
}
