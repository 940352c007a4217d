//! The published policies, on readings made by hand.

use super::*;
use crate::units::Duration;

const S: u64 = 1_000_000_000;
const A100: ClockRange = ClockRange { max: 1410, min: 210 };
const ROW: Delays =
    Delays { period: Span(2 * S), telemetry: Span(2 * S), command: Span(40 * S), brake: Span(5 * S), warm: Time::ZERO };

/// The clocks after each reading, one every two seconds, each two seconds late.
fn hear(policy: &mut dyn PowerPolicy, loads: &[f64]) -> Vec<(u32, u32)> {
    let at = |n: usize| Time(2 * S * (n as u64 + 1));
    let reading = |(n, &load): (usize, &f64)| (RowReading { at: at(n), load: Share::from_f64(load) }, at(n + 1));
    let clocks = loads.iter().enumerate().map(reading).map(|(reading, now)| policy.hear(reading, now));
    clocks.map(|clocks| (clocks.low, clocks.high)).collect()
}

fn told(policy: &PowerPolicySpec) -> Vec<String> {
    let mut found = Vec::new();
    policy.check(&mut Check::new("power.policy", &mut found), A100);
    found.into_iter().map(|(key, message)| format!("{key} {message}")).collect()
}

#[test]
fn polca_climbs_and_comes_down_as_published() {
    let mut policy = PowerPolicySpec::Polca(PolcaSpec::default()).build(A100, ROW);
    let (full, base, low) = ((1410, 1410), (1275, 1410), (1110, 1410));
    // At a threshold nothing happens, above it at once.
    assert_eq!(hear(&mut *policy, &[0.80, 0.801, 0.88]), [full, base, base]);
    // Down 5 points below 80 %, and not at them.
    assert_eq!(hear(&mut *policy, &[0.751, 0.75, 0.749]), [base, base, full]);
    // Above 89 %: the low clock, whatever the level before; back to the base clock below 84 %.
    assert_eq!(hear(&mut *policy, &[0.891, 0.841, 0.839, 0.74]), [low, low, base, full]);
    assert_eq!(policy.thresholds(), [Share(800_000), Share(890_000)]);
}

#[test]
fn high_priority_slows_down_only_when_the_command_must_have_shown() {
    let mut policy = PowerPolicySpec::Polca(PolcaSpec::default()).build(A100, ROW);
    // A command takes 40 s, its reading 2 s more to fill and 2 s to come: 22 readings later it must have shown.
    let clocks = hear(&mut *policy, &[0.95; 30]);
    let slowed = clocks.iter().position(|&clocks| clocks == (1110, 1305));
    assert_eq!(slowed, Some(22), "{clocks:?}");
    assert!(clocks[..22].iter().all(|&clocks| clocks == (1110, 1410)));
    // From there straight to the base clock of low priority.
    assert_eq!(hear(&mut *policy, &[0.85, 0.83]), [(1110, 1305), (1275, 1410)]);
}

#[test]
fn one_threshold_slows_the_low_or_all() {
    let mut low = PowerPolicySpec::OneThresholdLow(OneThresholdSpec::default()).build(A100, ROW);
    assert_eq!(hear(&mut *low, &[0.89, 0.90, 0.841, 0.839]), [(1410, 1410), (1110, 1410), (1110, 1410), (1410, 1410)]);
    let mut all = PowerPolicySpec::OneThresholdAll(OneThresholdSpec::default()).build(A100, ROW);
    assert_eq!(hear(&mut *all, &[0.90, 0.839]), [(1110, 1110), (1410, 1410)]);
    let mut none = PowerPolicySpec::default().build(A100, ROW);
    assert_eq!(hear(&mut *none, &[1.5]), [(1410, 1410)]);
}

#[test]
fn published_clocks_scale_with_the_gpu() {
    let h100 = ClockRange { max: 1980, min: 345 };
    let mut policy = PowerPolicySpec::Polca(PolcaSpec::default()).build(h100, ROW);
    assert_eq!(hear(&mut *policy, &[0.85, 0.9]), [(1790, 1980), (1558, 1980)]);
}

#[test]
fn published_thresholds_follow_from_published_rises() {
    let rises = RisesSpec { period: 0.09, command: 0.118 };
    assert_eq!(rises.thresholds(), TwoThresholdsSpec { lower: 0.80, upper: 0.89 });
}

#[test]
fn thresholds_are_learned_and_then_stand() {
    let learn = LearnSpec { learn: Duration(Span(100 * S)) };
    let spec = PolcaSpec { thresholds: ThresholdsSpec::Auto(learn), ..PolcaSpec::default() };
    let mut policy = PowerPolicySpec::Polca(spec).build(A100, ROW);
    // 5 points from one reading to the next, 10 within 40 s; 20 within 80 s do not count.
    let mut loads = vec![0.60; 15];
    loads.extend([0.65, 0.65, 0.70, 0.70, 0.70]);
    loads.extend([0.70; 15]);
    loads.extend([0.75; 10]);
    loads.extend([0.80; 10]);
    assert_eq!(loads.len(), 55);
    let clocks = hear(&mut *policy, &loads);
    assert!(clocks.iter().take(50).all(|&clocks| clocks == (1410, 1410)));
    // 1 / 1.10 = 0.909 and 5 points less.
    assert_eq!(policy.thresholds(), [Share(850_000), Share(900_000)]);
}

