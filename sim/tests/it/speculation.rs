//! Speculative decoding: a case by hand, the laws on random worlds, and what is drawn against its closed form.

use overbook_sim::fleet::{Cluster, Leak, Patience, RunError};
use overbook_sim::kv::retention::Keep;
use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::serving::speculation::{Acceptance, Drafts};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, ClassId};

use crate::world::{How, MS, Run, World};
use crate::world_random::world;

/// Gives a world drafts.
fn speculate(world: &mut World, drafts: Drafts, by_class: &[Vec<f64>]) {
    world.spec.limits.drafts = drafts;
    world.spec.limits.depth = 1;
    world.spec.speculation = Some(Acceptance::new(by_class));
}

/// The random world of a seed with a scheduler that knows drafts.
fn speculating(seed: u64) -> World {
    let mut world = world(seed);
    world.spec.limits.retention = Keep::ALL;
    let known: Vec<SchedulerSpec> = SchedulerSpec::every().into_iter().map(|(_, spec)| spec).collect();
    let known: Vec<SchedulerSpec> = known.into_iter().filter(|spec| spec.needs().speculates).collect();
    let own = matches!(&world.spec.scheduler, SchedulerSpec::Vllm(_));
    if !seed.is_multiple_of(3) || !own {
        world.set_scheduler(known[seed as usize / 3 % known.len()].clone());
    }
    let tokens = 1 + (seed % 4) as u32;
    let given = [0.8, 0.6, 0.5, 0.9];
    let even = given[..tokens as usize].to_vec();
    let lookahead = if seed.is_multiple_of(2) { tokens } else { 0 };
    let drafts = Drafts { tokens, lookahead, overlaps: seed % 5 < 2 };
    speculate(&mut world, drafts, &[even, vec![0.35; tokens as usize]]);
    world
}

/// Tokens that clients got beside those that every step gives.
fn gained(run: &Run) -> u64 {
    let figures = run.result.summary.speculation.as_ref().unwrap();
    figures.accepted_tokens - figures.past_end_tokens
}

/// A world of one request for vLLM: 10 tokens of prompt, 8 of output, blocks of 4.
fn lone(share: f64) -> World {
    let mut arrival = Arrival::new(Time::ZERO, 10, 8);
    arrival.max_new_tokens = Some(8);
    let vllm = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
    let mut world = World::vllm(vllm, 64, 4, 64, vec![arrival]);
    speculate(&mut world, Drafts { tokens: 2, lookahead: 2, overlaps: false }, &[vec![share; 2]]);
    world
}

#[test]
fn certain_drafts_by_hand() {
    let run = lone(1.0).run(How { audit: true, ..How::STEPS });
    // 1 token by the prompt, then 3, 3, and of the last three the 1 that is left: two more than the output has.
    let row = run.row(0);
    assert_eq!((row.output_tokens, row.first_token, row.end), (8, Some(Time(MS)), Time(4 * MS)));
    assert_eq!(row.longest_gap, Some(Span(MS)));
    let summary = &run.result.summary;
    let figures = summary.speculation.as_ref().unwrap();
    assert_eq!((figures.drafts, figures.draft_tokens, figures.accepted_tokens), (3, 6, 6));
    assert_eq!((figures.past_end_tokens, &figures.accepted_at[..]), (2, &[3, 3][..]));
    assert_eq!(summary.metric("mean_acceptance_length"), Some(3.0));
    // One gap a step, as clients see them; the time per output token goes by tokens: 3 ms over 7.
    assert_eq!((summary.itl.count(), summary.itl.sum()), (3, u128::from(3 * MS)));
    let tpot = summary.metric("tpot_mean").unwrap();
    assert!((tpot - 3e-3 / 7.0).abs() < 1e-6, "{tpot}");
    // Slots for the prompt (10), then for its tokens, the current one, 2 drafts and 2 that the drafter writes: 15, 18, 21.
    let blocks: Vec<u64> = run.rows.steps.iter().map(|step| step.used_blocks).collect();
    assert_eq!(blocks, [3, 4, 5, 6]);
    let contexts: Vec<u64> = run.rows.steps.iter().map(|step| step.decode_context).collect();
    assert_eq!(contexts, [0, 11, 14, 17]);
}

