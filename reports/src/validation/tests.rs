use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

use super::*;

fn run(id: &str, set: &str, pairs: &[(&str, f64, f64)]) -> JudgedRun {
    let pair =
        |&(metric, measured, simulated): &(&str, f64, f64)| Pair { metric: metric.to_owned(), measured, simulated };
    JudgedRun {
        id: id.to_owned(),
        set: set.to_owned(),
        pairs: pairs.iter().map(pair).collect(),
        ..JudgedRun::default()
    }
}

fn sample() -> Validation {
    Validation {
        runs: vec![
            run("near", "one", &[("ttft_mean", 2.0, 2.1), ("preemptions", 0.0, 3.0)]),
            run("far", "one", &[("ttft_mean", 2.0, 1.0), ("kv_usage_mean", 0.5, 0.5)]),
            run("mute", "two", &[("preemptions", 4.0, 4.0)]),
        ],
        missed: vec![
            MissedRun { id: "x".into(), set: "two".into(), quality: "B".into(), missing: "prompt <lengths>".into() },
            MissedRun { id: "y".into(), set: "two".into(), quality: "B".into(), missing: "weights".into() },
            MissedRun { id: "z".into(), set: "two".into(), quality: "B".into(), missing: "weights".into() },
        ],
        ..Validation::default()
    }
}

#[test]
fn errors_are_relative_and_grouped() {
    let groups = sample().groups();
    let all = &groups[0];
    let row = |metric: &str| all.rows.iter().find(|row| row.metric == metric).expect("a row");
    let ttft = row("ttft_mean");
    assert_eq!(ttft.runs, 2);
    assert!((ttft.bias + 0.225).abs() < 1e-9, "between +5 % and -50 %: {}", ttft.bias);
    assert!((ttft.median - 0.275).abs() < 1e-9 && (ttft.p90 - 0.455).abs() < 1e-9);
    assert_eq!(row("preemptions").runs, 1, "nothing measured, no relative error");
    let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    assert!(names.contains(&"set one") && names.contains(&"set two"));
}

#[test]
fn the_worst_run_and_the_commonest_gap_come_first() {
    let sample = sample();
    let order: Vec<&str> = sample.worst_first().iter().map(|run| run.id.as_str()).collect();
    assert_eq!(order, ["far", "near", "mute"]);
    let gaps = sample.gaps();
    assert_eq!((gaps[0].0, gaps[0].1.len()), ("weights", 2));
}

#[test]
fn every_form_tells_all() {
    let sample = sample();
    let page = validation_html(&sample).expect("a page");
    for what in ["-50.0 %", "prompt &#60;lengths&#62;", "near", "mute"] {
        assert!(page.contains(what), "{what}");
    }
    let text = validation_text(&sample);
    assert!(text.contains("far: ttft_mean 2.00 s (-50.0 %)"), "{text}");
    assert!(text.contains("   2  weights (y, z)"), "{text}");
    let csv = validation_csv(&sample);
    assert_eq!(csv.lines().count(), 1 + 5);
    assert!(csv.contains("near,one,,,,,,preemptions,0,3,\n"), "{csv}");
    let table = validation_parquet(&sample).expect("a file");
    let file = SerializedFileReader::new(bytes::Bytes::from(table)).expect("a file");
    let rows: Vec<_> = file.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), 5);
    let of = |row: &parquet::record::Row, name: &str| {
        row.get_column_iter().find(|(known, _)| *known == name).map(|(_, field)| field.clone()).expect(name)
    };
    assert_eq!(of(&rows[0], "metric"), Field::Str("ttft_mean".to_owned()));
    assert_eq!((of(&rows[0], "measured"), of(&rows[1], "error")), (Field::Double(2.0), Field::Null));
    assert_eq!(of(&rows[0], "training"), Field::Null);
    let json: serde_json::Value = serde_json::from_str(&validation_json(&sample)).expect("JSON");
    assert_eq!(json["runs"][0]["run"], "far");
    assert_eq!(json["not_simulated"].as_array().map(Vec::len), Some(3));
}

#[test]
fn goals_are_about_complete_runs_that_nothing_was_fitted_on() {
    let complete = |id: &str, error: f64, training| JudgedRun {
        quality: "A".to_owned(),
        training: Some(training),
        ..run(id, "one", &[("tpot_mean", 1.0, 1.0 + error)])
    };
    let part = JudgedRun { is_part: true, ..complete("trained, last two thirds", 0.05, false) };
    let runs = vec![complete("good", 0.01, false), part, complete("trained", 0.9, true)];
    let mut validation = Validation { runs, ..Validation::default() };
    assert_eq!((validation.simulated(), validation.complete().runs), (2, 2));
    assert!(validation_html(&validation).expect("a page").contains("1 of 1 goals met"));
    validation.runs.push(complete("bad", 0.5, false));
    let page = validation_html(&validation).expect("a page");
    assert!(page.contains("0 of 1 goals met") && page.contains("missed"), "the ninth decile is 41 %");
    validation.left_out = vec![Validation::group("refitted without one".to_owned(), &validation.runs)];
    assert!(validation_html(&validation).expect("a page").contains("refitted without one"));
}

#[test]
fn levels_are_laid_over_the_measured_ones() {
    let line = |to: f64| vec![(0.0, 0.0), (10.0, to)];
    let level = Level { label: "waiting requests".to_owned(), measured: line(4.0), simulated: line(5.0) };
    let drawn = JudgedRun { levels: vec![level], ..run("near", "one", &[("ttft_mean", 2.0, 2.1)]) };
    let page = validation_html(&Validation { runs: vec![drawn], ..Validation::default() }).expect("a page");
    assert!(page.contains("waiting requests over time in near, as measured and as simulated"), "{page}");
}
