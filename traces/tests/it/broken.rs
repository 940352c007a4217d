//! A broken file must name its place, what was expected, what was found, and what to do.

use overbook_traces::{Columns, Format, TraceError, TraceSpec};

use crate::{AZURE, BURSTGPT, VIDUR, error_of, file};

/// Checks the message of a broken file, with the path replaced by `FILE`.
#[track_caller]
fn says(bytes: impl AsRef<[u8]>, change: impl FnOnce(&mut TraceSpec), parts: &[&str]) {
    let text = error_of(bytes, change).to_string();
    for part in parts.iter().chain(&["help: "]) {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

fn keep_all(_: &mut TraceSpec) {}

#[test]
fn missing_file() {
    let error = TraceSpec::new("/nowhere/trace.csv").replay().err().expect("missing");
    assert!(matches!(error, TraceError::Open { .. }));
    assert!(error.to_string().starts_with("/nowhere/trace.csv: cannot open"), "{error}");
    let folder = TraceSpec::new(std::env::temp_dir()).replay().err().expect("folder").to_string();
    assert!(folder.contains("not a folder"), "{folder}");
}

#[test]
fn nothing_to_replay() {
    says("", keep_all, &["the file is empty"]);
    says("\n\r\n\n", keep_all, &["the file is empty"]);
    says(BURSTGPT, keep_all, &["after line 1", "0 rows read", "a header and no rows"]);
    let failures = format!("{BURSTGPT}1,ChatGPT,0,0,0,API log\n\n2,GPT-4,0,0,0,API log\n");
    says(&failures, keep_all, &["after line 4", "2 failed"]);
    let row = format!("{BURSTGPT}1,ChatGPT,5,5,10,Conversation log\n");
    says(&row, |spec| spec.keep.model.push("Claude".into()), &["1 filtered out", "ChatGPT/conversation"]);
    says(&row, |spec| spec.skip = 5, &["1 skipped", "`skip` must be below 1"]);
    says(&row, |spec| spec.rate = Some(overbook_sim::units::Rate(1.0)), &["`rate`", "found 1 over 0 ns"]);
    says(&row, |spec| spec.repeat = 2, &["`repeat`", "at least 2 requests"]);
}

#[test]
fn wrong_headers() {
    let needs = ["Timestamp|Relative timestamp", "ContextTokens", "arrived_at"];
    says("time,tokens\n1,2\n", keep_all, &[&["unknown header `time,tokens`"], &needs[..]].concat());
    says("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", keep_all, &["git lfs pull"]);
    says("{\"timestamp\": 0}\n", keep_all, &["unknown header `timestamp`", "name the keys with `columns"]);
    says("[{\"timestamp\": 0}]\n", keep_all, &["unknown header `timestamp`", "name the keys with `columns"]);
    says("5,ChatGPT,472,18,490,Conversation log\n", keep_all, &["header line is missing"]);
    says("TIMESTAMP|ContextTokens|GeneratedTokens\n", keep_all, &["unknown header", "name the columns"]);
    says(AZURE, |spec| spec.format = Format::Vidur, &["lacks arrived_at, num_prefill_tokens", "format vidur"]);
    says(b"\xff\xfeT\0I\0\n", keep_all, &["UTF-8", ":1:"]);
    says(format!("{AZURE}x"), |spec| spec.keep.model.push("GPT-4".into()), &["`keep`", "format azure"]);
}

#[test]
fn broken_rows() {
    let burst = |rows: &str| format!("{BURSTGPT}5,ChatGPT,472,18,490,Conversation log\n{rows}\n");
    says(burst("6,ChatGPT,472"), keep_all, &[":3:", "expected 6 fields", "found 3"]);
    says(burst("6,ChatGPT,x,18,490,API log"), keep_all, &[":3:", "`Request tokens`", "472", "found `x`"]);
    says(burst("6,ChatGPT,,18,490,API log"), keep_all, &["found ``"]);
    says(burst("6,ChatGPT,4,1.5,490,API log"), keep_all, &["`Response tokens`", "found `1.5`"]);
    says(burst("6,ChatGPT,4,-2,490,API log"), keep_all, &["not negative", "found `-2`"]);
    says(burst("6,ChatGPT,16777217,1,1,API log"), keep_all, &["at most 16777216 tokens", "found `16777217`"]);
    says(burst("-6,ChatGPT,4,1,5,API log"), keep_all, &["`Timestamp`", "at least 0 seconds", "found `-6`"]);
    says(burst("soon,ChatGPT,4,1,5,API log"), keep_all, &["`Timestamp`", "decimal number", "found `soon`"]);
    says(burst("1700000000000,ChatGPT,4,1,5,API log"), keep_all, &["often milliseconds"]);
    let back = "9,ChatGPT,0,0,0,API log\n8.5,ChatGPT,4,1,5,API log";
    says(burst(back), keep_all, &[":4:", "backwards", "at least `9`", "found `8.5`", "sort"]);
    let mut latin = burst("6,").into_bytes();
    latin.pop();
    latin.extend(b"Caf\xe9,4,1,5,API log\n");
    says(&latin, keep_all, &[":3:", "`Model`", "UTF-8"]);
    says(format!("{BURSTGPT}{}", "x".repeat(300_000)), keep_all, &[":2:", "longer than 262144 bytes"]);
    let many: Vec<String> = (0..5000).map(|i| format!("6,m{i},4,1,5,API log")).collect();
    says(burst(&many.join("\n")), keep_all, &["more than 4096", "m4095/api"]);
}

#[test]
fn broken_azure_and_vidur_rows() {
    let azure = |row: &str| format!("{AZURE}2023-11-16 18:15:46.6805900,374,44\n{row}");
    says(azure("16/11/2023,4,1"), keep_all, &["`TIMESTAMP`", "date and time", "found `16/11/2023`"]);
    says(azure("2023-11-16 18:15:46,4,1"), keep_all, &["backwards", "46.6805900", "`2023-11-16 18:15:46`"]);
    says(format!("{VIDUR}0,0,1\n"), keep_all, &["no request to replay", "1 failed"]);
    says(format!("{VIDUR}-0.5,3,1\n"), keep_all, &["`arrived_at`", "at least 0"]);
}

#[test]
fn times_past_the_end_of_virtual_time() {
    let rows = format!("{VIDUR}0,3,1\n18000000000,3,1\n");
    says(&rows, |spec| spec.time_scale = Some(0.5), &[":3:", "584 years", "time_scale"]);
    says(&rows, |spec| spec.repeat = 3, &["584 years", "`repeat`"]);
}

#[test]
fn broken_streams() {
    says(b"\x1f\x8bgarbage", keep_all, &["broken gzip stream", ":1:"]);
    says(b"\x28\xb5\x2f\xfdgarbage", keep_all, &["broken Zstandard stream", ":1:"]);
}

#[test]
fn all_problems_of_a_specification() {
    let mut spec = TraceSpec::new("");
    spec.format = Format::Azure;
    spec.keep.log_type.push("api".into());
    spec.requests = Some(0);
    spec.max_prompt_tokens = Some(0);
    spec.time_scale = Some(f64::NAN);
    spec.rate = Some(overbook_sim::units::Rate(-1.0));
    spec.repeat = 0;
    let problems = spec.problems();
    let paths: Vec<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
    let expected = ["path", "keep", "requests", "max_prompt_tokens", "rate", "time_scale", "rate", "repeat"];
    assert_eq!(paths, expected);
    assert!(matches!(spec.replay().err(), Some(TraceError::Spec(list)) if list == problems));
}

#[test]
fn all_missing_columns_are_named_and_none_is_taken_twice() {
    let read = |text: &str, columns: &Columns| {
        let file = file(text);
        let spec = TraceSpec { columns: Some(columns.clone()), ..TraceSpec::new(file.path()) };
        let problems: Vec<String> = spec.problems().into_iter().map(|(path, text)| format!("{path} {text}")).collect();
        spec.replay().err().map(|error| error.to_string()).into_iter().chain(problems).collect::<Vec<_>>().join("\n")
    };
    let plain = Columns::new("t", "in", "out");
    let error = read("when,in,tokens\n0,1,1\n", &Columns { class: Some("user".to_owned()), ..plain.clone() });
    let told = "no column `t` (`columns.arrival`), `out` (`columns.output`), `user` (`columns.class`) among `when,in,tokens`; help: name others";
    assert!(error.contains(told), "{error}");
    // The first of two was taken in silence.
    let error = read("t,in,out,In\n0,1,1,9\n", &plain);
    assert!(error.contains(":1: the column `in` stands twice in the header, as number 2 and number 4"), "{error}");
    assert_eq!(read("t,in,out,x,x\n0,1,1,9,9\n", &plain), "", "columns that are not read may have one name");
    let error = read("t,in,out\n0,1,1\n", &Columns::new("t", "in", "In"));
    assert!(error.contains("columns.output names `In`, which is `columns.prompt` already"), "{error}");
}
