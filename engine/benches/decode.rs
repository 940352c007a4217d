//! Times of whole steps of the CPU engine beside the floor that memory bandwidth sets: `cargo bench -p overbook-engine --bench decode [-- THREADS]`.
//!
//! The bandwidth is that of the same run: all threads read an array far larger than the cache, between the steps that are timed,
//! in one, two and eight streams; the best counts.
//! Every figure is the best of several, because whatever else runs on the machine only adds time. On a busy machine even
//! the best step was interrupted: the second triple of figures counts only the time in which our threads ran (Linux). With one
//! thread that is sound; with several it flatters both sides, since threads that take turns do not contend for memory.
//!
//! `-- retention [THREADS]` times what eviction adds to a step instead.

#![allow(clippy::print_stdout, reason = "a table is the result")]
#![allow(clippy::inline_always, reason = "what is not inlined into `dispatch!` loses the vector instructions")]

#[path = "decode/retention.rs"]
mod retention;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use fearless_simd::{Level, Simd, dispatch, prelude::*, u32x16};
use overbook_engine::config::Config;
use overbook_engine::cpu::Model;
use overbook_engine::executor::{Capacity, Sequence};
use overbook_engine::weights::{Dtype, Weights};
use rayon::prelude::*;

/// Words of the array that is read: 512 MiB.
const WORDS: usize = 128 << 20;
/// KV of each sequence before the step [tokens].
const PAST: u32 = 128;
const BLOCK_TOKENS: u32 = 16;

/// One step to time.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    sequences: u32,
    past: u32,
    tokens: u32,
}

const fn decode(name: &'static str, sequences: u32) -> Shape {
    Shape { name, sequences, past: PAST, tokens: 1 }
}

const fn prefill(name: &'static str, tokens: u32) -> Shape {
    Shape { name, sequences: 1, past: 0, tokens }
}

const SHAPES: [Shape; 8] = [
    decode("decode 1", 1),
    decode("decode 2", 2),
    decode("decode 4", 4),
    decode("decode 16", 16),
    decode("decode 64", 64),
    Shape { name: "decode 16 after 900", sequences: 16, past: 900, tokens: 1 },
    prefill("prefill 128", 128),
    prefill("prefill 512", 512),
];

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(cores);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    if std::env::args().any(|word| word == "retention") {
        return pool.install(retention::measure);
    }
    pool.install(|| {
        let array: Vec<u32> = (0..WORDS as u32).into_par_iter().collect();
        println!("small preset, {threads} threads, {:?}", Level::new());
        println!(
            "dtype | step | MB read | ms | GFLOP/s | floor ms | share of floor | running ms | floor ms | share of floor"
        );
        for dtype in [Dtype::Bf16, Dtype::F32] {
            measure(dtype, &array);
        }
    });
}

fn measure(dtype: Dtype, array: &[u32]) {
    let config = Config::preset("small").expect("preset");
    let weights = Arc::new(Weights::dummy(&config, 1, dtype).expect("weights"));
    let capacity = Capacity::unbounded(1024, BLOCK_TOKENS, 1024, config.vocab as u32);
    let mut model = Model::new(config.clone(), weights.clone(), &capacity).expect("memory");
    let mut times = [Time::LONGEST; SHAPES.len()];
    let mut read = Time::LONGEST;
    for round in 0..10 {
        for (shape, time) in SHAPES.iter().zip(&mut times) {
            // Long steps are less disturbed, and there is no time to repeat them as often.
            let repeats = if shape.tokens > 1 { u32::from(round < 3) } else { 3 };
            for _ in 0..repeats {
                *time = time.min(Time::of(|| run(&mut model, *shape)));
            }
            // One stream is not always the fastest way to read: what counts is the best.
            read = read.min(Time::of(|| read_all::<1>(array)));
            read = read.min(Time::of(|| read_all::<2>(array)));
            read = read.min(Time::of(|| read_all::<8>(array)));
        }
    }
    let gbps = |seconds: f64| 4.0 * WORDS as f64 / seconds / 1e9;
    println!("read bandwidth {:.1} GB/s, {:.1} GB/s while running", gbps(read.wall), gbps(read.running));
    let kv_bytes = (2 * config.layers * config.kv_width() * dtype.bytes()) as u64;
    for (shape, time) in SHAPES.iter().zip(times) {
        let rows = u64::from(shape.sequences * shape.tokens);
        let bytes = weights.step_bytes() + kv_bytes * u64::from(shape.sequences * (shape.past + shape.tokens));
        let gflop = 2.0 * (config.step_weights() * rows) as f64 / 1e9;
        let megabytes = bytes as f64 / 1e6;
        let floor = |read: f64| megabytes / gbps(read);
        let (wall, running) = (floor(read.wall), floor(read.running));
        println!(
            "{dtype:?} | {} | {megabytes:.1} | {:.2} | {:.1} | {wall:.2} | {:.0} % | {:.2} | {running:.2} | {:.0} %",
            shape.name,
            time.wall * 1e3,
            gflop / time.wall,
            wall / time.wall / 10.0,
            time.running * 1e3,
            running / time.running / 10.0,
        );
    }
}

