//! Laws where requests keep fewer slots than they have tokens.

use overbook_sim::fleet::StopReason;
use overbook_sim::kv::retention::{Keep, OutputRule, PromptRule};
use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::Arrival;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::lanes::apart;
use crate::world::{How, World};
use crate::world_random::{retain, retaining, world};

#[test]
fn jumps_equal_steps_where_tokens_go() {
    let (mut cuts, mut shrunk, mut preempting, mut steps, mut plans, mut cut_requests) = (0, 0, 0, 0, 0, 0);
    for seed in 0..1200 {
        let world = retaining(seed);
        let slow = world.run(How { audit: seed % 4 == 0, ..How::STEPS });
        let fast = world.run(How { audit: seed % 8 == 0, ..How::JUMPS });
        assert_eq!(slow.difference(&fast), None, "world {seed} {:?}", world.spec.limits);
        assert_eq!(fast.rows.requests.len(), world.arrivals.len(), "law 1 in world {seed}");
        cuts += fast.result.effort.stops[StopReason::Cut as usize];
        steps += fast.result.effort.steps;
        plans += fast.result.effort.plans;
        if let Some(retained) = &fast.result.summary.retained {
            shrunk += retained.shrunk;
            let cut = retained.finished.iter().filter(|(budget, _)| **budget > 0);
            cut_requests += cut.map(|(_, of)| of.requests).sum::<u64>();
        }
        preempting += u64::from(fast.rows.requests.iter().any(|row| row.preemptions > 0));
    }
    eprintln!(
        "law 13: {cut_requests} requests lost tokens, {cuts} jumps ended by it, {shrunk} shrunk, {preempting} worlds preempt, {steps} steps in {plans} plans"
    );
    assert!(cut_requests > 5000 && cuts > 2000 && shrunk > 300 && preempting > 200);
    assert!(steps > 2 * plans);
}

/// Prompts are cut where they are computed, and what is kept moves to where it decodes.
#[test]
fn requests_that_move_between_replicas_keep_their_budgets() {
    let (mut moved, mut cut, mut worlds) = (0, 0, 0);
    for seed in 0..600 {
        let mut world = apart(seed);
        if !world.spec.scheduler.needs().counts_slots {
            continue;
        }
        retain(&mut world, seed);
        let slow = world.run(How { audit: seed % 4 == 0, ..How::STEPS });
        let fast = world.run(How { audit: seed % 8 == 0, ..How::JUMPS });
        assert_eq!(slow.difference(&fast), None, "world {seed} {:?}", world.spec.limits);
        worlds += 1;
        moved += fast.rows.requests.iter().filter(|row| row.outcome == Outcome::Finished && row.replica > 0).count();
        let finished = fast.result.summary.retained.iter().flat_map(|retained| &retained.finished);
        cut += finished.filter(|(budget, _)| **budget > 0).map(|(_, of)| of.requests).sum::<u64>();
    }
    assert!(worlds > 150 && moved > 1000 && cut > 500, "{worlds} worlds, {moved} moved, {cut} lost tokens");
}

#[test]
fn settling_at_any_instants_changes_nothing_where_tokens_go() {
    for seed in 0..200 {
        let world = retaining(seed);
        let plain = world.run(How::JUMPS);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let end = plain.result.end.0;
        let mut probes: Vec<Time> = (0..40).map(|_| Time(rng.random_range(0..=end))).collect();
        let ends = plain.rows.steps.iter().filter(|_| rng.random_range(0..8) == 0).map(|row| row.end.0);
        probes.extend(ends.map(|at| Time(at.min(end))));
        let probed = world.run(How { probes: &probes, audit: true, ..How::JUMPS });
        assert_eq!(plain.difference(&probed), None, "world {seed}");
    }
}

#[test]
fn a_budget_that_nobody_reaches_changes_nothing() {
    for seed in 0..200 {
        let plain = world(seed);
        let mut ample = plain.clone();
        let budget = ample.spec.limits.max_model_len;
        ample.spec.limits.retention = Keep { budget, every: 3, ..Keep::ALL };
        let (plain, ample) = (plain.run(How::JUMPS), ample.run(How::JUMPS));
        assert_eq!(plain.result.digest, ample.result.digest, "world {seed}");
        let same = plain.rows.steps.iter().zip(&ample.rows.steps).all(|(a, b)| a == b);
        assert!(same, "world {seed}");
    }
}

