//! Block accesses per CPU second of a cache under every eviction policy: `cargo bench -p overbook-sim --bench evictions`.
//!
//! An access looks a block up, and either tells the policy of the hit or evicts a block and admits the new one. Prompts of up to 64
//! blocks follow one of the last 4,096 prompts for a while and then go their own way, so that about half of the blocks are found.
//!
//! Times are CPU times of the thread, the mean of all parts, so that a busy machine matters less. The measure is a bare table that is
//! asked for the same contents one by one and, on a miss, given one and rid of one: the table at the end states each policy as so
//! many times this. Caches are asked for many at a time, which hides most of the time that memory takes.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a bench measures time")]
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use hashbrown::HashTable;
use overbook_sim::counter::{draw, finish};
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

/// CPU time of this thread so far, where Linux tells it; else wall time.
fn cpu(since: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = told.as_deref().and_then(|line| line.split(' ').next()?.parse().ok());
    ns.map_or_else(|| since.elapsed(), Duration::from_nanos)
}

/// A table that keeps the last `capacity` contents to come: what a cache must do at least.
struct Bare {
    table: HashTable<(u64, u32)>,
    contents: Vec<u64>,
    capacity: usize,
    next: usize,
    found: u64,
}

impl Bare {
    fn new(capacity: usize) -> Bare {
        Bare { table: HashTable::new(), contents: Vec::new(), capacity, next: 0, found: 0 }
    }

    fn access(&mut self, content: u64) {
        if self.table.find(finish(content), |entry| entry.0 == content).is_some() {
            self.found += 1;
            return;
        }
        if self.contents.len() < self.capacity {
            self.contents.push(content);
        } else {
            let old = std::mem::replace(&mut self.contents[self.next], content);
            if let Ok(entry) = self.table.find_entry(finish(old), |entry| entry.0 == old) {
                entry.remove();
            }
        }
        self.table.insert_unique(finish(content), (content, self.next as u32), |entry| finish(entry.0));
        self.next = (self.next + 1) % self.capacity;
    }
}

/// Parts of the accesses that are timed one by one; then the cache is filled anew.
const PARTS: usize = 12;

/// Times the accesses on a cache that others have filled, part by part. The mean CPU time of an access [s], or none if it was
/// not asked for.
fn measure<C>(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    name: &str,
    measured: &[Access],
    full: impl Fn() -> C,
    play: impl Fn(&mut C, &[Access]),
) -> Option<f64> {
    let (mut all_s, mut accesses) = (0.0, 0.0);
    let mut parts = measured.chunks_exact(measured.len() / PARTS);
    let mut cache = None;
    group.throughput(Throughput::Elements((measured.len() / PARTS) as u64));
    group.bench_function(BenchmarkId::from_parameter(name), |b| {
        b.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                let part = parts.next().unwrap_or_else(|| {
                    parts = measured.chunks_exact(measured.len() / PARTS);
                    cache = None;
                    parts.next().expect("a part")
                });
                let cache = cache.get_or_insert_with(&full);
                let begun = Instant::now();
                let before = cpu(begun);
                play(cache, part);
                took += cpu(begun).saturating_sub(before);
                accesses += part.len() as f64;
            }
            all_s += took.as_secs_f64();
            took
        });
    });
    (accesses > 0.0).then(|| all_s / accesses)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut lines = Vec::new();
    for (name, blocks, capacity) in
        [("10 thousand blocks", 1_000_000, 10_000), ("1 million blocks", 5_000_000, 1_000_000)]
    {
        let accesses = accesses(blocks);
        // A full cache and the accesses after that.
        let (fill, measured) = accesses.split_at(accesses.len() * 4 / 5);
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_millis(10)).measurement_time(Duration::from_millis(400));
        let bare = || {
            let mut bare = Bare::new(capacity as usize);
            for access in fill {
                bare.access(access.view.content);
            }
            bare
        };
        let ask = |bare: &mut Bare, part: &[Access]| {
            for access in part {
                bare.access(access.view.content);
            }
        };
        let floor = measure(&mut group, "bare table", measured, bare, ask);
        let mut figures = vec![("bare table".to_owned(), floor)];
        for spec in EvictionSpec::defaults() {
            let full = || {
                let mut cache = Cache::new(capacity, &spec, 1);
                cache.access_all(fill);
                cache
            };
            figures.push((spec.label(), measure(&mut group, &spec.label(), measured, full, Cache::access_all)));
        }
        group.finish();
        for (policy, took) in figures {
            let Some(took) = took else { continue };
            let times = floor.map_or("-".to_owned(), |floor| format!("{:.2}", took / floor));
            lines.push(format!("{name:<20} {policy:<16} {:>7.1} {times:>8}", 1e-6 / took));
        }
    }
    println!("\n{:<20} {:<16} {:>7} {:>8}", "cache", "policy", "M per s", "x bare");
    for line in lines {
        println!("{line}");
    }
    criterion.final_summary();
}
