//! How far off measured runs were, figure by figure, and which of them speak for a case.
//!
//! A run that was 20 % off in its first tokens says nothing of the time between tokens. So each figure has its error, that of the nearest runs of which
//! there are enough: models of this size and format on this GPU, else all on this GPU, else GPUs of its generation, else all. What nearer runs there are
//! stands beside it. Runs of other GPUs vouch for less: of them it is the error that nine in ten are within, not their median.

use std::fmt::Write as _;

use super::{Case, rounded};

/// Runs whose median is more than an accident.
const ENOUGH: usize = 5;

/// Models of a size: parameters at most so many times those of the other.
const SIZE: f64 = 2.0;

/// GPUs of one generation, by how their names begin.
const GENERATIONS: [(&str, &[&str]); 4] = [
    ("Hopper", &["h100", "h200", "h20", "gh200"]),
    ("Ampere", &["a100", "a10g", "a30", "a40"]),
    ("Ada", &["l4", "l40"]),
    ("Blackwell", &["b200", "b300", "gb200", "rtx-pro"]),
];

/// A figure that measured runs publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Figure {
    /// Mean time to first token.
    Ttft,
    /// Mean time per output token, or between tokens.
    Tpot,
    /// Mean time from end to end.
    E2el,
    /// Output tokens per second.
    Throughput,
}

impl Figure {
    /// All of them, in the order of the table's columns.
    pub const ALL: [Figure; 4] = [Figure::Ttft, Figure::Tpot, Figure::E2el, Figure::Throughput];

    /// Its name in words.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Ttft => "TTFT",
            Figure::Tpot => "TPOT",
            Figure::E2el => "end-to-end time",
            Figure::Throughput => "throughput",
        }
    }

    /// The figures that a promise hangs on, by the name of its metric.
    pub fn of_metric(metric: &str) -> &'static [Figure] {
        match metric.split('_').next() {
            Some("ttft") => &[Figure::Ttft],
            Some("tpot" | "itl" | "mtpot") => &[Figure::Tpot],
            Some("e2el") => &[Figure::E2el],
            Some("goodput") => &[Figure::Ttft, Figure::Tpot],
            _ => &[Figure::Throughput],
        }
    }
}

/// Relative errors of a run, without sign, in the order of [`Figure::ALL`].
pub type Errors = [Option<f64>; 4];

/// A run.
#[derive(Clone, PartialEq, Debug)]
struct Row {
    scheduler: String,
    gpu: String,
    experts: bool,
    weights: String,
    billions: f64,
    errors: Errors,
}

/// All runs that nothing was fitted on.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ErrorTable(Vec<Row>);

/// The error of a figure, and of which runs.
#[derive(Clone, PartialEq, Debug)]
pub struct FigureError {
    /// The figure.
    pub figure: Figure,
    /// Relative error: the median of these runs, or where they ran elsewhere what nine in ten of them are within.
    pub error: f64,
    /// Their median.
    pub median: f64,
    /// How many.
    pub runs: usize,
    /// Which: `vllm on h100`.
    pub of: String,
    /// Nearer runs, too few for a median: which, how many, and theirs.
    pub nearer: Option<(String, usize, f64)>,
    /// Whether they ran on another GPU.
    pub elsewhere: bool,
}

/// Which runs count.
type Rule<'a> = Box<dyn Fn(&Row) -> bool + 'a>;

/// The first line of the table.
const HEADER: &str = "scheduler,gpu,experts,weights,billions,ttft,tpot,e2el,throughput";

impl ErrorTable {
    /// That of this version.
    pub fn embedded() -> ErrorTable {
        ErrorTable::parse(include_str!("../../validation/errors.csv"))
    }

    /// Of cases and their errors.
    pub fn of(cases: &[(Case, Errors)]) -> ErrorTable {
        let row = |(case, errors): &(Case, Errors)| Row {
            scheduler: case.scheduler.clone(),
            gpu: case.gpu.clone(),
            experts: case.experts,
            weights: case.weights.to_string(),
            billions: rounded(case.billions),
            errors: errors.map(|error| error.map(rounded)),
        };
        ErrorTable(cases.iter().map(row).collect())
    }