#[test]
fn an_oracle_waits_for_nothing() {
    let oracle = PowerPolicySpec::Oracle(PolcaSpec::default());
    let Delays { period, telemetry, command, brake, .. } = oracle.delays(ROW);
    assert_eq!((period, telemetry, command, brake), (ROW.period, Span::ZERO, Span::ZERO, Span::ZERO));
    let mut policy = oracle.build(A100, ROW);
    assert_eq!(hear(&mut *policy, &[0.95, 0.95]), [(1110, 1410), (1110, 1305)]);
}

#[test]
fn settings_that_make_no_sense_are_refused_with_numbers() {
    for policy in PowerPolicySpec::every() {
        assert_eq!(told(&policy), Vec::<String>::new());
    }
    let polca = |change: fn(&mut PolcaSpec)| {
        let mut spec = PolcaSpec::default();
        change(&mut spec);
        told(&PowerPolicySpec::Polca(spec))
    };
    let wrong = polca(|spec| spec.thresholds = ThresholdsSpec::Given(TwoThresholdsSpec { lower: 0.9, upper: 0.8 }));
    assert_eq!(wrong, ["power.policy.polca.thresholds.given.lower is 0.9; it must be above 0 and below `upper` (0.8)"]);
    let wrong = polca(|spec| spec.hysteresis = 0.12);
    assert!(wrong.len() == 1 && wrong[0].contains("hysteresis is 0.12, above the gap"), "{wrong:?}");
    assert!(wrong[0].contains("make it at most 0.090"), "{wrong:?}");
    let wrong = polca(|spec| spec.clocks.low = Some(1980));
    assert!(wrong[0].contains("clocks.low is 1980 MHz; the GPU runs from 210 to 1410 MHz"), "{wrong:?}");
    let wrong = polca(|spec| (spec.clocks.low_base, spec.clocks.low) = (Some(1000), Some(1100)));
    assert_eq!(wrong, ["power.policy.polca.clocks.low is 1100 MHz, above `low_base`: 1000 MHz"]);
    let wrong = polca(|spec| spec.thresholds = ThresholdsSpec::Rises(RisesSpec { period: 0.95, command: 0.2 }));
    assert!(wrong[0].contains("no row can be run by that"), "{wrong:?}");
    let one = OneThresholdSpec { above: 1.2, hysteresis: 1.3, clock: Some(0) };
    assert_eq!(told(&PowerPolicySpec::OneThresholdLow(one)).len(), 3);
    assert_eq!(told(&PowerPolicySpec::PowerCap(PowerCapSpec { share: 0.0 })).len(), 1);
}

/// A reading that is heard again and again changes nothing after the second time: a ladder may come down by two levels, one a reading.
#[test]
fn policies_are_idempotent() {
    let learn = LearnSpec { learn: Duration(Span(60 * S)) };
    let learned = PolcaSpec { thresholds: ThresholdsSpec::Auto(learn), ..PolcaSpec::default() };
    let policies = PowerPolicySpec::every().into_iter().chain([PowerPolicySpec::Polca(learned)]);
    let mut changes = 0;
    for spec in policies {
        let mut policy = spec.build(A100, ROW);
        let mut last = None;
        // Loads from 0.65 to 1.05 in an order without a pattern.
        for n in 1..2000_u64 {
            let reading = RowReading { at: Time(2 * S * n), load: Share(650_000 + n * n % 401 * 1000) };
            let now = Time(2 * S * (n + 1));
            policy.hear(reading, now);
            let clocks = policy.hear(reading, now);
            assert_eq!(policy.hear(reading, now), clocks, "{spec:?}, reading {n}");
            changes += u32::from(last.is_some_and(|last| last != clocks));
            last = Some(clocks);
        }
    }
    assert!(changes > 100, "the readings move no policy: {changes}");
}

/// The row's rises, by hand: means of two seconds; from one to the next, and above the lowest of the last 40 seconds.
#[test]
fn rises_are_those_of_a_series_made_by_hand() {
    let mut rises = Rises::new(Span(40 * S), Time(10 * S));
    let mut hear = |from: u64, loads: &[u64]| {
        for (n, &load) in (0..).zip(loads) {
            rises.hear(RowReading { at: Time((from + 2 * n) * S), load: Share(load * 1000) });
        }
        (rises.period.0 / 1000, rises.command.0 / 1000)
    };
    // The first ten seconds fill the fleet: 600 points of a thousandth do not count. Falls never do.
    assert_eq!(hear(2, &[0, 600, 300, 200, 600]), (0, 0));
    assert_eq!(hear(12, &[600, 590, 610, 600]), (20, 20));
    // 590 at 14 s is 40 s before 54 s: it counts there, and two seconds later no more.
    assert_eq!(hear(20, &[620; 17]), (20, 30));
    assert_eq!(hear(54, &[640]), (20, 50));
    assert_eq!(hear(56, &[645]), (20, 50));
    // A spike of a single reading counts in both.
    assert_eq!(hear(58, &[735, 640]), (90, 135));
}
