//! Figures of each pool of a fleet whose replicas differ.

use overbook_sim::results::histogram::Histogram;
use overbook_sim::results::summary::{PoolSummary, Summary};

use crate::format::{Unit, count, seconds};
use crate::table::Table;

/// Pools that get a line on the terminal; the page has them all.
const LINES: usize = 4;

fn time(histogram: &Histogram, p: f64) -> String {
    histogram.quantile(p).map_or_else(|| "–".to_owned(), |ns| seconds(ns as f64 / 1e9))
}

fn share(part: f64, whole: f64) -> String {
    if whole > 0.0 { Unit::Share.show(part / whole) } else { "–".to_owned() }
}

fn busy(pool: &PoolSummary, summary: &Summary) -> String {
    pool.utilization(summary.makespan()).map_or_else(|| "–".to_owned(), |busy| Unit::Share.show(busy))
}

/// Share of all output tokens of finished requests.
fn output(pool: &PoolSummary, summary: &Summary) -> String {
    share(pool.output_tokens as f64, summary.tokens.finished_output as f64)
}

/// Lines for the terminal: (heading, text), two for each pool.
pub(crate) fn lines(summary: &Summary) -> Vec<(&'static str, String)> {
    let line = |pool: &PoolSummary| {
        let (out, busy, l) = (output(pool, summary), busy(pool, summary), &pool.latencies);
        let (ttft, tpot) = (time(&l.ttft, 0.99), time(&l.tpot, 0.99));
        [
            ("pool", format!("{}: {out} of output, {busy} of the time in steps", pool.name)),
            ("", format!("TTFT p99 {ttft}, TPOT p99 {tpot}")),
        ]
    };
    let mut lines: Vec<(&str, String)> = summary.pools.iter().take(LINES).flat_map(line).collect();
    if summary.pools.len() > LINES {
        lines.push(("", format!("and {} more pools", summary.pools.len() - LINES)));
    }
    lines
}

/// The page's table; empty for a uniform fleet.
pub(crate) fn table(summary: &Summary) -> Table {
    let promised = summary.slo.is_set();
    let mut header = vec!["Pool", "Finished", "Other ends", "Output", "Time in steps"];
    header.extend(promised.then_some("Good"));
    header.extend(["TTFT p50", "TTFT p99", "TPOT p50", "TPOT p99", "E2EL p50", "E2EL p99"]);
    let row = |pool: &PoolSummary| {
        let l = &pool.latencies;
        let mut cells = vec![
            pool.name.clone(),
            count(pool.finished as f64),
            count(pool.others as f64),
            output(pool, summary),
            busy(pool, summary),
        ];
        cells.extend(promised.then(|| share(pool.good as f64, (pool.finished + pool.others) as f64)));
        let all = [&l.ttft, &l.tpot, &l.e2el];
        cells.extend(all.into_iter().flat_map(|histogram| [0.5, 0.99].map(|p| time(histogram, p))));
        cells
    };
    Table {
        title: "Pools".to_owned(),
        header: header.into_iter().map(str::to_owned).collect(),
        rows: summary.pools.iter().map(row).collect(),
        note: "Requests count for the replica on which they ended. Output is the share of all output tokens, time in steps the share \
               of the run in which a step was running, however small its batch; latencies are those of finished requests."
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use overbook_sim::results::summary::{Latencies, PoolSummary, Summary};
    use overbook_sim::time::Span;
    use serde_json::Value;

    use crate::{html, sample, summary_json, terminal};

    fn pool(name: &str, output_tokens: u64, share: f64, summary: &Summary) -> PoolSummary {
        let mut latencies = Latencies::default();
        latencies.ttft.record(250_000_000);
        latencies.e2el.record(750_000_000);
        let busy = Span((summary.makespan().0 as f64 * share * 2.0) as u64);
        let name = name.to_owned();
        PoolSummary {
            name,
            replicas: 2,
            lanes: 2,
            blocks: 5000,
            finished: 3,
            good: 2,
            others: 1,
            output_tokens,
            latencies,
            busy,
        }
    }

    #[test]
    fn a_fleet_of_pools_is_told_by_pool() {
        let mut report = sample::report();
        let uniform = summary_json::summary_json(&report);
        assert!(!uniform.contains("per_pool") && !html::report_html(&report).expect("a page").contains("Pools"));
        let all = report.summary.tokens.finished_output;
        report.summary.pools = (1..7).map(|n| pool(&format!("{n} × h100"), all / 4, 0.25, &report.summary)).collect();
        let text = terminal::summary(&report, false);
        let line = "  pool        1 × h100: 25.0 % of output, 25 % of the time in steps\n              TTFT p99 250 ms, TPOT p99 –\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("and 2 more pools") && text.lines().all(|line| line.chars().count() <= 80), "{text}");
        report.summary.pools[0].name =
            "pool 0: 16 × 8 rtx-pro-6000-max-q with weights in fp8 and a pool of its own".to_owned();
        let text = terminal::summary(&report, false);
        assert!(!text.contains('…') && text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let json: Value = serde_json::from_str(&summary_json::summary_json(&report)).expect("JSON");
        let first = &json["per_pool"][0];
        assert_eq!(
            (&first["pool"], &first["completed"], &first["other_ends"]),
            (&report.summary.pools[0].name.as_str().into(), &3.into(), &1.into())
        );
        assert!((first["utilization"].as_f64().expect("a share") - 0.25).abs() < 1e-6, "{first}");
        assert_eq!(first["count_ttft"], 1);
        let page = html::report_html(&report).expect("a page");
        assert!(page.contains("Pools") && page.contains("6 × h100") && page.contains("Other ends"));
    }
}
