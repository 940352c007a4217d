//! What the GPU at hand can do at most: its memory read, written and copied, pinned memory of the host, a large matrix product, and
//! what a launch costs. Steps are measured against these.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use overbook_kernels::cuda::{CEILING_THREADS, CEILING_TILE, CEILINGS};

use super::CudaError;
use super::blas::{Blas, Shape};
use super::compile::{Compiler, Options};
use super::driver::{Buffer, Event, Function, Gpu, Module, Pinned};
use super::stream::{Args, Graph, Grid, Stream};
use crate::weights::{Dummy, Source};

/// Blocks for each multiprocessor that are tried.
const BLOCKS: [u32; 4] = [2, 4, 8, 32];
/// A sample is at least so long, or the clock of events shows.
const SAMPLE: Duration = Duration::from_millis(5);
/// Runs of a product that are put on the stream at once.
const QUEUED: u32 = 8;
/// Bytes of pinned memory that random numbers are made in.
const CHUNK: usize = 32 << 20;

/// A figure.
#[derive(Clone, PartialEq, Debug)]
pub struct Ceiling {
    /// What it is.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// In this unit.
    pub unit: &'static str,
    /// How it was measured.
    pub how: String,
    /// Whether the work was done as it should.
    pub right: bool,
}

fn ceiling(name: &'static str, value: f64, unit: &'static str, how: String) -> Ceiling {
    Ceiling { name, value, unit, how, right: true }
}

/// A GPU whose ceilings are measured.
pub struct Ceilings {
    gpu: Arc<Gpu>,
    stream: Stream,
    read: Function,
    write: Function,
    copy: Function,
    empty: Function,
}

impl Ceilings {
    /// Compiles the kernels; they are kept in a folder, if one is given.
    ///
    /// # Errors
    /// NVRTC is missing, or the GPU fails.
    pub fn open(gpu: &Arc<Gpu>, cache: Option<&Path>) -> Result<Ceilings, CudaError> {
        let options = Options { sm: gpu.facts().sm, defines: Vec::new() };
        let image = Compiler::find_for(gpu.facts().driver)?.compile(&CEILINGS, &options, cache)?.image;
        let module = Module::load(gpu, &image)?;
        let kernel = |name| module.function(name, 0);
        Ok(Ceilings {
            gpu: gpu.clone(),
            stream: Stream::new(gpu)?,
            read: kernel("ceiling_read")?,
            write: kernel("ceiling_write")?,
            copy: kernel("ceiling_copy")?,
            empty: kernel("ceiling_empty")?,
        })
    }

    /// Device memory: read alone, copied (read and written), written alone, each for about `time`, the best of some grids. `bytes` of
    /// it are taken twice.
    ///
    /// # Errors
    /// There is too little memory, or the GPU fails.
    pub fn memory(&self, bytes: usize, time: Duration) -> Result<Vec<Ceiling>, CudaError> {
        let tile = CEILING_TILE as usize * 16;
        let bytes = (bytes / tile).max(1) * tile;
        let (from, to) = (Buffer::new(&self.gpu, bytes)?, Buffer::new(&self.gpu, bytes)?);
        let sums = Buffer::new(&self.gpu, bytes / tile * 4)?;
        // SAFETY: the whole of buffers that live; the stream is waited for below.
        unsafe {
            self.stream.fill(from.at(0), 1, bytes)?;
            self.stream.fill(to.at(0), 2, bytes)?;
        }
        self.stream.finish()?;
        let vectors = (bytes / 16) as u32;
        let grids = self.grids(vectors);
        let time = time / grids.len() as u32;
        let kinds = [
            ("read_tbs", &self.read, Args::new().at(sums.at(0)).at(from.at(0)).int(vectors), 1),
            ("copy_rw_tbs", &self.copy, Args::new().at(to.at(0)).at(from.at(0)).int(vectors), 2),
            ("write_tbs", &self.write, Args::new().at(to.at(0)).int(vectors).int(0x0303_0303), 1),
        ];
        let (mut found, mut sum) = (Vec::new(), 0);
        for (name, kernel, args, passes) in kinds {
            let (mut best, mut blocks) = (f64::INFINITY, 0);
            for &grid in &grids {
                // SAFETY: the arguments of the kernel; both buffers have so many vectors, and sums for the largest grid.
                let run = || unsafe { self.stream.launch(kernel, line(grid), args) };
                let seconds = self.seconds(time, run)?;
                (best, blocks) = if seconds < best { (seconds, grid) } else { (best, blocks) };
            }
            let how = format!("{} MiB, {blocks} blocks of {CEILING_THREADS}", bytes >> 20);
            found.push(ceiling(name, passes as f64 * bytes as f64 / best / 1e12, "TB/s", how));
            if name == "read_tbs" {
                sum = self.sum(&sums, *grids.last().unwrap_or(&1))?;
            }
        }
        // What was read, and what the copy and the write after it have left behind: words of ones, then of threes.
        let words = (bytes / 4) as u32;
        found[0].right = sum == words.wrapping_mul(0x0101_0101);
        let args = Args::new().at(sums.at(0)).at(to.at(0)).int(vectors);
        // SAFETY: as above.
        unsafe { self.stream.launch(&self.read, line(grids[0]), args)? };
        found[2].right = self.sum(&sums, grids[0])? == words.wrapping_mul(0x0303_0303);
        Ok(found)
    }