/// Slots that a lone request attends to in each decode step, counted token by token.
fn by_hand(keep: Keep, prompt: u32, output: u32, chunk: u32) -> (Vec<u64>, u32) {
    let (mut kept, mut most) = (0, 0);
    let mut left = prompt;
    while left > 0 {
        let tokens = left.min(chunk);
        left -= tokens;
        kept += tokens;
        most = most.max(kept);
        if keep.prompt == PromptRule::EachChunk || left == 0 {
            kept = kept.min(keep.budget);
        }
    }
    let mut attended = Vec::new();
    // The prompt's last step gives the first token; the last token is never an input.
    for _ in 1..output {
        kept += 1;
        most = most.max(kept);
        attended.push(u64::from(kept));
        if keep.output == OutputRule::Evict && kept >= keep.budget + keep.every {
            kept = keep.budget;
        }
    }
    (attended, most)
}

#[test]
fn slots_are_those_that_a_token_by_token_count_gives() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for case in 0..400 {
        let budget = rng.random_range(1..120);
        let output = if case % 5 == 0 { OutputRule::Keep } else { OutputRule::Evict };
        let keep = Keep {
            budget,
            every: if output == OutputRule::Keep { 1 } else { [1, 1, 2, 5, 32][case % 5] },
            prompt: if case % 3 == 0 { PromptRule::AtEnd } else { PromptRule::EachChunk },
            output,
            shrink_to: None,
        };
        let (prompt, tokens, chunk) = (rng.random_range(1..300), rng.random_range(1..200), rng.random_range(1..100));
        let depth_one = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
        let vllm = VllmSpec { max_num_batched_tokens: chunk, max_num_seqs: 1, ..depth_one };
        let block_tokens = rng.random_range(1..20);
        let mut world = World::vllm(vllm, 600, block_tokens, 600, vec![Arrival::new(Time::ZERO, prompt, tokens)]);
        world.spec.limits.retention = keep;
        let (attended, most) = by_hand(keep, prompt, tokens, chunk);
        for jumps in [false, true] {
            let run = world.run(How { jumps, audit: true, ..How::STEPS });
            assert_eq!(run.rows.requests[0].outcome, Outcome::Finished);
            let mut told = Vec::new();
            for row in run.rows.steps.iter().filter(|row| row.decode_seqs > 0) {
                let stands = keep.output == OutputRule::Evict && keep.every == 1;
                let strict = stands && row.decode_context == u64::from(budget + 1);
                told.extend((0..row.steps).map(|step| row.decode_context + if strict { 0 } else { step }));
            }
            assert_eq!(told, attended, "{keep:?}, prompt {prompt}, chunk {chunk}, jumps {jumps}");
            let used = run.rows.steps.iter().map(|row| row.used_blocks).max();
            let blocks = u64::from(most.max(1).div_ceil(block_tokens));
            // Used blocks are noted when a step is planned; a jump ends with more.
            assert!(used.is_some_and(|used| used <= blocks), "{used:?} blocks, {blocks} by hand");
            if !jumps {
                assert_eq!(used, Some(blocks), "{keep:?}, prompt {prompt}, output {tokens}, chunk {chunk}");
            }
            let limit = world.spec.limits.most_slots(prompt, prompt + tokens);
            assert!(most <= limit, "{most} slots where {limit} were foreseen: {keep:?}");
        }
    }
}

/// A pool that holds two requests whole holds many with a budget, and each step attends to no more than their budgets.
#[test]
fn a_budget_lets_more_requests_run_at_once() {
    let arrivals: Vec<Arrival> = (0..64).map(|_| Arrival::new(Time::ZERO, 256, 256)).collect();
    let vllm = VllmSpec { max_num_seqs: 64, max_num_batched_tokens: 512, ..VllmSpec::default() };
    let whole = World::of(SchedulerSpec::Vllm(vllm), 64, 16, 512, arrivals);
    let mut kept = whole.clone();
    kept.spec.limits.retention = Keep { budget: 63, ..Keep::ALL };
    let most =
        |world: &World| world.run(How { audit: true, ..How::JUMPS }).rows.steps.iter().map(|s| s.decode_seqs).max();
    assert_eq!(most(&whole), Some(3));
    // 64 slots each, and room for a prompt's chunk: 13 to 16 at once.
    assert!(most(&kept).is_some_and(|seqs| (8..=16).contains(&seqs)), "{:?}", most(&kept));
}
