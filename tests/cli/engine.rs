//! The real engine: runs, replays, calibration and comparison on the CPU, with the tiny preset.

use super::home::Home;

const TINY: &str = "\
version: 1
name: tiny
seed: 7
workload:
  generate:
    arrivals: { gamma: { rate: 100/s, shape: 0.5 } }
    lengths:
      independent:
        prompt: { log-normal: { median: 60, sigma: 0.9, max: 300 } }
        output: { log-normal: { median: 16, sigma: 0.7, max: 60 } }
    requests: 40
model: tiny
gpu: none
engine: { kv_tokens: 1024, max_model_len: 512, cost: { constant: { device: 2ms } } }
scheduler: { vllm: { max_num_seqs: 8, max_num_batched_tokens: 64 } }
";

#[test]
fn the_engines_own_models_are_the_catalogs() {
    let catalog = overbook_scenarios::catalog::Catalog::embedded();
    let mut seen = 0;
    for name in overbook_engine::Config::presets() {
        let config = overbook_engine::Config::preset(name).expect("a preset");
        let model = catalog.model(name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.difference(&model), None, "{name}");
        assert_eq!(config.tied, model.tied_embeddings, "{name}");
        assert_eq!(config.qk_norm(), model.qk_norm, "{name}");
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

fn home() -> Home {
    let home = Home::new();
    home.write("tiny.yaml", TINY);
    home
}

#[test]
fn a_run_for_real_leaves_a_run_directory() {
    let home = home();
    let ran = home.overbook("run tiny.yaml --on cpu --threads 1 --out r --set workload.temperature=0.5").ends(0);
    assert!(ran.out.contains("40 of 40 finished"), "{}", ran.out);
    assert!(ran.out.contains("measured, not simulated: CPU engine, 1 threads"), "{}", ran.out);
    assert_eq!(
        home.names("r"),
        ["manifest.json", "report.html", "requests.parquet", "scenario.resolved.yaml", "steps.parquet", "summary.json"]
    );
    let page = home.text("r/report.html");
    assert!(page.contains("40 requests, 0 differences, digests equal"), "the replay is reported");
    assert!(page.contains("Requests sent late by") && page.contains("at temperature 0.5"));
    let summary = home.json("r/summary.json");
    assert_eq!(summary["completed"].as_u64().or(summary["finished"].as_u64()), Some(40), "{summary}");
}

const SESSIONS: &str = "  generate:
    arrivals: { gamma: { rate: 40/s, shape: 0.5 } }
    lengths:
      independent:
        prompt: { log-normal: { median: 120, sigma: 0.5, max: 200 } }
        output: { log-normal: { median: 8, sigma: 0.7, max: 20 } }
    sessions:
      turns: { quantiles: [[0, 4], [1, 4]] }
      follow_up: { log-normal: { median: 20, sigma: 0.5, max: 60 } }
      think_median: 10ms
      think_sigma: 0.1
      shared_prefix_tokens: 16
      max_prompt_tokens: 400
    requests: 60
";

/// Conversations in place of requests that have nothing in common.
fn conversations() -> Home {
    let home = Home::new();
    let (before, rest) = TINY.split_once("  generate:").expect("a workload");
    let (_, after) = rest.split_once("model:").expect("a model");
    home.write("tier.yaml", format!("{before}{SESSIONS}model:{after}"));
    home
}

#[test]
fn a_run_for_real_keeps_blocks_in_the_hosts_memory() {
    let home = conversations();
    for write in ["through", "back"] {
        let tiers = format!("tiers: [{{ name: host, size: 8MiB, bandwidth: 2GB/s, write: {write} }}]");
        let cache = format!("engine.prefix_cache={{ eviction: lfu, {tiers}, bound: true }}");
        let on_cpu = ["run", "tier.yaml", "--on", "cpu", "--threads", "1", "--set", "engine.kv_tokens=512"];
        home.run(on_cpu.into_iter().chain(["--set", &cache, "--out", write])).ends(0);
        let summary = home.json(&format!("{write}/summary.json"));
        let kv = &summary["prefix_cache"];
        let tier = &kv["tiers"][0];
        for key in ["loaded_tokens", "written_tokens"] {
            assert!(tier[key].as_u64().is_some_and(|tokens| tokens > 0), "{write}: {key} in {summary}");
        }
        assert!(tier["link_busy_s"].as_f64().is_some_and(|busy| busy > 0.0), "measured: {summary}");
        assert!(kv["bound"]["asked_blocks"].as_u64().is_some_and(|blocks| blocks > 0), "{summary}");
        let page = home.text(&format!("{write}/report.html"));
        assert!(page.contains("60 requests, 0 differences, digests equal"), "the replay is reported");
        assert!(page.contains("KV copied to the host and back") && page.contains(" MB in "), "copies are reported");
    }
}

#[test]
fn a_store_that_the_engine_does_not_have_is_refused() {
    let home = conversations();
    let two = "{ name: a, size: 1MiB, bandwidth: 1GB/s }, { name: b, size: 1MiB, bandwidth: 1GB/s }";
    for (tiers, says) in [
        (two, "leave one in `engine.prefix_cache.tiers`"),
        ("{ name: far, size: 1MiB, bandwidth: 1GB/s, over_network: true }", "remove `over_network`"),
        ("{ name: huge, size: 60TB, bandwidth: 1GB/s }", "the host's tier takes"),
    ] {
        let change = format!("engine.prefix_cache={{ tiers: [{tiers}] }}");
        let told = home.run(["run", "tier.yaml", "--on", "cpu", "--set", &change, "--out", "r"]).ends(2).err;
        assert!(told.contains(says), "{change}: {told}");
    }
}

#[test]
fn the_replay_alone_finds_no_difference() {
    let home = home();
    let ran = home.overbook("validate tiny.yaml --on cpu --threads 1 --replay").ends(0);
    assert!(ran.out.contains("40 requests, 0 differences"), "{}", ran.out);
    assert!(ran.out.contains("says nothing of how well"), "{}", ran.out);
}

/// Budgets of slots: the engine evicts for real, and the simulator makes the same batches with the same blocks.
#[test]
fn requests_that_keep_only_some_tokens_are_replayed_without_a_difference() {
    let home = home();
    let whole = "scheduler={ vllm: { max_num_seqs: 16, max_num_batched_tokens: 96, enable_prefix_caching: false } }";
    for retention in [
        "{ policy: { trim-kv: {} }, budget: 24 }",
        "{ policy: { snap-kv: {} }, budget: 32, every: 7, prompt: at-end }",
        "{ policy: { h2o: {} }, budget: 16, output: keep }",
    ] {
        let kept = format!("engine.retention={retention}");
        let args =
            ["validate", "tiny.yaml", "--on", "cpu", "--threads", "1", "--replay", "--set", whole, "--set", &kept];
        let ran = home.run(args).ends(0);
        assert!(ran.out.contains("40 requests, 0 differences"), "{retention}: {}", ran.out);
    }
    let kept = "engine.retention={ policy: window, budget: 24 }";
    let ran = home.run(["run", "tiny.yaml", "--on", "cpu", "--set", whole, "--set", kept, "--out", "r"]).ends(0);
    assert!(ran.out.contains("requests lost tokens"), "{}", ran.out);
    let caching = home.run(["run", "tiny.yaml", "--on", "cpu", "--set", kept, "--out", "s"]).ends(2).err;
    assert!(caching.contains("set `enable_prefix_caching: false`"), "{caching}");
}

#[test]
fn steps_are_measured_and_price_the_scenario() {
    let home = home();
    let measured = home.overbook("calibrate tiny.yaml --on cpu --threads 1 --repeat-for 1ms --out p.yaml").ends(0);
    assert!(measured.out.contains("closed form, steps held out"), "{}", measured.out);
    assert_eq!(home.names("."), ["p.steps.parquet", "p.yaml", "tiny.yaml"]);
    let profile = home.text("p.yaml");
    for key in ["kind: measured", "blake3:", "repeats_percent:", "table:", "host:", "hull:"] {
        assert!(profile.contains(key), "{key} in {profile}");
    }
    for model in ["fitted", "table"] {
        let cost = format!("engine.cost={{ steps: {{ path: p.yaml, model: {model} }} }}");
        let ran = home.run(["run", "tiny.yaml", "--set", &cost, "--out", model]).ends(0);
        assert!(ran.out.contains("measured on overbook"), "{}", ran.out);
    }
    let compared = home
        .run([
            "validate",
            "tiny.yaml",
            "--on",
            "cpu",
            "--threads",
            "1",
            "--repeats",
            "2",
            "--out",
            "v",
            "--set",
            "engine.cost={ steps: { path: p.yaml } }",
        ])
        .ends(0);
    assert!(compared.out.contains("decode, on the device"), "{}", compared.out);
    assert!(compared.out.contains("machine: the profile's anchors took"), "{}", compared.out);
    let json = home.json("v/fidelity.json");
    assert_eq!(json["points"][0]["replay"]["differences"], 0);
    assert_eq!(json["points"][0]["figures"][0]["measured"].as_array().map(Vec::len), Some(2));
    let hash = json["calibrated"]["samples_blake3"].as_str().expect("a hash");
    assert!(profile.contains(hash), "the report names the steps that the profile was fitted to");
    // A profile stays unless it may be replaced.
    let again = home.overbook("calibrate tiny.yaml --on cpu --out p.yaml").ends(2);
    assert!(again.err.contains("--force"), "{}", again.err);
    let nowhere = home.overbook("calibrate tiny.yaml --on cpu --out no/such/p.yaml").ends(2);
    assert!(nowhere.err.contains("cannot write no/such/p.yaml"), "before minutes of measuring: {}", nowhere.err);
    // Steps that lie apart are simulated one by one.
    let cost = "engine.cost={ steps: { path: p.yaml, jitter: true } }";
    let apart = home.run(["run", "tiny.yaml", "--set", cost, "--out", "apart"]).ends(0);
    assert!(apart.err.contains("(1.0 steps per plan"), "{}", apart.err);
    // A profile of another engine, or one whose steps are not those that it names, judges nothing.
    let cost_of_p = "engine.cost={ steps: { path: p.yaml } }";
    let judge = |threads: &str| {
        home.run(["validate", "tiny.yaml", "--on", "cpu", "--threads", threads, "--set", cost_of_p]).ends(2).err
    };
    assert!(judge("2").contains("was measured with --threads 1, this is 2"), "{}", judge("2"));
    home.write("p.yaml", profile.replace("threads: 1", ""));
    assert!(judge("1").contains("does not say with how many compute threads"), "{}", judge("1"));
    home.write("p.yaml", &profile);
    let blocks = "engine.block_tokens=32";
    let other =
        home.run(["validate", "tiny.yaml", "--on", "cpu", "--threads", "1", "--set", cost_of_p, "--set", blocks]);
    assert!(other.ends(2).err.contains("was measured with engine.block_tokens: 16, this is 32"));
    home.write("p.steps.parquet", "other steps");
    assert!(judge("1").contains("not the steps that p was fitted to"), "{}", judge("1"));
    home.write("p.yaml", profile.split("jitter:").next().expect("a beginning"));
    let none = home.run(["run", "tiny.yaml", "--set", cost, "--out", "none"]).ends(2);
    assert!(none.err.contains("the profile has no `jitter`"), "{}", none.err);
}

#[test]
fn what_the_engine_cannot_do_is_refused_before_it_starts() {
    let home = home();
    for (change, says) in [
        ("fleet.replicas=2", "it has one replica"),
        ("model=llama-3-8b", "no preset `llama-3-8b`"),
        ("scheduler=semi-pd", "one lane"),
        ("engine.cost=roofline", "`gpu: none` says nothing of memory and speed"),
        ("workload.retry={ attempts: 2, backoff: 1s }", "its clients do not retry"),
        // More than any machine has: refused before it is asked for.
        ("engine.kv_tokens=34359738368", " bytes are available; set `engine.kv_tokens: "),
    ] {
        let told = home.refused(["run", "tiny.yaml", "--on", "cpu", "--set", change, "--out", "r"]);
        assert!(told.contains(says), "{change}: {told}");
    }
    for (flag, says) in [
        ("--audit", "--audit checks the laws of the simulation"),
        ("--step-by-step", "the real engine runs every step on its own"),
        ("--jobs=2", "--jobs is for the points of a study"),
    ] {
        let told = home.refused(["run", "tiny.yaml", "--on", "cpu", flag, "--out", "r"]);
        assert!(told.contains(says), "{flag}: {told}");
    }
    let compared = home.refused(["compare", "tiny.yaml", "--on", "cpu", "--over", "scheduler=vllm,orca"]);
    assert!(compared.contains("compare simulates"), "{compared}");
    let none = home.overbook("run tiny.yaml --on cpu --weights nowhere --out r").ends(2);
    assert!(none.err.contains("nowhere"), "{}", none.err);
    let study = home
        .run(["run", "tiny.yaml", "--on", "cpu", "--set", "sweep={ axes: { seed: [1, 2] } }", "--out", "r"])
        .ends(2);
    assert!(study.err.contains("this is a study of 2"), "{}", study.err);
}
