use super::*;
use crate::sample;

fn page(report: &Report) -> String {
    let html = report_html(report).expect("renders");
    assert!(!html.contains("NaN") && !html.contains(">inf"), "a figure is not a number");
    html
}

#[test]
fn the_page_is_whole_and_stable() {
    let report = sample::report();
    let html = page(&report);
    assert_eq!(html, page(&report));
    for id in ["rates", "queue", "kv", "latency", "batch", "step-time"] {
        assert_eq!(html.matches(&format!("<figure id=\"{id}\"")).count(), 1, "{id}");
    }
    for text in ["2 of 3 targets are missed", "✗ missed", "✓ met", "conversation", "Seed", "extrapolated"] {
        assert!(html.contains(text), "{text}");
    }
    crate::sample::leave_on_request("report.html", &html);
}

#[test]
fn the_page_needs_no_network_and_is_whole_without_its_script() {
    let html = page(&sample::report());
    // A name of a namespace is no address.
    assert_eq!(html.matches("http://").count(), html.matches("http://www.w3.org/2000/svg").count());
    assert_eq!(html.matches("<svg").count(), 2 * html.matches("<figure").count());
    for foreign in ["<script src", "https://", "<link", "@import", "url(", "fetch(", "import("] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(html.len() < 200_000, "{} bytes", html.len());
}

#[test]
fn what_the_user_named_is_escaped() {
    let mut report = sample::report();
    report.title = "<b>x</b>".into();
    report.assumptions.push(("<i>".into(), "a & b".into()));
    report.summary.classes[0].name = "<u>".into();
    let html = page(&report);
    for raw in ["<b>", "<i>a", "<u>"] {
        assert!(!html.contains(raw), "{raw}");
    }
}

#[test]
fn an_empty_run_has_a_page_without_figures() {
    let html = page(&sample::empty());
    assert!(html.contains("No target was set") && !html.contains("<figure"));
}

#[test]
fn many_classes_are_cut_to_the_largest() {
    let mut report = sample::report();
    let class = report.summary.classes[0].clone();
    report.summary.classes.extend((0..30).map(|i| Class { name: format!("tenant-{i}"), ..class.clone() }));
    let html = page(&report);
    assert!(html.contains("12 more are in summary.json"));
}

#[test]
fn further_tables_stand_below_the_load() {
    let text = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let table = Table {
        title: "Burstiness".into(),
        header: text(&["window", "peak ÷ mean", "dispersion"]),
        rows: vec![text(&["1 s", "5.2", "<3.1"]), text(&["1 min", "2.2", "80"])],
        note: "Before and after scaling.".into(),
    };
    let empty = Table { title: "Nothing".into(), ..Table::default() };
    let html = report_html_with(&sample::report(), &[table, empty]).expect("renders");
    for there in ["<h2>Burstiness</h2>", "<th scope=\"row\">1 min</th><td>2.2</td>", "&#60;3.1", "Before and after"] {
        assert!(html.contains(there), "{there}");
    }
    assert!(!html.contains("Nothing") && html.find("Burstiness") > html.find("Load over time"));
}
