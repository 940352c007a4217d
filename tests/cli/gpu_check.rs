//! `gpu-check` from end to end, on the emulated driver.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::emulator;
use super::home::{Home, Ran};

/// The program where the emulated GPU is found.
fn command(home: &Home, arguments: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = emulator::command(Path::new(env!("CARGO_BIN_EXE_overbook")), settings);
    command.args(["gpu-check", "--scale", "small"]).args(arguments.split_whitespace()).current_dir(home.path(""));
    command
}

fn check(home: &Home, arguments: &str, settings: &[(&str, &str)]) -> Ran {
    Ran::of(&command(home, arguments, settings).output().expect("the program starts"))
}

fn lines(home: &Home, file: &str) -> Vec<Value> {
    home.text(file).lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

fn rows<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["row"] == kind).collect()
}

#[test]
fn a_whole_check_runs_goes_on_and_never_measures_twice() {
    let home = Home::new();
    let ran = check(&home, "--out r", &[]).ends(0);
    for part in ["verify", "grids", "validate", "shares", "power"] {
        assert!(ran.out.contains(&format!("{part}: complete")), "{}", ran.out);
    }
    assert!(ran.out.contains("0 checks wrong, 0 items failed, 0 left"), "{}", ran.out);
    let names = home.names("r");
    assert_eq!(
        names,
        [
            "grids.jsonl",
            "power.jsonl",
            "power.yaml",
            "shares.jsonl",
            "summary.json",
            "tiny-profile.steps.parquet",
            "tiny-profile.yaml",
            "validate.jsonl",
            "verify.jsonl"
        ]
    );
    let verify = lines(&home, "r/verify.jsonl");
    assert!(rows(&verify, "kernel").len() > 30 && rows(&verify, "whole").len() == 11, "{verify:#?}");
    // A reading that there is, and one that the emulator lacks.
    let product = rows(&verify, "ceiling").into_iter().find(|row| row["name"] == "product_tflops").expect("a ceiling");
    assert!(product["gpu"]["instant_w"] == 250.0 && product["value"].as_f64() > Some(0.0), "{product}");
    let grids = lines(&home, "r/grids.jsonl");
    let cells = rows(&grids, "cell");
    assert_eq!(cells.len(), 4, "{grids:#?}");
    assert_eq!(cells[1]["step"], "decode 4 x 64", "the first that fits");
    assert!(
        cells.iter().all(|cell| cell["floor_percent"].as_f64() > Some(0.0) && cell["host_us"].as_f64() > Some(0.0))
    );
    let loads = lines(&home, "r/validate.jsonl");
    assert_eq!(rows(&loads, "load")[0]["differences"], 0, "{loads:#?}");
    assert_eq!(rows(&lines(&home, "r/shares.jsonl"), "share").len(), 8);
    watts_are_made_up_by_a_law_that_is_found_again(&home);
    let summary = home.json("r/summary.json");
    assert_eq!(summary["gpu"]["nvml"]["driver"], "580.65.06", "{summary}");
    assert!(summary["ceilings"]["read_tbs"].as_f64() > Some(0.0), "{summary}");

    // A folder with results is not begun again unasked.
    let refused = check(&home, "--out r", &[]).ends(2);
    assert!(refused.err.contains("--resume"), "{}", refused.err);
    // A part that is gone and one that was killed as it wrote: only what is missing is measured.
    std::fs::remove_file(home.path("r/shares.jsonl")).expect("removed");
    let kept: Vec<String> = home.text("r/grids.jsonl").lines().take(3).map(str::to_owned).collect();
    home.write("r/grids.jsonl", kept.join("\n") + "\n{\"item\": \"tiny pre");
    let before = [home.text("r/verify.jsonl"), home.text("r/validate.jsonl")];
    let again = check(&home, "--out r --resume --part verify --part grids --part validate", &[]).ends(0);
    assert_eq!(before, [home.text("r/verify.jsonl"), home.text("r/validate.jsonl")]);
    assert!(!home.names("r").contains(&"shares.jsonl".to_owned()), "not asked for");
    let all = home.text("r/grids.jsonl");
    assert!(kept.iter().all(|line| all.contains(line)), "{all}");
    assert_eq!(rows(&lines(&home, "r/grids.jsonl"), "cell").len(), 4);
    assert!(again.err.contains("grids: tiny prefill 64") && !again.err.contains("tiny decode 1 x 32"), "{}", again.err);
}

/// The emulated GPU's stand-in draws as the catalog's H100: the fit finds that law, and everything says that it is made up.
fn watts_are_made_up_by_a_law_that_is_found_again(home: &Home) {
    let power = lines(home, "r/power.jsonl");
    let steady = rows(&power, "steady");
    assert_eq!(steady.len(), 14, "{power:#?}");
    assert!(steady.iter().all(|row| row["gpu"]["emulated"] == true && row["watts"].as_f64() > Some(0.0)), "{power:#?}");
    let fitted = rows(&power, "fitted")[0];
    assert_eq!(fitted["emulated"], true, "{fitted}");
    for (key, known) in [("idle_w", 120.4), ("compute_w", 828.7), ("memory_w", 384.7)] {
        let got = fitted[key].as_f64().expect("a number");
        assert!((got / known - 1.0).abs() < 0.02, "{key}: {got}, {known} was put in; {power:#?}");
    }
    assert!(fitted["held_out_mean_percent"].as_f64() < Some(2.0), "{fitted}");
    assert!(home.text("r/power.yaml").contains("EMULATED"), "{}", home.text("r/power.yaml"));
}

