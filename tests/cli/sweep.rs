//! Studies in shards: run by several processes, killed, resumed, put together.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use overbook_test_groups::on_full_disk;

use super::disk::on_tiny_disk;
use super::home::{Home, SMALL};

const SWEEP: &str = "slo: { ttft_p99: 20ms }
sweep:
  axes: { fleet.replicas: [1, 2] }
  lhs: { points: 2, over: { workload.generate.arrivals.poisson.rate: { log-uniform: [4/s, 40/s] } } }
  seeds: 2
";

fn study() -> Home {
    let home = Home::new();
    home.write("study.yaml", SMALL.to_owned() + SWEEP);
    home
}

fn planned() -> Home {
    let home = study();
    let ran = home.overbook("sweep plan study.yaml --out shards --no-estimate").ends(0);
    assert_eq!(ran.out.lines().count(), 9, "{ran:?}");
    home
}

/// The files of two studies are the same, but for what the clock and the command line say.
fn same(home: &Home, one: &str, other: &str) {
    assert_eq!(home.names(one), home.names(other));
    for name in home.names(one).iter().filter(|name| *name != "manifest.json") {
        assert_eq!(home.bytes(&format!("{one}/{name}")), home.bytes(&format!("{other}/{name}")), "{name}");
    }
}

#[test]
fn merged_shards_are_the_files_of_the_run() {
    let home = planned();
    home.overbook("run study.yaml --out whole -q").ends(0);
    for (number, jobs) in [(3, 1), (1, 2), (2, 1)] {
        let ran = home.overbook(&format!("sweep run shards --shard {number}/3 --jobs {jobs}")).ends(0);
        assert!(ran.out.contains(": 0 were done before, "), "{ran:?}");
    }
    let told = home.overbook("sweep status shards").ends(0);
    assert_eq!(told.out, "8 of 8 points done\n");
    let merged = home.overbook("sweep merge shards").ends(0);
    assert!(merged.out.contains("Means over 2 seeds, ± half of their 95 % interval"), "{}", merged.out);
    same(&home, "whole", "shards/results");
    let replicates = home.text("whole/replicates.csv");
    assert!(
        replicates.starts_with("fleet.replicas,workload.generate.arrivals.poisson.rate [/s],seeds,goodput"),
        "{replicates}"
    );
    assert_eq!(replicates.lines().count(), 1 + 4);
    // Once more: all was done before, and results are not replaced without being asked for.
    let again = home.overbook("sweep run shards -q").ends(0);
    assert_eq!(again.out, "8 points: 8 were done before, 0 run\n");
    let ran = home.overbook("sweep merge shards").ends(2);
    assert!(ran.err.contains("exists already"), "{}", ran.err);
    home.overbook("sweep merge shards --force --gate").ends(3);
}

#[test]
fn a_study_that_is_not_done_says_what_is_missing() {
    let home = planned();
    home.overbook("sweep run shards --shard 2..3 -q").ends(0);
    let told = home.overbook("sweep status shards").ends(3);
    assert_eq!(told.out, "2 of 8 points done; missing: 1, 4, 5, 6, 7, 8\n");
    let document = home.overbook("sweep status shards --json").ends(3).json();
    assert_eq!((document["done"].as_u64(), document["missing"][0].as_u64()), (Some(2), Some(1)));
    let ran = home.overbook("sweep merge shards").ends(3);
    assert!(ran.err.contains("missing: 1, 4") && ran.err.contains("overbook sweep run shards"), "{}", ran.err);
    assert!(!home.path("shards/results").exists() && ran.out.is_empty());
}

