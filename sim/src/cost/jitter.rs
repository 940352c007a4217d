//! How far steps of one shape lie apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CostModel, DecodeCost, DecodeParts, Parts, StepCost, StepShape};

/// A point of a distribution.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quantile {
    /// So large a share of the steps …
    pub share: f64,
    /// … takes at most so many times the mean of its shape.
    pub ratio: f64,
}

/// The distribution of step time ÷ mean time of steps of the same shape, linear between its quantiles.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Jitter(Vec<Quantile>);

/// Shares that are kept of a measured distribution.
const SHARES: [f64; 12] = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0];

impl Jitter {
    /// The quantiles of measured ratios, scaled so that the mean of what is drawn is one: between two quantiles it is not known how
    /// a long tail falls, and jitter must not make steps longer. `None` if there are fewer ratios than quantiles, or all are zero.
    pub fn of(mut ratios: Vec<f64>) -> Option<Self> {
        if ratios.len() < SHARES.len() {
            return None;
        }
        ratios.sort_by(f64::total_cmp);
        let at = |share: f64| ratios[(share * (ratios.len() - 1) as f64).round() as usize];
        let rough = SHARES.map(|share| Quantile { share, ratio: at(share) });
        let mean = mean(&rough);
        // Five digits are more than was measured.
        let scaled = |q: Quantile| Quantile { ratio: (q.ratio / mean * 1e5).round() / 1e5, ..q };
        (mean > 0.0).then(|| Jitter(rough.map(scaled).into()))
    }

    /// What is wrong with it, in words.
    ///
    /// # Errors
    /// It has no two quantiles, they do not ascend, or are no numbers of at least zero.
    pub fn check(&self) -> Result<(), &'static str> {
        let fine = |q: &Quantile| (0.0..=1.0).contains(&q.share) && q.ratio.is_finite() && q.ratio >= 0.0;
        let ascending = self.0.windows(2).all(|pair| pair[0].share < pair[1].share && pair[0].ratio <= pair[1].ratio);
        match self.0.as_slice() {
            [] | [_] => Err("needs at least two quantiles"),
            all if !all.iter().all(fine) => Err("`share` must be in 0 to 1, `ratio` a number of at least 0"),
            _ if !ascending => Err("`share` and `ratio` must ascend"),
            _ => Ok(()),
        }
    }

    /// The ratio below which a share of the steps lies.
    pub fn ratio(&self, share: f64) -> f64 {
        let after = self.0.partition_point(|quantile| quantile.share < share);
        match (after.checked_sub(1).map(|before| self.0[before]), self.0.get(after)) {
            (Some(low), Some(high)) => {
                low.ratio + (high.ratio - low.ratio) * (share - low.share) / (high.share - low.share)
            }
            (Some(end), None) => end.ratio,
            (None, Some(end)) => end.ratio,
            (None, None) => 1.0,
        }
    }
}

/// The mean of a distribution that is linear between its quantiles.
fn mean(quantiles: &[Quantile]) -> f64 {
    let part = |pair: &[Quantile]| (pair[1].share - pair[0].share) * f64::midpoint(pair[0].ratio, pair[1].ratio);
    quantiles.windows(2).map(part).sum()
}

/// A cost model whose steps lie apart.
pub struct Jittered {
    model: Box<dyn CostModel>,
    jitter: Jitter,
}

impl Jittered {
    /// A model's costs are means, and single steps lie around them.
    pub fn new(model: Box<dyn CostModel>, jitter: Jitter) -> Self {
        Jittered { model, jitter }
    }
}

impl CostModel for Jittered {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        self.model.step(shape)
    }

    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        self.model.decode(seqs, context)
    }

    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        self.model.parts(shape)
    }

    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        self.model.decode_parts(seqs, context)
    }

    fn jitter(&self) -> Option<&Jitter> {
        Some(&self.jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_ratios() {
        let jitter = Jitter::of((0..=1000).map(|i| 0.5 + f64::from(i) / 1000.0).collect()).expect("enough");
        jitter.check().expect("ascends");
        for share in [0.0, 0.01, 0.3, 0.5, 0.97, 1.0] {
            assert!((jitter.ratio(share) - 0.5 - share).abs() < 2e-3, "{share}: {}", jitter.ratio(share));
        }
        assert!(Jitter::of(vec![1.0; 11]).is_none());
        let same = Jitter::of(vec![1.0; 12]).expect("enough");
        assert!((same.ratio(0.7) - 1.0).abs() < 1e-12);
        assert!(Jitter::of(vec![0.0; 12]).is_none());
        // One step in five hundred that was delayed for long: draws still have the measured mean.
        let spell = Jitter::of((0..1000).map(|i| if i < 998 { 0.96 } else { 21.0 }).collect()).expect("enough");
        let drawn = (0..100_000).map(|i| spell.ratio((f64::from(i) + 0.5) / 1e5)).sum::<f64>() / 1e5;
        assert!((drawn - 1.0).abs() < 1e-3, "{drawn}");
    }

    #[test]
    fn broken_ones_are_told() {
        let of = |pairs: &[(f64, f64)]| Jitter(pairs.iter().map(|&(share, ratio)| Quantile { share, ratio }).collect());
        for (pairs, what) in [
            (&[(0.5, 1.0)][..], "two quantiles"),
            (&[(0.0, 1.0), (1.5, 2.0)], "in 0 to 1"),
            (&[(0.0, f64::NAN), (1.0, 2.0)], "at least 0"),
            (&[(0.0, 2.0), (1.0, 1.0)], "must ascend"),
            (&[(1.0, 1.0), (0.0, 2.0)], "must ascend"),
        ] {
            let told = of(pairs).check().expect_err(what);
            assert!(told.contains(what), "{told}");
        }
        // Beyond the outermost quantiles the ratio is theirs.
        let middle = of(&[(0.25, 1.0), (0.75, 2.0)]);
        assert!((middle.ratio(0.0) - 1.0).abs() < 1e-12 && (middle.ratio(1.0) - 2.0).abs() < 1e-12);
    }
}
