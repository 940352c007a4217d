use super::*;

fn trial(metric: &'static str, measured: &[f64], simulated: f64) -> Trial {
    let bar = FIGURES.iter().find(|(name, _)| *name == metric).and_then(|(_, bar)| *bar);
    Trial { metric, bar, measured: measured.to_vec(), simulated }
}

fn fidelity(trials: Vec<Trial>) -> Fidelity {
    let point = FidelityPoint {
        name: "0.6 of capacity".into(),
        plan: "abc".into(),
        seed: 7,
        void: Vec::new(),
        again: 0,
        runs: vec!["def".into()],
        replayed: [100, 20, 0],
        steps: vec![StepErrors::new("decode", &[(1.0, 1.1)])],
        trials,
        power: Power::default(),
    };
    Fidelity { title: "a <b>".into(), points: vec![point], repeats: 5, ..Fidelity::default() }
}

const STEADY: [f64; 5] = [100.0, 100.2, 99.8, 100.1, 99.9];

#[test]
fn what_the_repeats_leave_open_counts() {
    let noisy = [100.0, 103.0, 97.0, 101.5, 98.5];
    assert_eq!(trial("output_throughput", &STEADY, 101.9).finding(), Some(Finding::Passed));
    assert_eq!(trial("output_throughput", &STEADY, 102.1).finding(), Some(Finding::Failed));
    assert_eq!(trial("output_throughput", &noisy, 100.0).finding(), Some(Finding::Inconclusive), "2.9 % are open");
    assert_eq!(trial("tpot_mean", &noisy, 104.9).finding(), Some(Finding::Passed), "5 % may be open there");
    assert_eq!(trial("tpot_mean", &STEADY[..4], 100.0).finding(), Some(Finding::Inconclusive), "four repeats");
    let far = [90.0, 110.0, 95.0, 105.0, 100.0];
    assert_eq!(trial("tpot_mean", &far, 100.0).finding(), Some(Finding::Inconclusive), "9.8 % are open");
    assert_eq!(trial("tpot_p99", &far, 100.0).finding(), Some(Finding::Passed), "of a tail 10 % may be");
    assert_eq!(
        trial("tpot_mean", &far.repeat(5), 100.0).finding(),
        Some(Finding::Passed),
        "25 repeats leave less open"
    );
    assert_eq!(trial("ttft_p90", &STEADY, 900.0).finding(), None, "told, not judged");
    let nothing = trial("preemptions", &[0.0; 5], 0.0);
    assert_eq!((nothing.error(), nothing.spread(), nothing.uncertainty()), (0.0, 0.0, 0.0));
}

#[test]
fn uncertainty_by_hand() {
    // Deviation 0.15811 of five; t(0.975, 4) = 2.7764.
    let steady = trial("tpot_mean", &STEADY, 100.0);
    assert!((steady.spread() - 0.001_581_1).abs() < 1e-6, "{}", steady.spread());
    let errors_deviation = 0.001_581_1;
    assert!(
        (steady.uncertainty() - 2.7764 * errors_deviation / 5.0_f64.sqrt()).abs() < 1e-5,
        "{}",
        steady.uncertainty()
    );
    assert!(trial("tpot_mean", &[1.0], 1.0).uncertainty().is_infinite());
}

#[test]
fn the_worst_finding_counts_and_void_runs_say_nothing() {
    let good = trial("tpot_mean", &STEADY, 100.0);
    let bad = trial("e2el_mean", &STEADY, 120.0);
    assert_eq!(fidelity(vec![good.clone()]).finding(), Finding::Passed);
    let both = fidelity(vec![good.clone(), bad]);
    assert_eq!((both.finding(), both.counts()), (Finding::Failed, [1, 0, 1]));
    let mut void = both;
    void.points[0].void.push("late".into());
    assert_eq!((void.finding(), void.counts()), (Finding::Inconclusive, [0, 2, 0]));
    let mut differs = fidelity(vec![good]);
    differs.points[0].replayed[2] = 1;
    assert_eq!(differs.finding(), Finding::Failed);
    assert_eq!(fidelity(Vec::new()).finding(), Finding::Inconclusive, "nothing judged is nothing shown");
}

#[test]
fn another_machine_shows_nothing() {
    let mut same = fidelity(vec![trial("tpot_mean", &STEADY, 100.0), trial("e2el_mean", &STEADY, 120.0)]);
    same.slower = vec![0.01, -0.08, 0.4];
    assert_eq!(same.finding(), Finding::Failed, "one look fell into a spell");
    assert!(fidelity_text(&same).contains("took +1.0 % time before the runs (-8.0 % to +40.0 %), as when"));
    same.slower = vec![0.3, 0.0, 0.4];
    assert_eq!((same.finding(), same.counts()), (Finding::Inconclusive, [0, 2, 0]));
    assert!(fidelity_text(&same).contains("it has CHANGED"));
}

#[test]
fn all_forms_tell_the_same() {
    let fidelity = fidelity(vec![trial("tpot_mean", &[0.0100, 0.01001, 0.00999, 0.0100, 0.0100], 0.0103)]);
    let page = fidelity_html(&fidelity).expect("renders");
    assert!(page.contains("a &lt;b&gt;") || page.contains("a &#60;b&#62;"), "titles are escaped");
    for text in [page, fidelity_text(&fidelity), fidelity_json(&fidelity)] {
        assert!(text.contains("0.6 of capacity") && text.contains("passed"), "{text}");
    }
    let text = fidelity_text(&fidelity);
    assert!(text.contains("+3.0 %") && text.contains("10.3 ms"), "{text}");
}

#[test]
fn a_trial_takes_its_figures_from_summaries_and_judges_no_tail_of_a_few_requests() {
    let many = crate::sample::report().summary;
    let mut few = many.clone();
    few.outcomes[Outcome::Finished as usize] = TAIL_MIN - 1;
    let of = |metric: &str, runs: &[Summary]| {
        let figure = FIGURES.into_iter().find(|(name, _)| *name == metric).expect("a figure");
        Trial::of(figure, runs, &many)
    };
    let mean = of("tpot_mean", &[few.clone(), many.clone()]).expect("a mean");
    assert_eq!(mean.measured, [mean.simulated; 2]);
    assert!(mean.bar.is_some());
    assert!(of("tpot_p99", std::slice::from_ref(&many)).expect("a tail").bar.is_some());
    assert!(of("tpot_p99", &[many.clone(), few]).expect("a tail").bar.is_none(), "it is printed, not judged");
    assert_eq!(Trial::of(("no_such_metric", None), std::slice::from_ref(&many), &many), None);
}
