//! The worst minutes of a run: when first tokens took longest to come.

use overbook_sim::results::timeline::{Bin, Timeline};
use overbook_sim::time::Time;

use crate::format::{Moment, number, seconds};
use crate::table::Table;

/// Stretches that are named.
const NAMED: usize = 5;

/// A stretch is this long, or as long as a bin of the timeline [s].
const MINUTE: f64 = 60.0;

/// Stretches that a short run is cut into at least.
const LEAST: f64 = 20.0;

/// A stretch of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Stretch {
    /// From when to when [s].
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Mean time to first token of those that came then [s].
    pub(crate) ttft: f64,
    first_tokens: u64,
    /// Arrivals a second.
    arrivals: f64,
    /// Mean numbers of requests.
    waiting: f64,
    running: f64,
}

/// The stretches with the longest times to first token, the worst first.
pub(crate) fn of(timeline: &Timeline, end: Time) -> Vec<Stretch> {
    let bins: Vec<Bin> = timeline.bins(end).collect();
    let Some(bin) = bins.first() else { return Vec::new() };
    let wanted = MINUTE.min(end.as_secs_f64() / LEAST);
    let group = ((wanted / bin.seconds().max(1e-9)).round() as usize).max(1);
    let mut all: Vec<Stretch> = bins.chunks(group).filter_map(stretch).collect();
    all.sort_by(|a, b| b.ttft.total_cmp(&a.ttft).then(a.from.total_cmp(&b.from)));
    all.truncate(NAMED);
    all
}

fn stretch(bins: &[Bin]) -> Option<Stretch> {
    let (from, to) = (bins[0].from.as_secs_f64(), bins[bins.len() - 1].to.as_secs_f64());
    let first_tokens: u64 = bins.iter().map(|bin| bin.first_tokens).sum();
    let length: f64 = bins.iter().map(Bin::seconds).sum();
    let mean = |level: fn(&Bin) -> f64| bins.iter().map(|bin| level(bin) * bin.seconds()).sum::<f64>() / length;
    let ttft: f64 = bins.iter().filter_map(|bin| Some(bin.ttft_mean? * bin.first_tokens as f64)).sum();
    (first_tokens > 0 && length > 0.0).then(|| Stretch {
        from,
        to,
        ttft: ttft / first_tokens as f64,
        first_tokens,
        arrivals: bins.iter().map(|bin| bin.arrivals).sum::<u64>() as f64 / length,
        waiting: mean(|bin| bin.waiting),
        running: mean(|bin| bin.running),
    })
}

/// When it begins: the date and the time of day where the trace has them, else the time since the run began.
pub(crate) fn when(stretch: &Stretch, clock: Option<i64>) -> String {
    clock.map_or_else(
        || seconds(stretch.from),
        |zero| {
            let at = Moment::of(zero + stretch.from as i64);
            format!("{} {}", at.day(), at.minute())
        },
    )
}

/// The page's table; empty if no token came.
pub(crate) fn table(timeline: &Timeline, end: Time, clock: Option<i64>) -> Table {
    let row = |one: &Stretch| {
        vec![
            when(one, clock),
            seconds(one.to - one.from),
            seconds(one.ttft),
            one.first_tokens.to_string(),
            format!("{}/s", number(one.arrivals)),
            number(one.waiting),
            number(one.running),
        ]
    };
    Table {
        title: "Worst minutes".to_owned(),
        header: ["From", "Length", "TTFT mean", "First tokens", "Arrivals", "Waiting", "Running"]
            .map(str::to_owned)
            .to_vec(),
        rows: of(timeline, end).iter().map(row).collect(),
        note: "Minutes, or bins of the timeline where these are longer, whose first tokens took longest to come; \
               waiting and running requests are means."
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_worst_minutes_are_those_of_the_burst() {
        let report = sample::report();
        let worst = of(&report.timeline, report.summary.last_end);
        assert_eq!(worst.len(), NAMED);
        assert!(worst.windows(2).all(|two| two[0].ttft >= two[1].ttft), "{worst:?}");
        assert!(
            worst[0].from > 500.0 && worst[0].from < 800.0 && worst[0].ttft > 5.0,
            "the burst is from 500 s to 620 s: {worst:?}"
        );
        let told = table(&report.timeline, report.summary.last_end, Some(1_700_158_623));
        assert!(told.rows[0][0].starts_with("16 Nov 18:"), "{told:?}");
        let empty = sample::empty();
        assert!(table(&empty.timeline, empty.summary.last_end, None).rows.is_empty());
    }
}
