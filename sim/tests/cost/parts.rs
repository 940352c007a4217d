//! Parts of a price: they are of the very step, add up to it, and say what binds it.

use overbook_sim::cost::table::{Grid, Table};
use overbook_sim::cost::{Cost, Eager, Retained};
use overbook_sim::cost::{
    CostModel, HostCost, OperatingPoint, Parts, PrefillPart, RetentionWork, Roofline, Slowdown, StepShape,
};
use overbook_sim::hardware::model::{KvDtype, WeightDtype};

use crate::{Draw, GPUS, MODELS, gpu, model};

fn roofline(on: &str, name: &str, tp: u32) -> Option<Roofline> {
    let host = HostCost { sampling: overbook_sim::units::Duration(overbook_sim::time::Span(34_000)), ..HostCost::ZERO };
    Roofline::new(&gpu(on), &model(name), tp, WeightDtype::Bf16, KvDtype::Bf16, host, 2048).ok()
}

/// Parts of many random steps of a model are those of the steps, and of its decodes.
fn agree(cost: &mut dyn CostModel, what: &str) {
    let mut draw = Draw(7);
    for _ in 0..300 {
        let prefill: Vec<PrefillPart> = (0..draw.uniform(0, 3))
            .map(|_| PrefillPart { tokens: draw.log(4096) as u32, past: draw.log(16_384) as u32 - 1 })
            .collect();
        let seqs = if prefill.is_empty() { draw.log(3000) } else { draw.uniform(0, 64) };
        let (ends, context) = (prefill.len() as u32, seqs * draw.log(16_384));
        let shape =
            StepShape { decode_seqs: seqs as u32, decode_context: context, prefill: &prefill, prefill_ends: ends };
        let parts = cost.parts(&shape);
        assert_eq!(parts.whole, cost.step(&shape).device, "{what} {shape:?}");
        let sum = parts.compute + parts.memory + parts.link + parts.of_host();
        assert_eq!(sum, parts.whole, "{what} {shape:?}: {parts:?}");
        let decode = cost.decode(seqs as u32, context);
        let by_context = cost.decode_parts(seqs as u32, context);
        let whole = (by_context.base.whole, by_context.per_context.whole);
        assert_eq!(whole, (decode.base, decode.per_context), "{what} {shape:?}");
        if prefill.is_empty() {
            assert_eq!(by_context.at(context), parts, "{what} {shape:?}");
        }
    }
}

#[test]
fn parts_are_those_of_the_step() {
    let mut models = 0;
    for (on, name) in GPUS.into_iter().flat_map(|on| MODELS.map(|name| (on, name))) {
        for tp in [1, 2, 8] {
            let Some(mut cost) = roofline(on, name, tp) else { continue };
            agree(&mut cost, &format!("{name} on {tp} {on}"));
            models += 1;
        }
    }
    assert!(models > 20, "{models}");
    let grid = |rows: Vec<u32>, columns: Vec<u32>, device_us| Grid { rows, columns, device_us };
    let decode = grid(vec![1, 64], vec![128, 4096], vec![4000.0, 4100.0, 4800.0, 8700.0]);
    let prefill = grid(vec![64, 2048], vec![0, 4096], vec![5e3, 5.2e3, 4e4, 4.4e4]);
    agree(&mut Table::new(&decode, &prefill, HostCost::ZERO).unwrap(), "table");
    let llama = || roofline(GPUS[0], MODELS[0], 1).unwrap();
    agree(&mut Eager::new(llama(), 32), "without graphs");
    let work = RetentionWork {
        step: Cost(9 << 20),
        token: Cost(77),
        slot: Cost(5),
        chunk_slot: Cost(7),
        chunk_pair: Cost(2),
        ..Default::default()
    };
    agree(&mut Retained::new(llama(), work), "with budgets");
}

