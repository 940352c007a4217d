//! The future peak of a batch, anew and kept, by its size: `cargo bench --no-default-features --bench future_peak`.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use overbook_sim::schedulers::future_peak::{FuturePeak, Growth, future_peak};

/// Prompts of up to 4,096 tokens, somewhere in outputs of as many.
fn batch(requests: u64) -> Vec<Growth> {
    let mut x = 1_u64;
    let mut draw = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) % 4096
    };
    (0..requests).map(|_| Growth { held: draw() + draw(), left: draw() }).collect()
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("future_peak");
    for requests in [16, 64, 256, 1024] {
        let batch = batch(requests);
        let new = Growth { held: 1000, left: 2000 };
        let kept = FuturePeak::new(batch.clone());
        group.bench_function(BenchmarkId::new("anew", requests), |b| {
            b.iter_batched(|| batch.clone(), |mut batch| future_peak(&mut batch), BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("build", requests), |b| {
            b.iter_batched(|| batch.clone(), FuturePeak::new, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("test", requests), |b| b.iter(|| kept.with(black_box(new))));
        group.bench_function(BenchmarkId::new("insert_and_remove", requests), |b| {
            let mut kept = kept.clone();
            b.iter(|| {
                kept.insert(black_box(new));
                kept.remove(black_box(new))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
