//! What the schedulers that set an order are for: fair shares, and deadlines that are met.

use overbook_sim::lengths::{LengthSpec, NoisyOracleSpec};
use overbook_sim::results::rows::{Outcome, RequestRow};
use overbook_sim::schedulers::{
    BatchSpec, EdfSpec, FastserveSpec, LtrSpec, SarathiSpec, SchedulerSpec, SjfSpec, VtcSpec,
};
use overbook_sim::time::{Span, Time};
use overbook_sim::units::Duration;
use overbook_sim::workload::arrival::{Arrival, ClassId};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::world::{How, MS, Run, World};

const PLACES: u32 = 8;
const MODEL_LEN: u32 = 64;
const PROMPT_MAX: u32 = 32;

/// A pool in which every request with a place also has memory, so that every member gets a token in every step of 1 ms.
fn roomy(scheduler: SchedulerSpec, arrivals: Vec<Arrival>) -> World {
    World::of(scheduler, u64::from(PLACES * MODEL_LEN / 16), 16, MODEL_LEN, arrivals)
}

fn batch() -> BatchSpec {
    BatchSpec { max_num_batched_tokens: 256, max_num_seqs: PLACES, watermark: 0.0 }
}

fn sarathi() -> SchedulerSpec {
    let BatchSpec { max_num_batched_tokens, max_num_seqs, watermark } = batch();
    let spec = SarathiSpec { chunk_size: max_num_batched_tokens, max_num_seqs, watermark, ..SarathiSpec::default() };
    SchedulerSpec::Sarathi(spec)
}

/// Two tenants with all their requests there from the start: long prompts with short outputs, and the other way round. The
/// first one has more requests, and they come first.
fn backlog(seed: u64) -> Vec<Arrival> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut request = |class: u16, i: u64| {
        let (prompt, output) = if class == 0 { (16..=PROMPT_MAX, 1..=8) } else { (1..=8, 8..=MODEL_LEN / 2) };
        let (prompt, output) = (rng.random_range(prompt), rng.random_range(output));
        let mut arrival = Arrival::new(Time(i), prompt, output);
        (arrival.class, arrival.max_new_tokens) = (ClassId(class), Some(output));
        arrival
    };
    let first: Vec<Arrival> = (0..600).map(|i| request(0, i)).collect();
    first.into_iter().chain((0..300).map(|i| request(1, 600 + i))).collect()
}

/// Service that a request has got by some moment, at prices 1 and 2.
fn service(row: &RequestRow, now: Time) -> f64 {
    let first = row.first_token.expect("served");
    let outputs = if now < first { 0 } else { ((now.0 - first.0) / MS + 1).min(u64::from(row.output_tokens)) };
    let prompt = if row.start.expect("served") < now { row.prompt_tokens } else { 0 };
    f64::from(prompt) + 2.0 * outputs as f64
}

/// The largest difference of service per weight while both tenants have requests waiting, and how much either was served.
fn unfairness(run: &Run, weights: [f64; 2]) -> (f64, f64) {
    let rows = &run.rows.requests;
    assert!(rows.iter().all(|r| r.outcome == Outcome::Finished && r.preemptions == 0));
    let last_start = |class| rows.iter().filter(|r| r.class == ClassId(class)).filter_map(|r| r.start).max().unwrap();
    let until = last_start(0).min(last_start(1));
    let share = |class: u16, now| -> f64 {
        let own = rows.iter().filter(|r| r.class == ClassId(class));
        own.map(|r| service(r, now)).sum::<f64>() / weights[usize::from(class)]
    };
    let moments = (1..until.0 / MS).map(|ms| Time(ms * MS));
    let worst = moments.map(|now| (share(0, now) - share(1, now)).abs()).fold(0.0, f64::max);
    (worst, share(0, until).min(share(1, until)))
}

/// Two tenants with a backlog are served equally, up to twice the larger of what a prompt and a full batch cost (VTC, theorem 4.4).
#[test]
fn backlogged_tenants_get_their_shares() {
    let bound = 2.0 * f64::from(PROMPT_MAX).max(2.0 * f64::from(PLACES * MODEL_LEN));
    for (seed, weights) in [(1, [1.0, 1.0]), (2, [1.0, 1.0]), (3, [1.0, 3.0]), (4, [2.5, 1.0])] {
        let fair = VtcSpec { fair_weights: weights.to_vec(), batch: batch(), ..VtcSpec::default() };
        let (worst, served) = unfairness(&roomy(SchedulerSpec::Vtc(fair), backlog(seed)).run(How::JUMPS), weights);
        let (plain, _) = unfairness(&roomy(sarathi(), backlog(seed)).run(How::JUMPS), weights);
        eprintln!(
            "vtc {weights:?}: {worst:.0} apart of {served:.0} each, bound {bound}; first come, first served {plain:.0}"
        );
        assert!(worst <= bound, "{worst} apart, the bound is {bound}");
        assert!(worst < served / 10.0 && plain > bound, "{worst} of {served}; without it {plain}");
    }
}

