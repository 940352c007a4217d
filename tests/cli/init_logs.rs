//! `overbook init` with logs as they are found: what is told, refused and left out, and that nothing is lost.

use crate::cli::home::{Home, Ran};

const SERVER: [&str; 5] = ["init", "--model", "llama-3.1-8b", "--gpu", "h100"];

fn init(home: &Home, args: &[&str]) -> Ran {
    home.run([&SERVER[..], &["--no-run", "--force", "--out", "s.yaml"], args].concat())
}

const LOG: &str = "ts,prompt_tokens,completion_tokens\n1764579600.5,100,10\n1764579601.5,120,20\n";

#[test]
fn the_log_itself_is_never_written_over() {
    let home = Home::new();
    home.write("log.csv", LOG);
    std::fs::hard_link(home.path("log.csv"), home.path("other.csv")).expect("a link");
    #[cfg(unix)]
    std::os::unix::fs::symlink(home.path("log.csv"), home.path("link.csv")).expect("a link");
    for out in [
        "log.csv",
        "./log.csv",
        "other.csv",
        #[cfg(unix)]
        "link.csv",
    ] {
        let err = home.refused([&SERVER[..], &["--force", "--log", "log.csv", "--out", out]].concat());
        assert!(err.contains("is the log log.csv itself"), "{out}: {err}");
    }
    assert_eq!(home.text("log.csv"), LOG);
}

