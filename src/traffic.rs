//! How bursty the requests of a run were, in the form that reports have.

use overbook_reports::{Traffic, TrafficScale, html};
use overbook_traces::BurstStats;

/// The figures of `summary.json`.
pub(crate) fn figures(stats: &BurstStats) -> Traffic {
    let scales = stats.scales().map(|(_, bins)| TrafficScale {
        peak_rate: stats.peak_rate(bins),
        peak_over_mean: stats.peak_over_mean(bins),
        dispersion: bins.dispersion(),
    });
    Traffic { requests: stats.requests, mean_rate: stats.mean_rate(), scales }
}

/// The table of the page: the traffic as it arrived, beside the traffic as recorded where the scenario changes it.
pub(crate) fn table(played: Option<&BurstStats>, recorded: Option<&BurstStats>) -> html::Table {
    let played = played.map(BurstStats::describe).unwrap_or_default();
    let before = recorded.map(BurstStats::describe);
    let row = |(what, value): (String, String)| {
        let then = before.as_ref().map(|lines| {
            let line = lines.iter().find(|(name, _)| *name == what);
            line.map_or_else(|| "–".to_owned(), |(_, value)| value.clone())
        });
        [Some(what), then, Some(value)].into_iter().flatten().collect()
    };
    let columns = if before.is_some() { &["", "As recorded", "As played"][..] } else { &["", "As it arrived"] };
    html::Table {
        title: "Traffic".into(),
        header: columns.iter().map(|&name| name.to_owned()).collect(),
        rows: played.into_iter().map(row).collect(),
        note: "Peaks are the fullest second, minute and hour. The index of dispersion is variance ÷ mean of the counts: 1 \
               for Poisson traffic, more for bursts."
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use overbook_sim::time::{NS_PER_S, Time};
    use overbook_sim::workload::arrival::Arrival;
    use overbook_traces::Burstiness;

    use super::*;

    fn stats(gap_s: u64) -> BurstStats {
        let mut counter = Burstiness::default();
        (0..120).for_each(|n| counter.record(&Arrival::new(Time(n * gap_s * NS_PER_S), 100, 10)));
        counter.finish(&[])
    }

    #[test]
    fn the_table_has_a_column_more_where_the_scenario_changes_the_traffic() {
        let (played, recorded) = (stats(1), stats(2));
        let alone = table(Some(&played), None);
        assert_eq!(alone.header, ["", "As it arrived"]);
        assert!(!alone.rows.is_empty() && alone.rows.iter().all(|row| row.len() == 2));
        let both = table(Some(&played), Some(&recorded));
        assert_eq!(both.header, ["", "As recorded", "As played"]);
        assert!(both.rows.iter().zip(&alone.rows).all(|(both, alone)| both.len() == 3 && both[2] == alone[1]));
        assert!(both.rows.iter().any(|row| row[1] != row[2]), "half the rate is another traffic");
        assert!(table(None, None).rows.is_empty());
    }

    #[test]
    fn the_figures_are_those_of_the_statistics() {
        let stats = stats(1);
        let traffic = figures(&stats);
        assert_eq!(traffic.requests, 120);
        assert_eq!(traffic.mean_rate, stats.mean_rate());
        assert!(
            traffic.scales[0].peak_rate.is_some_and(|rate| (rate - 1.0).abs() < 0.01),
            "one request in every second: {traffic:?}"
        );
    }
}
