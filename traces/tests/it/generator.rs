//! Generated workloads: bounds, statistics, determinism, independence of streams.

use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Rate};
use overbook_sim::workload::arrival::{Arrival, Workload};
use overbook_traces::{
    ArrivalSpec, BURSTGPT_HOURLY_MEAN, GapFamily, GenerateError, GenerateSpec, LengthDist, LengthSpec, SessionSpec,
};

use crate::drain;

const SECOND: u64 = 1_000_000_000;

fn spec(arrivals: ArrivalSpec) -> GenerateSpec {
    let lengths = LengthSpec::Fixed { prompt: 100, output: 10 };
    GenerateSpec { arrivals, lengths, requests: None, duration: None, sessions: None, repeats: None, transcripts: None }
}

fn requests(arrivals: ArrivalSpec, requests: u64, seed: u64) -> Vec<Arrival> {
    let spec = GenerateSpec { requests: Some(requests), ..spec(arrivals) };
    drain(&mut *spec.open(seed).expect("opens")).expect("generates")
}

fn seconds(arrivals: ArrivalSpec, seconds: u64, seed: u64) -> Vec<Arrival> {
    let duration = Some(Duration(Span(seconds * SECOND)));
    let spec = GenerateSpec { duration, ..spec(arrivals) };
    drain(&mut *spec.open(seed).expect("opens")).expect("generates")
}

/// Mean and coefficient of variation of the gaps [s].
fn gaps(arrivals: &[Arrival]) -> (f64, f64) {
    let gaps: Vec<f64> = arrivals.windows(2).map(|w| (w[1].at - w[0].at).as_secs_f64()).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    (mean, variance.sqrt() / mean)
}

#[test]
fn constant_arrivals_are_exact() {
    let arrivals = requests(ArrivalSpec::Constant { rate: Rate(3.0) }, 3_000_000, 1);
    assert!(arrivals[2_999_999].at.0.abs_diff(1_000_000 * SECOND) <= 1);
    assert_eq!(arrivals[0].at.0, 333_333_333);
    assert_eq!(seconds(ArrivalSpec::Constant { rate: Rate(10.0) }, 7, 1).len(), 70);
}

#[test]
fn gaps_have_the_stated_mean_and_variation() {
    let n = 200_000;
    for shape in [0.25f64, 0.5, 1.0, 4.0] {
        let arrivals = requests(ArrivalSpec::Gamma { rate: Rate(50.0), shape }, n, 7);
        let (mean, cv) = gaps(&arrivals);
        let expected = 1.0 / shape.sqrt();
        // Five standard errors of the mean.
        assert!((mean * 50.0 - 1.0).abs() < 5.0 * expected / (n as f64).sqrt(), "{shape}: {mean}");
        assert!((cv / expected - 1.0).abs() < 0.03, "{shape}: {cv}");
    }
    let poisson = requests(ArrivalSpec::Poisson { rate: Rate(50.0) }, n, 7);
    assert!(poisson == requests(ArrivalSpec::Gamma { rate: Rate(50.0), shape: 1.0 }, n, 7));
}

#[test]
fn weibull_gaps_have_the_stated_mean_and_variation() {
    let n = 400_000;
    // CV² = Γ(1 + 2/k) / Γ(1 + 1/k)² - 1.
    for (shape, cv) in [(0.5, 5f64.sqrt()), (1.0, 1.0), (2.0, (4.0 / std::f64::consts::PI - 1.0).sqrt())] {
        let arrivals = requests(ArrivalSpec::Weibull { rate: Rate(50.0), shape }, n, 7);
        let (mean, got) = gaps(&arrivals);
        assert!((mean * 50.0 - 1.0).abs() < 5.0 * cv / (n as f64).sqrt(), "{shape}: {mean}");
        assert!((got / cv - 1.0).abs() < 0.03, "{shape}: {got}");
    }
    // The first gap is that of the equilibrium: no bias at the start.
    let runs = 4_000u32;
    let of = |seed: u32| seconds(ArrivalSpec::Weibull { rate: Rate(4.0), shape: 0.5 }, 1, u64::from(seed)).len();
    let mean = (0..runs).map(of).sum::<usize>() as f64 / f64::from(runs);
    assert!((mean - 4.0).abs() < 0.35, "{mean}");
}

