//! Experts spread by number, pipelines, servers: against measured tables, physics, and by hand.

use overbook_sim::cost::comm::Comm;
use overbook_sim::cost::forms::{ExpertShape, ExpertShare, expert_share_us};
use overbook_sim::cost::{CostModel, HostCost, PrefillPart, Roofline, StepShape};
use overbook_sim::hardware::memory::{
    self, Layout, PoolRule, Stage, kv_bytes_per_token, stage_weight_bytes, weight_bytes,
};
use overbook_sim::hardware::model::{KvDtype, WeightDtype};
use overbook_sim::hardware::parallel::{Exchange, ExpertParallel, Parallelism};
use overbook_sim::hardware::server::{LinkSpec, ServerSpec, Topology};

use overbook_test_groups::{whole, whole_files};

use crate::roofline::{decode_us, prefill_us};
use crate::{Draw, entry, gpu, model, rows, spread};

fn topology(server: &str) -> Topology {
    let server: ServerSpec = entry("servers", server);
    let link = |name: &str| entry::<LinkSpec>("links", name);
    let network = server.network.as_ref().map(|network| (link(&network.link), network.ports));
    Topology { server: server.name.clone(), gpus: server.gpus, inside: link(&server.inside), network }
}

fn roofline(on: &str, name: &str, spread: Parallelism, weights: WeightDtype) -> Roofline {
    Roofline::new(&gpu(on), &model(name), spread, weights, KvDtype::Bf16, HostCost::ZERO, 8192).unwrap()
}

fn experts(tensor: u32, exchange: Exchange, imbalance: f64) -> Parallelism {
    Parallelism { experts: Some(ExpertParallel { exchange, imbalance }), ..Parallelism::from(tensor) }
}

fn told(label: &str, mut errors: Vec<f64>, least: usize, median: f64, p90: f64) {
    let count = errors.len();
    let (got_median, got_p90) = spread(&mut errors);
    eprintln!("{label}: {count} rows, error median {got_median:.1} %, p90 {got_p90:.1} % (bound {median}/{p90})");
    assert!(count >= least, "{label}: only {count} rows");
    assert!(got_median <= median && got_p90 <= p90, "{label}");
}

/// One GPU's share of a layer with 2, 4 and 8 GPUs over the experts, balanced: rows as for the fit of the experts
/// themselves (README of the study, columns). `elsewhere` was fitted to these very rows.
fn spread_experts_are_predicted_as_well_as_the_catalog_says() {
    let tables = [
        ("h100", "h100_sxm", (6.0, 31.0), (11.0, 37.0)),
        ("h200", "h200_sxm", (7.0, 35.0), (12.0, 46.0)),
        ("b200", "b200_sxm", (5.0, 13.0), (9.0, 43.0)),
        ("l40s", "l40s", (7.0, 24.0), (9.0, 36.0)),
        ("rtx-pro-6000", "rtx_pro_6000_server", (10.0, 42.0), (8.0, 31.0)),
    ];
    for (name, table, bf16, fp8) in tables {
        let rows = rows(&whole(&format!("kernels/moe/{table}.csv.zst")));
        let spec = gpu(name);
        for (dtype, (median, p90)) in [(WeightDtype::Bf16, bf16), (WeightDtype::Fp8, fp8)] {
            let plain = if dtype == WeightDtype::Fp8 { "fp8" } else { "bf16" };
            let kernel = if dtype == WeightDtype::Fp8 && name.starts_with('h') { "fp8_block" } else { plain };
            let mut errors = Vec::new();
            for row in rows.iter().filter(|row| row[5] == kernel && row[8] == "balanced" && row[7] != "1") {
                let slow = name == "b200" && plain == "bf16" && row[0].starts_with("mixtral");
                let known = (row[0].starts_with("mixtral") && !slow) || row[0].starts_with("qwen3");
                let [hidden, width, per_token, all] = [1, 2, 3, 4].map(|i| row[i].parse::<u32>().unwrap());
                let [gpus, tokens] = [7, 9].map(|i| row[i].parse::<f64>().unwrap());
                let held = f64::from(all) / gpus;
                let bytes = dtype.bytes(3 * u64::from(hidden) * u64::from(width)) as f64 * held;
                if !known || !row[12].chars().all(|flag| flag == 'w') || bytes <= 2.0 * spec.l2.0 as f64 {
                    continue;
                }
                let pairs = tokens * f64::from(per_token);
                let own = pairs / gpus;
                let share = ExpertShare { own, elsewhere: pairs - own, touched: held.min(own.max(1.0)), spread: true };
                let shape = ExpertShape { hidden, width, inputs: 2, per_token };
                let us = expert_share_us(&spec, dtype, shape, share).unwrap();
                errors.push((us / row[10].parse::<f64>().unwrap() - 1.0).abs());
            }
            told(&format!("{name} spread experts {dtype}"), errors, 100, median, p90);
        }
    }
}