    /// Lines that are not of its form are none: the file is written by [`ErrorTable::to_csv`], and a test compares.
    fn parse(text: &str) -> ErrorTable {
        let row = |line: &str| {
            let cells: Vec<&str> = line.split(',').collect();
            let [scheduler, gpu, experts, weights, billions, errors @ ..] = cells.as_slice() else { return None };
            let errors: Vec<Option<f64>> = errors.iter().map(|error| error.parse().ok()).collect();
            Some(Row {
                scheduler: (*scheduler).to_owned(),
                gpu: (*gpu).to_owned(),
                experts: *experts == "true",
                weights: (*weights).to_owned(),
                billions: billions.parse().ok()?,
                errors: errors.try_into().ok()?,
            })
        };
        ErrorTable(text.lines().filter(|line| !line.starts_with('#')).skip(1).filter_map(row).collect())
    }

    /// As [`ErrorTable::embedded`] reads it.
    pub fn to_csv(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for Row { scheduler, gpu, experts, weights, billions, errors } in &self.0 {
            let _ = write!(text, "{scheduler},{gpu},{experts},{weights},{billions}");
            for error in errors {
                let _ = write!(text, ",{}", error.map_or_else(String::new, |error| error.to_string()));
            }
            text.push('\n');
        }
        text
    }

    /// How far the nearest runs are off in a figure; `None` if none of this scheduler has it.
    pub fn nearest(&self, case: &Case, figure: Figure) -> Option<FigureError> {
        let generation = generation(&case.gpu);
        let weights = case.weights.to_string();
        let alike = |row: &&Row| row.scheduler == case.scheduler && row.experts == case.experts;
        let on_gpu = |row: &Row| row.gpu == case.gpu;
        let of_size = |row: &Row| (row.billions / case.billions).max(case.billions / row.billions) <= SIZE;
        let size = format!("{} models of about {} billion on {}", weights, rounded(case.billions), case.gpu);
        let rings: [(String, Rule<'_>); 4] = [
            (size, Box::new(|row| on_gpu(row) && row.weights == weights && of_size(row))),
            (case.gpu.clone(), Box::new(on_gpu)),
            (
                format!("{} GPUs", generation.unwrap_or("other")),
                Box::new(|row| generation.is_some() && self::generation(&row.gpu) == generation),
            ),
            ("all GPUs".to_owned(), Box::new(|_| true)),
        ];
        let mut found: Vec<(String, Vec<f64>, bool)> = Vec::new();
        for (number, (name, rule)) in rings.into_iter().enumerate() {
            let rows = self.0.iter().filter(alike).filter(|row| rule(row));
            let mut errors: Vec<f64> = rows.filter_map(|row| row.errors[figure as usize]).collect();
            errors.sort_by(f64::total_cmp);
            if !errors.is_empty() {
                let name = if number == 0 { name } else { format!("{} on {name}", case.scheduler) };
                found.push((name, errors, number >= 2));
            }
        }
        let at = found.iter().position(|(_, errors, _)| errors.len() >= ENOUGH).or(found.len().checked_sub(1))?;
        let nearer = found[..at].first().map(|(name, errors, _)| (name.clone(), errors.len(), median(errors)));
        let (of, errors, elsewhere) = found.swap_remove(at);
        let error = if elsewhere { errors[(errors.len() * 9).div_ceil(10) - 1] } else { median(&errors) };
        Some(FigureError { figure, error, median: median(&errors), runs: errors.len(), of, nearer, elsewhere })
    }
}

impl std::fmt::Display for FigureError {
    /// `TPOT 7.1 %: within it are nine in ten of 35 runs of vllm on Hopper GPUs, their median is 2.5 %; nearer: 1 of vllm on h200, 23.7 %`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let FigureError { figure, error, median, runs, of, nearer, elsewhere } = self;
        let plural = if *runs == 1 { "run" } else { "runs" };
        let (name, error, median) = (figure.name(), error * 100.0, median * 100.0);
        if *elsewhere {
            write!(
                f,
                "{name} {error:.1} %: within it are nine in ten of {runs} {plural} of {of}, their median is {median:.1} %"
            )?;
        } else {
            write!(f, "{name} {error:.1} % at the median of {runs} {plural} of {of}")?;
        }
        if let Some((of, runs, error)) = nearer {
            write!(f, "; nearer: {runs} of {of}, {:.1} %", error * 100.0)?;
        }
        Ok(())
    }
}

