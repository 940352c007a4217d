//! Scenarios that are refused: exit code 2, every problem at its place with what may help, nothing left behind.

use super::home::{Home, SMALL};
use super::places::place;

/// Replaces `from` in the small scenario by `to`; the problem must be reported at `word` with all of `told`.
fn refuses(from: &str, to: &str, word: &str, told: &[&str]) {
    let home = Home::new();
    assert!(SMALL.contains(from), "{from}");
    let text = SMALL.replacen(from, to, 1);
    home.write("bad.yaml", &text);
    let at = text.find(word).expect("the word");
    let line = text.lines().nth(text[..at].matches('\n').count()).expect("the line of the word");
    for command in [&["run", "bad.yaml", "--out", "results"][..], &["run", "bad.yaml"], &["check", "bad.yaml"]] {
        let err = home.refused(command);
        let at = format!("--> {}\n", place("bad.yaml", &text, word));
        for wanted in [&at, line, "^"].into_iter().chain(told.iter().copied()) {
            assert!(err.contains(wanted), "`{wanted}` is not in:\n{err}");
        }
        assert_eq!(err.matches("-->").count(), 1, "one problem:\n{err}");
    }
}

#[test]
fn an_unknown_key() {
    refuses("replicas: 1", "replica: 1", "replica:", &["unknown key `replica`", "did you mean `replicas`?"]);
    refuses("gpu: h200", "gpu: h200\nworklod: {}", "worklod", &["unknown key `worklod`", "did you mean `workload`?"]);
}

#[test]
fn a_wrong_unit() {
    refuses("rate: 10/s", "rate: 10ms", "10ms", &["unknown unit `ms` for a rate", "/s, /min, /h"]);
    refuses("gpu: h200", "gpu: h200\nslo: { ttft_p99: 2/s }", "2/s", &["for a duration", "ms, s, min, h"]);
}

/// The broken value is reported, and not that it is missing.
#[test]
fn a_broken_value_has_no_follow_up() {
    refuses("requests: 300", "duration: 10m", "10m", &["unknown unit `m` for a duration"]);
    refuses("requests: 300", "requests: 10m", "10m", &["expected a whole number"]);
    refuses("rate: 10/s", "rate: 10m", "10m", &["for a rate"]);
}

/// What the requests lack is said at the setting that goes by it, before anything is run, and by `check` too.
#[test]
fn a_prefix_cache_without_contents() {
    let told = ["no request says what its blocks contain", "help: traces of Mooncake and of agents do"];
    refuses("gpu: h200", "gpu: h200\nengine: { prefix_cache: { eviction: arc } }", "{ eviction: arc }", &told);
}

#[test]
fn a_tier_of_less_than_a_block() {
    let tiers = "gpu: h200\nengine: { prefix_cache: { tiers: [{ name: host, size: 1kB }] } }";
    refuses("gpu: h200", tiers, "1kB", &["the tier `host` of 1kB holds no block", "give it at least"]);
}

/// A limiter that would do nothing but look, one without room, one of a GPU whose draw nobody knows.
#[test]
fn a_limiter_that_cannot_be() {
    let with = |limiter: &str| format!("fleet: {{ limiter: {limiter}, replicas: 1");
    refuses("fleet: { replicas: 1", &with("{ every: 1us }"), "1us", &["it must be from 1ms to 250ms"]);
    refuses("fleet: { replicas: 1", &with("{ limit: 100W }"), "100W", &["the GPU draws 126W with nothing to do"]);
}

/// It slows prompts down, and the figures say so.
#[test]
fn a_limiter_takes_clocks_down() {
    let home = Home::small();
    let plain = home.overbook("run small.yaml --json").ends(0).json();
    assert!(plain.get("limiter").is_none(), "{plain}");
    let held = home.run(["run", "small.yaml", "--json", "--set", "fleet.limiter={ limit: 250W }"]).ends(0).json();
    assert!(held["limiter"]["clock_mhz"].as_f64() < Some(1900.0), "{held}");
    assert!(held["limiter"]["limited"].as_f64() > Some(0.1), "{held}");
    assert!(held["mean_tpot_ms"].as_f64() > plain["mean_tpot_ms"].as_f64(), "{held}");
    let told = home.overbook("run small.yaml --set fleet.limiter={}").ends(0);
    assert!(told.out.contains("GPU power") && told.out.contains("W a GPU"), "{}", told.out);
}

