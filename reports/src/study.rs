//! What a sweep leaves: its points by chosen metrics, as CSV, as a table on the terminal and as a page with figures.

mod answer;
mod chart;
mod heat;
mod kept;
mod markdown;
mod merge;
mod page;
mod replicates;
mod trust;

use std::fmt::Write as _;

use askama::Template;
use overbook_sim::results::trust::Trust;

use crate::ReportError;
use crate::axes;
use crate::format::{self, Unit};
use crate::report::Side;
use crate::terminal::folded;
use page::StudyPage;

pub use markdown::MARKDOWN;
pub use merge::{STUDY, is_study, merge, read};
pub use replicates::REPLICATES;

/// Widest line of a table on the terminal [characters], as far as the axes leave room.
const COLUMNS: usize = 100;

/// One run of a sweep.
#[derive(Clone, PartialEq, Debug)]
pub struct StudyPoint {
    /// Its place on every axis, as the scenario writes it.
    pub coordinates: Vec<String>,
    /// Its metrics [SI units]; `None` where the run does not define one.
    pub values: Vec<Option<f64>>,
    /// How far its figures are to be trusted; `None` if it did not run or does not say.
    pub trust: Option<Trust>,
    /// What its figures alone do not say, a sentence each.
    pub remarks: Vec<String>,
    /// Whether it kept what the scenario promises; `None` if nothing is promised, or if it is not known.
    pub kept: Option<bool>,
    /// Its targets, judged.
    pub targets: Vec<PointTarget>,
}

/// A target of a point, judged.
#[derive(Clone, PartialEq, Debug)]
pub struct PointTarget {
    /// Name of the metric, as in [`overbook_sim::results::summary::Summary::metric`].
    pub metric: String,
    /// Which side of it is good.
    pub side: Side,
    /// The target [SI units].
    pub bound: f64,
    /// Whether it is met.
    pub met: bool,
}

impl PointTarget {
    /// The target in words: "≤ 2 s".
    pub(crate) fn text(&self) -> String {
        let sign = if self.side == Side::AtMost { '≤' } else { '≥' };
        format!("{sign} {}", Unit::of(&self.metric).short(self.bound))
    }
}

impl StudyPoint {
    /// Whether it misses a target of this metric.
    pub(crate) fn misses(&self, metric: &str) -> bool {
        self.targets.iter().any(|target| target.metric == metric && !target.met)
    }
}

/// What a study expected of a figure, and whether it came so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// Whether it came so.
    pub met: bool,
    /// What the target stands on, in words; empty if it is the figure that the source states. Nothing else confirms a figure.
    pub basis: &'static str,
    /// Figure, target, what came, and where the target is from.
    pub text: String,
}

impl Judged {
    /// One line: "✓ direction only: tpot_p99 …".
    pub fn line(&self) -> String {
        let mark = if self.met { "✓" } else { "✗" };
        if self.basis.is_empty() {
            format!("{mark} {}", self.text)
        } else {
            format!("{mark} {}: {}", self.basis, self.text)
        }
    }

    /// How many of each basis came so: "figures of a source: 2 of 2; direction only: 3 of 3". Empty if all are figures.
    pub fn tally(judged: &[Judged]) -> String {
        let mut counts: Vec<(&str, usize, usize)> = Vec::new();
        for one in judged {
            let at = counts.iter().position(|count| count.0 == one.basis).unwrap_or_else(|| {
                counts.push((one.basis, 0, 0));
                counts.len() - 1
            });
            counts[at].1 += usize::from(one.met);
            counts[at].2 += 1;
        }
        if counts.iter().all(|count| count.0.is_empty()) {
            return String::new();
        }
        let named = |basis: &'static str| if basis.is_empty() { "figures of a source" } else { basis };
        let parts = counts.iter().map(|(basis, met, of)| format!("{}: {met} of {of}", named(basis)));
        format!("came as expected, {}", parts.collect::<Vec<_>>().join("; "))
    }
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
    /// Targets of `slo:` that points miss, a line each; of a comparison by load only those where no load keeps them.
    pub missed: Vec<String>,
    /// Whether the last axis has seeds of replicates: what differs along it is chance.
    pub replicated: bool,
    /// Targets of `slo:` that some seeds keep and others miss, a line each.
    pub depends_on_seed: Vec<String>,
    /// Rows of traces that are not played, and why; empty if all are.
    pub left_out: String,
    /// Rows of traces that `sort` has moved; empty if none.
    pub sorted: String,
    /// Where the cost model comes from; how far each point is to be trusted stands with the point.
    pub calibration: String,
    /// What all points assume alike: what, and its value.
    pub assumptions: Vec<(String, String)>,
    /// Hash of the resolved study; empty where it is not known.
    pub plan_hash: String,
    /// The command that makes this study again.
    pub command: String,
    /// Tool and version.
    pub tool: String,
}

