//! Hands the binary what it was built from, for the manifest of every run.

use std::process::Command;

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or_default();
    let dirty = output("git", &["status", "--porcelain", "--untracked-files=no"]).map(|s| !s.is_empty());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    println!("cargo::rustc-env=OVERBOOK_COMMIT={commit}");
    println!("cargo::rustc-env=OVERBOOK_DIRTY={}", dirty.map_or("", |d| if d { "true" } else { "false" }));
    println!("cargo::rustc-env=OVERBOOK_TARGET={}", std::env::var("TARGET").unwrap_or_default());
    println!("cargo::rustc-env=OVERBOOK_RUSTC={}", output(&rustc, &["--version"]).unwrap_or_default());
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/index");
}
