//! Generators fitted to traces: known parameters are recovered, real traces resembled.

use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Rate};
use overbook_traces::{
    ArrivalSpec, By, ClassLengths, Compared, FitError, GapFamily, GenerateSpec, LengthDist, LengthFamily, LengthSpec,
    SessionSpec, TraceFit, TraceFrame, TraceSpec, compare,
};

use overbook_test_groups::in_clone;

use crate::file;

const SECOND: u64 = 1_000_000_000;
const HOUR: Span = Span(3_600 * SECOND);

fn frame(spec: &GenerateSpec, seed: u64) -> TraceFrame {
    TraceFrame::read(&mut *spec.open(seed).expect("opens")).expect("generates")
}

fn classes() -> LengthSpec {
    let log_normal = |median, sigma| LengthDist::LogNormal { median, sigma, max: 30_000 };
    LengthSpec::Classes(vec![
        ClassLengths {
            class: "chat".into(),
            share: 3.0,
            prompt: log_normal(400, 1.0),
            output: log_normal(150, 0.8),
            priority: 0,
        },
        ClassLengths {
            class: "api/batch".into(),
            share: 1.0,
            prompt: LengthDist::Zipf { exponent: 1.1, max: 1023 },
            output: LengthDist::Fixed(7),
            priority: 0,
        },
    ])
}

fn generated(arrivals: ArrivalSpec, duration: Span) -> GenerateSpec {
    GenerateSpec {
        arrivals,
        lengths: classes(),
        sessions: None,
        repeats: None,
        transcripts: None,
        requests: None,
        duration: Some(Duration(duration)),
    }
}

fn row<'a>(rows: &'a [Compared], name: &str) -> &'a Compared {
    rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name}"))
}

/// Relative difference of the fit from the trace.
fn off(rows: &[Compared], name: &str) -> f64 {
    let row = row(rows, name);
    (row.fit / row.trace - 1.0).abs()
}

#[test]
fn a_profile_with_bursty_windows_is_recovered() {
    let rates = [2.0, 8.0, 0.0, 4.0, 16.0, 1.0];
    for (gaps, shape) in [(GapFamily::Gamma, 0.3), (GapFamily::Gamma, 1.0), (GapFamily::Weibull, 0.45)] {
        let window = Duration(HOUR);
        let arrivals = ArrivalSpec::Profile { rates: rates.map(Rate).to_vec(), window, shape, gaps };
        let spec = generated(arrivals, Span(6 * HOUR.0));
        let fit = TraceFit::of(&frame(&spec, 5), HOUR).expect("fits");
        let found = fit.arrivals.gaps.as_ref().expect("enough gaps");
        let ArrivalSpec::Profile { rates: fitted, gaps: family, shape: fitted_shape, .. } =
            fit.spec(None, LengthFamily::Quantiles).arrivals
        else {
            panic!("{fit:?}")
        };
        // Poisson gaps are of both families.
        assert!(family == gaps || (shape - 1.0).abs() < 0.1, "{family:?} {found:?}");
        assert!((fitted_shape / shape - 1.0).abs() < 0.03, "{shape}: {fitted_shape}");
        assert_eq!((fitted.len(), fit.arrivals.left_out), (rates.len(), 0));
        for (fitted, rate) in fitted.iter().zip(rates) {
            // Five standard deviations of the count, of gaps with at most this CV; and windows begin with the first request.
            let cv = if gaps == GapFamily::Weibull { 2.6 } else { 1.0 / shape.sqrt() };
            let tolerance = 5.0 * cv * (rate * 3_600.0).sqrt() / 3_600.0 + 0.02;
            assert!((fitted.0 - rate).abs() < tolerance, "{rate}: {}", fitted.0);
        }
        assert!(found.zero_share < 0.005 && found.windows == 5, "{found:?}");
    }
}

