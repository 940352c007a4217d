#![allow(clippy::float_cmp, reason = "these sums are exact in floating point")]

use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

#[test]
fn levels_are_means_over_bins() {
    let mut timeline = Timeline::new(4);
    timeline.hold(Time(0), Time(15 * MS), 4, 2, 100);
    timeline.hold(Time(5 * MS), Time(15 * MS), 1, 0, 0);
    timeline.arrival(Time(0));
    timeline.finish(Time(15 * MS));
    timeline.preempt(Time(10 * MS), 3);
    let bins: Vec<_> = timeline.bins(Time(15 * MS)).collect();
    assert_eq!(bins.len(), 2);
    assert_eq!((bins[0].running, bins[0].waiting, bins[0].used_blocks), (4.5, 2.0, 100.0));
    assert_eq!((bins[1].running, bins[1].to, bins[1].seconds()), (5.0, Time(15 * MS), 0.005));
    assert_eq!((bins[0].arrivals, bins[1].finished, bins[1].preempted), (1, 1, 3));
}

#[test]
fn what_happens_at_the_end_is_in_the_last_bin() {
    let mut timeline = Timeline::new(4);
    timeline.finish(Time(20 * MS));
    let bins: Vec<_> = timeline.bins(Time(20 * MS)).collect();
    assert_eq!((bins.len(), bins[1].finished), (2, 1));
    assert_eq!(timeline.bins(Time::ZERO).len(), 0);
}

#[test]
fn a_late_event_doubles_the_width() {
    let mut timeline = Timeline::new(4);
    timeline.hold(Time(0), Time(40 * MS), 1, 0, 0);
    assert_eq!(timeline.width(), 10 * MS);
    timeline.arrival(Time(40 * MS));
    assert_eq!(timeline.width(), 20 * MS);
    assert!(timeline.bins(Time(50 * MS)).take(2).all(|bin| bin.running == 1.0));
    timeline.arrival(Time::MAX);
    assert_eq!(timeline.bins(Time::MAX).map(|bin| bin.arrivals).sum::<u64>(), 2);
}

#[derive(Clone, Debug)]
struct Hold(u64, u64, u32, u64);

fn holds() -> impl Strategy<Value = Vec<Hold>> {
    let hold = (0u64..900 * MS, 0u64..400 * MS, 0u32..50, 0u64..1000)
        .prop_map(|(from, length, level, tokens)| Hold(from, from + length, level, tokens));
    prop::collection::vec(hold, 0..30)
}

fn of(holds: &[Hold]) -> Timeline {
    let mut timeline = Timeline::new(16);
    for &Hold(from, to, level, tokens) in holds {
        timeline.hold(Time(from), Time(to), level, 2 * level, u64::from(level));
        timeline.tokens_over(Time(from), Time(to), tokens);
        timeline.first_token(Time(from), Span(to - from));
    }
    timeline
}

proptest! {
    #[test]
    fn nothing_is_lost_and_order_does_not_matter(mut holds in holds()) {
        let timeline = of(&holds);
        let total: u128 = holds.iter().map(|h| u128::from(h.1 - h.0) * u128::from(h.2)).sum();
        prop_assert_eq!(timeline.bins.iter().map(|b| b.running).sum::<u128>(), total);
        prop_assert_eq!(timeline.bins.iter().map(|b| b.waiting).sum::<u128>(), 2 * total);
        prop_assert_eq!(timeline.bins.iter().map(|b| b.tokens).sum::<u64>(), holds.iter().map(|h| h.3).sum::<u64>());
        // Levels and events are integer sums; only tokens spread over bins round, and those at the bins' final width.
        holds.reverse();
        let reversed = of(&holds);
        let level = |t: &Timeline| t.bins.iter().map(|b| (b.running, b.waiting, b.used_blocks, b.first_tokens)).collect::<Vec<_>>();
        prop_assert_eq!(level(&timeline), level(&reversed));
    }

    #[test]
    fn merging_equals_one_timeline(holds in holds(), cut in 0usize..30) {
        let (a, b) = holds.split_at(cut.min(holds.len()));
        let (mut ab, mut ba) = (of(a), of(b));
        ab.merge(&of(b));
        ba.merge(&of(a));
        prop_assert_eq!(&ab, &ba);
        let level = |t: &Timeline| t.bins.iter().map(|b| (b.running, b.first_tokens)).collect::<Vec<_>>();
        prop_assert_eq!(level(&ab), level(&of(&holds)));
    }
}
