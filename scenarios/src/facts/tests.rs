#![allow(clippy::unwrap_used)]

use super::*;
use crate::source::Source;

const FIRST: &str = "
version: 1
name: facts
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { poisson: { rate: 5/s } }, lengths: { fixed: { prompt: 800, output: 200 } }, requests: 50 }
";

fn point(changes: &[(&str, &str)]) -> Point {
    let mut source = Source::from_text("facts", FIRST);
    for (path, value) in changes {
        source.set(path, value);
    }
    source.resolve().unwrap().points()[0].clone()
}

fn fact(point: &Point, what: &str) -> Option<String> {
    assumptions(point).unwrap().into_iter().find(|(name, _)| name == what).map(|(_, fact)| fact)
}

#[test]
fn the_main_facts_come_in_their_order() {
    let names: Vec<String> = assumptions(&point(&[])).unwrap().into_iter().map(|(name, _)| name).collect();
    let wanted = [
        "Model",
        "Fleet",
        "KV pool per replica",
        "Longest sequence",
        "Scheduler",
        "Workload",
        "Output lengths",
        "Step cost",
        "Seed",
        "Engine defaults",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn oracles_are_printed_as_such() {
    let told = |value: &str| fact(&point(&[("workload.max_new_tokens", value)]), "Output lengths").unwrap();
    assert!(told("true").starts_with("ORACLE"));
    assert!(told("context").starts_with("unknown to the scheduler"));
    assert_eq!(told("{ fixed: 64 }"), "cut to 64 tokens, which the scheduler knows");
    let sjf = point(&[("scheduler", "{ sjf: { lengths: oracle } }")]);
    assert!(fact(&sjf, "Predicted lengths").unwrap().starts_with("ORACLE"));
    assert_eq!(fact(&point(&[]), "Predicted lengths"), None);
}

#[test]
fn the_pool_says_where_it_comes_from() {
    let given = point(&[("engine.kv_tokens", "32768")]);
    assert_eq!(fact(&given, "KV pool per replica").unwrap(), "2048 blocks of 16 tokens = 32768 tokens (given)");
    assert!(fact(&point(&[]), "KV pool per replica").unwrap().contains("GiB usable per GPU less"));
}

#[test]
fn the_fleet_says_how_requests_reach_it() {
    let plain = point(&[("fleet.replicas", "3")]);
    assert_eq!(fact(&plain, "Fleet").unwrap(), "3 × 1 NVIDIA H100 80GB HBM3 (SXM), router round-robin");
    let stale = point(&[("fleet.replicas", "3"), ("fleet.router_view", "{ interval: 1s, delay: 50ms }")]);
    assert_eq!(
        fact(&stale, "Fleet").unwrap(),
        "3 × 1 NVIDIA H100 80GB HBM3 (SXM), router round-robin, which sees reports of every 1s, 50ms late"
    );
    let apart = point(&[
        ("fleet.replicas", "3"),
        ("fleet.server", "dgx-h100"),
        ("fleet.disaggregation", "{ prefill: 1, link: infiniband-ndr }"),
    ]);
    assert!(fact(&apart, "Fleet").unwrap().contains("1 compute prompts, 2 decode; KV over"), "{apart:?}");
}

#[test]
fn pools_that_differ_are_named() {
    let mixed = point(&[("fleet.pools", "[{ replicas: 2, gpu: h100 }, { replicas: 1, gpu: l40s, weight: 2 }]")]);
    let pool = fact(&mixed, "KV pool per replica").unwrap();
    assert!(pool.starts_with("2 × h100: ") && pool.contains("; 1 × l40s: "), "{pool}");
    assert_eq!(
        fact(&mixed, "Fleet").unwrap(),
        "2 × 1 NVIDIA H100 80GB HBM3 (SXM) + 1 × 1 NVIDIA L40S (weight 2), router round-robin"
    );
}

#[test]
fn a_point_of_a_sweep_begins_with_its_place() {
    let source = Source::from_text("facts", &format!("{FIRST}sweep: {{ axes: {{ fleet.replicas: [1, 2] }} }}\n"));
    let study = source.resolve().unwrap();
    let facts = assumptions(&study.points()[1]).unwrap();
    assert_eq!(facts[0], ("Point".to_owned(), "fleet.replicas = 2".to_owned()));
}

#[test]
fn calibration_says_what_the_costs_are_made_of() {
    let roofline = calibration(&point(&[]));
    assert!(roofline.contains("not calibrated on this machine; roofline from public kernel tables"), "{roofline}");
    let constant = point(&[("engine.cost", "{ constant: { device: 10ms } }")]);
    assert_eq!(calibration(&constant), "constant step cost, given by the scenario; no hardware is modelled");
}

#[test]
fn every_point_has_a_trust_of_its_own() {
    let told = |settings: &[(&str, &str)]| trust(&point(settings), None).to_string();
    assert!(told(&[("gpu", "h100")]).starts_with("validated: "), "{}", told(&[("gpu", "h100")]));
    assert_eq!(told(&[("gpu", "mi300x")]), "prior: no measured run of vllm on mi300x");
    assert!(told(&[("gpu", "h100"), ("fleet.tensor_parallel", "8")]).starts_with("extrapolated by 8 tensor_parallel"));
    let constant = told(&[("engine.cost", "{ constant: { device: 10ms } }")]);
    assert_eq!(constant, "prior: a constant step cost models no hardware");
}
