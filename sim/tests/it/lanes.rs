//! Replicas with two lanes on one pool: the laws hold across them, and the lanes slow each other down as stated.

use overbook_sim::cost::Cost;
use overbook_sim::fleet::{Disaggregation, EarlyRejection, OutputLimit, StopReason};
use overbook_sim::partitioners::{ControllerSpec, PaperSpec, PartitionSpec, ReleasedSpec, ShareScaling, Shares};
use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::{
    PreemptionMode, SarathiSpec, SchedulerSpec, SemiPdSpec, SglangSpec, Victim, VllmSpec, VllmV0Spec,
};
use overbook_sim::serving::QueueOrder;
use overbook_sim::time::{Span, Time};
use overbook_sim::units::Duration;
use overbook_sim::workload::arrival::Arrival;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::world::{How, MS, Run, World};
use crate::world_random::world;

/// The world of a seed, with semi-PD on its replicas: few or many places, whole or split prompts, shares that stay or move.
pub fn two_lanes(seed: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5e31);
    let mut world = world(seed);
    let start = Shares { prefill: rng.random_range(5..=100), decode: rng.random_range(5..=100) };
    let eager = ControllerSpec {
        ttft: Duration(Span(rng.random_range(1..200) * MS)),
        tpot: Duration(Span(rng.random_range(1..20) * MS)),
        start,
        window: rng.random_range(1..8),
        step: rng.random_range(1..10),
        preparation: Duration(Span(rng.random_range(0..50) * MS)),
        ..ControllerSpec::default()
    };
    let partition = match seed % 3 {
        0 => PartitionSpec::Static(start),
        1 => PartitionSpec::Paper(PaperSpec(eager)),
        _ => PartitionSpec::Released(ReleasedSpec(eager)),
    };
    let whole = rng.random_range(0..4) == 0;
    let spec = SemiPdSpec {
        partition,
        max_num_seqs: rng.random_range(1..20),
        max_prefill_tokens: if whole { world.spec.limits.max_model_len } else { rng.random_range(10..400) },
        enable_chunked_prefill: !whole,
        watermark: [0.0, 0.05][rng.random_range(0..2)],
        ..SemiPdSpec::default()
    };
    world.set_scheduler(SchedulerSpec::SemiPd(spec));
    world
}

/// A run of a world, after laws 1, 2 and 13: steps and jumps, settled at any instants or not, end the same requests at the same
/// moments. With how many gaps there are between its tokens.
pub fn lawful(world: &World, seed: u64) -> (Run, u64) {
    let slow = world.run(How { audit: true, ..How::STEPS });
    let fast = world.run(How { audit: seed.is_multiple_of(4), ..How::JUMPS });
    assert_eq!(slow.difference(&fast), None, "world {seed}: {:?}", world.spec);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let probes: Vec<Time> = (0..60).map(|_| Time(rng.random_range(0..=fast.result.end.0))).collect();
    let probed = world.run(How { probes: &probes, ..How::JUMPS });
    assert_eq!(fast.difference(&probed), None, "world {seed}, settled");
    assert_eq!(fast.rows.requests.len(), world.arrivals.len(), "law 1 in world {seed}");
    let between: u64 = fast.rows.requests.iter().map(|r| u64::from(r.output_tokens).saturating_sub(1)).sum();
    // What was delivered before a retry is not in the rows.
    assert!(fast.result.summary.itl.count() == between || world.spec.controllers.retry.is_some(), "world {seed}: gaps");
    (fast, between)
}

