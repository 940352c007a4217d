//! A table of a page.

/// A further table of the page, below the load over time: burstiness of the traffic, say.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Names of the columns.
    pub header: Vec<String>,
    /// Cells, row by row; the first of each row is its name.
    pub rows: Vec<Vec<String>>,
    /// What there is to say about it; may be empty.
    pub note: String,
}
