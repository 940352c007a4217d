//! Laws 1 to 7, 9 and 14 over random worlds.

use overbook_sim::rows::Outcome;
use overbook_sim::time::Time;

use crate::world::{How, Run, World};
use crate::world_random::world;

/// Tokens that a request delivers if nobody disturbs it.
fn whole_output(world: &World, request: u64) -> u32 {
    use overbook_sim::cluster::OutputLimit;
    let arrival = &world.arrivals[request as usize];
    let room = world.spec.limits.max_model_len - arrival.prompt_tokens;
    let stated = match world.spec.output_limit {
        OutputLimit::Context => arrival.max_new_tokens.unwrap_or(room),
        OutputLimit::Fixed(limit) => limit,
        OutputLimit::True => arrival.output_tokens,
    };
    arrival.output_tokens.min(stated.clamp(1, room))
}

/// Laws 1 and 2: every request ends once; every token that was delivered is counted once; all blocks come back (the audit
/// after the last event says so).
#[test]
fn requests_tokens_and_blocks_are_conserved() {
    let (mut audited, mut tokens) = (0, 0);
    for seed in 0..400 {
        let world = world(seed);
        let run = world.run(How { audit: seed % 2 == 0, ..How::JUMPS });
        audited += u64::from(seed % 2 == 0) * run.result.effort.plans;
        let rows = &run.rows.requests;
        let mut ids: Vec<u64> = rows.iter().map(|r| r.request).collect();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(0..world.arrivals.len() as u64), "world {seed}: {ids:?}");
        assert_eq!(run.result.summary.outcomes.iter().sum::<u64>(), ids.len() as u64);
        for row in rows {
            let whole = if row.outcome == Outcome::Rejected { 0 } else { whole_output(&world, row.request) };
            let finished = row.outcome == Outcome::Finished;
            assert!(row.output_tokens <= whole && (row.output_tokens == whole || !finished), "world {seed}: {row:?}");
        }
        let delivered: u64 = rows.iter().map(|r| u64::from(r.output_tokens)).sum();
        let gaps: u64 = rows.iter().map(|r| u64::from(r.output_tokens).saturating_sub(1)).sum();
        assert_eq!(run.result.summary.itl.count(), gaps, "world {seed}: gaps between tokens {:?}", world.spec);
        let in_bins: u64 = run.result.timeline.bins(run.result.end).map(|b| b.tokens).sum();
        assert_eq!(in_bins, delivered, "world {seed}: tokens in the timeline");
        tokens += delivered;
    }
    eprintln!("laws 1, 2: {audited} plans audited, {tokens} tokens counted");
}
