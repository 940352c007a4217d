//! Replicas of several kinds: what a pool inherits, what it changes, how it reads back, and what is refused where.

use overbook_scenarios::export::serve_flags_of;
use overbook_scenarios::{Source, Study};
use overbook_sim::cost::StepShape;

use super::{LEAST, problems, study};

const TWO: &str =
    "{ pools: [{ replicas: 2 }, { replicas: 6, gpu: l4, weight: 3, engine: { weights: fp8, kv_tokens: 32768 } }] }";

fn with(fleet: &str) -> String {
    format!("{LEAST}fleet: {fleet}\nengine: {{ max_model_len: 8192 }}\n")
}

fn decode_ms(study: &Study) -> Vec<f64> {
    let shape = StepShape { decode_seqs: 8, decode_context: 8_000, prefill: &[], prefill_ends: 0 };
    let costs = study.points()[0].costs().unwrap();
    costs.into_iter().map(|mut cost| cost.step(&shape).device.as_ns_f64() / 1e6).collect()
}

/// Where a word of the fleet stands in the file: `6:column: `.
fn at(fleet: &str, word: &str) -> String {
    format!("6:{}: ", "fleet: ".len() + fleet.find(word).unwrap() + 1)
}

#[test]
fn a_pool_changes_what_it_says_and_inherits_the_rest() {
    let mixed = study(&with(TWO));
    let point = &mixed.points()[0];
    assert_eq!(point.scenario.fleet.replicas, 8);
    assert_eq!(point.pool_names(), ["2 × h200", "6 × l4 fp8"]);
    let spec = point.cluster().unwrap();
    let pools: Vec<_> = spec.pools.iter().map(|p| (p.replicas, p.weight, p.limits.max_model_len)).collect();
    assert_eq!(pools, [(2, 1, 8192), (6, 3, 8192)]);
    assert_eq!(spec.pools[1].limits.blocks, 32_768 / 16);
    // Each pool is what a fleet of its own would be.
    // What the smaller GPU's default is holds for both, which share a scheduler.
    let alone = |gpu: &str, engine: &str| {
        let limits = "scheduler: { vllm: { max_num_batched_tokens: 2048, max_num_seqs: 256 } }";
        study(&format!("{}engine: {{ max_model_len: 8192{engine} }}\n{limits}\n", LEAST.replace("h200", gpu)))
    };
    let (fast, slow) = (alone("h200", ""), alone("l4", ", weights: fp8"));
    assert_eq!(decode_ms(&mixed), [decode_ms(&fast)[0], decode_ms(&slow)[0]]);
    assert_eq!(spec.pools[0].limits, fast.points()[0].cluster().unwrap().limits);
    assert!(point.inferred_parts().contains(&"matrix multiplication"), "of the L4: {:?}", point.inferred_parts());
    assert!(!fast.points()[0].inferred_parts().contains(&"matrix multiplication"));
}

#[test]
fn what_is_written_out_reads_back() {
    for fleet in
        [TWO, "{ server: dgx-h200, pools: [{ replicas: 1, tensor_parallel: 2 }, { replicas: 3, server: dgx-a100 }] }"]
    {
        let text = with(fleet).replace(if fleet == TWO { "\0" } else { "gpu: h200\n" }, "");
        let first = study(&text);
        let yaml = first.points()[0].scenario.to_yaml();
        let second = study(&yaml);
        assert_eq!(first.points(), second.points(), "{yaml}");
        assert_eq!(first.plan_hash(), second.plan_hash());
        assert_eq!(yaml, second.points()[0].scenario.to_yaml());
    }
    let hash = |fleet: &str| study(&with(fleet)).plan_hash();
    assert_ne!(hash(TWO), hash(&TWO.replace("weight: 3", "weight: 4")));
    assert_ne!(hash(TWO), hash(&TWO.replace("gpu: l4", "gpu: l40s")));
}

#[test]
fn a_pool_that_names_a_server_takes_its_gpu_from_there() {
    let text = LEAST.replace("gpu: h200\n", "");
    let text =
        format!("{text}fleet: {{ pools: [{{ replicas: 1, server: dgx-a100 }}, {{ replicas: 1, gpu: l40s }}] }}\n");
    let study = study(&text);
    let kinds = study.points()[0].kinds();
    let placed: Vec<_> = kinds.iter().map(|kind| (kind.scenario.gpu.as_str(), kind.topology.is_some())).collect();
    assert_eq!(placed, [("a100-80", true), ("l40s", false)]);
}

