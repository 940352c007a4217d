//! Servers, pipelines and spread experts in a scenario: what they give, cost, and refuse.

use overbook_scenarios::scenario::Scenario;
use overbook_sim::cost::{CostModel, StepShape};

use super::{LEAST, problems, study};

/// `LEAST` without a GPU, with that model and fleet.
fn placed(model: &str, fleet: &str) -> String {
    let text = LEAST.replace("gpu: h200\n", "").replace("llama-3.1-8b", model);
    format!("{text}fleet: {fleet}\n")
}

fn decode_ms(text: &str) -> f64 {
    let study = study(text);
    let mut cost = study.points()[0].cost().unwrap();
    let shape = StepShape { decode_seqs: 64, decode_context: 64_000, prefill: &[], prefill_ends: 0 };
    CostModel::step(&mut *cost, &shape).device.as_ns_f64() / 1e6
}

#[test]
fn a_server_gives_the_gpu() {
    let text = placed("llama-3.1-8b", "{ server: dgx-h100 }");
    let study = study(&text);
    let point = &study.points()[0];
    assert_eq!((point.scenario.gpu.as_str(), point.gpu.name.as_str()), ("h100", "NVIDIA H100 80GB HBM3 (SXM)"));
    let topology = point.topology.as_ref().unwrap();
    assert_eq!((topology.server.as_str(), topology.gpus), ("NVIDIA DGX H100", 8));
    assert_eq!(topology.network.as_ref().unwrap().1, 8);
    // What is written out reads back as the same plan.
    let written = point.scenario.to_yaml();
    assert!(written.contains("gpu: h100") && written.contains("server: dgx-h100"), "{written}");
    assert_eq!(super::study(&written).plan_hash(), study.plan_hash());
    // A server alone changes no cost of what fits into it.
    let alone = placed("llama-3.1-8b", "{}").replace("fleet", "gpu: h100\nfleet");
    assert!((decode_ms(&text) - decode_ms(&alone)).abs() < 1e-12);
    assert_ne!(super::study(&alone).plan_hash(), study.plan_hash());
}

#[test]
fn a_server_and_its_links_are_swept_like_anything_else() {
    let text = placed("llama-3.1-70b", "{ server: dgx-h100, tensor_parallel: 8 }");
    let study = study(&format!("{text}sweep: {{ axes: {{ fleet.server: [dgx-h100, dgx-h200, dgx-b200] }} }}\n"));
    let gpus: Vec<_> = study.points().iter().map(|point| point.scenario.gpu.as_str()).collect();
    assert_eq!(gpus, ["h100", "h200", "b200"]);
}

#[test]
fn prompts_and_decodes_apart() {
    let apart = |fleet: &str| placed("llama-3.1-8b", fleet);
    let study = study(&apart("{ server: dgx-h100, replicas: 4, disaggregation: { prefill: 1 } }"));
    let point = &study.points()[0];
    assert_eq!(point.kv_link.as_ref().unwrap().name, point.topology.as_ref().unwrap().inside.name);
    // 128 KiB a token over NVLink.
    let link = point.kv_link.as_ref().unwrap();
    let per_token = point.cluster().unwrap().controllers.disaggregation.unwrap().per_token.as_ns_f64();
    assert!((per_token - 131_072.0 / link.stream(1.0) * 1e9).abs() < 0.01, "{per_token}");
    // Seventeen GPUs are more than a server has: the KV crosses the network.
    let wide = super::study(&apart("{ server: dgx-h100, replicas: 17, disaggregation: { prefill: 1 } }"));
    let network = &wide.points()[0].topology.as_ref().unwrap().network.as_ref().unwrap().0;
    assert_eq!(wide.points()[0].kv_link.as_ref(), Some(network));
    assert_ne!(wide.plan_hash(), study.plan_hash());
}