#[test]
fn lengths_follow_their_distributions() {
    let lengths = LengthSpec::Independent {
        prompt: LengthDist::LogNormal { median: 300, sigma: 1.2, max: 32_768 },
        output: LengthDist::Zipf { exponent: 1.1, max: 1023 },
    };
    let (prompt, output) = lengths.means();
    let spec = GenerateSpec { lengths, requests: Some(200_000), ..spec(ArrivalSpec::Constant { rate: Rate(1.0) }) };
    let arrivals = drain(&mut *spec.open(3).expect("opens")).expect("generates");
    let mean = |tokens: fn(&Arrival) -> u32| {
        arrivals.iter().map(|a| f64::from(tokens(a))).sum::<f64>() / arrivals.len() as f64
    };
    assert!((mean(|a| a.prompt_tokens) / prompt - 1.0).abs() < 0.02);
    assert!((mean(|a| a.output_tokens) / output - 1.0).abs() < 0.02);
    let below = arrivals.iter().filter(|a| a.prompt_tokens <= 300).count() as f64 / arrivals.len() as f64;
    assert!((below - 0.5).abs() < 0.01, "{below}");
    // Zipf: one token twice as often as two, to the power of 1.1.
    let of = |n| arrivals.iter().filter(|a| a.output_tokens == n).count() as f64;
    assert!((of(1) / of(2) / 2f64.powf(1.1) - 1.0).abs() < 0.05);
    let wrong = LengthSpec::Independent {
        prompt: LengthDist::ParetoMixture {
            median: 0,
            sigma: -1.0,
            tail_share: 2.0,
            tail_min: 5000,
            tail_alpha: 0.0,
            max: 4000,
        },
        output: LengthDist::Zipf { exponent: f64::NAN, max: 1 << 20 },
    };
    let spec = GenerateSpec { lengths: wrong, ..spec };
    let paths: Vec<String> = spec.problems().into_iter().map(|(path, _)| path).collect();
    let names = ["median", "sigma", "tail_share", "tail_alpha", "max"];
    let mut expected: Vec<String> =
        names.map(|name| format!("lengths.independent.prompt.pareto-mixture.{name}")).into();
    expected.extend(["exponent", "max"].map(|name| format!("lengths.independent.output.zipf.{name}")));
    assert_eq!(paths, expected);
}

#[test]
fn windows_of_a_profile_have_their_expected_counts() {
    let rates = [20.0, 0.0, 5.0, 60.0];
    let profile = |shape| ArrivalSpec::Profile {
        rates: rates.map(Rate).to_vec(),
        window: Duration(Span(10 * SECOND)),
        shape,
        gaps: GapFamily::Gamma,
    };
    let rounds = 400;
    for shape in [0.3f64, 1.0, 3.0] {
        let arrivals = seconds(profile(shape), rounds * 40, 11);
        let mut counts = [0.0; 4];
        for arrival in &arrivals {
            counts[(arrival.at.0 / (10 * SECOND)) as usize % 4] += 1.0;
        }
        for (count, rate) in counts.iter().zip(rates) {
            let expected = rate * 10.0 * rounds as f64;
            let deviation = (expected / shape).sqrt().max((expected * 1.2).sqrt());
            assert!((count - expected).abs() <= 5.0 * deviation, "{shape}: {count} for {expected}");
        }
    }
}

#[test]
fn the_first_window_is_not_biased() {
    // An ordinary renewal process started at 0 would make (CV^2 - 1) / 2 = 1.5 requests too many.
    let gamma = || ArrivalSpec::Gamma { rate: Rate(4.0), shape: 0.25 };
    let runs = 4_000u32;
    let total: usize = (0..runs).map(|seed| seconds(gamma(), 1, u64::from(seed)).len()).sum();
    let mean = total as f64 / f64::from(runs);
    assert!((mean - 4.0).abs() < 0.3, "{mean}");
}

#[test]
fn a_burstgpt_day_has_its_shape_and_mean() {
    let arrivals = seconds(ArrivalSpec::BurstgptDay { mean_rate: Rate(1.0), shape: 1.0 }, 3 * 86_400, 5);
    let total = arrivals.len() as f64;
    assert!((total / (3.0 * 86_400.0) - 1.0).abs() < 0.01, "{total}");
    let sum: f64 = BURSTGPT_HOURLY_MEAN.iter().sum();
    for (hour, mean) in BURSTGPT_HOURLY_MEAN.iter().enumerate() {
        let count = arrivals.iter().filter(|a| a.at.0 / (3_600 * SECOND) % 24 == hour as u64).count() as f64;
        let expected = mean / sum * 3.0 * 86_400.0;
        assert!((count - expected).abs() < 5.0 * expected.sqrt(), "hour {hour}: {count} for {expected}");
    }
}

