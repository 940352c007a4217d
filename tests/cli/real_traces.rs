//! Recorded traces.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::Compression;
use flate2::read::GzEncoder;
use overbook_test_groups::in_clone;

use super::home::Home;

const AZURE: &str = "azure/AzureLLMInferenceTrace_conv.csv.zst";

fn home(trace: &Path) -> Home {
    let home = Home::new();
    let scenario = format!(
        "version: 1\nname: real\nworkload: {{ trace: {{ path: {} }} }}\nmodel: llama-3.1-8b\ngpu: h200\n\
         fleet: {{ replicas: 2, router: least-outstanding }}\n",
        trace.display()
    );
    home.write("real.yaml", scenario);
    home
}

/// Runs the trace; all of its requests must finish.
fn finishes(trace: &Path, requests: u64) {
    let home = home(trace);
    home.overbook("run real.yaml --out a").ends(0);
    let outcomes = &home.json("a/summary.json")["outcomes"];
    let ended: u64 = outcomes.as_object().expect("outcomes").values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!((outcomes["finished"].as_u64(), ended), (Some(requests), requests), "{}", trace.display());
    assert_eq!(home.json("a/manifest.json")["trace_hash"].as_str().map(str::len), Some(64));
}

/// Rows of a BurstGPT file that have a prompt and an answer.
fn answered(trace: &Path) -> u64 {
    let text = fs::read_to_string(trace).expect("a trace");
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    let column = |name: &str| header.iter().position(|&column| column == name).expect("a column");
    let (prompt, answer) = (column("Request tokens"), column("Response tokens"));
    lines.filter(|row| row[prompt] != "0" && row[answer] != "0").count() as u64
}

#[test]
fn the_azure_conversation_hour() {
    finishes(&in_clone(AZURE), 19_366);
}

#[test]
fn the_burstgpt_slices() {
    for name in ["burstgpt_1_first400.csv", "burstgpt_3_first400.csv", "burstgpt_2_api_burst_excerpt.csv"] {
        let trace = in_clone(&format!("burstgpt/{name}"));
        let requests = answered(&trace);
        assert!(requests >= 50, "{name}: {requests}");
        finishes(&trace, requests);
    }
}

#[test]
fn packed_copies_give_the_same_results() {
    let bytes = zstd::decode_all(fs::File::open(in_clone(AZURE)).expect("a trace")).expect("unpacked");
    let mut gzip = Vec::new();
    GzEncoder::new(&bytes[..], Compression::fast()).read_to_end(&mut gzip).expect("packed");
    let scratch = Home::new();
    scratch.write("plain.csv", &bytes);
    scratch.write("copy.csv.zst", zstd::encode_all(&bytes[..], 3).expect("packed"));
    scratch.write("copy.csv.gz", gzip);
    let plain = home(&scratch.path("plain.csv"));
    let ran = plain.overbook("run real.yaml --out a").ends(0);
    for name in ["copy.csv.zst", "copy.csv.gz"] {
        let packed = home(&scratch.path(name));
        let again = packed.overbook("run real.yaml --out a").ends(0);
        assert_eq!(again.digest(), ran.digest(), "{name}");
        for file in ["requests.parquet", "steps.parquet"] {
            assert!(packed.bytes(&format!("a/{file}")) == plain.bytes(&format!("a/{file}")), "{name}: {file}");
        }
    }
}

#[test]
fn a_population_of_clients() {
    let (rates, lengths) = (in_clone("servegen/client_rates.csv.zst"), in_clone("servegen/length_pmfs.jsonl.zst"));
    let home = Home::new();
    let scenario = |missing: &str| {
        format!(
            "version: 1\nname: many\nworkload:\n  population:\n    rates: {}\n    lengths: {}\n    workload: m-small\n    \
             window: {{ from: 10h, to: 12h }}\n    rate: 20/s\n    classes: client\n    requests: 3000\n    {missing}\n\
             model: llama-3.1-8b\ngpu: h200\nfleet: {{ replicas: 2, router: least-outstanding }}\n",
            rates.display(),
            lengths.display()
        )
    };
    home.write("pool.yaml", scenario("missing_lengths: pool"));
    let ran = home.overbook("run pool.yaml --out a").ends(0);
    let summary = home.json("a/summary.json");
    assert_eq!(summary["completed"], 3000);
    let classes = summary["per_class"].as_array().expect("classes");
    let named = |class: &serde_json::Value| class["class"].as_str().is_some_and(|name| name.starts_with("m-small/"));
    assert!(classes.len() > 10 && classes.iter().all(named), "{classes:?}");
    assert_eq!(home.json("a/manifest.json")["trace_hash"].as_str().map(str::len), Some(64));
    assert_eq!(home.overbook("run pool.yaml --out b").ends(0).digest(), ran.digest());
    home.write("refused.yaml", scenario("missing_lengths: error"));
    let refused = home.overbook("run refused.yaml --out c").ends(2);
    assert!(refused.err.contains("no lengths for ") && refused.err.contains("missing_lengths"), "{}", refused.err);
    assert!(!home.path("c").exists());
    home.write("gone.yaml", scenario("missing_lengths: pool").replace("client_rates", "gone"));
    let gone = home.overbook("check gone.yaml").ends(2);
    assert!(gone.err.contains("gone.yaml:5:12") && gone.err.contains("there is no file"), "{}", gone.err);
}

