use std::collections::HashMap;
use std::io::Read;

use serde_json::Value;

use super::*;
use crate::sample;

fn events(trace: &Trace) -> Vec<Value> {
    let json: Value = serde_json::from_str(&trace.json).expect("JSON");
    assert_eq!(json["otherData"]["left_out"].as_u64(), Some(trace.left_out));
    json["traceEvents"].as_array().expect("a list").clone()
}

fn run(home: &tempfile::TempDir) -> RunData {
    let (requests, steps) = sample::rows(3000);
    sample::run_dir(&home.path().join("a"), &requests, &steps)
}

#[test]
fn a_window_has_segments_counters_and_whole_slices() {
    let home = tempfile::tempdir().expect("temp dir");
    let run = run(&home);
    let (from, to) = (Time::from_secs_f64(60.0), Time::from_secs_f64(70.0));
    let trace = export(&run, from, to, 100_000).expect("exported");
    assert_eq!(trace.left_out, 0);
    assert!(trace.segments > 50 && trace.requests > 50);
    let mut open: HashMap<(String, String), f64> = HashMap::new();
    let mut count: HashMap<String, u64> = HashMap::new();
    for event in events(&trace) {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        *count.entry(text("ph")).or_default() += 1;
        let ts = event["ts"].as_f64().expect("a time");
        assert!(event["pid"].as_u64() >= Some(1), "{event}");
        match text("ph").as_str() {
            "M" => continue,
            "X" => {
                let end = ts + event["dur"].as_f64().expect("a length");
                assert!(end <= 70e6 + 1e-3 && text("name").contains("decode"), "{event}");
            }
            "b" => assert!(open.insert((text("id"), text("name")), ts).is_none(), "{event}"),
            "e" => assert!(open.remove(&(text("id"), text("name"))).expect("begun") < ts, "{event}"),
            _ => {}
        }
        assert!((60e6..=70e6).contains(&ts), "{event}");
    }
    assert!(open.is_empty(), "every slice ends");
    assert_eq!(count["C"], 2 * trace.segments);
    assert_eq!((count["X"], count["M"]), (trace.segments, 4), "two replicas with a lane each");
}

#[test]
fn the_size_is_bounded_and_what_is_missing_counted() {
    let home = tempfile::tempdir().expect("temp dir");
    let run = run(&home);
    let (from, to) = (Time::ZERO, Time::from_secs_f64(1000.0));
    let all = export(&run, from, to, usize::MAX).expect("exported");
    let some = export(&run, from, to, 600).expect("exported");
    assert_eq!((all.segments, all.requests, all.left_out), (3000, 3000, 0));
    assert_eq!(some.segments, 100);
    assert_eq!(some.segments + some.requests + some.left_out, 6000);
    assert!(events(&some).len() <= 600 + 4);
}

#[test]
fn an_empty_window_is_refused_and_compressed_bytes_are_stable() {
    let home = tempfile::tempdir().expect("temp dir");
    let run = run(&home);
    let at = Time::from_secs_f64(5.0);
    assert!(export(&run, at, at, 10).expect_err("empty").to_string().contains("from 5 s to 5 s is empty"));
    let trace = export(&run, at, Time::from_secs_f64(6.0), 1000).expect("exported");
    assert_eq!(trace.gzip(), trace.gzip());
    let mut text = String::new();
    flate2::read::GzDecoder::new(&trace.gzip()[..]).read_to_string(&mut text).expect("gzip");
    assert_eq!(text, trace.json);
}
