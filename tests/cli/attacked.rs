//! Inputs made to harm, and paths that few expect.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::home::{Home, SMALL};

#[test]
fn an_out_that_is_no_utf_8_gets_its_results() {
    let home = Home::small();
    let out = OsStr::from_bytes(b"out\xff");
    let ran = home.run([OsStr::new("run"), OsStr::new("small.yaml"), OsStr::new("--out"), out]).ends(0);
    assert!(ran.out.contains("results: out\u{fffd}"), "{}", ran.out);
    assert!(fs::read_dir(home.path("").join(out)).expect("a run directory").count() >= 6);
}

#[test]
fn force_leaves_what_the_user_has_put_there() {
    let home = Home::small();
    home.overbook("run small.yaml --out kept").ends(0);
    home.write("kept/notes.txt", "mine");
    home.overbook("run small.yaml --out kept --force --no-rows").ends(0);
    assert_eq!(home.text("kept/notes.txt"), "mine");
    assert!(!home.path("kept/steps.parquet").exists(), "what a run had written is replaced");
    assert_eq!(home.names("").join(" "), "kept small.yaml");
}

#[test]
#[cfg(target_os = "linux")]
fn what_a_killed_run_has_left_is_named() {
    let home = Home::small();
    // No process of Linux has so high a number.
    fs::create_dir(home.path("other.partial-4294967295")).expect("a folder");
    let err = home.overbook("run small.yaml --out results").ends(0).err;
    assert!(err.contains("note: other.partial-4294967295 is of a run that was killed"), "{err}");
    assert!(home.path("other.partial-4294967295").exists());
}

/// A scenario that is refused, and how long that took.
fn refused(text: &[u8]) -> (String, Duration) {
    let home = Home::new();
    home.write("large.yaml", text);
    let begun = Instant::now();
    let err = home.refused(["check", "large.yaml"]);
    (err, begun.elapsed())
}

#[test]
fn many_keys_take_time_in_proportion() {
    let keys = |count: usize, key: &dyn Fn(usize) -> String| {
        let keys: Vec<String> = (0..count).map(|number| format!("{}: 1", key(number))).collect();
        format!("version: 1\nname: large\n{}\n", keys.join("\n"))
    };
    let (err, took) = refused(keys(200_000, &|number| format!("k{number}")).as_bytes());
    assert!(err.contains("unknown key `k0`") && took < Duration::from_secs(60), "{took:?}");
    let (err, took) = refused(keys(200_000, &|_| "k".to_owned()).as_bytes());
    assert!(err.contains("key `k` is given twice") && took < Duration::from_secs(60), "{took:?}");
    // Each value knows its path: long keys above many values.
    let nested = format!("? {}\n: [{}]\n", "k".repeat(100_000), "1,".repeat(10_000));
    let (err, _) = refused(nested.as_bytes());
    assert!(err.contains("too many, too long or too deep"), "{}", &err[..err.len().min(400)]);
}

#[test]
fn what_is_no_scenario_is_not_read_to_its_end() {
    let (err, _) = refused(&vec![b'#'; (8 << 20) + 1]);
    assert!(err.contains("larger than 8 MiB"), "{err}");
    let err = Home::new().refused(["check", "/dev/zero"]);
    assert!(err.contains("`/dev/zero` is larger than 8 MiB"), "{err}");
    assert!(Home::new().refused(["check", "/"]).contains("cannot read the scenario `/`"));
}

#[test]
fn a_scenario_may_come_through_a_pipe() {
    let home = Home::small();
    let file = fs::File::open(home.path("small.yaml")).expect("a file");
    let cat = home.command(["check", "/dev/stdin"]).stdin(Stdio::from(file)).output().expect("it runs");
    assert!(cat.status.success(), "{cat:?}");
}