#[test]
fn a_kernel_that_is_wrong_is_named_and_fails_the_check() {
    let home = Home::new();
    let edit = ("OVERBOOK_EMULATOR_EDIT", "exp2_fast(-LOG2_E * g[i])=>exp2_fast(LOG2_E * g[i])");
    // An edit that nothing is compiled with is an error: what is kept of an earlier time would do.
    let cache = home.path("cache");
    let kept = ("OVERBOOK_CACHE", cache.to_str().expect("UTF-8"));
    let ran = check(&home, "--out r --part verify", &[edit, kept]).ends(3);
    assert!(ran.out.contains("WRONG  silu_mul, "), "{}", ran.out);
    assert!(!ran.out.contains("WRONG  add_norm"), "{}", ran.out);
    // So are the models that it is in, and the rest is measured all the same.
    assert!(ran.out.contains("WRONG  tiny beside the CPU engine"), "{}", ran.out);
    assert!(ran.out.contains("verify: complete") && ran.out.contains("product_tflops"), "{}", ran.out);
    let summary = home.json("r/summary.json");
    assert!(summary["parts"][0]["wrong"].as_u64() > Some(0), "{summary}");
    // It stays so for who goes on.
    check(&home, "--out r --part verify --resume", &[]).ends(3);
}

#[test]
fn an_interrupted_check_keeps_what_it_has_and_goes_on() {
    let home = Home::new();
    let mut command = command(&home, "--out r --part grids --part shares", &[]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let begun = Instant::now();
    let measured = || std::fs::read_to_string(home.path("r/grids.jsonl")).unwrap_or_default().contains("decode 1 x 32");
    while !measured() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it measures nothing");
        sleep(Duration::from_millis(10));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let ran = Ran::of(&child.wait_with_output().expect("it ends")).ends(130);
    assert!(ran.out.contains("grids: NOT COMPLETE") && ran.out.contains(": interrupted"), "{}", ran.out);
    assert_eq!(home.json("r/summary.json")["parts"][0]["complete"], false);
    let before = rows(&lines(&home, "r/grids.jsonl"), "cell").len();
    assert!((1..4).contains(&before), "{before} cells");
    let again = check(&home, "--out r --part grids --part shares --resume", &[]).ends(0);
    assert!(again.out.contains("grids: complete") && !again.err.contains("grids: tiny decode 1 x 32"), "{again:?}");
}

#[test]
fn a_packed_check_runs_where_there_is_no_rust() {
    let home = Home::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gpu-pack.sh");
    let bash = |arguments: &[&str]| {
        let script = Command::new("bash").arg(&script).args(arguments).current_dir(home.path("")).output();
        Ran::of(&script.expect("bash runs"))
    };
    let packed = bash(&["--binary", "/bin/true", "pack"]).ends(0);
    assert!(packed.out.trim_end().ends_with("sh pack/gpu-check.sh --budget 9min"), "{}", packed.out);
    assert!(bash(&["--nonsense"]).ends(2).err.contains("no option --nonsense"));
    // In the program's place one that says how it was called, and leaves a file.
    home.write("pack/overbook", "#!/bin/sh\necho \"$@\"\nls \"$3\"\ntouch \"$3/$6.jsonl\"\nexit 3\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(home.path("pack/overbook"), mode).expect("a mode");
    let run = |part: &str, out: &str| {
        let mut sh = Command::new("sh");
        sh.args(["pack/gpu-check.sh", "--part", part]).env("OUT", home.path(out)).current_dir(home.path(""));
        Ran::of(&sh.output().expect("sh runs")).ends(3)
    };
    let first = run("verify", "one");
    assert!(first.out.contains("one --resume --part verify"), "{}", first.out);
    // What the call before has measured is there for the next, and comes back with it.
    assert!(run("grids", "two").out.contains("verify.jsonl"));
    assert_eq!(home.names("two"), ["grids.jsonl", "verify.jsonl"]);
}

#[test]
fn without_time_everything_is_left_and_said() {
    let home = Home::new();
    let ran = check(&home, "--out r --budget 1ms", &[]).ends(1);
    assert!(ran.out.contains("shares: NOT COMPLETE") && ran.out.contains("LEFT  kernel embed: no time"), "{}", ran.out);
}

#[test]
fn without_a_gpu_it_says_what_is_missing() {
    let home = Home::new();
    let ran = home.overbook("gpu-check --out r").ends(1);
    assert!(ran.err.contains("no NVIDIA driver"), "{}", ran.err);
}
