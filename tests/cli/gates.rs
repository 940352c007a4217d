//! Promises and expectations: what is printed, and the exit code of `--gate`.

use std::fs;
use std::path::{Path, PathBuf};

use super::home::{Home, SMALL};

/// Steps of 10 ms whatever they hold: TPOT is 10 ms, TTFT under light load between 10 and 20 ms.
fn study(expect: &str) -> Home {
    let home = Home::new();
    let text = SMALL.replace("gpu: h200", "gpu: h200\nengine: { cost: { constant: { device: 10ms } } }");
    let sweep =
        "sweep:\n  axes: { fleet.replicas: [1, 2] }\n  zip: { seed: [1, 2], scheduler.vllm.max_num_seqs: [32, 64] }\n";
    home.write("study.yaml", format!("{text}{sweep}{}{expect}", if expect.is_empty() { "" } else { "expect:\n" }));
    home
}

const ALL_MET: &str = "\
- { metric: tpot_p50, at: { fleet.replicas: 1, seed: 1 }, value: 10ms, tolerance: 1%, source: by construction }
- { metric: tpot_p99, at: { fleet.replicas: 2, seed: 2 }, value: 10.1ms, tolerance: 0.2ms, source: by construction }
- { metric: ttft_p50, at: { fleet.replicas: 1, seed: 1 }, min: 10ms, max: 1s, source: by construction }
- { metric: tpot_p50, at: { fleet.replicas: 1, seed: 1 }, over: { at: { fleet.replicas: 2 } }, min: 0.99, max: 1.01, source: by construction }
";

#[test]
fn expectations_that_are_met() {
    let home = study(ALL_MET);
    let ran = home.overbook("run study.yaml --gate --out a").ends(0);
    assert_eq!(ran.out.matches("✓").count(), 4, "{}", ran.out);
    assert!(!ran.out.contains("✗"), "{}", ran.out);
    let line = "✓ tpot_p50 at fleet.replicas=1, seed=1: 10ms ± 1%, got 10.0000 ms (by construction)";
    assert!(ran.out.contains(line), "{}", ran.out);
    assert!(ran.out.contains("over tpot_p50 at fleet.replicas=2: 0.99 to 1.01, got 1.0000"), "{}", ran.out);
    // Every point of the product, the zipped pair as one axis.
    assert_eq!(home.text("a/study.csv").lines().count(), 1 + 4, "{}", home.text("a/study.csv"));
    assert!(home.bytes("a/points.parquet").starts_with(b"PAR1"), "all points in one table");
}

#[test]
fn expectations_that_are_missed() {
    let at = "at: { fleet.replicas: 1, seed: 1 }";
    for (missed, told) in [
        (
            format!("{{ metric: tpot_p50, {at}, value: 12ms, tolerance: 5%, source: S }}"),
            "12ms ± 5%, got 10.0000 ms (S)",
        ),
        (format!("{{ metric: tpot_p50, {at}, min: 11ms, source: S }}"), "≥ 11ms, got 10.0000 ms (S)"),
        (format!("{{ metric: tpot_p50, {at}, max: 9ms, source: S }}"), "≤ 9ms, got 10.0000 ms (S)"),
        (
            format!("{{ metric: tpot_p50, {at}, over: {{ at: {{ fleet.replicas: 2 }} }}, min: 1.5, source: S }}"),
            "≥ 1.5, got 1.0000 (S)",
        ),
    ] {
        let home = study(&format!("{ALL_MET}- {missed}\n"));
        let ran = home.overbook("run study.yaml --gate").ends(3);
        let line = ran.out.lines().find(|line| line.starts_with('✗')).expect("the verdict");
        assert!(line.contains("✗ tpot_p50 at fleet.replicas=1, seed=1") && line.contains(told), "{line}");
        assert_eq!(ran.out.matches("✓").count(), 4, "{}", ran.out);
        // Without --gate it is printed just the same, and is no failure.
        let told_only = home.overbook("run study.yaml").ends(0);
        assert_eq!(told_only.out, ran.out);
        // With --json the document stays alone on stdout.
        let json = home.overbook("run study.yaml --gate --json").ends(3);
        assert_eq!(json.json().as_array().map(Vec::len), Some(4));
        assert!(json.err.contains(line), "{}", json.err);
    }
}

#[test]
fn expectations_of_a_single_run() {
    let home = Home::new();
    let expect = |max: &str| format!("{SMALL}expect:\n- {{ metric: ttft_p99, max: {max}, source: S }}\n");
    home.write("met.yaml", expect("1h"));
    home.write("missed.yaml", expect("1ns"));
    assert!(home.overbook("run met.yaml --gate").ends(0).out.contains("✓ ttft_p99: ≤ 1h, got "));
    assert!(home.overbook("run missed.yaml --gate").ends(3).out.contains("✗ ttft_p99: ≤ 1ns, got "));
    let ran = home.overbook("run missed.yaml --gate --json").ends(3);
    assert!(ran.json().is_object() && ran.err.contains("✗ ttft_p99"), "{}", ran.err);
    home.overbook("run missed.yaml").ends(0);
}

