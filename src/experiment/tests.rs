#![allow(clippy::unwrap_used)]

use overbook_sim::cost::{Constant, Cost, StepCost};
use overbook_sim::kv::eviction::EvictionSpec;
use overbook_sim::routers::{FleetView, RequestInfo};
use overbook_sim::schedulers::{OrcaSpec, SchedulerSpec};

use super::*;

const SCENARIO: &str = "
version: 1
name: experiment
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { poisson: { rate: 30/s } }, lengths: { fixed: { prompt: 400, output: 60 } }, requests: 400 }
fleet: { replicas: 2 }
";

fn experiment() -> Experiment {
    Experiment::from_text("experiment", SCENARIO)
}

fn run(experiment: &Experiment) -> Outcome {
    experiment.run(&Options::default()).unwrap()
}

fn fact(outcome: &Outcome, what: &str) -> String {
    outcome.assumptions.iter().find(|(name, _)| name == what).map(|(_, fact)| fact.clone()).unwrap()
}

#[test]
fn typed_values_and_yaml_set_the_same() {
    let orca = SchedulerSpec::Orca(OrcaSpec { max_batch_size: 8 });
    let typed = experiment().set("fleet.replicas", 3).unwrap().set("scheduler", &orca).unwrap();
    let yaml = experiment().set_yaml("fleet.replicas", "3").set_yaml("scheduler", "{ orca: { max_batch_size: 8 } }");
    let hash = |experiment: &Experiment| experiment.study().unwrap().plan().plan_hash();
    assert_eq!(hash(&typed), hash(&yaml));
    assert_ne!(hash(&typed), hash(&experiment()));
    let duration = experiment().set("workload.limits.deadline", "30s").unwrap();
    assert_eq!(hash(&duration), hash(&experiment().set_yaml("workload.limits.deadline", "30s")));
}

#[test]
fn what_is_wrong_is_told_all_at_once() {
    let error = experiment().set("fleet.replicas", 0).unwrap().set("gpu", "h9000").unwrap().study().unwrap_err();
    let Error::Scenario(problems) = &error else { panic!("{error}") };
    assert_eq!(problems.list().len(), 2, "{error}");
    let missing = Experiment::load("no-such-scenario.yaml").unwrap_err();
    assert!(missing.is_input() && missing.to_string().contains("no-such-scenario.yaml"), "{missing}");
}

#[test]
fn rows_are_kept_if_asked_for_and_change_nothing() {
    let plain = run(&experiment());
    let kept = experiment().run(&Options { rows: true, ..Options::default() }).unwrap();
    assert!(plain.rows.is_none());
    let rows = kept.rows.as_ref().unwrap();
    assert_eq!(rows.requests.len(), 400);
    assert_eq!(rows.steps.iter().map(|step| step.steps).sum::<u64>(), kept.effort.steps);
    assert_eq!(kept.digest, plain.digest);
}

#[test]
fn jumps_and_audits_change_nothing() {
    let plain = run(&experiment());
    let slow = Options { step_by_step: true, audit: true, ..Options::default() };
    let slow = experiment().run(&slow).unwrap();
    assert_eq!(slow.digest, plain.digest);
    assert!(slow.effort.plans > plain.effort.plans);
}

#[test]
fn a_scheduler_of_ones_own_is_the_one_that_plans() {
    let orca = OrcaSpec { max_batch_size: 2 };
    let spec = SchedulerSpec::Orca(orca.clone());
    let named = run(&experiment().set("scheduler", &spec).unwrap());
    // The scenario's scheduler says the limits, the one from outside plans.
    let limits = SchedulerSpec::Orca(OrcaSpec::default());
    let own = experiment().set("scheduler", &limits).unwrap();
    let own = own.with_scheduler("small Orca", move |Place { seed, replica }| spec.build(seed, replica));
    let own = run(&own);
    assert_eq!(own.digest, named.digest);
    assert_ne!(own.digest, run(&experiment().set("scheduler", &limits).unwrap()).digest);
    assert!(fact(&own, "Scheduler").starts_with("small Orca, outside the scenario"));
}