#[test]
fn pools_are_set_and_swept_by_number() {
    let text = format!(
        "{}sweep: {{ axes: {{ fleet.pools.1.gpu: [l4, h100, l40s], fleet.pools.0.replicas: [1, 2] }} }}\n",
        with(TWO)
    );
    let names: Vec<_> = study(&text).points().iter().map(|point| point.pool_names().join(" + ")).collect();
    assert_eq!(names[0], "1 × h200 + 6 × l4 fp8");
    assert_eq!(names[5], "2 × h200 + 6 × l40s fp8");
    let mut source = Source::from_text("test.yaml", &with(TWO));
    source.set("fleet.pools.1.replicas", "1");
    assert_eq!(source.resolve().unwrap().points()[0].scenario.fleet.replicas, 3);
    source.set("fleet.pools.2.replicas", "1");
    let told = source.resolve().unwrap_err().to_string();
    assert!(told.contains("`fleet.pools` is a list of 2; it has no item `2`"), "{told}");
}

#[test]
fn prompts_on_one_pool_and_decodes_on_another() {
    let pools = "pools: [{ replicas: 2 }, { replicas: 2, gpu: a100-80, tensor_parallel: 2 }]";
    let study = study(&with(&format!("{{ {pools}, disaggregation: {{ prefill: 2, link: ethernet-100g }} }}")));
    let point = &study.points()[0];
    let apart = point.cluster().unwrap().controllers.disaggregation.unwrap();
    // A prompt's KV leaves one GPU whole, 128 KiB a token, though each of the two that take it in has half of it.
    let link = point.kv_link.as_ref().unwrap();
    assert_eq!(apart.prefill, 2);
    assert!((apart.per_token.as_ns_f64() - 131_072.0 / link.stream(1.0) * 1e9).abs() < 0.01);
    let refused = |fleet: &str, more: &str| problems(&format!("{LEAST}fleet: {fleet}\n{more}"));
    let nowhere =
        refused(&format!("{{ {pools}, disaggregation: {{ prefill: 2 }} }}"), "engine: { max_model_len: 8192 }\n");
    assert!(nowhere[0].contains("`disaggregation` between pools needs `link`"), "{nowhere:?}");
    let formats = "{ disaggregation: { prefill: 1, link: nvlink4 }, pools: [{ replicas: 1 }, { replicas: 1, engine: { kv: fp8 } }] }";
    let told = refused(formats, "");
    let wanted = format!("{}`kv` is not that of the first pool", at(formats, "fp8"));
    assert!(told[0].starts_with(&wanted), "{told:?}");
    let lengths =
        "{ pools: [{ replicas: 1 }, { replicas: 1, gpu: l4 }], disaggregation: { prefill: 1, link: nvlink4 } }";
    let lengths = refused(lengths, "engine: { max_model_len: auto }\n");
    assert!(lengths[0].contains("set `engine.max_model_len` to at most"), "{lengths:?}");
}

/// The one problem of a fleet, which must stand at the last such word of it.
#[track_caller]
fn refused_at(fleet: &str, word: &str, wanted: &str) {
    let told = problems(&with(fleet));
    assert_eq!(told.len(), 1, "{told:?}");
    let place = at(fleet, word);
    assert!(told[0].starts_with(&format!("{place}{wanted}")), "wanted {place}{wanted} in {told:?}");
}

#[test]
fn what_makes_no_sense_is_refused_at_its_place() {
    refused_at(
        "{ pools: [{ replicas: 2 }, { replicas: 6, gpu: l5 }] }",
        "l5",
        "no GPU is called `l5` (did you mean `l4`?)",
    );
    refused_at(
        "{ replicas: 4, pools: [{ replicas: 2 }] }",
        "4",
        "`replicas` is 4; the pools have 2 together, so leave it out",
    );
    let scaled = "{ pools: [{ replicas: 2 }], autoscale: { min: 1, start_up: 1s, target: { outstanding: 1 } } }";
    refused_at(scaled, "{ min", "`autoscale` is of replicas that are all alike");
    let rules = "autoscale: { min: 1, start_up: 1s, target: { outstanding: 1 } }";
    let many = format!("{{ pools: [{{ replicas: 2, {} }}] }}", rules.replace("min: 1", "min: 3"));
    refused_at(&many, "3,", "`min` is 3; it must be from 1 to 2");
    let both = format!(
        "{{ disaggregation: {{ prefill: 1, link: nvlink4 }}, pools: [{{ replicas: 2, {rules} }}, {{ replicas: 2 }}] }}"
    );
    refused_at(
        &both,
        "{ min",
        "`autoscale` is of replicas on both sides of `disaggregation`, whose first 1 compute prompts",
    );
    let weighed = "{ router: least-kv, pools: [{ replicas: 3, weight: 2 }] }";
    refused_at(weighed, "2 }", "`weight` has no effect: `least-kv`");
    refused_at("{ pools: [{ replicas: 1, weight: 0 }] }", "0 }", "`weight` is 0; it must be from 1");
    let own = "{ pools: [{ replicas: 1, engine: { gpu_memory_utilization: 2 } }] }";
    refused_at(own, "2 }", "`gpu_memory_utilization` is 2; it must be above 0 and at most 1");
    // A setting that two pools inherit is one problem, where it is stated.
    let inherited = "{ tensor_parallel: 65, pools: [{ replicas: 1 }, { replicas: 1 }] }";
    refused_at(inherited, "65", "`tensor_parallel` is 65; it must be from 1 to 64");
    let unknown = "{ pools: [{ replicas: 1, engine: { block_tokens: 32 } }] }";
    refused_at(unknown, "block_tokens", "unknown key `block_tokens`");
    let none = LEAST.replace("gpu: h200\n", "fleet: { pools: [{ replicas: 1 }, { replicas: 1, gpu: l4 }] }\n");
    assert_eq!(problems(&none).len(), 1);
    assert!(problems(&none)[0].contains("missing key `gpu`"));
}

