//! Whether the stated 95 % interval of the headroom holds the simulator's own truth: that of long runs with many other seeds.

#![allow(clippy::unwrap_used)]

use overbook_scenarios::scenario::PlanSpec;
use overbook_sim::counter;

use super::*;

/// Seeds of the truth begin here: no plan has used them.
const OTHER_SEEDS: u64 = 1_000_000;

/// Small plans, how their intervals came out.
struct Tally {
    plans: usize,
    /// Plans whose interval holds the truth.
    held: usize,
    too_close: usize,
    /// High ÷ low - 1 of each.
    widths: Vec<f64>,
    /// Truth ÷ factor of each.
    offsets: Vec<f64>,
}

/// A small plan that differs from the others in load, burstiness, lengths and promises.
fn small(number: u64) -> String {
    let pick = |purpose: u64, of: &[&str]| of[(counter::draw(number, purpose) % of.len() as u64) as usize].to_owned();
    let rate = 8.0 * 8_f64.powf((counter::draw(number, 0) % 1000) as f64 / 1000.0);
    let arrivals = pick(1, &["poisson: { rate: R }", "gamma: { rate: R, shape: 0.5 }"]);
    let lengths = pick(
        2,
        &[
            "{ fixed: { prompt: 900, output: 150 } }",
            "{ fixed: { prompt: 2500, output: 80 } }",
            "burstgpt-conversation",
            "{ fixed: { prompt: 300, output: 300 } }",
        ],
    );
    let slo = pick(
        3,
        &[
            "ttft_p99: 500ms, tpot_p99: 30ms",
            "ttft_p90: 300ms, tpot_p90: 25ms",
            "ttft_p99: 1s",
            "tpot_p95: 20ms, ttft_p95: 1s",
            "goodput: { ttft: 600ms, tpot: 30ms, share: 0.95 }",
        ],
    );
    let requests = pick(4, &["1500", "3000"]);
    format!(
        "
version: 1
name: small-{number}
model: llama-3.1-8b
gpu: h100
workload:
  generate: {{ arrivals: {{ {} }}, lengths: {lengths}, requests: {requests} }}
engine: {{ max_model_len: 8192 }}
scheduler: vllm
slo: {{ {slo} }}
plan: {{ tensor_parallel: [1], modes: [together], gpus_most: 32 }}
",
        arrivals.replace('R', &format!("{rate:.1}/s"))
    )
}

/// The headroom of a fleet by runs that are so many times as long, with other seeds.
fn truth(point: &Point, longer: u64, seeds: usize) -> f64 {
    let options = Options { jobs: std::num::NonZeroUsize::new(1), ..Options::default() };
    let experiment = Experiment::from_text("truth", &point.scenario.to_yaml());
    let promises = Promises::of(point);
    let load = |number: u64, _: f64| {
        let mut own = point.clone();
        own.scenario.seed = OTHER_SEEDS + number;
        if let Some(requests) = own.scenario.workload.generate.as_mut().and_then(|made| made.requests.as_mut()) {
            *requests *= longer;
        }
        let load = Requests::read(&own, &PlanSpec::default(), &promises, &options)?.unwrap().load;
        Ok(Some(Seeded { seed: own.scenario.seed, points: vec![own], load }))
    };
    let bench = Bench { promises: &promises, policies: experiment.policies(), options: &options, power_most: None };
    let seeds = Seeds { load: &load, least: seeds };
    headroom(&bench, &seeds, &[Growth::Faster], &promises).unwrap().unwrap()[0].factor
}

fn tally(plans: std::ops::Range<u64>, longer: u64, seeds: usize) -> Tally {
    let mut tally = Tally { plans: 0, held: 0, too_close: 0, widths: Vec::new(), offsets: Vec::new() };
    for number in plans {
        let options = Options { jobs: std::num::NonZeroUsize::new(1), ..Options::default() };
        let outcome = Experiment::from_text("small", &small(number)).plan(&options, "again", &|_| ()).unwrap();
        let (Some(point), Some(one)) = (&outcome.point, outcome.plan.headroom.first()) else { continue };
        let truth = truth(point, longer, seeds);
        let held = (one.seeds_low..=one.seeds_high).contains(&truth);
        tally.plans += 1;
        tally.held += usize::from(held);
        tally.too_close += usize::from(outcome.plan.too_close_to_call);
        tally.widths.push(one.seeds_high / one.seeds_low - 1.0);
        tally.offsets.push(truth / one.factor);
        told(number, truth, one, held, &outcome.plan.answer.as_ref().unwrap().replicas);
    }
    tally
}

#[allow(clippy::print_stdout, reason = "figures of a test that is run by hand")]
fn told(number: u64, truth: f64, one: &overbook_reports::plan::Headroom, held: bool, replicas: &str) {
    println!(
        "{number}: {replicas} replicas, {:.3} ({:.3} to {:.3}) of {} seeds, truth {truth:.3}{}; {:.3?}",
        one.factor,
        one.seeds_low,
        one.seeds_high,
        one.seeds.len(),
        if held { "" } else { " is outside" },
        one.seeds
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// By hand: `cargo test --lib -- --ignored --nocapture hundred_plans`; PLANS says how many.
#[test]
#[ignore = "minutes"]
#[allow(clippy::print_stdout, reason = "figures of a test that is run by hand")]
fn intervals_of_a_hundred_plans_hold_the_truth() {
    let number = |name: &str, or: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or);
    let from = number("FROM", 0);
    let mut all = tally(from..from + number("PLANS", 100), number("LONGER", 8), number("SEEDS", 5) as usize);
    let width = median(&mut all.widths);
    println!(
        "{} of {} hold the truth; median width {:.1} %; too close to call {}; truth ÷ factor, median {:.3}",
        all.held,
        all.plans,
        100.0 * width,
        all.too_close,
        median(&mut all.offsets)
    );
    assert!(10 * all.held >= 9 * all.plans && width <= 0.08 && 100 * all.too_close <= 15 * all.plans);
}