#[test]
fn fitting_what_a_fit_generates_finds_the_same_again() {
    let spec = generated(ArrivalSpec::Gamma { rate: Rate(5.0), shape: 0.5 }, Span(4 * HOUR.0));
    let trace = frame(&spec, 1);
    let first = TraceFit::of(&trace, Span(10 * HOUR.0)).expect("fits");
    for family in [LengthFamily::Quantiles, LengthFamily::LogNormal, LengthFamily::Zipf, LengthFamily::ParetoMixture] {
        let fitted = first.spec(None, family);
        assert_eq!(fitted.problems(), []);
        let ArrivalSpec::Gamma { rate, shape } = fitted.arrivals else { panic!("{fitted:?}") };
        assert!((rate.0 / 5.0 - 1.0).abs() < 0.03 && (shape / 0.5 - 1.0).abs() < 0.03, "{fitted:?}");
        let LengthSpec::Classes(ref classes) = fitted.lengths else { panic!("{fitted:?}") };
        assert_eq!(classes.iter().map(|class| class.class.as_str()).collect::<Vec<_>>(), ["chat", "api/batch"]);
        assert!((classes[0].share - 0.75).abs() < 0.01 && classes[1].output == LengthDist::Fixed(7), "{classes:?}");
        let again = TraceFit::of(&frame(&fitted, 2), Span(10 * HOUR.0)).expect("fits").spec(None, family);
        let ArrivalSpec::Gamma { shape: shape_again, .. } = again.arrivals else { panic!("{again:?}") };
        assert!((shape_again / shape - 1.0).abs() < 0.03, "{shape} {shape_again}");
        if family == LengthFamily::LogNormal {
            let LengthDist::LogNormal { median, sigma, .. } = classes[0].prompt else { panic!("{classes:?}") };
            assert!(median.abs_diff(400) < 10 && (sigma - 1.0).abs() < 0.02, "{classes:?}");
        }
        if family == LengthFamily::Zipf {
            let LengthDist::Zipf { exponent, .. } = classes[1].prompt else { panic!("{classes:?}") };
            assert!((exponent - 1.1).abs() < 0.02, "{classes:?}");
        }
    }
    let rows = compare(trace.stats(), &first.spec(None, LengthFamily::Quantiles), 3).expect("compares");
    for name in ["mean rate [1/s]", "gap CV", "prompt tokens mean", "output tokens p90", "index of dispersion 1 s"] {
        assert!(off(&rows, name) < 0.05, "{name}: {rows:?}");
    }
}

#[test]
fn the_azure_hour_is_resembled() {
    let path = in_clone("azure/AzureLLMInferenceTrace_conv.csv.zst");
    let frame = TraceFrame::read(&mut *TraceSpec::new(path).open().expect("opens")).expect("reads");
    let fit = TraceFit::of(&frame, Span(60 * SECOND)).expect("fits");
    let gaps = fit.arrivals.gaps.as_ref().expect("enough gaps");
    // As computed by others over 1-minute windows: CV 1.02, shape 0.91 (0.77 to 1.02).
    assert!((gaps.cv[1] - 1.02).abs() < 0.03 && (gaps.gamma_shape[1] - 0.91).abs() < 0.03, "{gaps:?}");
    assert!((fit.classes[0].correlation).abs() < 0.5, "{}", fit.classes[0].correlation);
    let rows = compare(frame.stats(), &fit.spec(None, LengthFamily::Quantiles), 0).expect("compares");
    for name in [
        "mean rate [1/s]",
        "gap CV",
        "prompt tokens mean",
        "prompt tokens p50",
        "prompt tokens p99",
        "output tokens mean",
        "output tokens p50",
        "output tokens p90",
    ] {
        assert!(off(&rows, name) < 0.06, "{name}: {rows:?}");
    }
    assert!(off(&rows, "index of dispersion 1 min") < 0.5, "{rows:?}");
}

