//! `overbook plan`: the answer, its files, what it refuses, and what Ctrl-C leaves.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::home::{Home, Ran, SMALL};

/// The small scenario with promises, at a load that takes several replicas.
fn promising(home: &Home, more: &str) {
    let text = SMALL.replace("rate: 10/s", "rate: 120/s").replace("requests: 300", "requests: 1500");
    home.write("small.yaml", text + "slo: { ttft_p99: 150ms, tpot_p99: 12ms }\n" + more);
}

const PLAN: &str = "plan small.yaml --price 2.5/gpu-h --tensor-parallel 1,2 --set plan.gpus_most=24 --set plan.seeds=2";

#[test]
fn a_plan_answers_and_leaves_what_starts_the_answer() {
    let home = Home::new();
    promising(&home, "");
    let ran = home.overbook(&format!("{PLAN} --growth 1,2 --out p")).ends(0);
    assert!(
        ran.out.contains(" × h200 (") && ran.out.contains("a month") && ran.out.contains("keep the promises"),
        "{}",
        ran.out
    );
    assert_eq!(
        home.names("p").join(" "),
        "answer.yaml kubernetes.yaml ledger.csv ledger.parquet load.csv manifest.json plan.json plan.md report.html"
    );
    let plan = home.json("p/plan.json");
    let gpus = plan["answer"]["gpus"].as_u64().expect("GPUs");
    assert_eq!(plan["answer"]["usd_per_month"].as_f64(), Some(gpus as f64 * 2.5 * 730.0));
    assert!(ran.out.starts_with(&format!("{gpus} × h200")), "{}", ran.out);
    assert!(plan["growth"][1]["gpus"].as_u64() > Some(gpus));
    // The answer is a scenario that runs, and keeps what was promised.
    home.overbook("run p/answer.yaml --gate --out again --no-report --no-rows").ends(0);
    let ledger = home.text("p/ledger.csv");
    assert!(ledger.lines().any(|row| row.contains(",answer,")) && ledger.contains(",lost,"), "{ledger}");
    let page = home.text("p/report.html");
    assert!(page.contains("capacity plan") && page.contains("</html>") && page.contains("<figure id=\"ttft-load\">"));
    assert!(home.text("p/kubernetes.yaml").contains("kind: Deployment"));
    // The same again: the same bytes, on any number of threads.
    home.overbook(&format!("{PLAN} --growth 1,2 --out q --jobs 1 --quiet")).ends(0);
    for name in ["plan.json", "plan.md", "load.csv", "ledger.csv", "report.html", "answer.yaml"] {
        assert_eq!(home.text(&format!("p/{name}")), home.text(&format!("q/{name}")), "{name}");
    }
    assert!(home.overbook(&format!("{PLAN} --out p")).ends(2).err.contains("--force"));
}

#[test]
fn a_plan_without_an_answer_says_why_and_fails_the_gate() {
    let home = Home::new();
    promising(&home, "");
    let ran = home.overbook(&format!("{PLAN} --set slo.tpot_p99=1us --gate --json --out p")).ends(3);
    assert_eq!(ran.json()["answer"], serde_json::Value::Null);
    let ledger = home.text("p/ledger.csv");
    assert!(ledger.contains("a decode step of one request alone takes"), "{ledger}");
}

