//! Queueing theory: with one request at a time a replica is a single server whose waiting times are known.
//!
//! A step lasts 1 ms, a prompt one token: a request of n output tokens takes exactly n ms, its service time.

use overbook_sim::routers::RouterSpec;
use overbook_sim::schedulers::VllmSpec;
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::Arrival;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::world::{How, MS, Run, World};
use crate::world_random::world;

const SERVICE_STEPS: u32 = 400;
const CONTEXT: u32 = 20_000;

fn exponential(rng: &mut ChaCha8Rng, mean: f64) -> f64 {
    -rng.random::<f64>().max(1e-15).ln() * mean
}

/// `n` Poisson arrivals that keep one server busy for the share `load` of the time.
fn arrivals(seed: u64, n: usize, load: f64, output: impl Fn(&mut ChaCha8Rng) -> u32) -> Vec<Arrival> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let gap_ns = f64::from(SERVICE_STEPS) * MS as f64 / load;
    let mut at = 0.0;
    let draw = |_| {
        at += exponential(&mut rng, gap_ns);
        Arrival::new(Time(at as u64), 1, output(&mut rng))
    };
    (0..n).map(draw).collect()
}

fn exponential_output(rng: &mut ChaCha8Rng) -> u32 {
    (exponential(rng, f64::from(SERVICE_STEPS)).round() as u32).clamp(1, CONTEXT - 1)
}

/// One request at a time, without lookahead.
fn single_server(arrivals: Vec<Arrival>) -> World {
    let vllm =
        VllmSpec { max_num_seqs: 1, async_scheduling: false, enable_prefix_caching: false, ..VllmSpec::default() };
    World::vllm(vllm, u64::from(CONTEXT) / 16, 16, CONTEXT, arrivals)
}

/// Mean waiting time in units of the service time, and its standard error from the means of 40 batches.
fn mean_wait(run: &Run) -> (f64, f64) {
    let mut rows: Vec<_> = run.rows.requests.iter().collect();
    rows.sort_by_key(|r| r.request);
    let service = f64::from(SERVICE_STEPS) * MS as f64;
    let waits: Vec<f64> = rows.iter().map(|r| (r.start.unwrap() - r.arrival).0 as f64 / service).collect();
    let means: Vec<f64> = waits.chunks(waits.len() / 40).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect();
    let mean = means.iter().sum::<f64>() / means.len() as f64;
    let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (means.len() - 1) as f64;
    (mean, (variance / means.len() as f64).sqrt())
}

fn assert_wait(name: &str, run: &Run, theory: f64) {
    let (mean, error) = mean_wait(run);
    eprintln!("theory: {name}: mean wait {mean:.4} ± {error:.4} service times, theory {theory:.4}");
    assert!(error < 0.04 * theory, "{name}: too few requests to tell");
    assert!((mean - theory).abs() < 3.5 * error, "{name}: {mean} against {theory}");
}

#[test]
fn one_exponential_server_waits_as_m_m_1() {
    for (seed, load) in [(1, 0.3), (2, 0.6), (3, 0.8)] {
        let run = single_server(arrivals(seed, 120_000, load, exponential_output)).run(How::JUMPS);
        assert_wait(&format!("M/M/1 at load {load}"), &run, load / (1.0 - load));
    }
}

#[test]
fn one_constant_server_waits_as_m_d_1() {
    for (seed, load) in [(4, 0.3), (5, 0.6), (6, 0.8)] {
        let run = single_server(arrivals(seed, 80_000, load, |_| SERVICE_STEPS)).run(How::JUMPS);
        assert_wait(&format!("M/D/1 at load {load}"), &run, load / (2.0 * (1.0 - load)));
    }
}

