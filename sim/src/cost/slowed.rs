//! Costs on a machine that is slower or faster than the one that was measured.

use super::{Cost, CostModel, DecodeCost, Jitter, StepCost, StepShape};

/// A cost model whose device takes so many times as long; host time stays.
pub struct Slowed {
    model: Box<dyn CostModel>,
    factor: f64,
}

impl Slowed {
    /// The device of `model` takes `factor` times as long.
    pub fn new(model: Box<dyn CostModel>, factor: f64) -> Self {
        Slowed { model, factor }
    }

    fn of(&self, cost: Cost) -> Cost {
        Cost((cost.0 as f64 * self.factor).round() as u64)
    }
}

impl CostModel for Slowed {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let StepCost { device, host } = self.model.step(shape);
        StepCost { device: self.of(device), host }
    }

    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        let cost = self.model.decode(seqs, context);
        DecodeCost { base: self.of(cost.base), per_context: self.of(cost.per_context), ..cost }
    }

    fn jitter(&self) -> Option<&Jitter> {
        self.model.jitter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Constant;

    #[test]
    fn the_device_is_slower_and_the_host_is_not() {
        let cost = StepCost { device: Cost::from_us(100.0), host: Cost::from_us(7.0) };
        let mut slowed = Slowed::new(Box::new(Constant(cost)), 1.25);
        let shape = StepShape { decode_seqs: 1, decode_context: 9, prefill: &[], prefill_ends: 0 };
        assert_eq!(slowed.step(&shape), StepCost { device: Cost::from_us(125.0), host: cost.host });
        assert_eq!((slowed.decode(1, 9).base, slowed.decode(1, 9).host), (Cost::from_us(125.0), cost.host));
    }
}