/// Interactive requests among patient ones, at times more than the replica can serve.
fn mixed(seed: u64) -> Vec<Arrival> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut at = 0.0;
    let request = |i: u64| {
        at += -(1.0 - rng.random::<f64>()).ln() * if (i / 100).is_multiple_of(3) { 1.5 } else { 4.0 };
        let mut arrival =
            Arrival::new(Time((at * MS as f64) as u64), rng.random_range(8..=32), rng.random_range(8..=32));
        arrival.class = ClassId((i % 2) as u16);
        arrival
    };
    (0..1200).map(request).collect()
}

/// With promises of 25 and 1000 steps, more of them are kept than by serving first come, first served.
#[test]
fn more_deadlines_are_met() {
    let promises = [Duration(Span(25 * MS)), Duration(Span(1000 * MS))];
    let kept = |run: &Run| {
        let met = |r: &&RequestRow| r.ttft().is_some_and(|ttft| ttft <= promises[usize::from(r.class.0)].0);
        run.rows.requests.iter().filter(met).count()
    };
    for seed in 0..4 {
        let edf = EdfSpec { class_ttft: promises.to_vec(), batch: batch(), ..EdfSpec::default() };
        let by_deadline = kept(&roomy(SchedulerSpec::Edf(edf), mixed(seed)).run(How::JUMPS));
        let by_arrival = kept(&roomy(sarathi(), mixed(seed)).run(How::JUMPS));
        eprintln!("edf: {by_deadline} of 1200 promises kept, {by_arrival} by arrival");
        assert!(by_deadline > by_arrival + 100, "{by_deadline} against {by_arrival}");
    }
}

/// The better the lengths are known, the shorter is the mean latency (and without knowing them, serving by arrival is as good).
#[test]
fn short_jobs_first_pays_by_what_is_known() {
    let sjf = |lengths| SchedulerSpec::Sjf(SjfSpec { lengths, batch: batch(), ..SjfSpec::default() });
    let mean = |scheduler, seed| {
        let run = roomy(scheduler, mixed(seed)).run(How::JUMPS);
        run.rows.requests.iter().map(|r| r.e2el().as_millis_f64()).sum::<f64>() / 1200.0
    };
    for seed in 0..4 {
        let known = mean(sjf(LengthSpec::Oracle), seed);
        let guessed = mean(sjf(LengthSpec::NoisyOracle(NoisyOracleSpec { sigma: 0.5 })), seed);
        let by_arrival = mean(sarathi(), seed);
        eprintln!(
            "sjf: mean latency {known:.1} ms with lengths, {guessed:.1} with guesses, {by_arrival:.1} by arrival"
        );
        assert!(known < guessed && guessed < by_arrival);
    }
}

/// One request in ten has a long output, the others have short ones, at about what the replica can serve.
fn skewed(seed: u64) -> Vec<Arrival> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut at = 0.0;
    let request = |i: u64| {
        at += -(1.0 - rng.random::<f64>()).ln() * 0.95;
        let output = if i.is_multiple_of(10) { rng.random_range(28..=48) } else { rng.random_range(2..=6) };
        Arrival::new(Time((at * MS as f64) as u64), rng.random_range(4..=16), output)
    };
    (0..1200).map(request).collect()
}

/// Stopping long jobs for shorter ones pays more than letting short ones go first in the queue; queues by service need no lengths
/// and pay too; and a guard against starvation shortens the longest latency.
#[test]
fn preemption_pays_and_nobody_starves() {
    let ltr = |starv| {
        let spec = LtrSpec { lengths: LengthSpec::Oracle, starv, batch: batch(), ..LtrSpec::default() };
        SchedulerSpec::Ltr(spec)
    };
    let queues = FastserveSpec { base_quantum: Duration(Span(4 * MS)), batch: batch(), ..FastserveSpec::default() };
    let sjf = SchedulerSpec::Sjf(SjfSpec { lengths: LengthSpec::Oracle, batch: batch(), ..SjfSpec::default() });
    let run = |scheduler, seed| {
        let mut world = roomy(scheduler, skewed(seed));
        // A stopped request keeps its memory: what counts here is order, not copies.
        world.spec.limits.blocks = 1 << 16;
        let run = world.run(How::JUMPS);
        let rows = &run.rows.requests;
        let mean = rows.iter().map(|r| r.e2el().as_millis_f64()).sum::<f64>() / 1200.0;
        (mean, rows.iter().map(|r| r.e2el().as_millis_f64()).fold(0.0, f64::max))
    };
    for seed in 0..4 {
        let all = [sarathi(), sjf.clone(), ltr(0), ltr(30), SchedulerSpec::Fastserve(queues.clone())];
        let [by_arrival, queued, ranked, guarded, served] = all.map(|scheduler| run(scheduler, seed));
        eprintln!(
            "mean latency and slowest [ms]: by arrival {by_arrival:.1?}, sjf {queued:.1?}, ltr {ranked:.1?}, guarded \
             {guarded:.1?}, fastserve {served:.1?}"
        );
        assert!(ranked.0 < queued.0 && ranked.0 < served.0 && served.0 < by_arrival.0);
        assert!(guarded.1 < ranked.1 && guarded.0 < by_arrival.0);
    }
}
