//! Exact statistics of weighted values.

/// Values in ascending order with their weights; those of weight 0 are left out.
pub(super) struct Sample {
    values: Vec<(f64, f64)>,
    weight: f64,
}

impl Sample {
    /// The values times `scale`.
    pub(super) fn new(mut values: Vec<(f64, f64)>, scale: f64) -> Sample {
        values.retain(|&(_, weight)| weight > 0.0);
        for (value, _) in &mut values {
            *value *= scale;
        }
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let weight = values.iter().map(|&(_, weight)| weight).sum();
        Sample { values, weight }
    }

    /// The sum of the weights: the number of values where all weigh 1.
    pub(super) fn weight(&self) -> f64 {
        self.weight
    }

    pub(super) fn min(&self) -> Option<f64> {
        self.values.first().map(|v| v.0)
    }

    pub(super) fn max(&self) -> Option<f64> {
        self.values.last().map(|v| v.0)
    }

    pub(super) fn mean(&self) -> Option<f64> {
        let sum: f64 = self.values.iter().map(|(value, weight)| value * weight).sum();
        (!self.values.is_empty()).then(|| sum / self.weight)
    }

    fn squares(&self) -> Option<f64> {
        let mean = self.mean()?;
        Some(self.values.iter().map(|(value, weight)| (value - mean).powi(2) * weight).sum())
    }

    /// Variance of the population.
    pub(super) fn variance(&self) -> Option<f64> {
        Some(self.squares()? / self.weight)
    }

    /// Variance of a sample; 0 for a single value.
    pub(super) fn sample_variance(&self) -> Option<f64> {
        Some(self.squares()? / (self.weight - 1.0).max(1.0))
    }

    /// The percentile between its two neighbours, as numpy has it by default; weights do not count.
    pub(super) fn interpolated(&self, p: f64) -> Option<f64> {
        let last = self.values.len().checked_sub(1)?;
        let place = p * last as f64;
        let (low, high) = (self.values[place.floor() as usize].0, self.values[(place.ceil() as usize).min(last)].0);
        Some(low + (high - low) * place.fract())
    }

    /// The smallest value with at least `p` of the weight at or below it.
    pub(super) fn nearest(&self, p: f64) -> Option<f64> {
        let mut seen = 0.0;
        let due = p * self.weight * (1.0 - 1e-12);
        let found = self.values.iter().find(|(_, weight)| {
            seen += weight;
            seen >= due
        });
        found.map(|v| v.0).or_else(|| self.max())
    }
}
