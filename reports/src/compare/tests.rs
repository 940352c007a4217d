use super::*;
use crate::manifest::Status;
use crate::read::SUMMARY;
use crate::sample;
use crate::summary_json::summary_json;

/// Two runs of which the second is half as fast.
fn runs(home: &Path) -> Vec<RunData> {
    let (requests, steps) = sample::rows(3000);
    let slow: Vec<_> = requests
        .iter()
        .cloned()
        .map(|mut row| {
            row.first_token = row.first_token.map(|t| t + (t - row.arrival));
            row.end = row.end + (row.end - row.arrival);
            row
        })
        .collect();
    sample::run_dir(&home.join("fast"), &requests, &steps);
    sample::run_dir(&home.join("slow"), &slow, &steps);
    let mut report = sample::report();
    report.assumptions[3].1 = "static <batch>".to_owned();
    let mut json: serde_json::Value = serde_json::from_str(&summary_json(&report)).expect("JSON");
    json["p99_ttft_ms"] = (json["p99_ttft_ms"].as_f64().expect("measured") * 2.0).into();
    let text = json.to_string();
    std::fs::write(home.join("slow").join(SUMMARY), text).expect("write");
    ["fast", "slow"].map(|name| RunData::open(&home.join(name)).expect("a run")).to_vec()
}

#[test]
fn the_page_has_figures_changes_and_what_differs() {
    let home = tempfile::tempdir().expect("temp dir");
    let runs = runs(home.path());
    let html = compare_html(&runs).expect("renders");
    assert_eq!(html, compare_html(&runs).expect("renders"), "the same bytes");
    for text in ["slow against fast", "<figure id=\"ttft\"", "<figure id=\"e2el\"", "static &#60;batch&#62;", "points"]
    {
        assert!(html.contains(text), "{text}");
    }
    assert!(html.contains("<td class=\"worse\">+100 %</td>"), "TTFT p99 has doubled");
    for foreign in ["https://", "<script src", "<link", "@import", "url(", "NaN,", ">NaN"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(html.len() < 400_000, "{} bytes", html.len());
    crate::sample::leave_on_request("compare.html", &html);
}

#[test]
fn the_terminal_fits_eighty_columns() {
    let home = tempfile::tempdir().expect("temp dir");
    let runs = runs(home.path());
    let text = compare_terminal(&runs, false).expect("text");
    let row = text.lines().find(|line| line.contains("TTFT p99")).expect("a row");
    assert!(row.ends_with("+100 %"), "{row}");
    assert!(text.contains("Scheduler differs\n") && !text.contains('\x1b'));
    let figures = |text: &str| text.lines().skip(3).take(28).map(|line| line.chars().count()).max();
    assert!(figures(&text) <= Some(80), "{text}");
    assert!(compare_terminal(&runs, true).expect("text").contains("\x1b[31m"));
    let three = [runs[0].clone(), runs[1].clone(), runs[0].clone()];
    let text = compare_terminal(&three, false).expect("text");
    assert!(text.starts_with(&format!("A  {}", home.path().display())), "two of one name go by their paths: {text}");
}

#[test]
fn json_has_values_and_changes() {
    let home = tempfile::tempdir().expect("temp dir");
    let text = compare_json(&runs(home.path())).expect("JSON");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let metrics = json["metrics"].as_array().expect("a list");
    let ttft = metrics.iter().find(|m| m["metric"] == "p99_ttft_ms").expect("a metric");
    assert!((ttft["changes"][0].as_f64().expect("a number") - 1.0).abs() < 1e-9);
    assert_eq!(json["differing"]["Scheduler"][1], "static <batch>");
    assert_eq!(json["runs"][1]["name"], "slow");
}

#[test]
fn partial_runs_are_marked_and_too_many_refused() {
    let home = tempfile::tempdir().expect("temp dir");
    let both = runs(home.path());
    std::fs::remove_file(both[1].dir().join(crate::parquet::REQUESTS)).expect("remove");
    let manifest = sample::manifest(Status::Interrupted).to_json();
    std::fs::write(both[1].dir().join(crate::run_dir::MANIFEST), manifest).expect("write");
    let both = [both[0].clone(), RunData::open(both[1].dir()).expect("a run")];
    let html = compare_html(&both).expect("renders");
    assert!(html.contains("B is interrupted") && html.contains("Without rows (run with --no-rows): B."));
    let error = compare_html(&both[..1]).expect_err("one run").to_string();
    assert_eq!(error, "2 to 6 runs can be compared, not 1");
    assert!(compare_terminal(&vec![both[0].clone(); 7], false).is_err());
}

#[test]
fn changes_say_whether_they_are_good() {
    let metric = |better| Metric("x", "x", 1.0, Unit::Seconds, better);
    let change = |better, from, to| metric(better).change(Some(from), Some(to));
    assert_eq!(change(Better::Less, 2.0, 1.0).text, "−50 %");
    assert_eq!(change(Better::Less, 2.0, 1.0).good, Some(true));
    assert_eq!(change(Better::More, 2.0, 1.99).text, "−0.5 %");
    assert_eq!(change(Better::More, 2.0, 1.99).good, Some(false));
    assert_eq!(change(Better::Less, 2.0, 250.0).text, "×125");
    assert_eq!(change(Better::None, 2.0, 3.0).good, None);
    assert_eq!(change(Better::Less, 2.0, 2.0).text, "=");
    assert_eq!(change(Better::Less, 0.0, 2.0).text, "new");
    let share = Metric("x", "x", 1.0, Unit::Share, Better::More);
    assert_eq!(share.change(Some(0.5), Some(0.75)).text, "+25 points");
    assert_eq!(share.change(None, Some(0.75)).text, "–");
}

#[test]
fn long_settings_show_what_differs() {
    let values =
        |b: &str| ["a: 1, b: 2, c: 3, d: 4, e: 5".to_owned(), format!("a: 1, b: {b}, c: 3, d: 4, e: 5")].to_vec();
    assert_eq!(without_common_parts(values("7")), ["b: 2, …", "b: 7, …"]);
    let other = ["a, b, c, d, e".to_owned(), "a".to_owned()].to_vec();
    assert_eq!(without_common_parts(other.clone()), other);
}
