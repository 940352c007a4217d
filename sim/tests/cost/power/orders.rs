//! Orders that the law keeps with the steps of the cost model on every GPU whose power is known: a larger batch of long sequences never
//! draws less.

use overbook_sim::cost::{CostModel, HostCost, Roofline, StepShape};
use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::model::{KvDtype, WeightDtype};
use overbook_sim::power::PowerLaw;

use super::step_work;
use crate::{gpu, model};

/// Watts of a GPU in steps that decode `seqs` sequences of `context` tokens, at a share of its highest clock. Times are those at full clock.
fn decodes(gpu: &GpuSpec, costs: &mut Roofline, seqs: u32, context: u64, clock: f64) -> f64 {
    let steps = step_work(&model("llama-3.1-8b"), 1, WeightDtype::Bf16);
    let shape =
        StepShape { decode_seqs: seqs, decode_context: u64::from(seqs) * context, prefill: &[], prefill_ends: 0 };
    let cost = costs.step(&shape);
    let seconds = (cost.device + cost.host).as_ns_f64() / 1e9;
    let law = PowerLaw::of(gpu).unwrap();
    law.demand(&law.activity(&steps, steps.of(&shape), seconds), clock)
}

/// Doubled batches up to 256 of 4,096 tokens each, two clocks. Where a batch outgrows a tile of a kernel, rates fall by a little, and watts
/// with them: that much is let pass. Of short sequences it is not so: their kernels are slow and busy, achieved rates fall, and with them what
/// the law gives, by up to a tenth from 32 to 256 sequences of 128 tokens on the B200.
#[test]
fn a_larger_batch_of_long_sequences_never_draws_less() {
    const STEP_BACK: f64 = 0.02;
    let mut compared = 0;
    for name in ["a100-80", "b200", "h100", "h200"] {
        let gpu = gpu(name);
        let weights = WeightDtype::Bf16;
        let mut costs =
            Roofline::new(&gpu, &model("llama-3.1-8b"), 1, weights, KvDtype::Bf16, HostCost::default(), 8192).unwrap();
        for clock in [0.5, 1.0] {
            let watts: Vec<f64> = (0..9).map(|power| decodes(&gpu, &mut costs, 1 << power, 4096, clock)).collect();
            for pair in watts.windows(2) {
                assert!(pair[1] >= pair[0] * (1.0 - STEP_BACK), "{name} at {clock}: {watts:?}");
                compared += 1;
            }
            assert!(watts[8] > watts[0], "{name} at {clock}: {watts:?}");
        }
    }
    assert_eq!(compared, 4 * 2 * 8);
}
