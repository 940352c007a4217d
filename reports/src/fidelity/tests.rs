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
        replayed: [100, 20, 0],
        steps: vec![StepErrors::new("decode", &[(1.0, 1.1)])],
        trials,
    };
    Fidelity { title: "a <b>".into(), points: vec![point], repeats: 3, ..Fidelity::default() }
}

#[test]
fn figures_are_judged_by_error_and_spread() {
    assert_eq!(trial("output_throughput", &[100.0, 101.0, 99.0], 101.9).finding(), Some(Finding::Passed));
    assert_eq!(trial("output_throughput", &[100.0, 101.0, 99.0], 102.1).finding(), Some(Finding::Failed));
    assert_eq!(trial("output_throughput", &[100.0, 106.0, 99.0], 101.0).finding(), Some(Finding::Inconclusive));
    assert_eq!(trial("output_throughput", &[100.0], 100.0).finding(), Some(Finding::Inconclusive), "no repeat");
    assert_eq!(trial("itl_p99", &[100.0, 109.0], 110.0).finding(), Some(Finding::Passed), "tails may spread by 10 %");
    assert_eq!(trial("ttft_p90", &[1.0, 1.0], 9.0).finding(), None, "told, not judged");
    let nothing = trial("preemptions", &[0.0, 0.0], 0.0);
    assert_eq!((nothing.error(), nothing.spread()), (0.0, 0.0));
}

#[test]
fn the_worst_finding_counts_and_void_runs_say_nothing() {
    let good = trial("tpot_mean", &[1.0, 1.01], 1.0);
    let bad = trial("e2el_mean", &[1.0, 1.01], 1.2);
    assert_eq!(fidelity(vec![good.clone()]).finding(), Finding::Passed);
    let both = fidelity(vec![good.clone(), bad]);
    assert_eq!((both.finding(), both.counts()), (Finding::Failed, [1, 0, 1]));
    let mut void = fidelity(vec![good.clone()]);
    void.points[0].void.push("late".into());
    assert_eq!(void.finding(), Finding::Inconclusive);
    let mut differs = fidelity(vec![good]);
    differs.points[0].replayed[2] = 1;
    assert_eq!(differs.finding(), Finding::Failed);
    assert_eq!(fidelity(Vec::new()).finding(), Finding::Inconclusive, "nothing judged is nothing shown");
}

#[test]
fn another_machine_shows_nothing() {
    let mut same = fidelity(vec![trial("tpot_mean", &[1.0, 1.01], 1.0)]);
    same.slower = vec![0.01, -0.04];
    assert_eq!(same.finding(), Finding::Passed);
    same.slower.push(0.06);
    assert_eq!(same.finding(), Finding::Inconclusive);
    assert!(fidelity_text(&same).contains("+1.0 %, -4.0 %, +6.0 % time; it has CHANGED"));
}

#[test]
fn all_forms_tell_the_same() {
    let fidelity = fidelity(vec![trial("tpot_mean", &[0.010, 0.0101], 0.0103)]);
    let page = fidelity_html(&fidelity).expect("renders");
    assert!(page.contains("a &lt;b&gt;") || page.contains("a &#60;b&#62;"), "titles are escaped");
    for text in [page, fidelity_text(&fidelity), fidelity_json(&fidelity)] {
        assert!(text.contains("0.6 of capacity") && text.contains("passed"), "{text}");
    }
    let text = fidelity_text(&fidelity);
    assert!(text.contains("+2.5 %") && text.contains("10.3 ms"), "{text}");
}
