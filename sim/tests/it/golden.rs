//! Every line of the recorded schedules of vLLM's own scheduler.

use std::io::{BufRead, BufReader};
use std::iter::Peekable;
use std::path::Path;

use overbook_sim::golden::{GoldenReplay, GoldenWorkload};
use overbook_test_groups::in_clone;

/// Lines between two audits of the replica.
const AUDIT_EVERY: usize = 256;

fn lines(path: &Path) -> impl Iterator<Item = String> + use<> {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    BufReader::new(zstd::Decoder::new(file).unwrap()).lines().map(Result::unwrap)
}

/// Replays a workload against its recorded lines; returns how many there are.
fn replay(workload: &GoldenWorkload, recorded: &mut Peekable<impl Iterator<Item = String>>) -> Result<usize, String> {
    let mut replay = GoldenReplay::new(workload);
    let prefix = format!("{{\"w\":{},", workload.w);
    let mut count = 0;
    loop {
        let expected = recorded.next_if(|line| line.starts_with(&prefix));
        let got = replay.next_line().map_err(|e| e.to_string())?;
        if got != expected {
            return Err(format!(
                "workload {} ({}), line {count}\n recorded {expected:?}\n ours     {got:?}",
                workload.w, workload.kind
            ));
        }
        if expected.is_none() {
            return Ok(count);
        }
        count += 1;
        if count % AUDIT_EVERY == 0 {
            replay.replica().audit()?;
        }
    }
}

#[test]
fn every_recorded_line_of_vllm_is_reproduced() {
    let folder = in_clone("vllm-golden");
    let mut recorded = lines(&folder.join("steps.jsonl.zst")).peekable();
    let (mut workloads, mut count) = (0, 0);
    for line in lines(&folder.join("workloads.jsonl.zst")) {
        let workload: GoldenWorkload = serde_json::from_str(&line).unwrap();
        count += replay(&workload, &mut recorded).unwrap_or_else(|e| panic!("{e}"));
        workloads += 1;
    }
    assert_eq!(recorded.next(), None, "lines of no workload");
    assert_eq!((workloads, count), (175, 300_900));
}
