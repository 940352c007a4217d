//! How far each point of a study is to be trusted: in the table, below it, and as columns of `study.csv`.

use overbook_sim::results::trust::{MeasuredRuns, Standing, Trust};

use super::{Study, StudyPoint};
use crate::format::Unit;

/// Columns of `study.csv`, after the metrics: standing, by what or why, runs confirmed and in all, the bound of an error that
/// confirms, and the median error; shares from 0 to 1.
pub(super) const COLUMNS: [&str; 6] =
    ["trust", "trust_why", "trust_runs_confirmed", "trust_runs", "trust_within", "trust_error"];

/// The cells of a point, one for each of [`COLUMNS`]; empty where nothing is known.
pub(super) fn cells(trust: Option<&Trust>) -> [String; COLUMNS.len()] {
    let Some(Trust { standing, runs }) = trust else { return Default::default() };
    let number = |of: fn(&MeasuredRuns) -> f64| runs.as_ref().map_or_else(String::new, |runs| of(runs).to_string());
    [
        standing.name().to_owned(),
        standing.why(),
        number(|runs| f64::from(runs.confirmed)),
        number(|runs| f64::from(runs.of)),
        number(|runs| runs.within),
        number(|runs| runs.error),
    ]
}

/// What [`cells`] has written.
pub(super) fn read(cells: &[&str]) -> Option<Trust> {
    let [standing, why, confirmed, of, within, error] = cells else { return None };
    let why = (*why).to_owned();
    let standing = match *standing {
        "validated" => Standing::Validated,
        "extrapolated" => Standing::Extrapolated(vec![why]),
        "prior" => Standing::Prior(why),
        _ => return None,
    };
    let runs = || {
        let (confirmed, of) = (confirmed.parse().ok()?, of.parse().ok()?);
        Some(MeasuredRuns { confirmed, of, within: within.parse().ok()?, error: error.parse().ok()? })
    };
    Some(Trust { standing, runs: runs() })
}

impl StudyPoint {
    /// `validated`, `extrapolated` or `prior`, a dash if it is not known.
    pub(super) fn standing(&self) -> String {
        self.trust.as_ref().map_or("–", |trust| trust.standing.name()).to_owned()
    }
}

impl Study {
    /// How far each point is to be trusted, in columns: places, standing, measured runs that confirm and all of them, their median error, why.
    /// Points of which the same is said share a row. Empty where nothing is known.
    pub(super) fn error_rows(&self) -> Vec<[String; 5]> {
        let mut rows: Vec<(Vec<String>, [String; 4])> = Vec::new();
        for point in &self.points {
            let Some(trust) = &point.trust else { continue };
            let (runs, error) = trust.runs.as_ref().map_or_else(
                || ("none".to_owned(), "–".to_owned()),
                |runs| {
                    let within = format!("{} of {} within {}", runs.confirmed, runs.of, Unit::Share.short(runs.within));
                    (within, Unit::Share.show(runs.error))
                },
            );
            let why = trust.standing.why();
            let cells =
                [trust.standing.name().to_owned(), runs, error, if why.is_empty() { "–".to_owned() } else { why }];
            let place = point.coordinates.join(", ");
            match rows.iter_mut().find(|(_, other)| *other == cells) {
                Some((places, _)) => places.push(place),
                None => rows.push((vec![place], cells)),
            }
        }
        let all = self.points.len();
        let row = |(places, [standing, runs, error, why]): (Vec<String>, [String; 4])| {
            let place = if places.len() == all { "all points".to_owned() } else { places.join("; ") };
            [place, standing, runs, error, why]
        };
        rows.into_iter().map(row).collect()
    }

    /// One line for all points, or one line per point if they differ: where it lies, and how far it is to be trusted.
    pub(super) fn trust_lines(&self) -> Vec<(String, String)> {
        let told = |point: &StudyPoint| point.trust.as_ref().map(Trust::to_string);
        let lines: Vec<Option<String>> = self.points.iter().map(told).collect();
        match lines.first() {
            Some(Some(first)) if lines.iter().all(|line| line.as_ref() == Some(first)) => {
                vec![("all points".to_owned(), first.clone())]
            }
            _ => {
                let named = self.points.iter().zip(lines).filter_map(|(point, line)| Some((point, line?)));
                named.map(|(point, line)| (point.coordinates.join(", "), line)).collect()
            }
        }
    }
}
