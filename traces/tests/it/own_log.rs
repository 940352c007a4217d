//! A log of one's own: cells that are empty, dates with a zone, rows in any order. And what a conversion keeps.

use std::fs::File;
use std::path::Path;

use overbook_sim::time::Span;
use overbook_sim::workload::arrival::{Arrival, ClassId, SessionId, Workload, WorkloadError};
use overbook_traces::{
    Clock, Columns, ExportError, Extra, Failures, Layout, LeaveOut, TimeUnit, TraceSpec, write_requests,
};

use crate::{AZURE, BURSTGPT, VIDUR, all, drain, error_of, file, first_error};

/// Six faults in nine rows.
const LOG: &str = "ts,model,in,out
2026-03-02T09:00:05+02:00,a,10,5
2026-03-02T09:00:01+02:00,a,11,5
2026-03-02T09:00:07+02:00,a,NULL,5
2026-03-02T09:00:08+02:00,a,12,
2026-03-02T09:00:09+02:00,a,0,0
2026-03-02T09:00:10+02:00,a,many,5
2026-03-02T09:00:11+02:00,a,12
2026-03-02T09:00:03+02:00,b,13,5
2026-03-02T09:00:12+02:00,b,null,5
";

fn log(path: &Path) -> TraceSpec {
    let columns = Columns { unit: TimeUnit::Datetime, class: Some("model".into()), ..Columns::new("ts", "in", "out") };
    TraceSpec { columns: Some(columns), ..TraceSpec::new(path) }
}

#[test]
fn all_faults_of_a_log_are_found_at_once() {
    let file = file(LOG);
    let found = log(file.path()).inspect(1000).expect("a log");
    let told: Vec<String> = found
        .faults
        .iter()
        .map(|fault| format!("{} +{}", fault.first, fault.more))
        .map(|text| text.replace(&file.path().display().to_string(), "LOG"))
        .collect();
    let begins = [
        "LOG:3: column `ts`: time goes",
        "LOG:4: column `in`:",
        "LOG:5: column `out`:",
        "LOG:7: column `in`:",
        "LOG:8: expected 4 fields",
    ];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    for (text, begin) in told.iter().zip(begins) {
        assert!(text.starts_with(begin), "{told:#?}");
    }
    // Rows 3 and 9 are out of order; rows 4 and 10 have no prompt.
    assert!(told[0].contains("`sort: true`") && told[0].ends_with("+1"), "{told:#?}");
    assert!(told[1].contains("`leave_out: empty`") && told[1].ends_with("+1"), "{told:#?}");
    assert!(found.whole && found.counts.rows == 9, "{:?}", found.counts);
    let head = log(file.path()).inspect(2).expect("a log");
    assert!(!head.whole && head.faults.len() == 1);
    let sorted = TraceSpec { sort: true, leave_out: LeaveOut::Invalid, ..log(file.path()) };
    assert!(sorted.inspect(1000).expect("a log").faults.is_empty());
}

#[test]
fn rows_that_are_left_out_or_sorted_are_counted() {
    let file = file(LOG);
    let spec = TraceSpec { sort: true, leave_out: LeaveOut::Invalid, ..log(file.path()) };
    let mut replay = spec.replay().expect("opens");
    let arrivals = drain(&mut replay).expect("reads");
    let seconds: Vec<u64> = arrivals.iter().map(|arrival| arrival.at.0 / 1_000_000_000).collect();
    assert_eq!((seconds, replay.classes()), (vec![0, 2, 4], &["a".to_owned(), "b".to_owned()][..]));
    let rows: Vec<(&str, u64)> = replay.rows().into_iter().filter(|(_, rows)| *rows > 0).collect();
    let expected = [("read", 9), ("taken", 3), ("failed", 1), ("failed_left_out", 1), ("empty", 3), ("invalid", 2)];
    assert_eq!(rows, [&expected[..], &[("out_of_order", 2)]].concat());
    // Again and again the same.
    let twice = all(&TraceSpec { repeat: 2, ..spec.clone() });
    assert_eq!(twice.len(), 6);
    let empty = TraceSpec { leave_out: LeaveOut::Empty, ..spec };
    assert!(first_error(&empty).to_string().contains(":8: expected 4 fields"), "{}", first_error(&empty));
}

#[test]
fn sorting_is_as_if_the_file_were_sorted() {
    let (rows, mixed) = (["0,5,1", "1,6,1", "1,7,1", "4,8,1"], [3, 1, 0, 2]);
    let sorted = file(format!("{VIDUR}{}\n", rows.join("\n")));
    let unsorted = file(format!("{VIDUR}{}\n", mixed.map(|at| rows[at]).join("\n")));
    let spec = TraceSpec { sort: true, skip: 1, requests: Some(2), ..TraceSpec::new(unsorted.path()) };
    let expected = all(&TraceSpec { skip: 1, requests: Some(2), ..TraceSpec::new(sorted.path()) });
    assert_eq!(all(&spec), expected);
    assert!(first_error(&TraceSpec { sort: false, ..spec }).to_string().contains("`sort: true` sorts the rows"));
}

