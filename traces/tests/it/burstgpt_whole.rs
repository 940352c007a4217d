//! The built-in `BurstGPT` against the files it was made from, read here by other means.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Rate};
use overbook_sim::workload::arrival::{Arrival, Workload};
use overbook_traces::{
    ArrivalSpec, BURSTGPT_1_HOURLY, BURSTGPT_1_HOURS, BURSTGPT_FAILURES, BURSTGPT_MEAN_TOKENS, BURSTGPT_SHAPE,
    Failures, GenerateSpec, LengthSpec, burstiness,
};

use overbook_test_groups::{in_clone, whole, whole_files};

use crate::drain;

const HOUR: u64 = 3_600_000_000_000;

fn built_in(from_hour: u32, hours: u32) -> GenerateSpec {
    let failures = Failures::Keep;
    let hours_played = Some(hours);
    let arrivals =
        ArrivalSpec::Burstgpt { mean_rate: None, from_hour, hours: hours_played, shape: BURSTGPT_SHAPE, failures };
    let duration = Some(Duration(Span(u64::from(hours) * HOUR)));
    GenerateSpec {
        arrivals,
        lengths: LengthSpec::Burstgpt,
        sessions: None,
        repeats: None,
        transcripts: None,
        requests: None,
        duration,
    }
}

/// Rows of a CSV file by column name.
fn rows(file: &Path) -> Vec<HashMap<String, String>> {
    let text = fs::read_to_string(file).expect("reads");
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    lines.map(|fields| header.iter().cloned().zip(fields).collect()).collect()
}

fn number(row: &HashMap<String, String>, column: &str) -> f64 {
    row[column].parse().expect("a number")
}

fn quantile(sorted: &[f64], p: f64) -> f64 {
    sorted[((p * sorted.len() as f64) as usize).min(sorted.len() - 1)]
}

#[test]
fn the_hourly_profile_is_that_of_the_trace() {
    let rows = rows(&in_clone("burstgpt/burstgpt_1_hourly.csv"));
    let mut hours = vec![0.0; BURSTGPT_1_HOURS];
    for row in &rows {
        hours[number(row, "hour") as usize] = number(row, "requests_by_session_start");
    }
    assert!(hours.iter().zip(BURSTGPT_1_HOURLY).all(|(a, b)| a.to_bits() == f64::from(b).to_bits()));
    assert_eq!(BURSTGPT_1_HOURLY.iter().map(|&n| u64::from(n)).sum::<u64>(), 1_429_737);
    // In expectation exact: the mean of many runs of a stretch with bursts, gaps and quiet hours.
    let (from, length, runs) = (210u32, 30u32, 60u32);
    let mut counts = vec![0.0; length as usize];
    for seed in 0..runs {
        for arrival in drain(&mut *built_in(from, length).open(u64::from(seed)).expect("opens")).expect("generates") {
            counts[(arrival.at.0 / HOUR).min(29) as usize] += 1.0 / f64::from(runs);
        }
    }
    for (hour, &count) in counts.iter().enumerate() {
        let expected = hours[from as usize + hour];
        // Five standard errors, with the wider of the process's and Poisson's spread.
        let error = 5.0 * (expected / f64::from(runs)).sqrt() + 1e-9;
        assert!((count - expected).abs() <= error, "hour {hour}: {count} for {expected}");
    }
}

#[test]
fn the_totals_are_those_of_the_trace() {
    let mut generator = built_in(0, BURSTGPT_1_HOURS as u32).generator(1).expect("opens");
    let stats = burstiness(&mut generator).expect("generates");
    assert!((stats.requests as f64 / 1_429_737.0 - 1.0).abs() < 0.01, "{}", stats.requests);
    let tokens = (stats.prompt_tokens.sum() + stats.output_tokens.sum()) as f64;
    assert!((tokens / 1_049_263_050.0 - 1.0).abs() < 0.01, "{tokens}");
    // The mean of 734 counts failed requests, which have no tokens.
    let (prompt, output) = LengthSpec::Burstgpt.means();
    let mean = (prompt + output) * (1.0 - BURSTGPT_FAILURES);
    assert!((mean - 1_049_263_050.0 / 1_429_737.0).abs() < 0.1 && (mean - BURSTGPT_MEAN_TOKENS).abs() < 0.1, "{mean}");
    let names: Vec<&str> = stats.classes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ChatGPT/conversation", "GPT-4/conversation", "ChatGPT/api", "GPT-4/api"]);
    let conversations = stats.classes[0].1 + stats.classes[1].1;
    assert!((conversations as f64 / 154_094.0 - 1.0).abs() < 0.01, "{conversations}");
    // The five busiest hours of the trace are far above the mean: peak hour over mean hour is 34.
    let peak = stats.peak_over_mean(&stats.hour).expect("a peak");
    assert!((peak - 34.0).abs() < 1.0, "{peak}");
}