/// What the default's documentation says of skewed routing (power law 1.2): large batches take as long as with an
/// imbalance of 1.5, 2 and 3 on 2, 4 and 8 GPUs.
fn skewed_tables_come_out_with_the_stated_imbalance() {
    for (name, table, median, p90) in
        [("h100", "h100_sxm", 8.0, 18.0), ("h200", "h200_sxm", 8.0, 16.0), ("b200", "b200_sxm", 30.0, 42.0)]
    {
        let rows = rows(&whole(&format!("kernels/moe/{table}.csv.zst")));
        for (gpus, imbalance) in [(2.0, 1.5), (4.0, 2.0), (8.0, 3.0)] {
            let mut errors = Vec::new();
            let ours =
                rows.iter().filter(|row| row[5] == "bf16" && row[8] != "balanced" && row[0].starts_with("qwen3"));
            for row in ours.filter(|row| row[7] == gpus.to_string()) {
                let [hidden, width, per_token, all] = [1, 2, 3, 4].map(|i| row[i].parse::<u32>().unwrap());
                let tokens: f64 = row[9].parse().unwrap();
                if tokens < 2048.0 {
                    continue;
                }
                let pairs = tokens * f64::from(per_token);
                let own = pairs / gpus * imbalance;
                let touched = f64::from(all) / gpus;
                let share = ExpertShare { own, elsewhere: pairs - own, touched, spread: true };
                let shape = ExpertShape { hidden, width, inputs: 2, per_token };
                let us = expert_share_us(&gpu(name), WeightDtype::Bf16, shape, share).unwrap();
                errors.push((us / row[10].parse::<f64>().unwrap() - 1.0).abs());
            }
            told(&format!("{name} skewed experts over {gpus}, imbalance {imbalance}"), errors, 14, median, p90);
        }
    }
}

/// nccl-tests, one server.
fn all_to_alls_are_predicted_as_well_as_two_slopes_can() {
    let rows = rows(&whole("kernels/comm.csv"));
    for (name, table, groups) in [
        ("a100-80", "a100_sxm", &[2, 4, 8][..]),
        ("h100", "h100_sxm", &[2, 4, 8]),
        ("h200", "h200_sxm", &[2, 4, 8]),
        ("b200", "b200_sxm", &[2, 4, 8]),
        ("l40s", "l40s", &[2]),
        ("rtx-pro-6000", "rtx_pro_6000_server", &[2, 4, 8]),
    ] {
        for &gpus in groups {
            let spread = experts(gpus, Exchange::AllToAll, 1.0);
            let comm = Comm::new(&gpu(name), &spread).unwrap();
            let ours = rows.iter().filter(|row| row[0] == table && row[3] == "alltoall" && row[4] == gpus.to_string());
            let errors = ours.map(|row| {
                let [bytes, us] = [5, 6].map(|i| row[i].parse::<f64>().unwrap());
                (comm.all_to_all_us(bytes) / us - 1.0).abs()
            });
            told(&format!("{name} all-to-all over {gpus}"), errors.collect(), 21, 9.0, 51.0);
        }
    }
}

