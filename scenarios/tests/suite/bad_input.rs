//! Every kind of mistake, with its place and its help.

use super::{FULL, LEAST, problems, resolve, study, told};
use overbook_scenarios::Source;

/// `LEAST` with one more line, which is line 6.
fn with(line: &str) -> Vec<String> {
    problems(&format!("{LEAST}{line}\n"))
}

#[test]
fn unknown_keys() {
    assert_eq!(with("fleet: { replcas: 2 }"), ["6:10: unknown key `replcas` (did you mean `replicas`?)"]);
    assert_eq!(with("fleat: {}"), ["6:1: unknown key `fleat` (did you mean `fleet`?)"]);
    assert_eq!(
        with("fleet: { gpus: 2 }"),
        [
            "6:10: unknown key `gpus` (expected one of `replicas`, `pools`, `tensor_parallel`, `pipeline`, `expert_parallel`, \
             `dp_attention`, `server`, `row`, `limiter`, `router`, `controllers`)"
        ]
    );
    assert_eq!(
        with("scheduler: { vllm: { max_nun_seqs: 2 } }"),
        ["6:22: unknown key `max_nun_seqs` (did you mean `max_num_seqs`?)"]
    );
}

#[test]
fn unknown_names() {
    assert_eq!(with("scheduler: vlm"), ["6:12: unknown name `vlm` (did you mean `vllm`?)"]);
    assert_eq!(with("scheduler: { vlm: {} }"), ["6:14: unknown name `vlm` (did you mean `vllm`?)"]);
    assert_eq!(
        with("fleet: { router: round_robin }"),
        ["6:18: unknown name `round_robin` (did you mean `round-robin`?)"]
    );
    let model = LEAST.replace("llama-3.1-8b", "lama-3.1-8b");
    assert_eq!(problems(&model), ["4:8: no model is called `lama-3.1-8b` (did you mean `llama-3.1-8b`?)"]);
    let gpu = LEAST.replace("gpu: h200", "gpu: tpu");
    let told = problems(&gpu);
    assert!(told[0].starts_with("5:6: no GPU is called `tpu` (expected one of `a100-40`, `a100-80`, "), "{told:?}");
    assert_eq!(told.len(), 1);
}

#[test]
fn units() {
    assert_eq!(with("slo: { ttft_p99: 2 }"), ["6:18: `2` needs a unit, e.g. 250ms"]);
    assert_eq!(with("slo: { ttft_p99: '2' }"), ["6:18: `2` needs a unit, e.g. 250ms"]);
    assert_eq!(
        with("slo: { ttft_p99: 2sec }"),
        ["6:18: unknown unit `sec` for a duration; expected one of ns, us, µs, ms, s, min, h, d"]
    );
    assert_eq!(with("slo: { ttft_p99: -2s }"), ["6:18: `-2s` is negative; a duration is not"]);
    let rate = LEAST.replace("20/s", "20");
    assert_eq!(problems(&rate), ["3:54: `20` needs a unit, e.g. 30/s"]);
}

#[test]
fn types() {
    assert_eq!(
        with("fleet: { replicas: many }"),
        ["6:20: expected a whole number from 0 to 4294967295, found text `many`"]
    );
    assert_eq!(with("fleet: { replicas: 1.5 }"), ["6:20: expected a whole number from 0 to 4294967295, found `1.5`"]);
    assert_eq!(with("fleet: { replicas: -1 }"), ["6:20: expected a whole number from 0 to 4294967295, found `-1`"]);
    assert_eq!(with("audit: yes"), ["6:8: expected true or false, found text `yes`"]);
    assert_eq!(with("fleet: [1, 2]"), ["6:8: expected a mapping of settings, found a list"]);
    assert_eq!(with("fleet:"), ["6:1: expected a mapping of settings, found nothing"]);
    assert_eq!(
        with("scheduler: { vllm: {}, static: {} }"),
        ["6:12: choose one: `vllm` and `static` cannot be used together"]
    );
    assert_eq!(with("fleet: { router: { random: 3 } }"), ["6:28: `random` takes no settings"]);
    let fixed = LEAST.replace("requests: 1000 }", "requests: 1000 }, max_new_tokens: fixed");
    assert_eq!(problems(&fixed), ["3:117: `fixed` needs a value: { fixed: … }"]);
}

