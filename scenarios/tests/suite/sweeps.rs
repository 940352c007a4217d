//! Sweeps and what is expected of them.

use super::{LEAST, problems, study};

const SWEEP: &str = "sweep:
  axes: { fleet.replicas: [1, 2], workload.generate.arrivals.poisson.rate: [1/s, 2/s, 4/s] }
  zip: { seed: [1, 2], engine.weights: [bf16, fp8] }
";

fn with(expect: &str) -> Vec<String> {
    problems(&format!("{LEAST}{SWEEP}expect:\n  - {expect}\n"))
}

#[test]
fn points_are_the_product_in_file_order() {
    let study = study(&format!("{LEAST}{SWEEP}"));
    assert_eq!(study.points().len(), 12);
    let coordinates = |point: usize| -> Vec<String> {
        study.points()[point].coordinates.iter().map(|(path, value)| format!("{path}={value}")).collect()
    };
    let rate = "workload.generate.arrivals.poisson.rate";
    let first = ["fleet.replicas=1", &format!("{rate}=1/s"), "seed=1", "engine.weights=bf16"];
    assert_eq!(coordinates(0), first);
    assert_eq!(coordinates(1)[2..], ["seed=2", "engine.weights=fp8"]);
    assert_eq!(coordinates(2)[1], format!("{rate}=2/s"));
    assert_eq!(coordinates(11)[0], "fleet.replicas=2");
    assert_eq!(study.points()[11].scenario.fleet.replicas, 2);
    assert_eq!(study.points()[11].scenario.seed, 2);
    let hashes: std::collections::BTreeSet<String> =
        study.points().iter().map(overbook_scenarios::Point::plan_hash).collect();
    assert_eq!(hashes.len(), 12);
}