/// Vidur's `send_recv` between two GPUs, inside a server and across. Times have a resolution of 1 µs.
fn links_are_predicted_as_well_as_a_line_can() {
    let rows = rows(&whole("kernels/vidur/comm.csv"));
    for (link, system, per_server, median, p90) in [
        ("nvlink3", "a100_dgx", "2", 9.0, 20.0),
        ("nvlink4", "h100_dgx", "2", 3.0, 12.0),
        ("infiniband-ndr", "h100_dgx", "1", 5.0, 21.0),
        ("ethernet-100g", "a100_dgx", "1", 3.0, 32.0),
    ] {
        let spec: LinkSpec = entry("links", link);
        let ours = rows.iter().filter(|row| row[0] == system && row[1] == "send_recv" && row[3] == per_server);
        let errors = ours.map(|row| {
            let [bytes, us] = [4, 5].map(|i| row[i].parse::<f64>().unwrap());
            ((spec.latency_us() + bytes / spec.stream(1.0) * 1e6) / us - 1.0).abs()
        });
        told(&format!("{link} ({system})"), errors.collect(), 60, median, p90);
    }
}

/// Vidur's all-reduce over DGX A100 whose servers seem to have one 100 Gb/s port in use: the phases added up are faster
/// than every table's median, by 22 to 44 %. (The tables themselves disagree: 4 GPUs on two servers took longer than 8.)
fn collectives_across_servers_have_the_right_size() {
    let rows = rows(&whole("kernels/vidur/comm.csv"));
    for (gpus, per_server) in [(2u32, 1u32), (4, 2), (8, 4), (16, 8)] {
        let mut place = topology("dgx-a100");
        place.gpus = per_server;
        place.network = Some((entry("links", "ethernet-100g"), 1));
        let spread = Parallelism { topology: Some(place), ..Parallelism::from(gpus) };
        let comm = Comm::new(&gpu("a100-80"), &spread).unwrap();
        let ours = |row: &&Vec<String>| {
            row[0] == "a100_dgx"
                && row[1] == "all_reduce"
                && row[2] == gpus.to_string()
                && row[3] == per_server.to_string()
        };
        let mut ratios: Vec<f64> = rows
            .iter()
            .filter(ours)
            .filter(|row| row[4].parse::<f64>().unwrap() >= 65_536.0)
            .map(|row| comm.all_reduce_us(row[4].parse().unwrap()) / row[5].parse::<f64>().unwrap())
            .collect();
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        eprintln!("all-reduce over {gpus} A100, {per_server} a server: predicted/measured {median:.2} at the median");
        assert!((0.5..1.0).contains(&median), "{gpus}: {median}");
    }
}

/// By hand: 1 MB over two servers of eight, ports of 50 GB/s at 0.73, 18.75 µs each way.
#[test]
fn a_group_over_two_servers_pays_for_the_way() {
    let one = Comm::new(&gpu("h100"), &Parallelism::from(8)).unwrap();
    let spread = |tensor| Parallelism { topology: Some(topology("dgx-h100")), ..Parallelism::from(tensor) };
    let two = Comm::new(&gpu("h100"), &spread(16)).unwrap();
    let across = two.all_reduce_us(1e6) - one.all_reduce_us(1e6);
    let expected = 2.0 * 18.75 + 1e6 / (8.0 * 50e9 * 0.73) * 1e6;
    assert!((across / expected - 1.0).abs() < 1e-9, "{across} {expected}");
    assert!((Comm::new(&gpu("h100"), &spread(8)).unwrap().all_reduce_us(1e6) - one.all_reduce_us(1e6)).abs() < 1e-12);
    // Of an exchange over sixteen, half leaves: eight GPUs' halves share eight ports.
    let exchange = Parallelism { topology: Some(topology("dgx-h100")), ..experts(16, Exchange::AllToAll, 1.0) };
    let us = Comm::new(&gpu("h100"), &exchange).unwrap().all_to_all_us(64e6);
    assert!((us / (18.75 + 32e6 / (50e9 * 0.73) * 1e6) - 1.0).abs() < 1e-9, "{us}");
}

