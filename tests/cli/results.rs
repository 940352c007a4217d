//! The same scenario gives the same bytes, however it is run.

use super::home::{Home, Ran, SMALL};

/// Two replicas under memory pressure: preemptions, cancellations, a random router.
const BUSY: &str = "\
version: 1
name: busy
workload:
  generate:
    arrivals: { gamma: { rate: 30/s, shape: 0.5 } }
    lengths: burstgpt-conversation
    requests: 1500
  limits: { cancel_after: 15s }
model: llama-3.1-8b
gpu: h200
fleet: { replicas: 2, router: random }
engine: { kv_tokens: 12000 }
scheduler: { vllm: { max_num_seqs: 64 } }
slo:
  ttft_p99: 1s
  goodput: { ttft: 1s, share: 0.9 }
";

const RESULTS: [&str; 5] =
    ["report.html", "requests.parquet", "scenario.resolved.yaml", "steps.parquet", "summary.json"];

fn busy() -> Home {
    let home = Home::new();
    home.write("busy.yaml", BUSY);
    home
}

fn same(home: &Home, a: &str, b: &str, files: &[&str]) {
    for file in files {
        assert!(home.bytes(&format!("{a}/{file}")) == home.bytes(&format!("{b}/{file}")), "{file} differs");
    }
}

