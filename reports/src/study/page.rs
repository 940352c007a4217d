//! The page of a study.

use askama::Template;

/// A page around figures and a table: what a study writes.
#[derive(Template)]
#[template(path = "study.html")]
pub(super) struct StudyPage<'a> {
    pub(super) title: &'a str,
    pub(super) tool: &'a str,
    pub(super) command: &'a str,
    pub(super) left_out: &'a str,
    pub(super) sorted: &'a str,
    pub(super) calibration: &'a str,
    /// Points, and what their figures alone do not say.
    pub(super) remarks: Vec<(String, String)>,
    /// Points, and how far each is to be trusted.
    pub(super) trust: Vec<(String, String)>,
    /// How many expectations of each kind came so.
    pub(super) tally: String,
    pub(super) verdicts: &'a [super::Judged],
    pub(super) missed: &'a [String],
    /// Targets that some seeds keep and others miss.
    pub(super) depends_on_seed: &'a [String],
    /// Of a study with seeds: what its means are, and the header and the rows of their table.
    pub(super) means: Option<MeansTable>,
    pub(super) figures: String,
    pub(super) header: Vec<String>,
    /// How many of the columns name the point; they are set left.
    pub(super) axes: usize,
    pub(super) first_axis: &'a str,
    /// Lines, and up to where on the first axis each keeps the promise.
    pub(super) kept: Vec<(String, String)>,
    pub(super) rows: Vec<Vec<String>>,
}

/// The means over the seeds.
pub(super) struct MeansTable {
    /// What they are.
    pub(super) heading: String,
    pub(super) names: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}
