//! A made-up run for tests: 20 minutes on two replicas with a burst in the middle that overfills the KV pool.

use std::path::Path;

use overbook_sim::results::rows::{Outcome, Recorder, RequestRow, StepRow};
use overbook_sim::results::summary::{Fleet, Slo, Summary, Tally};
use overbook_sim::results::timeline::Timeline;
use overbook_sim::time::{NS_PER_S, Span, Time};
use overbook_sim::workload::arrival::ClassId;

use crate::manifest::{Manifest, Status};
use crate::parquet::ParquetRecorder;
use crate::read::{RunData, SUMMARY};
use crate::report::{Report, Traffic, TrafficScale, Verdict};
use crate::run_dir::RunDir;
use crate::summary_json::summary_json;

/// `OVERBOOK_SAMPLE=dir` leaves a sample's output in `dir`, to be looked at.
#[expect(clippy::disallowed_methods, reason = "a request of the developer who runs the tests")]
pub(crate) fn leave_on_request(name: &str, text: &str) {
    if let Ok(dir) = std::env::var("OVERBOOK_SAMPLE") {
        std::fs::write(format!("{dir}/{name}"), text).expect("the sample's folder");
    }
}

/// Repeatable noise (xorshift), uniform in 0..1.
struct Noise(u64);

impl Noise {
    fn draw(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Requests per second at `t` [s]: a slow swing with a burst from 500 s to 620 s.
fn rate(t: f64) -> f64 {
    let burst = if (500.0..620.0).contains(&t) { 14.0 } else { 0.0 };
    12.0 + 4.0 * (t / 190.0).sin() + burst
}

pub(crate) fn report() -> Report {
    let limit = |s: f64| Some(Span::from_secs_f64(s));
    let mut tally = Tally::new(Slo { ttft: limit(2.0), tpot: limit(0.05), ..Slo::default() });
    let mut timeline = Timeline::default();
    let noise = &mut Noise(88_172_645_463_325_252);
    let (mut t, mut backlog, mut request) = (0.0, 0.0f64, 0);
    while t < 1200.0 {
        let gap = -(1.0 - noise.draw()).ln() / rate(t);
        backlog = (backlog + 1.0 - gap * 17.0).max(0.0);
        t += gap;
        let row = request_row(request, t, backlog, noise);
        count(&row, &mut tally, &mut timeline, t, gap, backlog);
        request += 1;
    }
    let classes = ["conversation".to_owned(), "api".to_owned()];
    let summary = tally.finish(Fleet { replicas: 2, lanes: 2, blocks: 56_000, served: None, gpu_time: None }, &classes);
    let verdicts = vec![
        Verdict::at_most("ttft_p99", 2.0, &summary),
        Verdict::at_most("tpot_p99", 0.05, &summary),
        Verdict::at_least("goodput_fraction", 0.95, &summary),
    ];
    around(summary, timeline, verdicts)
}

fn request_row(request: u64, t: f64, backlog: f64, noise: &mut Noise) -> RequestRow {
    let at = |s: f64| Time::from_secs_f64(s);
    let output = 1 + (-(noise.draw()).ln() * 180.0) as u32;
    let start = t + backlog / 17.0;
    let first = start + 0.04 + 0.12 * noise.draw() * noise.draw();
    let tpot = 0.012 + 0.012 * noise.draw() + 0.0002 * backlog.min(90.0);
    let expired = backlog > 420.0 && noise.draw() < 0.03;
    RequestRow {
        request,
        replica: (request % 2) as u32,
        class: ClassId(u16::from(noise.draw() < 0.3)),
        session: None,
        outcome: if expired { Outcome::Expired } else { Outcome::Finished },
        arrival: at(t),
        start: (!expired).then(|| at(start)),
        first_token: (!expired).then(|| at(first)),
        end: if expired { at(t + 20.0) } else { at(first + tpot * f64::from(output - 1)) },
        prompt_tokens: 1 + (-(noise.draw()).ln() * 600.0) as u32,
        output_tokens: if expired { 0 } else { output },
        cached_tokens: 0,
        preemptions: 0,
        recomputed_tokens: u64::from(backlog > 300.0) * 40,
        longest_gap: (!expired && output > 1).then(|| Span::from_secs_f64(tpot * 1.25)),
        swapped_tokens: 0,
        frontend: Span::ZERO,
        attempts: 1,
    }
}

fn count(row: &RequestRow, tally: &mut Tally, timeline: &mut Timeline, t: f64, gap: f64, backlog: f64) {
    tally.request(row);
    if let Some(tpot) = row.tpot() {
        for i in 0..8 {
            tally.gaps(tpot.0 * (13 + i) / 16, u64::from(row.output_tokens - 1) / 8);
        }
    }
    let (from, to) = (Time::from_secs_f64(t - gap), Time::from_secs_f64(t));
    let running = (rate(t) * 3.4 + backlog * 0.6).min(128.0) as u32;
    let used = (f64::from(running) * 215.0).min(27_990.0) as u64;
    for _ in 0..2 {
        timeline.hold(from, to, running / 2, backlog as u32 / 2, used / 2);
        tally.hold(from, to, running / 2, backlog as u32 / 2, used, 28_000);
    }
    timeline.arrival(row.arrival);
    if let (Some(first), Some(ttft)) = (row.first_token, row.ttft()) {
        timeline.first_token(first, ttft);
    }
    timeline.finish(row.end);
    timeline.tokens(row.end, u64::from(row.output_tokens));
    let full = backlog > 150.0 && row.request.is_multiple_of(9);
    timeline.preempt(row.arrival, u64::from(full));
    tally.preemptions(u64::from(full));
    tally.step(&step_row(row, running, used, Span((gap * 0.8 * NS_PER_S as f64) as u64)));
    let step = (9.0 + 0.06 * f64::from(running) + f64::from(row.prompt_tokens) / 300.0) * 1e6 * f64::from(1 << 20);
    tally.gap_ramp_fixed(step as u64, 1 << 28, 14, 0);
    tally.plans(3);
}

fn step_row(request: &RequestRow, running: u32, used_blocks: u64, busy: Span) -> StepRow {
    StepRow {
        replica: request.replica,
        lane: 0,
        start: request.arrival,
        end: request.arrival + busy,
        steps: 14,
        decode_seqs: running / 2,
        prefill_seqs: u32::from(request.request.is_multiple_of(3)),
        prefill_tokens: if request.request.is_multiple_of(3) { request.prompt_tokens } else { 0 },
        decode_context: u64::from(running) * 700,
        prefill_context: 0,
        running: running / 2,
        waiting: 0,
        used_blocks,
        preempted: 0,
        swapped_blocks: 0,
    }
}

/// A run in which nothing arrived.
pub(crate) fn empty() -> Report {
    let summary = Tally::new(Slo::default()).finish(Fleet::default(), &[]);
    around(summary, Timeline::default(), vec![])
}

fn around(summary: Summary, timeline: Timeline, verdicts: Vec<Verdict>) -> Report {
    let fact = |what: &str, value: &str| (what.to_owned(), value.to_owned());
    Report {
        title: "Chat & API on two H200, lunch-time burst".to_owned(),
        status: Status::Complete,
        summary,
        timeline,
        traffic: Some(traffic()),
        recorded_traffic: None,
        clock: None,
        verdicts,
        assumptions: vec![
            fact("Model", "Llama-3.1-8B, bf16 weights, bf16 KV"),
            fact("Fleet", "2 replicas × 1 H200 (141 GB), tensor parallel 1"),
            fact("KV pool", "28,000 blocks of 16 tokens per replica"),
            fact("Scheduler", "vllm v1, 8,192 batched tokens, 256 sequences, chunked prefill"),
            fact("Router", "join-shortest-queue"),
            fact("Workload", "generated: Poisson 12/s with a burst of 26/s for 2 min, BurstGPT-like lengths"),
            fact("Length knowledge", "max_new_tokens from the class quantile (no oracle)"),
            fact("Seed", "0"),
        ],
        remarks: Vec::new(),
        trust: None,
        trace_rows: Vec::new(),
        calibration:
            "Cost model: roofline with imported kernel efficiencies; not validated on this hardware: extrapolated."
                .to_owned(),
        command: "overbook run scenarios/examples/first.yaml --seed 0 --set fleet.replicas=2".to_owned(),
        tool: "overbook 0.1.0".to_owned(),
        directory: "runs/first-3f9a1c20".to_owned(),
    }
}

fn traffic() -> Traffic {
    let scale = |peak_rate: f64, dispersion| TrafficScale {
        peak_rate: Some(peak_rate),
        peak_over_mean: Some(peak_rate / 12.0),
        dispersion,
    };
    let hour = TrafficScale { peak_rate: None, peak_over_mean: None, dispersion: None };
    Traffic { requests: 14_800, mean_rate: Some(12.0), scales: [scale(41.0, Some(2.2)), scale(30.0, Some(61.5)), hour] }
}

pub(crate) fn manifest(status: Status) -> Manifest {
    Manifest {
        status,
        exit_status: if status == Status::Complete { 0 } else { 130 },
        tool_version: "0.1.0".to_owned(),
        commit: Some("fe94a45".to_owned()),
        dirty: Some(false),
        target: "x86_64-unknown-linux-gnu".to_owned(),
        rustc: "1.95.0".to_owned(),
        plan_hash: "3f9a1c20".to_owned(),
        seed: 0,
        trace_hash: None,
        trace_rows: std::collections::BTreeMap::new(),
        command: vec!["overbook".to_owned(), "run".to_owned(), "first.yaml".to_owned()],
        started: "2026-01-31T12:34:56Z".to_owned(),
        wall_s: 1.5,
        cpu_s: Some(1.25),
        host_cpu: None,
        server: None,
    }
}

/// The rows of the first `n` requests and of as many segments.
pub(crate) fn rows(n: u64) -> (Vec<RequestRow>, Vec<StepRow>) {
    let noise = &mut Noise(88_172_645_463_325_252);
    let mut requests = Vec::new();
    let mut steps = Vec::new();
    let (mut t, mut backlog) = (0.0, 0.0f64);
    for i in 0..n {
        let gap = -(1.0 - noise.draw()).ln() / rate(t);
        backlog = (backlog + 1.0 - gap * 17.0).max(0.0);
        t += gap;
        let row = request_row(i, t, backlog, noise);
        let running = (rate(t) * 3.4 + backlog * 0.6).min(128.0) as u32;
        steps.push(step_row(&row, running, u64::from(running) * 200, Span((gap * 0.8 * NS_PER_S as f64) as u64)));
        requests.push(row);
    }
    (requests, steps)
}

/// A run directory with the sample's figures and these rows.
pub(crate) fn run_dir(dir: &Path, requests: &[RequestRow], steps: &[StepRow]) -> RunData {
    let run = RunDir::create(dir, true).expect("new");
    let mut recorder = ParquetRecorder::create(run.path(), true).expect("create");
    for row in requests {
        recorder.request(row).expect("row");
    }
    for row in steps {
        recorder.step(row).expect("row");
    }
    recorder.finish(&["conversation".to_owned(), "api".to_owned()]).expect("finish");
    run.write(SUMMARY, summary_json(&report())).expect("write");
    run.finish(&manifest(Status::Complete)).expect("finish");
    RunData::open(dir).expect("a run")
}