fn shares(parts: &Parts) -> [f64; 4] {
    [parts.compute, parts.memory, parts.link, parts.of_host()].map(|part| part.0 as f64 / parts.whole.0 as f64)
}

/// Long prompts are arithmetic, small batches memory, groups of GPUs have links, and without a group there are none.
#[test]
fn what_binds_is_what_one_expects() {
    let [_, _, link, _] = {
        let mut one = roofline("h100", "llama-3.1-8b", 1).unwrap();
        let prompt = StepShape {
            decode_seqs: 0,
            decode_context: 0,
            prefill: &[PrefillPart { tokens: 8192, past: 0 }],
            prefill_ends: 1,
        };
        let [compute, ..] = shares(&one.parts(&prompt));
        assert!(compute > 0.8, "{compute} of a long prompt is arithmetic");
        let [compute, memory, link, host] = shares(&one.decode_parts(4, 8000).at(8000));
        assert!(memory > 0.7 && compute < 0.05, "{compute} {memory} {link} {host} of a small batch");
        [compute, memory, link, host]
    };
    assert!(link.abs() < 1e-12);
    let mut group = roofline("h100", "llama-3.1-70b", 8).unwrap();
    let [_, memory, link, host] = shares(&group.decode_parts(16, 16_000).at(16_000));
    assert!(link > 0.1 && memory > 0.3, "{memory} {link} {host} of a group's batch");
}

/// A step at a lower clock is priced as if the GPU had that much less arithmetic: the rooflines again, at its peak. Parts are linear around the nominal point,
/// so they are exact there and stay below what the rooflines say further down.
#[test]
fn parts_follow_the_rooflines_at_another_peak() {
    let clock = gpu("h100").power.unwrap().clock;
    let mut nominal = roofline("h100", "llama-3.1-8b", 1).unwrap();
    let mut worst: (f64, String) = (0.0, String::new());
    for percent in [95_u32, 80, 61] {
        let x = f64::from(percent) / 100.0;
        let mut slow = gpu("h100");
        slow.peak_bf16.0 *= x;
        let host = HostCost::ZERO;
        let (kv, weights) = (KvDtype::Bf16, WeightDtype::Bf16);
        let mut slow = Roofline::new(&slow, &model("llama-3.1-8b"), 1, weights, kv, host, 2048).unwrap();
        let mut plain = Roofline::new(&gpu("h100"), &model("llama-3.1-8b"), 1, weights, kv, host, 2048).unwrap();
        let pace = Slowdown::of(OperatingPoint::at_clock(percent, 100), &clock);
        for (seqs, tokens) in [(1, 0), (64, 0), (256, 0), (512, 0), (0, 512), (0, 8192), (64, 1024)] {
            let part = [PrefillPart { tokens, past: 0 }];
            let prefill = if tokens > 0 { &part[..] } else { &[] };
            let ends = prefill.len() as u32;
            let shape =
                StepShape { decode_seqs: seqs, decode_context: 1000 * u64::from(seqs), prefill, prefill_ends: ends };
            let (want, got) = (slow.step(&shape).device.0 as f64, pace.reprice(&plain.parts(&shape)).0 as f64);
            let error = (got / want - 1.0).abs();
            if error > worst.0 {
                worst = (error, format!("{percent} % of the clock, {shape:?}"));
            }
            assert!(got <= want * (1.0 + 1e-9), "{percent} %: {got} above {want} of {shape:?}");
        }
    }
    eprintln!(
        "parts: within {:.2} % of the rooflines at 61 to 95 % of the peak, worst at {}",
        100.0 * worst.0,
        worst.1
    );
    assert!(worst.0 < 0.05, "{worst:?}");
    // And the nominal point is exact.
    let shape = StepShape { decode_seqs: 64, decode_context: 64_000, prefill: &[], prefill_ends: 0 };
    assert_eq!(Slowdown::NONE.reprice(&nominal.parts(&shape)), nominal.step(&shape).device);
}