impl Study {
    /// One line per point: its places, as numbers where an axis has quantities (the unit stands in the head, `workload.rate [/s]`); exact
    /// values in SI units, empty where there is none; then how far the point is to be trusted.
    pub fn csv(&self) -> String {
        let columns = self.columns();
        let names = columns.iter().map(|(head, _)| head).chain(&self.metrics).map(String::as_str);
        let header = names.chain(trust::COLUMNS).map(quoted);
        let mut csv = header.collect::<Vec<_>>().join(",") + "\n";
        for (at, point) in self.points.iter().enumerate() {
            let places = columns.iter().map(|(_, cells)| quoted(&cells[at]));
            let values = point.values.iter().map(|v| v.map_or_else(String::new, |v| v.to_string()));
            let trust = trust::cells(point.trust.as_ref()).map(|cell| quoted(&cell));
            csv += &places.chain(values).chain(trust).collect::<Vec<_>>().join(",");
            csv.push('\n');
        }
        csv
    }

    /// The head of the column of each axis, and its cells.
    fn columns(&self) -> Vec<(String, Vec<String>)> {
        let column = |(axis, path): (usize, &String)| {
            let (head, numbers) = axes::column(path, self.along(axis));
            let cells = match numbers {
                Some(numbers) => numbers.iter().map(f64::to_string).collect(),
                None => self.along(axis).map(str::to_owned).collect(),
            };
            (head, cells)
        };
        self.axes.iter().enumerate().map(column).collect()
    }

