//! What a report claims: a figure is as sure as the runs behind it, a target as good as its source.

use crate::cli::home::{Home, SMALL};

#[test]
fn every_point_says_how_far_it_is_to_be_trusted() {
    let home = Home::small();
    let single = home.overbook("run small.yaml --set gpu=mi300x --out a").ends(0);
    let prior = "prior: no measured run of vllm on mi300x";
    assert!(single.out.contains(prior) && home.text("a/report.html").contains(prior), "{}", single.out);
    assert_eq!(home.json("a/summary.json")["trust"]["standing"], "prior");
    let study = home.overbook("compare small.yaml --over gpu=h100,mi300x --out b").ends(0);
    assert!(study.out.contains(&format!("  mi300x: {prior}\n")), "{}", study.out);
    // Long lines go on below.
    let lines: Vec<&str> = study.out.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("  h100: ")).expect("a line per point");
    let h100 = lines[at..=at + 1].iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    assert!(h100.contains("measured runs within 10 %, median error") && !h100.contains("prior"), "{h100}");
    let csv = home.text("b/study.csv");
    assert!(csv.lines().next().is_some_and(|line| line.contains(",trust,trust_why,")), "{csv}");
    assert!(csv.contains(",prior,no measured run of vllm on mi300x,"), "{csv}");
    let page = home.text("b/report.html");
    assert!(page.contains(">no measured run of vllm on mi300x</td>"), "{prior}: {page}");
    let again = home.overbook("report b").ends(0);
    assert!(again.out.contains(&format!("  mi300x: {prior}\n")), "{}", again.out);
    home.overbook("run small.yaml --set gpu=h100 --out c").ends(0);
    let compared = home.overbook("report a c").ends(0);
    assert!(compared.out.contains(&format!("Trust\n  A  {prior}\n  B  ")), "{}", compared.out);
}

#[test]
fn without_a_promise_per_request_there_is_no_goodput() {
    let home = Home::new();
    home.write("small.yaml", format!("{SMALL}slo: {{ ttft_p99: 1ms, tpot_p99: 1ms }}\n"));
    let ran = home.overbook("run small.yaml --out a").ends(0);
    assert!(!ran.out.contains("goodput"), "{}", ran.out);
    assert!(!home.text("a/report.html").contains("Good requests"));
    let summary = home.json("a/summary.json");
    for name in ["goodput_fraction", "request_goodput", "token_goodput"] {
        assert!(summary[name].is_null(), "{name}: {}", summary[name]);
    }
    assert!(summary["slo"]["good_requests"].is_null() && summary["per_class"][0]["good_requests"].is_null());
    home.overbook("run small.yaml --seed 3 --out b").ends(0);
    let compared = home.overbook("report a b --out c.html").ends(0);
    assert!(!compared.out.contains("Good requests") && !home.text("c.html").contains("Good"), "{}", compared.out);
    let study = home.overbook("compare small.yaml --over seed=1,2 --out d").ends(0);
    let row = study.out.lines().nth(1).expect("a point");
    assert_eq!(row.split_whitespace().nth(1), Some("–"), "{}", study.out);
}

#[test]
fn our_own_runs_are_no_published_figures() {
    let home = Home::new();
    let expect = "expect:
  - { metric: finished, value: 300, tolerance: 0%, basis: regression, source: our own run }
  - { metric: ttft_p50, max: 10s, basis: direction, source: a paper has 3 s }
  - { metric: finished, min: 300, source: a paper }
";
    home.write("small.yaml", format!("{SMALL}{expect}"));
    let out = home.overbook("run small.yaml --gate --out a").ends(0).out;
    let lines: Vec<&str> = out.lines().filter(|line| line.starts_with(['✓', '✗'])).collect();
    assert!(lines[0].starts_with("✓ finished: ≥ 300"), "{out}");
    assert!(lines[1].starts_with("✓ direction only: ttft_p50"), "{out}");
    assert!(lines[2].starts_with("✓ regression, our own run: finished: 300 ± 0%"), "{out}");
    assert!(
        out.contains(
            "came as expected, figures of a source: 1 of 1; direction only: 1 of 1; regression, our own run: 1 of 1"
        ),
        "{out}"
    );
}

/// A time of one's own is no measured engine's.
#[test]
fn settings_that_no_measured_run_has_are_named() {
    let home = Home::small();
    for (set, told) in [
        ("engine.enforce_eager=true", "steps without CUDA graphs"),
        ("engine.host={ base: 50ms, per_seq: 0s }", "a host time of its own"),
        ("engine.frontend={ base: 5s }", "a front end of its own"),
    ] {
        let ran = home.run(["run", "small.yaml", "--set", "gpu=h100", "--set", set, "--out", "a", "--force"]).ends(0);
        assert!(
            home.json("a/summary.json")["trust"]["text"].as_str().is_some_and(|text| text.contains(told)),
            "{}",
            ran.out
        );
    }
}
