//! Readers that go away: `overbook run … | head -1`. The work and its exit code are still wanted.

use std::process::Stdio;

use super::home::{Home, Ran};

/// Runs the program with both streams closed by their readers before it writes anything.
fn unread(home: &Home, args: &str) -> i32 {
    let mut command = home.command(args.split(' '));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop((child.stdout.take(), child.stderr.take()));
    child.wait().expect("it ends").code().expect("an exit code, not SIGPIPE")
}

#[test]
fn a_closed_stdout_changes_nothing_else() {
    let home = Home::small();
    let mut command = home.command(["run", "small.yaml", "--out", "results"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let ran = Ran::of(&child.wait_with_output().expect("it ends")).ends(0);
    assert!(ran.err.contains("digest ") && !ran.err.contains("error"), "{}", ran.err);
    assert_eq!(home.json("results/manifest.json")["status"], "complete");
    assert_eq!(home.names("results").len(), 6);
}

#[test]
fn every_command_survives_readers_that_go() {
    let home = Home::small();
    let study = format!("{}sweep: {{ axes: {{ seed: [1, 2] }} }}\n", home.text("small.yaml"));
    home.write("study.yaml", study);
    let commands = "run small.yaml|run small.yaml --json|run study.yaml|run study.yaml --json|run small.yaml --dry-run\
                    |check small.yaml|schema|floor small.yaml|--help|run --help";
    for args in commands.split('|') {
        assert_eq!(unread(&home, args), 0, "{args}");
    }
    assert_eq!(unread(&home, "run nowhere.yaml"), 2);
}

#[test]
fn a_failed_gate_is_not_lost() {
    let home = Home::small();
    assert_eq!(unread(&home, "run small.yaml --gate --set slo.ttft_p99=1ms"), 3);
    let study = format!("{}sweep: {{ axes: {{ seed: [1, 2] }} }}\nslo: {{ ttft_p99: 1ms }}\n", home.text("small.yaml"));
    home.write("study.yaml", study);
    assert_eq!(unread(&home, "run study.yaml --gate"), 3);
}