#[test]
fn an_order_of_eviction_that_requests_give_nothing_to_go_by() {
    let row = |at: u32| {
        format!("{{\"timestamp\": {at}, \"input_length\": 600, \"output_length\": 9, \"hash_ids\": [{at}, 7]}}\n")
    };
    let home = Home::new();
    home.write("trace.jsonl", (0..9).map(row).collect::<String>());
    let scenario = |cache: &str, more: &str| {
        format!(
            "version: 1\nname: x\nworkload: {{ trace: {{ path: trace.jsonl }} }}\nmodel: llama-3.1-8b\ngpu: h200\nscheduler: vllm\n\
             engine: {{ prefix_cache: {cache} }}\n{more}"
        )
    };
    let tiered = "{ tiers: [{ name: a, size: 1GB }, { name: b, size: 1GB, bandwidth: 1GB/s, eviction: { sglang: { order: priority } } }] }";
    let swept = "sweep: { axes: { engine.prefix_cache.eviction: [lru, workload-aware] } }\n";
    for (text, word, told) in [
        (scenario("{ eviction: workload-aware }", ""), "workload-aware", "goes by classes and sessions of requests"),
        (scenario("{ eviction: lru }", swept), "workload-aware", "goes by classes and sessions of requests"),
        (scenario(tiered, ""), "{ sglang", "goes by priorities of requests, and all requests have the same"),
    ] {
        home.write("bad.yaml", &text);
        for command in ["run bad.yaml --out results", "check bad.yaml", "run bad.yaml --dry-run"] {
            let err = home.refused(command.split(' '));
            assert!(err.contains(&format!("--> {}\n", place("bad.yaml", &text, word))), "{command}: {err}");
            assert!(err.contains(told) && err.contains("help: give "), "{command}: {err}");
        }
        assert_eq!(home.names(""), ["bad.yaml", "trace.jsonl"]);
    }
}

#[test]
fn a_model_of_another_size_is_not_suggested() {
    let told = "did you mean `llama-2-70b`, `llama-3-70b`, `llama-3.1-70b` or `llama-3.3-70b`?";
    refuses("llama-3.1-8b", "llama-70b", "llama-70b", &["no model is called `llama-70b`", told]);
}

#[test]
fn a_missing_unit() {
    refuses("rate: 10/s", "rate: 10", "10 }", &["`10` needs a unit, e.g. 30/s"]);
    refuses("gpu: h200", "gpu: h200\nslo: { ttft_p99: 2 }", "2 }", &["`2` needs a unit"]);
}

#[test]
fn a_duplicate_key() {
    refuses("gpu: h200", "gpu: h200\nname: again", "name: again", &["key `name` is given twice"]);
}

#[test]
fn a_value_out_of_range() {
    refuses("replicas: 1", "replicas: 0", "0, router", &["`replicas` is 0; it must be from 1 to 4096"]);
    refuses("replicas: 1", "replicas: 4097", "4097", &["`replicas` is 4097"]);
    refuses("rate: 10/s", "rate: 0/s", "0/s", &["`rate` is 0/s; it must be above 0"]);
    refuses("rate: 10/s", "rate: -1/s", "-1/s", &["negative"]);
    refuses("rate: 10/s", "rate: 1e300/s", "1e300/s", &["`rate` is 1e300/s", "at most 1000000000/s"]);
    refuses("requests: 300", "requests: 0", "0\n", &["`requests` is 0"]);
    refuses("requests: 300", "duration: 0s", "0s", &["`duration` is 0"]);
    refuses("prompt: 200", "prompt: 0", "0, output", &["`prompt` is 0", "between 1 and 16777216 tokens"]);
    refuses("output: 50", "output: 99999999", "99999999", &["`output` is 99999999"]);
    refuses("gpu: h200", "gpu: h200\nslo: { ttft_p99: 0s }", "0s", &["`ttft_p99` is 0; it must be above 0"]);
}

