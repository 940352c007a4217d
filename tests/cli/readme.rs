//! The commands of the README and of the pages in `docs/`, as a new user would type them, in order.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::cli::calibrate;
use crate::cli::home::{Home, skip};

/// Real traces that the README names, and where they lie beside a developer's checkout.
const TRACES: [(&str, &str); 2] = [
    ("AzureLLMInferenceTrace_conv.csv", "azure/AzureLLMInferenceTrace_conv.csv"),
    ("conversation_trace.jsonl", "mooncake/conversation_trace.jsonl"),
];

/// Commands in the shell blocks of a page; `cargo run --release --` is the program itself.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .flat_map(str::lines)
        .map(|line| line.replace("cargo run --release --", "overbook"))
        .filter(|line| line.starts_with("overbook "))
        .collect()
}

#[test]
fn every_command_of_the_readme_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = clone_of(root);
    for (name, place) in TRACES {
        let data = root.join("../shared/data").join(place);
        if data.exists() {
            symlink(data, home.path(name)).expect("a link");
        }
    }
    // Tables in the layout that the README names.
    let tables = calibrate::tables(&home, "systems/data/h100_sxm/vllm/0.24.0").is_some();
    let page = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let commands = commands(&page);
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let missing = TRACES.iter().find(|(name, _)| command.contains(name) && !home.path(name).exists());
        if let Some((name, _)) = missing {
            skip("every_command_of_the_readme_works", &format!("no {name}: {command}"));
            continue;
        }
        if !tables && (command.contains("calibrate --import") || command.contains("h100-vllm.yaml")) {
            skip("every_command_of_the_readme_works", &format!("no ../shared/data/kernels: {command}"));
            continue;
        }
        if command.contains("trace fit first.parquet") && !cfg!(feature = "frames") {
            skip("every_command_of_the_readme_works", &format!("a build without polars: {command}"));
            continue;
        }
        works(&home, &command);
    }
}

/// A folder with the program and the scenarios, as a clone has them.
fn clone_of(root: &Path) -> Home {
    let home = Home::new();
    symlink(root.join("scenarios"), home.path("scenarios")).expect("a link");
    symlink(env!("CARGO_BIN_EXE_overbook"), home.path("overbook")).expect("a link");
    home
}

/// Types a command.
fn works(home: &Home, command: &str) {
    let path = format!("{}:{}", home.path("").display(), std::env::var("PATH").unwrap_or_default());
    let ran = Command::new("bash").args(["-c", command]).current_dir(home.path("")).env("PATH", path).output();
    let ran = ran.expect("bash");
    assert!(ran.status.success(), "{command}: {}\n{}", ran.status, String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn every_command_of_the_docs_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = clone_of(root);
    let mut typed = 0;
    for entry in std::fs::read_dir(root.join("docs")).expect("the docs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ending| ending == "md") {
            let page = std::fs::read_to_string(&path).expect("a page");
            for command in commands(&page) {
                works(&home, &command);
                typed += 1;
            }
        }
    }
    assert!(typed > 0, "the docs have commands");
}

/// What the page on BurstGPT's lesson says of goodput is what its study gives.
#[test]
fn the_lesson_says_what_its_study_gives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = clone_of(root);
    home.overbook("run scenarios/examples/burstgpt-lesson.yaml --out a --no-report").ends(0);
    let page = std::fs::read_to_string(root.join("docs/burstgpt-lesson.md")).expect("the page");
    let csv = home.text("a/study.csv");
    let columns: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
    let at = |name: &str| columns.iter().position(|&column| column == name).expect("a column");
    let (good, expired) = (at("goodput_fraction"), at("expired"));
    let points: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    for pool in ["32k", "256k"] {
        for scheduler in ["vllm", "vllm-v0", "orca"] {
            let row = |line: &&str| line.starts_with(&format!("| `{scheduler}`")) && line.contains(pool);
            let said = page.lines().find(row).unwrap_or_else(|| panic!("no row of {scheduler}, {pool}"));
            let said: Vec<String> =
                said.split('|').skip(2).map(|cell| cell.replace("**", "").trim().to_owned()).collect();
            for (arrivals, said) in ["Poisson", "fitted Gamma", "BurstGPT"].iter().zip(said) {
                let point = points.iter().find(|p| p[..3] == [*arrivals, pool, scheduler]).expect("a point");
                let share: f64 = point[good].parse().expect("a share");
                let expired: u64 = point[expired].parse().expect("a number");
                let digits: Vec<char> = expired.to_string().chars().rev().collect();
                let groups: Vec<String> = digits.chunks(3).map(|three| three.iter().collect()).collect();
                let grouped: String = groups.join(",").chars().rev().collect();
                assert_eq!(said, format!("{:.1} % ({grouped})", share * 100.0), "{arrivals}, {scheduler}, {pool}");
            }
        }
    }
}
