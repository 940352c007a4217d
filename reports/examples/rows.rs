//! Measures what a result row costs: `cargo run --release -p overbook-reports --example rows [REQUESTS]`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement reads clocks")]
#![allow(clippy::print_stdout, reason = "an example that measures")]

use std::time::Instant;

use overbook_reports::parquet::ParquetRecorder;
use overbook_sim::results::histogram::Histogram;
use overbook_sim::results::rows::{Outcome, Recorder, RequestRow, StepRow};
use overbook_sim::results::summary::{Slo, Tally};
use overbook_sim::results::timeline::Timeline;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::ClassId;

/// Rows repeat after this many: longer than a row group, so that compression cannot profit.
const PERIOD: u64 = 100_000;

/// A small generator of plausible noise (xorshift).
struct Noise(u64);

impl Noise {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn request(i: u64, noise: &mut Noise) -> RequestRow {
    let arrival = i * 25_000_000 + noise.below(20_000_000);
    let start = arrival + noise.below(30_000_000);
    let first = start + 20_000_000 + noise.below(90_000_000);
    let output = 1 + noise.below(600) as u32;
    RequestRow {
        request: i,
        replica: noise.below(4) as u32,
        class: ClassId(noise.below(2) as u16),
        session: None,
        outcome: if noise.below(100) == 0 { Outcome::Cancelled } else { Outcome::Finished },
        arrival: Time(arrival),
        start: Some(Time(start)),
        first_token: (noise.below(200) > 0).then_some(Time(first)),
        end: Time(first + u64::from(output) * (9_000_000 + noise.below(1_000_000))),
        prompt_tokens: 1 + noise.below(2000) as u32,
        output_tokens: output,
        cached_tokens: 0,
        preemptions: u32::from(noise.below(50) == 0),
        recomputed_tokens: 0,
        longest_gap: None,
        swapped_tokens: 0,
        frontend: Span::ZERO,
        attempts: 1,
    }
}

fn step(i: u64, noise: &mut Noise) -> StepRow {
    let start = i * 6_000_000 + noise.below(5_000_000);
    let steps = 1 + noise.below(20);
    let decodes = 40 + noise.below(30);
    StepRow {
        replica: (i % 4) as u32,
        lane: 0,
        start: Time(start),
        end: Time(start + steps * (9_000_000 + noise.below(500_000))),
        steps,
        decode_seqs: decodes as u32,
        prefill_seqs: u32::from(steps == 1),
        prefill_tokens: if steps == 1 { noise.below(2000) as u32 } else { 0 },
        decode_context: decodes * 700 + noise.below(5000),
        prefill_context: 0,
        running: decodes as u32,
        waiting: 0,
        used_blocks: decodes * 44 + noise.below(100),
        preempted: 0,
        swapped_blocks: 0,
    }
}

fn measure(what: &str, n: u64, mut work: impl FnMut(u64)) {
    let start = Instant::now();
    (0..n).for_each(&mut work);
    println!("{what:<40} {:>8.1} ns", start.elapsed().as_nanos() as f64 / n as f64);
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let n: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |n| n.parse())?;
    let noise = &mut Noise(88_172_645_463_325_252);
    let requests: Vec<_> = (0..PERIOD).map(|i| request(i, noise)).collect();
    let steps: Vec<_> = (0..4 * PERIOD).map(|i| step(i, noise)).collect();

    let mut tally = Tally::new(Slo { ttft: Some(Span(1 << 28)), ..Slo::default() });
    let mut timeline = Timeline::default();
    let mut histogram = Histogram::new();
    measure("Histogram::record", 10 * n, |i| {
        histogram.record(requests[(i % PERIOD) as usize].end.0 >> 8);
    });
    measure("Tally::request", n, |i| tally.request(&requests[(i % PERIOD) as usize]));
    measure("Tally::gaps", 10 * n, |i| tally.gaps(9_000_000 + (i & 0xfffff), 30));
    measure("Tally::gap_ramp (20 values)", n, |i| {
        tally.gap_ramp_fixed((9_000_000 + (i & 0xfffff)) << 20, 900 << 20, 20, 30);
    });
    measure("Tally::step", n, |i| tally.step(&steps[(i % PERIOD) as usize]));
    measure("Timeline::hold in one bin", 10 * n, |i| {
        timeline.hold(Time(i * 1000), Time(i * 1000 + 900), 3, 1, 50);
    });

    let dir = std::env::temp_dir().join(format!("overbook-rows-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut recorder = ParquetRecorder::create(&dir, true)?;
    let start = Instant::now();
    for i in 0..n {
        let shift = i / PERIOD * PERIOD;
        let mut row = requests[(i % PERIOD) as usize].clone();
        row.request = i;
        let later = Span(shift * 25_000_000);
        row.arrival += later;
        row.start = row.start.map(|t| t + later);
        row.first_token = row.first_token.map(|t| t + later);
        row.end += later;
        recorder.request(&row)?;
        for k in 0..4 {
            let mut row = steps[((i * 4 + k) % (4 * PERIOD)) as usize].clone();
            row.start += later;
            row.end += later;
            recorder.step(&row)?;
        }
    }
    let written = recorder.finish(&["chat".to_owned(), "api".to_owned()])?;
    let ns = start.elapsed().as_nanos() as f64 / n as f64;
    println!("1 request row and 4 segment rows         {ns:>8.1} ns");
    println!(
        "bytes per row: request {:.1}, segment {:.1}",
        written.request_bytes as f64 / written.request_rows as f64,
        written.step_bytes as f64 / written.step_rows as f64
    );
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