#[test]
fn what_a_plan_cannot_take_is_refused_with_its_place() {
    let home = Home::new();
    for (more, flags, told) in [
        ("plan: { gpus: [h300] }\n", "", "small.yaml:13:16"),
        ("plan: { prices: { h200: 2.5 } }\n", "", "2.5/gpu-h"),
        ("", "--price h20=1/gpu-h", "h200"),
        ("", "--gpus h100,h200 --price h200=3/gpu-h", "give all of `plan.gpus` a price"),
        ("", "--survive 2", "the loss of one replica"),
        ("plan: { axes: { engine.retention.budget: [256] } }\n", "", "at_least: 0.98"),
        ("", "--set slo={}", "a plan needs promises"),
        ("", "--set workload.clients.count=4", "closed loop"),
        ("plan: { axis: {} }\n", "", "axes"),
        // What a plan would have to ignore, or to get wrong.
        ("", "--price h200=2/gpu-h --price l4=1/gpu-h", "`l4` has a price and is no GPU to choose from"),
        ("", "--price -1/gpu-h", "2.5/gpu-h"),
        ("", "--growth 2,2", "stands there already"),
        ("plan: { axes: { seed: [1, 2] } }\n", "", "small.yaml:13:23"),
        ("sweep: { gpu: [h100, h200] }\n", "", "plan.axes"),
        ("plan: { window: 100ms }\n", "", "`plan.window` is 100ms"),
        ("power: polca\n", "", "`fleet.server`"),
        ("", "--objective servers", "plan: { servers: [dgx-h100, dgx-h200] }"),
        ("", "--objective watts", "kw"),
        ("", "--servers dgx-h300", "dgx-h300"),
        ("", "--power-most 40", "needs a unit, e.g. 700W"),
        ("", "--price 2/gpu-h --on-demand 4/gpu-h", "no two hours"),
        ("", "--on-demand 4/gpu-h", "no price of reserved GPUs"),
        ("plan: { modes: [together] }\n", "--mixed", "without the mode `apart`"),
    ] {
        promising(&home, more);
        let args = format!("plan small.yaml {flags}");
        let told_by = home.refused(args.split_whitespace());
        assert!(told_by.contains(told), "{more} {flags}: {told_by}");
    }
}

#[test]
fn servers_watts_and_sides_that_differ_are_asked_for_by_flags() {
    let home = Home::new();
    promising(&home, "");
    let flags = "--servers dgx-h100,dgx-h200 --objective kw --power-most 60kW --mixed --tensor-parallel 1 --set plan.gpus_most=16 --set plan.seeds=2";
    home.overbook(&format!("plan small.yaml {flags} --out p")).ends(0);
    let plan = home.json("p/plan.json");
    let peak = plan["answer"]["power"]["servers_peak_kw"].as_f64().expect("kW");
    assert!(peak > 0.0 && peak <= 60.0, "{peak}");
    let shares = ["compute", "memory", "link", "host"].map(|part| plan["answer"]["binds"][part].as_f64().expect(part));
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{shares:?}");
    let command = plan["command"].as_str().expect("a command");
    for flag in ["--servers dgx-h100,dgx-h200", "--objective kw", "--power-most 60kW", "--mixed"] {
        assert!(command.contains(flag), "{command}");
    }
    let ledger = home.text("p/ledger.csv");
    assert!(ledger.contains("\"dgx-h100, TP 1 → dgx-h200, TP 1, apart\""), "{ledger}");
    // The answer draws in a run what the plan says that it draws.
    home.overbook("run p/answer.yaml --gate --out again --no-report --no-rows").ends(0);
    let again = home.json("again/summary.json");
    let told = again["power"]["peak_w"].as_f64().expect("a peak");
    assert!((told / 1e3 / peak - 1.0).abs() < 1e-3, "{told} W and {peak} kW");
}

#[test]
fn other_commands_play_a_scenario_with_a_plan_as_it_stands() {
    let home = Home::new();
    promising(&home, "plan: { gpus: [h100, h200], price: 2/gpu-h }\n");
    let ran = home.overbook("run small.yaml --out r --no-report").ends(0);
    assert!(ran.err.contains("`plan:` is for `overbook plan`"), "{}", ran.err);
    assert!(!home.text("r/scenario.resolved.yaml").contains("plan:"));
    let told = home.refused(["check", "small.yaml", "--set", "plan.gpus=[h1oo]"]);
    assert!(told.contains("h100"), "{told}");
}

#[test]
fn an_interrupted_plan_keeps_what_it_has() {
    let home = Home::new();
    let text = SMALL.replace("requests: 300", "requests: 600000").replace("rate: 10/s", "rate: 900/s");
    home.write("small.yaml", text + "slo: { ttft_p99: 150ms, tpot_p99: 12ms }\n");
    let mut command = home.command("plan small.yaml --out p --jobs 1".split(' '));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let begun = Instant::now();
    while !home.names("").iter().any(|name| name.starts_with("p.partial-")) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not begin");
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(200));
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
    let ran = Ran::of(&child.wait_with_output().expect("it ends")).ends(130);
    assert!(ran.out.contains("Interrupted"), "{}", ran.out);
    assert_eq!(home.json("p/plan.json")["status"], "interrupted");
    assert_eq!(home.json("p/manifest.json")["exit_status"], 130);
}
