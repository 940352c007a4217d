//! `overbook kv replay`: prefix caches under eviction policies, beside their bound.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use overbook_test_groups::in_clone;
use serde_json::Value;

use super::home::{Home, Ran};

/// Mooncake's conversation hour, whole.
fn mooncake() -> PathBuf {
    in_clone("mooncake/conversation_trace.jsonl.zst")
}

/// A scenario of conversations of several turns.
const TALKS: &str = "\
version: 1
name: talks
workload:
  generate:
    arrivals: { poisson: { rate: 2/s } }
    lengths:
      independent:
        prompt: { log-normal: { median: 500, sigma: 1.0, max: 4000 } }
        output: { log-normal: { median: 200, sigma: 0.5, max: 1000 } }
    sessions:
      turns: { quantiles: [[0, 1], [1, 6]] }
      follow_up: { log-normal: { median: 100, sigma: 1.0, max: 1000 } }
      think_median: 20s
      think_sigma: 1.0
      shared_prefix_tokens: 1024
      max_prompt_tokens: 9000
    requests: 400
model: llama-3.1-8b
gpu: h200
";

fn replay(home: &Home, more: &[&str]) -> Ran {
    let trace = mooncake();
    let args = ["kv", "replay", trace.to_str().expect("a path in UTF-8")];
    home.run(args.iter().chain(more))
}

/// Prompt tokens and block ids of every request, read without any of our readers.
fn prompts() -> Vec<(u64, Vec<u64>)> {
    let text = zstd::decode_all(std::fs::File::open(mooncake()).expect("a trace")).expect("unpacked");
    let read = |line: &str| {
        let row: Value = serde_json::from_str(line).expect("a row");
        let ids = row["hash_ids"].as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id")).collect();
        (row["input_length"].as_u64().expect("a length"), ids)
    };
    String::from_utf8(text).expect("UTF-8").lines().map(read).collect()
}

