#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::Mutex;

use overbook_reports::Status;
use overbook_reports::summary_json::summary_json;

use super::*;
use crate::{Cancel, Experiment};

const SCENARIO: &str = "
version: 1
name: study
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { poisson: { rate: 20/s } }, lengths: { fixed: { prompt: 400, output: 60 } }, requests: 300 }
slo: { ttft_p99: 10s }
";

fn study(axes: &str) -> Study {
    let text = format!("{SCENARIO}sweep: {{ axes: {{ {axes} }} }}\n");
    Experiment::from_text("study", &text).study().unwrap()
}

fn jobs(threads: usize) -> Options {
    Options { jobs: NonZeroUsize::new(threads), ..Options::default() }
}

/// All that a study writes, and the digests.
fn bytes(study: &Study, outcome: &StudyOutcome) -> String {
    let asked = Asked { metrics: &Asked::COMPARISON, command: "again".into(), by_load: false };
    let points = outcome.points.iter().flatten();
    let points = points.map(|point| format!("{}\n{}\n", summary_json(&point.report("", "")), point.digest));
    points.collect::<String>() + &outcome.table(study, &asked).csv()
}

#[test]
fn one_thread_and_two_give_the_same_bytes() {
    let study = study("fleet.replicas: [1, 2, 3], scheduler: [vllm, sarathi]");
    let one = study.run(&jobs(1), &|_| {}).unwrap();
    let two = study.run(&jobs(2), &|_| {}).unwrap();
    assert_eq!(bytes(&study, &one), bytes(&study, &two));
    assert!(one.is_complete() && one.passes());
}

#[test]
fn shared_requests_are_opened_once_and_change_nothing() {
    let study = study("fleet.replicas: [1, 2, 3]");
    let shared = study.run(&jobs(2), &|_| {}).unwrap();
    assert_eq!(shared.workloads_opened, 1);
    let streamed = study.run(&Options { shared_bytes_max: 0, ..jobs(2) }, &|_| {}).unwrap();
    assert_eq!(streamed.workloads_opened, 1 + 3, "read once without use, then by each point");
    assert_eq!(bytes(&study, &shared), bytes(&study, &streamed));
}

#[test]
fn only_equal_requests_are_shared() {
    // Two rates with two schedulers each: two groups.
    let by_rate = study("workload.generate.arrivals.poisson.rate: [10/s, 20/s], scheduler: [vllm, sarathi]");
    assert_eq!(by_rate.run(&jobs(2), &|_| {}).unwrap().workloads_opened, 2);
    let by_seed = study("seed: [1, 2, 3]");
    assert_eq!(by_seed.run(&jobs(2), &|_| {}).unwrap().workloads_opened, 3);
}

#[test]
fn memory_of_shared_requests_is_given_back_with_the_last_point() {
    let study = study("workload.generate.arrivals.poisson.rate: [10/s, 20/s, 30/s], scheduler: [vllm, sarathi]");
    // Room for a little more than one group at a time: with one thread each finds it free again.
    let one = 300 * size_of::<overbook_sim::workload::arrival::Arrival>() as u64;
    let outcome = study.run(&Options { shared_bytes_max: one + one / 2, ..jobs(1) }, &|_| {}).unwrap();
    assert_eq!(outcome.workloads_opened, 3);
}

#[test]
fn progress_counts_every_point_once() {
    let study = study("fleet.replicas: [1, 2, 3, 4]");
    let seen = Mutex::new(Vec::new());
    study.run(&jobs(2), &|done| seen.lock().unwrap().push(done)).unwrap();
    let seen = seen.into_inner().unwrap();
    let sorted = |of: fn(&PointDone) -> usize| {
        let mut values: Vec<usize> = seen.iter().map(of).collect();
        values.sort_unstable();
        values
    };
    assert_eq!(sorted(|done| done.point), [0, 1, 2, 3]);
    assert_eq!(sorted(|done| done.finished), [1, 2, 3, 4]);
    assert!(seen.iter().all(|done| done.of == 4));
}

#[test]
fn a_cancelled_study_keeps_what_is_finished_and_marks_the_rest() {
    let study = study("fleet.replicas: [1, 2, 3, 4]");
    let whole = study.run(&jobs(1), &|_| {}).unwrap();
    let options = jobs(1);
    let cancel = options.cancel.clone();
    let outcome = study
        .run(&options, &|done| {
            if done.finished == 2 {
                cancel.cancel();
            }
        })
        .unwrap();
    assert!(!outcome.is_complete() && whole.is_complete());
    let digest = |outcome: &Option<Outcome>| outcome.as_ref().map(|point| (point.status, point.digest));
    assert_eq!(digest(&outcome.points[0]), digest(&whole.points[0]));
    assert_eq!(digest(&outcome.points[1]), digest(&whole.points[1]));
    assert_eq!(outcome.points[2..].iter().map(digest).collect::<Vec<_>>(), [None, None]);
}