#[test]
fn an_unknown_name() {
    refuses("vllm:", "vlm:", "vlm", &["unknown name `vlm`", "did you mean `vllm`?"]);
    refuses("round-robin", "round-robbin", "round-robbin", &["did you mean `round-robin`?"]);
    refuses("llama-3.1-8b", "lama-3.1-8b", "lama-", &["no model is called", "did you mean `llama-3.1-8b`?"]);
    refuses("h200", "H200", "H200", &["no GPU is called `H200`", "did you mean `h200`?"]);
}

#[test]
fn a_model_that_does_not_fit() {
    let sum = "weights 131.4 GiB + reserve 1.9 GiB + one KV block 5.0 MiB = 133.3 GiB > 0.90 x 139.8 GiB = 125.8 GiB";
    let told = ["Llama-3.1-70B (bf16, tensor_parallel 1) does not fit on NVIDIA H200", sum, "try tensor_parallel 2"];
    refuses("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-70b", &told);
}

#[test]
fn sequences_longer_than_the_pool() {
    let engine = "gpu: h200\nengine: { kv_tokens: 1000, max_model_len: 2000 }";
    let told = ["`max_model_len` is 2000 tokens, the KV pool of a replica holds 992", "lower max_model_len"];
    refuses("gpu: h200", engine, "2000", &told);
    refuses("gpu: h200", "gpu: h200\nengine: { max_model_len: 131073 }", "131073", &["made for 131072 tokens at most"]);
    refuses("gpu: h200", "gpu: h200\nengine: { kv_tokens: 15 }", "15 }", &["one block alone holds 16 tokens"]);
}

#[test]
fn whole_prompts_larger_than_a_step() {
    let told = ["`max_num_batched_tokens` of `vllm` is 4096; it computes a prompt in one step", "here 131072 tokens"];
    let vllm = "{ max_num_batched_tokens: 4096, enable_chunked_prefill: false }";
    refuses("{ max_num_seqs: 64 }", vllm, "4096", &told);
    let home = Home::small();
    let set = format!("scheduler.vllm={vllm}");
    home.run(["run", "small.yaml", "--set", &set, "--set", "engine.max_model_len=4096"]).ends(0);
}

#[test]
fn several_problems_are_told_at_once_in_order() {
    let home = Home::new();
    let text = SMALL.replace("rate: 10/s", "rate: 10").replace("gpu:", "gpv:").replace("replicas: 1", "replicas: 9999");
    home.write("bad.yaml", &text);
    let err = home.refused(["run", "bad.yaml"]);
    let places = ["10 }", "gpv", "9999"].map(|word| err.find(&place("bad.yaml", &text, word)));
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{places:?}\n{err}");
    assert!(err.contains("missing key `gpu`"), "{err}");
}

#[test]
fn a_missing_scenario() {
    let home = Home::new();
    let err = home.refused(["run", "nowhere.yaml"]);
    assert!(err.contains("cannot read the scenario `nowhere.yaml`: No such file"), "{err}");
    let err = home.refused(["run", "."]);
    assert!(err.contains("cannot read the scenario `.`"), "{err}");
}

#[test]
fn what_is_no_scenario() {
    let home = Home::new();
    home.write("latin1.yaml", b"version: 1\nname: caf\xe9\n");
    let err = home.refused(["run", "latin1.yaml"]);
    assert!(err.contains("latin1.yaml:2:10") && err.contains("not UTF-8 text"), "{err}");
    for (name, text) in [("empty.yaml", ""), ("null.yaml", "~\n"), ("list.yaml", "[1, 2]\n"), ("hash.yaml", "# x\n")] {
        home.write(name, text);
        let err = home.refused(["run", name]);
        assert!(err.contains("a scenario is a mapping that begins with `version: 1`"), "{err}");
    }
    home.write("broken.yaml", "version: 1\nname: { a\n");
    let err = home.refused(["run", "broken.yaml"]);
    assert!(err.contains("not valid YAML") && err.contains("broken.yaml:"), "{err}");
    home.write("two.yaml", format!("{SMALL}---\n{SMALL}"));
    assert!(home.refused(["run", "two.yaml"]).contains("one document"));
}

