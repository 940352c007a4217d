//! Ctrl-C: what is known by then is kept, and marked.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::home::{Home, Ran, SMALL};

/// Hours of simulation.
fn endless(home: &Home, more: &str) {
    let text = SMALL.replace("requests: 300", "requests: 1000000000").replace("name: small", "name: endless");
    home.write("endless.yaml", text + more);
}

/// Starts the program and waits until it is at work.
fn at_work(home: &Home, args: &str) -> Child {
    let mut command = home.command(args.split(' '));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let begun = Instant::now();
    while !home.names("").iter().any(|name| name.starts_with("results.partial-")) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not begin");
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(200));
    child
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

fn interrupted(home: &Home, args: &str) -> Ran {
    let child = at_work(home, args);
    interrupt(&child);
    let ran = Ran::of(&child.wait_with_output().expect("it ends")).ends(130);
    assert_eq!(home.names("").join(" "), "endless.yaml results");
    let manifest = home.json("results/manifest.json");
    assert_eq!((manifest["status"].as_str(), manifest["exit_status"].as_u64()), (Some("interrupted"), Some(130)));
    ran
}

#[test]
fn an_interrupted_run_keeps_what_it_has() {
    let home = Home::new();
    endless(&home, "");
    let ran = interrupted(&home, "run endless.yaml --out results");
    assert!(ran.out.starts_with("endless\nInterrupted, partial results: "), "{}", ran.out);
    assert_eq!(home.json("results/summary.json")["status"], "interrupted");
    assert!(home.json("results/summary.json")["completed"].as_u64() > Some(0));
    assert!(home.text("results/report.html").contains("Interrupted, partial results"));
    for name in ["results/requests.parquet", "results/steps.parquet"] {
        let bytes = home.bytes(name);
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{name} is whole");
    }
}

#[test]
fn an_interrupted_document_says_so_and_no_gate_passes() {
    let home = Home::new();
    endless(&home, "slo: { ttft_p99: 1h }\n");
    let ran = interrupted(&home, "run endless.yaml --out results --json --gate");
    assert_eq!(ran.json()["status"], "interrupted");
}

#[test]
fn an_interrupted_study_is_partial() {
    let home = Home::new();
    endless(&home, "sweep: { axes: { seed: [1, 2, 3, 4] } }\n");
    interrupted(&home, "run endless.yaml --out results --jobs 2");
    // Two points were at work (or one, on a busy machine), two were never begun.
    let names = home.names("results");
    let begun = names.iter().filter(|name| name.ends_with(".summary.json")).count();
    assert!((1..=2).contains(&begun), "{names:?}");
    assert_eq!(home.json("results/point-0000.summary.json")["status"], "interrupted");
    // A part of a run has no place beside whole ones.
    let table = home.text("results/study.md");
    assert!(table.starts_with("# Incomplete, 0 of 4 points: "), "{table}");
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let home = Home::new();
    endless(&home, "");
    let child = at_work(&home, "run endless.yaml --out results");
    interrupt(&child);
    interrupt(&child);
    // Whichever came first, the end of the work or the second signal: the code is the same and nothing looks whole.
    Ran::of(&child.wait_with_output().expect("it ends")).ends(130);
    if home.path("results").exists() {
        assert_eq!(home.json("results/manifest.json")["status"], "interrupted");
    }
}
