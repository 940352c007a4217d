//! What retention adds to steps, by hand: bytes at what small kernels get of the bandwidth, operations at what matrix products get.

use overbook_sim::cost::{Cost, Pace, RetentionWork};
use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::model::{KvDtype, ModelSpec};
use overbook_sim::kv::retention::RetentionPolicy;
use overbook_sim::kv::retention::policies::{RKv, TrimKv};

use crate::{gpu, model};

/// An H100 at 1 byte and 10 operations a nanosecond.
fn slow() -> GpuSpec {
    let mut gpu = gpu("h100");
    (gpu.bandwidth.0, gpu.small_kernels.memory) = (2e9, 0.5);
    (gpu.peak_bf16.0, gpu.matmul.bf16.compute) = (40e9, 0.25);
    gpu
}

fn work(policy: RetentionPolicy, model: &ModelSpec, tensor_parallel: u32, every: u32) -> [f64; 5] {
    let shard = model.shard_experts(tensor_parallel, None).unwrap();
    let pace = Pace { budget: 64, every, at_end: false };
    let work = RetentionWork::new(&policy.work(), pace, &slow(), (model, &shard), KvDtype::Bf16);
    [work.step, work.token, work.slot, work.chunk_slot, work.chunk_pair].map(Cost::as_ns_f64)
}

fn near(got: [f64; 5], wanted: [f64; 5]) {
    for (got, wanted) in got.into_iter().zip(wanted) {
        assert!((got - wanted).abs() <= 1e-6 * wanted.max(1.0), "{got} ns, by hand {wanted}");
    }
}

#[test]
fn gates_scans_and_pairs_by_hand() {
    // 32 layers, 8 KV heads of 128, hidden 4,096.
    let llama = model("llama-3.1-8b");
    let trim = RetentionPolicy::TrimKv(TrimKv { window: 0 });
    // Gates: 4,096 · 512 + 512 · 8 weights a layer, two bytes each, once a step; two operations each for every token.
    let weights = 32.0 * (4096.0 * 512.0 + 512.0 * 8.0);
    // 8 bytes of position and score a slot in 256 heads; a chunk selects over 16 bytes more.
    near(work(trim, &llama, 1, 1), [2.0 * weights, 2.0 * weights / 10.0, 256.0 * 8.0, 256.0 * 24.0, 0.0]);
    // Half of the heads on each of two GPUs, the gates on both; one scan in four steps.
    near(work(trim, &llama, 2, 4), [2.0 * weights, 2.0 * weights / 10.0, 128.0 * 2.0, 128.0 * 24.0, 0.0]);
    // R-KV: position, and a score written and read for each of 8 queries; a key; 64 products with other keys. In a chunk, products of all with all.
    let bytes = 4.0 + 2.0 * 4.0 * 8.0 + 256.0;
    let pair = 2.0 * 128.0 / 10.0;
    let rkv = RetentionPolicy::RKv(RKv::default());
    near(work(rkv, &llama, 1, 1), [0.0, 0.0, 256.0 * (bytes + 64.0 * pair), 256.0 * (bytes + 16.0), 256.0 * pair]);
    near(work(RetentionPolicy::Window, &llama, 1, 1), [0.0; 5]);
    near(work(RetentionPolicy::Full, &llama, 1, 1), [0.0; 5]);
}
