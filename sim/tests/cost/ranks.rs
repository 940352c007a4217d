//! Data-parallel attention: against its parts, by hand, and what its mean hides.

use overbook_sim::cost::comm::Comm;
use overbook_sim::cost::roofline::graph_size;
use overbook_sim::cost::{CostError, CostModel, HostCost, PrefillPart, Roofline, StepShape};
use overbook_sim::hardware::memory::{Layout, PoolRule, plan, weight_bytes};
use overbook_sim::hardware::model::{KvDtype, WeightDtype};
use overbook_sim::hardware::parallel::{Exchange, ExpertParallel, Parallelism, Split};

use crate::roofline::decode_us;
use crate::{Draw, gpu, model};

fn spread(tensor: u32, ranks: u32, exchange: Option<Exchange>) -> Parallelism {
    let experts = exchange.map(|exchange| ExpertParallel { exchange, imbalance: 1.0 });
    Parallelism { ranks, experts, ..Parallelism::from(tensor) }
}

fn roofline(on: &str, name: &str, spread: Parallelism, weights: WeightDtype) -> Roofline {
    Roofline::new(&gpu(on), &model(name), spread, weights, KvDtype::Bf16, HostCost::default(), 8192).unwrap()
}

#[test]
fn jumps_and_parts_agree_with_steps() {
    let mut draw = Draw(11);
    let mut with_prompts = 0;
    for (exchange, ranks) in [(None, 8), (Some(Exchange::AllReduce), 4), (Some(Exchange::AllToAll), 8)] {
        let mut cost = roofline("h200", "deepseek-v3", spread(8, ranks, exchange), WeightDtype::Fp8);
        for _ in 0..200 {
            let seqs = draw.uniform(0, 699) as u32;
            let context = u64::from(seqs) * (1 + draw.uniform(0, 2999));
            let shape = StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 };
            let (step, decode) = (cost.step(&shape), cost.decode(seqs, context));
            assert_eq!(step.device, decode.base + decode.per_context * context, "{seqs} on {ranks}");
            assert_eq!(step.host, decode.host);
            assert_eq!(cost.decode_parts(seqs, context).at(context).whole, cost.parts(&shape).whole);
            let mut chunk =
                || PrefillPart { tokens: 1 + draw.uniform(0, 899) as u32, past: draw.uniform(0, 4999) as u32 };
            let prefill: Vec<PrefillPart> = (0..=seqs % 5).map(|_| chunk()).collect();
            let shape = StepShape { prefill: &prefill, prefill_ends: seqs % 2, ..shape };
            let (step, parts) = (cost.step(&shape), cost.parts(&shape));
            assert!(step.device.0.abs_diff(parts.whole.0) < 1 << 12, "{:?} {:?}", step.device, parts.whole);
            assert_eq!(cost.step_in_parts(&shape).0.host, step.host);
            with_prompts += 1;
        }
    }
    eprintln!("{with_prompts} steps with prompts, as many without");
}

#[test]
fn attention_is_that_of_one_rank() {
    let (on, name) = ("h200", "qwen3-30b-a3b");
    let mut four = roofline(on, name, spread(4, 4, Some(Exchange::AllReduce)), WeightDtype::Bf16);
    let mut one = roofline(on, name, spread(1, 1, None), WeightDtype::Bf16);
    // A quarter of the context is a rank's, over all of its heads.
    let (all, alone) = (four.decode(64, 0).per_context.0, one.decode(16, 0).per_context.0);
    assert!((all * 4).abs_diff(alone) <= 4, "{all} {alone}");
    // What no rank sees, the batch of the others, costs the experts alone.
    let group = |seqs| four.clone().decode(seqs, 0).base;
    assert_eq!(group(61), group(64), "the busiest rank has 16 requests either way");
    assert!(group(64) > group(60));
}

