//! Law 10: energy is the integral of power, and two sums agree, however time is cut.

use overbook_sim::hardware::gpu::{Origin, OriginKind};
use overbook_sim::hardware::power::MeterSpec;
use overbook_sim::power::meter::Reading;
use overbook_sim::power::{Energy, Meter, MilliWatts};
use overbook_sim::time::{Span, Time};
use overbook_sim::units::Duration;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

fn spec(window: u64, period: u64) -> MeterSpec {
    let origin = Origin { kind: OriginKind::Inferred, source: String::new() };
    MeterSpec { origin, window: Duration(Span(window)), period: Duration(Span(period)) }
}

/// A piecewise constant power: lengths [ns] and powers [mW].
type Pieces = Vec<(u64, u64)>;

fn run(spec: &MeterSpec, pieces: &Pieces) -> (Meter, Vec<Reading>) {
    let (mut meter, mut heard) = (Meter::new(spec, Time(5)), Vec::new());
    for &(span, power) in pieces {
        meter.advance(meter.now() + Span(span), MilliWatts(power), |reading| heard.push(reading));
    }
    (meter, heard)
}

/// Energy from the start to a time, piece by piece: the second sum.
fn integral(pieces: &Pieces, until: Time) -> u128 {
    let (mut start, mut sum) = (5, 0);
    for &(span, power) in pieces {
        let inside = until.0.min(start + span).saturating_sub(start);
        sum += u128::from(inside) * u128::from(power);
        start += span;
    }
    sum
}

fn pieces() -> impl Strategy<Value = Pieces> {
    prop::collection::vec((1..400 * MS, 0..1_200_000u64), 1..40)
}

proptest! {
    #[test]
    fn energy_is_the_integral_and_readings_are_its_differences(
        pieces in pieces(), window in 1..1_500 * MS, period in 1 + MS..700 * MS,
    ) {
        let (meter, heard) = run(&spec(window, period), &pieces);
        prop_assert_eq!(meter.energy().0, integral(&pieces, meter.now()));
        prop_assert_eq!(heard.len() as u64, (meter.now().0 - 5) / period);
        for (index, reading) in heard.iter().enumerate() {
            prop_assert_eq!(reading.at.0, 5 + (index as u64 + 1) * period);
            let from = Time(reading.at.0.saturating_sub(window).max(5));
            let energy = Energy(integral(&pieces, reading.at) - integral(&pieces, from));
            prop_assert_eq!(reading.power, energy.mean_over(reading.at - from));
        }
        let counted = heard.last().map_or(0, |last| integral(&pieces, last.at) / 1_000_000_000);
        prop_assert_eq!(meter.counter_mj(), counted);
    }

    /// Cutting a piece in two, at any place, changes no reading and no energy.
    #[test]
    fn cuts_change_nothing(pieces in pieces(), cuts in prop::collection::vec((any::<prop::sample::Index>(), 0.0..1.0), 0..30)) {
        let mut cut = pieces.clone();
        for (index, at) in cuts {
            let index = index.index(cut.len());
            let (span, power) = cut[index];
            let first = (span as f64 * at) as u64;
            cut.splice(index..=index, [(first, power), (span - first, power)]);
        }
        for spec in [spec(1_000 * MS, 100 * MS), spec(25 * MS, 100 * MS), spec(100 * MS, 100 * MS)] {
            let ((whole, heard), (parts, again)) = (run(&spec, &pieces), run(&spec, &cut));
            prop_assert_eq!(heard, again);
            prop_assert_eq!((whole.energy(), whole.counter_mj()), (parts.energy(), parts.counter_mj()));
        }
    }
}

#[test]
fn windows_that_touch_add_up_to_the_energy() {
    // 250 W for 1.3 s, 700 W for 0.2 s, 120 W for 2.5 s: readings of a second that follow each other.
    let pieces = vec![(1_300 * MS, 250_000), (200 * MS, 700_000), (2_500 * MS, 120_000)];
    let (meter, heard) = run(&spec(1_000 * MS, 1_000 * MS), &pieces);
    let watts: Vec<u64> = heard.iter().map(|reading| reading.power.0).collect();
    assert_eq!(watts, [250_000, 275_000, 120_000, 120_000]);
    let sum: u128 = heard.iter().map(|reading| reading.power.over(Span(1_000 * MS)).0).sum();
    assert_eq!(sum, meter.energy().0);
    assert!((meter.energy().as_joules_f64() - 765.0).abs() < 1e-9);
    assert_eq!(meter.counter_mj(), 765_000);
}

/// A spike of 20 ms: the mean over a second hardly sees it, a sensor that looks 25 ms in every 100 sees most of it or nothing.
#[test]
fn meters_miss_what_is_short() {
    let spike = |at: u64| vec![(at * MS, 200_000), (20 * MS, 700_000), ((1_980 - at) * MS, 200_000)];
    let most =
        |spec: &MeterSpec, pieces: &Pieces| run(spec, pieces).1.iter().map(|reading| reading.power.0).max().unwrap();
    let (slow, fast) = (spec(1_000 * MS, 100 * MS), spec(25 * MS, 100 * MS));
    assert_eq!(most(&slow, &spike(1_080)), 210_000);
    assert_eq!((most(&fast, &spike(1_080)), most(&fast, &spike(1_040))), (600_000, 200_000));
}

#[test]
fn watts_round_to_milliwatts() {
    assert_eq!(MilliWatts::from_watts(411.4537), MilliWatts(411_454));
    assert_eq!(MilliWatts::from_watts(-1.0), MilliWatts(0));
    assert_eq!(MilliWatts::from_watts(f64::NAN), MilliWatts(0));
    assert_eq!(Energy(1_500_000_000_000).to_string(), "1.500 J");
}

#[test]
#[should_panic(expected = "law 3")]
fn time_does_not_run_backwards() {
    let mut meter = Meter::new(&spec(MS, MS), Time(10));
    meter.advance(Time(9), MilliWatts(1), |_| {});
}