/// vLLM's LRU in twenty lines: of the full blocks that were used longest ago, the one that lies deepest goes. Blocks found, and
/// those before which nothing of the prompt was missing.
fn plain_lru(capacity: usize) -> (u64, u64) {
    let (mut order, mut uses) = (BTreeSet::<(usize, Reverse<usize>, u64)>::new(), HashMap::new());
    let (mut found, mut leading) = (0, 0);
    for (request, (tokens, ids)) in prompts().into_iter().enumerate() {
        let mut whole = true;
        for (depth, &id) in ids.iter().take(tokens as usize / 512).enumerate() {
            let now = (request, Reverse(depth), id);
            if let Some(before) = uses.insert(id, now) {
                order.remove(&before);
                found += 1;
                leading += u64::from(whole);
            } else {
                whole = false;
                if order.len() == capacity
                    && let Some((.., victim)) = order.pop_first()
                {
                    uses.remove(&victim);
                }
            }
            order.insert(now);
        }
    }
    (found, leading)
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn cells(document: &Value) -> impl Iterator<Item = (&str, &Vec<Value>)> {
    let policies = document["policies"].as_array().expect("policies");
    policies.iter().map(|row| (row["policy"].as_str().expect("a name"), row["caches"].as_array().expect("caches")))
}

/// The gate of this command: what stands in the trace is what it says, whatever the policy.
#[test]
fn mooncakes_hour_repeats_what_it_repeats() {
    let home = Home::new();
    let all = replay(&home, &["--sizes", "300,1%,20k", "--json"]).ends(0).json();
    // Counted from the file: 36.6 % of all blocks were there before.
    let (mut seen, mut blocks, mut again) = (HashSet::new(), 0, 0);
    for (tokens, ids) in prompts() {
        blocks += ids.len() as u64;
        again += ids.iter().take(tokens as usize / 512).filter(|&&id| !seen.insert(id)).count() as u64;
    }
    assert_eq!((number(&all, "blocks"), number(&all, "contents")), (blocks, seen.len() as u64));
    assert_eq!((number(&all, "block_tokens"), number(&all, "requests")), (512, 12_031));
    assert_eq!(number(&all["unlimited"], "blocks_found"), again);
    let rate = all["unlimited"]["block_rate"].as_f64().expect("a rate");
    assert!((rate - 0.366).abs() < 0.0005, "the published ceiling: {rate}");
    let tokens = all["unlimited"]["token_rate"].as_f64().expect("a rate");
    assert!((tokens - 0.374).abs() < 0.001, "{tokens}");

    let bound = cells(&all).find(|row| row.0 == "belady").expect("the bound").1;
    let sizes: Vec<u64> = bound.iter().map(|cell| number(cell, "cache_blocks")).collect();
    assert_eq!(sizes, [300, 1709, 20_000]);
    let (mut below, mut rows) = (0, 0);
    for (policy, caches) in cells(&all) {
        rows += 1;
        for (cell, bound) in caches.iter().zip(bound) {
            let (found, most) = (number(cell, "blocks_found"), number(bound, "blocks_found"));
            assert!(found <= most && most <= again, "{policy} finds {found} of {most}");
            assert!(number(cell, "leading_blocks_found") <= found, "{policy}");
            let gap = cell["below_bound"].as_f64().expect("a gap");
            assert!((gap - (most - found) as f64 / blocks as f64).abs() < 1e-9, "{policy}");
            below += usize::from(found < most);
        }
    }
    // All but those that need what this trace lacks; and the bound is above nearly all of them.
    let left_out: Vec<&str> =
        all["left_out"].as_array().expect("a list").iter().filter_map(|one| one["policy"].as_str()).collect();
    assert_eq!((rows, left_out.as_slice()), (16, &["sglang priority", "workload-aware"][..]));
    assert!(below > 40, "{below}");

    let lru = cells(&all).find(|row| row.0 == "lru").expect("LRU").1;
    for (cell, &size) in lru.iter().zip(&sizes) {
        let found = (number(cell, "blocks_found"), number(cell, "leading_blocks_found"));
        assert_eq!(found, plain_lru(size as usize), "{size} blocks");
    }
}

#[test]
fn the_table_explains_itself() {
    let home = Home::new();
    let args = ["--sizes", "2000,10%", "--policy", "lru", "--policy", "sglang", "--policy", "s3-fifo: { small: 0.25 }"];
    let ran = replay(&home, &args).ends(0);
    assert_eq!(ran.err, "", "no progress where there is no terminal");
    for line in [
        "12,031 requests, 144,793,823 prompt tokens: 288,500 blocks of 512 tokens, 276,491 of them full and named, with 170,899",
        "Blocks found [% of all blocks]",
        "Prompt tokens found [% of all prompt tokens]",
        "Blocks missed that the bound finds [points]",
        "An unlimited cache finds every content but its first use: the ceiling.",
        "belady (bound)",
        "sglang slru",
        "left out, sglang priority: it goes by the priorities of requests, and here all have the same",
    ] {
        assert!(ran.out.contains(line), "{line}\n{}", ran.out);
    }
    let rows = |start: &str| -> Vec<Vec<&str>> {
        let starts = |line: &&str| line.trim_start().starts_with(start);
        ran.out.lines().filter(starts).map(|line| line.split_whitespace().rev().take(3).collect()).collect()
    };
    // One row a table; the last column is the ceiling, or no gap at all.
    for policy in ["belady (bound)", "lru ", "s3-fifo small=0.25 ", "sglang mru "] {
        let last: Vec<&str> = rows(policy).iter().take(3).map(|row| row[0]).collect();
        assert_eq!(last, ["36.60", "37.34", "0.00"], "{policy}\n{}", ran.out);
    }
    assert_eq!(rows("belady (bound)")[2][1..], ["0.00", "0.00"]);
}

#[test]
fn files_hold_what_is_printed_and_threads_change_nothing() {
    let home = Home::new();
    home.write("talks.yaml", TALKS);
    let run = |more: &str| home.overbook(&format!("kv replay talks.yaml --sizes 50,5% {more}")).ends(0);
    let one = run("--jobs 1 --json --out a");
    assert_eq!(one.out.trim_end(), home.text("a/kv-replay.json").trim_end());
    let two = run("--jobs 2 --json");
    assert_eq!(one.out, two.out);
    // Sessions have turns, so that the policy for categories is there.
    assert!(cells(&one.json()).any(|row| row.0 == "workload-aware"));
    let csv = home.text("a/kv-replay.csv");
    let mut lines = csv.lines();
    assert!(lines.next().is_some_and(|head| head.starts_with("policy,cache_blocks,blocks_found,block_rate,")));
    assert_eq!(lines.count(), 2 * cells(&one.json()).count());
    // Other seeds of the scenario make other requests.
    assert_ne!(run("--json --seed 9").out, one.out);
    home.write("a/kv-replay.csv", "mine");
    let refused = home.overbook("kv replay talks.yaml --out a").ends(2);
    assert!(refused.err.contains("kv-replay.csv exists already; use --force"), "{}", refused.err);
    assert_eq!(home.text("a/kv-replay.csv"), "mine");
    run("--out a --force");
    assert_eq!(home.text("a/kv-replay.csv"), csv);
}

#[test]
fn a_block_size_of_ones_own() {
    let home = Home::new();
    let document = |more: &[&str]| {
        let args = ["--sizes", "10%", "--policy", "lru", "--json"];
        replay(&home, &[&args, more].concat()).ends(0).json()
    };
    let [whole, parts] = [&[][..], &["--block-tokens", "128"]].map(document);
    assert_eq!((number(&whole, "block_tokens"), number(&parts, "block_tokens")), (512, 128));
    // Smaller blocks find no less of the prompts: ends of prompts are cut at finer places.
    let found = |document: &Value| document["unlimited"]["token_rate"].as_f64().expect("a rate");
    assert!(found(&parts) >= found(&whole), "{} {}", found(&parts), found(&whole));
    let err = home.refused(["kv", "replay", mooncake().to_str().expect("UTF-8"), "--block-tokens", "100"]);
    assert!(err.contains("512 tokens each, which blocks of 100 tokens do not divide"), "{err}");
}

/// Blocks of a file of our own are as long as its ids say, and the file gives what its scenario gave.
#[test]
fn a_converted_workload_gives_the_same() {
    let home = Home::new();
    home.write("talks.yaml", format!("{TALKS}engine: {{ block_tokens: 32 }}\n"));
    home.overbook("trace convert talks.yaml --out talks.jsonl").ends(0);
    let [here, there] = ["talks.yaml", "talks.jsonl"]
        .map(|source| home.overbook(&format!("kv replay {source} --sizes 5% --json")).ends(0).out);
    assert!(here.contains("\"block_tokens\": 32"), "{here}");
    assert_eq!(here, there);
}

/// Recorded sessions are read on at their recorded times, in blocks as long as their ids say. Written as a trace of requests, whose lines
/// are longer than a row of any table, they are the same accesses.
#[test]
fn recorded_sessions_are_replayed_and_so_is_what_they_are_converted_to() {
    let home = Home::new();
    let agents = in_clone("agentic/claude-code.jsonl.zst");
    let agents = agents.to_str().expect("UTF-8");
    home.run(["trace", "convert", agents, "--out", "flat.jsonl"]).ends(0);
    let longest = home.text("flat.jsonl").lines().map(str::len).max();
    let document = |source: &str| {
        let args = ["kv", "replay", source, "--block-tokens", "16", "--sizes", "10%", "--policy", "lru", "--json"];
        home.run(args).ends(0).json()
    };
    let [sessions, flat] = [agents, "flat.jsonl"].map(document);
    assert_eq!(sessions["unlimited"], flat["unlimited"], "{longest:?}");
    assert_eq!(sessions["rows"], flat["rows"]);
    let own = home.run(["kv", "replay", agents, "--sizes", "10%", "--policy", "lru", "--json"]).ends(0).json();
    assert_eq!(number(&own, "block_tokens"), 64, "as the ids say");
}

/// A pipe gives its requests once, and a bound needs them twice.
#[test]
fn what_comes_through_a_pipe_is_replayed() {
    let home = Home::new();
    home.write("talks.yaml", TALKS);
    home.overbook("trace convert talks.yaml --out talks.jsonl").ends(0);
    let piped = |text: String| {
        let mut command = home.command("kv replay /dev/stdin --sizes 5% --json".split(' '));
        command.env("TMPDIR", home.path("")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let ran = Ran::of(&child.wait_with_output().expect("it ends"));
        writer.join().expect("no panic").expect("all is read");
        ran
    };
    let before = home.names("");
    let there = home.overbook("kv replay talks.jsonl --sizes 5% --json").ends(0).out;
    assert_eq!(piped(home.text("talks.jsonl")).ends(0).out, there);
    let refused = piped(home.text("talks.jsonl").replacen("\"arrived_at\": ", "\"arrived_at\": x", 3)).ends(2);
    assert!(refused.err.contains("/dev/stdin:1:") || refused.err.contains("/dev/stdin:2:"), "{}", refused.err);
    assert_eq!(home.names(""), before, "no copy is left");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let home = Home::new();
    home.write("talks.yaml", TALKS);
    let azure = in_clone("azure/AzureLLMInferenceTrace_conv.csv.zst");
    let (azure, mooncake) = (azure.to_str().expect("UTF-8"), mooncake());
    let mooncake = mooncake.to_str().expect("UTF-8");
    for (args, words) in [
        (
            &[azure][..],
            &["AzureLLMInferenceTrace_conv.csv.zst: no request says what its blocks contain", "Mooncake"][..],
        ),
        (&["nowhere.jsonl"], &["nowhere.jsonl: cannot open the trace", "help: check the path"]),
        (&["nowhere.yaml"], &["nowhere.yaml"]),
        (&[mooncake, "--policy", "workload-aware"], &["`workload-aware` cannot be compared here", "without sessions"]),
        (
            &[mooncake, "--policy", "sglang priority"],
            &["`sglang priority` cannot be compared here", "all have the same"],
        ),
        (&[mooncake, "--policy", "lruu"], &["--policy lruu", "`lru`"]),
        (&[mooncake, "--policy", "s3-fifo: { small: 0 }"], &["--policy s3-fifo", "small"]),
        (&[mooncake, "--policy", ""], &["--policy"]),
        (&[mooncake, "--sizes", "0"], &["`0` is no size of a cache"]),
        (&[mooncake, "--sizes", "5%,many"], &["`many` is no size of a cache"]),
        (&[mooncake, "--block-tokens", "0"], &["--block-tokens"]),
        (&[mooncake, "--seed", "3"], &["--set and --seed change a scenario"]),
        (&["talks.yaml", "--block-tokens", "32"], &["engine.block_tokens"]),
        (&["talks.yaml", "--policy", "sglang priority"], &["`sglang priority` cannot be compared here"]),
    ] {
        let err = home.refused(["kv", "replay"].iter().chain(args));
        for word in words {
            assert!(err.contains(word), "{args:?}: {word}\n{err}");
        }
        let before = home.names("");
        home.run(["kv", "replay", "--out", "results"].iter().chain(args)).ends(2);
        assert_eq!(home.names(""), before, "{args:?}");
    }
}

#[test]
fn an_interrupted_replay_prints_and_leaves_nothing() {
    let home = Home::new();
    home.write("talks.yaml", TALKS.replace("requests: 400", "requests: 1000000000"));
    let mut command = home.command("kv replay talks.yaml --out results --json".split(' '));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let begun = Instant::now();
    while !home.path("results").exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not begin");
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(300));
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
    let ran = Ran::of(&child.wait_with_output().expect("it ends")).ends(130);
    assert_eq!((ran.out.as_str(), home.names("").join(" ").as_str()), ("", "talks.yaml"));
    assert!(ran.err.contains("interrupted: a bound needs the whole trace; nothing was written"), "{}", ran.err);
}
