//! Steps without CUDA graphs: the host launches every kernel of every layer, and a step takes at least as long as that.

use super::{Cost, CostModel, DecodeCost, DecodeParts, Jitter, Parts, StepCost, StepShape};

/// Time to launch the kernels of one layer [µs]. Inferred: without graphs small batches of an 8B model take 1.3 to 1.5 times as long on
/// an H100, which is a floor of about 11 ms under its 32 layers. Quantised layers have more kernels, and slower hosts take longer.
const LAYER_LAUNCH_US: f64 = 340.0;

/// A cost model whose steps are launched kernel by kernel. Steps that the launches bind are the host's, whole.
#[derive(Clone, Debug)]
pub struct Eager<C> {
    inner: C,
    /// Time to launch a step.
    launch: Cost,
}

impl<C: CostModel> Eager<C> {
    /// The steps of `inner`, which has that many layers, launched kernel by kernel.
    pub fn new(inner: C, layers: u32) -> Eager<C> {
        Eager { inner, launch: Cost::from_us(LAYER_LAUNCH_US * f64::from(layers)) }
    }
}

impl<C: CostModel> CostModel for Eager<C> {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let cost = self.inner.step(shape);
        StepCost { device: cost.device.max(self.launch), ..cost }
    }

    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        let cost = self.inner.decode(seqs, context);
        let at = |context: u64| cost.base + cost.per_context * context;
        if at(context) >= self.launch {
            return cost;
        }
        // The first context at which the device takes longer than the launches.
        let left = self.launch.0 - cost.base.0;
        let longer = if cost.per_context.0 == 0 { u64::MAX } else { left.div_ceil(cost.per_context.0) };
        let valid_below = cost.valid_below.min(longer);
        DecodeCost { base: self.launch, per_context: Cost(0), valid_below, ..cost }
    }

    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        let parts = self.inner.parts(shape);
        if parts.whole >= self.launch { parts } else { Parts::host(self.launch) }
    }

    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        let parts = self.inner.decode_parts(seqs, context);
        let launched = DecodeParts { base: Parts::host(self.launch), per_context: Parts::default() };
        if parts.at(context).whole >= self.launch { parts } else { launched }
    }

    fn jitter(&self) -> Option<&Jitter> {
        self.inner.jitter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `base + context`, in cost units.
    #[derive(Debug)]
    struct Affine(u64);

    impl CostModel for Affine {
        fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
            StepCost { device: Cost(self.0 + shape.decode_context), host: Cost(1) }
        }

        fn decode(&mut self, _: u32, _: u64) -> DecodeCost {
            DecodeCost { base: Cost(self.0), per_context: Cost(1), valid_below: u64::MAX, host: Cost(1) }
        }

        fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
            Parts::memory(self.step(shape).device)
        }

        fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
            DecodeParts::all(self.decode(seqs, context), Parts::memory)
        }
    }

    #[test]
    fn decodes_agree_with_steps_on_both_sides_of_the_floor() {
        let launch = Cost::from_us(LAYER_LAUNCH_US * 2.0).0;
        let mut eager = Eager::new(Affine(launch - 50), 2);
        for context in [1, 49, 50, 51, 400] {
            let shape = StepShape { decode_seqs: 1, decode_context: context, prefill: &[], prefill_ends: 0 };
            let cost = eager.decode(1, context);
            assert_eq!(cost.base + cost.per_context * context, eager.step(&shape).device, "context {context}");
            assert!(context < cost.valid_below, "context {context}: valid below {}", cost.valid_below);
            let parts = eager.parts(&shape);
            assert_eq!((parts.whole, eager.decode_parts(1, context).at(context)), (eager.step(&shape).device, parts));
            assert_eq!(parts.memory == Cost(0), context < 50, "context {context}: launches bind below");
        }
        assert_eq!(eager.decode(1, 10).valid_below, 50);
    }
}
