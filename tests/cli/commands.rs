//! The other commands, and `run --dry-run`.

use std::path::Path;

use super::home::{Home, SMALL};

#[test]
fn help_names_every_command_and_exit_code() {
    let home = Home::new();
    let help = home.overbook("--help").ends(0).out;
    for word in ["run", "check", "check-golden", "floor", "schema", "2 invalid input", "130 interrupted"] {
        assert!(help.contains(word), "{word}\n{help}");
    }
    for command in ["run", "check", "check-golden", "floor", "schema"] {
        let ran = home.overbook(&format!("{command} --help")).ends(0);
        assert!(ran.out.contains("Usage: overbook") && ran.err.is_empty(), "{}", ran.out);
    }
    assert!(home.overbook("--version").ends(0).out.starts_with("overbook 0."));
    assert!(home.overbook("").ends(2).err.contains("Usage"));
}

#[test]
fn the_schema_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/scenario.schema.json");
    let committed = std::fs::read_to_string(path).expect("the committed schema");
    let schema = Home::new().overbook("schema").ends(0);
    let same = schema.out.trim_end() == committed.trim_end();
    assert!(same, "the schema has changed: UPDATE_SCHEMA=1 cargo test -p overbook-scenarios schema");
    assert_eq!(schema.json()["title"], "Overbook scenario");
}

#[test]
fn check_reads_several_files_and_writes_none() {
    let home = Home::small();
    home.write("study.yaml", format!("{SMALL}sweep: {{ axes: {{ seed: [1, 2, 3] }} }}\n"));
    let ran = home.overbook("check small.yaml study.yaml").ends(0);
    let lines: Vec<_> = ran.out.lines().collect();
    assert!(lines[0].starts_with("small.yaml: valid, 1 run, plan "), "{lines:?}");
    assert!(lines[1].starts_with("study.yaml: valid, 3 runs, plan "), "{lines:?}");
    home.write("bad.yaml", SMALL.replace("h200", "h20"));
    let ran = home.overbook("check small.yaml bad.yaml nowhere.yaml study.yaml").ends(2);
    assert_eq!(ran.out.lines().count(), 2, "the good ones are still told: {}", ran.out);
    assert!(ran.err.contains("bad.yaml:") && ran.err.contains("nowhere.yaml"), "{}", ran.err);
    assert_eq!(home.names("").join(" "), "bad.yaml small.yaml study.yaml");
    home.overbook("check small.yaml --set fleet.replicas=9999").ends(2);
}

#[test]
fn a_dry_run_runs_nothing() {
    let home = Home::small();
    let ran = home.overbook("run small.yaml --dry-run --set fleet.replicas=3").ends(0);
    assert!(ran.out.starts_with("version: 1\nname: small\n") && ran.out.contains("replicas: 3"), "{}", ran.out);
    assert!(ran.err.contains("1 run; nothing was run (--dry-run)"), "{}", ran.err);
    assert!(ran.err.contains("300 requests, less than a second on this machine, below 1 MB on disk"), "{}", ran.err);
    assert_eq!(home.names(""), ["small.yaml"]);
    // What it prints is the resolved scenario.
    home.write("resolved.yaml", &ran.out);
    home.overbook("run resolved.yaml --out a").ends(0);
    assert_eq!(home.text("a/scenario.resolved.yaml"), ran.out);
}

#[test]
fn a_dry_run_of_a_study_prints_documents() {
    let home = Home::new();
    home.write("study.yaml", format!("{SMALL}sweep: {{ axes: {{ seed: [1, 2] }} }}\n"));
    let ran = home.overbook("run study.yaml --dry-run").ends(0);
    assert_eq!(ran.out.split("---\n").count(), 2, "YAML documents are separated: {}", ran.out);
    assert!(ran.err.contains("2 runs; nothing was run"), "{}", ran.err);
    assert!(ran.err.contains("600 requests"), "{}", ran.err);
}

#[test]
fn a_dry_run_of_something_long_says_how_long() {
    let home = Home::new();
    home.write("long.yaml", SMALL.replace("requests: 300", "requests: 400000000").replace("10/s", "100000/s"));
    let ran = home.overbook("run long.yaml --dry-run").ends(0);
    let line = ran.err.lines().find(|line| line.contains("on this machine")).expect("an estimate");
    assert!(line.starts_with("more than ") && line.contains("from the first "), "{line}");
    assert_eq!(home.names(""), ["long.yaml"]);
}

#[test]
fn the_floor_counts_the_workload() {
    let ran = Home::small().overbook("floor small.yaml").ends(0);
    assert_eq!(ran.out, "300 requests, 60000 prompt tokens, 15000 output tokens\n");
}

#[test]
fn sizes_from_one_to_many() {
    let home = Home::small();
    for set in [
        "fleet.replicas=4096",
        "engine.kv_tokens=256",
        "engine.kv_tokens=1099511627776",
        "workload.clients.count=1",
        "workload.clients.count=5000",
        "workload.limits.max_wait=0s",
        "workload.limits.cancel_after=1ns",
        "workload.limits.deadline=100ms",
        "workload.generate.requests=1",
        "workload.generate.arrivals.poisson.rate=1000000000/s",
        "workload.generate.arrivals.poisson.rate=1/h",
        "workload.max_new_tokens.fixed=1",
        "scheduler={static: {batch_size: 1}}",
        "scheduler.vllm.max_num_batched_tokens=1",
        "slo.ttft_p99=1ns",
        "audit=true",
        "seed=18446744073709551615",
        "engine.cost.constant.device=1ns",
    ] {
        let ran = home.run(["run", "small.yaml", "--out", "a", "--force", "--set", set]);
        assert_eq!(ran.code, 0, "{set}: {ran:?}");
        let outcomes = &home.json("a/summary.json")["outcomes"];
        let ended: u64 = outcomes.as_object().expect("outcomes").values().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(ended, if set.contains("requests=1") { 1 } else { 300 }, "{set}");
    }
}

#[test]
fn colour_only_on_request() {
    let home = Home::new();
    home.write("bad.yaml", SMALL.replace("h200", "h20"));
    assert!(!home.overbook("check bad.yaml").err.contains('\x1b'));
    assert!(home.overbook("check bad.yaml --color always").err.contains('\x1b'));
    home.write("small.yaml", SMALL);
    assert!(!home.overbook("run small.yaml").out.contains('\x1b'));
    assert!(home.overbook("run small.yaml --color always").out.contains('\x1b'));
}
