//! Lines of a file, as messages name them.

use std::fmt;

/// Lines of a kind that are remembered at most.
const LINES_MAX: usize = 8;

/// Some lines, the first ones, and how many there are in all.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Lines {
    first: Vec<u64>,
    all: u64,
}

impl Lines {
    pub(crate) fn add(&mut self, line: u64) {
        self.all += 1;
        if self.first.len() < LINES_MAX {
            self.first.push(line);
        }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.all
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all == 0
    }
}

/// `line 4`, `lines 4, 9 and 12`, `lines 4, 9, 12, … and 31 more`.
impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = self.all - self.first.len() as u64;
        let numbers: Vec<String> = self.first.iter().map(u64::to_string).collect();
        match (numbers.as_slice(), more) {
            ([], _) => f.write_str("no line"),
            ([only], 0) => write!(f, "line {only}"),
            ([before @ .., last], 0) => write!(f, "lines {} and {last}", before.join(", ")),
            (all, more) => write!(f, "lines {} and {more} more", all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_words() {
        let of = |all: u64| {
            let mut lines = Lines::default();
            (1..=all).for_each(|line| lines.add(10 * line));
            lines.to_string()
        };
        assert_eq!((of(1).as_str(), of(3).as_str()), ("line 10", "lines 10, 20 and 30"));
        assert_eq!(of(9), "lines 10, 20, 30, 40, 50, 60, 70, 80 and 1 more");
    }
}
