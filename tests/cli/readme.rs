//! The README's commands, as a new user would type them, in order.

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
    let home = Home::new();
    symlink(root.join("scenarios"), home.path("scenarios")).expect("a link");
    symlink(env!("CARGO_BIN_EXE_overbook"), home.path("overbook")).expect("a link");
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
        if !tables && (command.contains("calibrate") || command.contains("h100-vllm.yaml")) {
            skip("every_command_of_the_readme_works", &format!("no ../shared/data/kernels: {command}"));
            continue;
        }
        let path = format!("{}:{}", home.path("").display(), std::env::var("PATH").unwrap_or_default());
        let ran = Command::new("bash").args(["-c", &command]).current_dir(home.path("")).env("PATH", path).output();
        let ran = ran.expect("bash");
        assert!(ran.status.success(), "{command}: {}\n{}", ran.status, String::from_utf8_lossy(&ran.stderr));
    }
}
