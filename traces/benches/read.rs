//! Requests per second of the readers and the generators, on one core.

use std::fmt::Write as _;
use std::io::Write as _;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use overbook_sim::units::Rate;
use overbook_sim::workload::arrival::Workload;
use overbook_traces::{
    ArrivalSpec, Columns, Failures, GenerateSpec, Layout, LengthSpec, ScaleSpec, TimeUnit, TraceSpec, burstiness,
    write_requests,
};
use tempfile::NamedTempFile;

const ROWS: u64 = 1_000_000;

fn drain(workload: &mut dyn Workload) -> u64 {
    let mut tokens = 0;
    while let Some(arrival) = workload.next_arrival().expect("reads") {
        tokens += u64::from(arrival.prompt_tokens) + u64::from(arrival.output_tokens);
    }
    tokens
}

/// Rows with the look of a format: lengths and times vary in digits.
fn table(header: &str, row: impl Fn(u64, &mut String)) -> String {
    let mut text = format!("{header}\n");
    for i in 0..ROWS {
        row(i, &mut text);
        text.push('\n');
    }
    text
}

fn burstgpt() -> String {
    table("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", |i, text| {
        let (prompt, output) = (1 + i * 7919 % 2000, i * 104_729 % 600);
        let (model, log) = if i % 3 == 0 { ("GPT-4", "API log") } else { ("ChatGPT", "Conversation log") };
        write!(text, "{},{model},{prompt},{output},{},{log}", i * 3, prompt + output).expect("written");
    })
}

fn azure() -> String {
    table("TIMESTAMP,ContextTokens,GeneratedTokens", |i, text| {
        let (minute, second) = (i / 60_000, i / 1000 % 60);
        let (hour, minute, prompt) = (minute / 60, minute % 60, 1 + i * 7919 % 4000);
        write!(text, "2023-11-16 {hour:02}:{minute:02}:{second:02}.{:03}5900,{prompt},{}", i % 1000, 1 + i % 500)
            .expect("written");
    })
}

/// JSON lines as Mooncake writes them, with 24 blocks per prompt or with none.
fn mooncake(blocks: u64) -> String {
    let mut text = String::new();
    for i in 0..ROWS {
        let prompt = if blocks == 0 { 1 + i * 7919 % 4000 } else { blocks * 512 - i % 512 };
        write!(text, "{{\"timestamp\": {}, \"input_length\": {prompt}, \"output_length\": {}", i * 3, 1 + i % 500)
            .expect("written");
        if blocks > 0 {
            let ids: Vec<String> = (0..blocks).map(|block| (i / 4 * blocks + block).to_string()).collect();
            write!(text, ", \"hash_ids\": [{}]", ids.join(", ")).expect("written");
        }
        text.push_str("}\n");
    }
    text
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    let burstgpt = burstgpt();
    let zstd = zstd::encode_all(burstgpt.as_bytes(), 3).expect("packs");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(burstgpt.as_bytes()).expect("packs");
    let gzip = gzip.finish().expect("packs");
    let cases = [
        ("burstgpt", burstgpt.clone().into_bytes()),
        ("burstgpt.zst", zstd),
        ("burstgpt.gz", gzip),
        ("azure", azure().into()),
        ("jsonl", mooncake(0).into()),
        ("mooncake", mooncake(24).into()),
    ];
    for (name, bytes) in cases {
        let mut file = NamedTempFile::new().expect("temporary file");
        file.write_all(&bytes).expect("written");
        let mut spec = TraceSpec::new(file.path());
        spec.time_scale = Some(100.0);
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| drain(&mut *spec.open().expect("opens")));
        });
    }
    let mut file = NamedTempFile::new().expect("temporary file");
    file.write_all(burstgpt.as_bytes()).expect("written");
    let parquet = NamedTempFile::with_suffix(".parquet").expect("temporary file");
    let mut workload = TraceSpec::new(file.path()).open().expect("opens");
    write_requests(&mut *workload, Layout::Parquet, &[], parquet.reopen().expect("opens")).expect("written");
    let spec = TraceSpec::new(parquet.path());
    group.bench_function("parquet", |b| b.iter(|| drain(&mut *spec.open().expect("opens"))));
    let mut file = NamedTempFile::new().expect("temporary file");
    file.write_all(azure().as_bytes()).expect("written");
    let columns = Columns { unit: TimeUnit::Datetime, ..Columns::new("TIMESTAMP", "ContextTokens", "GeneratedTokens") };
    let spec = TraceSpec { columns: Some(columns), ..TraceSpec::new(file.path()) };
    group.bench_function("columns", |b| b.iter(|| drain(&mut *spec.open().expect("opens"))));
    let spec = TraceSpec { scale: Some(ScaleSpec::Multiply(1.5)), columns: None, ..spec };
    group.throughput(Throughput::Elements(ROWS * 3 / 2));
    group.bench_function("azure multiplied", |b| b.iter(|| drain(&mut *spec.open().expect("opens"))));
    group.finish();
}

fn generate(c: &mut Criterion) {
    let mut group = c.benchmark_group("generate");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    let rate = Rate(100.0);
    let quantiles = || vec![(0.0, 8), (0.1, 25), (0.5, 336), (0.9, 1322), (0.99, 2488), (1.0, 25_085)];
    let table = || LengthSpec::Quantiles { prompt: quantiles(), output: quantiles() };
    let cases = [
        ("poisson+quantiles", ArrivalSpec::Poisson { rate }, table()),
        ("gamma+quantiles", ArrivalSpec::Gamma { rate, shape: 0.5 }, table()),
        ("burstgpt-day+burstgpt", ArrivalSpec::BurstgptDay { mean_rate: rate, shape: 1.0 }, LengthSpec::Burstgpt),
        (
            "burstgpt+burstgpt",
            ArrivalSpec::Burstgpt {
                mean_rate: Some(rate),
                from_hour: 0,
                hours: None,
                shape: 1.16,
                failures: Failures::Keep,
            },
            LengthSpec::Burstgpt,
        ),
    ];
    for (name, arrivals, lengths) in cases {
        let spec = GenerateSpec {
            arrivals,
            lengths,
            requests: Some(ROWS),
            duration: None,
            sessions: None,
            repeats: None,
            transcripts: None,
        };
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| drain(&mut *spec.open(1).expect("opens")));
        });
    }
    let (arrivals, lengths) = (ArrivalSpec::Poisson { rate }, table());
    let spec = GenerateSpec {
        arrivals,
        lengths,
        requests: Some(ROWS),
        duration: None,
        sessions: None,
        repeats: None,
        transcripts: None,
    };
    group.bench_function("burstiness", |b| b.iter(|| burstiness(&mut *spec.open(1).expect("opens"))));
    group.finish();
}

criterion_group!(benches, read, generate);
criterion_main!(benches);