#[test]
fn a_request_without_tokens_has_failed_in_every_format() {
    let mooncake = |output| format!("{{\"timestamp\":0,\"input_length\":5,\"output_length\":{output}}}\n");
    for text in [
        format!("{VIDUR}0,5,1\n0,0,1\n"),
        format!("{AZURE}2023-11-16 18:15:46,5,1\n2023-11-16 18:15:46,5,0\n"),
        format!("{BURSTGPT}0,m,5,1,6,API log\n0,m,0,0,0,API log\n"),
        mooncake(1) + &mooncake(0),
    ] {
        let file = file(&text);
        let mut replay = TraceSpec::new(file.path()).replay().expect("opens");
        assert_eq!(drain(&mut replay).expect("reads").len(), 1, "{text}");
        assert_eq!((replay.counts().failed, replay.counts().dropped), (1, 1), "{text}");
        let kept = all(&TraceSpec { failures: Failures::Keep, ..TraceSpec::new(file.path()) });
        assert!(kept.len() == 2 && kept[1].failed_in_trace, "{text}");
    }
}

#[test]
fn dates_in_seconds_and_empty_cells_say_what_to_do() {
    let hint = |text: String| error_of(text, |_| {}).to_string();
    let date = hint(format!("{VIDUR}2026-03-02T09:00:05Z,5,1\n"));
    assert!(date.contains("this is a date") && date.contains("unit: datetime") && !date.contains("cut off"), "{date}");
    for empty in ["", "NULL", "null", "NaN", "N/A"] {
        let told = hint(format!("{VIDUR}0,{empty},1\n"));
        assert!(told.contains("`leave_out: empty`") && !told.contains("cut off"), "{told}");
    }
    let told = hint("when,in,out\n1,2,3\n".to_owned());
    assert!(told.contains("trace stats --columns 'arrival: NAME, prompt: NAME, output: NAME, unit: s'"), "{told}");
}

#[test]
fn the_clock_of_a_file() {
    let clock = |at: &str| {
        let file = file(format!("ts,model,in,out\n{at},a,1,1\n"));
        log(file.path()).replay().expect("opens").clock()
    };
    assert_eq!(clock("2026-03-02T09:00:05+02:00"), Clock::Zone(7200));
    assert_eq!(clock("2026-03-02T09:00:05Z").to_string(), "UTC");
    assert_eq!(clock("2026-03-02 09:00:05"), Clock::Local);
    assert_eq!(Clock::Zone(-19_800).to_string(), "-05:30");
    let file = file(format!("{VIDUR}0,1,1\n"));
    assert_eq!(TraceSpec::new(file.path()).replay().expect("opens").clock(), Clock::Elapsed);
}

/// Requests with all that a trace may know.
struct Rich(Vec<Arrival>, Vec<String>);

impl Workload for Rich {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        Ok((!self.0.is_empty()).then(|| self.0.remove(0)))
    }

    fn classes(&self) -> &[String] {
        &self.1
    }
}

fn rich() -> Rich {
    let ids = file(
        "{\"timestamp\":0,\"input_length\":1030,\"output_length\":4,\"hash_ids\":[7,9,11]}\n\
         {\"timestamp\":5,\"input_length\":8,\"output_length\":4,\"hash_ids\":[12]}\n\
         {\"timestamp\":9,\"input_length\":600,\"output_length\":3,\"hash_ids\":[7,13]}\n",
    );
    let mut arrivals = all(&TraceSpec::new(ids.path()));
    arrivals[0].session = Some(SessionId::new(u64::MAX));
    arrivals[1].priority = -3;
    arrivals[1].recorded_e2el = Some(Span(12_000_000_000));
    arrivals[2].class = ClassId(1);
    let failed = Arrival { failed_in_trace: true, ..Arrival::new(arrivals[2].at, 0, 0) };
    arrivals.push(failed);
    Rich(arrivals, vec!["chat".to_owned(), "api, batch".to_owned()])
}

#[test]
fn a_conversion_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["t.jsonl", "t.parquet"] {
        let path = folder.path().join(name);
        let file = File::create(&path).expect("made");
        write_requests(&mut rich(), Layout::of(&path).expect("a layout"), &[], file).expect("written");
        let mut read = TraceSpec { failures: Failures::Keep, ..TraceSpec::new(&path) }.open().expect("opens");
        assert_eq!(drain(&mut *read).expect("reads"), rich().0, "{name}");
        assert_eq!(read.classes(), rich().classes(), "{name}");
    }
}

#[test]
fn csv_refuses_what_it_has_no_columns_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    let write = |drop: &[Extra]| write_requests(&mut rich(), Layout::Csv, drop, File::create(&path).expect("made"));
    let refused = write(&[]).expect_err("it has ids");
    assert!(matches!(refused, ExportError::Loses { request: 1, .. }), "{refused}");
    assert!(
        refused.to_string().contains("request 1 has ids,sessions")
            && refused.to_string().contains("--drop ids,sessions")
    );
    let refused = write(&[Extra::Ids, Extra::Sessions]).expect_err("and more").to_string();
    assert!(refused.contains("request 2 has priorities,elapsed"), "{refused}");
    assert_eq!(write(&Extra::ALL).expect("nothing is left of them"), 4);
    let read = all(&TraceSpec { failures: Failures::Keep, ..TraceSpec::new(&path) });
    assert!(read.iter().all(|arrival| arrival.content.is_none() && arrival.session.is_none()));
    assert_eq!(read.len(), 4);
}