#[test]
fn a_killed_worker_loses_and_doubles_nothing() {
    let home = Home::new();
    let text =
        SMALL.replace("requests: 300", "requests: 20000") + "sweep: { axes: { seed: [1, 2, 3, 4, 5, 6, 7, 8] } }\n";
    home.write("study.yaml", text);
    home.overbook("sweep plan study.yaml --out shards -q").ends(0);
    let mut worker = home
        .command(["sweep", "run", "shards", "--jobs", "1", "-q"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let begun = Instant::now();
    let parts = || if home.path("shards/parts").exists() { home.names("shards/parts").len() } else { 0 };
    while parts() < 2 && begun.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(5));
    }
    worker.kill().expect("it runs");
    worker.wait().expect("it ends");
    let told = home.overbook("sweep status shards --json").json();
    let done = told["done"].as_u64().expect("a number");
    assert!((1..8).contains(&done), "{told}");
    let ran = home.overbook("sweep run shards -q").ends(0);
    assert_eq!(ran.out, format!("8 points: {done} were done before, {} run\n", 8 - done));
    home.overbook("sweep merge shards -q").ends(0);
    home.overbook("run study.yaml --out whole -q").ends(0);
    same(&home, "whole", "shards/results");
}

#[test]
fn nothing_is_mixed() {
    let home = planned();
    home.overbook("sweep run shards --shard 1/2 -q").ends(0);
    let parts = home.names("shards/parts");
    // The scenario changes between two shards.
    home.write("study.yaml", SMALL.replace("prompt: 200", "prompt: 201") + SWEEP);
    for command in ["sweep run shards --shard 2/2", "sweep merge shards"] {
        let ran = home.overbook(command).ends(2);
        assert!(
            ran.err.contains("study.yaml or a file that it reads has changed") && ran.err.contains("point 1"),
            "{ran:?}"
        );
    }
    home.write("study.yaml", SMALL.to_owned() + SWEEP);
    // Another program: the same with a byte behind its end.
    let other = home.path("other");
    let mut program = fs::read(env!("CARGO_BIN_EXE_overbook")).expect("the program");
    program.push(0);
    fs::write(&other, program).expect("a copy");
    fs::set_permissions(&other, fs::metadata(env!("CARGO_BIN_EXE_overbook")).expect("it is there").permissions())
        .expect("may be run");
    let ran =
        Command::new(&other).args(["sweep", "run", "shards"]).current_dir(home.path("")).output().expect("it starts");
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(2) && err.contains("planned by another program"), "{err}");
    assert_eq!(home.names("shards/parts"), parts);
    // A trace that has another content under the same name.
    home.write("trace.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,10\n1,100,10\n");
    let traced = SMALL.split("workload:").next().unwrap_or_default().to_owned()
        + "workload: { trace: { path: trace.csv } }\nmodel: llama-3.1-8b\ngpu: h200\nsweep: { axes: { fleet.replicas: [1, 2] } }\n";
    home.write("traced.yaml", traced);
    home.overbook("sweep plan traced.yaml --out traced -q").ends(0);
    home.overbook("sweep run traced --shard 1/2 -q").ends(0);
    home.write("trace.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,10\n1,100,11\n");
    let ran = home.overbook("sweep run traced --shard 2/2 -q").ends(2);
    assert!(ran.err.contains("has changed since it was planned"), "{}", ran.err);
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let home = planned();
    home.write("single.yaml", SMALL);
    for (command, told) in [
        ("sweep plan single.yaml --out x", "the scenario is a single run"),
        ("sweep plan study.yaml --out shards --set fleet.router=random", "holds another plan"),
        ("sweep run nowhere", "overbook sweep plan"),
        ("sweep run shards --shard 3/2", "there is no shard 3 of 2"),
        ("sweep run shards --shard 5..9", "points 1 to 8"),
        ("sweep run shards --shard two", "is no shard"),
        ("sweep run shards --shard auto/2", "SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX"),
    ] {
        let ran = home.overbook(command).ends(2);
        assert!(ran.err.contains(told), "{command}: {}", ran.err);
    }
    assert!(!home.path("x").exists());
}

#[test]
fn clusters_say_which_shard_it_is() {
    for (name, number) in [("SLURM_ARRAY_TASK_ID", "2"), ("JOB_COMPLETION_INDEX", "1")] {
        let home = planned();
        let mut command = home.command(["sweep", "run", "shards", "--shard", "auto/3", "-q"]);
        assert!(command.env(name, number).status().expect("it starts").success());
        let own = home.names("shards/parts");
        fs::remove_dir_all(home.path("shards/parts")).expect("they are there");
        home.overbook("sweep run shards --shard 2/3 -q").ends(0);
        assert_eq!(home.names("shards/parts"), own, "{name}");
    }
}

