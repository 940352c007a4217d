//! A Prometheus histogram.

use std::fmt::Write as _;

/// Counts of values up to each of some bounds.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: Box<[f64]>,
    /// By bucket, not cumulated; the last is above all bounds.
    counts: Box<[u64]>,
    sum: f64,
}

/// 1, 2, 5, 10, … up to a largest value: vLLM's buckets of lengths.
pub(super) fn one_two_five(most: u32) -> Vec<f64> {
    let decades = (0..10).map(|power| 10u64.pow(power));
    let bounds = decades.flat_map(|decade| [decade, 2 * decade, 5 * decade]);
    bounds.take_while(|&bound| bound <= u64::from(most)).map(|bound| bound as f64).collect()
}

impl Histogram {
    pub(super) fn new(bounds: &[f64]) -> Self {
        Histogram { bounds: bounds.into(), counts: vec![0; bounds.len() + 1].into(), sum: 0.0 }
    }

    pub(super) fn observe(&mut self, value: f64) {
        self.counts[self.bounds.partition_point(|&bound| bound < value)] += 1;
        self.sum += value;
    }

    /// Writes it in Prometheus' text format.
    pub(super) fn write(&self, out: &mut String, name: &str, help: &str, labels: &str) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0u64;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            below += count;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound:?}\"}} {:?}", below as f64);
        }
        let all: u64 = self.counts.iter().sum();
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {:?}", all as f64);
        let _ = writeln!(out, "{name}_count{{{labels}}} {:?}\n{name}_sum{{{labels}}} {:?}", all as f64, self.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_vllms_buckets() {
        assert_eq!(one_two_five(100), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(one_two_five(4), [1.0, 2.0]);
    }

    #[test]
    fn buckets_are_cumulative_and_bounds_belong_to_them() {
        let mut histogram = Histogram::new(&[1.0, 8.0]);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let mut out = String::new();
        histogram.write(&mut out, "h", "Help.", "a=\"b\"");
        let want = "# HELP h Help.\n# TYPE h histogram\nh_bucket{a=\"b\",le=\"1.0\"} 2.0\nh_bucket{a=\"b\",le=\"8.0\"} 3.0\n\
                    h_bucket{a=\"b\",le=\"+Inf\"} 4.0\nh_count{a=\"b\"} 4.0\nh_sum{a=\"b\"} 12.0\n";
        assert_eq!(out, want);
    }
}