#[test]
fn the_head_of_burstgpt_is_resembled() {
    let path = in_clone("burstgpt/burstgpt_1_first400.csv");
    let frame = TraceFrame::read(&mut *TraceSpec::new(path).open().expect("opens")).expect("reads");
    let fit = TraceFit::of(&frame, HOUR).expect("fits");
    let gaps = fit.arrivals.gaps.as_ref().expect("enough gaps");
    // As computed by others over 1-hour windows: CV 1.01, shape 1.16 (0.82 to 1.37), 4 windows; those began at midnight, these
    // with the first request.
    assert_eq!(gaps.windows, 4);
    assert!(
        gaps.gamma_shape[0] > 0.8 && gaps.gamma_shape[2] < 1.45 && (gaps.gamma.shape - 1.1).abs() < 0.2,
        "{gaps:?}"
    );
    let names: Vec<_> = fit.classes.iter().map(|class| class.class.as_str()).collect();
    assert_eq!(names, ["ChatGPT/conversation", "GPT-4/conversation", "GPT-4/api"]);
    let groups = frame.groups(By::Model).expect("groups");
    assert_eq!(
        groups.rows.iter().map(|(name, figures)| (name.as_str(), figures[0])).collect::<Vec<_>>(),
        [("ChatGPT", 306.0), ("GPT-4", 77.0)]
    );
}

#[test]
fn groups_count_and_measure() {
    let text = "arrived_at,num_prefill_tokens,num_decode_tokens,class\n\
                0,10,1,A/chat\n1,20,2,B/chat\n3600,30,3,A/api\n3601,40,4,A/chat\n7200,50,5,A/chat\n";
    let file = file(text);
    let mut workload = TraceSpec::new(file.path()).open().expect("opens");
    let frame = TraceFrame::read(&mut *workload).expect("reads");
    let of = |by| {
        let groups = frame.groups(by).expect("groups");
        groups.rows.into_iter().map(|(name, figures)| (name, figures[0], figures[2], figures[3])).collect::<Vec<_>>()
    };
    let row = |name: &str, n: f64, mean: f64, p50: f64| (name.to_owned(), n, mean, p50);
    let mean = 100.0 / 3.0;
    assert_eq!(
        of(By::Class),
        [row("A/chat", 3.0, mean, 40.0), row("B/chat", 1.0, 20.0, 20.0), row("A/api", 1.0, 30.0, 30.0)]
    );
    assert_eq!(of(By::Model), [row("A", 4.0, 32.5, 30.0), row("B", 1.0, 20.0, 20.0)]);
    assert_eq!(of(By::LogType), [row("chat", 4.0, 30.0, 20.0), row("api", 1.0, 30.0, 30.0)]);
    let late = By::HourOfDay(overbook_sim::time::Time(23 * HOUR.0 + 86_400 * SECOND));
    assert_eq!(of(late), [row("00:00", 2.0, 35.0, 30.0), row("01:00", 1.0, 50.0, 50.0), row("23:00", 2.0, 15.0, 10.0)]);
    let header = frame.groups(By::Class).expect("groups").header;
    assert_eq!(header[..4], ["requests", "share %", "prompt mean", "prompt p50"]);
}

#[test]
fn what_cannot_be_fitted_says_so() {
    let spec = GenerateSpec { requests: Some(1), ..generated(ArrivalSpec::Poisson { rate: Rate(5.0) }, HOUR) };
    assert!(matches!(TraceFit::of(&frame(&spec, 1), HOUR), Err(FitError::TooFew { requests: 1, .. })));
    let spec = generated(ArrivalSpec::Poisson { rate: Rate(5.0) }, HOUR);
    let error = TraceFit::of(&frame(&spec, 1), Span(SECOND / 100)).expect_err("too many windows").to_string();
    assert!(error.contains("choose a longer window"), "{error}");
    // Twenty requests are no shape.
    let few =
        GenerateSpec { requests: Some(20), ..generated(ArrivalSpec::Gamma { rate: Rate(5.0), shape: 0.3 }, HOUR) };
    let fit = TraceFit::of(&frame(&few, 1), HOUR).expect("fits");
    assert!(fit.arrivals.gaps.is_none());
    assert!(matches!(fit.spec(None, LengthFamily::Quantiles).arrivals, ArrivalSpec::Poisson { .. }));
}

