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
    pub(super) assumptions: &'a [(String, String)],
    pub(super) plan_hash: &'a str,
    /// Points, and what their figures alone do not say.
    pub(super) remarks: Vec<(String, String)>,
    /// How many expectations of each kind came so.
    pub(super) tally: String,
    pub(super) verdicts: &'a [super::Judged],
    pub(super) missed: Vec<String>,
    /// Targets that some seeds keep and others miss.
    pub(super) depends_on_seed: Vec<String>,
    /// Of a study with seeds: what its means are, and their tables.
    pub(super) means: Option<(String, Vec<Block>)>,
    /// What is enough.
    pub(super) answer: super::answer::Answer,
    /// Figures against the first axis that varies.
    pub(super) first: Option<super::chart::Set>,
    /// Figures against the others, which the script shows when asked.
    pub(super) further: Vec<super::chart::Set>,
    /// Axes whose figures are left out.
    pub(super) without_room: String,
    /// Figures of what users get against what it costs.
    pub(super) trades: String,
    /// The table over two axes.
    pub(super) heat: String,
    /// What figures hang on.
    pub(super) tornadoes: String,
    /// How far points are to be trusted, in columns.
    pub(super) errors: Vec<[String; 5]>,
    /// The axes in words, and their paths.
    pub(super) paths: Vec<(String, String)>,
    /// How many of the columns name the point; they are set left.
    pub(super) axes: usize,
    pub(super) points: usize,
    pub(super) first_axis: &'a str,
    /// Lines, and up to where on the first axis each keeps the promise.
    pub(super) kept: Vec<(String, String)>,
    pub(super) tables: Vec<Block>,
}

/// Some columns of a table, behind those that name the point.
pub(super) struct Block {
    pub(super) names: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Widest table [characters]: what a sheet of paper has room for.
const COLUMNS: usize = 108;

/// Room between two columns [characters].
const GAP: usize = 3;

/// A table in blocks that fit a page, each with the columns that name the point.
pub(super) fn blocks(names: &[String], rows: &[Vec<String>], axes: usize) -> Vec<Block> {
    // Names of columns are broken between words.
    let word = |name: &String| name.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
    let cell =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|text| text.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = names.iter().enumerate().map(|(at, name)| word(name).max(cell(at)) + GAP).collect();
    // Long values are broken, too.
    let left = widths[..axes].iter().sum::<usize>().min(COLUMNS / 2);
    let mut chosen: Vec<Vec<usize>> = vec![Vec::new()];
    let mut used = left;
    for (at, width) in widths.iter().enumerate().skip(axes) {
        used += width;
        if used > COLUMNS && chosen.last().is_some_and(|block| !block.is_empty()) {
            chosen.push(Vec::new());
            used = left + width;
        }
        if let Some(block) = chosen.last_mut() {
            block.push(at);
        }
    }
    let pick = |row: &[String], block: &[usize]| {
        (0..axes).chain(block.iter().copied()).map(|at| row[at].clone()).collect::<Vec<_>>()
    };
    chosen
        .iter()
        .map(|block| Block { names: pick(names, block), rows: rows.iter().map(|row| pick(row, block)).collect() })
        .collect()
}