#[test]
fn tables_of_lengths_have_a_bound() {
    let class = |n: usize| {
        format!(
            "{{ class: c{n}, share: 1, prompt: {{ zipf: {{ exponent: 1, max: 131072 }} }}, output: {{ fixed: 1 }} }}"
        )
    };
    let classes: Vec<String> = (0..2000).map(class).collect();
    let lengths = format!("lengths: {{ classes: [{}] }}", classes.join(", "));
    let text = SMALL.replace("lengths: { fixed: { prompt: 200, output: 50 } }", &lengths);
    let (err, took) = refused(text.as_bytes());
    assert!(
        err.contains("524290000 points") || err.contains("points of at most"),
        "{}",
        &err[err.len().saturating_sub(400)..]
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_scenario_that_is_no_utf_8_names_the_place() {
    let (err, _) = refused(b"version: 1\nname: caf\xe9\n");
    assert!(err.contains("large.yaml:2:10") && err.contains("0xe9") && err.contains("save the file as UTF-8"), "{err}");
}

#[test]
fn a_terminal_is_not_told_what_to_do() {
    let text = SMALL.replace("name: small", "name: small\ndescription: \"\\e[2J\\e[31mhidden\"");
    let (err, _) = refused(text.as_bytes());
    assert!(err.contains("U+001B") && !err.contains('\x1b'), "{err}");
    // Names in traces are others' too.
    let home = Home::new();
    let rows = "arrived_at,num_prefill_tokens,num_decode_tokens,class\n0,5,5,\x1b[2Jx\n1,5,5,\x1b]0;y\x07\n";
    home.write("trace.csv", rows);
    for args in ["trace stats trace.csv", "trace stats trace.csv --by class"] {
        let ran = home.overbook(args);
        assert!(!format!("{}{}", ran.out, ran.err).contains(|c: char| c.is_control() && c != '\n'), "{ran:?}");
    }
}

#[test]
fn a_message_names_what_was_asked() {
    let home = Home::small();
    let err = home.refused(["compare", "small.yaml", "--over", "scheduler=vllm,trtllm"]);
    assert!(
        err.contains("`max_num_tokens` of `trtllm` is 8192") && err.contains("`enable_chunked_context: true`"),
        "{err}"
    );
    assert!(err.contains("--over:1:") && !err.contains("small.yaml:"), "{err}");
}

#[test]
fn a_short_trace_that_is_spread_far_is_told() {
    let home = Home::new();
    home.write("trace.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n0,5,5\n30,5,5\n61,5,5\n");
    let scenario = |spread: &str| {
        let trace = format!("{{ path: trace.csv, spread: {spread} }}");
        format!("version: 1\nname: t\nworkload: {{ trace: {trace} }}\nmodel: llama-3.1-8b\ngpu: h200\n")
    };
    home.write("far.yaml", scenario("1000d"));
    let err = home.overbook("check far.yaml").ends(0).err;
    assert!(err.contains("note: `spread: 1000d` deals 3 requests out that came within 61s"), "{err}");
    home.write("near.yaml", scenario("1s"));
    assert_eq!(home.overbook("check near.yaml").ends(0).err, "");
}

/// 100 columns hold what is printed.
#[test]
fn comparisons_fit_a_terminal() {
    let home = Home::small();
    home.overbook("run small.yaml --out a").ends(0);
    home.overbook("run small.yaml --out b --set scheduler=sglang").ends(0);
    let over = "scheduler={ one: { vllm: { max_num_seqs: 64 } }, two: { vllm: { max_num_seqs: 8 } } }";
    let compared =
        home.run(["compare", "small.yaml", "--over", over, "--load", "1x,2x", "--out", "c", "--no-progress"]);
    for out in [home.overbook("report a b").ends(0).out, home.overbook("report a").ends(0).out, compared.ends(0).out] {
        for line in out.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}

/// Sessions have the ids of answers, too, behind those of their prompts.
#[test]
fn sessions_are_converted_and_read_back() {
    let home = Home::new();
    home.write(
        "s.yaml",
        "version: 1\nname: s\nmodel: llama-3.1-8b\ngpu: h100\nworkload:\n  generate: { arrivals: { poisson: { rate: 5/s } }, lengths: { fixed: { prompt: 300, \
         output: 108 } }, requests: 60, sessions: { turns: { fixed: 3 }, follow_up: { fixed: 20 }, think_median: 1s, think_sigma: 0.5, max_prompt_tokens: 4000 } }\n",
    );
    home.overbook("trace convert s.yaml --out s.jsonl").ends(0);
    home.overbook("run s.yaml --out a").ends(0);
    home.write(
        "t.yaml",
        "version: 1\nname: t\nmodel: llama-3.1-8b\ngpu: h100\nworkload: { trace: { path: s.jsonl } }\n",
    );
    home.overbook("run t.yaml --out b").ends(0);
    // A trace begins with its first request: the same run, a little earlier.
    let (own, read) = (home.json("a/summary.json"), home.json("b/summary.json"));
    assert!(own["tokens"]["cached_tokens"].as_u64().is_some_and(|tokens| tokens > 10_000), "{own}");
    for what in ["tokens", "steps", "mean_ttft_ms", "p99_e2el_ms", "duration_s"] {
        assert_eq!(own[what], read[what], "{what}");
    }
}

/// What is no log ends before memory does; what no run can have is a mistake of the command.
#[test]
fn imports_are_bounded_and_wrong_changes_refused() {
    let home = Home::new();
    assert!(home.overbook("import vllm --log /dev/zero").ends(2).err.contains("larger than 64 MiB"));
    for option in ["--constants", "--training"] {
        let measured = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/data/measured");
        let refused = home.run(["validate", "--measured", measured, option, "/dev/zero"]).ends(2);
        assert!(refused.err.contains("/dev/zero: it is larger than 8 MiB"), "{refused:?}");
    }
    // A device is no file of costs; a file that is too long is none either.
    home.write("small.yaml", SMALL);
    home.write("long.yaml", " ".repeat((8 << 20) + 1));
    for (cost, needs) in [("table", "kv_tokens: 32768, "), ("steps", "kv_tokens: 32768, "), ("profile", "")] {
        let engine = format!("engine={{ {needs}cost: {{ {cost}: {{ path: long.yaml }} }} }}");
        let refused = home.run(["run", "small.yaml", "--set", &engine]).ends(2);
        assert!(refused.err.contains("larger than 8 MiB"), "{cost}: {refused:?}");
    }
    let measured = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/data/measured");
    let ran = home.run(["validate", "--measured", measured, "--set", "fleet.replica=8"]).ends(2);
    assert!(ran.err.contains("replica"), "{}", ran.err);
}
