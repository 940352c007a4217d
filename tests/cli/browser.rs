//! The report as a browser shows it: its figures are those of `summary.json`, on a phone and on a desk.

use std::process::Command;

use serde_json::Value;

use overbook_test_groups::{browser, in_browser};

use crate::cli::home::{Home, SMALL};

/// Writes what the page shows into the page itself, as JSON that needs no escapes in HTML.
const PROBE: &str = r"<script>addEventListener('load', () => {
  const rows = [...document.querySelectorAll('table tr')].map(row => [...row.cells].map(cell => cell.innerText));
  const facts = [...document.querySelectorAll('dl.facts dt')].map(dt => [dt.innerText, dt.nextElementSibling.innerText]);
  const drawn = [...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width > 0).length;
  const shown = {rows, facts, drawn, figures: document.querySelectorAll('figure').length, title: document.title,
    text: document.body.innerText, overflow: document.documentElement.scrollWidth - innerWidth};
  const plain = JSON.stringify(shown).replace(/[<>&\u0080-\uffff]/g, c => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
  document.documentElement.innerHTML = '<body><pre>PROBE' + plain + 'EBORP</pre></body>';
})</script>";

/// What a page shows in a window of some width [px].
fn shown(home: &Home, page: &str, width: u32) -> Value {
    let html = home.text(page).replace("</body>", &format!("{PROBE}</body>"));
    home.write("probe.html", html);
    let profile = home.path(&format!("profile-{width}"));
    let quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"];
    let out = Command::new(browser())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-sync", "--dump-dom"])
        .args(quiet)
        .arg(format!("--window-size={width},900"))
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", home.path("probe.html").display()))
        .output()
        .expect("the browser starts");
    let dom = String::from_utf8_lossy(&out.stdout).into_owned();
    let probe = dom.split_once("PROBE").and_then(|(_, rest)| rest.split_once("EBORP"));
    let (json, _) = probe.unwrap_or_else(|| panic!("no probe in {dom}\n{}", String::from_utf8_lossy(&out.stderr)));
    serde_json::from_str(json).expect("JSON")
}

/// `1,234` or `12.3 ms` as a number in SI units.
fn number(text: &str) -> f64 {
    let (digits, unit) = text.split_once([' ', '\u{a0}']).unwrap_or((text, ""));
    let value: f64 = digits.replace(',', "").parse().unwrap_or_else(|_| panic!("{text} is no number"));
    let scale = match unit {
        "" | "s" | "req/s" | "tok/s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "%" => 1e-2,
        other => panic!("unit {other} of {text}"),
    };
    value * scale
}

/// Three digits are shown.
fn assert_shows(text: &str, value: f64, what: &str) {
    let off = (number(text) - value).abs();
    assert!(off <= value.abs() * 5.1e-3, "{what}: the page says {text}, summary.json {value}");
}

/// The row of a table with so many columns.
fn row<'v>(shown: &'v Value, name: &str, columns: usize) -> Vec<&'v str> {
    let rows = shown["rows"].as_array().expect("rows").iter().map(|row| row.as_array().expect("cells"));
    let named = |cells: &&Vec<Value>| cells[0].as_str().is_some_and(|text| text.starts_with(name));
    let mut found = rows.filter(named).filter(|cells| cells.len() == columns);
    let cells = found.next().unwrap_or_else(|| panic!("no row {name} in {shown}"));
    cells.iter().map(|cell| cell.as_str().expect("text")).collect()
}

fn a_report_shows_the_figures_of_its_summary() {
    let home = Home::new();
    let slo = "slo: { ttft_p99: 10ms, goodput: { ttft: 1s, tpot: 40ms, share: 0.9 } }\n";
    home.write("small.yaml", format!("{SMALL}{slo}"));
    home.overbook("run small.yaml --out a").ends(0);
    let summary = home.json("a/summary.json");
    for width in [500, 1280] {
        let shown = shown(&home, "a/report.html", width);
        assert!(shown["overflow"].as_i64().expect("a number") <= 0, "at {width} px the page is wider than its window");
        assert_eq!(shown["drawn"], shown["figures"], "every figure is drawn once");
        assert!(shown["figures"].as_u64() > Some(4), "{shown}");
        let metrics = [("TTFT", "ttft"), ("TPOT", "tpot"), ("ITL", "itl"), ("E2EL", "e2el"), ("Queue", "queue_time")];
        for (name, key) in metrics {
            let cells = row(&shown, name, 7);
            for (cell, statistic) in cells[1..].iter().zip(["mean", "p50", "p90", "p99", "p99.9", "max"]) {
                let value = summary[format!("{statistic}_{key}_ms")].as_f64().expect("a figure") / 1e3;
                assert_shows(cell, value, &format!("{name} {statistic}"));
            }
        }
        let target = row(&shown, "TTFT p99", 4);
        assert_shows(target[1], summary["p99_ttft_ms"].as_f64().expect("a figure") / 1e3, "the target's figure");
        assert!(target[3].contains("missed"), "{target:?}");
        let good = row(&shown, "Goodput fraction", 4);
        assert_shows(good[1], summary["goodput_fraction"].as_f64().expect("a figure"), "goodput");
        assert!(shown["text"].as_str().expect("text").contains("1 of 2 targets is missed"));
    }
}

fn a_study_page_fits_a_phone() {
    let home = Home::new();
    let sweep = "sweep: { axes: { fleet.replicas: { one: 1, two: 2 } } }\n\
                 expect: [{ metric: finished, at: { fleet.replicas: one }, min: 1, source: a test }]\n";
    home.write("study.yaml", format!("{SMALL}{sweep}"));
    home.overbook("run study.yaml --out a").ends(0);
    let csv = home.text("a/study.csv");
    let columns: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
    let at = columns.iter().position(|&name| name == "ttft_p99").expect("a column");
    for width in [500, 1280] {
        let shown = shown(&home, "a/report.html", width);
        assert!(shown["overflow"].as_i64().expect("a number") <= 0, "at {width} px the page is wider than its window");
        assert_eq!(shown["drawn"], shown["figures"]);
        assert_eq!(row(&shown, "finished at", 3)[2].trim(), "✓ met");
        for line in csv.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let place = shown["rows"].as_array().expect("rows").iter().find(|cells| cells[0] == fields[0]);
            let cells = place.expect("a row of the table");
            let p99: f64 = fields[at].parse().expect("a figure");
            assert_shows(cells[at].as_str().expect("text"), p99, "TTFT p99");
        }
    }
}

/// The tests' teeth: a page with another figure does not pass.
#[test]
#[should_panic(expected = "the page says 2.00 ms")]
fn a_wrong_figure_is_noticed() {
    assert_shows("2.00 ms", 0.0021, "TTFT");
}

in_browser!(a_report_shows_the_figures_of_its_summary, a_study_page_fits_a_phone);