#[test]
fn a_run_that_is_cancelled_on_the_way_says_so() {
    let options = Options { cancel: Cancel::new(), ..Options::default() };
    options.cancel.cancel();
    // Long enough to be looked at: the fleet looks every 16,384 events.
    let long = Experiment::from_text("study", SCENARIO).set("workload.generate.requests", 20_000).unwrap();
    let outcome = long.run(&options).unwrap();
    assert_eq!(outcome.status, Status::Interrupted);
    assert!(outcome.summary.ended() < 20_000);
}

#[test]
fn a_broken_trace_fails_every_point_where_it_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace.csv");
    std::fs::write(&trace, "arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,10\n1,100,10\n2,oops,10\n").unwrap();
    let text = format!(
        "version: 1\nname: broken\nmodel: llama-3.1-8b\ngpu: h100\nworkload: {{ trace: {{ path: {} }} }}\nsweep: {{ axes: {{ fleet.replicas: [1, 2] }} }}\n",
        trace.display()
    );
    let study = Experiment::from_text("broken", &text).study().unwrap();
    let error = study.run(&jobs(2), &|_| {}).unwrap_err();
    assert!(error.is_input());
    let text = error.to_string();
    assert!(text.starts_with("point 1 (fleet.replicas=1): ") && text.contains("trace.csv:4"), "{text}");
    assert!(text.ends_with("; and another point could not be run"), "{text}");
}

/// What is finished is not lost because a later point is refused.
#[test]
fn a_refused_point_leaves_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let head = "arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,10\n1,100,10\n";
    let [whole, broken] = ["whole.csv", "broken.csv"].map(|name| dir.path().join(name));
    std::fs::write(&whole, head).unwrap();
    std::fs::write(&broken, format!("{head}2,oops,10\n")).unwrap();
    let text = format!(
        "version: 1\nname: late\nmodel: llama-3.1-8b\ngpu: h100\nworkload: {{ trace: {{ path: x }} }}\nsweep: {{ axes: {{ workload.trace.path: [{}, \
         {}] }} }}\n",
        whole.display(),
        broken.display()
    );
    let study = Experiment::from_text("late", &text).study().unwrap();
    for threads in [1, 2] {
        let mut error = study.run(&jobs(threads), &|_| {}).unwrap_err();
        assert!(error.is_input() && error.to_string().starts_with("point 2 ("), "{error}");
        let finished = error.take_finished().unwrap();
        assert_eq!(finished.points[0].as_ref().unwrap().metric("finished"), Some(2.0));
        assert!(finished.points[1].is_none() && !finished.is_complete());
        assert!(error.take_finished().is_none());
    }
}

/// Figures of prefix caches and of sessions stand in the table where a point has them, and only there.
#[test]
fn the_table_has_what_caches_give() {
    let sessions = "sessions: { turns: { quantiles: [[0, 2], [1, 4]] }, follow_up: { log-normal: { median: 50, sigma: 1, max: 200 } }, \
                    think_median: 1s, think_sigma: 1, shared_prefix_tokens: 64, max_prompt_tokens: 2000 }, ";
    let talks = SCENARIO.replace("requests: 300", &format!("{sessions}requests: 60"));
    let text = format!(
        "{talks}scheduler: vllm\nengine: {{ prefix_cache: {{ bound: true }} }}\nsweep: {{ axes: {{ fleet.replicas: [1, 2] }} }}\n"
    );
    let with = Experiment::from_text("talks", &text).study().unwrap();
    for metrics in [&Asked::SWEEP[..], &Asked::COMPARISON] {
        let asked = Asked { metrics, command: "again".into(), by_load: false };
        let columns = |study: &Study| study.run(&jobs(2), &|_| {}).unwrap().table(study, &asked).metrics;
        let (there, plain) = (columns(&with), columns(&study("fleet.replicas: [1, 2]")));
        let has = |columns: &[String]| columns.iter().any(|metric| metric == "cache_gap");
        assert!(has(&there) && !has(&plain), "{there:?} {plain:?}");
    }
}