/// Two lanes on one pool are lawful, each lane's steps follow one another, and every token is in the timeline.
#[test]
fn two_lanes_keep_the_laws() {
    let (mut stops, mut preempted, mut lanes, mut gaps) = (0, 0, [0, 0], 0);
    for seed in 0..400 {
        let world = two_lanes(seed);
        let (fast, between) = lawful(&world, seed);
        let tokens: u64 = fast.rows.requests.iter().map(|r| u64::from(r.output_tokens)).sum();
        // What was delivered before a retry is not in the rows.
        let in_vain = world.spec.controllers.retry.is_some();
        let in_bins: u64 = fast.result.timeline.bins(fast.result.end).map(|b| b.tokens).sum();
        assert!(in_bins == tokens || in_vain, "world {seed}: tokens in the timeline");
        for replica in 0..world.spec.replicas {
            for lane in 0..2u32 {
                let steps: Vec<_> = fast.rows.steps.iter().filter(|s| (s.replica, s.lane) == (replica, lane)).collect();
                assert!(steps.windows(2).all(|pair| pair[0].end <= pair[1].start), "world {seed}: lane {lane}");
                lanes[lane as usize] += steps.len();
            }
        }
        stops += fast.result.effort.stops[StopReason::Lane as usize];
        preempted += fast.result.summary.work.preemptions;
        gaps += between;
    }
    eprintln!(
        "two lanes: {lanes:?} segments, {gaps} gaps, {stops} jumps stopped by the other lane, {preempted} preemptions"
    );
    assert!(stops > 1000 && preempted > 500 && lanes.iter().all(|&n| n > 5000));
}

/// The world of a seed with replicas for prompts and replicas for decodes, and slow or fast links between them.
pub fn apart(seed: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xd15a);
    let mut world = world(seed);
    let replicas = rng.random_range(2..=4);
    let schedulers = [
        SchedulerSpec::Vllm(VllmSpec { async_scheduling: seed.is_multiple_of(2), ..VllmSpec::default() }),
        SchedulerSpec::Sglang(SglangSpec::default()),
        SchedulerSpec::Sarathi(SarathiSpec { chunk_size: 100, ..SarathiSpec::default() }),
        SchedulerSpec::VllmV0(VllmV0Spec::default()),
        SchedulerSpec::VllmV0(VllmV0Spec { preemption_mode: PreemptionMode::Swap, ..VllmV0Spec::default() }),
    ];
    let mut scheduler = schedulers[rng.random_range(0..schedulers.len())].clone();
    // What came later draws from a stream of its own, so that the worlds stay what they were.
    let mut later = ChaCha8Rng::seed_from_u64(seed ^ 0x10_17);
    if let SchedulerSpec::Vllm(vllm) = &mut scheduler
        && later.random_range(0..2) == 0
    {
        vllm.long_prefill_token_threshold = later.random_range(16..200);
        vllm.scheduler_reserve_full_isl = later.random_range(0..2) == 0;
    }
    world.set_scheduler(scheduler);
    world.spec.replicas = replicas;
    world.spec.controllers.autoscale = None;
    world.spec.controllers.disaggregation = Some(Disaggregation {
        prefill: rng.random_range(1..replicas),
        latency: Span(rng.random_range(0..2) * MS),
        per_token: Cost::from_us([0.1, 3.0, 40.0][rng.random_range(0..3)]),
        layers: [1, 32][rng.random_range(0..2)],
        max_seqs: rng.random_range(2..30),
        overflow: [None, None, Some(300)][rng.random_range(0..3)],
    });
    if rng.random_range(0..3) == 0 {
        let ttft = Some(Span(rng.random_range(20..2000) * MS));
        world.spec.controllers.early_rejection =
            Some(EarlyRejection { ttft, tbt: Some(Span(rng.random_range(1..20) * MS)) });
    }
    world
}

/// The same laws where requests move between replicas.
#[test]
fn moving_requests_keeps_the_laws() {
    let (mut moved, mut overflown, mut seen, mut preempted) = (0, 0, [0u64; Outcome::ALL.len()], 0);
    for seed in 0..400 {
        let world = apart(seed);
        let prefill = world.spec.controllers.disaggregation.unwrap().prefill;
        let (fast, _) = lawful(&world, seed);
        for row in &fast.rows.requests {
            seen[row.outcome as usize] += 1;
            let decodes = row.replica >= prefill;
            moved += u64::from(decodes);
            assert!(row.output_tokens < 2 || decodes, "world {seed}: decoded where prompts are computed: {row:?}");
        }
        let mixed = fast.rows.steps.iter().filter(|s| s.replica >= prefill && s.prefill_seqs > 0 && s.preempted == 0);
        overflown +=
            u64::from(world.spec.controllers.disaggregation.unwrap().overflow.is_some()) * mixed.count() as u64;
        let prompts = fast.rows.steps.iter().filter(|s| s.replica < prefill);
        assert!(prompts.clone().all(|s| s.decode_seqs == 0), "world {seed}");
        preempted += fast.result.summary.work.preemptions;
    }
    eprintln!(
        "apart: {moved} requests moved, {overflown} prompts at decoding replicas, {preempted} preemptions, {seen:?}"
    );
    assert!(moved > 4000 && overflown > 300 && preempted > 100 && seen.iter().all(|&n| n >= 20));
}