#[test]
fn sessions_and_failures_reach_the_rows() {
    let trace = in_clone("burstgpt/burstgpt_3_first400.csv");
    let home = Home::new();
    home.write(
        "keep.yaml",
        format!(
            "version: 1\nname: keep\nworkload: {{ trace: {{ path: {}, failures: keep }} }}\nmodel: llama-3.1-8b\n\
             gpu: h200\nslo: {{ goodput: {{ ttft: 10s, share: 1 }} }}\n",
            trace.display()
        ),
    );
    let ran = home.overbook("run keep.yaml --out a --audit").ends(0);
    let summary = home.json("a/summary.json");
    assert_eq!(
        (summary["outcomes"]["finished"].as_u64(), summary["outcomes"]["failed-in-trace"].as_u64()),
        (Some(399), Some(1))
    );
    assert_eq!(summary["goodput_fraction"].as_f64(), Some(1.0));
    assert!(ran.out.contains("399 of 400 finished, 1 failed-in-trace"), "{}", ran.out);
    let stats = home.overbook("trace stats keep.yaml").ends(0);
    assert!(stats.out.contains("135 of mean 2.92 turns"), "{}", stats.out);
    // CSV has no columns for sessions and recorded times; failed requests have no tokens.
    let err = home.refused(["trace", "convert", "keep.yaml", "--out", "t.csv"]);
    assert!(err.contains("which CSV has no columns for"), "{err}");
    home.overbook("trace convert keep.yaml --out t.csv --drop sessions,elapsed").ends(0);
    assert_eq!(home.text("t.csv").lines().count(), 1 + 400);
    home.overbook("trace convert keep.yaml --out t.jsonl").ends(0);
    let again = home.overbook("run keep.yaml --set workload.trace.path=t.jsonl --out b").ends(0);
    assert_eq!(again.digest(), ran.digest());
}

#[test]
fn burstiness_is_told_before_and_after_scaling() {
    let home = home(&in_clone(AZURE));
    let path = "workload.trace.scale";
    home.overbook(&format!("run real.yaml --set {path}.multiply=2 --out a")).ends(0);
    let traffic = &home.json("a/summary.json")["traffic"];
    let figure = |when: &str, name: &str| traffic[when][name].as_f64().unwrap_or_else(|| panic!("{when} {name}"));
    // The figures that the data folder's README states, and twice of them.
    assert_eq!((figure("as_recorded", "requests"), figure("as_played", "requests")), (19_366.0, 38_732.0));
    assert!((figure("as_recorded", "mean_rate") - 5.53).abs() < 0.005);
    assert_eq!((figure("as_recorded", "peak_rate_1s"), figure("as_played", "peak_rate_1s")), (16.0, 32.0));
    assert!((figure("as_recorded", "peak_rate_1min") - 8.45).abs() < 0.005);
    for cell in ["1s", "1min"] {
        let [before, after] = ["as_recorded", "as_played"].map(|when| figure(when, &format!("dispersion_{cell}")));
        assert!((after / before - 2.0).abs() < 1e-6, "{before} {after}");
        let [before, after] = ["as_recorded", "as_played"].map(|when| figure(when, &format!("peak_over_mean_{cell}")));
        assert!((after / before - 1.0).abs() < 1e-3, "{before} {after}");
    }
    assert!(traffic["as_played"]["dispersion_1h"].is_null(), "the trace is shorter than two hours");
    let page = home.text("a/report.html");
    assert!(page.contains("As recorded") && page.contains("As played"));
    let stats = home.overbook(&format!("trace stats real.yaml --set {path}.multiply=2")).ends(0);
    let (before, after) = stats.out.split_once("as played\n").expect("two parts");
    assert!(before.contains("19366") && after.contains("38732") && after.contains("index of dispersion 1 h"));
    // As it is: once.
    home.overbook("run real.yaml --out b").ends(0);
    let traffic = &home.json("b/summary.json")["traffic"];
    assert!(traffic.get("as_recorded").is_none() && traffic["as_played"]["requests"] == 19_366);
    assert!(!home.overbook("trace stats real.yaml").ends(0).out.contains("as played"));
}
