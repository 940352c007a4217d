//! Traces that are refused: exit code 2, file and line, what was expected, nothing left behind.

use std::io::Read as _;

use flate2::Compression;
use flate2::read::GzEncoder;

use super::home::{Home, SMALL};
use super::places::place;

const BURSTGPT: &str = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n";
const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

/// A scenario that replays `trace.csv`.
fn scenario() -> String {
    let start = SMALL.find("  generate:").expect("generated");
    let end = SMALL.find("model:").expect("a model");
    format!("{}  trace: {{ path: trace.csv }}\n{}", &SMALL[..start], &SMALL[end..])
}

fn home(trace: impl AsRef<[u8]>) -> Home {
    let home = Home::new();
    home.write("scenario.yaml", scenario());
    home.write("trace.csv", trace);
    home
}

/// The trace must be refused at `line`, saying all of `told`.
fn refuses(trace: impl AsRef<[u8]>, line: u64, told: &[&str]) {
    let home = home(trace);
    for args in [&["run", "scenario.yaml", "--out", "results"][..], &["run", "scenario.yaml"]] {
        let err = home.refused(args);
        let at = format!("{}:{line}:", home.path("trace.csv").display());
        for wanted in [&at, "help: "].into_iter().chain(told.iter().copied()) {
            assert!(err.contains(wanted), "`{wanted}` is not in:\n{err}");
        }
    }
}

fn burstgpt(rows: &str) -> String {
    format!("{BURSTGPT}{rows}")
}

#[test]
fn a_missing_file_is_told_at_its_path_in_the_scenario() {
    let home = Home::new();
    home.write("scenario.yaml", scenario());
    for command in ["run", "check"] {
        let err = home.refused([command, "scenario.yaml"]);
        assert!(err.contains(&format!("there is no file `{}`", home.path("trace.csv").display())), "{err}");
        assert!(err.contains(&place("scenario.yaml", &scenario(), "trace.csv")), "{err}");
    }
    std::fs::create_dir(home.path("trace.csv")).expect("a folder");
    assert!(home.refused(["run", "scenario.yaml"]).contains("is a folder; name a file"));
}

#[test]
fn a_broken_line() {
    let word = burstgpt("0,ChatGPT,10,10,20,API log\n1,ChatGPT,ten,10,20,API log\n");
    refuses(word, 3, &["column `Request tokens`: expected a whole number of tokens, like 472, found `ten`"]);
    let cut = burstgpt("0,ChatGPT,10,10,20,API log\n1,ChatGPT,10\n");
    refuses(cut, 3, &["expected 6 fields as in the header, found 3"]);
    let date = format!("{AZURE}2023-11-16 18:15:46.6805900,374,44\n2023-13-16 18:15:50.9951690,396,109\n");
    refuses(date, 3, &["column `TIMESTAMP`: expected a date and time", "found `2023-13-16 18:15:50.9951690`"]);
}

#[test]
fn unsorted_and_negative_times() {
    let back = burstgpt("5,ChatGPT,10,10,20,API log\n1,ChatGPT,10,10,20,API log\n");
    refuses(back, 3, &["time goes backwards", "at least `5`", "found `1`", "sort the file by `Timestamp`"]);
    let negative = burstgpt("-5,ChatGPT,10,10,20,API log\n");
    refuses(negative, 2, &["expected a time of at least 0 seconds, found `-5`"]);
}

#[test]
fn absurd_tokens() {
    let absurd = burstgpt("5,ChatGPT,99999999999,10,20,API log\n");
    refuses(absurd, 2, &["expected at most 16777216 tokens (2^24), found `99999999999`"]);
    let negative = burstgpt("5,ChatGPT,-3,10,20,API log\n");
    refuses(negative, 2, &["column `Request tokens`", "found `-3`"]);
}

#[test]
fn an_empty_trace() {
    let home = home("");
    let err = home.refused(["run", "scenario.yaml"]);
    assert!(err.contains("trace.csv: the file is empty; expected a header line and rows"), "{err}");
    home.write("trace.csv", BURSTGPT);
    let err = home.refused(["run", "scenario.yaml"]);
    assert!(err.contains("no request to replay after line 1") && err.contains("a header and no rows"), "{err}");
    home.write("trace.csv", burstgpt("5,ChatGPT,0,10,20,API log\n"));
    let err = home.refused(["run", "scenario.yaml"]);
    assert!(err.contains("1 rows read") && err.contains("1 failed"), "{err}");
}

