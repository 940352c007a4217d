use super::*;
use crate::serving::request::Phase;

fn asked(id: u64, phase: Phase, generated: u32, limit: u32, truth: u32) -> RequestView {
    RequestView {
        seat: 0,
        id,
        phase,
        prompt_tokens: 10,
        generated,
        limit,
        ignores_eos: false,
        computed: 10 + generated,
        target: 10,
        priority: 0,
        arrival_key: 0,
        preemptions: 0,
        on_host: 0,
        class: crate::workload::arrival::ClassId(0),
        deadline: crate::time::Time::MAX,
        truth: crate::workload::Truth::seal(truth),
    }
}

fn running(id: u64, generated: u32) -> RequestView {
    asked(id, Phase::Decode, generated, 1000, 999)
}

fn history(window: u32, initial: u32, finished: &[u32]) -> Box<dyn LengthModel> {
    let mut model = LengthSpec::History(HistorySpec { window, initial }).build(7, 0);
    for &length in finished {
        model.finished(length);
    }
    model
}

/// Shares of 40,000 draws that fall up to each of the given lengths, in order, and above the last.
fn shares(model: &dyn LengthModel, request: &RequestView, up_to: &[u32]) -> Vec<f64> {
    let mut counts = vec![0_u32; up_to.len() + 1];
    for attempt in 0..10_000 {
        for list in 0..4 {
            let length = model.predict(request, Draw { attempt, list });
            counts[up_to.partition_point(|&bound| bound < length)] += 1;
        }
    }
    counts.into_iter().map(|n| f64::from(n) / 40_000.0).collect()
}

fn close(got: &[f64], wanted: &[f64]) {
    let near = got.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.01);
    assert!(near && got.len() == wanted.len(), "{got:?}, not {wanted:?}");
}

#[test]
fn every_gap_above_what_is_generated_is_as_likely() {
    let model = history(4, 50, &[100, 200, 400, 500]);
    // The gaps (100, 200], (200, 400], (400, 500], (500, 1000] of a request that has generated 100.
    close(&shares(&*model, &running(1, 100), &[100, 200, 400, 500]), &[0.0, 0.25, 0.25, 0.25, 0.25]);
    // Linear inside a gap; (100, 200] begins at the 150 generated.
    close(&shares(&*model, &running(1, 150), &[175, 200, 300, 400]), &[0.125, 0.125, 0.125, 0.125, 0.5]);
}

#[test]
fn beyond_all_history_anything_up_to_the_limit_is_as_likely() {
    let model = history(4, 50, &[100, 200, 400, 500]);
    close(&shares(&*model, &running(1, 600), &[600, 700, 800, 900]), &[0.0, 0.25, 0.25, 0.25, 0.25]);
}

#[test]
fn history_above_the_limit_is_cut_to_it() {
    let model = history(4, 50, &[100, 200, 400, 2000]);
    // Gaps (300, 400], (400, 2000], and one without width at 2000.
    close(&shares(&*model, &running(1, 300), &[400, 999]), &[1.0 / 3.0, 0.125, 1.0 - 1.0 / 3.0 - 0.125]);
}

#[test]
fn a_waiting_request_gets_a_remembered_length() {
    let model = history(4, 50, &[100, 200, 400, 500]);
    let waiting = asked(1, Phase::Waiting, 0, 450, 1);
    let bounds = [99, 100, 199, 200, 399, 400, 449, 450];
    close(&shares(&*model, &waiting, &bounds), &[0.0, 0.25, 0.0, 0.25, 0.0, 0.25, 0.0, 0.25, 0.0]);
    // Preempted with 300 tokens: at least one more.
    let preempted = asked(1, Phase::Waiting, 300, 450, 301);
    close(&shares(&*model, &preempted, &[300, 301, 399, 400]), &[0.0, 0.5, 0.0, 0.25, 0.25]);
}

