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
    let json: serde_json::Value = serde_json::from_str(&validation_json(&sample)).expect("JSON");
    assert_eq!(json["runs"][0]["run"], "far");
    assert_eq!(json["not_simulated"].as_array().map(Vec::len), Some(3));
}