#[test]
fn roles_that_make_no_sense_are_refused() {
    let told = |fleet: &str, more: &str| problems(&format!("{LEAST}fleet: {fleet}\n{more}"));
    let link = "link: nvlink4";
    let one = told(&format!("{{ replicas: 2, disaggregation: {{ prefill: 2, {link} }} }}"), "");
    assert!(one.iter().any(|line| line.contains("`prefill` is 2 of 2 replicas")), "{one:?}");
    let reserves = told(&format!("{{ replicas: 2, disaggregation: {{ prefill: 1, {link} }} }}"), "scheduler: orca\n");
    assert!(reserves.iter().any(|line| line.contains("admits by free blocks")), "{reserves:?}");
    let nowhere = told("{ replicas: 2, disaggregation: { prefill: 1 } }", "");
    assert!(nowhere.iter().any(|line| line.contains("needs `link`")), "{nowhere:?}");
    let unknown = told("{ replicas: 2, disaggregation: { prefill: 1, link: nvlink } }", "");
    assert!(unknown.iter().any(|line| line.contains("no link is called `nvlink`")), "{unknown:?}");
    let more = told("{}", "scheduler: { semi-pd: { partition: { static: { prefill: 0, decode: 120 } } } }\n");
    assert_eq!(more.len(), 2, "{more:?}");
}

#[test]
fn keys_that_stand_elsewhere_now_are_read_with_a_note() {
    let old = study(&format!(
        "{LEAST}fleet: {{ replicas: 2, autoscale: {{ min: 1, start_up: 1s, target: {{ outstanding: 1 }} }} }}\n"
    ));
    let rules = "controllers: { autoscale: { min: 1, start_up: 1s, target: { outstanding: 1 } } }";
    let new = study(&format!("{LEAST}fleet: {{ replicas: 2, {rules} }}\n"));
    assert_eq!(old.points()[0].scenario, new.points()[0].scenario);
    assert_eq!(
        old.notes(),
        ["test.yaml: `fleet.autoscale` is `fleet.controllers.autoscale` now; the old key is still read"]
    );
    assert!(new.notes().is_empty());
    // Changes and sweeps by the old path reach what stands at the new one; coordinates are as the user wrote them.
    let text = format!(
        "{LEAST}fleet: {{ replicas: 2, {rules} }}\nsweep: {{ axes: {{ fleet.autoscale.min: [1, 2] }} }}\n\
         expect: [{{ metric: finished, at: {{ fleet.controllers.autoscale.min: 1 }}, min: 1, source: counted }}]\n"
    );
    let mut source = overbook_scenarios::Source::from_text("test.yaml", &text);
    source.set("fleet.autoscale.interval", "7s");
    let swept = source.resolve().unwrap();
    let autoscale = swept.points()[1].scenario.fleet.controllers.autoscale.unwrap();
    assert_eq!((autoscale.min, autoscale.interval.to_string().as_str()), (2, "7s"));
    assert_eq!(swept.points()[1].coordinates[0].0, "fleet.autoscale.min");
    assert_eq!(swept.notes().len(), 2, "{:?}", swept.notes());
    // So do values of the whole fleet.
    let mut whole = overbook_scenarios::Source::from_text("test.yaml", LEAST);
    whole.set("fleet", "{ replicas: 2, faults: { mtbf: 5s, mttr: 1s } }");
    assert!(whole.resolve().unwrap().points()[0].scenario.fleet.controllers.faults.is_some());
    let named = "fleet: { a: { replicas: 2, faults: { mtbf: 5s, mttr: 1s } }, b: { replicas: 3 } }";
    assert_eq!(study(&format!("{LEAST}sweep: {{ axes: {{ {named} }} }}\n")).points().len(), 2);
    let twice = "fleet.faults.mtbf: [5s, 6s], fleet.controllers.faults.mtbf: [1s]";
    let told = problems(&format!("{LEAST}sweep: {{ axes: {{ {twice} }} }}\n"));
    assert!(told.iter().any(|line| line.contains("`fleet.controllers.faults.mtbf` is swept twice")), "{told:?}");
    let both = format!(
        "{LEAST}fleet: {{ replicas: 2, faults: {{ mtbf: 1d, mttr: 1h }}, controllers: {{ faults: {{ mtbf: 1d, mttr: 1h }} }} }}\n"
    );
    assert_eq!(
        problems(&both)[0],
        "6:23: `fleet.faults` and `fleet.controllers.faults` are the same setting; leave one of them out"
    );
}