#[test]
fn burstgpt_lengths_have_the_mean_of_the_trace() {
    let (prompt, output) = LengthSpec::Burstgpt.means();
    let spec = GenerateSpec {
        lengths: LengthSpec::Burstgpt,
        requests: Some(400_000),
        ..spec(ArrivalSpec::Constant { rate: Rate(1.0) })
    };
    let mut generator = spec.generator(3).expect("opens");
    let arrivals = drain(&mut generator).expect("generates");
    let mean = |tokens: fn(&Arrival) -> u32| {
        arrivals.iter().map(|a| f64::from(tokens(a))).sum::<f64>() / arrivals.len() as f64
    };
    assert!((mean(|a| a.prompt_tokens) / prompt - 1.0).abs() < 0.02);
    assert!((mean(|a| a.output_tokens) / output - 1.0).abs() < 0.02);
    assert_eq!(generator.classes(), ["ChatGPT/conversation", "GPT-4/conversation", "ChatGPT/api", "GPT-4/api"]);
    let api: Vec<&Arrival> = arrivals.iter().filter(|a| a.class.0 >= 2).collect();
    assert!(api.iter().all(|a| a.output_tokens == 7 && (205..=8192).contains(&a.prompt_tokens)));
    // Arrivals that know no hour have the mix of the whole trace.
    assert!((api.len() as f64 / 400_000.0 - 0.892).abs() < 0.003);
}

#[test]
fn same_seed_same_requests_and_lengths_never_move_arrivals() {
    let arrivals = || ArrivalSpec::Gamma { rate: Rate(9.0), shape: 0.5 };
    let one = requests(arrivals(), 5_000, 42);
    assert!(one == requests(arrivals(), 5_000, 42));
    assert!(one != requests(arrivals(), 5_000, 43));
    let other = GenerateSpec { lengths: LengthSpec::Burstgpt, requests: Some(5_000), ..spec(arrivals()) };
    let other = drain(&mut *other.open(42).expect("opens")).expect("generates");
    assert!(one.iter().zip(&other).all(|(one, other)| one.at == other.at));
    let points = |top: u32| vec![(0.0, 1), (1.0, top)];
    let with = |output| GenerateSpec {
        lengths: LengthSpec::Quantiles { prompt: points(1000), output },
        requests: Some(5_000),
        ..spec(arrivals())
    };
    let draw = |output| drain(&mut *with(output).open(42).expect("opens")).expect("generates");
    let (short, long) = (draw(points(10)), draw(points(500)));
    assert!(short.iter().zip(&long).all(|(a, b)| a.prompt_tokens == b.prompt_tokens && a.at == b.at));
    assert!(short.iter().any(|a| a.output_tokens == 10) && long.iter().any(|a| a.output_tokens > 400));
}

#[test]
fn gaps_prompts_and_outputs_are_independent() {
    let n = 50_000;
    let points = || vec![(0.0, 1), (1.0, 10_000)];
    let lengths = LengthSpec::Quantiles { prompt: points(), output: points() };
    let poisson = ArrivalSpec::Poisson { rate: Rate(9.0) };
    let spec = GenerateSpec { lengths, requests: Some(n), ..spec(poisson) };
    let arrivals = drain(&mut *spec.open(8).expect("opens")).expect("generates");
    let gaps: Vec<f64> = arrivals.windows(2).map(|w| (w[1].at - w[0].at).as_secs_f64()).collect();
    let of = |tokens: fn(&Arrival) -> u32| -> Vec<f64> { arrivals[1..].iter().map(|a| f64::from(tokens(a))).collect() };
    let (prompts, outputs) = (of(|a| a.prompt_tokens), of(|a| a.output_tokens));
    for (x, y) in [(&gaps, &prompts), (&gaps, &outputs), (&prompts, &outputs)] {
        // Five standard errors.
        assert!(correlation(x, y).abs() < 5.0 / (n as f64).sqrt());
    }
}

fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 { x.iter().zip(y).map(|(x, y)| f(x - mean_x, y - mean_y)).sum() };
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

#[test]
fn both_bounds_hold_and_the_end_is_final() {
    let rate = Rate(10.0);
    let duration = Some(Duration(Span(2 * SECOND)));
    let base = || GenerateSpec { duration, ..spec(ArrivalSpec::Constant { rate }) };
    for (limit, expected) in [(Some(5), 5), (Some(500), 20), (None, 20)] {
        let mut generator = GenerateSpec { requests: limit, ..base() }.generator(1).expect("opens");
        assert_eq!(drain(&mut generator).expect("generates").len(), expected);
        assert!(generator.next_request().expect("ended").is_none());
    }
}

#[test]
fn the_end_of_virtual_time_is_an_error_unless_bounded() {
    let slow = || ArrivalSpec::Constant { rate: Rate(1e-10) };
    let unbounded = GenerateSpec { requests: Some(3), ..spec(slow()) };
    let mut generator = unbounded.generator(1).expect("opens");
    assert!(generator.next_request().is_ok());
    assert!(matches!(generator.next_request(), Err(GenerateError::TooLate { request: 2 })));
    assert_eq!(seconds(slow(), 1_000_000_000, 1).len(), 0);
}