fn the_tokens_of_all_days_are_those_of_the_trace() {
    let days = rows(&whole("burstgpt/burstgpt_1_daily.csv"));
    let tokens: f64 = days.iter().map(|row| number(row, "total_tokens")).sum();
    assert!((tokens - 1_049_263_050.0).abs() < 1.0, "{tokens}");
}

#[test]
fn head_quantiles_are_those_of_the_slices() {
    let slices = ["burstgpt/burstgpt_1_first400.csv", "burstgpt/burstgpt_3_first400.csv"];
    let conversations = slices.map(|name| rows(&in_clone(name)));
    let api = rows(&in_clone("burstgpt/burstgpt_2_api_burst_excerpt.csv"));
    let mut generator = built_in(0, BURSTGPT_1_HOURS as u32).generator(7).expect("opens");
    let mut generated = [const { Vec::new() }; 4];
    while let Some(arrival) = generator.next_arrival().expect("generates") {
        let Arrival { class, prompt_tokens, output_tokens, failed_in_trace, .. } = arrival;
        if failed_in_trace {
            continue;
        }
        let kind = usize::from(class.0 / 2);
        generated[2 * kind].push(f64::from(prompt_tokens));
        generated[2 * kind + 1].push(f64::from(output_tokens));
    }
    let column = |rows: &mut dyn Iterator<Item = &HashMap<String, String>>, log_type: &str, column: &str| {
        let kept = rows.filter(|row| row["Log Type"] == log_type && number(row, "Response tokens") > 0.0);
        kept.map(|row| number(row, column)).collect::<Vec<f64>>()
    };
    let conversation = |name| column(&mut conversations.iter().flatten(), "Conversation log", name);
    let recorded = [
        conversation("Request tokens"),
        conversation("Response tokens"),
        column(&mut api.iter(), "API log", "Request tokens"),
        column(&mut api.iter(), "API log", "Response tokens"),
    ];
    let heads = [&[0.1, 0.25, 0.5, 0.75, 0.9, 0.95][..], &[0.1, 0.25, 0.5, 0.75, 0.9, 0.95], &[0.1, 0.25, 0.5], &[0.5]];
    for (at, ((mut got, mut expected), head)) in generated.into_iter().zip(recorded).zip(heads).enumerate() {
        got.sort_by(f64::total_cmp);
        expected.sort_by(f64::total_cmp);
        for &p in head {
            let (got, expected) = (quantile(&got, p), quantile(&expected, p));
            assert!((got / expected - 1.0).abs() < 0.1, "{at} p{p}: {got} for {expected}");
        }
    }
}

/// Maximum-likelihood shape of Gamma gaps (Minka's closed form and one Newton step's worth of accuracy, 1.5 %).
fn shape(gaps: &[f64]) -> f64 {
    let n = gaps.len() as f64;
    let s = (gaps.iter().sum::<f64>() / n).ln() - gaps.iter().map(|gap| gap.ln()).sum::<f64>() / n;
    (3.0 - s + ((s - 3.0).powi(2) + 24.0 * s).sqrt()) / (12.0 * s)
}

/// Median shape over windows of 20 minutes with at least 30 gaps, zero gaps left out.
fn window_shape(times_s: &[f64]) -> f64 {
    let mut windows: HashMap<u64, Vec<f64>> = HashMap::new();
    for pair in times_s.windows(2) {
        let (from, to) = ((pair[0] / 1200.0) as u64, (pair[1] / 1200.0) as u64);
        if from == to && pair[1] > pair[0] {
            windows.entry(from).or_default().push(pair[1] - pair[0]);
        }
    }
    let mut shapes: Vec<f64> = windows.values().filter(|gaps| gaps.len() >= 30).map(|gaps| shape(gaps)).collect();
    shapes.sort_by(f64::total_cmp);
    quantile(&shapes, 0.5)
}

#[test]
fn the_shape_inside_windows_is_that_of_the_slice() {
    let arrivals = drain(&mut *built_in(216, 24).open(3).expect("opens")).expect("generates");
    let times: Vec<f64> = arrivals.iter().map(|a| a.at.as_secs_f64()).collect();
    let generated = window_shape(&times);
    assert!((generated - BURSTGPT_SHAPE).abs() < 0.1, "{generated}");
    let slices = [("burstgpt/burstgpt_1_first400.csv", 1.16), ("burstgpt/burstgpt_3_first400.csv", 1.15)];
    for (file, stated) in slices {
        let rows = rows(&in_clone(file));
        let times: Vec<f64> = rows.iter().map(|row| number(row, "Timestamp") - number(&rows[0], "Timestamp")).collect();
        let measured = window_shape(&times);
        assert!((measured - generated).abs() < 0.1 && (measured - stated).abs() < 0.1, "{file}: {measured}");
    }
}

