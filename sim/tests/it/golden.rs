//! Every line of the recorded schedules of vLLM's and SGLang's own schedulers.

use std::io::{BufRead, BufReader};
use std::iter::Peekable;
use std::path::Path;

use overbook_sim::golden::sglang::{SglangReplay, SglangWorkload};
use overbook_sim::golden::{GoldenReplay, GoldenWorkload};
use overbook_sim::schedulers::sglang::RetractionPolicy;
use overbook_sim::schedulers::sglang::v0_5::Constants;
use overbook_sim::serving::replica::Replica;
use overbook_sim::serving::step::Infeasible;
use overbook_test_groups::{in_clone, whole, whole_files};

/// Lines between two audits of the replica.
const AUDIT_EVERY: usize = 256;

fn lines(path: &Path) -> impl Iterator<Item = String> + use<> {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    BufReader::new(zstd::Decoder::new(file).unwrap()).lines().map(Result::unwrap)
}

/// What is compared: a replay of one workload.
trait Replay {
    fn next_line(&mut self) -> Result<Option<String>, Infeasible>;
    fn replica(&self) -> &Replica;
}

impl Replay for GoldenReplay<'_> {
    fn next_line(&mut self) -> Result<Option<String>, Infeasible> {
        self.next_line()
    }

    fn replica(&self) -> &Replica {
        self.replica()
    }
}

impl Replay for SglangReplay<'_> {
    fn next_line(&mut self) -> Result<Option<String>, Infeasible> {
        self.next_line()
    }

    fn replica(&self) -> &Replica {
        self.replica()
    }
}

/// Replays a workload against its recorded lines; returns how many there are.
fn replay(
    (number, kind): (u64, &str),
    mut replay: impl Replay,
    recorded: &mut Peekable<impl Iterator<Item = String>>,
) -> Result<usize, String> {
    let prefix = format!("{{\"w\":{number},");
    let mut count = 0;
    loop {
        let expected = recorded.next_if(|line| line.starts_with(&prefix));
        let got = replay.next_line().map_err(|e| e.to_string())?;
        if got != expected {
            return Err(format!("workload {number} ({kind}), line {count}\n recorded {expected:?}\n ours     {got:?}"));
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
        let name = (workload.w, workload.kind.as_str());
        count += replay(name, GoldenReplay::new(&workload), &mut recorded).unwrap_or_else(|e| panic!("{e}"));
        workloads += 1;
    }
    assert_eq!(recorded.next(), None, "lines of no workload");
    assert_eq!((workloads, count), (175, 300_900));
}

/// Replays all of SGLang's workloads in a folder; returns how many there are, and their lines.
fn sglang(folder: &Path) -> (usize, usize) {
    let mut recorded = lines(&folder.join("steps.jsonl.zst")).peekable();
    let (mut workloads, mut count) = (0, 0);
    for line in lines(&folder.join("workloads.jsonl.zst")) {
        let workload: SglangWorkload = serde_json::from_str(&line).unwrap();
        assert_eq!(workload.problem(), None);
        let name = (workload.w, workload.kind.as_str());
        count += replay(name, SglangReplay::new(&workload), &mut recorded).unwrap_or_else(|e| panic!("{e}"));
        workloads += 1;
    }
    assert_eq!(recorded.next(), None, "lines of no workload");
    (workloads, count)
}

#[test]
fn every_recorded_line_of_sglang_is_reproduced() {
    assert_eq!(sglang(&in_clone("sglang-golden")), (17, 11_393));
}

fn every_line_of_the_whole_record_of_sglang() {
    assert_eq!(sglang(&whole("sglang-golden")), (103, 110_398));
}

/// A wrong rule.
type Change = fn(&mut SglangWorkload, &mut Constants);

/// Workloads whose replay differs from the record under a change of the rules.
fn differ(change: Change) -> usize {
    let folder = in_clone("sglang-golden");
    let recorded: Vec<String> = lines(&folder.join("steps.jsonl.zst")).collect();
    let workloads = lines(&folder.join("workloads.jsonl.zst"));
    let differs = workloads.filter(|line| {
        let mut workload: SglangWorkload = serde_json::from_str(line).unwrap();
        let prefix = format!("{{\"w\":{},", workload.w);
        let mut own = recorded.iter().filter(|line| line.starts_with(&prefix)).cloned().peekable();
        let mut constants = Constants::default();
        change(&mut workload, &mut constants);
        let name = (workload.w, workload.kind.as_str());
        replay(name, SglangReplay::with_constants(&workload, constants), &mut own).is_err()
    });
    differs.count()
}

#[test]
fn wrong_rules_are_seen() {
    assert_eq!(differ(|_, _| ()), 0);
    let wrong: [(&str, Change); 15] = [
        ("requests that ignore the end are expected to stop early", |w, _| w.req.iter_mut().for_each(|r| r.4 = 0)),
        ("limits are not clipped where memory is estimated", |w, _| w.cfg.clip_max_new_tokens = u32::MAX),
        ("prompts in chunks have the whole budget", |w, _| w.cfg.max_prefill_tokens = 16_384),
        ("a single free place is enough", |w, _| w.cfg.min_free_slots_delay = None),
        ("a token less of memory than there is", |w, _| w.cfg.max_total_tokens -= u64::from(w.cfg.page_size)),
        ("outputs are not what later prompts begin with", |w, _| {
            w.req.iter_mut().flat_map(|r| &mut r.1).filter(|s| s.0 < 0).for_each(|s| s.0 -= 1_000_000);
        }),
        ("ratio begins too low", |_, c| c.init_new_token_ratio = 0.69),
        ("ratio decays too fast", |_, c| c.new_token_ratio_decay_steps = 599),
        ("no eviction for those that remain after a retraction", |_, c| c.retract_decode_steps = 0),
        ("waiting prefixes are freshened once only", |_, c| c.prefix_refresh_interval = u64::MAX),
        ("long queues are sorted by prefix too", |_, c| c.prefix_match_max = usize::MAX),
        ("mixed steps are plain ones", |w, _| w.cfg.enable_mixed_chunk = false),
        ("decodes are not held for", |w, _| w.cfg.prefill_decode_interval = None),
        ("nobody is preempted for priority", |w, _| w.cfg.disable_priority_preemption = true),
        ("the least urgent is retracted last", |w, _| w.cfg.retraction_policy = RetractionPolicy::Length),
    ];
    for (rule, change) in wrong {
        assert!(differ(change) > 0, "not seen: {rule}");
    }
}

whole_files!(every_line_of_the_whole_record_of_sglang);