/// With capped chunks short prompts are done before a long one that came first. Their token is in flight when the long one lacks a
/// block: it gives way itself, whoever the policy would take, for their KV is about to leave.
#[test]
fn a_prompt_that_is_done_is_not_preempted() {
    let prompts = [140, 40, 40, 40];
    let arrivals: Vec<Arrival> = prompts.iter().map(|&prompt| Arrival::new(Time(0), prompt, 3)).collect();
    let plain = VllmSpec { scheduler_reserve_full_isl: false, long_prefill_token_threshold: 16, ..VllmSpec::default() };
    let victim = |preemption_victim| VllmSpec { preemption_victim, ..plain.clone() };
    let policies = [
        victim(None),
        victim(Some(Victim::LastAdmitted)),
        victim(Some(Victim::LatestArrival)),
        victim(Some(Victim::LeastComputed)),
        VllmSpec { policy: QueueOrder::Priority, ..plain.clone() },
    ];
    for spec in policies {
        let mut world = World::vllm(spec, 9, 16, 144, arrivals.clone());
        world.spec.replicas = 2;
        world.spec.traffic.output_limit = OutputLimit::True;
        let (latency, per_token) = (Span(0), Cost::from_us(10.0));
        world.spec.controllers.disaggregation =
            Some(Disaggregation { prefill: 1, latency, per_token, layers: 1, max_seqs: 8, overflow: None });
        let (run, _) = lawful(&world, 0);
        assert_eq!(run.result.summary.count(Outcome::Finished), 4, "{:?}", world.spec.scheduler);
        // The last prompt makes room for the third one; the first one finds nobody to make room for it.
        let preempted = [0, 3].map(|request| run.row(request).preemptions > 0);
        assert_eq!(preempted, [true; 2], "{:?}", world.spec.scheduler);
    }
}

/// Two requests, one link: prompts take 1 ms, ten tokens of KV 2 ms; the second transfer waits for the first.
#[test]
fn a_link_carries_one_request_at_a_time() {
    let arrivals = vec![Arrival::new(Time(0), 10, 3), Arrival::new(Time(500_000), 10, 3)];
    let times = |layers| {
        let spec = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
        let mut world = World::vllm(spec, 64, 16, 512, arrivals.clone());
        world.spec.replicas = 2;
        world.spec.traffic.output_limit = OutputLimit::True;
        let (latency, per_token) = (Span(0), Cost::from_us(200.0));
        world.spec.controllers.disaggregation =
            Some(Disaggregation { prefill: 1, latency, per_token, layers, max_seqs: 8, overflow: None });
        times(&world.run(How::JUMPS))
    };
    // Prompts end at 1 and 2 ms, their KV arrives at 3 and 5 ms; two more tokens take 2 ms.
    assert_eq!(times(1), [(1000, 5000), (2000, 7000)]);
    // Layer by layer half of it is there when the prompt is: it arrives at 2 and 3 ms.
    assert_eq!(times(4), [(1000, 4000), (2000, 5000)]);
}

