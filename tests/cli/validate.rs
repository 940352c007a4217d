//! `validate`: measured runs against simulated ones, here with a small folder made up, and with the published one where it is
//! at hand.

use std::path::Path;

use super::home::{Home, skip};

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
    let requests: Vec<String> = (0..30).map(|n| format!("{n},300,20,0.1")).collect();
    let requests = format!("arrival_s,prompt_tokens,output_tokens,ttft_s\n{}\n", requests.join("\n"));
    home.write("requests/listed.csv.zst", zstd::encode_all(requests.as_bytes(), 1).expect("packed"));
    home
}

#[test]
fn runs_are_simulated_compared_and_kept() {
    let home = home("6.5");
    let ran = home.overbook("validate --measured . --out v").ends(0);
    assert!(ran.out.starts_with("2 runs simulated, 1 not"), "{}", ran.out);
    assert!(ran.out.contains("1  the catalog has no GPU `Abacus` (odd)"), "{}", ran.out);
    assert_eq!(home.names("v"), ["scenarios", "validation.csv", "validation.html", "validation.json"]);
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
    let slower = bias(&home("6.5"), "--change engine.host.sampling=3ms");
    assert!(slower > right + 0.3, "{slower} and {right}");
}

#[test]
fn training_runs_are_told_apart() {
    let home = home("6.5");
    home.write("training.txt", "# fitted on\neven # this one\n");
    let out = home.overbook("validate --measured . --training training.txt").ends(0).out;
    assert!(out.contains("training runs") && out.contains("held-out runs"), "{out}");
    assert!(home.refused(["validate", "--measured", ".", "--training", "none.txt"]).contains("none.txt"));
    assert!(home.refused(["validate", "--measured", ".", "--set", "none"]).contains("no such runs"));
    assert!(home.refused(["validate", "--measured", "nowhere"]).contains("runs.csv"));
    assert!(home.refused(["validate", "--measured", ".", "--change", "engine"]).contains("PATH=VALUE"));
}

/// What VALIDATION.md says of the best described runs holds.
#[test]
fn the_published_runs_are_as_near_as_stated() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/bench/measured");
    if !folder.exists() {
        return skip("the_published_runs_are_as_near_as_stated", &format!("no {}", folder.display()));
    }
    let training = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/validation/training.txt");
    let home = Home::new();
    let (folder, training) = (folder.display(), training.display());
    let out = home.overbook(&format!("validate --measured {folder} --training {training} --json")).ends(0).out;
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let median = |group: &str, metric: &str| {
        let groups = json["groups"].as_array().expect("groups");
        let group = groups.iter().find(|one| one["name"] == group).unwrap_or_else(|| panic!("{group}"));
        let rows = group["errors"].as_array().expect("errors");
        let row = rows.iter().find(|row| row["metric"] == metric).unwrap_or_else(|| panic!("{metric}"));
        row["median"].as_f64().expect("a number")
    };
    for (group, metric, most) in [
        ("set mn5-h100", "output_throughput", 0.03),
        ("set mn5-h100", "tpot_mean", 0.02),
        ("set kubecon-inference-perf", "output_throughput", 0.03),
        ("set kubecon-inference-perf", "tpot_mean", 0.08),
        ("set vtc", "output_throughput", 0.04),
        ("set akamas-a10g", "itl_mean", 0.08),
        ("held-out runs", "itl_mean", 0.05),
    ] {
        assert!(median(group, metric) <= most, "{group}, {metric}: {}", median(group, metric));
    }
    assert!(json["runs"].as_array().map_or(0, Vec::len) >= 200);
}