#[test]
fn sessions_are_recovered() {
    let sessions = SessionSpec {
        turns: LengthDist::Quantiles(vec![(0.0, 1), (0.5, 1), (0.5, 4), (1.0, 4)]),
        follow_up: LengthDist::Quantiles(vec![(0.0, 10), (1.0, 90)]),
        think_median: Duration(Span(40 * SECOND)),
        think_sigma: 0.8,
        max_prompt_tokens: 20_000,
        ..SessionSpec::default()
    };
    let lengths = LengthSpec::Classes(vec![ClassLengths {
        class: "chat".into(),
        share: 1.0,
        prompt: LengthDist::LogNormal { median: 400, sigma: 0.5, max: 4000 },
        output: LengthDist::LogNormal { median: 150, sigma: 0.5, max: 2000 },
        priority: 0,
    }]);
    let arrivals = ArrivalSpec::Poisson { rate: Rate(2.0) };
    let duration = Some(Duration(Span(4 * HOUR.0)));
    let spec = GenerateSpec {
        arrivals,
        lengths,
        sessions: Some(sessions),
        repeats: None,
        transcripts: None,
        requests: None,
        duration,
    };
    let frame = frame(&spec, 3);
    let fit = TraceFit::of(&frame, HOUR).expect("fits");
    let found = fit.sessions.as_ref().expect("sessions");
    // Those of the end are cut off.
    assert!((found.turns_mean / 2.5 - 1.0).abs() < 0.03, "{found:?}");
    assert!(!found.recorded && found.early < 0.01, "{found:?}");
    let think = found.spec.think_median.0.as_secs_f64();
    assert!((think / 40.0 - 1.0).abs() < 0.04 && (found.spec.think_sigma - 0.8).abs() < 0.03, "{found:?}");
    let LengthDist::Quantiles(points) = &found.spec.follow_up else { panic!("{found:?}") };
    let at_half = points.iter().find(|(p, _)| *p >= 0.5).expect("a median").1;
    assert!(at_half.abs_diff(50) <= 2, "{points:?}");
    // The rate is that of starts, and a fit makes such traffic again.
    let rate = fit.arrivals.rates.iter().sum::<f64>() / fit.arrivals.rates.len() as f64;
    assert!((rate / 2.0 - 1.0).abs() < 0.03, "{rate}");
    let rows = compare(frame.stats(), &fit.spec(None, LengthFamily::Quantiles), 9).expect("generates");
    for (name, limit) in [("mean rate [1/s]", 0.05), ("prompt tokens mean", 0.06), ("output tokens mean", 0.03)] {
        assert!(off(&rows, name) < limit, "{:?}", row(&rows, name));
    }
}

#[test]
fn the_sessions_of_burstgpt_are_fitted() {
    let path = in_clone("burstgpt/burstgpt_3_first400.csv");
    let frame = TraceFrame::read(&mut *TraceSpec::new(path).open().expect("opens")).expect("reads");
    let fit = TraceFit::of(&frame, HOUR).expect("fits");
    let found = fit.sessions.expect("sessions");
    // 135 sessions, and 5 requests without one.
    assert_eq!((found.sessions, found.follow_ups), (140, 259));
    assert!((found.turns_mean - 399.0 / 140.0).abs() < 1e-9 && found.recorded, "{found:?}");
    assert_eq!(fit.classes.iter().map(|class| class.prompt.0.total()).sum::<u64>(), 140, "first prompts");
    // Both think times and answers are recorded in whole seconds, the median is that of the statistics.
    let think = found.spec.think_median.0.as_secs_f64();
    assert!((80.0..160.0).contains(&think), "{found:?}");
}