/// Four prompts of 1 ms each at once, one at a time: the promise of 2.5 ms to the first token is kept by refusing two; a
/// decode step of 1 ms cannot keep half a millisecond.
#[test]
fn what_cannot_be_kept_is_refused_on_arrival() {
    let arrivals: Vec<Arrival> = (0..4).map(|i| Arrival::new(Time(i), 8192, 3)).collect();
    let outcomes = |ttft, tbt| {
        let spec = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
        let mut world = World::vllm(spec, 4096, 16, 16_384, arrivals.clone());
        world.spec.controllers.early_rejection = Some(EarlyRejection { ttft, tbt });
        let run = world.run(How::JUMPS);
        let refused = run.rows.requests.iter().filter(|r| r.outcome == Outcome::Rejected).map(|r| r.request);
        refused.collect::<Vec<_>>()
    };
    assert_eq!(outcomes(Some(Span(2_500_000)), None), [2, 3]);
    assert_eq!(outcomes(Some(Span(10 * MS)), Some(Span(MS))), [0_u64; 0]);
    assert_eq!(outcomes(None, Some(Span(MS / 2))), [0, 1, 2, 3]);
}

/// The gaps between tokens add up to the time from first to last token.
#[test]
fn gaps_across_lanes_cover_the_time_between_first_and_last_token() {
    for seed in 0..400 {
        let mut world = if seed % 2 == 0 { two_lanes(seed) } else { apart(seed) };
        world.spec.controllers.failures.clear();
        (world.spec.controllers.faults, world.spec.controllers.retry) = (None, None);
        world.spec.controllers.patience = overbook_sim::fleet::Patience::default();
        for arrival in &mut world.arrivals {
            (arrival.deadline, arrival.max_wait, arrival.cancel_after) = (None, None, None);
        }
        let run = world.run(How::JUMPS);
        let served = run.rows.requests.iter().filter(|r| r.outcome == Outcome::Finished);
        let whole: u128 = served.map(|r| u128::from((r.end - r.first_token.unwrap()).0)).sum();
        let itl = &run.result.summary.itl;
        // A step's end is cut to whole nanoseconds, its length is not; a step whose rate changed is cut once more.
        assert!(whole.abs_diff(itl.sum()) <= 2 * u128::from(itl.count()), "world {seed}: {} and {whole}", itl.sum());
        let longest = run.rows.requests.iter().filter_map(|r| r.longest_gap).map(|gap| gap.0).max();
        if let (Some(longest), Some(gap)) = (longest, itl.max()) {
            assert!(longest.abs_diff(gap) <= 2, "world {seed}: {longest} and {gap}");
        }
    }
}

pub fn times(run: &Run) -> Vec<(u64, u64)> {
    let mut rows: Vec<_> = run.rows.requests.iter().collect();
    rows.sort_by_key(|r| r.request);
    rows.iter().map(|r| (r.first_token.unwrap().0 / 1000, r.end.0 / 1000)).collect()
}

/// One request decodes while another's prompt is computed. Steps last 1 ms at all SMs; half of that scales with the share.
#[test]
fn lanes_that_have_more_than_all_slow_each_other_down() {
    let arrivals = vec![Arrival::new(Time(0), 10, 5), Arrival::new(Time(1_500_000), 10, 1)];
    let shares = |prefill, decode| {
        let partition = PartitionSpec::Static(Shares { prefill, decode });
        let scaling = ShareScaling { prefill: 0.5, decode: 0.5 };
        let spec = SemiPdSpec { partition, scaling, ..SemiPdSpec::default() };
        times(&World::of(SchedulerSpec::SemiPd(spec), 64, 16, 512, arrivals.clone()).run(How::JUMPS))
    };
    // Apart: each at half of the SMs, 0.5 · 2 + 0.5 = 1.5 ms a step, whatever the other does.
    assert_eq!(shares(50, 50), [(1500, 7500), (3000, 3000)]);
    // Together: 1 ms alone. The decode step from 1 ms has half of itself left at 1.5 ms, which takes 0.75 ms then; another
    // one lasts 1.5 ms to 3.75 ms; but the prompt, 1.5 ms from 1.5 ms on, is done at 3 ms. The rest of that step, half of it,
    // takes 0.5 ms.
    assert_eq!(shares(100, 100), [(1000, 5500), (3000, 3000)]);
}