#[test]
fn a_pipeline_is_the_whole_model_and_the_ways_between() {
    let mut draw = Draw(21);
    for (tensor, stages) in [(1, 2), (2, 4), (4, 3), (8, 2), (8, 4)] {
        let spread = Parallelism { stages, topology: Some(topology("dgx-h100")), ..Parallelism::from(tensor) };
        let comm = Comm::new(&gpu("h100"), &spread).unwrap();
        let mut whole = roofline("h100", "llama-3.1-70b", Parallelism::from(tensor), WeightDtype::Bf16);
        let mut pipeline = roofline("h100", "llama-3.1-70b", spread, WeightDtype::Bf16);
        for _ in 0..50 {
            let seqs = draw.log(512) as u32;
            let context = u64::from(seqs) * draw.log(8192);
            // 512 tokens and more run as they are: no padding to a captured graph.
            let part = [PrefillPart { tokens: 512 + draw.log(4096) as u32, past: 0 }];
            let shape = StepShape { decode_seqs: seqs, decode_context: context, prefill: &part, prefill_ends: 1 };
            let way = pipeline.step(&shape).device.as_ns_f64() - whole.step(&shape).device.as_ns_f64();
            let expected = comm.stages_us(shape.tokens() as f64 * 8192.0 * 2.0) * 1e3;
            assert!((way - expected).abs() < 0.01, "{tensor} {stages}: {way} {expected}");
            let decode = pipeline.decode(seqs, context);
            let pure = StepShape { prefill: &[], prefill_ends: 0, ..shape };
            assert_eq!(pipeline.step(&pure).device.0, decode.base.0 + decode.per_context.0 * context);
        }
    }
    // Two stages of one GPU, 1000 tokens: 2 × 16.384 MB over NVLink 4 (450 GB/s at 0.8, 7.75 µs).
    let spread = Parallelism { stages: 2, topology: Some(topology("dgx-h100")), ..Parallelism::from(1) };
    let us = Comm::new(&gpu("h100"), &spread).unwrap().stages_us(16.384e6);
    assert!((us / (7.75 + 2.0 * 16.384e6 / (450e9 * 0.8) * 1e6) - 1.0).abs() < 1e-9, "{us}");
    // The same over servers that only have 100 Gb/s Ethernet takes as much longer as the link is slower.
    let mut slow = topology("dgx-h100");
    (slow.gpus, slow.network) = (1, Some((entry("links", "ethernet-100g"), 1)));
    let spread = Parallelism { stages: 2, topology: Some(slow), ..Parallelism::from(1) };
    let us = Comm::new(&gpu("h100"), &spread).unwrap().stages_us(16.384e6);
    assert!((us / (27.25 + 2.0 * 16.384e6 / (12.5e9 * 0.62) * 1e6) - 1.0).abs() < 1e-9, "{us}");
}