#[test]
fn a_trace_that_points_have_in_common_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace.csv");
    let header = "arrived_at,num_prefill_tokens,num_decode_tokens".to_owned();
    let rows = (0..500).map(|n| format!("{}.{},{},20", n / 10, n % 10, 100 + n));
    let lines: Vec<String> = std::iter::once(header).chain(rows).collect();
    std::fs::write(&trace, lines.join("\n")).unwrap();
    let text = format!(
        "version: 1\nname: once\nmodel: llama-3.1-8b\ngpu: h100\nworkload: {{ trace: {{ path: {} }} }}\nsweep: {{ axes: {{ fleet.replicas: [1, 2, 3] }} }}\n",
        trace.display()
    );
    let study = Experiment::from_text("once", &text).study().unwrap();
    let streamed = study.run(&Options { shared_bytes_max: 0, ..jobs(1) }, &|_| {}).unwrap();
    let shared = study.run(&jobs(1), &|done| {
        // What has been read is not read again: the file may go after the first point.
        if done.finished == 1 {
            std::fs::remove_file(&trace).unwrap();
        }
    });
    let shared = shared.unwrap();
    assert_eq!(shared.workloads_opened, 1);
    assert_eq!(bytes(&study, &shared), bytes(&study, &streamed));
}

#[test]
fn a_study_is_no_single_run_and_a_single_run_is_judged() {
    let error = study("fleet.replicas: [1, 2]").run_single(&Options::default()).unwrap_err();
    assert!(matches!(error, Error::Sweep { runs: 2 }), "{error}");
    let expect =
        "expect: [{ metric: finished, min: 300, source: by hand }, { metric: finished, max: 1, source: by hand }]\n";
    let outcome = Experiment::from_text("study", &format!("{SCENARIO}{expect}")).run(&Options::default()).unwrap();
    assert_eq!(outcome.expected.iter().map(|verdict| verdict.passed).collect::<Vec<_>>(), [true, false]);
    assert!(outcome.keeps_targets() && !outcome.passes());
}

#[test]
fn means_over_seeds_and_what_depends_on_the_seed_are_told() {
    let of = |bound: &str| {
        let text = SCENARIO.replace("ttft_p99: 10s", &format!("ttft_p99: {bound}"));
        Experiment::from_text("seeds", &format!("{text}sweep: {{ axes: {{ fleet.replicas: [1, 2] }}, seeds: 3 }}\n"))
            .study()
            .unwrap()
    };
    let asked = Asked { metrics: &["ttft_p99"], command: "again".into(), by_load: false };
    let loose = of("10s");
    let records = loose.run(&jobs(2), &|_| {}).unwrap().records(&loose);
    let values: Vec<f64> = records.points[..3].iter().flatten().map(|one| one.metric("ttft_p99").unwrap()).collect();
    let table = records.table(&loose, &asked);
    assert!(table.depends_on_seed.is_empty() && table.missed.is_empty());
    let csv = table.replicates_csv().unwrap();
    let row: Vec<&str> = csv.lines().nth(1).unwrap().split(',').collect();
    let number = |at: usize| row[at].parse::<f64>().unwrap();
    let mean = values.iter().sum::<f64>() / 3.0;
    assert!((row[0], row[1]) == ("1", "3") && (number(2) - mean).abs() < 1e-12, "{csv}");
    // Student's t of two degrees of freedom.
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    let half = 4.302_652_73 * deviation / 3_f64.sqrt();
    assert!((number(4) - number(3) - 2.0 * half).abs() < 1e-6 * half, "{csv}");
    let text = table.terminal();
    assert!(text.contains(" ± ") && text.lines().filter(|line| line.contains(" ms")).count() == 2, "{text}");
    assert!(table.html().unwrap().contains("Means over 3 seeds"));

    // A target that the best of the three seeds keeps.
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    assert!(sorted[0] < sorted[1], "{values:?}");
    let tight = of(&format!("{}ms", 500.0 * (sorted[0] + sorted[1])));
    let table = tight.run(&jobs(2), &|_| {}).unwrap().table(&tight, &asked);
    let told = &table.depends_on_seed[0];
    let missed: Vec<String> = (0..3).filter(|seed| values[*seed] > sorted[0]).map(|seed| seed.to_string()).collect();
    assert!(told.starts_with("TTFT p99 at fleet.replicas=1: ≤ "), "{told}");
    assert!(told.contains(&format!("kept with 1 of 3 seeds and missed with seeds {}", missed.join(", "))), "{told}");
    assert!(table.terminal().contains("Depends on the seed") && table.html().unwrap().contains("too close to call"));
    assert!(!table.missed.iter().any(|line| line.contains("fleet.replicas=1")), "{:?}", table.missed);
    let none = of("1us");
    let table = none.run(&jobs(2), &|_| {}).unwrap().table(&none, &asked);
    assert_eq!((table.missed.len(), table.depends_on_seed.len()), (2, 0));
    assert!(table.missed[0].contains("missed with all 3 seeds (0, 1, 2), got "), "{:?}", table.missed);
}
