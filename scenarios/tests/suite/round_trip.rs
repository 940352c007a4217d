//! A resolved scenario is complete, and its text reads back as the same.

use super::{FULL, LEAST, study};
use overbook_scenarios::Source;

#[test]
fn resolved_text_reads_back() {
    for text in [FULL, LEAST] {
        let first = study(text);
        let yaml = first.points()[0].scenario.to_yaml();
        let second = study(&yaml);
        assert_eq!(first.points(), second.points(), "{yaml}");
        assert_eq!(first.plan_hash(), second.plan_hash());
        assert_eq!(yaml, second.points()[0].scenario.to_yaml());
    }
}

#[test]
fn every_kind_of_workload_reads_back() {
    let quantiles = "{ quantiles: { prompt: [[0, 10], [1, 20]], output: [[0, 1], [1, 9]] } }";
    let profile = "{ profile: { rates: [1/s, 90/min], window: 1h, shape: 0.5 } }";
    let text = LEAST.replace("burstgpt", quantiles).replace("{ poisson: { rate: 20/s } }", profile);
    let first = study(&text);
    assert_eq!(first.points(), study(&first.points()[0].scenario.to_yaml()).points());
}

#[test]
fn defaults_are_filled_in() {
    let yaml = study(LEAST).points()[0].scenario.to_yaml();
    for line in
        ["seed: 0", "  replicas: 1", "  router: round-robin", "  gpu_memory_utilization: 0.9", "  cost: roofline"]
    {
        assert!(yaml.lines().any(|found| found == line), "{line} in\n{yaml}");
    }
    assert!(yaml.contains("scheduler:\n  vllm:\n") && yaml.contains("    max_num_seqs: 1024\n"), "{yaml}");
}

#[test]
fn bare_names_and_oracles() {
    let a = study(&format!("{LEAST}scheduler: static\n"));
    let b = study(&format!("{LEAST}scheduler: {{ static: {{}} }}\n"));
    assert_eq!(a.points(), b.points());
    let oracle = study(&LEAST.replace("requests: 1000 }", "requests: 1000 }, max_new_tokens: true"));
    let scenario = &oracle.points()[0].scenario;
    assert_eq!(scenario.workload.max_new_tokens, overbook_scenarios::scenario::MaxNewTokens::True);
    assert_eq!(study(&scenario.to_yaml()).points(), oracle.points());
}

#[test]
fn set_changes_values_and_the_hash() {
    let mut source = Source::from_text("test.yaml", LEAST);
    let before = source.resolve().unwrap().plan_hash();
    source.set("fleet.replicas", "8");
    source.set("scheduler.vllm.max_num_seqs", "64");
    source.set("slo", "{ ttft_p99: 1s }");
    let study = source.resolve().unwrap();
    let scenario = &study.points()[0].scenario;
    assert_eq!(scenario.fleet.replicas, 8);
    assert_eq!(scenario.slo.bounds().len(), 1);
    assert_ne!(before, study.plan_hash());
}

#[test]
fn awkward_texts_survive() {
    let awkward =
        ["yes: no", "# not a comment", "- a", "1.5", "null", " spaced ", "line\nbreak", "\"quoted\" \\ 'x'", "é…"];
    for text in awkward {
        let mut source = Source::from_text("test.yaml", LEAST);
        source.set("description", &serde_json::Value::from(text).to_string());
        let first = source.resolve().unwrap();
        let scenario = &first.points()[0].scenario;
        assert_eq!(scenario.description.as_deref(), Some(text));
        assert_eq!(study(&scenario.to_yaml()).points()[0].scenario.description.as_deref(), Some(text));
    }
}

#[test]
fn paths_start_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), "x").unwrap();
    let text = "version: 1\nname: t\nworkload: { trace: { path: t.csv } }\nmodel: llama-3.1-8b\ngpu: h200\n";
    let file = folder.path().join("s.yaml");
    std::fs::write(&file, text).unwrap();
    let study = Source::load(&file).unwrap().resolve().unwrap();
    let point = &study.points()[0];
    assert_eq!(point.scenario.workload.trace.as_ref().unwrap().path, folder.path().join("t.csv"));
    // The hash knows the file's name, not where the folder is.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("t.csv"), "x").unwrap();
    let elsewhere = other.path().join("s.yaml");
    std::fs::write(&elsewhere, text).unwrap();
    assert_eq!(Source::load(&elsewhere).unwrap().resolve().unwrap().plan_hash(), study.plan_hash());
}