    /// Grids that are tried, the largest last: one tile for each block.
    fn grids(&self, vectors: u32) -> Vec<u32> {
        let tiles = vectors / CEILING_TILE;
        let sms = self.gpu.facts().multiprocessors;
        let mut grids: Vec<u32> = BLOCKS.iter().map(|blocks| blocks * sms).filter(|grid| *grid < tiles).collect();
        grids.push(tiles);
        grids
    }

    /// Sum of what so many blocks have read.
    fn sum(&self, sums: &Buffer, blocks: u32) -> Result<u32, CudaError> {
        let mut read = Pinned::new(&self.gpu, blocks as usize * 4)?;
        // SAFETY: nothing else uses the memory before the stream is waited for.
        unsafe { self.stream.download(&mut read, sums.at(0), blocks as usize * 4)? };
        self.stream.finish()?;
        // SAFETY: the copy is done.
        let words = unsafe { read.bytes() }.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        Ok(words.take(blocks as usize).fold(0, u32::wrapping_add))
    }

    /// Copies between pinned memory of the host and the device, each for about `time`.
    ///
    /// # Errors
    /// There is too little memory, or the GPU fails.
    pub fn host(&self, bytes: usize, time: Duration) -> Result<Vec<Ceiling>, CudaError> {
        let (mut pinned, device) = (Pinned::new(&self.gpu, bytes)?, Buffer::new(&self.gpu, bytes)?);
        // Memory that was never written may be one page, again and again.
        // SAFETY: the device has not been told of it.
        unsafe { pinned.bytes_mut() }.fill(1);
        // SAFETY: both memories are as large, live, and are not touched before the stream is waited for.
        let up = self.seconds(time, || unsafe { self.stream.upload(device.at(0), &pinned, bytes) })?;
        // SAFETY: as above.
        let down = self.seconds(time, || unsafe { self.stream.download(&mut pinned, device.at(0), bytes) })?;
        let small = bytes.min(64 << 10);
        // SAFETY: as above.
        let block = self.seconds(time, || unsafe { self.stream.download(&mut pinned, device.at(0), small) })?;
        let how = format!("{} MiB, pinned", bytes >> 20);
        Ok(vec![
            ceiling("h2d_gbs", bytes as f64 / up / 1e9, "GB/s", how.clone()),
            ceiling("d2h_gbs", bytes as f64 / down / 1e9, "GB/s", how),
            ceiling("d2h_64k_us", block * 1e6, "µs", format!("copies of {} KiB one after the other", small >> 10)),
        ])
    }

