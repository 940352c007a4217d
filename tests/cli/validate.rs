//! `validate`: measured runs against simulated ones, here with a small folder made up, and with the published one where it is
//! at hand.

use std::path::Path;

use overbook_test_groups::{in_clone, whole, whole_files};
use serde_json::Value;

use super::home::Home;

const HEADER: &str = "run_id,set,engine,engine_version,model,weight_dtype,kv_dtype,gpu,kv_tokens,max_num_seqs,max_num_batched_tokens,\
arrival_process,rate_rps,n_requests,prompt_spec,output_spec,load_class,quality,has_requests,req_per_s,tpot_mean_ms,preemptions";

/// Two runs that can be simulated, one of them with its requests, and one that cannot.
fn home(tpot_ms: &str) -> Home {
    let home = Home::new();
    let common = "made,vllm,0.15.1,meta-llama/Llama-3.1-8B,bf16,bf16";
    let workload = "constant interval,4,40,exactly 200,\"50, ignore_eos\",low,A";
    let rows = [
        HEADER.to_owned(),
        format!("even,{common},H100 80GB,100000,64,2048,{workload},0,4,{tpot_ms},0"),
        format!("listed,{common},H100 80GB,100000,64,2048,{workload},1,4,{tpot_ms},0"),
        format!("odd,{common},Abacus,100000,64,2048,{workload},0,4,{tpot_ms},0"),
    ];
    home.write("runs.csv", rows.join("\n"));
    std::fs::create_dir(home.path("requests")).expect("a folder");
    let requests: Vec<String> = (0..30).map(|n| format!("{n},300,20,0.1,0.0065,0.2235")).collect();
    let requests = format!("arrival_s,prompt_tokens,output_tokens,ttft_s,tpot_s,e2e_s\n{}\n", requests.join("\n"));
    home.write("requests/listed.csv.zst", zstd::encode_all(requests.as_bytes(), 1).expect("packed"));
    home
}

#[test]
fn runs_are_simulated_compared_and_kept() {
    let home = home("6.5");
    let ran = home.overbook("validate --measured . --out v").ends(0);
    assert!(ran.out.starts_with("2 runs simulated, 1 not"), "{}", ran.out);
    assert!(ran.out.contains("1  the catalog has no GPU `Abacus` (odd)"), "{}", ran.out);
    assert_eq!(
        home.names("v"),
        [
            "constants.yaml",
            "errors.csv",
            "hull.yaml",
            "scenarios",
            "validation.csv",
            "validation.html",
            "validation.json",
            "validation.parquet"
        ]
    );
    let json = home.json("v/validation.json");
    let figures = |id: &str| {
        let runs = json["runs"].as_array().expect("runs");
        let run = runs.iter().find(|run| run["run"] == id).expect("the run");
        run["figures"].as_array().expect("figures").clone()
    };
    let named =
        |id: &str, metric: &str| figures(id).into_iter().find(|figure| figure["metric"] == metric).expect(metric);
    let simulated = named("even", "tpot_mean")["simulated"].as_f64().expect("a number");
    assert!(
        (named("even", "tpot_mean")["error"].as_f64().expect("an error") - (simulated / 0.0065 - 1.0)).abs() < 1e-9
    );
    assert!(named("even", "preemptions")["error"].is_null(), "nothing to be relative to");
    // The published requests count, not their description: 30 of them, one a second.
    let rate = named("listed", "request_throughput")["simulated"].as_f64().expect("a number");
    assert!((1.0..1.1).contains(&rate), "{rate}");
    // The scenario that was kept gives the same.
    home.overbook("run v/scenarios/even.yaml --out r --no-rows --no-report -q").ends(0);
    let tpot = home.json("r/summary.json")["mean_tpot_ms"].as_f64().expect("a number");
    assert!((tpot / 1e3 - simulated).abs() < 1e-9, "{tpot} ms and {simulated} s");
    let again = home.overbook("validate --measured . --json").ends(0);
    assert_eq!(
        again.out.replace("validate --measured .", ""),
        home.text("v/validation.json").replace("validate --measured .", "")
    );
}