#[test]
fn half_the_window_is_filled_at_first_and_the_oldest_leave() {
    let waiting = asked(1, Phase::Waiting, 0, 1000, 1);
    close(&shares(&*history(4, 50, &[]), &waiting, &[49, 50]), &[0.0, 1.0, 0.0]);
    close(&shares(&*history(4, 50, &[60]), &waiting, &[50, 60]), &[2.0 / 3.0, 1.0 / 3.0, 0.0]);
    close(&shares(&*history(4, 50, &[60, 70, 80]), &waiting, &[50, 60, 70, 80]), &[0.25, 0.25, 0.25, 0.25, 0.0]);
}

#[test]
fn draws_depend_on_their_key_alone() {
    let model = history(4, 50, &[100, 200, 400, 500]);
    let at = |id, attempt, list| model.predict(&running(id, 10), Draw { attempt, list });
    let forth: Vec<u32> = (0..100).map(|i| at(i % 5, i / 5, 0)).collect();
    let back: Vec<u32> = (0..100).rev().map(|i| at(i % 5, i / 5, 0)).collect();
    assert!(forth.iter().eq(back.iter().rev()));
    let differ = |other: &dyn Fn(u64) -> u32| (0..100).filter(|&i| at(3, i, 0) != other(i)).count();
    assert!(differ(&|i| at(4, i, 0)) > 90, "request");
    assert!(differ(&|i| at(3, i + 1, 0)) > 90, "attempt");
    assert!(differ(&|i| at(3, i, 1)) > 90, "list");
    for (seed, replica) in [(8, 0), (7, 1)] {
        let mut other = LengthSpec::History(HistorySpec { window: 4, initial: 50 }).build(seed, replica);
        for length in [100, 200, 400, 500] {
            other.finished(length);
        }
        assert!(differ(&|i| other.predict(&running(3, 10), Draw { attempt: i, list: 0 })) > 90, "{seed}, {replica}");
    }
}

#[test]
fn a_quantile_is_conditional_too() {
    let mut model = LengthSpec::Quantile(QuantileSpec { quantile: 0.5, window: 4, initial: 50 }).build(0, 0);
    for length in [100, 200, 400, 500] {
        model.finished(length);
    }
    let predict = |request: &RequestView| model.predict(request, Draw::default());
    assert_eq!(predict(&asked(1, Phase::Waiting, 0, 1000, 1)), 400);
    // Knots 100, 200, 400, 500, 1000: half of four gaps.
    assert_eq!(predict(&running(1, 100)), 400);
    // Knots 300, 400, 500, 1000: one and a half gaps.
    assert_eq!(predict(&running(1, 300)), 450);
    assert!(!model.is_random());
}

#[test]
fn oracles() {
    let request = |id| asked(id, Phase::Decode, 40, 1000, 200);
    let exact = LengthSpec::Oracle.build(0, 0);
    assert_eq!(exact.predict(&request(1), Draw::default()), 200);
    assert_eq!(LengthSpec::Max.build(0, 0).predict(&request(1), Draw::default()), 1000);
    let noisy = LengthSpec::NoisyOracle(NoisyOracleSpec { sigma: 0.5 }).build(7, 0);
    let at = |id, attempt| noisy.predict(&request(id), Draw { attempt, list: 1 });
    assert!((0..1000).all(|id| at(id, 0) == at(id, 9) && (41..=1000).contains(&at(id, 0))));
    // One standard deviation: exp(±0.5) · 200.
    let below = |bound| f64::from((0..10_000).map(|id| u32::from(at(id, 0) <= bound)).sum::<u32>()) / 1e4;
    close(&[below(121), below(200), below(330)], &[0.159, 0.5, 0.841]);
    let right = LengthSpec::NoisyOracle(NoisyOracleSpec { sigma: 0.0 }).build(7, 0);
    assert_eq!(right.predict(&request(1), Draw::default()), 200);
    assert!(LengthSpec::Oracle.is_oracle() && LengthSpec::NoisyOracle(NoisyOracleSpec::default()).is_oracle());
    assert!(!LengthSpec::default().is_oracle() && !LengthSpec::Max.is_oracle());
}

#[test]
fn the_truth_does_not_show() {
    assert!(!format!("{:?}", running(1, 5)).contains("999"));
}