/// One replica with c places and steps that do not grow with the batch is c servers behind one queue, but for arrivals that
/// wait for the next step. Theory: Erlang C.
#[test]
fn one_replica_with_c_places_waits_as_m_m_c() {
    let (c, load) = (4u32, 0.8);
    let offered = f64::from(c) * load;
    let mut world = single_server(arrivals(7, 160_000, offered, exponential_output));
    let spec =
        VllmSpec { max_num_seqs: c, async_scheduling: false, enable_prefix_caching: false, ..VllmSpec::default() };
    world.set_scheduler(overbook_sim::schedulers::SchedulerSpec::Vllm(spec));
    world.spec.limits.blocks *= u64::from(c);
    let term = |k: u32| (1..=k).fold(1.0, |product, i| product * offered / f64::from(i));
    let all_busy = term(c) / (1.0 - load);
    let wait = all_busy / ((0..c).map(term).sum::<f64>() + all_busy) / (f64::from(c) * (1.0 - load));
    // Half a step on average until the next boundary, if a request runs.
    let half_step = 0.5 / f64::from(SERVICE_STEPS);
    assert_wait("M/M/4 at load 0.8", &world.run(How::JUMPS), wait + half_step);
}

/// Randomly split traffic makes each replica an M/M/1 of its own; joining the shortest queue lies between one common queue
/// (M/M/k) and that.
#[test]
fn routers_stand_between_one_queue_and_many() {
    let (replicas, load) = (4u32, 0.7);
    let mut world = single_server(arrivals(8, 160_000, load * f64::from(replicas), exponential_output));
    world.spec.replicas = replicas;
    let mut wait = |router| {
        world.spec.router = router;
        world.run(How::JUMPS)
    };
    let random = wait(RouterSpec::Random);
    assert_wait("random over 4 replicas at load 0.7", &random, load / (1.0 - load));
    let jsq = mean_wait(&wait(RouterSpec::LeastOutstanding)).0;
    let two = mean_wait(&wait(RouterSpec::PowerOfTwo)).0;
    let robin = mean_wait(&wait(RouterSpec::RoundRobin)).0;
    // Erlang C for 4 servers at load 0.7: P(wait) 0.4287, over 4 (1 - 0.7).
    let common = 0.357;
    eprintln!(
        "theory: waits: common queue {common}, least outstanding {jsq:.3}, power of two {two:.3}, robin {robin:.3}"
    );
    assert!(common < jsq && jsq < two && two < robin && robin < mean_wait(&random).0);
}

/// The utilisation law, exactly: busy time is the service of all requests.
#[test]
fn utilisation_is_throughput_times_service() {
    let arrivals = arrivals(9, 20_000, 0.6, exponential_output);
    let service: u64 = arrivals.iter().map(|a| u64::from(a.output_tokens) * MS).sum();
    let run = single_server(arrivals).run(How::JUMPS);
    let summary = &run.result.summary;
    assert_eq!(summary.work.busy.0, service);
    let utilization = summary.metric("utilization").unwrap();
    assert!((utilization - service as f64 / summary.makespan().0 as f64).abs() < 1e-12);
    eprintln!("theory: utilisation {utilization:.4} of 0.6 offered, exactly throughput × service");
}

/// Little's law in every random world: the integrals of waiting and running requests are the sums of their times.
#[test]
fn littles_law_holds_exactly_everywhere() {
    let mut requests = 0;
    for seed in 0..400 {
        let mut world = world(seed);
        // Between two attempts a request is with its client.
        world.spec.controllers.retry = None;
        let run = world.run(How::JUMPS);
        let summary = &run.result.summary;
        let sojourn: u64 = run.rows.requests.iter().map(|r| (r.end - r.arrival).0).sum();
        let level = summary.load.running_mean + summary.load.waiting_mean;
        let integral = level * summary.makespan().0 as f64;
        let error = (integral - sojourn as f64).abs() / (sojourn as f64).max(1.0);
        assert!(error < 1e-12, "world {seed}: L·T = {integral}, ΣW = {sojourn}");
        if run.rows.requests.iter().all(|r| r.preemptions == 0) {
            let waited: u64 = run.rows.requests.iter().map(|r| (r.start.unwrap_or(r.end) - r.arrival).0).sum();
            let integral = summary.load.waiting_mean * summary.makespan().0 as f64;
            assert!((integral - waited as f64).abs() <= 1e-12 * waited as f64 + 1e-3, "world {seed}: Lq·T, ΣWq");
        }
        requests += run.rows.requests.len();
    }
    eprintln!("theory: Little's law exact for {requests} requests in 400 worlds");
}
