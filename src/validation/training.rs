//! The list of runs that constants are fitted on.

/// A run that constants are fitted on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Training {
    /// Its name.
    pub id: String,
    /// Whether only its first third of arrivals counts.
    pub part: bool,
}

/// A line of the list that says what no line can say.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}`: expected `first third`")]
pub struct TrainingError(String);

impl Training {
    /// Reads a list: an id a line, with `first third` behind it where only that counts. What follows a `#` is a comment.
    ///
    /// # Errors
    /// Something else stands behind an id.
    pub fn parse(text: &str) -> Result<Vec<Training>, TrainingError> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
        let one = |line: &str| match line.split_once(' ') {
            None => Ok(Training { id: line.to_owned(), part: false }),
            Some((id, part)) if part.trim() == "first third" => Ok(Training { id: id.to_owned(), part: true }),
            Some((_, other)) => Err(TrainingError(other.to_owned())),
        };
        lines.filter(|line| !line.is_empty()).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ids_comments_and_parts_are_told_apart() {
        let read = Training::parse("# training\n\na-1\nb-2   first third # the rest is held out\n").unwrap();
        let one = |id: &str, part| Training { id: id.to_owned(), part };
        assert_eq!(read, [one("a-1", false), one("b-2", true)]);
        assert_eq!(Training::parse("# none\n").unwrap(), []);
    }

    #[test]
    fn what_is_no_part_is_refused() {
        let error = Training::parse("a-1 first half").unwrap_err();
        assert_eq!(error.to_string(), "`first half`: expected `first third`");
    }
}
