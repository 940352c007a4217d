//! The report as a browser shows it: its figures are those of `summary.json`, on a phone and on a desk.

use std::process::Command;

use serde_json::Value;

use overbook_test_groups::{browser, in_browser};

use crate::cli::home::{Home, SMALL};

/// Does something with the page, if asked, and writes what it shows then into the window, as JSON that needs no escapes in HTML. Clipped is what
/// reaches beyond the window and cannot be scrolled to.
const PROBE: &str = r"<script>addEventListener('load', () => {
  const acted = (() => { ACT })();
  const rows = [...document.querySelectorAll('table tr')].map(row => [...row.cells].map(cell => cell.innerText));
  const facts = [...document.querySelectorAll('dl.facts dt')].map(dt => [dt.innerText, dt.nextElementSibling.innerText]);
  const drawn = [...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width > 0).length;
  const beyond = element => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('.scroll, .hidden');
  const clipped = [...document.querySelectorAll('body *')].filter(beyond).map(element => element.outerHTML.slice(0, 200));
  const shown = {acted, rows, facts, drawn, clipped, figures: document.querySelectorAll('figure').length, title: document.title,
    text: document.body.innerText, width: innerWidth, overflow: document.documentElement.scrollWidth - innerWidth};
  const plain = JSON.stringify(shown).replace(/[<>&\u0080-\uffff]/g, c => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
  top.document.documentElement.innerHTML = '<body><pre>PROBE' + plain + 'EBORP</pre></body>';
})</script>";

/// Moves the pointer over the drawing of a figure that is shown, to a place along its width from 0 to 1, or to a value of its x axis, and gives
/// what can be read there: lines of a name and a value.
const HOVER: &str = r"
  const axis = figure => JSON.parse(figure.querySelector('script').textContent).x;
  const hover = (figure, place) => {
    const svg = [...figure.querySelectorAll('svg')].find(svg => svg.getBoundingClientRect().width > 0);
    const [left, right] = svg.dataset.frame.split(' ').map(Number);
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const clientX = box.left + (left + place * (right - left)) * scale;
    svg.dispatchEvent(new PointerEvent('pointermove', {clientX, clientY: box.top + box.height / 2, bubbles: true}));
    return [...figure.querySelectorAll('.read:not([hidden]) div')].map(line => [...line.children].map(part => part.innerText));
  };
  const along = (axis, value) => axis.log ? Math.log(value / axis.from) / Math.log(axis.to / axis.from) : (value - axis.from) / (axis.to - axis.from);
  const choose = (select, name) => {
    select.value = [...select.options].find(option => option.text === name).value;
    select.dispatchEvent(new Event('change'));
  };
";

/// What a page shows in a window of some width [px].
fn shown(home: &Home, page: &str, width: u32) -> Value {
    shown_after(home, page, width, "return null")
}

/// What a page shows after a script has acted on it; what the script returns is `acted`. The window is a frame: browsers have no window as narrow as
/// a phone.
fn shown_after(home: &Home, page: &str, width: u32, act: &str) -> Value {
    let probe = PROBE.replace("ACT", act);
    let html = home.text(page).replace("</body>", &format!("{probe}</body>"));
    let framed = html.replace('&', "&amp;").replace('"', "&quot;");
    let frame = format!("<iframe style=\"width:{width}px;height:900px;border:0\" srcdoc=\"{framed}\"></iframe>");
    home.write("probe.html", format!("<!DOCTYPE html><meta charset=\"utf-8\"><body style=\"margin:0\">{frame}</body>"));
    let profile = home.path(&format!("profile-{width}"));
    let quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"];
    let out = Command::new(browser())
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-sync",
            "--dump-dom",
            "--window-size=1400,1000",
        ])
        .args(quiet)
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", home.path("probe.html").display()))
        .output()
        .expect("the browser starts");
    let dom = String::from_utf8_lossy(&out.stdout).into_owned();
    let probe = dom.split_once("PROBE").and_then(|(_, rest)| rest.split_once("EBORP"));
    let (json, _) = probe.unwrap_or_else(|| panic!("no probe in {dom}\n{}", String::from_utf8_lossy(&out.stderr)));
    let shown: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(shown["width"], width, "the frame is the window");
    shown
}