/// Standard output without the line that names the directory.
fn figures(ran: &Ran) -> String {
    ran.out.lines().filter(|line| !line.starts_with("results: ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_same_scenario_gives_the_same_bytes() {
    let home = busy();
    let a = home.overbook("run busy.yaml --out runs/a").ends(0);
    let b = home.overbook("run busy.yaml --out other/a").ends(0);
    // The report names its directory, which is all that may differ.
    same(&home, "runs/a", "other/a", &RESULTS[1..]);
    let (page, other) = (home.text("runs/a/report.html"), home.text("other/a/report.html"));
    assert_eq!(page, other.replace("other/a", "runs/a"));
    assert_eq!(figures(&a), figures(&b));
    assert_eq!(a.digest(), b.digest());
    let summary = home.json("runs/a/summary.json");
    assert!(summary["preemptions"].as_f64() > Some(10.0), "the scenario is no longer hard: {summary}");
    assert!(summary["outcomes"]["cancelled"].as_u64() > Some(0), "{summary}");
    let c = home.overbook("run busy.yaml --out c --seed 1").ends(0);
    assert_ne!(a.digest(), c.digest(), "another seed, another run");
}

#[test]
fn results_have_no_wall_clock() {
    let home = busy();
    let ran = home.overbook("run busy.yaml --out a").ends(0);
    for text in [ran.out.clone(), home.text("a/summary.json"), home.text("a/report.html")] {
        for word in ["CPU s", "wall_s", "cpu_s", "\"started\"", "digest"] {
            assert!(!text.contains(word), "{word}");
        }
        let year = &home.json("a/manifest.json")["started"].as_str().expect("a date")[..8].to_owned();
        assert!(!text.contains(year.as_str()), "a date");
    }
    assert!(ran.err.contains("CPU s"), "timing is printed on stderr: {}", ran.err);
    assert!(home.overbook("run busy.yaml --out b --quiet").ends(0).err.is_empty());
}

#[test]
fn jumps_and_single_steps_agree() {
    let home = busy();
    let jumps = home.overbook("run busy.yaml --out jumps").ends(0);
    let steps = home.overbook("run busy.yaml --out steps --step-by-step").ends(0);
    assert_eq!(jumps.digest(), steps.digest());
    same(&home, "jumps", "steps", &["requests.parquet", "scenario.resolved.yaml"]);
    let (a, b) = (home.json("jumps/summary.json"), home.json("steps/summary.json"));
    let (a, b) = (a.as_object().expect("an object"), b.as_object().expect("an object"));
    // How the work was done may differ; what came of it may not.
    let effort = ["mean_jump", "plans", "segments"];
    for key in a.keys().filter(|key| !effort.contains(&key.as_str())) {
        assert_eq!(a[key], b[key], "{key}");
    }
    assert!(a["mean_jump"].as_f64() > b["mean_jump"].as_f64(), "there is something to jump over");
}

#[test]
fn audit_changes_no_result() {
    let home = busy();
    let plain = home.overbook("run busy.yaml --out a --set workload.generate.requests=200").ends(0);
    let audited = home.overbook("run busy.yaml --out b --set workload.generate.requests=200 --audit").ends(0);
    assert_eq!(plain.digest(), audited.digest());
}

#[test]
fn the_resolved_scenario_runs_to_the_same_results() {
    let home = busy();
    let first = home.overbook("run busy.yaml --out a --set fleet.replicas=3 --seed 5").ends(0);
    let again = home.overbook("run a/scenario.resolved.yaml --out b").ends(0);
    assert_eq!(first.digest(), again.digest());
    same(&home, "a", "b", &RESULTS[1..]);
    let plan = |run: &str| home.json(&format!("{run}/manifest.json"))["plan_hash"].clone();
    assert_eq!(plan("a"), plan("b"));
    assert_ne!(plan("a"), serde_json::Value::Null);
}

#[test]
fn any_number_of_threads_gives_the_same_study() {
    let home = busy();
    let sweep = "sweep:\n  axes: { fleet.replicas: [1, 2, 3] }\n  zip: { seed: [1, 2], scheduler.vllm.max_num_seqs: [32, 64] }\n";
    home.write("study.yaml", BUSY.replace("requests: 1500", "requests: 300") + sweep);
    let one = home.overbook("run study.yaml --out one --jobs 1").ends(0);
    let two = home.overbook("run study.yaml --out two --jobs 2").ends(0);
    assert_eq!(figures(&one), figures(&two));
    let files = home.names("one");
    assert_eq!(files.len(), 6 * 2 + 5, "{files:?}");
    assert_eq!(files, home.names("two"));
    let files: Vec<_> = files.iter().map(String::as_str).filter(|&name| name != "manifest.json").collect();
    same(&home, "one", "two", &files);
    let json = |jobs: &str| home.run(["run", "study.yaml", "--force", "--out", "one", "--json", "--jobs", jobs]).out;
    assert_eq!(json("1"), json("2"));
}

#[test]
fn json_is_the_summary() {
    let home = busy();
    let ran = home.overbook("run busy.yaml --out a --json").ends(0);
    assert_eq!(ran.out, home.text("a/summary.json"));
    assert_eq!(ran.json()["completed"], ran.json()["outcomes"]["finished"]);
    home.write("study.yaml", format!("{BUSY}sweep: {{ axes: {{ seed: [1, 2] }} }}\n"));
    let ran = home.overbook("run study.yaml --out b --json").ends(0);
    let points = ran.json();
    for (index, point) in points.as_array().expect("a list").iter().enumerate() {
        assert_eq!(point["coordinates"]["seed"], format!("{}", index + 1));
        assert_eq!(point["summary"], home.json(&format!("b/point-{index:04}.summary.json")));
    }
    assert_eq!(points.as_array().map(Vec::len), Some(2));
}

#[test]
fn rows_and_report_change_no_figure() {
    let home = busy();
    let with = home.overbook("run busy.yaml --out a").ends(0);
    let without = home.overbook("run busy.yaml --out b --no-rows --no-report --no-progress").ends(0);
    assert_eq!((figures(&with), with.digest()), (figures(&without), without.digest()));
    same(&home, "a", "b", &["summary.json"]);
}

/// `--open` needs a page and something that opens it, and says which of them is missing.
#[test]
fn a_page_is_opened_or_it_is_said_why_not() {
    let home = Home::new();
    home.write("small.yaml", SMALL);
    home.overbook("run small.yaml --out a --no-rows").ends(0);
    home.overbook("run small.yaml --out b --no-rows --no-report").ends(0);
    // An opener of our own, found first, writes down what it is given; without any there is a clear word.
    let opener = home.path("bin").join("xdg-open");
    std::fs::create_dir(home.path("bin")).expect("a folder");
    std::fs::write(&opener, "#!/bin/sh\nprintf %s \"$1\" > \"$(dirname \"$0\")/opened\"\n").expect("written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&opener, executable).expect("executable");
    let run = |path: &str, line: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_overbook"))
            .args(line.split(' '))
            .env("PATH", path)
            .current_dir(home.path("."))
            .output()
            .expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let with = format!("{}:/usr/bin:/bin", home.path("bin").display());
    assert_eq!(run(&with, "report a --open").0, Some(0));
    assert!(home.text("bin/opened").ends_with("/a/report.html"), "{}", home.text("bin/opened"));
    let (code, told) = run("/nowhere", "report a --open");
    assert!(code == Some(1) && told.contains("there is no xdg-open here; open file:///"), "{told}");
    let (code, told) = run(&with, "report b --open");
    assert!(code == Some(2) && told.contains("b/report.html is not there"), "{told}");
    let (code, told) = run(&with, "report a b --open");
    assert!(code == Some(2) && told.contains("needs --out FILE.html"), "{told}");
}