#[test]
fn ranges() {
    assert_eq!(with("fleet: { replicas: 0 }"), ["6:20: `replicas` is 0; it must be from 1 to 4096"]);
    assert_eq!(
        with("engine: { gpu_memory_utilization: 1.1 }"),
        ["6:35: `gpu_memory_utilization` is 1.1; it must be above 0 and at most 1"]
    );
    assert_eq!(with("engine: { block_tokens: 513 }"), ["6:25: `block_tokens` is 513; it must be from 1 to 512"]);
    assert_eq!(with("scheduler: { vllm: { max_num_seqs: 0 } }"), ["6:36: `max_num_seqs` is 0; it must be at least 1"]);
    assert_eq!(with("slo: { goodput: {} }"), ["6:17: `goodput` promises nothing; set ttft, tpot, mtpot or e2el"]);
    assert_eq!(problems(&LEAST.replace("version: 1", "version: 2")), ["1:10: `version` is 2; this Overbook reads 1"]);
    assert!(problems(&LEAST.replace("name: least", "name: a/b"))[0].starts_with("2:7: `name` names a folder"));
    assert_eq!(
        with("fleet: { tensor_parallel: 5 }"),
        ["6:27: model Llama-3.1-8B: tensor_parallel 5 does not divide kv_heads (8)"]
    );
    assert_eq!(
        with("engine: { max_model_len: 200000 }"),
        ["6:26: `max_model_len` is 200000; Llama-3.1-8B was made for 131072 tokens at most"]
    );
}

#[test]
fn prefix_routing_needs_prefixes() {
    let told = with("fleet: { router: prefix-aware }");
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("6:18: `prefix-aware` routes by prefix, and this workload does not tell"), "{told:?}");
    assert!(told[0].ends_with("take `token-jsq` or `least-outstanding`, which need no prefixes"), "{told:?}");
    let sessions = LEAST.replace("lengths: burstgpt,", "lengths: burstgpt, sessions: {},");
    let with = |line: &str| problems(&format!("{sessions}{line}\n"));
    assert!(resolve(&format!("{sessions}fleet: {{ router: prefix-aware }}\n")).is_ok());
    let told = with("fleet: { router: prefix-aware }\nscheduler: orca");
    assert!(
        told[0].starts_with("6:18: `prefix-aware` routes to cached prefixes, and the scheduler keeps none"),
        "{told:?}"
    );
    assert_eq!(
        with("fleet: { router: { prefix-aware: { queue: -1 } }, router_view: { interval: 0s } }"),
        [
            "6:43: `queue` is -1; it must be a number from 0",
            "6:76: `interval` is 0; without `router_view` the router sees all live"
        ]
    );
}

#[test]
fn ranges_of_lightllms_router() {
    let told = |scheduler: &str| {
        let told = with(&format!("scheduler: {{ {scheduler} }}"));
        assert_eq!(told.len(), 1, "{told:?}");
        told[0].split_once(": ").unwrap().1.to_owned()
    };
    for (scheduler, problem) in [
        ("past-future: { lengths: { history: { window: 1 } } }", "`window` is 1; it must be from 2 to 1000000"),
        ("past-future: { lengths: { quantile: { quantile: 2 } } }", "`quantile` is 2; it must be from 0 to 1"),
        ("past-future: { lengths: { noisy-oracle: { sigma: -1 } } }", "`sigma` is -1; it must be from 0 to 10"),
        ("past-future: { reserved: 1 }", "`reserved` is 1; it must be at least 0 and below 1"),
        ("edf: { class_ttft: [1s, 0s] }", "`class_ttft` has a 0; every promise must be above 0"),
        ("edf: { batch: { max_num_seqs: 0 } }", "`max_num_seqs` is 0; it must be at least 1"),
        ("vtc: { fair_weights: [1, 0] }", "`fair_weights` must be from 0.001 to 1000 each"),
        ("sjf: { lengths: { history: { window: 1 } } }", "`window` is 1; it must be from 2 to 1000000"),
        ("ltr: { swap_space: 0B }", "`swap_space` is 0; `preemption_mode: swap` needs memory of the host"),
        ("fastserve: { quantum_ratio: 1 }", "`quantum_ratio` is 1; it must be from 2 to 100"),
        ("past-future: { maximum_lists: 0 }", "`maximum_lists` is 0; it must be from 1 to 1000"),
        ("past-future: { router_max_wait_tokens: 0 }", "`router_max_wait_tokens` is 0; it must be at least 1"),
        ("aggressive: { filled_max: 1.5 }", "`filled_max` is 1.5; it must be from 0 to 1"),
        ("aggressive: { max_admissions: 0 }", "`max_admissions` is 0; it must be at least 1"),
        ("conservative: { overcommit: 0.9 }", "`overcommit` is 0.9; it must be at least 1"),
        ("lightllm-main: { router_token_ratio: 2 }", "`router_token_ratio` is 2; it must be from 0 to 1"),
    ] {
        assert_eq!(told(scheduler), problem);
    }
    assert!(told("conservative: { batch_max_tokens: 100 }").contains("which must hold a whole sequence"));
}

