//! Block accesses per second of a cache under every eviction policy: `cargo bench -p overbook-sim --bench evictions`.
//!
//! An access looks a block up, and either tells the policy of the hit or evicts a block and admits the new one. Prompts of up to 64
//! blocks follow one of the last 4,096 prompts for a while and then go their own way, so that about half of the blocks are found.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a bench measures time")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use overbook_sim::counter::draw;
use overbook_sim::kv::eviction::EvictionSpec;
use overbook_sim::kv::replay::{Access, Accesses, Cache};
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::{Arrival, ClassId, Content, SessionId};

const BLOCK_TOKENS: u32 = 16;
const LAST: usize = 4096;

/// Accesses, with the number of the one that uses each content next.
fn accesses(blocks: usize) -> Vec<Access> {
    let mut prompts: Vec<Vec<u64>> = Vec::new();
    let (mut maker, mut accesses) = (Accesses::default(), Vec::new());
    for request in 0_u64.. {
        let bits = |what| draw(what, request) as usize;
        let oldest = prompts.len().saturating_sub(LAST);
        let mut ids = match prompts.get(oldest + bits(1) % LAST) {
            Some(before) => before[..bits(2) % (before.len() + 1)].to_vec(),
            None => Vec::new(),
        };
        let most = ids.len().max(1 + bits(3) % 64);
        ids.extend((ids.len() as u64..most as u64).map(|depth| draw(request, depth)));
        let mut arrival = Arrival::new(Time(request * 100_000_000), most as u32 * BLOCK_TOKENS, 100);
        arrival.content = Some(Box::new(Content { block_tokens: BLOCK_TOKENS, ids: ids.clone().into() }));
        (arrival.class, arrival.session) = (ClassId((request % 4) as u16), Some(SessionId::new(request / 3)));
        prompts.push(ids);
        maker.of(&arrival, None, &mut accesses);
        if accesses.len() >= blocks {
            break;
        }
    }
    let mut next = std::collections::HashMap::new();
    for (at, access) in accesses.iter_mut().enumerate().rev() {
        access.view.next_use = Some(next.insert(access.view.content, at as u64).unwrap_or(u64::MAX));
    }
    accesses
}

fn bench(c: &mut Criterion) {
    for (name, blocks, capacity) in
        [("10 thousand blocks", 1_000_000, 10_000), ("1 million blocks", 6_000_000, 1_000_000)]
    {
        let accesses = accesses(blocks);
        // A full cache and the accesses after that.
        let (fill, measured) = accesses.split_at(accesses.len() * 2 / 3);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(measured.len() as u64)).sample_size(10);
        for spec in EvictionSpec::defaults() {
            let full = || {
                let mut cache = Cache::new(capacity, &spec, 1);
                for access in fill {
                    cache.access(access);
                }
                cache
            };
            let play = |mut cache: Cache| {
                for access in measured {
                    cache.access(access);
                }
                cache
            };
            group.bench_function(BenchmarkId::from_parameter(spec.label()), |b| {
                b.iter_batched(full, play, BatchSize::PerIteration);
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
