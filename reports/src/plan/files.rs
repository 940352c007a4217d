//! A plan as tables and as text: the ledger and the loads as CSV and Parquet, the answer as Markdown.

use std::fmt::Write as _;

use super::text::{a_month, binds_line, headroom_line, power_lines};
use super::{Binds, LedgerRow, Plan};
use crate::ReportError;
use crate::format::number;
use crate::markdown::{line, table};
use crate::sheet::{self, Column};

/// File name of the ledger as Parquet.
pub const LEDGER: &str = "ledger.parquet";

/// Columns of `ledger.csv`.
pub(super) const COLUMNS: &str = "shape,gpu,tensor_parallel,decode_gpu,decode_tensor_parallel,mode,replicas,fleets,gpus,servers,usd_per_hour,kw_mean,kw_peak,\
     nearest_to_bound,compute,memory,link,host,stage,outcome,reason\n";

/// Columns of `load.csv`.
const LOAD: &str = "factor,requests_per_s,ttft_p50,ttft_p99,tpot_p50,tpot_p99,kept\n";

impl Plan {
    /// One line per candidate, or per group of candidates that lost for one reason.
    pub fn ledger_csv(&self) -> String {
        let mut csv = COLUMNS.to_owned();
        for row in &self.ledger {
            let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
            let binds = |of: fn(&Binds) -> f64| number(row.binds.as_ref().map(of));
            let cells = [
                quoted(&row.shape),
                quoted(&row.gpu),
                row.tensor_parallel.to_string(),
                quoted(row.decode_gpu.as_deref().unwrap_or_default()),
                number(row.decode_tensor_parallel.map(f64::from)),
                row.mode.clone(),
                quoted(&row.replicas),
                row.fleets.to_string(),
                number(row.gpus.map(f64::from)),
                number(row.servers.map(f64::from)),
                number(row.usd_per_hour),
                number(row.kw_mean),
                number(row.kw_peak),
                number(row.nearest_to_bound),
                binds(|binds| binds.compute),
                binds(|binds| binds.memory),
                binds(|binds| binds.link),
                binds(|binds| binds.host),
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
            words("decode_gpu", |row| row.decode_gpu.as_deref().unwrap_or_default()),
            numbers("decode_tensor_parallel", |row| row.decode_tensor_parallel.map(f64::from)),
            words("mode", |row| &row.mode),
            words("replicas", |row| &row.replicas),
            numbers("fleets", |row| Some(row.fleets as f64)),
            numbers("gpus", |row| row.gpus.map(f64::from)),
            numbers("servers", |row| row.servers.map(f64::from)),
            numbers("usd_per_hour", |row| row.usd_per_hour),
            numbers("kw_mean", |row| row.kw_mean),
            numbers("kw_peak", |row| row.kw_peak),
            numbers("nearest_to_bound", |row| row.nearest_to_bound),
            numbers("compute", |row| row.binds.map(|binds| binds.compute)),
            numbers("memory", |row| row.binds.map(|binds| binds.memory)),
            numbers("link", |row| row.binds.map(|binds| binds.link)),
            numbers("host", |row| row.binds.map(|binds| binds.host)),
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
        let steps = self.answer.as_ref().and_then(|fleet| fleet.binds.as_ref());
        let binding =
            binding.into_iter().chain(steps.map(|binds| format!("its steps are bound by {}", binds_line(binds))));
        list("Headroom", headroom.chain(binding).collect());
        list("Power", self.answer.iter().flat_map(power_lines).collect());
        list("Reserved and on demand", self.split.iter().flat_map(|split| [split.sentence(), split.note()]).collect());
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
                    let kw = one.kw_peak.map_or_else(|| "–".to_owned(), number);
                    let binds = one.binds.as_ref().map_or_else(|| "–".to_owned(), binds_line);
                    let cells =
                        [one.shape.as_str(), &one.gpus.to_string(), &one.replicas, &price, &kw, &binds, &one.why];
                    cells.map(str::to_owned).to_vec()
                })
                .collect();
            let header = ["Shape", "GPUs", "Replicas", "Price", "kW, peak", "Its steps are bound by", "Why it lost"]
                .map(str::to_owned);
            let _ = write!(text, "\n## Next best\n\n{}", table(&header, &rows, 1));
        }
        let facts =
            self.requests.iter().chain(&self.assumptions).map(|(name, value)| vec![name.clone(), value.clone()]);
        let trust = self.trust.iter().map(|trust| vec!["Trust".to_owned(), trust.to_string()]);
        let trust =
            trust.chain(self.errors.iter().map(|one| vec![format!("Error of {}", one.figure), one.text.clone()]));
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