#[test]
fn a_scenario_that_check_refuses_is_not_written() {
    let home = Home::new();
    home.write("log.csv", LOG);
    let refused = |args: &[&str], part: &str| {
        let ran = home.run([&["init", "--gpu", "h100", "--no-run", "--out", "s.yaml"], args].concat()).ends(2);
        assert!(ran.err.contains(part), "`{part}` is missing in: {}", ran.err);
        assert!(!home.path("s.yaml").exists(), "{args:?}");
    };
    let log = ["--model", "llama-3.1-8b", "--log", "log.csv"];
    refused(
        &[&log[..], &["--keep", "foo"]].concat(),
        "--keep foo: the log has no requests of this class; it has trace; help: `--class NAME`",
    );
    refused(&[&log[..], &["--keep", "trace"]].concat(), "columns.class");
    refused(&["--vllm", "vllm serve Qwen/Qwen3-8B --max-num-seqs 0"], "s.yaml was not written");
    refused(&["--vllm", "vllm serve Qwen/Qwen3-8B --tensor-parallel-size 0"], "s.yaml was not written");
    refused(&["--vllm", "vllm serve Qwen/Qwen3-8B --gpu-memory-utilization 95"], "s.yaml was not written");
    // A name of a file that is none of a scenario.
    home.run([&SERVER[..], &["--no-run", "--log", "log.csv", "--out", "..yaml"]].concat()).ends(0);
    home.overbook("check ..yaml").ends(0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;

    let home = Home::new();
    let name = std::ffi::OsStr::from_bytes(b"b\xff.csv");
    std::fs::write(home.path("").join(name), LOG).expect("written");
    let args = SERVER.map(std::ffi::OsString::from).into_iter();
    let err = home.refused(args.chain(["--no-run".into(), "--log".into(), name.to_owned()]));
    assert!(err.contains("the path is not UTF-8"), "{err}");
}

/// Twenty requests, every second one with a prompt of two lines, the second of which looks like a row.
fn multiline() -> String {
    (0..20).fold("ts,prompt_tokens,completion_tokens,prompt\n".to_owned(), |text, at| {
        let prompt = if at % 2 == 0 { "\"two\n1764579600,7,7,x\"" } else { "hello" };
        format!("{text}17645796{at:02},100,10,{prompt}\n")
    })
}

#[test]
fn texts_of_several_lines_are_read_everywhere() {
    let home = Home::new();
    home.write("log.csv", multiline());
    let ran = init(&home, &["--log", "log.csv"]).ends(0);
    assert!(ran.err.contains("log: 20 requests of 20 rows over 19 s"), "{}", ran.err);
    let checked = home.overbook("check s.yaml").ends(0);
    assert!(!checked.err.contains("left out"), "{}", checked.err);
    let ran = home.overbook("run s.yaml --out a").ends(0);
    assert!(ran.out.contains("20 of 20 finished"), "{}", ran.out);
    let stats = home.run([
        "trace",
        "stats",
        "log.csv",
        "--columns",
        "arrival: ts, prompt: prompt_tokens, output: completion_tokens",
    ]);
    assert!(stats.ends(0).out.contains("20 "), "statistics of 20 requests");
    home.write("log.csv", multiline().replace("1764579619,100,10,hello", "1764579619,100,10,\"open"));
    let ran = init(&home, &["--log", "log.csv"]).ends(0);
    assert!(
        ran.err.contains("a quote (\") opens a field") && ran.err.contains("cannot be read: line 31"),
        "{}",
        ran.err
    );
}

#[test]
fn rows_that_no_engine_has_seen_are_named() {
    let home = Home::new();
    home.write(
        "log.csv",
        "startTime,endTime,prompt_tokens,completion_tokens,model,cache_hit\n\
         2026-03-02 09:00:05.123,2026-03-02 09:00:07,100,10,gpt,False\n\
         2026-03-02 09:00:06,2026-03-02 09:00:07,100,10,gpt,True\n\
         2026-03-02 09:00:08,2026-03-02 09:00:09,100,0,gpt,\n",
    );
    let ran = init(&home, &["--log", "log.csv"]).ends(0);
    let why = "1 rows that are no requests to an engine (`cache_hit` is `True`): line 3";
    assert!(ran.err.contains("1 requests of 3 rows") && ran.err.contains(why), "{}", ran.err);
    let told = "1 rows that are no requests to an engine (`cache_hit` is `True`) are left out: line 3.";
    assert!(home.text("s.yaml").contains(told), "{}", home.text("s.yaml"));
    let checked = home.overbook("check s.yaml").ends(0);
    assert!(checked.err.contains("of all 3 rows 2 are left out"), "{}", checked.err);
    assert!(checked.err.contains("no requests, for `cache_hit` is `True`: line 3"), "{}", checked.err);
    let ran = home.overbook("run s.yaml --out a").ends(0);
    assert!(ran.out.contains("2 of 3 rows: 1 failed (no tokens), 1 no requests to an engine"), "{}", ran.out);
    assert_eq!(home.json("a/summary.json")["trace_rows"]["no_request"].as_u64(), Some(1));
}

#[test]
fn doubts_are_warnings_and_stand_in_the_scenario() {
    let home = Home::new();
    let rows = (0..30).fold(String::new(), |rows, at| format!("{rows}17645796{at:02}.5,100,10\n"));
    home.write("log.csv", format!("ts,prompt_tokens,completion_tokens\n{rows}1764579630700,100,10\n"));
    let ran = init(&home, &["--log", "log.csv"]).ends(0);
    let doubt = "column `ts`: 1 of 31 times are no seconds since 1970 as the others are: line 32";
    assert!(
        ran.err.contains(&format!("warning: {doubt}")) && ran.err.contains("30 requests of 31 rows"),
        "{}",
        ran.err
    );
    assert!(home.text("s.yaml").contains(&format!("# Doubtful: {doubt}")), "{}", home.text("s.yaml"));
    home.overbook("check s.yaml").ends(0);
}

#[test]
fn a_rate_takes_the_place_of_times() {
    let home = Home::new();
    home.write("log.csv", LOG);
    home.write("lengths.csv", "prompt_tokens,completion_tokens\n100,10\n120,20\n");
    for (log, told) in [
        ("lengths.csv", "# The log has no times; these are drawn."),
        ("log.csv", "# Drawn arrivals replace the times of the log"),
    ] {
        init(&home, &["--log", log, "--rate", "5/s"]).ends(0);
        assert!(home.text("s.yaml").contains(told), "{log}: {}", home.text("s.yaml"));
        home.overbook("check s.yaml").ends(0);
    }
}
