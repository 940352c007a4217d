use std::fs;

use overbook_sim::results::rows::Recorder;

use super::*;
use crate::manifest::Status;
use crate::parquet::ParquetRecorder;
use crate::sample;
use crate::summary_json::summary_json;

#[test]
fn a_run_reads_back_as_it_was_written() {
    let (requests, steps) = sample::rows(20_000);
    let home = tempfile::tempdir().expect("temp dir");
    let run = sample::run_dir(&home.path().join("a"), &requests, &steps);
    assert_eq!((run.name().as_str(), run.status(), run.is_complete()), ("a", "complete", true));
    assert_eq!(run.figure("completed"), Some(sample::report().summary.outcomes[0] as f64));
    assert_eq!(run.figure("outcomes/failed"), Some(0.0));
    assert_eq!(run.figure("outcomes/unheard_of"), None);
    assert_eq!(run.classes().expect("classes"), ["conversation", "api"]);
    assert!(run.assumptions().iter().any(|(what, value)| what == "Seed" && value == "0"));
    let mut expected = requests.iter();
    run.each_request(|row| {
        assert_eq!(Some(row), expected.next());
        true
    })
    .expect("rows");
    assert!(expected.next().is_none(), "all rows");
    let mut expected = steps.iter();
    run.each_step(|row| {
        assert_eq!(Some(row), expected.next());
        true
    })
    .expect("rows");
    assert!(expected.next().is_none(), "all segments");
}

#[test]
fn reading_stops_when_enough_is_seen() {
    let (requests, steps) = sample::rows(20_000);
    let home = tempfile::tempdir().expect("temp dir");
    let run = sample::run_dir(&home.path().join("a"), &requests, &steps);
    let mut seen = 0;
    run.each_request(|_| {
        seen += 1;
        seen < 9000
    })
    .expect("rows");
    assert_eq!(seen, 9000);
}

#[test]
fn errors_say_which_file_and_what_is_missing() {
    let home = tempfile::tempdir().expect("temp dir");
    let error = |dir: &Path| RunData::open(dir).expect_err("no run").to_string();
    assert!(error(&home.path().join("none")).ends_with("none is not a run directory: it has no manifest.json"));
    fs::write(home.path().join(MANIFEST), sample::manifest(Status::Interrupted).to_json()).expect("write");
    assert!(error(home.path()).contains("no summary.json"));
    fs::write(home.path().join(SUMMARY), "{").expect("write");
    assert!(error(home.path()).contains("cannot read") && error(home.path()).contains("summary.json: EOF"));
    fs::write(home.path().join(SUMMARY), summary_json(&sample::empty())).expect("write");
    let run = RunData::open(home.path()).expect("an interrupted run can be read");
    assert!(!run.is_complete() && !run.has_requests());
    let missing = run.each_request(|_| true).expect_err("no rows").to_string();
    assert!(missing.contains("requests.parquet is missing") && missing.contains("--no-rows"), "{missing}");
    fs::write(home.path().join(REQUESTS), "PAR1").expect("write");
    let broken = run.each_request(|_| true).expect_err("no Parquet").to_string();
    assert!(broken.contains("requests.parquet") && broken.contains("no whole Parquet file"), "{broken}");
}

#[test]
fn a_missing_column_is_named() {
    let home = tempfile::tempdir().expect("temp dir");
    let run = sample::run_dir(&home.path().join("a"), &[], &[]);
    // The rows of segments where those of requests are expected.
    fs::copy(run.dir().join(STEPS), run.dir().join(REQUESTS)).expect("copy");
    let error = run.each_request(|_| true).expect_err("other columns").to_string();
    assert!(error.contains("requests.parquet: it has no column request"), "{error}");
    assert!(run.classes().expect_err("none").to_string().contains("overbook.classes"));
    let mut recorder = ParquetRecorder::create(run.dir(), false).expect("create");
    recorder.request(&sample::rows(1).0[0]).expect("row");
    recorder.finish(&[]).expect("finish");
    assert_eq!(run.classes().expect("empty"), Vec::<String>::new());
}