#[test]
fn a_server_fails_with_all_replicas_on_it() {
    let fleet = "{ server: dgx-h100, replicas: 5, tensor_parallel: 4, failures: [{ at: 1s, server: 1 }, { at: 2s, replica: 4 }], \
                 faults: { mtbf: 1d, mttr: 1h, of: server } }";
    let study = study(&placed("llama-3.1-70b", fleet));
    let controllers = study.points()[0].cluster().unwrap().controllers;
    let failures: Vec<Vec<u32>> = controllers.failures.into_iter().map(|failure| failure.replicas).collect();
    assert_eq!(failures, [vec![2, 3], vec![4]]);
    assert_eq!(controllers.faults.unwrap().domains, [vec![0, 1], vec![2, 3], vec![4]]);
    let refused = |fleet: &str| problems(&placed("llama-3.1-8b", fleet));
    assert_eq!(
        refused("{ server: dgx-h100, replicas: 9, failures: [{ at: 1s, server: 2 }] }"),
        ["5:70: `server` is 2; the fleet fills 2 servers, counted from 0"]
    );
    let told = refused("{ server: dgx-h100, replicas: 9, failures: [{ at: 1s, server: 1, replica: 3 }] }");
    assert!(told[0].contains("names one of `replica` and `server`"), "{told:?}");
    let told = problems(&format!("{LEAST}fleet: {{ faults: {{ mtbf: 1d, mttr: 1h, of: server }} }}\n"));
    assert!(told[0].contains("`of: server` needs `fleet.server`"), "{told:?}");
}

#[test]
fn groups_over_servers_and_stages_cost_their_ways() {
    let of =
        |server: &str, fleet: &str| decode_ms(&placed("llama-3.1-405b", &format!("{{ server: {server}, {fleet} }}")));
    let stages = of("dgx-h100", "tensor_parallel: 8, pipeline: { stages: 2, steps_in_flight: 1 }");
    let group = of("dgx-h100", "tensor_parallel: 16");
    // Sixteen GPUs on half the weights each, against two times eight in turn; 253 all-reduces over the network.
    assert!(group < stages && group > 0.5 * stages, "{group} {stages}");
    // The same ports in name, with adapters that deliver less.
    assert!(of("aws-p6-b200.48xlarge", "tensor_parallel: 16") > of("dgx-b200", "tensor_parallel: 16"));
}

#[test]
fn experts_are_spread_by_the_scenario() {
    let of = |fleet: &str| {
        decode_ms(&placed("qwen3-235b-a22b", &format!("{{ server: dgx-h200, tensor_parallel: 8{fleet} }}")))
    };
    let (width, number) = (of(""), of(", expert_parallel: {}"));
    let skewed = of(", expert_parallel: { imbalance: 2 }");
    let exchanged = of(", expert_parallel: { exchange: all-to-all }");
    assert!((number - width).abs() > 1e-3 && skewed > number && (exchanged - number).abs() > 1e-3);
}