/// Everything to the last replica.
#[derive(Debug)]
struct Last;

impl Router for Last {
    fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        fleet.len() - 1
    }
}

#[test]
fn a_router_of_ones_own_is_the_one_that_routes() {
    let own = experiment().with_router("last", |_| Box::new(Last));
    let outcome = own.run(&Options { rows: true, ..Options::default() }).unwrap();
    assert!(outcome.rows.as_ref().unwrap().requests.iter().all(|row| row.replica == 1));
    assert!(fact(&outcome, "Router").starts_with("last, outside"));
    let stale = own.set_yaml("fleet.router_view", "{ interval: 1s, delay: 10ms }");
    let stale = stale.run(&Options { rows: true, ..Options::default() }).unwrap();
    assert!(stale.rows.unwrap().requests.iter().all(|row| row.replica == 1), "also where its view is old");
}

#[test]
fn a_cost_model_of_ones_own_sets_the_prices() {
    let constant = StepCost { device: Cost::from_us(10_000.0), host: Cost::from_us(0.0) };
    let own = run(&experiment().with_cost("ten milliseconds", move |_| Box::new(Constant(constant))));
    let named = run(&experiment().set_yaml("engine.cost", "{ constant: { device: 10ms } }"));
    assert_eq!(own.digest, named.digest);
    assert!(fact(&own, "Step cost").starts_with("ten milliseconds"));
    assert!(own.calibration.contains("ten milliseconds") && !named.calibration.contains("outside"));
}

#[test]
fn policies_of_ones_own_run_in_every_point_of_a_study() {
    let own = experiment().with_router("last", |_| Box::new(Last)).vary("fleet.replicas", "2, 3");
    let outcome = own.study().unwrap().run(&Options { rows: true, ..Options::default() }, &|_| {}).unwrap();
    let last: Vec<u32> =
        outcome.points.iter().flatten().map(|point| point.rows.as_ref().unwrap().requests[0].replica).collect();
    assert_eq!(last, [1, 2]);
}

/// Conversations on a pool that is too small for all that they have said: cached blocks go all the time.
fn conversations() -> Experiment {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/data/mooncake/conversation_trace.jsonl.zst");
    let text = format!(
        "
version: 1
name: conversations
model: llama-3.1-8b
gpu: h100
workload: {{ trace: {{ path: {trace}, requests: 300 }} }}
"
    );
    Experiment::from_text("conversations", &text)
}

#[test]
fn an_eviction_policy_of_ones_own_is_the_one_that_chooses() {
    let own = |spec: EvictionSpec| {
        let make = move |Place { seed, .. }: Place, blocks| spec.build(blocks, seed);
        run(&conversations().with_eviction("mine", make))
    };
    let named = |name: &str| run(&conversations().set_yaml("engine.prefix_cache.eviction", name));
    let (fifo, lru) = (own(EvictionSpec::Fifo), own(EvictionSpec::Lru));
    assert_eq!(fifo.digest, named("fifo").digest);
    assert_eq!(lru.digest, run(&conversations()).digest, "its own list is vLLM's");
    assert_ne!(fifo.digest, lru.digest, "the pool is too large to tell them apart");
    assert!(fact(&fifo, "Eviction").starts_with("mine, outside the scenario"));
    assert!(fifo.summary.kv.is_some_and(|kv| kv.evicted > 0));
    assert!(fifo.effort.plans == fifo.effort.steps, "the time may matter to it: no jumps");
}

#[test]
fn an_eviction_policy_that_nothing_would_ask_is_refused() {
    let own = conversations().with_eviction("mine", |_, blocks| EvictionSpec::Lru.build(blocks, 0));
    for (scheduler, why) in [
        ("{ vllm: { enable_prefix_caching: false } }", "prefix caching is off"),
        ("{ sglang: { version: '0.5.23' } }", "a tree of runs"),
    ] {
        let Err(error) = own.clone().set_yaml("scheduler", scheduler).run(&Options::default()) else {
            panic!("{scheduler}")
        };
        assert!(error.is_input() && error.to_string().contains(why), "{error}");
    }
}