/// What one kind holds another does not: every pool that does not is named.
#[test]
fn each_pool_is_checked_for_its_memory() {
    let fleet = "{ pools: [{ replicas: 1 }, { replicas: 2, gpu: l4 }, { replicas: 3, gpu: l40s }] }";
    let large = LEAST.replace("llama-3.1-8b", "llama-3.1-70b");
    let told = problems(&format!("{large}fleet: {fleet}\nengine: {{ weights: fp8 }}\n"));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with(&format!("{}pool 1: ", at(fleet, "{ replicas: 2"))), "{told:?}");
    assert!(told[1].starts_with(&format!("{}pool 2: ", at(fleet, "{ replicas: 3"))), "{told:?}");
    let told = problems(&format!("{LEAST}fleet: {fleet}\nengine: {{ max_model_len: 131072 }}\n"));
    let wanted = format!("{}pool 1: `max_model_len` is 131072", at(fleet, "{ replicas: 2"));
    assert!(told[0].starts_with(&wanted), "{told:?}");
}

#[test]
fn each_pool_scales_by_its_own_rules() {
    let rules = "autoscale: { min: 1, start_up: 1s, target: { outstanding: 8 } }";
    let fleet = format!(
        "{{ disaggregation: {{ prefill: 2, link: nvlink4 }}, pools: [{{ replicas: 2 }}, {{ replicas: 4, {rules} }}] }}"
    );
    let scaled = study(&with(&fleet));
    let point = &scaled.points()[0];
    let pools = point.cluster().unwrap().pools;
    assert!(pools[0].autoscale.is_none() && pools[1].autoscale.is_some_and(|auto| auto.min == 1));
    let again = study(&point.scenario.to_yaml());
    assert_eq!(again.points()[0].scenario, point.scenario);
}

#[test]
fn each_pool_has_its_commands() {
    let flags = serve_flags_of(&study(&with(TWO)).points()[0]);
    assert_eq!(flags.len(), 2);
    assert!(!flags[0].vllm.contains("fp8") && flags[1].vllm.contains("--quantization fp8"), "{flags:?}");
    assert!(flags[1].vllm.contains("--num-gpu-blocks-override 2048"), "{flags:?}");
    assert!(flags[1].notes.iter().any(|note| note.starts_with("6 replicas")), "{flags:?}");
}

#[test]
fn a_pool_may_have_every_setting_of_an_engine_but_the_block() {
    let fleet = "{ pools: [{ replicas: 1 }, { replicas: 1, engine: { version: '0.10', enforce_eager: true, frontend: { base: 9ms } } }] }";
    let both = study(&with(fleet));
    let point = &both.points()[0];
    let times = decode_ms(&both);
    assert!(times[1] > times[0], "eager steps take longer: {times:?}");
    let spec = point.cluster().unwrap();
    let bases: Vec<f64> = spec.pools.iter().map(|pool| pool.frontend.unwrap().base.as_millis_f64()).collect();
    assert_eq!(bases, [5.0, 9.0]);
    // The pools share a scheduler: it plans ahead if all versions do.
    let text = point.scenario.to_yaml();
    assert!(text.contains("async_scheduling: false"), "{text}");
    assert_eq!(study(&text).points()[0], *point);
    let newer = study(&with(&fleet.replace("0.10", "0.15")));
    assert!(newer.points()[0].scenario.to_yaml().contains("async_scheduling: true"));
}

#[test]
fn defaults_and_notes_that_are_one_pools_say_which() {
    let constant = "cost: { constant: { device: 1ms } }, kv_tokens: 32768, enforce_eager: true";
    let fleet = format!("{{ pools: [{{ replicas: 1 }}, {{ replicas: 1, engine: {{ {constant} }} }}] }}");
    let study = study(&with(&fleet));
    let assumed: Vec<&str> = study.points()[0].assumed.iter().map(|one| one.path.as_str()).collect();
    assert!(assumed.contains(&"fleet.pools.0.engine.host") && !assumed.contains(&"engine.host"), "{assumed:?}");
    let notes = study.notes().join("\n");
    assert!(notes.contains("pool 1: `engine.enforce_eager` changes nothing"), "{notes}");
}
