//! Laws 1 to 7, 9 and 14 over random worlds.

use overbook_sim::fleet::{Halt, OutputLimit, RunError};
use overbook_sim::results::rows::{Outcome, RequestRow};
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::time::{Span, Time};

use crate::schedulers::{Greed, Greedy, Lazy, Pausing, Timid};
use crate::world::{How, Run, World};
use crate::world_random::world;

/// Tokens that a request delivers if it is not disturbed.
fn whole_output(world: &World, request: u64) -> u32 {
    let arrival = &world.arrivals[request as usize];
    // One that no replica was up to refuse may be too long.
    let room = world.spec.limits.max_model_len.saturating_sub(arrival.prompt_tokens).max(1);
    let stated = match world.spec.traffic.output_limit {
        OutputLimit::Context => arrival.max_new_tokens.unwrap_or(room),
        OutputLimit::Fixed(limit) => limit,
        OutputLimit::True | OutputLimit::Exact => arrival.output_tokens,
    };
    arrival.output_tokens.min(stated.clamp(1, room))
}

/// Laws 1 and 2: every request ends once; every token that was delivered is counted once; all blocks come back (the audit
/// after the last event says so).
#[test]
fn requests_tokens_and_blocks_are_conserved() {
    let (mut audited, mut tokens) = (0, 0);
    for seed in 0..400 {
        let mut world = world(seed);
        // What is delivered in vain before a retry is not in the rows.
        world.spec.controllers.retry = None;
        let run = world.run(How { audit: seed % 2 == 0, ..How::JUMPS });
        audited += u64::from(seed % 2 == 0) * run.result.effort.plans;
        let rows = &run.rows.requests;
        let mut ids: Vec<u64> = rows.iter().map(|r| r.request).collect();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(0..world.arrivals.len() as u64), "world {seed}: {ids:?}");
        assert_eq!(run.result.summary.outcomes.iter().sum::<u64>(), ids.len() as u64);
        for row in rows {
            let served = !matches!(row.outcome, Outcome::Rejected | Outcome::FailedInTrace);
            let whole = if served { whole_output(&world, row.request) } else { 0 };
            let arrival = &world.arrivals[row.request as usize];
            let failed = row.outcome == Outcome::FailedInTrace;
            assert_eq!((failed, row.session), (arrival.failed_in_trace, arrival.session), "world {seed}: {row:?}");
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

/// Without clients that go and replicas that fail.
fn undisturbed(seed: u64) -> World {
    let mut world = world(seed);
    world.spec.controllers.failures.clear();
    (world.spec.controllers.faults, world.spec.controllers.retry) = (None, None);
    world.spec.controllers.patience = overbook_sim::fleet::Patience::default();
    for arrival in &mut world.arrivals {
        (arrival.deadline, arrival.max_wait, arrival.cancel_after) = (None, None, None);
    }
    world
}

/// Whether the gaps between the tokens of all requests add up to the time from first to last token. Returns how many there are.
fn gaps_that_add_up(run: &Run, name: &str) -> u64 {
    let served = run.rows.requests.iter().filter(|r| r.outcome == Outcome::Finished);
    let whole: u128 = served.map(|r| u128::from((r.end - r.first_token.unwrap()).0)).sum();
    let itl = &run.result.summary.itl;
    // A step's end is cut to whole nanoseconds, its length is not.
    let off = whole.abs_diff(itl.sum());
    assert!(off <= u128::from(itl.count()), "{name}: gaps {} ns, tokens {whole} ns", itl.sum());
    itl.count()
}

/// Law 1 with clients that send again: requests still end once, after as many attempts as the client makes at most, and only
/// after an outcome that is worth another one.
#[test]
fn retries_are_conserved() {
    let (mut retried, mut saved, mut given_up) = (0, 0, 0);
    for seed in 0..600 {
        let world = world(seed);
        let Some(retry) = world.spec.controllers.retry else { continue };
        let run = world.run(How { audit: seed % 2 == 0, ..How::JUMPS });
        let rows = &run.rows.requests;
        let mut ids: Vec<u64> = rows.iter().map(|r| r.request).collect();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(0..world.arrivals.len() as u64), "world {seed}: {ids:?}");
        let attempts: u64 = rows.iter().map(|r| u64::from(r.attempts)).sum();
        assert_eq!(run.result.summary.attempts, attempts, "world {seed}");
        for row in rows {
            assert!((1..=retry.attempts).contains(&row.attempts), "world {seed}: {row:?}");
            let worth = match row.outcome {
                Outcome::Failed => retry.on_failed,
                Outcome::Expired => retry.on_expired,
                Outcome::Rejected => retry.on_rejected,
                _ => false,
            };
            assert!(!worth || row.attempts == retry.attempts, "world {seed}: gave up too early, {row:?}");
            let planned = world.arrivals[row.request as usize].at;
            if world.spec.traffic.max_concurrency.is_some() {
                assert!(row.arrival >= planned, "world {seed}: sent before its time");
            } else if world.spec.traffic.clients.is_none() {
                assert_eq!(row.arrival, planned, "world {seed}: the first attempt's");
            }
            retried += u64::from(row.attempts > 1);
            saved += u64::from(row.attempts > 1 && row.outcome == Outcome::Finished);
            given_up += u64::from(worth);
        }
        let delivered: u64 = rows.iter().map(|r| u64::from(r.output_tokens)).sum();
        assert!(run.result.summary.tokens.output >= delivered, "world {seed}: tokens delivered in vain count too");
    }
    eprintln!("law 1: {retried} requests were sent again, {saved} of them finished, {given_up} were given up");
    assert!(retried > 300 && saved > 100 && given_up > 100);
}

/// The gaps between the tokens of all requests add up to the time from first to last token, also where members miss steps
/// and requests are preempted.
#[test]
fn gaps_cover_the_time_between_first_and_last_token() {
    let (mut gaps, mut paused, mut preempted) = (0, 0, 0);
    for seed in 0..400 {
        let world = undisturbed(seed);
        let pausing: &dyn Fn() -> Box<dyn overbook_sim::serving::Scheduler> = &|| Box::new(Pausing);
        let scheduler = (seed % 2 == 0).then_some(pausing);
        for how in [How::JUMPS, How::STEPS] {
            let run = world.run(How { scheduler, ..how });
            gaps += gaps_that_add_up(&run, &format!("world {seed}"));
            preempted += run.result.summary.work.preemptions;
            paused += u64::from(scheduler.is_some()) * run.result.effort.steps / 7;
        }
    }
    eprintln!("gaps: {gaps} add up, over {preempted} preemptions and about {paused} steps with a member left out");
    assert!(preempted > 1000 && paused > 1000);
}

/// The same where preempted requests are swapped out, some of them in mid-prefill; every copy is counted, and takes time.
#[test]
fn swaps_keep_gaps_and_count_every_block() {
    let (mut gaps, mut swapped, mut recomputed) = (0, 0, 0);
    for (name, spec) in SchedulerSpec::every().into_iter().filter(|(_, spec)| spec.needs().swap_space.is_some()) {
        for seed in 0..150 {
            let mut world = undisturbed(seed);
            world.set_scheduler(spec.clone());
            let run = world.run(How { audit: true, ..How::STEPS });
            gaps += gaps_that_add_up(&run, &format!("world {seed}, {name}"));
            let tokens = &run.result.summary.tokens;
            assert_eq!(tokens.swapped, run.rows.requests.iter().map(|r| r.swapped_tokens).sum::<u64>());
            let blocks: u64 = run.rows.steps.iter().map(|s| s.swapped_blocks).sum();
            // Out and in again, each up to a block more than its tokens fill.
            let least = 2 * tokens.swapped / u64::from(world.spec.limits.block_tokens);
            assert!(
                blocks.is_multiple_of(2) && blocks >= least,
                "{blocks} blocks for {} tokens: {name}",
                tokens.swapped
            );
            let copies = |s: &&overbook_sim::results::rows::StepRow| s.swapped_blocks > 0;
            let cost = world.spec.limits.swap.block_cost.0 >> overbook_sim::cost::COST_PER_NS.trailing_zeros();
            let long = |s: &overbook_sim::results::rows::StepRow| (s.end - s.start).0 > cost * s.swapped_blocks;
            assert!(run.rows.steps.iter().filter(copies).all(long), "a copy takes no time: world {seed}, {name}");
            swapped += tokens.swapped;
            recomputed += tokens.recomputed;
        }
    }
    eprintln!("swaps: {gaps} gaps add up, {swapped} tokens swapped, {recomputed} computed again");
    assert!(swapped > 100_000 && recomputed > 1000);
}

/// Laws 3 and 5: rows come in order of time, steps of a lane never overlap, a request's times are in order, and every ending
/// occurs.
#[test]
fn times_are_in_order() {
    let mut seen = [0u64; Outcome::ALL.len()];
    let mut segments = 0;
    for seed in 0..400 {
        let world = world(seed);
        let run = world.run(How::JUMPS);
        assert!(run.rows.requests.is_sorted_by_key(|r| r.end), "world {seed}");
        for row in &run.rows.requests {
            seen[row.outcome as usize] += 1;
            let start = row.start.unwrap_or(row.end);
            let first = row.first_token.unwrap_or(row.end);
            assert!(row.arrival <= start && start <= first && first <= row.end, "world {seed}: {row:?}");
            assert_eq!(row.first_token.is_some(), row.output_tokens > 0, "world {seed}: {row:?}");
            assert!(row.start.is_some() || row.first_token.is_none(), "world {seed}: {row:?}");
        }
        for replica in 0..world.spec.replicas {
            let steps: Vec<_> = run.rows.steps.iter().filter(|s| s.replica == replica).collect();
            assert!(steps.windows(2).all(|pair| pair[0].end <= pair[1].start), "world {seed}");
            assert!(steps.iter().all(|s| s.start < s.end && s.steps > 0), "world {seed}");
            segments += steps.len();
        }
    }
    eprintln!("laws 3, 5: outcomes {seen:?}, {segments} segments in order");
    assert!(seen.iter().all(|&n| n >= 20), "every ending must occur: {seen:?}");
}

/// What a work-conserving scheduler does not do: leave a lane idle that has requests, or leave a request waiting that
/// has a place, tokens and blocks. Counts in `chances` the plans after which a request waited.
fn waste(world: &World, run: &Run, chances: &mut u64) -> Option<String> {
    for replica in 0..world.spec.replicas {
        let mut idle_from = Time::ZERO;
        let steps = run.rows.steps.iter().filter(|s| s.replica == replica);
        let ends = steps.map(|s| (s.start, s.end)).chain([(Time::MAX, Time::MAX)]);
        for (start, end) in ends {
            let there = |r: &&overbook_sim::results::rows::RequestRow| {
                r.replica == replica && r.arrival.max(idle_from) < r.end.min(start)
            };
            if let Some(row) = (idle_from < start).then(|| run.rows.requests.iter().find(there)).flatten() {
                return Some(format!("replica {replica} idles from {idle_from} to {start} with {row:?}"));
            }
            idle_from = end;
        }
    }
    let SchedulerSpec::Vllm(vllm) = &world.spec.scheduler else { return None };
    if vllm.prefill_schedule_interval > 1 || !vllm.enable_chunked_prefill {
        return None;
    }
    let limits = world.spec.limits;
    let budget = vllm.max_num_batched_tokens.min(vllm.max_num_scheduled_tokens.unwrap_or(u32::MAX));
    let places = vllm.max_num_seqs.min(vllm.max_num_active_seqs.unwrap_or(u32::MAX));
    let reserve = (vllm.watermark * (limits.blocks + 1) as f64) as u64;
    let largest = u64::from(limits.max_model_len.div_ceil(limits.block_tokens)) + reserve;
    for row in run.rows.steps.iter().filter(|r| r.waiting > 0) {
        *chances += 1;
        let fits = row.running < places
            && row.decode_seqs + row.prefill_tokens < budget
            && row.preempted == 0
            && limits.blocks - row.used_blocks >= largest;
        if fits {
            return Some(format!("waiting for nothing: {row:?}"));
        }
    }
    None
}

/// Law 7.
#[test]
fn no_work_waits_without_a_reason() {
    let (mut chances, mut timid_found, mut timid_worlds) = (0, 0, 0);
    for seed in 0..300 {
        let mut world = world(seed);
        // A request that is sent again is not here from its arrival to its end.
        world.spec.controllers.retry = None;
        let run = world.run(How::JUMPS);
        assert_eq!(waste(&world, &run, &mut chances), None, "world {seed}: {:?}", world.spec);
        let timid = world.run(How { scheduler: Some(&|| Box::new(Timid)), ..How::JUMPS });
        timid_found += u64::from(waste(&world, &timid, &mut 0).is_some());
        timid_worlds += 1;
    }
    eprintln!(
        "law 7: {chances} plans with a queue; a timid scheduler is caught in {timid_found} of {timid_worlds} worlds"
    );
    assert!(chances > 10_000);
    assert!(timid_found * 10 >= timid_worlds * 3, "caught in {timid_found} of {timid_worlds} worlds, 3 of 10 must");
}

/// Law 6: the same bytes on one thread and on two.
#[test]
fn threads_change_nothing() {
    let seeds: Vec<u64> = (0..150).collect();
    let alone: Vec<Run> = seeds.iter().map(|&seed| world(seed).run(How::JUMPS)).collect();
    let together: Vec<Vec<Run>> = std::thread::scope(|scope| {
        let threads = [false, true].map(|reversed| {
            let mut seeds = seeds.clone();
            scope.spawn(move || {
                if reversed {
                    seeds.reverse();
                }
                let mut runs: Vec<Run> = seeds.iter().map(|&seed| world(seed).run(How::JUMPS)).collect();
                if reversed {
                    runs.reverse();
                }
                runs
            })
        });
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for runs in &together {
        for (seed, (a, b)) in alone.iter().zip(runs).enumerate() {
            assert_eq!(a.difference(b), None, "world {seed}");
            assert_eq!(a.result.summary, b.result.summary, "world {seed}");
            assert_eq!(a.rows.steps, b.rows.steps, "world {seed}");
            assert!(a.result.timeline.bins(a.result.end).eq(b.result.timeline.bins(b.result.end)), "world {seed}");
        }
    }
    eprintln!("law 6: {} worlds equal on one thread and on two", seeds.len());
}

/// Law 14: a scheduler that plans nothing, and one that plans the impossible, are named; neither hangs nor panics.
#[test]
fn broken_schedulers_are_named() {
    let (mut stalled, mut infeasible) = (0, 0);
    for seed in 0..100 {
        let world = world(seed);
        if world.run(How::JUMPS).result.effort.plans == 0 {
            continue;
        }
        match world.try_run(How { scheduler: Some(&|| Box::new(Lazy)), ..How::JUMPS }) {
            Ok(run) if matches!(run.result.halted, Some(Halt::Stalled { waiting, .. }) if waiting > 0) => stalled += 1,
            other => panic!("world {seed}: a lazy scheduler gave {other:?}"),
        }
        for greed in Greed::ALL {
            match world.try_run(How { scheduler: Some(&|| Box::new(Greedy(greed))), ..How::JUMPS }) {
                Err(RunError::Plan(_)) => infeasible += 1,
                Ok(_) if greed == Greed::Blocks => {} // never ran out of blocks
                other => panic!("world {seed}: {greed:?} gave {:?}", other.map(|r| r.result.effort)),
            }
        }
    }
    eprintln!("law 14: {stalled} stalls and {infeasible} infeasible plans named");
    assert!(stalled >= 90 && infeasible >= 300);
}

/// A client with a limit of requests under way sends each at its time, or a moment after another one has ended; never more
/// at once, and never later than it could.
#[test]
fn clients_keep_their_limit_and_send_as_soon_as_they_may() {
    let (mut on_time, mut late) = (0, 0);
    for seed in 0..400 {
        let mut world = world(seed);
        let Some(most) = world.spec.traffic.max_concurrency else { continue };
        // Between two attempts a request is with its client.
        world.spec.controllers.retry = None;
        let mut rows = world.run(How::JUMPS).rows.requests;
        rows.sort_by_key(|row| row.request);
        for (index, row) in rows.iter().enumerate() {
            let before = &rows[..index];
            let under_way = before.iter().filter(|other| other.end > row.arrival).count();
            assert!(under_way < most as usize, "world {seed}: {under_way} under way, {row:?}");
            let planned = world.arrivals[row.request as usize].at;
            if row.arrival == planned {
                on_time += 1;
                continue;
            }
            late += 1;
            assert!(row.arrival > planned, "world {seed}: {row:?}");
            let freed = |other: &&RequestRow| other.end + Span(1) == row.arrival;
            let same = before.last().is_some_and(|other| other.arrival == row.arrival);
            assert!(same || before.iter().any(|other| freed(&other)), "world {seed}: nothing ended before {row:?}");
            let earlier = before.iter().filter(|other| other.end + Span(1) >= row.arrival).count();
            assert!(same || earlier >= most as usize, "world {seed}: could have been sent before {row:?}");
        }
    }
    eprintln!("limits of clients: {on_time} requests sent on time, {late} late");
    assert!(on_time > 500 && late > 200);
}
