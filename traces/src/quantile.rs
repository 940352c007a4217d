//! Lengths drawn from quantiles: the inverse distribution function, linear between the given points.

/// Cells of the guide table.
const CELLS: usize = 1024;

/// A piecewise linear inverse distribution function, ready for drawing.
pub(crate) struct QuantileTable {
    segments: Vec<Segment>,
    /// First segment that reaches into the cell `[i, i + 1) / CELLS`.
    guide: Box<[u32; CELLS]>,
}

/// The length at `p` is `base + slope * p`, up to `end`.
struct Segment {
    end: f64,
    base: f64,
    slope: f64,
}

impl QuantileTable {
    /// The points run from p = 0 to p = 1, neither coordinate ever falling (see `LengthSpec::problems`).
    pub(crate) fn new(points: &[(f64, u32)]) -> QuantileTable {
        let segment = |pair: &[(f64, u32)]| {
            let ((from, low), (end, high)) = (pair[0], pair[1]);
            let slope = (f64::from(high) - f64::from(low)) / (end - from);
            (end > from).then(|| Segment { end, base: f64::from(low) - slope * from, slope })
        };
        let segments: Vec<Segment> = points.windows(2).filter_map(segment).collect();
        let mut guide = Box::new([0u32; CELLS]);
        let mut first = 0;
        for (cell, entry) in guide.iter_mut().enumerate() {
            let start = cell as f64 / CELLS as f64;
            while first + 1 < segments.len() && segments[first].end <= start {
                first += 1;
            }
            *entry = first as u32;
        }
        QuantileTable { segments, guide }
    }

    /// The length at quantile `p` in [0, 1), rounded to the nearest token.
    pub(crate) fn at(&self, p: f64) -> u32 {
        let mut index = self.guide[(p * CELLS as f64) as usize % CELLS] as usize;
        while index + 1 < self.segments.len() && self.segments[index].end <= p {
            index += 1;
        }
        let segment = &self.segments[index];
        (segment.base + segment.slope * p + 0.5) as u32
    }
}

/// Mean of the distribution [tokens]: the area under the quantile curve.
pub(crate) fn mean(points: &[(f64, u32)]) -> f64 {
    points.windows(2).map(|w| (w[1].0 - w[0].0) * (f64::from(w[0].1) + f64::from(w[1].1)) / 2.0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_points() {
        let points = [(0.0, 10), (0.5, 20), (0.5, 100), (0.9, 100), (1.0, 200)];
        let table = QuantileTable::new(&points);
        let at = [0.0, 0.25, 0.49999, 0.5, 0.89, 0.95, 0.99999].map(|p| table.at(p));
        assert_eq!(at, [10, 15, 20, 100, 100, 150, 200]);
        let steps = 1_000_000;
        let sum: u64 = (0..steps).map(|i| u64::from(table.at((f64::from(i) + 0.5) / f64::from(steps)))).sum();
        assert!((sum as f64 / f64::from(steps) - mean(&points)).abs() < 1e-2);
    }

    #[test]
    fn many_points_within_a_cell() {
        let points: Vec<(f64, u32)> = (0..=100_000).map(|i| (f64::from(i) / 1e5, i + 1)).collect();
        let table = QuantileTable::new(&points);
        for i in 0..1000 {
            let p = f64::from(i) / 1000.0;
            assert!(table.at(p).abs_diff((p * 1e5) as u32 + 1) <= 1, "{p}");
        }
    }
}
