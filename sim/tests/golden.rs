//! Every line of the recorded schedules of vLLM's own scheduler.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use overbook_sim::golden::{GoldenReplay, GoldenWorkload};

fn lines(path: PathBuf) -> impl Iterator<Item = String> {
    let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let reader = BufReader::new(zstd::Decoder::new(file).expect("a zstd stream"));
    reader.lines().map(|l| l.expect("text"))
}

#[test]
fn every_recorded_line_of_vllm_is_reproduced() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/bench/vllm-golden");
    if !folder.exists() {
        eprintln!("skipped: no golden schedules at {}", folder.display());
        return;
    }
    let mut steps = lines(folder.join("steps.jsonl.zst"));
    let (mut workloads, mut count, mut bad) = (0, 0, Vec::new());
    let mut pending: Option<String> = None;
    for line in lines(folder.join("workloads.jsonl.zst")) {
        let workload: GoldenWorkload = serde_json::from_str(&line).expect("a workload");
        let mut replay = GoldenReplay::new(&workload);
        let prefix = format!("{{\"w\":{},", workload.w);
        let mut good = true;
        loop {
            let expected = match pending.take().or_else(|| steps.next()) {
                Some(line) if line.starts_with(&prefix) => Some(line),
                other => {
                    pending = other;
                    None
                }
            };
            if !good {
                if expected.is_none() { break; }
                continue;
            }
            let got = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| replay.next_line()));
            let got = match got { Ok(g) => g.map_err(|e| e.to_string()), Err(_) => Err("panic".into()) };
            let got = match got { Ok(g) => g, Err(e) => Some(e) };
            if got != expected {
                bad.push(format!("{} {}: expected {:?}\n   got {:?}", workload.w, workload.kind, expected, got));
                good = false;
                if expected.is_none() { break; }
                continue;
            }
            if expected.is_none() { break; }
            count += 1;
            if count % 512 == 0 {
                replay.replica().audit().expect("laws hold");
            }
        }
        workloads += 1;
    }
    eprintln!("{workloads} workloads, {count} lines, {} bad", bad.len());
    for b in bad.iter().take(12) { eprintln!("{b}"); }
    assert!(bad.is_empty());
}