#[test]
fn what_cannot_be_placed_is_refused_at_its_place() {
    let refused = |model: &str, fleet: &str| problems(&placed(model, fleet));
    assert_eq!(
        refused("llama-3.1-8b", "{ server: dgx-h10 }"),
        ["5:18: no server is called `dgx-h10` (did you mean `dgx-h100`?)"]
    );
    assert_eq!(
        problems(&format!("{LEAST}fleet: {{ server: dgx-h100 }}\n")),
        ["5:6: `gpu` is h200, a NVIDIA DGX H100 has h100; leave one of them out"]
    );
    assert_eq!(
        refused("llama-3.1-405b", "{ server: hgx-h100, tensor_parallel: 16 }"),
        [
            "5:45: the replica does not fit into one HGX H100 board, 8 GPUs, and the catalog knows no network between several"
        ]
    );
    assert_eq!(
        refused("qwen2.5-7b", "{ server: dgx-h100, tensor_parallel: 7 }"),
        ["5:45: model Qwen2.5-7B: tensor_parallel 7 does not divide kv_heads (4)"]
    );
    let [told] = refused("llama-3.1-70b", "{ server: dgx-h100, tensor_parallel: 4, pipeline: { stages: 2 } }")
        .try_into()
        .unwrap();
    let told: String = told;
    assert!(told.starts_with("5:58: `pipeline` would keep 2 steps in flight") && told.contains("`steps_in_flight: 1`"));
    let told = refused("llama-3.1-70b", "{ server: dgx-h100, pipeline: { stages: 4, steps_in_flight: 2 } }");
    assert!(told[0].starts_with("5:68: `steps_in_flight` would keep 2 steps"), "{told:?}");
    assert_eq!(
        problems(&format!("{LEAST}fleet: {{ pipeline: {{ stages: 2, steps_in_flight: 1 }} }}\n")),
        ["6:20: a pipeline needs a `fleet.server`: it says which links the stages have between them"]
    );
    assert_eq!(
        refused("llama-3.1-8b", "{ server: dgx-h100, pipeline: { stages: 33, steps_in_flight: 1 } }"),
        ["5:48: model Llama-3.1-8B: its 32 layers do not make 33 pipeline stages"]
    );
    assert_eq!(
        refused("llama-3.1-8b", "{ server: dgx-h100, tensor_parallel: 2, expert_parallel: {} }"),
        ["5:65: model Llama-3.1-8B has no experts to spread over GPUs; leave out `expert_parallel`"]
    );
    assert_eq!(
        refused("qwen3-30b-a3b", "{ server: dgx-h100, expert_parallel: {} }"),
        ["5:45: `expert_parallel` needs `tensor_parallel` above 1: experts are spread over the GPUs of a group"]
    );
    assert_eq!(
        refused("qwen3-30b-a3b", "{ server: dgx-h100, tensor_parallel: 4, expert_parallel: { imbalance: 5 } }"),
        ["5:78: `imbalance` is 5; it must be from 1 to tensor_parallel (4)"]
    );
    assert_eq!(
        refused("qwen3-30b-a3b", "{ server: dgx-h100, tensor_parallel: 4, expert_parallel: { exchange: all2all } }"),
        ["5:77: unknown name `all2all` (expected one of `all-reduce`, `all-to-all`)"]
    );
    // Nothing in a scenario has a site yet.
    assert_eq!(refused("llama-3.1-8b", "{ server: dgx-h100, site: us-average }").len(), 1);
}

#[test]
fn commands_carry_the_layout() {
    let text = placed(
        "qwen3-235b-a22b",
        "{ server: dgx-h200, tensor_parallel: 8, expert_parallel: { exchange: all-to-all }, \
         pipeline: { stages: 2, steps_in_flight: 1 } }",
    );
    let study = study(&text);
    let scenario: &Scenario = &study.points()[0].scenario;
    let flags = overbook_scenarios::export::serve_flags(scenario);
    assert!(flags.vllm.contains("--tensor-parallel-size 8 --pipeline-parallel-size 2 --enable-expert-parallel"));
    assert!(flags.sglang.contains("--tp-size 8 --pp-size 2 --ep-size 8 --moe-a2a-backend deepep"));
    assert!(flags.notes.iter().any(|note| note.contains("as many steps in flight")), "{:?}", flags.notes);
    assert!(flags.notes.iter().any(|note| note.contains("data-parallel attention")), "{:?}", flags.notes);
}