    /// A table for the terminal: axes on the left, metrics on the right, columns as wide as they must be. What does not fit into
    /// 100 columns stands below, with the axes once more.
    pub fn terminal(&self) -> String {
        let means = self.means();
        let mut text = match &means {
            None => blocks(&self.header(), self.rows(), self.axes.len()),
            Some(means) => {
                let (header, rows) = means.rows();
                format!("{}\n{}", means.heading(), blocks(&header, rows, means.study.axes.len()))
            }
        };
        if !self.depends_on_seed.is_empty() {
            let _ = writeln!(text, "\nDepends on the seed");
            self.depends_on_seed.iter().for_each(|line| {
                let _ = writeln!(text, "  {line}");
            });
        }
        if !self.left_out.is_empty() {
            let _ = writeln!(text, "\nLeft out of the trace: {}", self.left_out);
        }
        if !self.sorted.is_empty() {
            let _ = writeln!(text, "\nSorted: {}", self.sorted);
        }
        for (heading, by_place) in [("Notes", self.remark_lines()), ("Trust", self.trust_lines())] {
            if by_place.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n{heading}");
            for (place, line) in &by_place {
                let lines = folded(&format!("{place}: {line}"), COLUMNS - 4);
                let _ = lines
                    .iter()
                    .enumerate()
                    .try_for_each(|(at, part)| writeln!(text, "{}{part}", if at == 0 { "  " } else { "    " }));
            }
        }
        let kept = means.as_ref().map_or_else(|| self.kept(), |means| means.study.kept());
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

    /// One self-contained page: a figure per metric against the first axis where that is numeric, and the table.
    ///
    /// # Errors
    /// The template fails, which no input should make it do.
    pub fn html(&self) -> Result<String, ReportError> {
        let means = self.means();
        let of = means.as_ref().map_or(self, |means| &means.study);
        let names = self.names();
        let (sets, without_room) = chart::sets(of);
        let mut sets = sets.into_iter();
        let page = StudyPage {
            title: &self.title,
            tool: &self.tool,
            command: &self.command,
            calibration: &self.calibration,
            assumptions: &self.assumptions,
            plan_hash: &self.plan_hash,
            left_out: &self.left_out,
            sorted: &self.sorted,
            answer: of.answer(),
            remarks: self.remark_lines(),
            errors: self.error_rows(),
            tally: Judged::tally(&self.verdicts),
            verdicts: &self.verdicts,
            missed: self.missed.iter().map(|line| self.in_words(line)).collect(),
            depends_on_seed: self.depends_on_seed.iter().map(|line| self.in_words(line)).collect(),
            means: means.as_ref().map(|means| {
                let (_, rows) = means.rows();
                (means.heading(), page::blocks(&of.page_header(), &rows, of.axes.len()))
            }),
            first: sets.next(),
            further: sets.collect(),
            without_room: without_room.join(", "),
            trades: chart::trades(of).iter().map(crate::figure::Figure::html).collect(),
            heat: heat::html(of),
            tornadoes: of.tornadoes(),
            axes: self.axes.len(),
            paths: names.iter().cloned().zip(self.axes.iter().cloned()).collect(),
            first_axis: names.first().map_or("", String::as_str),
            kept: of
                .kept()
                .into_iter()
                .map(|(line, place)| (line, place.unwrap_or_else(|| "none of these".into())))
                .collect(),
            points: self.points.len(),
            tables: page::blocks(&self.page_header(), &self.page_rows(), self.axes.len()),
        };
        Ok(page.render()?)
    }

    /// The rows of the page: where figures have numbers for the values of an axis, these stand before them.
    fn page_rows(&self) -> Vec<Vec<String>> {
        let mut rows = self.rows();
        for axis in 0..self.axes.len() {
            let Some(names) = chart::numbered(self, axis) else { continue };
            for row in &mut rows {
                let number = names.iter().position(|name| *name == row[axis]).map_or(0, |at| at + 1);
                row[axis] = format!("{number}: {}", row[axis]);
            }
        }
        rows
    }

    /// A line that names points by the paths of their axes, with the axes in words.
    fn in_words(&self, line: &str) -> String {
        let named = |line: String, (path, name): (&String, String)| {
            let line = line.replace(&format!(" at {path}="), &format!(" at {name} "));
            line.replace(&format!(", {path}="), &format!(", {name} "))
        };
        self.axes.iter().zip(self.names()).fold(line.to_owned(), named)
    }

    /// The header of the page's table: axes in words.
    fn page_header(&self) -> Vec<String> {
        self.names().into_iter().chain(self.header().into_iter().skip(self.axes.len())).collect()
    }

    /// What the points say beside their figures, each sentence once, with the places of those that say it.
    fn remark_lines(&self) -> Vec<(String, String)> {
        let mut lines: Vec<(Vec<String>, String)> = Vec::new();
        for point in &self.points {
            for remark in &point.remarks {
                let place = point.coordinates.join(", ");
                match lines.iter_mut().find(|(_, other)| other == remark) {
                    Some((places, _)) => places.push(place),
                    None => lines.push((vec![place], remark.clone())),
                }
            }
        }
        let all = self.points.len();
        let placed = |(places, remark): (Vec<String>, String)| {
            (if places.len() == all { "all points".to_owned() } else { places.join("; ") }, remark)
        };
        lines.into_iter().map(placed).collect()
    }

    fn header(&self) -> Vec<String> {
        let metrics = self.metrics.iter().map(|metric| format::label(metric));
        let trust = self.tells_trust().then(|| "trust".to_owned());
        self.axes.iter().cloned().chain(metrics).chain(trust).collect()
    }

    /// Whether any point says how far it is to be trusted.
    fn tells_trust(&self) -> bool {
        self.points.iter().any(|point| point.trust.is_some())
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |point: &StudyPoint| {
            let show = |(metric, value): (&String, &Option<f64>)| {
                value.map_or_else(|| "–".to_owned(), |value| Unit::of(metric).show(value))
            };
            let values = self.metrics.iter().zip(&point.values).map(show);
            let trust = self.tells_trust().then(|| point.standing());
            point.coordinates.iter().cloned().chain(values).chain(trust).collect()
        };
        self.points.iter().map(row).collect()
    }
}

/// A table for the terminal, in blocks that are not too wide, each with the axes.
fn blocks(header: &[String], rows: Vec<Vec<String>>, axes: usize) -> String {
    let rows: Vec<Vec<String>> = [header.to_vec()].into_iter().chain(rows).collect();
    let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|t| t.chars().count()).max();
    let widths: Vec<usize> = (0..rows[0].len()).map(|c| width(c).unwrap_or(0)).collect();
    let left: usize = widths[..axes].iter().map(|width| width + 2).sum();
    let mut blocks: Vec<Vec<usize>> = vec![Vec::new()];
    let mut used = left;
    for (c, width) in widths.iter().enumerate().skip(axes) {
        used += width + 2;
        if used > COLUMNS + 2 && blocks.last().is_some_and(|block| !block.is_empty()) {
            blocks.push(Vec::new());
            used = left + width + 2;
        }
        if let Some(block) = blocks.last_mut() {
            block.push(c);
        }
    }
    let line = |row: &Vec<String>, block: &[usize]| {
        let cell = |c: usize| {
            let pad = " ".repeat(widths[c] - row[c].chars().count());
            if c < axes { format!("{}{pad}", row[c]) } else { format!("{pad}{}", row[c]) }
        };
        let cells: Vec<String> = (0..axes).chain(block.iter().copied()).map(cell).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    let block = |block: &Vec<usize>| rows.iter().map(|row| line(row, block)).collect::<String>();
    blocks.iter().map(block).collect::<Vec<_>>().join("\n")
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