#[test]
fn stages_share_weights_and_the_tightest_makes_the_pool() {
    for (name, stages) in [("llama-3.1-405b", 2), ("deepseek-v3", 4), ("qwen3-4b", 3), ("gpt-oss-120b", 5)] {
        let (shape, shard) = (model(name), model(name).shard(8).unwrap());
        let parts: Vec<u64> = Stage::all(&shape, stages)
            .into_iter()
            .map(|stage| stage_weight_bytes(&shape, &shard, WeightDtype::Bf16, stage))
            .collect();
        let copy = if shape.tied_embeddings { 2 * u64::from(shard.vocab) * u64::from(shape.hidden) } else { 0 };
        assert_eq!(parts.iter().sum::<u64>(), weight_bytes(&shape, &shard, WeightDtype::Bf16) + copy, "{name}");
        assert_eq!(Stage::all(&shape, stages).iter().map(|stage| stage.dense).sum::<u32>(), shape.dense_layers());
    }
    let layout = |stages| Layout {
        tensor_parallel: 8,
        stages,
        ranks: 1,
        experts: None,
        weights: WeightDtype::Bf16,
        kv: KvDtype::Bf16,
        utilization: 0.9,
        block_tokens: 16,
        slot_bytes: 0,
        max_batched_tokens: 8192,
        max_seqs: 256,
        rule: PoolRule::Profiled,
    };
    // 405B in bf16 are 101 GB on each of eight H100: only two servers hold it, 63 layers each.
    let (spec, big) = (gpu("h100"), model("llama-3.1-405b"));
    let error = memory::plan(&spec, &big, &layout(1)).unwrap_err().to_string();
    assert!(error.contains("does not fit"), "{error}");
    let plan = memory::plan(&spec, &big, &layout(2)).unwrap();
    let shard = big.shard(8).unwrap();
    assert_eq!(plan.block.0, kv_bytes_per_token(&big, &shard, KvDtype::Bf16) * 16 / 2);
    let stages = Stage::all(&big, 2);
    let blocks = stages.iter().map(|&stage| {
        let weights = stage_weight_bytes(&big, &shard, WeightDtype::Bf16, stage);
        (plan.budget.0 - weights - plan.reserve.0) / plan.block.0
    });
    assert_eq!(Some(plan.blocks), blocks.min());
    // Three stages of 42 layers and the vocabulary on the outer two: the middle one has the most room, and no say.
    let plan = memory::plan(&spec, &big, &layout(3)).unwrap();
    let middle = stage_weight_bytes(&big, &shard, WeightDtype::Bf16, Stage::all(&big, 3)[1]);
    assert!(plan.weights.0 > middle);
    let error = memory::plan(&spec, &big, &layout(127)).unwrap_err().to_string();
    assert!(error.contains("126 layers do not make 127 pipeline stages"), "{error}");
}

#[test]
fn whole_experts_weigh_as_much_as_shares_of_all() {
    let shape = model("qwen3-235b-a22b");
    let bytes = |exchange| weight_bytes(&shape, &shape.shard_experts(8, exchange).unwrap(), WeightDtype::Bf16);
    assert_eq!(bytes(None), bytes(Some(Exchange::AllReduce)));
    assert_eq!(bytes(None), bytes(Some(Exchange::AllToAll)));
    // A shared expert is copied only where tokens stay on their GPU.
    let shape = model("deepseek-v3");
    let bytes = |exchange| weight_bytes(&shape, &shape.shard_experts(8, exchange).unwrap(), WeightDtype::Fp8);
    assert_eq!(bytes(None), bytes(Some(Exchange::AllReduce)));
    let copy = 58 * 3 * 7168 * 2048 * 7 / 8;
    assert_eq!(bytes(Some(Exchange::AllToAll)) - bytes(None), copy);
}

