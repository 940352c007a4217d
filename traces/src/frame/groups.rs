//! Requests by class, model, log type or hour of the day: how many, and how long.

use overbook_sim::time::{NS_PER_S, Time};
use polars::prelude::*;

use super::{AT, CLASS, FrameError, OUTPUT, PROMPT, TraceFrame};

/// What requests are grouped by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Class, `GPT-4/api`.
    Class,
    /// What stands before the `/` of the class: `GPT-4`.
    Model,
    /// What stands behind the `/` of the class: `api`.
    LogType,
    /// Hour of the day; the time of the first request by the clock that is meant is given.
    HourOfDay(Time),
}

/// A table of groups: the first column names them, the others are numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct Groups {
    /// Names of the columns.
    pub header: Vec<String>,
    /// Name and figures of each group.
    pub rows: Vec<(String, Vec<f64>)>,
}

const KEY: &str = "group";

/// Quantiles that are printed, by nearest rank.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

impl TraceFrame {
    /// Counts, shares and lengths of each group.
    ///
    /// # Errors
    /// The table could not be evaluated.
    pub fn groups(&self, by: By) -> Result<Groups, FrameError> {
        let (keys, names) = match by {
            By::HourOfDay(first) => {
                let hour = lit(3_600 * NS_PER_S as i64);
                let day = lit(86_400 * NS_PER_S as i64);
                let clock = col(AT) + lit((first.0 % (86_400 * NS_PER_S)) as i64);
                let start = clock.clone() % day - clock % hour.clone();
                (start / hour, (0..24).map(|hour| format!("{hour:02}:00")).collect())
            }
            by => self.names(by),
        };
        let columns: Vec<Expr> = [PROMPT, OUTPUT].iter().flat_map(|name| lengths(name)).collect();
        let counted = [len().cast(DataType::Float64).alias("requests")];
        let table = self.lazy().with_columns([keys.cast(DataType::UInt32).alias(KEY)]).group_by([col(KEY)]);
        let table = table.agg([&counted[..], &columns[..]].concat()).sort([KEY], SortMultipleOptions::default());
        rows(&table.collect()?, &names, self.requests())
    }

    /// An expression for the number of a group, and the names of the groups, in order of appearance of their classes.
    fn names(&self, by: By) -> (Expr, Vec<String>) {
        let part = |class: &str| match (by, class.split_once('/')) {
            (By::Model, Some((model, _))) => model.to_owned(),
            (By::LogType, Some((_, log_type))) => log_type.to_owned(),
            _ => class.to_owned(),
        };
        let mut names: Vec<String> = Vec::new();
        let mut number = lit(0u32);
        for (class, name) in self.classes().iter().enumerate() {
            let name = part(name);
            let at = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            number = when(col(CLASS).eq(lit(class as u32))).then(lit(at as u32)).otherwise(number);
        }
        (number, names)
    }
}

fn lengths(name: &str) -> Vec<Expr> {
    let quantile = |(label, p): (&str, f64)| {
        let value = col(name).quantile(lit(p), QuantileMethod::Equiprobable);
        value.cast(DataType::Float64).alias(format!("{name} {label}"))
    };
    let ends = [
        col(name).mean().alias(format!("{name} mean")),
        col(name).max().cast(DataType::Float64).alias(format!("{name} max")),
    ];
    let [mean, max] = ends;
    std::iter::once(mean).chain(QUANTILES.map(quantile)).chain(std::iter::once(max)).collect()
}

fn rows(table: &DataFrame, names: &[String], requests: u64) -> Result<Groups, FrameError> {
    let keys = table.column(KEY)?.u32()?;
    let figures: Vec<_> = table.columns().iter().skip(1).collect();
    let mut header: Vec<String> = figures.iter().map(|column| column.name().to_string()).collect();
    header.insert(1, "share %".to_owned());
    let mut rows = Vec::with_capacity(table.height());
    for (row, key) in keys.iter().enumerate() {
        let figure = |column: &&Column| Ok(column.f64()?.get(row).unwrap_or(f64::NAN));
        let mut values: Vec<f64> = figures.iter().map(figure).collect::<Result<_, PolarsError>>()?;
        values.insert(1, 100.0 * values[0] / requests.max(1) as f64);
        let name = key.and_then(|key| names.get(key as usize)).cloned().unwrap_or_default();
        rows.push((name, values));
    }
    Ok(Groups { header, rows })
}