#[test]
fn a_prompt_is_computed_by_one_rank() {
    let prompt = |tokens| PrefillPart { tokens, past: 0 };
    let us = |ranks: u32, prefill: &[PrefillPart]| {
        let mut cost = roofline("h200", "deepseek-v3", spread(8, ranks, Some(Exchange::AllReduce)), WeightDtype::Fp8);
        let shape = StepShape { decode_seqs: 0, decode_context: 0, prefill, prefill_ends: prefill.len() as u32 };
        cost.step(&shape).device.as_ns_f64() / 1e3
    };
    let (lone, shared) = (us(8, &[prompt(4096)]), us(8, &[prompt(512); 8]));
    let by_heads = us(1, &[prompt(4096)]);
    eprintln!("4,096 tokens: {lone:.0} us in one prompt, {shared:.0} in eight; {by_heads:.0} by heads");
    // Seven ranks wait for the one with the prompt; eight prompts keep all busy.
    assert!(lone > 1.5 * shared && lone > by_heads, "{lone} {shared} {by_heads}");
}

#[test]
fn tokens_are_gathered_and_scattered_by_nccl() {
    let comm = Comm::new(&gpu("h100"), &spread(8, 8, None)).unwrap();
    // nccl-tests on 8 H100, 16 KB: all-gather 11.16 us, reduce-scatter 10.93; 4 MB: 33.4 and 29.9.
    let near = |got: f64, measured: f64| assert!((got / measured - 1.0).abs() < 0.1, "{got} {measured}");
    near(comm.gather_tokens_us(16_384.0), 11.16);
    near(comm.scatter_sums_us(16_384.0), 10.93);
    near(comm.gather_tokens_us(4_194_304.0), 33.41);
    near(comm.scatter_sums_us(4_194_304.0), 29.88);
    // A batch of 8 × 8 costs two such halves in every layer with experts; without ranks one more all-reduce.
    let (shape, m) = (model("qwen3-30b-a3b"), 8 * graph_size(8));
    let bytes = (m * u64::from(shape.hidden) * 2) as f64;
    let halves = f64::from(shape.layers) * (comm.gather_tokens_us(bytes) + comm.scatter_sums_us(bytes));
    let cost =
        |on: &mut Roofline| on.parts(&StepShape { decode_seqs: 64, decode_context: 0, prefill: &[], prefill_ends: 0 });
    let link = cost(&mut roofline("h100", "qwen3-30b-a3b", spread(8, 8, None), WeightDtype::Bf16)).link;
    assert!((link.as_ns_f64() / 1e3 / halves - 1.0).abs() < 1e-3, "{link:?} {halves}");
}

#[test]
fn nccl_is_slower_in_small_steps_alone() {
    let on = |custom_all_reduce| {
        let spread = Parallelism { custom_all_reduce, ..Parallelism::from(8) };
        Comm::new(&gpu("h100"), &spread).unwrap()
    };
    // AIConfigurator, 8 H100, 64 KB: 6.41 us by vLLM's, 18.68 by NCCL's; 33 MB: 178 and 200.
    let (own, nccl) = (on(true).all_reduce_us(65_536.0), on(false).all_reduce_us(65_536.0));
    assert!((own - 6.41).abs() < 0.1 && (nccl - 18.68).abs() < 3.0, "{own} {nccl}");
    let ratio = on(false).all_reduce_us(33.5e6) / on(true).all_reduce_us(33.5e6);
    assert!((1.0..1.3).contains(&ratio), "{ratio}");
    let spread = Parallelism { custom_all_reduce: false, ..Parallelism::from(8) };
    let error = Comm::new(&gpu("mi300x"), &spread).unwrap_err();
    assert!(matches!(error, CostError::NoNccl { .. }) && error.to_string().contains("disable_custom_all_reduce"));
    // One GPU has nothing to reduce.
    assert!(Comm::new(&gpu("mi300x"), &Parallelism { custom_all_reduce: false, ..Parallelism::from(1) }).is_ok());
}