#[test]
fn whole_policies_can_be_swept() {
    let study =
        study(&format!("{LEAST}sweep: {{ axes: {{ scheduler: [vllm, {{ static: {{ batch_size: 8 }} }}] }} }}\n"));
    assert_eq!(study.points()[0].coordinates[0].1, "vllm");
    assert_eq!(study.points()[1].coordinates[0].1, r#"{"static":{"batch_size":8}}"#);
}

#[test]
fn problems_stand_at_the_swept_value() {
    let sweep = |axes: &str| problems(&format!("{LEAST}sweep: {{ axes: {{ {axes} }} }}\n"));
    assert_eq!(sweep("fleet.replicas: [1, 0]"), ["6:38: `replicas` is 0; it must be from 1 to 4096"]);
    assert_eq!(
        sweep("fleet.replicas: [1, many, 2]"),
        ["6:38: expected a whole number from 0 to 4294967295, found text `many`"]
    );
    assert_eq!(sweep("fleet.replcas: [1, 2]"), ["6:18: unknown key `replcas` (did you mean `replicas`?)"]);
    assert_eq!(sweep("gpu: [h200, h20]"), ["6:30: no GPU is called `h20` (did you mean `h200`?)"]);
    assert_eq!(sweep("gpu.x: [1]"), ["6:18: `gpu` is `h200` here, so nothing can be set below it"]);
    assert_eq!(
        sweep("fleet.replicas: 3"),
        ["6:34: `fleet.replicas` needs a list of at least one value, e.g. [1, 2, 4]"]
    );
    assert_eq!(sweep("name: [a]"), ["6:18: `name` cannot be swept"]);
    let uneven = problems(&format!("{LEAST}sweep: {{ zip: {{ seed: [1, 2], audit: [true] }} }}\n"));
    assert_eq!(uneven, ["6:31: zipped lists must be of equal length: `seed` has 2, `audit` has 1"]);
    let many = (0..200).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    assert!(sweep(&format!("seed: [{many}], fleet.replicas: [{many}]"))[0].contains("more than 10000 points"));
    assert!(problems(&format!("{LEAST}sweep: {{ axis: {{}} }}\n"))[0].contains("did you mean `axes`?"));
}

#[test]
fn expectations_are_tied_to_points() {
    let expect = "expect:
  - { metric: ttft_p99, at: { fleet.replicas: 2, workload.generate.arrivals.poisson.rate: 4/s, seed: 1 }, max: 2s, source: a }
  - metric: output_throughput
    at: { fleet.replicas: 2, workload.generate.arrivals.poisson.rate: 4/s, seed: 1 }
    over: { at: { fleet.replicas: 1 } }
    value: 2.0
    tolerance: 5%
    source: b
";
    let study = study(&format!("{LEAST}{SWEEP}{expect}"));
    let lookup = |point: usize, metric: &str| match (point, metric) {
        (10, "ttft_p99") => Some(2.5),
        (10, "output_throughput") => Some(195.0),
        (4, "output_throughput") => Some(100.0),
        _ => None,
    };
    let verdicts: Vec<_> = study.expectations().iter().map(|expectation| expectation.judge(&lookup)).collect();
    assert_eq!((verdicts[0].got, verdicts[0].passed, verdicts[0].target.as_str()), (Some(2.5), false, "≤ 2s"));
    assert_eq!((verdicts[1].got, verdicts[1].passed, verdicts[1].target.as_str()), (Some(1.95), true, "2 ± 5%"));
    assert_eq!(verdicts[1].source, "b");
    assert!(verdicts[1].subject.contains("over output_throughput at fleet.replicas=1"), "{}", verdicts[1].subject);
    let nothing = study.expectations()[0].judge(&|_, _| None);
    assert!(!nothing.passed && nothing.got.is_none());
}

#[test]
fn a_figure_may_be_a_mean_over_points() {
    let expect = "sweep:
  axes: { fleet.replicas: [1, 2], seed: [1, 2, 3] }
expect:
  - { metric: ttft_p99, at: { fleet.replicas: 2 }, mean_over: [seed], max: 2s, source: a }
  - { metric: preemptions, at: { fleet.replicas: 1 }, mean_over: [seed], over: { metric: finished }, max: 1, source: b }
  - { metric: preemptions, at: { fleet.replicas: 2 }, mean_over: [seed], over: { at: { fleet.replicas: 1 } }, max: 1, source: b }
";
    let study = study(&format!("{LEAST}{expect}"));
    let lookup = |point: usize, metric: &str| match metric {
        "ttft_p99" => [None, None, None, Some(1.0), Some(2.0), Some(4.5)][point],
        "preemptions" => [Some(1.0), Some(2.0), Some(3.0), Some(9.0), Some(9.0), Some(0.0)][point],
        "finished" => [Some(10.0), Some(10.0), Some(20.0), None, None, None][point],
        _ => None,
    };
    let verdicts: Vec<_> = study.expectations().iter().map(|expectation| expectation.judge(&lookup)).collect();
    let got: Vec<Option<f64>> = verdicts.iter().map(|verdict| verdict.got).collect();
    assert_eq!(got, [Some(2.5), Some(6.0 / 40.0), Some(3.0)]);
    assert_eq!(verdicts[0].subject, "ttft_p99 at fleet.replicas=2, mean over 3 values of seed");
    // A point without the figure leaves no mean.
    let one_missing = |point: usize, metric: &str| lookup(point, metric).filter(|_| point != 4);
    assert_eq!(study.expectations()[0].judge(&one_missing).got, None);
}

#[test]
fn bad_means() {
    let wrong = |rest: &str| with(&format!("{{ metric: ttft_p99, max: 2s, source: x, {rest} }}"));
    assert_eq!(wrong("mean_over: [sed]"), ["10:57: `sed` is not swept (did you mean `seed`?)"]);
    assert_eq!(
        wrong("at: { seed: 1 }, mean_over: [seed]"),
        ["10:74: `seed` has one value in `at`: there is nothing to take the mean over"]
    );
    // What is zipped to the seeds differs too.
    let several = wrong("at: { fleet.replicas: 1 }, mean_over: [seed]");
    assert!(several[0].contains("6 points of the sweep match"), "{several:?}");
    let several = wrong("at: { fleet.replicas: 1 }, mean_over: [seed, engine.weights]");
    assert!(several[0].contains("(say which `workload.generate.arrivals.poisson.rate` is meant)"), "{several:?}");
}

#[test]
fn bad_expectations() {
    let at = "at: { fleet.replicas: 2, workload.generate.arrivals.poisson.rate: 4/s, seed: 1 }";
    let one = |rest: &str| {
        let told = with(&format!("{{ {at}, {rest} }}"));
        assert_eq!(told.len(), 1, "{told:?}");
        told[0].split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(one("metric: ttfp_p99, max: 2s, source: x"), "unknown name `ttfp_p99` (did you mean `ttft_p99`?)");
    assert_eq!(one("metric: ttft_p99, max: 2, source: x"), "`max` is 2, but ttft_p99 is a time, e.g. 250ms");
    assert_eq!(
        one("metric: kv_usage_max, max: 2s, source: x"),
        "`max` is 2s, but kv_usage_max is a plain number, e.g. 0.95 or 95%"
    );
    assert_eq!(one("metric: ttft_p99, value: 2s, source: x"), "`value` needs a `tolerance`, e.g. 5% (0% for exactly)");
    assert_eq!(one("metric: ttft_p99, source: x"), "expects nothing: give `value` with `tolerance`, `min` or `max`");
    assert_eq!(one("metric: ttft_p99, min: 3s, max: 2s, source: x"), "`min` is 3s, above `max`, 2s");
    assert_eq!(one("metric: ttft_p99, max: 2s"), "missing key `source`");
    assert_eq!(
        one("metric: ttft_p99, max: fast, source: x"),
        "`fast` is neither a duration (250ms), a rate (30/s), a number (0.95) nor a percentage (5%)"
    );
    assert_eq!(
        with("{ metric: ttft_p99, max: 2s, source: x, at: { fleet.replicas: 3 } }"),
        ["10:67: `fleet.replicas` is never 3 in the sweep (it is 1, 2)"]
    );
    assert_eq!(
        with("{ metric: ttft_p99, max: 2s, source: x, at: { fleet.replica: 1 } }"),
        ["10:66: `fleet.replica` is not swept (did you mean `fleet.replicas`?)"]
    );
    assert!(
        with("{ metric: ttft_p99, max: 2s, source: x }")[0]
            .contains("12 points of the sweep match (say which `fleet.replicas`")
    );
    let several = with("{ metric: a, max: 2s, source: x }\n  - { metric: b, max: 2s, source: x }\n  - 3");
    assert_eq!(several.len(), 3, "{several:?}");
}

fn values(study: &overbook_scenarios::Study, path: &str) -> Vec<String> {
    let of = |point: &overbook_scenarios::Point| {
        let found = point.coordinates.iter().find(|(other, _)| other == path);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    study.points().iter().map(of).collect()
}

#[test]
fn points_are_drawn_and_each_is_what_it_says() {
    let drawn = |design: &str, more: &str| {
        study(&format!(
            "{LEAST}sweep: {{ {design}: {{ points: 8, seed: 3, over: {{ fleet.replicas: {{ uniform: [1, 8] }}, \
             workload.generate.arrivals.poisson.rate: {{ log-uniform: [1/s, 100/s] }}, engine.weights: {{ choice: [bf16, fp8] }}{more} }} }} }}\n"
        ))
    };
    let latin = drawn("lhs", "");
    assert_eq!(latin.points().len(), 8);
    let mut replicas = values(&latin, "fleet.replicas");
    for (point, written) in latin.points().iter().zip(&replicas) {
        assert_eq!(point.scenario.fleet.replicas.to_string(), *written);
    }
    replicas.sort();
    assert_eq!(replicas, ["1", "2", "3", "4", "5", "6", "7", "8"], "each part of the range has one");
    let weights = values(&latin, "engine.weights");
    assert_eq!(weights.iter().filter(|name| *name == "fp8").count(), 4, "{weights:?}");
    let rates = values(&latin, "workload.generate.arrivals.poisson.rate");
    assert!(rates.iter().all(|rate| rate.ends_with("/s")), "{rates:?}");
    // Another setting beside them changes no draw.
    let more = drawn("lhs", ", fleet.router: { choice: [round-robin] }");
    assert_eq!(values(&more, "workload.generate.arrivals.poisson.rate"), rates);
    let random = values(&drawn("random", ""), "fleet.replicas");
    assert!(random.len() == 8 && random.iter().all(|n| (1..=8).contains(&n.parse::<u32>().unwrap_or(0))), "{random:?}");
}

#[test]
fn seeds_are_the_last_axis_from_the_scenarios_seed_on() {
    let sweep = "sweep: { axes: { fleet.replicas: [1, 2] }, seeds: 3 }\n";
    let study = study(&format!("{LEAST}seed: 5\n{sweep}"));
    assert_eq!((study.points().len(), study.replicates()), (6, 3));
    assert_eq!(values(&study, "seed"), ["5", "6", "7", "5", "6", "7"]);
    assert_eq!(study.points()[4].scenario.seed, 6);
    let listed = super::study(&format!("{LEAST}sweep: {{ seeds: [9, 4] }}\n"));
    assert_eq!((values(&listed, "seed"), listed.replicates()), (vec!["9".to_owned(), "4".to_owned()], 2));
    assert_eq!(super::study(LEAST).replicates(), 1);
}

#[test]
fn what_is_wrong_with_drawn_points_and_seeds_is_told_with_its_place() {
    let over = |over: &str| format!("lhs: {{ points: 4, over: {{ {over} }} }}");
    for (sweep, told) in [
        (over("fleet.replicas: { uniform: [8, 1] }"), "the range is empty: 8 is not below 1"),
        (over("fleet.replicas: { uniform: [3, 3] }"), "the range is empty"),
        (over("fleet.replicas: { uniform: [1, 2, 3] }"), "a range has two ends, and here are 3"),
        (over("fleet.replicas: { unifrom: [1, 8] }"), "did you mean `uniform`?"),
        (over("fleet.replicas: { log-uniform: [0, 8] }"), "must begin above 0"),
        (over("fleet.replicas: [1, 8]"), "{ uniform: [1, 8] }"),
        (over("fleet.replcas: { uniform: [1, 8] }"), "did you mean `replicas`?"),
        (over("fleet.replicas: { uniform: [0, 3] }"), "`replicas` is 0"),
        (over("gpu: { choice: [h200, h20] }"), "no GPU is called `h20`"),
        (over("workload.generate.arrivals.poisson.rate: { uniform: [1/s, 9] }"), "different units, `/s` and ``"),
        (over(""), "there is nothing to draw"),
        ("lhs: { points: 0, over: { fleet.replicas: { uniform: [1, 8] } } }".to_owned(), "`points` is 0"),
        ("lhs: { over: { fleet.replicas: { uniform: [1, 8] } } }".to_owned(), "missing key `points`"),
        ("lsh: { points: 4 }".to_owned(), "did you mean `lhs`?"),
        (
            format!("axes: {{ fleet.replicas: [1] }}, {}", over("fleet.replicas: { uniform: [1, 8] }")),
            "`fleet.replicas` is swept twice (leave one of the two out)",
        ),
        ("axes: { seed: [1, 2] }, seeds: 2".to_owned(), "`seed` is swept twice"),
        ("seeds: 0".to_owned(), "from 2 to 1000 seeds"),
        ("seeds: 1".to_owned(), "leave `seeds` out"),
        ("seeds: some".to_owned(), "e.g. seeds: 5"),
        ("seeds: [1, 1]".to_owned(), "the seed 1 is there twice"),
        ("seeds: [1, x]".to_owned(), "a seed is a whole number"),
    ] {
        let problems = problems(&format!("{LEAST}sweep: {{ {sweep} }}\n"));
        assert!(
            problems.len() == 1 && problems[0].starts_with("6:") && problems[0].contains(told),
            "{sweep}: {problems:?}"
        );
    }
}