#[test]
fn hopeless_drafts_give_a_token_a_step() {
    let run = lone(0.0).run(How { audit: true, ..How::STEPS });
    let mut plain = lone(0.0);
    plain.spec.limits.drafts = Drafts::default();
    plain.spec.speculation = None;
    let without = plain.run(How::STEPS);
    assert_eq!(run.rows.requests, without.rows.requests);
    assert_eq!(run.result.summary.itl, without.result.summary.itl);
    assert!(without.result.summary.speculation.is_none());
    let figures = run.result.summary.speculation.as_ref().unwrap();
    assert_eq!((figures.drafts, figures.accepted_tokens), (7, 0));
}

#[test]
fn drafts_count_in_the_budget_of_a_step() {
    // Two requests decode with 4 tokens each; of a budget of 12 a prompt of 10 gets 4, then 4, then 2.
    let at = |ms: u64, prompt: u32, output: u32| Arrival::new(Time(ms * MS), prompt, output);
    let arrivals = vec![at(0, 4, 40), at(0, 4, 40), at(4, 10, 3)];
    let vllm = VllmSpec { async_scheduling: false, max_num_batched_tokens: 12, ..VllmSpec::default() };
    let mut world = World::vllm(vllm, 64, 16, 128, arrivals);
    speculate(&mut world, Drafts { tokens: 3, lookahead: 0, overlaps: false }, &[vec![0.0; 3]]);
    let run = world.run(How { audit: true, ..How::STEPS });
    let prompts: Vec<u32> = run.rows.steps.iter().map(|s| s.prefill_tokens).filter(|&tokens| tokens > 0).collect();
    assert_eq!(prompts, [8, 4, 4, 2]);
}

#[test]
fn the_host_hides_behind_the_device_where_it_plans_ahead() {
    let mut world = lone(1.0);
    world.cost.host_us = 300.0;
    let serial = world.run(How::STEPS).row(0).end;
    world.spec.limits.drafts.overlaps = true;
    let hidden = world.run(How::STEPS).row(0).end;
    // Four steps; only the first one, after a pause, waits for the host.
    assert_eq!((serial, hidden), (Time(4 * 1_300_000), Time(4 * MS + 300_000)));
}

/// Laws 1, 2, 5, 6 and 13 over random worlds: jumps change nothing, blocks and tokens are conserved.
#[test]
fn laws_hold_with_drafts() {
    let (mut gained_all, mut past_end, mut preempted, mut tokens, mut ends) = (0, 0, 0, 0, [0; 7]);
    for seed in 0..360 {
        let mut world = speculating(seed);
        world.spec.controllers.retry = None;
        let run = world.run(How { audit: seed % 2 == 0, ..How::JUMPS });
        let steps = world.run(How::STEPS);
        assert_eq!(run.difference(&steps), None, "world {seed}");
        assert_eq!(run.result.summary.speculation, steps.result.summary.speculation, "world {seed}");
        let rows = &run.rows.requests;
        let delivered: u64 = rows.iter().map(|r| u64::from(r.output_tokens)).sum();
        let gaps: u64 = rows.iter().map(|r| u64::from(r.output_tokens).saturating_sub(1)).sum();
        let summary = &run.result.summary;
        assert_eq!(summary.itl.count() + gained(&run), gaps, "world {seed}: gaps and accepted drafts {:?}", world.spec);
        let in_bins: u64 = run.result.timeline.bins(run.result.end).map(|b| b.tokens).sum();
        assert_eq!(in_bins, delivered, "world {seed}: tokens in the timeline");
        for row in rows {
            let asked = world.arrivals[row.request as usize].output_tokens;
            assert!(row.output_tokens <= asked.max(1), "world {seed}: {row:?}");
            ends[row.outcome as usize] += 1;
        }
        gained_all += gained(&run);
        past_end += summary.speculation.as_ref().unwrap().past_end_tokens;
        preempted += summary.work.preemptions;
        tokens += delivered;
    }
    eprintln!(
        "{tokens} tokens, {gained_all} by drafts, {past_end} behind ends, {preempted} preemptions, ends {ends:?}"
    );
    assert!(gained_all > 20_000 && past_end > 1_000 && preempted > 200, "the worlds do not reach it all");
    assert!(ends[Outcome::Cancelled as usize] > 50 && ends[Outcome::Failed as usize] > 20, "{ends:?}");
}