fn generation(gpu: &str) -> Option<&'static str> {
    GENERATIONS.iter().find(|(_, names)| names.iter().any(|name| gpu.starts_with(name))).map(|(name, _)| *name)
}

/// Of values in order; not empty.
fn median(values: &[f64]) -> f64 {
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::case;
    use super::*;

    fn runs(gpu: &str, number: usize, ttft: f64, tpot: f64) -> Vec<(Case, Errors)> {
        vec![(case(gpu, 1.0, 100.0), [Some(ttft), Some(tpot), None, None]); number]
    }

    #[test]
    fn the_nearest_runs_that_are_enough_speak_and_nearer_ones_are_told() {
        let mut all = runs("h100", 6, 0.3, 0.02);
        all.extend(runs("h200", 1, 0.5, 0.2));
        all.extend(runs("a10g", 9, 0.1, 0.1));
        let table = ErrorTable::of(&all);
        let own = table.nearest(&case("h100", 1.0, 1.0), Figure::Tpot).unwrap();
        assert_eq!((own.runs, own.elsewhere, own.nearer.is_none()), (6, false, true), "{own}");
        // A first token that is far off is no matter of the time per token.
        assert!((own.error - 0.02).abs() < 1e-9, "{own}");
        let other = table.nearest(&case("h200", 1.0, 1.0), Figure::Tpot).unwrap();
        assert_eq!((other.runs, other.elsewhere), (7, true), "{other}");
        // Six of seven are within 2 %, nine in ten only with the seventh.
        assert!((other.error - 0.2).abs() < 1e-9 && (other.median - 0.02).abs() < 1e-9, "{other}");
        let told = other.to_string();
        assert!(told.contains("Hopper") && told.contains("nearer: 1 of") && told.contains("20.0 %"), "{told}");
        // Of a generation without runs all speak; of another scheduler none does.
        let far = table.nearest(&case("l4", 1.0, 1.0), Figure::Ttft).unwrap();
        assert_eq!((far.runs, far.of.as_str()), (16, "vllm on all GPUs"));
        assert_eq!(
            table.nearest(&Case { scheduler: "sglang".to_owned(), ..case("h100", 1.0, 1.0) }, Figure::Ttft),
            None
        );
        assert_eq!(table.nearest(&case("h100", 1.0, 1.0), Figure::E2el), None);
        // Another format or size is farther than the same.
        let mut large = runs("h100", 5, 0.1, 0.4);
        for (case, _) in &mut large {
            case.billions = 70.6;
        }
        let table = ErrorTable::of(&[all, large].concat());
        let small = table.nearest(&case("h100", 1.0, 1.0), Figure::Tpot).unwrap();
        assert!((small.error - 0.02).abs() < 1e-9 && small.of.contains("about 8.03 billion"), "{small}");
    }

    #[test]
    fn the_table_is_read_as_it_is_written() {
        let table = ErrorTable::of(&[runs("h100", 2, 0.123_456, 0.02), runs("h200", 1, 1.5, 0.0)].concat());
        assert_eq!(ErrorTable::parse(&table.to_csv()), table);
        let embedded = include_str!("../../validation/errors.csv");
        let rows: Vec<&str> = embedded.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(ErrorTable::embedded().to_csv(), rows.join("\n") + "\n", "every line of the file is read");
    }
}
