//! A plan as tables and as text: the ledger and the loads as CSV and Parquet, the answer as Markdown.

use std::fmt::Write as _;

use super::text::{a_month, headroom_line};
use super::{LedgerRow, Plan};
use crate::ReportError;
use crate::markdown::{line, table};
use crate::sheet::{self, Column};

/// File name of the ledger as Parquet.
pub const LEDGER: &str = "ledger.parquet";

/// Columns of `ledger.csv`.
pub(super) const COLUMNS: &str =
    "shape,gpu,tensor_parallel,mode,replicas,fleets,gpus,usd_per_hour,stage,outcome,reason\n";

/// Columns of `load.csv`.
const LOAD: &str = "factor,requests_per_s,ttft_p50,ttft_p99,tpot_p50,tpot_p99,kept\n";

impl Plan {
    /// One line per candidate, or per group of candidates that lost for one reason.
    pub fn ledger_csv(&self) -> String {
        let mut csv = COLUMNS.to_owned();
        for row in &self.ledger {
            let number = |value: Option<String>| value.unwrap_or_default();
            let cells = [
                quoted(&row.shape),
                quoted(&row.gpu),
                row.tensor_parallel.to_string(),
                row.mode.clone(),
                quoted(&row.replicas),
                row.fleets.to_string(),
                number(row.gpus.map(|gpus| gpus.to_string())),
                number(row.usd_per_hour.map(|usd| usd.to_string())),
                row.stage.to_owned(),
                row.outcome.to_owned(),
                quoted(&row.reason),
            ];
            csv += &cells.join(",");
            csv.push('\n');
        }
        csv
    }

    /// The ledger as Parquet, with the columns of `ledger.csv`.
    ///
    /// # Errors
    /// The encoder fails, which no input should make it do.
    pub fn ledger_parquet(&self) -> Result<Vec<u8>, ReportError> {
        let words = |name, of: fn(&LedgerRow) -> &str| {
            Column::words(name, self.ledger.iter().map(|row| of(row).to_owned()).collect())
        };
        let numbers =
            |name, of: fn(&LedgerRow) -> Option<f64>| Column::numbers(name, self.ledger.iter().map(of).collect());
        let columns = [
            words("shape", |row| &row.shape),
            words("gpu", |row| &row.gpu),
            numbers("tensor_parallel", |row| Some(f64::from(row.tensor_parallel))),
            words("mode", |row| &row.mode),
            words("replicas", |row| &row.replicas),
            numbers("fleets", |row| Some(row.fleets as f64)),
            numbers("gpus", |row| row.gpus.map(f64::from)),
            numbers("usd_per_hour", |row| row.usd_per_hour),
            words("stage", |row| row.stage),
            words("outcome", |row| row.outcome),
            words("reason", |row| &row.reason),
        ];
        sheet::parquet(LEDGER, "fleet", &columns)
    }

    /// The answer's latencies at multiples of the load, one line each; times in seconds.
    pub fn load_csv(&self) -> String {
        let mut csv = LOAD.to_owned();
        for point in &self.curve {
            let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
            let cells = [
                point.factor.to_string(),
                point.requests_per_s.to_string(),
                number(point.ttft_p50),
                number(point.ttft_p99),
                number(point.tpot_p50),
                number(point.tpot_p99),
                point.kept.to_string(),
            ];
            csv += &cells.join(",");
            csv.push('\n');
        }
        csv
    }

    /// The plan as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n**{}**\n", line(&self.title), line(&self.sentence));
        let mut list = |heading: &str, lines: Vec<String>| {
            if lines.is_empty() {
                return;
            }
            let _ = write!(text, "\n## {heading}\n\n");
            for told in lines {
                let _ = writeln!(text, "- {}", line(&told));
            }
        };
        list("Promises", self.answer.as_ref().map_or_else(|| self.promises.clone(), |fleet| fleet.kept.clone()));
        let headroom = self.headroom.iter().map(|one| format!("{}: {}", one.growth, headroom_line(one)));
        let binding = (!self.binding.is_empty()).then(|| format!("then binds: {}", self.binding));
        list("Headroom", headroom.chain(binding).collect());
        list("What today's load uses", self.uses.iter().map(|one| format!("{}: {}", one.of, one.text)).collect());
        list(
            "Growth",
            self.growth
                .iter()
                .map(|one| match one.gpus {
                    Some(gpus) => format!("{}×: {gpus} GPUs {}", one.factor, a_month(one.usd_per_month)),
                    None => format!("{}×: no fleet within the limit", one.factor),
                })
                .collect(),
        );
        if !self.alternatives.is_empty() {
            let rows: Vec<Vec<String>> = self
                .alternatives
                .iter()
                .map(|one| {
                    let price = a_month(one.usd_per_month);
                    vec![one.shape.clone(), one.gpus.to_string(), one.replicas.clone(), price, one.why.clone()]
                })
                .collect();
            let header = ["Shape", "GPUs", "Replicas", "Price", "Why it lost"].map(str::to_owned);
            let _ = write!(text, "\n## Next best\n\n{}", table(&header, &rows, 1));
        }
        let facts =
            self.requests.iter().chain(&self.assumptions).map(|(name, value)| vec![name.clone(), value.clone()]);
        let trust = self.trust.iter().map(|trust| vec!["Trust".to_owned(), trust.to_string()]);
        let costs = [vec!["Step costs".to_owned(), self.calibration.clone()]];
        let rows: Vec<Vec<String>> = facts.chain(trust).chain(costs).collect();
        let _ = write!(text, "\n## What it stands on\n\n{}", table(&["What", "Value"].map(str::to_owned), &rows, 2));
        let _ = write!(text, "\n## Reproduce\n\n```sh\n{}\n```\n\n{}\n", self.command, self.tool);
        text
    }
}

/// A CSV field, in quotes where it needs them (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
