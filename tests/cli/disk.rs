//! A full disk: exit code 1, what could not be written, and no result that looks whole.

use std::process::Command;

use overbook_test_groups::on_full_disk;

use super::home::{Home, Ran};

/// Mounts a file system of 64 KiB, runs the program with its output there, and lists what is left.
const SCRIPT: &str = r#"
mount -t tmpfs -o "$1" tmpfs tiny 2>/dev/null || exit 77
echo mounted
shift
"$@"
echo "code=$?"
find tiny -mindepth 1
umount tiny
"#;

/// A scenario that the engine runs in a second.
const REAL: &str = "\
version: 1
name: real
workload:
  generate:
    arrivals: { poisson: { rate: 50/s } }
    lengths: { fixed: { prompt: 20, output: 10 } }
    requests: 20
model: tiny
gpu: none
engine: { kv_tokens: 4096, max_model_len: 512, cost: { constant: { device: 1ms } } }
scheduler: { vllm: { max_num_seqs: 8, max_num_batched_tokens: 64 } }
";

/// What the script said, the program's stderr included.
pub(crate) fn on_tiny_disk(home: &Home, options: &str, args: &str) -> Ran {
    std::fs::create_dir(home.path("tiny")).expect("a folder");
    // In a mount namespace of its own the mount ends with the script, whatever happens to it.
    let ran = [&["unshare", "-rm", "sh"][..], &["unshare", "-m", "sh"], &["sh"]].into_iter().find_map(|launcher| {
        let mut command = Command::new(launcher[0]);
        command.args(&launcher[1..]).args(["-c", SCRIPT, "sh", options, env!("CARGO_BIN_EXE_overbook")]);
        let output = command.args(args.split(' ')).current_dir(home.path("")).output().ok()?;
        output.stdout.starts_with(b"mounted").then(|| Ran::of(&output))
    });
    ran.expect("a file system may be mounted: OVERBOOK_MOUNT says so")
}

fn fails_on_full_disk(options: &str, args: &str, told: &str) {
    let ran = on_tiny_disk(&Home::small(), options, args);
    assert_eq!(ran.out, "mounted\ncode=1\n", "exit code 1, no summary, no file left\n{ran:?}");
    assert!(ran.err.contains(told) && ran.err.contains("No space left on device"), "{ran:?}");
    assert_eq!(ran.err.matches("No space left").count(), 1, "told once: {ran:?}");
}

fn full_while_rows_are_written() {
    let args = "run small.yaml --out tiny/results --set workload.generate.requests=20000";
    fails_on_full_disk("size=64k", args, "error: cannot write tiny/results.partial-");
}

fn full_while_the_report_is_written() {
    let args = "run small.yaml --out tiny/results";
    fails_on_full_disk("size=64k", args, "report.html");
}

fn a_real_run_is_told_even_if_it_cannot_be_kept() {
    let home = Home::new();
    home.write("real.yaml", REAL);
    let ran = on_tiny_disk(&home, "size=16k", "run real.yaml --on cpu --threads 1 --out tiny/results");
    assert!(ran.out.contains("20 of 20 finished") && ran.out.ends_with("code=1\n"), "nothing is left there: {ran:?}");
    assert!(ran.out.contains("results: nowhere"), "{ran:?}");
    assert_eq!(ran.err.matches("No space left on device").count(), 1, "{ran:?}");
}

/// There is room for one file: a profile without its steps, or steps without their profile, would look like a whole one.
fn full_after_the_steps_of_a_profile() {
    let home = Home::new();
    home.write("real.yaml", REAL);
    let args = "calibrate real.yaml --on cpu --threads 1 --repeat-for 1ns --out tiny/p.yaml";
    let ran = on_tiny_disk(&home, "size=1m,nr_inodes=2", args);
    assert_eq!(ran.out, "mounted\ncode=1\n", "neither file is left\n{ran:?}");
    assert!(ran.err.contains("error: cannot write tiny/p.yaml: No space left on device"), "{ran:?}");
}

fn full_from_the_start() {
    let args = "run small.yaml --out tiny/results";
    fails_on_full_disk("size=64k,nr_inodes=1", args, "error: cannot write tiny/results.partial-");
}

fn full_while_a_study_is_written() {
    let home = Home::small();
    let sweep = format!("{}sweep: {{ axes: {{ seed: [{}] }} }}\n", home.text("small.yaml"), "1, 2, 3, 4, 5, 6, 7, 8");
    home.write("study.yaml", sweep);
    let ran = on_tiny_disk(&home, "size=64k", "run study.yaml --out tiny/results -q");
    assert_eq!(ran.out, "mounted\ncode=1\n", "{ran:?}");
    assert!(ran.err.starts_with("error: cannot write tiny/results.partial-"), "{ran:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn full_under_stdout() {
    use std::fs::OpenOptions;
    use std::process::Stdio;

    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let home = Home::small();
    let mut command = home.command(["run", "small.yaml", "--out", "results"]);
    let output = command.stdout(full).stderr(Stdio::piped()).output().expect("the program starts");
    let ran = Ran::of(&output).ends(1);
    assert!(ran.err.contains("error: cannot write to stdout: No space left on device"), "{}", ran.err);
    assert_eq!(home.json("results/manifest.json")["status"], "complete", "the result itself is whole");
}

on_full_disk!(
    full_while_rows_are_written,
    full_while_the_report_is_written,
    a_real_run_is_told_even_if_it_cannot_be_kept,
    full_after_the_steps_of_a_profile,
    full_from_the_start,
    full_while_a_study_is_written,
);
