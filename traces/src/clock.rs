//! Whose clock the times of a trace are by.

use std::fmt;

/// The clock of a file, as its first request shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Clock {
    /// Times count from somewhere; the file does not say from when.
    #[default]
    Elapsed,
    /// Dates without a zone: whatever clock was on the wall.
    Local,
    /// Dates with a zone, so many seconds ahead of UTC.
    Zone(i32),
}

impl Clock {
    /// What is added to a time in UTC to have that of this clock [s].
    pub fn ahead_s(self) -> i32 {
        match self {
            Clock::Elapsed | Clock::Local => 0,
            Clock::Zone(seconds) => seconds,
        }
    }
}

/// In words: `UTC`, `+02:00`, `as dated`, `since the file's zero`.
impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Clock::Elapsed => f.write_str("since the file's zero"),
            Clock::Local => f.write_str("as dated"),
            Clock::Zone(0) => f.write_str("UTC"),
            Clock::Zone(seconds) => {
                let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }
}