#[test]
fn a_mean_rate_scales_the_hours() {
    let spec = |hours| {
        let mean_rate = Some(Rate(2.0));
        let (hours, failures) = (Some(hours), Failures::Drop);
        let arrivals = ArrivalSpec::Burstgpt { mean_rate, from_hour: 1450, hours, shape: 1.0, failures };
        GenerateSpec {
            arrivals,
            lengths: LengthSpec::Burstgpt,
            requests: Some(100_000),
            duration: None,
            sessions: None,
            repeats: None,
            transcripts: None,
        }
    };
    // Wraps around the end of the trace, and starts over.
    let arrivals = drain(&mut *spec(24).open(1).expect("opens")).expect("generates");
    let rate = arrivals.len() as f64 / arrivals[arrivals.len() - 1].at.as_secs_f64();
    assert!((rate / 2.0 - 1.0).abs() < 0.4, "{rate}");
    let arrivals = |from_hour, hours, shape| {
        let (mean_rate, failures) = (Some(Rate(0.0)), Failures::Drop);
        let arrivals = ArrivalSpec::Burstgpt { mean_rate, from_hour, hours, shape, failures };
        GenerateSpec { arrivals, ..spec(1) }.problems().into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert_eq!(
        arrivals(1461, Some(0), 0.0),
        ["mean_rate", "shape", "from_hour", "hours"].map(|name| format!("arrivals.burstgpt.{name}"))
    );
    assert_eq!(arrivals(1, Some(3), 1.0), ["arrivals.burstgpt.mean_rate", "arrivals.burstgpt.hours"]);
}

#[test]
fn failures_are_as_many_as_in_the_trace() {
    // Whole-file line counts of the publishers, in thousands: all rows, and those without failures.
    assert!((BURSTGPT_FAILURES - (1.0 - 1_404.3 / 1_429.7)).abs() < 1e-12);
    let spec = |failures| {
        let arrivals = ArrivalSpec::Burstgpt { mean_rate: None, from_hour: 216, hours: Some(48), shape: 1.0, failures };
        GenerateSpec { arrivals, ..built_in(216, 48) }
    };
    let stats = |failures| burstiness(&mut *spec(failures).open(4).expect("opens")).expect("generates");
    let [drop, keep, redraw] = [Failures::Drop, Failures::Keep, Failures::Redraw].map(stats);
    let recorded: u64 = BURSTGPT_1_HOURLY[216..264].iter().map(|&n| u64::from(n)).sum();
    let near = |got: u64, expected: f64| {
        assert!((got as f64 - expected).abs() < 5.0 * expected.sqrt(), "{got} for {expected}");
    };
    near(keep.requests, recorded as f64);
    near(keep.failed, recorded as f64 * BURSTGPT_FAILURES);
    near(drop.requests, recorded as f64 * (1.0 - BURSTGPT_FAILURES));
    // The same requests, but for the sizes of those that failed.
    assert_eq!((redraw.requests, redraw.failed, drop.failed), (keep.requests, 0, 0));
    assert_eq!(keep.prompt_tokens.count() + keep.failed, redraw.prompt_tokens.count());
    // In the slices it is 18 of 800: within five standard errors of the same share.
    let [one, three] = ["1", "3"].map(|file| rows(&in_clone(&format!("burstgpt/burstgpt_{file}_first400.csv"))));
    let failed = one.iter().chain(&three).filter(|row| number(row, "Response tokens") <= 0.0).count();
    assert!(failed == 18 && (18.0 - 800.0 * BURSTGPT_FAILURES).abs() < 5.0 * (800.0 * BURSTGPT_FAILURES).sqrt());
    let mut sessions = spec(Failures::Keep);
    sessions.sessions = Some(overbook_traces::SessionSpec::default());
    assert_eq!(sessions.problems()[0].0, "arrivals.burstgpt.failures");
}

#[test]
fn conversations_alone_are_those_of_the_mix() {
    let spec = GenerateSpec { lengths: LengthSpec::BurstgptConversation, requests: Some(200_000), ..built_in(216, 24) };
    let mut generator = spec.generator(3).expect("opens");
    let stats = burstiness(&mut generator).expect("generates");
    let names: Vec<&str> = stats.classes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ChatGPT/conversation", "GPT-4/conversation"]);
    let share = stats.classes[0].1 as f64 / stats.requests as f64;
    assert!((share - 607.0 / 774.0).abs() < 0.005, "{share}");
    let (prompt, output) = LengthSpec::BurstgptConversation.means();
    for (tokens, mean) in [(&stats.prompt_tokens, prompt), (&stats.output_tokens, output)] {
        assert!((tokens.mean().expect("some") / mean - 1.0).abs() < 0.02, "{:?} for {mean}", tokens.mean());
    }
    // The means of the 774 rows: 585 and 230.
    assert!((prompt / 585.0 - 1.0).abs() < 0.015 && (output / 230.0 - 1.0).abs() < 0.015, "{prompt} {output}");
}

whole_files!(the_tokens_of_all_days_are_those_of_the_trace);