/// The gaps between the steps that gave a request tokens add up to its time, and undisturbed requests get all their tokens.
#[test]
fn gaps_add_up_with_drafts() {
    let mut gaps = 0;
    for seed in 0..160 {
        let mut world = speculating(seed);
        world.spec.controllers.failures.clear();
        (world.spec.controllers.faults, world.spec.controllers.retry) = (None, None);
        world.spec.controllers.patience = Patience::default();
        for arrival in &mut world.arrivals {
            (arrival.deadline, arrival.max_wait, arrival.cancel_after) = (None, None, None);
        }
        let run = world.run(How::JUMPS);
        let rows = &run.rows.requests;
        let finished = |outcome| matches!(outcome, Outcome::Finished | Outcome::Rejected | Outcome::FailedInTrace);
        let aborts = matches!(&world.spec.scheduler, SchedulerSpec::Sglang(_));
        assert!(aborts || rows.iter().all(|row| finished(row.outcome)), "world {seed}");
        if rows.iter().any(|row| !finished(row.outcome)) {
            continue;
        }
        let served = rows.iter().filter(|r| r.outcome == Outcome::Finished);
        let whole: u128 = served.map(|r| u128::from((r.end - r.first_token.unwrap()).0)).sum();
        let itl = &run.result.summary.itl;
        assert!(whole.abs_diff(itl.sum()) <= u128::from(itl.count()), "world {seed}: {} of {whole} ns", itl.sum());
        gaps += itl.count();
    }
    assert!(gaps > 50_000, "{gaps}");
}

/// What is drawn has the mean of its closed form: `Σ Π p`.
#[test]
fn the_mean_acceptance_is_its_closed_form() {
    let arrivals = (0..400).map(|at| Arrival { class: ClassId(at % 2), ..Arrival::new(Time::ZERO, 20, 150) }).collect();
    let mut world = World::vllm(VllmSpec::default(), 4000, 16, 256, arrivals);
    let drafts = Drafts { tokens: 3, lookahead: 3, overlaps: true };
    speculate(&mut world, drafts, &[vec![0.8, 0.6, 0.5]]);
    let run = world.run(How::JUMPS);
    let figures = run.result.summary.speculation.as_ref().unwrap();
    let n = figures.drafts as f64;
    let reach = [0.8, 0.48, 0.24];
    for (at, reach) in figures.accepted_at.iter().zip(reach) {
        let error = (reach * (1.0 - reach) / n).sqrt();
        assert!((*at as f64 / n - reach).abs() < 4.0 * error, "{at} of {n} is not {reach}");
    }
    let mean = figures.mean_acceptance_length().unwrap();
    assert!((mean - 2.52).abs() < 4.0 * 1.2 / n.sqrt(), "{mean} over {n}");
    // A request takes as many steps as its draws say, whoever runs beside it.
    world.set_scheduler(SchedulerSpec::Vllm(VllmSpec { max_num_seqs: 3, ..VllmSpec::default() }));
    speculate(&mut world, drafts, &[vec![0.8, 0.6, 0.5]]);
    let few = world.run(How::JUMPS);
    assert_eq!(few.result.summary.speculation.as_ref(), Some(figures));
}

#[test]
fn what_cannot_speculate_is_refused() {
    let told = |world: &World| match Cluster::new(world.spec.clone()) {
        Err(RunError::Speculation(told)) => told,
        other => panic!("{other:?}"),
    };
    let mut world = lone(0.5);
    world.spec.limits.depth = 2;
    assert!(told(&world).contains("depth 1"));
    let mut world = lone(0.5);
    world.spec.speculation = None;
    assert!(told(&world).contains("nothing says"));
    let mut world = lone(0.5);
    world.spec.limits.drafts = Drafts::default();
    assert!(told(&world).contains("no drafts"));
    let mut world = lone(0.5);
    world.spec.limits.drafts.tokens = 17;
    assert!(told(&world).contains("at most"));
    let mut world = lone(0.5);
    world.spec.limits.retention = Keep { budget: 8, ..Keep::ALL };
    assert!(told(&world).contains("all their tokens"));
}

/// A block that is not given back with a draft is found.
#[test]
fn a_leak_of_drafts_is_found() {
    let found = (0..60).filter(|&seed| {
        let mut world = speculating(seed);
        world.spec.controllers.retry = None;
        let run = world.try_run(How { audit: true, leak: Some(Leak::Drafted), ..How::JUMPS });
        matches!(run, Err(RunError::Audit { .. }))
    });
    let found = found.count();
    assert!(found > 50, "{found} of 60");
}