    /// Launches of a kernel that does nothing: on their own, in a graph of `count`, and a graph of one that is waited for.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn launches(&self, count: u32) -> Result<Vec<Ceiling>, CudaError> {
        // SAFETY: the kernel takes an address that it does not use.
        let launch = || unsafe { self.stream.launch(&self.empty, line(1), Args::new().at(0)) };
        let many = || (0..count).try_for_each(|_| launch());
        let time = Duration::from_millis(u64::from(count));
        many()?;
        self.stream.finish()?;
        let began = Instant::now();
        many()?;
        let issue = began.elapsed().as_secs_f64() / f64::from(count);
        self.stream.finish()?;
        let eager = self.seconds(time, many)? / f64::from(count);
        let (graph, one) = (self.stream.capture(many)?, self.stream.capture(launch)?);
        let node = self.seconds(time, || self.replay(&graph))? / f64::from(count);
        let (mut issues, mut waits) = (Vec::new(), Vec::new());
        for _ in 0..count.max(3) {
            let began = Instant::now();
            self.replay(&graph)?;
            issues.push(began.elapsed().as_secs_f64());
            self.stream.finish()?;
            let began = Instant::now();
            self.replay(&one)?;
            self.stream.finish()?;
            waits.push(began.elapsed().as_secs_f64());
        }
        let of = |count: u32| format!("{count} empty kernels");
        Ok(vec![
            ceiling("eager_issue_us", issue * 1e6, "µs", format!("the host's time, {}", of(count))),
            ceiling("eager_launch_us", eager * 1e6, "µs", format!("the device's time, {}", of(count))),
            ceiling("graph_node_us", node * 1e6, "µs", format!("a graph of {}", of(count))),
            ceiling(
                "graph_issue_us",
                median(&mut issues) * 1e6,
                "µs",
                format!("the host's time, a graph of {}", of(count)),
            ),
            ceiling(
                "graph_launch_and_sync_us",
                median(&mut waits) * 1e6,
                "µs",
                "the host's time, a graph of 1".to_owned(),
            ),
        ])
    }

    fn replay(&self, graph: &Graph) -> Result<(), CudaError> {
        // SAFETY: its kernels use no memory.
        unsafe { self.stream.replay(graph) }
    }

    /// A product of two square matrices of random numbers, bf16.
    ///
    /// # Errors
    /// cuBLASLt is missing, or there is too little memory.
    pub fn product(&self, size: u32) -> Result<SquareProduct<'_>, CudaError> {
        let bytes = (size as usize).pow(2) * 2;
        let buffer = |name: &str| self.random(name, bytes);
        let (x, weights, y) = (buffer("x")?, buffer("w")?, Buffer::new(&self.gpu, bytes)?);
        let mut blas = Blas::new(&self.gpu, std::collections::BTreeMap::new(), None)?;
        let shape = Shape { rows: size, inputs: size, outputs: size, wide: false };
        // SAFETY: matrices of the shape's sizes, which live as long as the structure; nothing else runs.
        unsafe { blas.tune(&self.stream, shape, x.at(0), &[weights.at(0)], y.at(0))? };
        Ok(SquareProduct { ceilings: self, blas, shape, x, weights, y })
    }

    /// Memory full of random numbers: what a product of zeros draws says nothing.
    fn random(&self, name: &str, bytes: usize) -> Result<Buffer, CudaError> {
        let buffer = Buffer::new(&self.gpu, bytes)?;
        let mut pinned = Pinned::new(&self.gpu, bytes.min(CHUNK))?;
        for first in (0..bytes).step_by(CHUNK) {
            let count = (bytes - first).min(CHUNK);
            // SAFETY: the copy before is done.
            Dummy { seed: 1 }.narrow(name, first / 2, unsafe { &mut pinned.bytes_mut()[..count] });
            // SAFETY: both memories live and are as large; the stream is waited for.
            unsafe { self.stream.upload(buffer.at(first), &pinned, count)? };
            self.stream.finish()?;
        }
        Ok(buffer)
    }

    /// Median of the seconds that something takes on the device, over about `time`, after two runs to get used to it.
    fn seconds(&self, time: Duration, mut run: impl FnMut() -> Result<(), CudaError>) -> Result<f64, CudaError> {
        let until = Instant::now() + time;
        let (begin, end) = (Event::new(&self.gpu)?, Event::new(&self.gpu)?);
        let mut sample = |runs: u32| {
            self.stream.record(&begin)?;
            (0..runs).try_for_each(|_| run())?;
            self.stream.record(&end)?;
            end.wait()?;
            Ok::<f64, CudaError>(end.since(&begin)? as f64 / 1e9 / f64::from(runs))
        };
        sample(1)?;
        let once = sample(1)?;
        let runs = (SAMPLE.as_secs_f64() / once.max(1e-7)).clamp(1.0, 1000.0) as u32;
        let mut samples = vec![sample(runs)?];
        while Instant::now() < until {
            samples.push(sample(runs)?);
        }
        Ok(median(&mut samples))
    }
}

/// A large matrix product that can be run for a while.
pub struct SquareProduct<'a> {
    ceilings: &'a Ceilings,
    blas: Blas,
    shape: Shape,
    x: Buffer,
    weights: Buffer,
    y: Buffer,
}

impl SquareProduct<'_> {
    /// Runs it for about `time`; its rate over the last half of it.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn run(&mut self, name: &'static str, time: Duration) -> Result<Ceiling, CudaError> {
        let Ceilings { gpu, stream, .. } = self.ceilings;
        let began = Instant::now();
        let events: Vec<Event> = (0..3).map(|_| Event::new(gpu)).collect::<Result<_, _>>()?;
        stream.record(&events[0])?;
        // Batches are put out while the one before runs; times are from the end of one to the end of another.
        let (mut batches, mut at) = (Vec::new(), 0);
        while began.elapsed() < time || batches.len() < 2 {
            let (before, after) = (at % 3, (at + 1) % 3);
            for _ in 0..QUEUED {
                let (x, weights, y) = (self.x.at(0), self.weights.at(0), self.y.at(0));
                // SAFETY: matrices of the shape's sizes, which live; the stream is waited for below.
                unsafe { self.blas.multiply(stream, self.shape, x, weights, y)? };
            }
            stream.record(&events[after])?;
            // One batch is out beyond this one's start.
            events[before].wait()?;
            if at > 0 {
                batches.push(events[before].since(&events[(at + 2) % 3])?);
            }
            at += 1;
        }
        stream.finish()?;
        batches.push(events[at % 3].since(&events[(at + 2) % 3])?);
        let settled = &batches[batches.len() / 2..];
        let seconds = settled.iter().sum::<u64>() as f64 / 1e9 / (settled.len() as f64 * f64::from(QUEUED));
        let flop = 2.0 * f64::from(self.shape.rows).powi(3);
        let how = format!("bf16, {0} × {0} × {0}, the last half of {1:.2} s", self.shape.rows, time.as_secs_f64());
        Ok(ceiling(name, flop / seconds / 1e12, "TFLOP/s", how))
    }
}

fn line(blocks: u32) -> Grid {
    Grid { blocks: [blocks, 1, 1], threads: CEILING_THREADS, shared: 0 }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