#[test]
fn another_measurement_is_another_error_and_changes_show() {
    let bias = |home: &Home, args: &str| {
        let out = home.overbook(&format!("validate --measured . --run even --json {args}")).ends(0).out;
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let errors = json["groups"][0]["errors"].as_array().expect("errors").clone();
        let row = errors.into_iter().find(|row| row["metric"] == "tpot_mean").expect("a row");
        row["bias"].as_f64().expect("a number")
    };
    let (right, wrong) = (bias(&home("6.5"), ""), bias(&home("13.0"), ""));
    assert!((right - (2.0 * (wrong + 1.0) - 1.0)).abs() < 1e-9, "{right} and {wrong}");
    let slower = bias(&home("6.5"), "--set engine.host.sampling=3ms");
    assert!(slower > right + 0.3, "{slower} and {right}");
}

#[test]
fn training_runs_are_told_apart() {
    let home = home("6.5");
    home.write("training.txt", "# fitted on\neven # this one\n");
    let out = home.overbook("validate --measured . --training training.txt").ends(0).out;
    assert!(out.contains("training runs") && out.contains("held-out runs"), "{out}");
    home.write("part.txt", "listed first third\n");
    let json = home.overbook("validate --measured . --training part.txt --json").ends(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let runs = json["runs"].as_array().expect("runs");
    let training = |id: &str| runs.iter().find(|run| run["run"] == id).expect(id)["training"].as_bool();
    assert_eq!(training("listed"), Some(true));
    assert_eq!(training("listed, last two thirds"), Some(false));
    home.write("part.txt", "listed last half\n");
    assert!(home.refused(["validate", "--measured", ".", "--training", "part.txt"]).contains("`first third`"));
    assert!(home.refused(["validate", "--measured", ".", "--training", "none.txt"]).contains("none.txt"));
    assert!(home.refused(["validate", "--measured", ".", "--only", "none"]).contains("no such runs"));
    assert!(home.refused(["validate", "--measured", "nowhere"]).contains("runs.csv"));
    // `--set` means the same everywhere; it named sets of runs once.
    let err = home.refused(["validate", "--measured", ".", "--set", "engine"]);
    assert!(err.contains("PATH=VALUE") && err.contains("--only engine"), "{err}");
    let err = home.refused(["validate", "--measured", ".", "--set", "no.such.key=8"]);
    assert!(err.contains("unknown key `no`"), "{err}");
}

/// A change that some runs cannot have is not done as asked: the others are shown, and the exit code says so.
#[test]
fn runs_that_cannot_have_a_change_are_named_and_fail_the_command() {
    let home = home("6.5");
    let rows = home.text("runs.csv");
    let even = rows.lines().find(|line| line.starts_with("even,")).expect("a run");
    let small = even.replacen("even", "small", 1).replace(",100000,", ",50000,");
    home.write("runs.csv", format!("{rows}\n{small}"));
    home.overbook("validate --measured .").ends(0);
    let ran = home.overbook("validate --measured . --set engine.max_model_len=90000").ends(1);
    assert!(ran.out.starts_with("2 runs simulated, 2 not"), "{}", ran.out);
    assert!(
        ran.err.contains("1 of 4 runs cannot have what --set changes") && ran.err.contains(": small; "),
        "{}",
        ran.err
    );
    home.overbook("validate --measured . --run even --set engine.max_model_len=90000").ends(0);
    let alone = home.refused(["validate", "--measured", ".", "--run", "small", "--set", "engine.max_model_len=90000"]);
    assert!(alone.starts_with("error: `max_model_len` is 90000") && alone.contains("49984"), "{alone}");
}

/// The engine's host time is found again from a run that has it.
#[test]
fn constants_are_fitted_on_training_runs_alone() {
    let mut home = home("6.5");
    let rows = home.text("runs.csv").replace(",vllm,0.15.1,", ",vllm,0.11.0,");
    home.write("runs.csv", &rows);
    home.write("training.txt", "even\n");
    home.write("six.yaml", home_constants(&home, "host.vllm-sync.base_us", 3000.0));
    let json = home.overbook("validate --measured . --run even --constants six.yaml --json").ends(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let figures = json["runs"][0]["figures"].as_array().expect("figures");
    let tpot = figures.iter().find(|figure| figure["metric"] == "tpot_mean").expect("a figure")["simulated"].clone();
    home = self::home(&format!("{}", tpot.as_f64().expect("a number") * 1e3));
    home.write("runs.csv", home.text("runs.csv").replace(",vllm,0.15.1,", ",vllm,0.11.0,"));
    home.write("training.txt", "even\n");
    let out = home.overbook("validate --measured . --training training.txt --fit --out f").ends(0).out;
    assert!(out.contains("refitted without made"), "{out}");
    let fitted = |name: &str| -> f64 {
        let text = home.text("f/constants.yaml");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        line.expect(name).parse().expect("a number")
    };
    assert!((fitted("host.vllm-sync.base_us") / 3000.0 - 1.0).abs() < 0.1, "{}", fitted("host.vllm-sync.base_us"));
    assert!((fitted("host.s-lora.base_us") - 600.0).abs() < 1e-9, "no run has it");
    assert!(home.refused(["validate", "--measured", ".", "--fit"]).contains("--training"));
}

/// The constants of this version with one of them changed.
fn home_constants(home: &Home, name: &str, value: f64) -> String {
    home.overbook("validate --measured . --run even --out c -q").ends(0);
    let text = home.text("c/constants.yaml");
    let line = |line: &str| if line.starts_with(name) { format!("{name}: {value}") } else { line.to_owned() };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The errors of the runs of a folder, with those that constants were fitted on apart.
fn validated(folder: &Path) -> Value {
    let training = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/validation/training.txt");
    let (folder, training) = (folder.display(), training.display());
    Home::new().overbook(&format!("validate --measured {folder} --training {training} --json")).ends(0).json()
}

/// The median of the absolute errors of a group of runs.
fn median(json: &Value, group: &str, metric: &str) -> f64 {
    let groups = json["groups"].as_array().expect("groups");
    let group = groups.iter().find(|one| one["name"] == group).unwrap_or_else(|| panic!("{group}"));
    let rows = group["errors"].as_array().expect("errors");
    let row = rows.iter().find(|row| row["metric"] == metric).unwrap_or_else(|| panic!("{metric}"));
    row["median"].as_f64().expect("a number")
}

/// What docs/validation.md says of the runs of the clone holds.
#[test]
fn the_runs_of_the_clone_are_as_near_as_stated() {
    let json = validated(&in_clone("measured"));
    for (group, metric, most) in [
        ("set kubecon-inference-perf", "output_throughput", 0.03),
        ("set kubecon-inference-perf", "tpot_mean", 0.04),
        ("set kubecon-inference-perf", "ttft_mean", 0.06),
        ("set vtc", "output_throughput", 0.03),
    ] {
        let median = median(&json, group, metric);
        assert!(median <= most, "{group}, {metric}: {median}");
    }
    // Twenty runs, one of which is reported in two parts: what constants were fitted on, and the rest.
    assert_eq!(json["runs"].as_array().map(Vec::len), Some(21));
}

/// What docs/validation.md says of the best described runs holds.
fn the_published_runs_are_as_near_as_stated() {
    let json = validated(&whole("measured"));
    let median = |group: &str, metric: &str| median(&json, group, metric);
    for (group, metric, most) in [
        ("set mn5-h100", "output_throughput", 0.02),
        ("set mn5-h100", "tpot_mean", 0.04),
        ("set kubecon-inference-perf", "output_throughput", 0.03),
        ("set kubecon-inference-perf", "tpot_mean", 0.04),
        ("set kubecon-inference-perf", "ttft_mean", 0.06),
        ("set vtc", "output_throughput", 0.03),
        ("set akamas-a10g", "output_throughput", 0.05),
        ("set akamas-a10g", "itl_mean", 0.05),
        ("set akamas-a10g", "preemption_rate", 0.1),
        ("held-out runs", "itl_mean", 0.05),
    ] {
        assert!(median(group, metric) <= most, "{group}, {metric}: {}", median(group, metric));
    }
    assert!(json["runs"].as_array().map_or(0, Vec::len) >= 230);
    // The goals that docs/validation.md says are met: median of the completely described runs that nothing was fitted on.
    let complete = json["complete"]["errors"].as_array().expect("errors");
    for (metric, most) in
        [("output_throughput", 0.04), ("ttft_mean", 0.12), ("tpot_mean", 0.06), ("itl_mean", 0.06), ("e2el_mean", 0.06)]
    {
        let row = complete.iter().find(|row| row["metric"] == metric).unwrap_or_else(|| panic!("{metric}"));
        assert!(row["median"].as_f64().is_some_and(|median| median <= most), "{metric}: {row}");
    }
}

whole_files!(the_published_runs_are_as_near_as_stated);