#[test]
fn every_rank_has_its_weights_and_its_pool() {
    let shape = model("deepseek-v3");
    let split = |ranks| Split { tensor: 8, ranks, experts: Some(Exchange::AllReduce) };
    let weights = |ranks| weight_bytes(&shape, &shape.shard_split(split(ranks)).unwrap(), WeightDtype::Fp8);
    // By hand, in fp8: of the 187 M weights of a layer's attention a GPU has the latents' projections whole and an eighth
    // of the rest; three dense MLPs, 58 shared experts, embedding and head in bf16 are split by heads, copied by ranks.
    let latents = 7168u64 * (1536 + 512 + 64);
    let heads = 1536u64 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * 7168;
    let (mlp, expert) = (3 * 7168 * 18_432u64, 3 * 7168 * 2048u64);
    let copied = 61 * heads + 3 * mlp + 58 * expert + 2 * 2 * 129_280 * 7168u64;
    let more = weights(8) - weights(1);
    assert!((more as f64 / (copied as f64 * 7.0 / 8.0) - 1.0).abs() < 1e-3, "{more} {copied} {latents}");
    let layout = |ranks| Layout {
        tensor_parallel: 8,
        stages: 1,
        ranks,
        experts: Some(Exchange::AllReduce),
        weights: WeightDtype::Fp8,
        kv: KvDtype::Bf16,
        utilization: 0.9,
        block_tokens: 16,
        slot_bytes: 0,
        max_batched_tokens: 8192,
        max_seqs: 256,
        rule: PoolRule::SetAside,
    };
    let of = |ranks| plan(&gpu("h200"), &shape, &layout(ranks)).unwrap();
    let (heads, ranks) = (of(1), of(8));
    // The latent of a token is on all GPUs under tensor parallelism, on one under ranks: a block is as large.
    assert_eq!(heads.block, ranks.block);
    let left = (heads.budget.0 - weights(8)) / heads.block.0;
    assert_eq!((ranks.blocks, heads.blocks > ranks.blocks), (left, true));
    assert!(8 * ranks.blocks > 5 * heads.blocks, "the group holds more requests: {} {}", ranks.blocks, heads.blocks);
}

#[test]
fn what_does_not_divide_is_refused() {
    let refused = |spread| {
        Roofline::new(&gpu("h200"), &model("deepseek-v3"), spread, WeightDtype::Fp8, KvDtype::Bf16, HostCost::ZERO, 64)
            .unwrap_err()
    };
    assert_eq!(
        refused(spread(8, 3, None)).to_string(),
        "DeepSeek-V3: 3 ranks of data-parallel attention do not divide the 8 GPUs of a group"
    );
    assert_eq!(refused(Parallelism { stages: 2, ..spread(8, 8, None) }), CostError::RanksInStages);
}

/// Ranks are slower for a lone request, whose attention no longer is split, and faster for many, since latents are read once.
#[test]
fn ranks_pay_where_latents_bind() {
    let us = |ranks, seqs, context| {
        let mut cost = roofline("h200", "deepseek-v3", spread(8, ranks, Some(Exchange::AllReduce)), WeightDtype::Fp8);
        decode_us(&mut cost, seqs, context)
    };
    let (lone, many) = (us(8, 1, 4096) / us(1, 1, 4096), us(8, 512, 8192) / us(1, 512, 8192));
    eprintln!("8 ranks against 8 heads: {lone:.2} times for a request, {many:.2} for 512 of 8,192 tokens");
    assert!(lone > 1.0 && many < 0.8, "{lone} {many}");
}

/// Contexts uniform between nothing and twice the mean, handed out by count.
#[test]
fn the_busiest_rank_has_more_context_than_the_mean() {
    let mut draw = Draw(5);
    let mut excess = |each: u64| {
        let trials = 400;
        let one = |_| {
            let ranks: Vec<u64> = (0..8).map(|_| (0..each).map(|_| draw.uniform(0, 19999)).sum()).collect();
            *ranks.iter().max().unwrap() as f64 * 8.0 / ranks.iter().sum::<u64>() as f64 - 1.0
        };
        (0..trials).map(one).sum::<f64>() / f64::from(trials)
    };
    let (few, many) = (excess(8), excess(32));
    eprintln!("8 requests on each of 8 ranks: {few:.3} above the mean, 32: {many:.3}");
    assert!((few - 0.29).abs() < 0.03 && (many - 0.146).abs() < 0.02, "{few} {many}");
}