#[test]
fn an_unknown_header() {
    refuses("foo,bar\n1,2\n", 1, &["unknown header `foo,bar`", "burstgpt (", "azure (", "vidur ("]);
}

#[test]
fn check_opens_the_trace() {
    for trace in ["", "foo,bar\n1,2\n", BURSTGPT] {
        let err = home(trace).refused(["check", "scenario.yaml"]);
        assert!(err.contains("trace.csv"), "{err}");
    }
}

fn rows(n: u32) -> String {
    let rows: Vec<_> = (0..n).map(|i| format!("{i},ChatGPT,{},{},0,API log\n", 10 + i * 7919 % 500, 1 + i)).collect();
    burstgpt(&rows.concat())
}

#[test]
fn a_truncated_zstandard_file() {
    let whole = zstd::encode_all(rows(500).as_bytes(), 3).expect("packed");
    refuses(&whole[..whole.len() / 2], 1, &["broken Zstandard stream", "the download may be incomplete"]);
}

#[test]
fn a_truncated_gzip_file() {
    let mut packed = Vec::new();
    GzEncoder::new(rows(500).as_bytes(), Compression::default()).read_to_end(&mut packed).expect("packed");
    let home = home(&packed[..packed.len() / 2]);
    let err = home.refused(["run", "scenario.yaml"]);
    assert!(err.contains("trace.csv:") && err.contains("broken gzip stream"), "{err}");
}

#[test]
fn not_utf8() {
    let mut trace = burstgpt("5,ChatGPT,9,10,20,API log\n").into_bytes();
    trace.extend(b"6,Chat\xff,9,10,20,API log\n");
    refuses(trace, 3, &["column `Model`: expected UTF-8 text, found other bytes"]);
}

#[test]
fn requests_larger_than_the_context_are_rejected_and_counted() {
    let home = home(burstgpt("0,ChatGPT,200000,10,20,API log\n1,ChatGPT,200,10,20,API log\n"));
    let ran = home.overbook("run scenario.yaml --out results").ends(0);
    assert!(ran.out.contains("1 of 2 finished, 1 rejected"), "{}", ran.out);
    assert!(ran.err.contains("warning: 1 of 2 requests rejected; a sequence has at most 131072 tokens"), "{}", ran.err);
    let outcomes = &home.json("results/summary.json")["outcomes"];
    assert_eq!((outcomes["finished"].as_u64(), outcomes["rejected"].as_u64()), (Some(1), Some(1)));
}

#[test]
fn requests_larger_than_the_pool_are_rejected_and_counted() {
    let home = home(burstgpt("0,ChatGPT,2000,10,20,API log\n1,ChatGPT,200,10,20,API log\n"));
    let ran = home.overbook("run scenario.yaml --out results --set engine.kv_tokens=1000").ends(0);
    assert!(ran.out.contains("1 of 2 finished, 1 rejected"), "{}", ran.out);
    // Not even one of them fits: the run is still a result.
    let ran = home.overbook("run scenario.yaml --set engine.kv_tokens=16").ends(0);
    assert!(ran.out.contains("0 of 2 finished, 2 rejected"), "{}", ran.out);
}

#[test]
fn paths_start_from_the_scenario_or_from_where_the_user_stands() {
    let home = home(rows(3));
    std::fs::create_dir(home.path("deep")).expect("a folder");
    home.write("deep/other.csv", rows(5));
    home.write("deep/scenario.yaml", scenario().replace("trace.csv", "other.csv"));
    assert!(home.overbook("run deep/scenario.yaml").ends(0).out.contains("5 of 5 finished"));
    let ran = home.overbook("run deep/scenario.yaml --set workload.trace.path=trace.csv").ends(0);
    assert!(ran.out.contains("3 of 3 finished"), "{}", ran.out);
    let err = home.refused(["run", "deep/scenario.yaml", "--set", "workload.trace.path=other.csv"]);
    assert!(err.contains("there is no file `") && err.contains("--> --set:1:21"), "{err}");
}