#[test]
fn a_missed_promise() {
    let home = Home::small();
    let ran = home.overbook("run small.yaml --gate --set slo.ttft_p99=1ms --out a").ends(3);
    assert!(ran.out.contains("The target is missed\n  ✗ TTFT p99"), "{}", ran.out);
    assert_eq!(home.json("a/manifest.json")["exit_status"], 3);
    assert_eq!(home.json("a/manifest.json")["status"], "complete");
    home.overbook("run small.yaml --set slo.ttft_p99=1ms").ends(0);
    let ran = home.overbook("run small.yaml --gate --set slo.ttft_p99=1h").ends(0);
    assert!(ran.out.contains("The target is met"), "{}", ran.out);
}

#[test]
fn a_promise_that_a_point_misses_names_the_point() {
    let home = study("");
    let ran = home.overbook("run study.yaml --gate --set slo.ttft_p99=1ms").ends(3);
    let line = "✗ TTFT p99 at fleet.replicas=2, seed=1, scheduler.vllm.max_num_seqs=32: ≤ 1.00 ms, got ";
    assert!(ran.out.contains(line), "{}", ran.out);
    home.overbook("run study.yaml --set slo.ttft_p99=1ms").ends(0);
    home.overbook("run study.yaml --gate --set slo.ttft_p99=1h").ends(0);
    // Where figures are expected of a study they are its gate: that points miss a promise is what it looks for.
    let ran = study(ALL_MET).overbook("run study.yaml --gate --set slo.ttft_p99=1ms").ends(0);
    assert!(ran.out.contains(line), "{}", ran.out);
}

#[test]
fn a_run_without_figures_meets_nothing() {
    let home = Home::small();
    // Nothing fits, so there is no latency to be within its limit.
    home.overbook("run small.yaml --gate --set slo.ttft_p99=1h --set engine.kv_tokens=16").ends(3);
}

/// The scenarios of the repository, by folder.
fn scenarios(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(folder);
    let entries = fs::read_dir(folder).expect("a folder of scenarios");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn every_scenario_of_the_repository_is_valid() {
    let home = Home::new();
    for folder in ["examples", "bench", "repro"] {
        for file in scenarios(folder) {
            let ran = home.run(["check".as_ref(), file.as_os_str()]).ends(0);
            assert!(ran.out.contains(": valid, "), "{ran:?}");
        }
    }
}

#[test]
fn the_examples_run() {
    let home = Home::new();
    for file in scenarios("examples") {
        let text = fs::read_to_string(&file).expect("a scenario");
        let is_source = |source: &&str| text.contains(&format!("\n  {source}:"));
        let source = ["generate", "trace", "population"].into_iter().find(is_source).expect("a workload");
        let file = file.display().to_string();
        // A line of a trace of agents is a whole session.
        let few = if text.contains("claude-code") { "sessions.take=3" } else { "requests=2000" };
        let run = format!("run {file} --out a --force --set workload.{source}.{few}");
        assert!(home.overbook(&run).ends(0).out.contains("throughput"), "{file}");
    }
}

/// Questions that users of engines have asked in public: the answers have the published sign, and where the question is spoilt
/// the gate fails.
#[test]
fn users_questions_are_answered() {
    let home = Home::new();
    let asked = [
        ("fifth-long-prompt", "scheduler.vllm.max_num_batched_tokens=110000"),
        ("recompute-tax", "engine.block_tokens=400"),
        ("max-utilization", "engine.gpu_memory_utilization=0.95"),
        ("too-large", "gpu=h200"),
        ("retry-storm", "workload.limits.deadline=10min"),
        ("autoscale", "fleet.replicas=1"),
        ("mixed-gpus", "fleet.pools.1.gpu=h100"),
        ("prefix-routing", "workload.generate.sessions.max_prompt_tokens=1"),
    ];
    for (name, spoilt) in asked {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/examples/{name}.yaml"));
        let run = format!("run {} --gate --out a --force", file.display());
        home.overbook(&run).ends(0);
        home.overbook(&format!("{run} --set {spoilt}")).ends(3);
    }
}

/// A file in `scenarios/repro` states how its policy is replaced, in comments of the form `# replace: PATH=VALUE`. The
/// gate must pass as the file stands and fail with each of them.
#[test]
fn replacing_the_policy_fails_each_repro() {
    let home = Home::new();
    for file in scenarios("repro") {
        let name = file.display().to_string();
        let text = fs::read_to_string(&file).expect("a scenario");
        let replacements: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# replace: ")).collect();
        assert!(!replacements.is_empty(), "{name} does not say how to replace its policy");
        home.run(["run", &name, "--gate", "--out", "a", "--force"]).ends(0);
        for replacement in replacements {
            home.run(["run", &name, "--gate", "--out", "a", "--force", "--set", replacement]).ends(3);
        }
    }
}
