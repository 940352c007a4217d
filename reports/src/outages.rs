//! Times at which replicas were down: shades of the charts over time, a table of the page, a line on the terminal.

use overbook_sim::results::summary::{Hit, Summary};
use overbook_sim::time::Time;

use crate::figure::Shades;
use crate::format::{Unit, count, seconds};
use crate::table::Table;

fn clock(time: Time) -> String {
    seconds(time.as_secs_f64())
}

fn replicas(n: u32) -> String {
    if n == 1 { "1 replica".to_owned() } else { format!("{n} replicas") }
}

fn ttft(hit: &Hit, p: f64) -> String {
    hit.ttft.quantile(p).map_or_else(|| "–".to_owned(), |ns| seconds(ns as f64 / 1e9))
}

fn good(hit: &Hit) -> String {
    if hit.requests == 0 { "–".to_owned() } else { Unit::Share.show(hit.good as f64 / hit.requests as f64) }
}

/// Shades of the charts over time, and the same in words for who cannot see them; `None` if no replica was down.
pub(crate) fn shades(summary: &Summary) -> Option<(Shades, String)> {
    let spans = summary.outages.spans();
    let first = spans.first()?;
    let words = match spans {
        [one] => format!("{} down from {} to {}.", replicas(one.replicas), clock(one.from), clock(one.to)),
        all => format!("Replicas down {} times, first from {} to {}.", all.len(), clock(first.from), clock(first.to)),
    };
    let spans = spans.iter().map(|span| (span.from.as_secs_f64(), span.to.as_secs_f64())).collect();
    Some((Shades { label: "replicas down".to_owned(), spans }, words))
}

/// The line on the terminal; empty if no replica was down.
pub(crate) fn line(summary: &Summary) -> String {
    let outages = &summary.outages;
    let down = match outages.spans() {
        [] => return String::new(),
        [one] => {
            let length = seconds((one.to - one.from).as_secs_f64());
            format!("{} down for {length} from {}", replicas(one.replicas), clock(one.from))
        }
        all => {
            let length = seconds(all.iter().map(|span| (span.to - span.from).as_secs_f64()).sum());
            format!("{} times, {length} in all", all.len())
        }
    };
    let hit = outages.all();
    let kept = if summary.slo.is_set() { format!(", {} good", good(hit)) } else { String::new() };
    format!(
        "{down}; {} attempts lost, {} of them sent again; {} requests arrived then, {} finished{kept}, TTFT p50 {}, p99 {}",
        count(hit.lost as f64),
        count(hit.retried as f64),
        count(hit.requests as f64),
        count(hit.finished as f64),
        ttft(hit, 0.5),
        ttft(hit, 0.99),
    )
}

/// The page's table; empty if no replica was down.
pub(crate) fn table(summary: &Summary) -> Table {
    let outages = &summary.outages;
    let promised = summary.slo.is_set();
    let mut header = vec!["From", "To", "Replicas down", "Attempts lost", "Sent again", "Arrived then", "Finished"];
    header.extend(promised.then_some("Good"));
    header.extend(["TTFT p50", "TTFT p99"]);
    let cells = |place: [String; 3], hit: &Hit| {
        let counts = [hit.lost, hit.retried, hit.requests, hit.finished].map(|n| count(n as f64));
        let mut cells: Vec<String> = place.into_iter().chain(counts).collect();
        cells.extend(promised.then(|| good(hit)));
        cells.extend([0.5, 0.99].map(|p| ttft(hit, p)));
        cells
    };
    let own = outages.each();
    let mut rows: Vec<Vec<String>> = own
        .map(|(outage, hit)| cells([clock(outage.from), clock(outage.to), outage.replicas.to_string()], hit))
        .collect();
    let all = outages.spans();
    if let [first, .., last] = all {
        let most = all.iter().map(|span| span.replicas).max().unwrap_or(0);
        rows.push(cells(
            [format!("all {}, {}", all.len(), clock(first.from)), clock(last.to), most.to_string()],
            outages.all(),
        ));
    }
    Table {
        title: "Outages".to_owned(),
        header: header.into_iter().map(str::to_owned).collect(),
        rows,
        note: "From the first failure until all replicas are back. An attempt is lost where its replica fails under it or no replica takes \
               requests. The other figures are those of requests that arrived then, whenever they ended; TTFT of the finished."
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use overbook_sim::results::rows::{Outcome, RequestRow};
    use overbook_sim::results::summary::Outages;
    use overbook_sim::time::Time;
    use serde_json::Value;

    use crate::{html, sample, summary_json, terminal};

    /// Two outages of the sample run, in the first of which three attempts are lost.
    fn outages() -> Outages {
        let slo = sample::report().summary.slo;
        let (rows, _) = sample::rows(60);
        let s = |s: f64| Time::from_secs_f64(s);
        let mut outages = Outages::default();
        outages.begin(s(1.0));
        for row in &rows[..3] {
            outages.attempt(&RequestRow { outcome: Outcome::Failed, end: s(1.0), ..*row }, row.request != 0);
        }
        outages.end(s(3.0));
        outages.begin(s(600.0));
        outages.begin(s(610.0));
        outages.end(s(700.0));
        outages.end(s(720.0));
        for row in &rows {
            outages.request(row, &slo);
        }
        outages.finish(s(1200.0))
    }

    #[test]
    fn outages_are_shaded_in_the_charts_over_time_and_have_their_figures() {
        let mut report = sample::report();
        let whole = html::report_html(&report).unwrap();
        assert!(!whole.contains("class=\"shade\"") && !whole.contains("<h2>Outages</h2>"));
        assert!(!summary_json::summary_json(&report).contains("outages"));
        report.summary.outages = outages();
        let page = html::report_html(&report).unwrap();
        sample::leave_on_request("outages.html", &page);
        // Two shades in four figures, each of which is drawn wide and narrow.
        assert_eq!(page.matches("class=\"shade\"").count(), 16);
        assert_eq!(page.matches("replicas down</li>").count(), 4);
        assert!(page.contains("Replicas down 2 times, first from 1.00 s to 3.00 s."), "{page}");
        assert!(page.contains("<h2>Outages</h2>") && page.contains("all 2, 1.00 s"), "{page}");
        let text = terminal::summary(&report, false);
        assert!(text.contains("  outages     2 times, 122 s in all; 3 attempts lost, 2 of them sent again"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let json: Value = serde_json::from_str(&summary_json::summary_json(&report)).unwrap();
        let (all, first) = (&json["outages"], &json["outages"]["each"][0]);
        assert_eq!((&all["count"], &all["lost_attempts"], &all["retried"]), (&2.into(), &3.into(), &2.into()));
        assert_eq!((&first["from_s"], &first["to_s"], &first["replicas"]), (&1.0.into(), &3.0.into(), &1.into()));
        assert!(first["arrived"].as_u64().unwrap() > 0 && first["p99_ttft_ms"].is_number(), "{first}");
        assert_eq!((&all["each"][1]["replicas"], &all["each"][1]["arrived"]), (&2.into(), &0.into()));
    }
}