/// Every byte that one GPU must read and every FLOP that it must do, at the datasheet's rates; growth in tokens and in
/// imbalance; the affine part of decode.
#[test]
fn spread_experts_obey_physics() {
    let mut draw = Draw(22);
    for (on, name) in
        [("h100", "qwen3-235b-a22b"), ("b200", "deepseek-v3"), ("h200", "mixtral-8x7b"), ("l40s", "gpt-oss-20b")]
    {
        let (spec, shape) = (gpu(on), model(name));
        let moe = shape.moe.unwrap();
        for exchange in [Exchange::AllReduce, Exchange::AllToAll] {
            let shard = shape.shard_experts(8, Some(exchange)).unwrap();
            let mut costs = [1.0, 1.5, 2.5].map(|f| roofline(on, name, experts(8, exchange, f), WeightDtype::Bf16));
            for _ in 0..60 {
                let seqs = draw.log(512) as u32;
                let context = u64::from(seqs) * draw.log(8192);
                let step = StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 };
                let decode = costs[0].decode(seqs, context);
                let times = costs.each_mut().map(|cost| cost.step(&step).device.0);
                assert_eq!(times[0], decode.base.0 + decode.per_context.0 * context);
                assert!(times.is_sorted(), "{name} {exchange:?} {seqs}: {times:?}");
                let seconds = times[0] as f64 / f64::from(1 << 20) / 1e9;
                let layers = f64::from(shape.layers - moe.dense_layers);
                let one = f64::from(shape.hidden * moe.expert_intermediate * 3 * 2);
                let untouched = (f64::from(shard.experts) - moe.touched(f64::from(seqs)) / 8.0) * layers * one;
                let embedding = 2.0 * f64::from(shard.vocab) * f64::from(shape.hidden);
                let weights = weight_bytes(&shape, &shard, WeightDtype::Bf16) as f64 - untouched - embedding;
                assert!(seconds >= weights / spec.bandwidth.0, "{name} {exchange:?} {seqs}");
                let flop = 2.0 * shape.active_matrix_weights() as f64 / 8.0 * f64::from(seqs);
                assert!(seconds >= flop / spec.peak_bf16.0, "{name} {exchange:?} {seqs}");
            }
            let times: Vec<f64> = (1..=2048).map(|tokens| prefill_us(&mut costs[0], tokens, 500)).collect();
            assert!(times.is_sorted(), "{name} {exchange:?}");
        }
    }
}

/// As wide matrices of few experts are read no worse than narrow ones of all, but a layer waits for the GPU that chance gives most:
/// SGLang with 64 requests on 8 B200 takes 24.7 ms a step with whole experts and 22.9 with a share of each (InferenceX, medians).
#[test]
fn whole_experts_wait_for_the_busiest_gpu() {
    let of = |spread| roofline("b200", "deepseek-v3", spread, WeightDtype::Fp8);
    let (mut width, mut number) = (of(Parallelism::from(8)), of(experts(8, Exchange::AllReduce, 1.0)));
    let ratio = decode_us(&mut number, 64, 1000) / decode_us(&mut width, 64, 1000);
    eprintln!("whole experts: {ratio:.3} times a share of each, measured 1.08");
    assert!((1.0..1.16).contains(&ratio), "{ratio}");
}

#[test]
fn what_cannot_be_spread_is_refused() {
    let refused = |on: &str, name: &str, spread: Parallelism| {
        Roofline::new(&gpu(on), &model(name), spread, WeightDtype::Bf16, KvDtype::Bf16, HostCost::ZERO, 1)
            .unwrap_err()
            .to_string()
    };
    let reduce = |tensor| experts(tensor, Exchange::AllReduce, 1.0);
    assert_eq!(
        refused("h100", "llama-3.1-8b", reduce(2)),
        "model Llama-3.1-8B has no experts to spread over GPUs; leave out `expert_parallel`"
    );
    assert_eq!(
        refused("h100", "mixtral-8x7b", reduce(16)),
        "model Mixtral-8x7B: tensor_parallel 16 does not divide experts (8)"
    );
    let mut spec = gpu("h100");
    spec.experts.as_mut().unwrap().bf16.elsewhere = None;
    spec.all_to_all = None;
    let new = |spread: Parallelism, weights| {
        Roofline::new(&spec, &model("mixtral-8x7b"), spread, weights, KvDtype::Bf16, HostCost::ZERO, 1)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        new(reduce(2), WeightDtype::Bf16),
        "NVIDIA H100 80GB HBM3 (SXM) has no measured bf16 experts spread over GPUs; leave out `expert_parallel`"
    );
    assert_eq!(
        new(experts(2, Exchange::AllToAll, 1.0), WeightDtype::Fp8),
        "NVIDIA H100 80GB HBM3 (SXM) has no measured all-to-all over 2 GPUs; it has none; use `exchange: all-reduce`"
    );
    let placed = |server: &str, tensor, stages| Parallelism {
        stages,
        ranks: 1,
        topology: Some(topology(server)),
        ..Parallelism::from(tensor)
    };
    assert_eq!(
        refused("h100", "llama-3.1-70b", Parallelism { stages: 2, ..Parallelism::from(2) }),
        "a pipeline needs a `fleet.server`: it says which links the stages have between them"
    );
    for (tensor, stages) in [(16, 1), (8, 2)] {
        assert_eq!(
            refused("h100", "llama-3.1-405b", placed("hgx-h100", tensor, stages)),
            "the replica does not fit into one HGX H100 board, 8 GPUs, and the catalog knows no network between several"
        );
    }
    let mut odd = topology("dgx-h100");
    odd.gpus = 6;
    assert_eq!(
        refused("h100", "llama-3.1-70b", Parallelism { topology: Some(odd), ..Parallelism::from(8) }),
        "tensor_parallel 8 neither divides the 6 GPUs of a server nor is a multiple of them"
    );
}

