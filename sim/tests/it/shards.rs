//! Law 11: what shards have gathered, merged, is what one would have gathered.

use overbook_sim::results::histogram::Histogram;
use overbook_sim::results::summary::{Fleet, Slo, Tally};
use overbook_sim::results::timeline::Timeline;
use overbook_sim::time::{Span, Time};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::world::How;
use crate::world_random::world;

const SHARDS: usize = 3;

#[derive(Clone)]
struct Gathered {
    tally: Tally,
    timeline: Timeline,
    histogram: Histogram,
}

impl Gathered {
    fn new() -> Self {
        let slo = Slo { ttft: Some(Span(50_000_000)), e2el: Some(Span(1_000_000_000)), ..Slo::default() };
        Gathered { tally: Tally::new(slo), timeline: Timeline::new(64), histogram: Histogram::new() }
    }

    fn merge(&mut self, other: &Gathered) {
        self.tally.merge(&other.tally);
        self.timeline.merge(&other.timeline);
        self.histogram.merge(&other.histogram);
    }
}

#[test]
fn merged_shards_equal_the_whole() {
    let (mut rows, mut teeth) = (0, 0);
    for seed in 0..60 {
        let world = world(seed);
        let run = world.run(How::JUMPS);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut whole = Gathered::new();
        let mut shards = vec![Gathered::new(); SHARDS];
        for row in &run.rows.requests {
            let shard = &mut shards[rng.random_range(0..SHARDS)];
            for part in [&mut whole, shard] {
                part.tally.request(row);
                part.tally.gaps(row.e2el().0, 1 + row.request % 3);
                part.timeline.arrival(row.arrival);
                part.timeline.finish(row.end);
                part.histogram.record(row.e2el().0);
            }
        }
        for row in &run.rows.steps {
            let shard = &mut shards[rng.random_range(0..SHARDS)];
            for part in [&mut whole, shard] {
                part.tally.step(row);
                part.tally.gap_ramp_fixed(row.start.0 + 1000, 12_345, row.steps, u64::from(row.decode_seqs));
                part.tally.hold(row.start, row.end, row.running, row.waiting, row.used_blocks, 10_000);
                part.timeline.hold(row.start, row.end, row.running, row.waiting, row.used_blocks);
                part.timeline.tokens(row.end, u64::from(row.decode_seqs));
                part.histogram.record_ramp_fixed(row.start.0, 777, row.steps, 2);
            }
        }
        let mut merged = Gathered::new();
        for shard in shards.iter().rev() {
            merged.merge(shard);
        }
        let end = run.result.end.max(Time(1));
        assert_eq!(merged.tally, whole.tally, "world {seed}");
        assert_eq!(merged.histogram, whole.histogram, "world {seed}");
        assert!(merged.timeline.bins(end).eq(whole.timeline.bins(end)), "world {seed}");
        let fleet = Fleet { replicas: 1, lanes: 1, blocks: 10_000, served: None, gpu_time: None };
        assert_eq!(merged.tally.finish(fleet, &[]), whole.tally.clone().finish(fleet, &[]));
        // Teeth: a lost shard is noticed.
        let mut short = Gathered::new();
        shards[1..].iter().for_each(|s| short.merge(s));
        teeth += u32::from(short.tally != whole.tally);
        rows += run.rows.requests.len() + run.rows.steps.len();
    }
    eprintln!(
        "law 11: {rows} rows gathered whole and in {SHARDS} shards; a lost shard is noticed in {teeth} of 60 worlds"
    );
    assert!(teeth >= 55);
}