/// How long something took [s].
#[derive(Clone, Copy)]
struct Time {
    wall: f64,
    /// Time in which the pool's threads ran, over their number. Threads that spin while they wait count.
    running: f64,
}

impl Time {
    const LONGEST: Time = Time { wall: f64::MAX, running: f64::MAX };

    fn of(f: impl FnOnce()) -> Time {
        let (start, ran) = (Instant::now(), running());
        f();
        Time { wall: start.elapsed().as_secs_f64(), running: running() - ran }
    }

    fn min(self, other: Time) -> Time {
        Time { wall: self.wall.min(other.wall), running: self.running.min(other.running) }
    }
}

/// Mean time for which the threads of the pool have run so far [s]; NaN where the system does not say.
fn running() -> f64 {
    let ran = rayon::broadcast(|_| {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN)
    });
    ran.iter().sum::<f64>() / ran.len() as f64 / 1e9
}

fn run(model: &mut Model, shape: Shape) {
    let blocks_each = (shape.past + shape.tokens).div_ceil(BLOCK_TOKENS);
    let blocks: Vec<u32> = (0..shape.sequences * blocks_each).collect();
    let tables: Vec<&[u32]> = blocks.chunks_exact(blocks_each as usize).collect();
    let sequence = |seat: u32| Sequence { seat, past: shape.past, tokens: shape.tokens, samples: true };
    let sequences: Vec<Sequence> = (0..shape.sequences).map(sequence).collect();
    let tokens: Vec<u32> = (0..shape.sequences * shape.tokens).map(|i| i * 37 % 4096).collect();
    black_box(model.forward(&tokens, &sequences, &tables));
}

/// Reads every word, on all threads, each in `STREAMS` places at once.
fn read_all<const STREAMS: usize>(array: &[u32]) {
    let level = Level::new();
    let read = |part: &[u32]| dispatch!(level, simd => fold::<_, STREAMS>(simd, part));
    black_box(array.par_chunks(1 << 20).map(read).reduce(|| 0, |a, b| a ^ b));
}

#[inline(always)]
fn fold<S: Simd, const STREAMS: usize>(simd: S, part: &[u32]) -> u32 {
    let lines = part.as_chunks::<16>().0;
    let each = lines.len() / STREAMS;
    let mut sums = [u32x16::splat(simd, 0); 8];
    // Eight lines of one stream, or one of each of eight.
    let step = 8 / STREAMS;
    for at in (0..each).step_by(step) {
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum ^= u32x16::from_slice(simd, &lines[index / step * each + at + index % step]);
        }
    }
    let mut all = sums[0];
    for sum in &sums[1..] {
        all ^= *sum;
    }
    let mut words = [0; 16];
    all.store_slice(&mut words);
    words.into_iter().fold(0, |a, b| a ^ b)
}
