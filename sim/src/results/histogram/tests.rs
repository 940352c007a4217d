use super::*;
use proptest::prelude::*;

fn of(values: &[u64]) -> Histogram {
    let mut h = Histogram::new();
    for &v in values {
        h.record(v);
    }
    h
}

/// Values of every magnitude, not only the huge ones that a uniform draw would give.
fn any_value() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0u32..64).prop_map(|(v, shift)| v >> shift)
}

fn exact(sorted: &[u64], p: f64) -> u64 {
    let rank = (p * sorted.len() as f64 - 1e-9).ceil().max(1.0) as usize;
    sorted[rank - 1]
}

#[test]
fn buckets_tile_the_range() {
    let last = index_of(u64::MAX);
    assert_eq!(last, PAGES * SUB - 1);
    let mut next = 0u64;
    for index in 0..=last {
        let (low, high) = bounds_of(index);
        assert_eq!((low, index_of(low), index_of(high)), (next, index, index));
        next = high.wrapping_add(1);
    }
    assert_eq!(next, 0, "the last bucket ends at u64::MAX");
}

#[test]
fn an_empty_histogram_has_no_figures() {
    let h = Histogram::new();
    assert_eq!((h.count(), h.sum(), h.min(), h.max()), (0, 0, None, None));
    assert_eq!((h.mean(), h.quantile(0.5), h.fraction_at_most(9)), (None, None, None));
}

#[test]
fn quantiles_are_nearest_rank() {
    let h = of(&(1..=100).collect::<Vec<_>>());
    for percent in 1..=100u64 {
        assert_eq!(h.quantile(percent as f64 / 100.0), Some(percent));
    }
    assert_eq!(h.quantile(0.001), Some(1));
    assert_eq!(h.quantile(0.991), Some(100));
    assert_eq!(h.fraction_at_most(25), Some(0.25));
}

proptest! {
    #[test]
    fn quantiles_are_within_their_bound(mut values in prop::collection::vec(any_value(), 1..200), p in 0.0..=1.0f64) {
        let h = of(&values);
        values.sort_unstable();
        let p = (p * 1e6).round() / 1e6;
        let (got, want) = (h.quantile(p).expect("not empty"), exact(&values, p));
        prop_assert!(got.abs_diff(want) as f64 <= 0.0005 * want as f64, "{got} for {want}");
        prop_assert_eq!(h.min(), values.first().copied());
        prop_assert_eq!(h.max(), values.last().copied());
        prop_assert_eq!(h.sum(), values.iter().map(|&v| u128::from(v)).sum::<u128>());
        prop_assert_eq!(h.iter().map(|(_, n)| n).sum::<u64>(), values.len() as u64);
    }

    #[test]
    fn merging_commutes_and_equals_recording_all(a in prop::collection::vec(any_value(), 0..50), b in prop::collection::vec(any_value(), 0..50)) {
        let (mut ab, mut ba) = (of(&a), of(&b));
        ab.merge(&of(&b));
        ba.merge(&of(&a));
        prop_assert_eq!(&ab, &ba);
        prop_assert_eq!(ab, of(&[a, b].concat()));
    }

    #[test]
    fn a_fixed_point_ramp_equals_its_single_values_in_any_split(first in any::<u64>(), shift in 2u32..64, step in 0u64..1 << 40, n in 1u64..2000, cut in 0u64..2000, weight in 0u64..5) {
        let (first, cut) = (first >> shift, cut.min(n));
        let (mut ramp, mut split, mut single) = (Histogram::new(), Histogram::new(), Histogram::new());
        ramp.record_ramp_fixed(first, step, n, weight);
        split.record_ramp_fixed(first, step, cut, weight);
        split.record_ramp_fixed(first + step * cut, step, n - cut, weight);
        for i in 0..n {
            single.record_n((first + step * i) >> 20, weight);
        }
        prop_assert_eq!(&ramp, &split);
        prop_assert_eq!(ramp.iter().collect::<Vec<_>>(), single.iter().collect::<Vec<_>>());
        prop_assert_eq!((ramp.count(), ramp.min(), ramp.max()), (single.count(), single.min(), single.max()));
        // The ramp keeps the fractions that single values lose: less than 1 ns each.
        let lost = ramp.sum().abs_diff(single.sum());
        prop_assert!(lost <= u128::from(n * weight), "{lost} ns of {n} values");
    }
}