#[test]
fn a_job_of_kubernetes_is_one_and_scripts_say_what_they_start() {
    let home = planned();
    let ran = home.overbook("sweep launch shards --on k8s --shards 3 --image overbook:1 --claim studies").ends(0);
    assert!(ran.out.contains("kubectl apply -f"), "{}", ran.out);
    let job = home.json("shards/launch/job.json");
    // What the API's schema of batch/v1 Job asks for, and what an indexed job needs.
    assert_eq!((job["apiVersion"].as_str(), job["kind"].as_str()), (Some("batch/v1"), Some("Job")));
    let spec = &job["spec"];
    assert_eq!((spec["completions"].as_u64(), spec["completionMode"].as_str()), (Some(3), Some("Indexed")));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    let container = &pod["containers"][0];
    assert!(container["command"].as_array().expect("words").iter().any(|word| word == "auto/3"), "{container}");
    assert_eq!(container["volumeMounts"][0]["name"], pod["volumes"][0]["name"]);
    let name = job["metadata"]["name"].as_str().expect("a name");
    assert!(
        name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') && name.len() <= 63,
        "{name}"
    );
    let ran = home.overbook("sweep launch shards --on k8s --shards 3 --image x --claim y --mount /nowhere").ends(2);
    assert!(ran.err.contains("--mount"), "{}", ran.err);

    let ran = home.overbook("sweep launch shards --on slurm --shards 3 --jobs 2 --write-only").ends(0);
    assert!(ran.out.contains("start it with: sbatch "), "{}", ran.out);
    let script = home.text("shards/launch/slurm.sh");
    assert!(script.contains("#SBATCH --array=1-3\n") && script.contains("#SBATCH --cpus-per-task=2\n"), "{script}");
    // Run as Slurm runs it, task by task.
    for number in 1..=3 {
        let ran = Command::new("sh")
            .arg(home.path("shards/launch/slurm.sh"))
            .env("SLURM_ARRAY_TASK_ID", number.to_string())
            .output();
        assert!(ran.expect("a shell").status.success());
    }
    home.overbook("sweep status shards").ends(0);
    let ran = home.overbook("sweep launch shards --on slurm --shards 0 --write-only").ends(2);
    assert!(ran.err.contains("--shards"), "{}", ran.err);
}

/// The driver for Ray, with a module in Ray's place that runs every task in a process of its own and kills the first one.
#[test]
fn the_driver_for_ray_tries_killed_shards_again() {
    let home = planned();
    home.write("ray.py", include_str!("ray_stand_in.py"));
    let mut command = home.command(["sweep", "launch", "shards", "--on", "ray", "--shards", "3"]);
    let ran = command.env("PYTHONPATH", home.path("")).env("PYTHONDONTWRITEBYTECODE", "1").output().expect("it starts");
    let out = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{out}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(out.contains("tried again") && out.contains("8 of 8 points done"), "{out}");
    home.overbook("sweep merge shards -q").ends(0);
}

#[test]
fn a_launcher_that_is_not_here_is_told_with_the_command() {
    let home = planned();
    let ran = home.overbook("sweep launch shards --on ray --shards 2 --python no-such-python").ends(1);
    assert!(ran.err.contains("no-such-python is not here") && ran.err.contains("ray_driver.py"), "{}", ran.err);
}

fn full_while_parts_are_written() {
    let home = planned();
    std::os::unix::fs::symlink("../tiny", home.path("shards/parts")).expect("a link");
    let ran = on_tiny_disk(&home, "size=64k", "sweep run shards --jobs 1 -q");
    assert!(ran.out.starts_with("mounted\ncode=1\n"), "{ran:?}");
    assert!(ran.err.contains("error: cannot write shards/parts/") || ran.err.contains("/shards/parts/"), "{ran:?}");
    assert_eq!(ran.err.matches("No space left on device").count(), 1, "told once: {ran:?}");
    let left: Vec<&str> = ran.out.lines().skip(2).collect();
    assert!((1..8).contains(&left.len()), "what was written before stays: {left:?}");
    assert!(left.iter().all(|name| !name.contains("aside")), "and nothing unfinished: {left:?}");
}

on_full_disk!(full_while_parts_are_written,);