whole_files!(
    spread_experts_are_predicted_as_well_as_the_catalog_says,
    skewed_tables_come_out_with_the_stated_imbalance,
    all_to_alls_are_predicted_as_well_as_two_slopes_can,
    links_are_predicted_as_well_as_a_line_can,
    collectives_across_servers_have_the_right_size,
);

/// Which experts a token visits is drawn: the busiest of eight GPUs has 1.42 standard deviations more than the mean, in expectation.
#[test]
fn chance_alone_makes_one_gpu_busier() {
    let moe = model("qwen3-235b-a22b").moe.unwrap();
    let spread = Some(ExpertParallel::default());
    for (gpus, z) in [(2_u32, 0.5642), (4, 1.0294), (8, 1.4236)] {
        let held = moe.experts / gpus;
        let share = |tokens| {
            let of = |share: fn(_, _, _, _, _) -> ExpertShare| share(moe, held, spread, f64::from(gpus), tokens);
            (of(ExpertShare::of), of(ExpertShare::busiest))
        };
        let (mean, most) = share(8);
        let wanted = mean.own + z * (mean.own * (1.0 - 1.0 / f64::from(gpus))).sqrt();
        assert!((most.own - wanted).abs() < 1e-9 && most.own + most.elsewhere == 64.0, "{gpus}: {most:?}");
        let drawn = draws(moe.experts, moe.experts_per_token, gpus, 8);
        assert!((most.touched / drawn - 1.0).abs() < 0.06, "{gpus}: {} of {drawn}", most.touched);
        let (mean, most) = share(4096);
        assert!((most.touched - f64::from(held)).abs() < 1e-6 && most.own < 1.05 * mean.own, "{gpus}: {most:?}");
    }
}

/// Distinct experts of the busiest GPU when every token draws its own, mean of many draws.
fn draws(experts: u32, per_token: u32, gpus: u32, tokens: u32) -> f64 {
    let (mut draw, rounds) = (Draw(11), 4000);
    let mut sum = 0;
    for _ in 0..rounds {
        let mut touched = vec![false; experts as usize];
        for _ in 0..tokens {
            let mut own = Vec::new();
            while own.len() < per_token as usize {
                let one = draw.uniform(0, u64::from(experts - 1)) as usize;
                if !own.contains(&one) {
                    own.push(one);
                }
            }
            for one in own {
                touched[one] = true;
            }
        }
        let of = |part: &[bool]| part.iter().filter(|touched| **touched).count();
        sum += touched.chunks((experts / gpus) as usize).map(of).max().unwrap();
    }
    sum as f64 / f64::from(rounds)
}