#[test]
fn autoscalers() {
    let told = |auto: &str| with(&format!("fleet: {{ replicas: 3, autoscale: {{ {auto}, start_up: 1min }} }}"));
    assert_eq!(told("min: 4, target: { outstanding: 2 }"), ["6:41: `min` is 4; it must be from 1 to 3"]);
    assert_eq!(told("min: 1, target: { kv-use: 2 }"), ["6:62: `kv-use` is 2; it must be above 0 and at most 1"]);
    assert!(told("min: 1, target: { pods: 2 }")[0].contains("unknown name `pods`"));
    assert_eq!(told("min: 1, target: { queue-time: 0s }"), ["6:66: `queue-time` is 0; it must be above 0"]);
    assert!(
        told("min: 1, target: { waiting: 2 }, tolerance: 1")[0]
            .contains("`tolerance` is 1; it must be at least 0 and below 1")
    );
    let still = "min: 1, target: { waiting: 2 }, growth: { limited: { replicas: 0, percent: 0, per: 15s } }";
    assert!(told(still)[0].contains("adds nothing"), "{:?}", told(still));
    let least = told("min: 1, interval: 10us, target: { outstanding: 2 }");
    assert!(least.len() == 1 && least[0].ends_with("it must be at least 1ms"), "{least:?}");
    let least = with("fleet: { replicas: 2, router_view: { interval: 1ns } }");
    assert!(least.len() == 1 && least[0].ends_with("it must be at least 1ms"), "{least:?}");
}

/// What is valid can be run: no scenario is valid and describes no run.
#[test]
fn an_empty_gpu_is_no_gpu() {
    let told = problems(&LEAST.replace("gpu: h200", "gpu: \"\""));
    assert!(told.len() == 1 && told[0].contains("no GPU is called ``"), "{told:?}");
}

#[test]
fn failures_and_retries() {
    assert_eq!(
        with("fleet: { replicas: 2, failures: [{ at: 1s, replica: 2 }], faults: { mtbf: 0s, mttr: 1s } }"),
        ["6:53: `replica` is 2; there are 2 replicas, counted from 0", "6:75: `mtbf` is 0; it must be above 0"]
    );
    let retry =
        |retry: &str| problems(&LEAST.replace("requests: 1000 }", &format!("requests: 1000 }}, retry: {retry}")));
    assert_eq!(retry("{ attempts: 0 }"), ["3:120: `attempts` is 0; it must be from 1 to 1000"]);
    assert_eq!(retry("{ jitter: 2 }"), ["3:118: `jitter` is 2; it must be from 0 to 1"]);
    assert_eq!(retry("{ on: [] }"), ["3:114: `on` is empty; leave `retry` out if nothing is sent again"]);
    assert!(retry("{ on: [finished] }")[0].contains("unknown name `finished`"));
}

#[test]
fn hardware_that_cannot_run_it() {
    let big = LEAST.replace("llama-3.1-8b", "llama-3.1-70b");
    let told = problems(&big.replace("h200", "h100"));
    assert!(
        told[0].starts_with("4:8: Llama-3.1-70B (bf16, tensor_parallel 1) does not fit on NVIDIA H100"),
        "{told:?}"
    );
    assert!(told[0].contains("GiB") && told[0].contains("try tensor_parallel"), "{told:?}");
    let bits = format!("{}engine: {{ weights: {{ bits: 15.9 }} }}\n", big.replace("h200", "h100"));
    assert!(problems(&bits)[0].contains("try tensor_parallel "), "more GPUs help: {:?}", problems(&bits));
}

