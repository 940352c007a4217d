//! What a sweep leaves: its points by chosen metrics, as CSV, as a table on the terminal and as a page with figures.

mod chart;
mod kept;
mod merge;
mod page;

use std::fmt::Write as _;

use askama::Template;

use crate::ReportError;
use crate::format::{self, Unit};
use crate::terminal::cut;
use page::StudyPage;

pub use merge::{STUDY, is_study, merge, read};

/// Widest table on the terminal [characters].
const WIDTH: usize = 100;
/// Widest value of an axis there.
const AXIS: usize = 40;
/// Between two columns.
const GAP: &str = "  ";

/// One run of a sweep.
#[derive(Clone, PartialEq, Debug)]
pub struct StudyPoint {
    /// Its place on every axis, as the scenario writes it.
    pub coordinates: Vec<String>,
    /// Its metrics [SI units]; `None` where the run does not define one.
    pub values: Vec<Option<f64>>,
    /// Whether it kept what the scenario promises; `None` if nothing is promised, or if it is not known.
    pub kept: Option<bool>,
}

/// What a study expected of a figure, and whether it came so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// Whether it came so.
    pub met: bool,
    /// Figure, target, what came, and where the target is from.
    pub text: String,
}

/// All runs of a sweep.
#[derive(Clone, PartialEq, Debug)]
pub struct Study {
    /// What was asked.
    pub title: String,
    /// Names of the axes: the scenario paths that vary.
    pub axes: Vec<String>,
    /// Names of the metrics, as in [`overbook_sim::results::summary::Summary::metric`].
    pub metrics: Vec<String>,
    /// The points, in the sweep's order.
    pub points: Vec<StudyPoint>,
    /// What the study expected.
    pub verdicts: Vec<Judged>,
    /// Where the cost model comes from and how far it is to be trusted: one line.
    pub calibration: String,
    /// The command that makes this study again.
    pub command: String,
    /// Tool and version.
    pub tool: String,
}

impl Study {
    /// One line per point; exact values in SI units, empty where there is none.
    pub fn csv(&self) -> String {
        let header = self.axes.iter().chain(&self.metrics).map(|name| quoted(name));
        let mut csv = header.collect::<Vec<_>>().join(",") + "\n";
        for point in &self.points {
            let places = point.coordinates.iter().map(|place| quoted(place));
            let values = point.values.iter().map(|v| v.map_or_else(String::new, |v| v.to_string()));
            csv += &places.chain(values).collect::<Vec<_>>().join(",");
            csv.push('\n');
        }
        csv
    }

    /// Tables for the terminal: axes on the left, metrics on the right, columns as wide as they must be. Metrics that do not fit
    /// into 100 columns stand in a further table below; of long values of an axis the beginning is shown.
    pub fn terminal(&self) -> String {
        let mut rows: Vec<Vec<String>> = [self.header()].into_iter().chain(self.rows()).collect();
        let axes = self.axes.len();
        rows.iter_mut().flat_map(|row| row.iter_mut().take(axes)).for_each(|cell| *cell = cut(cell, AXIS));
        let columns = axes + self.metrics.len();
        let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|t| t.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        let tables: Vec<String> = self.groups(&widths).iter().map(|shown| table(&rows, &widths, axes, shown)).collect();
        let mut text = tables.join("\n");
        let kept = self.kept();
        if !kept.is_empty() {
            let _ = writeln!(text, "\nHighest {} that keeps the promise", self.axes[0]);
            let width = kept.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
            for (line, place) in &kept {
                let pad = " ".repeat(width - line.chars().count());
                let _ = writeln!(text, "  {line}{pad}  {}", place.as_deref().unwrap_or("none of these"));
            }
        }
        text
    }

    /// The columns of metrics that stand in one table each, by what fits beside the axes.
    fn groups(&self, widths: &[usize]) -> Vec<Vec<usize>> {
        let axes = self.axes.len();
        let start: usize = widths[..axes].iter().map(|width| width + GAP.len()).sum();
        let mut groups: Vec<Vec<usize>> = vec![Vec::new()];
        let mut taken = start;
        for (column, width) in widths.iter().enumerate().skip(axes) {
            let group = groups.len() - 1;
            if taken + width > WIDTH && !groups[group].is_empty() {
                groups.push(Vec::new());
                taken = start;
            }
            taken += width + GAP.len();
            if let Some(group) = groups.last_mut() {
                group.push(column);
            }
        }
        groups
    }

    /// One self-contained page: a figure per metric against the first axis where that is numeric, and the table.
    ///
    /// # Errors
    /// The template fails, which no input should make it do.
    pub fn html(&self) -> Result<String, ReportError> {
        let page = StudyPage {
            title: &self.title,
            tool: &self.tool,
            command: &self.command,
            calibration: &self.calibration,
            verdicts: &self.verdicts,
            figures: chart::figures(self).iter().map(crate::figure::Figure::html).collect(),
            header: self.header(),
            axes: self.axes.len(),
            first_axis: self.axes.first().map_or("", String::as_str),
            kept: self
                .kept()
                .into_iter()
                .map(|(line, place)| (line, place.unwrap_or_else(|| "none of these".into())))
                .collect(),
            rows: self.rows(),
        };
        Ok(page.render()?)
    }

    fn header(&self) -> Vec<String> {
        let metrics = self.metrics.iter().map(|metric| format::label(metric));
        self.axes.iter().cloned().chain(metrics).collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |point: &StudyPoint| {
            let show = |(metric, value): (&String, &Option<f64>)| {
                value.map_or_else(|| "–".to_owned(), |value| Unit::of(metric).show(value))
            };
            let values = self.metrics.iter().zip(&point.values).map(show);
            point.coordinates.iter().cloned().chain(values).collect()
        };
        self.points.iter().map(row).collect()
    }
}

/// Rows of the axes and the `shown` columns; numbers stand on the right.
fn table(rows: &[Vec<String>], widths: &[usize], axes: usize, shown: &[usize]) -> String {
    let mut text = String::new();
    for row in rows {
        let cell = |c: usize| {
            let pad = " ".repeat(widths[c] - row[c].chars().count());
            if c < axes { format!("{}{pad}", row[c]) } else { format!("{pad}{}", row[c]) }
        };
        let line = (0..axes).chain(shown.iter().copied()).map(cell).collect::<Vec<_>>().join(GAP);
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A CSV field, in quotes where it needs them (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests;