/// Nothing is wider than the window, and nothing lies beyond it.
fn assert_fits(shown: &Value, width: u32) {
    assert_eq!(shown["clipped"].as_array().map(Vec::len), Some(0), "at {width} px: {}", shown["clipped"]);
    assert!(shown["overflow"].as_i64().expect("a number") <= 0, "at {width} px the page is wider than its window");
}

/// `1,234` or `12.3 ms` as a number in SI units.
fn number(text: &str) -> f64 {
    let (digits, unit) = text.split_once([' ', '\u{a0}']).unwrap_or((text, ""));
    let value: f64 = digits.replace(',', "").parse().unwrap_or_else(|_| panic!("{text} is no number"));
    let scale = match unit {
        "" | "s" | "req/s" | "tok/s" | "requests/s" => 1.0,
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
    for width in [400, 1280] {
        let shown = shown(&home, "a/report.html", width);
        assert_fits(&shown, width);
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
    for width in [400, 1280] {
        let shown = shown(&home, "a/report.html", width);
        assert_fits(&shown, width);
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

/// A study over two axes, with targets.
const CLICKED: &str = "slo: { ttft_p99: 1s, goodput: { ttft: 1s, share: 0.9 } }\n\
    sweep: { axes: { fleet.replicas: [1, 2], scheduler.vllm.max_num_seqs: [4, 64] } }\n";

/// The value of a column where others have these values.
fn csv_value(csv: &str, places: &[(&str, &str)], column: &str) -> f64 {
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    let at = |name: &str| {
        header.iter().position(|other| *other == name).unwrap_or_else(|| panic!("no {name} in {header:?}"))
    };
    let there = |fields: &Vec<&str>| places.iter().all(|(name, value)| fields[at(name)] == *value);
    let fields = lines.find(there).expect("a point");
    fields[at(column)].parse().expect("a number")
}

fn clicks_hovers_and_other_axes_show_the_figures_of_the_study() {
    let home = Home::new();
    home.write("study.yaml", format!("{SMALL}{CLICKED}"));
    home.overbook("run study.yaml --out a").ends(0);
    let csv = home.text("a/study.csv");
    let metric =
        csv.lines().next().expect("a header").split(',').skip(2).position(|name| name == "ttft_p99").expect("a column");
    let act = format!(
        "{HOVER}
        const named = id => document.getElementById(id);
        const first = named('metric-{metric}');
        const entry = first.querySelector('.legend li[data-s=\"0\"]');
        const curve = first.querySelector('g[data-s=\"0\"]');
        const seen = [getComputedStyle(curve).display, entry.getAttribute('aria-pressed')];
        const both = hover(first, 1);
        entry.click();
        const off = [getComputedStyle(curve).display, entry.getAttribute('aria-pressed')];
        const one = hover(first, 1);
        entry.click();
        const again = getComputedStyle(curve).display;
        choose(document.querySelector('.against select'), 'Sequences at once, at most');
        const other = hover(named('axis-1-metric-{metric}'), 0);
        const gone = named('metric-{metric}') === null;
        const heat = () => [...document.querySelectorAll('.heat table tr')].map(row => [...row.cells].map(cell => cell.innerText));
        const before = heat();
        choose(document.querySelector('.heat select'), 'TTFT p50');
        const shown = heat();
        choose(document.querySelectorAll('.heat select')[1], 'Sequences at once, at most');
        return {{seen, both, off, one, again, other, gone, before, shown, turned: heat(), targets: first.innerText.includes('target')}};"
    );
    let shown = shown_after(&home, "a/report.html", 1280, &act);
    let acted = &shown["acted"];
    assert_eq!(acted["seen"], serde_json::json!(["inline", "true"]));
    assert_eq!(acted["off"], serde_json::json!(["none", "false"]), "the curve went with a click");
    assert_eq!((&acted["again"], &acted["gone"], &acted["targets"]), (&"inline".into(), &true.into(), &true.into()));
    let (replicas, seats) = ("fleet.replicas", "scheduler.vllm.max_num_seqs");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let check = |line: &Value, places: &[(&str, &str)]| {
        let read = text(&line[1]);
        let value = read.split_once(" (").map_or(read.as_str(), |(value, _)| value);
        assert_shows(value, csv_value(&csv, places, "ttft_p99"), &text(&line[0]));
    };
    // At the right end there are two replicas; a line for each number of seats, and the place itself.
    assert_eq!(acted["both"][0], serde_json::json!(["Replicas", "2"]));
    check(&acted["both"][1], &[(replicas, "2"), (seats, "4")]);
    check(&acted["both"][2], &[(replicas, "2"), (seats, "64")]);
    assert_eq!(acted["one"].as_array().map(Vec::len), Some(2), "{acted}");
    check(&acted["one"][1], &[(replicas, "2"), (seats, "64")]);
    assert!(text(&acted["both"][1][1]).ends_with(" GPUs)"), "{acted}");
    // Against the other axis the left end is the smaller number of seats.
    assert_eq!(acted["other"][0], serde_json::json!(["Sequences at once, at most", "4"]));
    check(&acted["other"][1], &[(replicas, "1"), (seats, "4")]);
    // The table over two axes: TTFT p99 first, since that has a target; then another figure, then turned.
    let cell = |table: &str, row: usize, column: usize| text(&acted[table][row][column]).replace(" ✗", "");
    for (row, n) in [(1, "1"), (2, "2")] {
        for (column, most) in [(1, "4"), (2, "64")] {
            let places = [(replicas, n), (seats, most)];
            assert_shows(&cell("before", row, column), csv_value(&csv, &places, "ttft_p99"), "a cell");
            assert_shows(&cell("shown", row, column), csv_value(&csv, &places, "ttft_p50"), "a cell of another figure");
            assert_eq!(cell("turned", column, row), cell("shown", row, column), "turned");
        }
    }
    assert_fits(&shown, 1280);
}

fn the_pointer_reads_the_figures_of_the_summary() {
    let home = Home::new();
    home.write("small.yaml", SMALL);
    home.overbook("run small.yaml --out a").ends(0);
    let summary = home.json("a/summary.json");
    for (statistic, share) in [("p50", 50.0), ("p90", 90.0)] {
        let seconds = summary[format!("{statistic}_e2el_ms")].as_f64().expect("a figure") / 1e3;
        let act = format!(
            "{HOVER}
            const figure = document.getElementById('latency');
            return hover(figure, along(axis(figure), {seconds}));"
        );
        for width in [400, 1280] {
            let shown = shown_after(&home, "a/report.html", width, &act);
            let lines = shown["acted"].as_array().expect("lines");
            let line = lines.iter().find(|line| line[0] == "E2EL").expect("a line of E2EL");
            let read = number(line[1].as_str().expect("text")) * 100.0;
            // A pixel of the figure is some requests wide, and a batch ends at once.
            assert!(
                (read - share).abs() < 10.0,
                "{share} % wait {seconds} s at most by summary.json, {read} % by the page"
            );
            assert_fits(&shown, width);
        }
    }
}

fn a_plan_fits_a_phone_and_has_its_figures() {
    let home = Home::new();
    let plan = "slo: { ttft_p99: 1s, tpot_p99: 50ms }\nplan: { price: 2.5/gpu-h, tensor_parallel: [1], modes: [together], gpus_most: 4 }\n";
    home.write("plan.yaml", format!("{SMALL}{plan}"));
    home.overbook("plan plan.yaml --out a").ends(0);
    let plan = home.json("a/plan.json");
    for width in [400, 1280] {
        let shown = shown(&home, "a/report.html", width);
        assert_fits(&shown, width);
        assert_eq!(shown["drawn"], shown["figures"], "every figure is drawn once");
        let text = shown["text"].as_str().expect("text");
        for sentence in plan["sentence"].as_str().expect("the answer").splitn(2, ". ") {
            assert!(text.contains(sentence), "{sentence}: {text}");
        }
        let month = plan["answer"]["usd_per_month"].as_f64().expect("a price");
        assert!(text.replace(',', "").contains(&format!("${month:.0}")), "{month}: {text}");
        assert!(text.contains("What today's load uses") && text.contains("Worst minutes"), "{text}");
    }
}

/// The tests' teeth: a page with another figure does not pass.
#[test]
#[should_panic(expected = "the page says 2.00 ms")]
fn a_wrong_figure_is_noticed() {
    assert_shows("2.00 ms", 0.0021, "TTFT");
}

in_browser!(
    a_report_shows_the_figures_of_its_summary,
    a_study_page_fits_a_phone,
    clicks_hovers_and_other_axes_show_the_figures_of_the_study,
    the_pointer_reads_the_figures_of_the_summary,
    a_plan_fits_a_phone_and_has_its_figures,
);
