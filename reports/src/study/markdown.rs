//! A study as Markdown: the answer, the points, how far they are to be trusted.

use std::fmt::Write as _;

use super::Study;
use crate::markdown::{line, table};

/// File name of the text.
pub const MARKDOWN: &str = "study.md";

impl Study {
    /// The study as Markdown, with the figures of the page's tables.
    pub fn markdown(&self) -> String {
        let means = self.means();
        let of = means.as_ref().map_or(self, |means| &means.study);
        let answer = of.answer();
        let mut text = format!("# {}\n\n**{}**\n\n", line(&self.title), line(&answer.headline));
        for told in &answer.lines {
            let _ = writeln!(text, "- {}", line(told));
        }
        for judged in &self.verdicts {
            let _ = writeln!(text, "- {}", line(&judged.line()));
        }
        for told in &self.depends_on_seed {
            let _ = writeln!(text, "- depends on the seed: {}", line(told));
        }
        if let Some(means) = &means {
            let (_, rows) = means.rows();
            let table = table(&of.page_header(), &rows, of.axes.len());
            let _ = write!(text, "\n## {}\n\n{table}", line(&means.heading()));
        }
        let _ = write!(text, "\n## All points\n\n{}", table(&self.page_header(), &self.rows(), self.axes.len()));
        for (name, told) in [("Left out of the trace", &self.left_out), ("Sorted", &self.sorted)] {
            if !told.is_empty() {
                let _ = write!(text, "\n{name}: {}\n", line(told));
            }
        }
        let errors = self.error_rows();
        if !errors.is_empty() {
            let header = ["Points", "Standing", "Measured runs", "Median error", "Outside what was measured by"];
            let rows: Vec<Vec<String>> = errors.into_iter().map(Vec::from).collect();
            let _ = write!(text, "\n## Trust\n\n{}", table(&header.map(str::to_owned), &rows, 2));
        }
        for (place, remark) in self.remark_lines() {
            let _ = write!(text, "\n{}: {}.\n", line(&place), line(&remark));
        }
        let _ = write!(
            text,
            "\n## Reproduce\n\n{}\n\n```sh\n{}\n```\n\n{}\n",
            line(&self.calibration),
            self.command,
            self.tool
        );
        text
    }
}