#[test]
fn lists_of_the_wrong_length() {
    let quantiles = "{ quantiles: { prompt: [[0, 10], [1, 20, 30]], output: [[0, 1], [1, 9]] } }";
    let told = problems(&LEAST.replace("lengths: burstgpt", &format!("lengths: {quantiles}")));
    assert_eq!(told, ["3:106: expected a list of 2, found 3 items"]);
}

#[test]
fn workload_is_one_of_two() {
    let none =
        LEAST.replace("generate: { arrivals: { poisson: { rate: 20/s } }, lengths: burstgpt, requests: 1000 }", "");
    assert!(problems(&none)[0].starts_with("3:11: `workload` needs `generate"), "{none}");
    let both = LEAST.replace("workload: {", "workload: { trace: { path: Cargo.toml },");
    assert!(problems(&both)[0].starts_with("3:11: `workload` has both"));
}

#[test]
fn missing_keys_all_at_once() {
    assert_eq!(
        problems("version: 1\n"),
        [
            "1:1: missing key `name`",
            "1:1: missing key `workload`",
            "1:1: missing key `model`",
            "1:1: missing key `gpu` (or name a server that has them: fleet: { server: dgx-h100 })"
        ]
    );
    assert_eq!(with("engine: { cost: { table: {} } }"), ["6:19: missing key `path`"]);
    assert_eq!(with("engine: { cost: table }"), ["6:17: missing key `path`"]);
}

#[test]
fn missing_files() {
    let text = LEAST.replace(
        "generate: { arrivals: { poisson: { rate: 20/s } }, lengths: burstgpt, requests: 1000 }",
        "trace: { path: no/such.csv }",
    );
    let told = problems(&text);
    assert!(told[0].starts_with("3:28: there is no file `") && told[0].ends_with("no/such.csv`"), "{told:?}");
    let error = Source::load(std::path::Path::new("no/such.yaml")).expect_err("no file");
    assert!(error.to_string().contains("cannot read the scenario `no/such.yaml`"), "{error}");
}

#[test]
fn yaml_itself() {
    assert_eq!(with("gpu: h100"), ["6:1: key `gpu` is given twice"]);
    assert_eq!(with("fleet: { replicas: 1, replicas: 2 }"), ["6:23: key `replicas` is given twice"]);
    assert_eq!(with("---\nversion: 1"), ["6:1: a scenario file holds one document; remove the second"]);
    assert_eq!(with("fleet: &f { replicas: 1 }"), ["6:8: anchors (`&name`) are not supported; write the value out"]);
    assert!(with("fleet: *f")[0].starts_with("6:8: "));
    assert!(with("seed: !!int 3")[0].contains("tags"));
    assert!(with("fleet:\n\treplicas: 2")[0].contains("tab"));
    assert!(with("fleet: { replicas: 2")[0].starts_with("7:1: not valid YAML"));
    assert!(with("? [a, b]\n: 1")[0].contains("key must be plain text"));
    assert!(problems("")[0].contains("a scenario is a mapping"));
    assert!(problems("- 1\n")[0].contains("a scenario is a mapping"));
    assert!(problems(&format!("a: {}", "[".repeat(100)))[0].contains("nested deeper"));
}

#[test]
fn several_at_once() {
    let text = FULL
        .replace("seed: 7", "sede: 7")
        .replace("rate: 20/s", "rate: 20")
        .replace("replicas: 4", "replicas: 0")
        .replace("weights: fp8", "weights: fp9")
        .replace("block_tokens: 16", "block_tokens: lots")
        .replace("model: llama-3.1-8b", "model: llama")
        .replace("tpot_p99: 50ms", "tpot_p99: 50");
    assert_eq!(
        problems(&text),
        [
            "4:1: unknown key `sede` (did you mean `seed`?)",
            "7:34: `20` needs a unit, e.g. 30/s",
            "14:8: no model is called `llama` (did you mean `llama-7b`?)",
            "16:20: `replicas` is 0; it must be from 1 to 4096",
            "18:12: unknown name `fp9` (did you mean `fp8`?)",
            "20:17: expected a whole number from 0 to 4294967295, found text `lots`",
            "27:32: `50` needs a unit, e.g. 250ms",
        ]
    );
}