#[test]
fn a_wrong_set() {
    let home = Home::small();
    let set = |change: &str| home.refused(["run", "small.yaml", "--set", change]);
    let err = set("fleet.replicas");
    assert!(err.contains("--set fleet.replicas: expected PATH=VALUE, e.g. --set fleet.replicas=8"), "{err}");
    let err = set("fleet.replica=2");
    assert!(err.contains("unknown key `replica`") && err.contains("did you mean `replicas`?"), "{err}");
    assert!(err.contains("--> --set:1:1") && err.contains("1 | fleet.replica=2"), "{err}");
    let err = set("frobnicate=1");
    assert!(err.contains("unknown key `frobnicate`") && err.contains("expected one of"), "{err}");
    let err = set("fleet.replicas=two");
    assert!(err.contains("--set:1:16") && err.contains("found text `two`"), "{err}");
    assert!(set("=1").contains("is not a path"));
    assert!(set("fleet.replicas=").contains("found nothing"));
    assert!(set("fleet.replicas={").contains("not valid YAML"));
    assert!(set("model=nope").contains("--> --set:1:7"));
}

#[test]
fn a_broken_cost_table() {
    let home = Home::new();
    home.write("small.yaml", SMALL.replace("gpu: h200", "gpu: h200\nengine: { cost: { table: { path: t.yaml } } }"));
    let good = "\
decode:
  seqs: [1, 8]
  device_us:
    - [5000, 5500]
    - [6000, 8000]
  mean_context: [100, 1000]
prefill: { tokens: [16, 512], past: [0, 1000], device_us: [[5000, 5100], [12000, 13000]] }
";
    let err = home.refused(["run", "small.yaml"]);
    assert!(err.contains("there is no file `") && err.contains("t.yaml`") && err.contains("small.yaml:10:"), "{err}");
    // Each problem with its place in the file, counted from 1.
    for (from, to, told) in [
        ("5500", "x", "t.yaml:4:14"),
        ("prefill", "prefil", "did you mean `prefill`?"),
        ("5000, 5500", "5000", "t.yaml:4:7"),
        ("5000, 5500", "5000", "the row has 1 times, `mean_context` has 2 values"),
        ("    - [6000, 8000]\n", "", "t.yaml:4:5"),
        ("    - [6000, 8000]\n", "", "`device_us` has 1 rows, `seqs` has 2 values"),
        ("[1, 8]", "[8, 1]", "t.yaml:2:13"),
        ("[1, 8]", "[8, 1]", "`seqs` must ascend; 1 stands after 8"),
        ("[1, 8]", "[0, 8]", "`seqs` starts at 0; the least is 1"),
        ("[100, 1000]", "[100, 100]", "`mean_context` must ascend; 100 stands after 100"),
        ("past: [0, 1000]", "past: []", "`past` has 0 values"),
        ("8000", "-1", "t.yaml:5:14"),
        ("8000", "-1", "-1 is no step time [us]"),
        ("5500", ".nan", "NaN is no step time"),
    ] {
        home.write("t.yaml", good.replacen(from, to, 1));
        for command in ["run", "check"] {
            let err = home.refused([command, "small.yaml"]);
            assert!(err.contains("the cost table") && err.contains("t.yaml") && err.contains(told), "{told}\n{err}");
        }
    }
    home.write("t.yaml", good);
    home.overbook("run small.yaml").ends(0);
}

#[test]
fn flags_that_do_not_exist() {
    let home = Home::small();
    for args in [&["run"][..], &["run", "small.yaml", "--frob"], &["runn"], &["run", "small.yaml", "--jobs", "0"]] {
        assert!(home.refused(args).contains("--help"));
    }
}