#[test]
fn all_problems_of_a_specification() {
    let paths = |spec: &GenerateSpec| -> Vec<String> {
        assert!(matches!(spec.open(1), Err(GenerateError::Spec(_))));
        spec.problems().into_iter().map(|(path, _)| path).collect()
    };
    let rates = vec![Rate(1.0), Rate(-1.0), Rate(0.0), Rate(f64::NAN)];
    let arrivals = ArrivalSpec::Profile { rates, window: Duration(Span(0)), shape: 0.0, gaps: GapFamily::Gamma };
    let lengths =
        LengthSpec::Quantiles { prompt: vec![(0.0, 5), (0.5, 4), (0.4, 9), (1.0, 0)], output: vec![(0.5, 1)] };
    let expected = [
        "arrivals.profile.rates.1",
        "arrivals.profile.rates.3",
        "arrivals.profile.window",
        "arrivals.profile.shape",
        "lengths.quantiles.prompt.1",
        "lengths.quantiles.prompt.2",
        "lengths.quantiles.prompt.3",
        "lengths.quantiles.prompt.3",
        "lengths.quantiles.output",
        "requests",
    ];
    assert_eq!(
        paths(&GenerateSpec {
            arrivals,
            lengths,
            requests: None,
            duration: None,
            sessions: None,
            repeats: None,
            transcripts: None
        }),
        expected
    );
    let zero = GenerateSpec {
        lengths: LengthSpec::Fixed { prompt: 0, output: 1 },
        requests: Some(0),
        duration: Some(Duration(Span(0))),
        ..spec(ArrivalSpec::Poisson { rate: Rate(0.0) })
    };
    assert_eq!(paths(&zero), ["arrivals.poisson.rate", "lengths.fixed.prompt", "requests", "duration"]);
}

#[test]
fn sessions_grow_turn_by_turn() {
    let spec = GenerateSpec {
        lengths: LengthSpec::Fixed { prompt: 100, output: 40 },
        sessions: Some(SessionSpec { shared_prefix_tokens: 64, ..SessionSpec::default() }),
        requests: Some(30_000),
        ..spec(ArrivalSpec::Poisson { rate: Rate(1.0) })
    };
    assert_eq!(spec.problems(), []);
    let arrivals = drain(&mut *spec.open(5).expect("opens")).expect("generates");
    assert!(arrivals.len() == 30_000 && arrivals.is_sorted_by_key(|a| a.at));
    assert!(drain(&mut *spec.open(5).expect("opens")).expect("generates") == arrivals);
    // Sessions by the first block that is not shared by all.
    let mut sessions: std::collections::BTreeMap<u64, Vec<&Arrival>> = std::collections::BTreeMap::new();
    for arrival in &arrivals {
        let ids = &arrival.content.as_ref().expect("content").ids;
        assert_eq!((&ids[..4], ids.len()), (&[0, 1, 2, 3][..], (arrival.prompt_tokens + 40) as usize / 16));
        sessions.entry(ids[4]).or_default().push(arrival);
    }
    for turns in sessions.values() {
        assert_eq!(turns[0].prompt_tokens, 100);
        for pair in turns.windows(2) {
            assert!(pair[1].prompt_tokens > pair[0].prompt_tokens + 40 && pair[1].prompt_tokens <= 8192);
            // Answer first: 1.1 s and 40 times 10.9 ms.
            assert!((pair[1].at - pair[0].at).0 >= 1_536_000_000);
            let [before, after] = [0, 1].map(|at| &pair[at].content.as_ref().expect("content").ids);
            assert_eq!(after[..before.len()], before[..]);
        }
    }
    // Of the sessions that started early enough to end: the measured mean of turns and think time.
    let early: Vec<_> = sessions.values().filter(|turns| turns[0].at.0 < 2_000 * SECOND).collect();
    let mean = early.iter().map(|turns| turns.len()).sum::<usize>() as f64 / early.len() as f64;
    assert!((mean - 2.92).abs() < 0.3, "{mean}");
    let mut thinks: Vec<u64> =
        sessions.values().flat_map(|turns| turns.windows(2)).map(|w| (w[1].at - w[0].at).0 / SECOND).collect();
    thinks.sort_unstable();
    assert!(thinks[thinks.len() / 2].abs_diff(115) < 15, "{}", thinks[thinks.len() / 2]);
    let wrong = SessionSpec {
        turns: LengthDist::Fixed(0),
        think_sigma: -1.0,
        max_prompt_tokens: 0,
        block_tokens: 0,
        ..SessionSpec::default()
    };
    let paths: Vec<String> =
        GenerateSpec { sessions: Some(wrong), ..spec }.problems().into_iter().map(|(path, _)| path).collect();
    assert_eq!(
        paths,
        ["turns.fixed", "think_sigma", "max_prompt_tokens", "block_tokens"].map(|name| format!("sessions.{name}"))
    );
}