#[test]
fn inline_models_keep_their_places() {
    let text = LEAST.replace("model: llama-3.1-8b", "model: { name: x, hidden: big, layrs: 2 }");
    let told = problems(&text);
    assert!(told.contains(&"4:27: expected a whole number from 0 to 4294967295, found text `big`".to_owned()));
    assert!(told.contains(&"4:32: unknown key `layrs` (did you mean `layers`?)".to_owned()), "{told:?}");
    assert!(told.contains(&"4:1: missing key `heads`".to_owned()), "{told:?}");
    assert!(!told.contains(&"4:1: missing key `hidden`".to_owned()), "{told:?}");
}

#[test]
fn set_is_checked_like_the_file() {
    let mut source = Source::from_text("test.yaml", LEAST);
    source.set("fleet.replicas", "many");
    source.set("fleet.replcas", "8");
    source.set("seed.x", "8");
    source.set("model.name", "8");
    source.set("gpu", "[1");
    let problems = source.resolve().expect_err("bad");
    let told = told(&problems);
    assert!(problems.list().iter().all(|d| d.file == "--set"), "{problems}");
    assert!(told.contains(&"1:16: expected a whole number from 0 to 4294967295, found text `many`".to_owned()));
    assert!(told.contains(&"1:1: unknown key `replcas` (did you mean `replicas`?)".to_owned()), "{told:?}");
    assert!(told.contains(&"1:1: `model` is `llama-3.1-8b` here, so nothing can be set below it".to_owned()));
    assert!(told.iter().any(|told| told.contains("not valid YAML")), "{told:?}");
}

#[test]
fn looks_like_cargo() {
    let problems = resolve(&format!("{LEAST}fleet: {{ replcas: 2 }}\n")).expect_err("bad");
    assert_eq!(
        problems.render(false),
        "error: unknown key `replcas`
 --> test.yaml:6:10
  |
6 | fleet: { replcas: 2 }
  |          ^^^^^^^
  |
  = help: did you mean `replicas`?"
    );
    assert!(problems.render(true).contains("\u{1b}["));
}

/// `0.10` is the number 0.1 to YAML.
#[test]
fn a_number_is_quoted_as_it_is_written() {
    let found = problems(&format!("{LEAST}engine: {{ version: 0.10 }}\n"));
    assert_eq!(
        found,
        ["6:20: expected a version in quotes, such as '0.14', found `0.10` (write it in quotes: '0.10')"]
    );
    let found = problems(&format!("{LEAST}engine: {{ version: 1 }}\n"));
    assert!(found[0].contains("found `1`"), "{found:?}");
    let found = problems(
        &format!("{LEAST}name2: 1\n").replace("name: least\nworkload", "name: 1e3\nworkload").replace("name2: 1\n", ""),
    );
    assert!(found[0].contains("found `1e3`"), "{found:?}");
}

/// `check` says what a run would: fixed lengths that no replica takes.
#[test]
fn fixed_lengths_that_no_replica_takes_are_said() {
    let notes = |lengths: &str| {
        let text = LEAST.replace("lengths: burstgpt", &format!("lengths: {lengths}"));
        study(&format!("{text}engine: {{ max_model_len: 4096 }}\n")).notes().join("\n")
    };
    let long = notes("{ fixed: { prompt: 4096, output: 1 } }");
    assert!(long.starts_with("all requests are rejected: their prompts have 4096 tokens"), "{long}");
    let cut = notes("{ fixed: { prompt: 4000, output: 97 } }");
    assert!(cut.starts_with("the answers to all requests are cut to 96 of 97 tokens"), "{cut}");
    assert_eq!(notes("{ fixed: { prompt: 4000, output: 96 } }"), "");
    let class = notes(
        "{ classes: [{ class: a, share: 1, prompt: { fixed: 5000 }, output: { fixed: 5 } }, { class: b, share: 1, prompt: { fixed: 50 }, output: { fixed: 5 } }] }",
    );
    assert!(class.contains("class `a` are rejected") && !class.contains("class `b`"), "{class}");
}
