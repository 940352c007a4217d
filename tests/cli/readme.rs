//! The commands of the README and of the pages in `docs/`, as a new user would type them, in order.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use overbook_test_groups::{whole, whole_files};

use crate::cli::home::Home;

/// Commands in the shell blocks of a page; `cargo run --release --` is the program itself.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .flat_map(str::lines)
        .map(|line| line.replace("cargo run --release --", "overbook"))
        .filter(|line| line.starts_with("overbook "))
        .collect()
}

/// Whether a command reads whole files, which are not in the clone.
fn reads_whole_files(command: &str) -> bool {
    command.contains("$OVERBOOK_DATA")
}

/// The README and the pages of `docs/`, in order of their names.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).expect("the docs").map(|entry| entry.expect("an entry").path());
    let mut docs: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    docs.sort();
    [vec![root.join("README.md")], docs].concat()
}

/// Commands of a page.
fn commands_of(page: &Path) -> Vec<String> {
    commands(&std::fs::read_to_string(page).expect("a page"))
}

/// Types the commands of a page that need nothing but the clone, in a folder of its own.
fn page_works(page: &Path) {
    let home = clone_of(Path::new(env!("CARGO_MANIFEST_DIR")));
    for command in commands_of(page).iter().filter(|command| !reads_whole_files(command)) {
        // `without_frames` says what a build without polars answers.
        if cfg!(feature = "frames") || !command.contains("trace fit first.parquet") {
            works(&home, command);
        }
    }
}

#[test]
fn every_command_of_the_readme_works() {
    let page = &pages()[0];
    let commands = commands_of(page);
    assert!(commands.len() >= 4, "{commands:?}");
    page_works(page);
}

#[test]
fn every_command_of_the_docs_works() {
    let docs = &pages()[1..];
    let commands: usize = docs.iter().map(|page| commands_of(page).len()).sum();
    assert!(commands >= 30, "the docs have {commands} commands");
    for page in docs {
        page_works(page);
    }
}

fn every_command_of_the_readme_and_the_docs_that_reads_whole_files_works() {
    let home = clone_of(Path::new(env!("CARGO_MANIFEST_DIR")));
    let pages = pages();
    let commands = pages.iter().flat_map(|page| commands_of(page));
    let commands: Vec<_> = commands.filter(|command| reads_whole_files(command)).collect();
    assert!(!commands.is_empty());
    for command in commands {
        works(&home, &command.replace("$OVERBOOK_DATA", &whole("").to_string_lossy()));
    }
}

/// A folder with the program, the scenarios and the data, as a clone has them.
fn clone_of(root: &Path) -> Home {
    let home = Home::new();
    for folder in ["scenarios", "traces"] {
        symlink(root.join(folder), home.path(folder)).expect("a link");
    }
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

whole_files!(every_command_of_the_readme_and_the_docs_that_reads_whole_files_works);
