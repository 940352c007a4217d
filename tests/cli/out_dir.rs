//! Where results go: never over something else, never half a result.

use std::fs;

use super::home::Home;

const FILES: [&str; 6] =
    ["manifest.json", "report.html", "requests.parquet", "scenario.resolved.yaml", "steps.parquet", "summary.json"];

#[test]
fn a_run_directory_is_whole() {
    let home = Home::small();
    home.overbook("run small.yaml --out deep/down/results").ends(0);
    assert_eq!(home.names("deep/down/results"), FILES);
    assert_eq!(home.names("deep/down"), ["results"]);
    assert_eq!(home.json("deep/down/results/manifest.json")["status"], "complete");
    assert_eq!(home.json("deep/down/results/summary.json")["status"], "complete");
    home.overbook("run small.yaml --out bare --no-rows --no-report").ends(0);
    assert_eq!(home.names("bare"), ["manifest.json", "scenario.resolved.yaml", "summary.json"]);
}

#[test]
fn an_existing_directory_is_left_alone() {
    let home = Home::small();
    home.overbook("run small.yaml --out results").ends(0);
    let before = home.bytes("results/manifest.json");
    let err = home.refused(["run", "small.yaml", "--out", "results"]);
    assert!(err.contains("results exists already; use --force to replace it, or --out DIR"), "{err}");
    assert_eq!(home.bytes("results/manifest.json"), before);
    assert_eq!(home.names("results"), FILES);
}

#[test]
fn force_replaces_run_directories_only() {
    let home = Home::small();
    home.overbook("run small.yaml --out results").ends(0);
    home.overbook("run small.yaml --out results --force --seed 7 --no-rows").ends(0);
    assert_eq!(home.names("").join(" "), "results small.yaml");
    assert!(!home.path("results/steps.parquet").exists(), "nothing of the old result is left");
    assert_eq!(home.json("results/manifest.json")["seed"], 7);

    fs::create_dir(home.path("thesis")).expect("a folder");
    home.write("thesis/chapter1.txt", "dear to me");
    for force in [&["--force"][..], &[]] {
        let err = home.refused([&["run", "small.yaml", "--out", "thesis"], force].concat());
        assert!(err.contains("thesis exists"), "{err}");
        assert_eq!(home.text("thesis/chapter1.txt"), "dear to me");
    }
}

#[test]
fn a_file_in_the_way() {
    let home = Home::small();
    home.write("taken", "a file");
    for args in [&["--out", "taken"][..], &["--out", "taken", "--force"], &["--out", "taken/below"]] {
        let err = home.refused([&["run", "small.yaml"], args].concat());
        assert!(err.contains("taken"), "{err}");
        assert_eq!(home.text("taken"), "a file");
    }
}

#[test]
fn places_that_are_no_directory_to_be() {
    let home = Home::small();
    for out in [".", "..", "/", "/dev/null", "/proc/nothing/here"] {
        for force in [&["--force"][..], &[]] {
            home.refused([&["run", "small.yaml", "--out", out], force].concat());
        }
    }
}

#[test]
fn without_out_the_directory_is_named_after_the_plan() {
    let home = Home::small();
    let ran = home.overbook("run small.yaml").ends(0);
    let [name] = &home.names("runs")[..] else { panic!("one directory") };
    assert!(name.starts_with("small-") && ran.out.contains(&format!("results: runs/{name}")), "{}", ran.out);
    // The same plan again replaces it; another plan stands beside it.
    home.overbook("run small.yaml").ends(0);
    home.overbook("run small.yaml --seed 1").ends(0);
    assert_eq!(home.names("runs").len(), 2);
}

#[test]
fn a_failure_in_mid_run_leaves_nothing() {
    let home = Home::new();
    let rows: Vec<_> = (0..5000).map(|second| format!("{second},20,2\n")).collect();
    let trace = format!("arrived_at,num_prefill_tokens,num_decode_tokens\n{}5000,20\n", rows.concat());
    home.write("trace.csv", trace);
    let scenario = "version: 1\nname: t\nworkload: { trace: { path: trace.csv } }\nmodel: llama-3.1-8b\ngpu: h200\n";
    home.write("t.yaml", scenario);
    let err = home.refused(["run", "t.yaml", "--out", "results"]);
    assert!(err.contains("trace.csv:5002: expected 3 fields"), "{err}");
    home.write("s.yaml", format!("{scenario}sweep: {{ axes: {{ seed: [1, 2] }} }}\n"));
    let err = home.refused(["run", "s.yaml", "--out", "results", "--quiet"]);
    assert!(err.contains("point 1 (seed=1)") && err.contains("trace.csv:5002"), "{err}");
}
