//! Mooncake's traces: the content of prompts.

use std::collections::HashSet;

use overbook_sim::workload::arrival::{Arrival, Content};
use overbook_traces::{Format, TraceError, TraceSpec};

use overbook_test_groups::in_clone;

use crate::{all, drain, error_of, file};

const ROWS: &str = "\
{\"timestamp\": 0, \"input_length\": 1100, \"output_length\": 5, \"hash_ids\": [0, 1, 2]}

{\"timestamp\": 3000, \"input_length\": 512, \"output_length\": 7, \"hash_ids\": [0]}
{\"output_length\": 9, \"timestamp\": 3000.5, \"input_length\": 15, \"hash_ids\": [9], \"extra\": {\"a\": [1]}}
";

fn content(arrival: &Arrival) -> &Content {
    arrival.content.as_ref().expect("content")
}

/// Share of blocks and of tokens in the leading run of blocks seen before, with a cache that forgets nothing.
fn reuse(arrivals: &[Arrival]) -> (f64, f64) {
    let mut seen = HashSet::new();
    let (mut hits, mut blocks, mut tokens) = (0usize, 0usize, 0u64);
    for arrival in arrivals {
        let content = content(arrival);
        let hit = content.ids.iter().take_while(|id| seen.contains(*id)).count();
        seen.extend(content.ids.iter().copied());
        (hits, blocks) = (hits + hit, blocks + content.ids.len());
        tokens += u64::from(arrival.prompt_tokens);
    }
    let block_tokens = f64::from(content(&arrivals[0]).block_tokens);
    (hits as f64 / blocks as f64, hits as f64 * block_tokens / tokens as f64)
}

#[test]
fn the_real_file() {
    let path = in_clone("mooncake/conversation_trace.jsonl.zst");
    let spec = TraceSpec::new(path);
    let mut replay = spec.replay().expect("opens");
    assert_eq!(replay.format(), Format::Mooncake);
    let arrivals = drain(&mut replay).expect("reads");
    assert_eq!(arrivals.len(), 12_031);
    assert_eq!(arrivals[arrivals.len() - 1].at.0, 3_536_999_000_000);
    let sum = |tokens: fn(&Arrival) -> u32| arrivals.iter().map(|a| f64::from(tokens(a))).sum::<f64>() / 12_031.0;
    assert!((sum(|a| a.prompt_tokens) - 12_035.1).abs() < 0.1 && (sum(|a| a.output_tokens) - 342.6).abs() < 0.1);
    let distinct: HashSet<u64> = arrivals.iter().map(|a| a.at.0).collect();
    // Batches every 3 s, give or take 3 ms.
    assert!(distinct.len() == 1_180 && distinct.iter().all(|ns| (ns + 3_000_000) % 3_000_000_000 <= 6_000_000));
    for arrival in &arrivals {
        let content = content(arrival);
        assert_eq!(content.block_tokens, 16);
        assert_eq!(content.ids.len() as u32, arrival.prompt_tokens / 16);
    }
    // 37.4 % of tokens by blocks of 512, partial last ones included; parts of partial blocks are unique to a request.
    let (blocks, tokens) = reuse(&arrivals);
    assert!((blocks - 0.374).abs() < 0.001 && (tokens - 0.374).abs() < 0.001, "{blocks} {tokens}");
    // 36.6 % of the references to blocks of 512 tokens, counted by leading runs of whole ones.
    let whole = TraceSpec { block_tokens: 512, ..spec };
    let arrivals = all(&whole);
    let references: usize = arrivals.iter().map(|a| (a.prompt_tokens as usize).div_ceil(512)).sum();
    assert_eq!(references, 288_500);
    let full: usize = arrivals.iter().map(|a| content(a).ids.len()).sum();
    let hits = reuse(&arrivals).0 * full as f64 / references as f64;
    assert!((hits - 0.366).abs() < 0.0005, "{hits}");
}

#[test]
fn blocks_are_cut_and_the_partial_one_is_cut_down() {
    let file = file(ROWS);
    let arrivals = all(&TraceSpec::new(file.path()));
    assert_eq!(arrivals.iter().map(|a| a.at.0).collect::<Vec<_>>(), [0, 3_000_000_000, 3_000_500_000]);
    // 1100 tokens are 68 blocks of 16: two times 32, and 4 of the partial third.
    let expected: Vec<u64> = (0..68).collect();
    assert_eq!(*content(&arrivals[0]).ids, expected);
    assert_eq!(*content(&arrivals[1]).ids, expected[..32]);
    assert_eq!(content(&arrivals[2]).ids.len(), 0);
    let clipped = TraceSpec { max_prompt_tokens: Some(40), block_tokens: 32, ..TraceSpec::new(file.path()) };
    let arrivals = all(&clipped);
    assert_eq!((arrivals[0].prompt_tokens, &*content(&arrivals[0]).ids), (40, &[0][..]));
}

#[test]
fn copies_share_no_prefix() {
    let file = file(ROWS);
    let arrivals = all(&TraceSpec { repeat: 2, ..TraceSpec::new(file.path()) });
    assert_eq!(arrivals.len(), 6);
    let ids = |at: usize| content(&arrivals[at]).ids.iter().copied().collect::<HashSet<u64>>();
    assert!(ids(0).is_disjoint(&ids(3)) && ids(4).is_subset(&ids(3)));
}

#[test]
fn broken_content_is_refused() {
    let row = |length: &str, output: &str, ids: &str| {
        format!("{{\"timestamp\":0,\"input_length\":{length},\"output_length\":{output},\"hash_ids\":{ids}}}\n")
    };
    let says = |text: &str, part: &str| {
        let error = error_of(text, |_| {}).to_string();
        assert!(error.contains(part) && error.contains("; help: "), "`{part}` is missing in: {error}");
    };
    says(
        &row("5", "0", "[1]"),
        "no request to replay after line 1: 1 rows read, 0 outside the window, 0 filtered out, 1 failed",
    );
    says(&row("513", "4", "[1]"), "`hash_ids`: expected one id for each block");
    says(&row("5", "4", "[1, x]"), "`hash_ids`: expected a list of block ids");
    says(&row("5", "4", "[1]").replace("}\n", "\n"), ":1:65: expected `,` or `}` after a value");
    says(&(row("5", "4", "[1]") + "{\"timestamp\": \n"), ":2:15: expected a value, found the end of the line");
    says(&(row("5", "4", "[1]") + "[1]\n"), ":2:1: expected a JSON object");
    says(&(row("5", "4", "[1]") + "{\"input_length\":4}\n"), "`timestamp`: expected a time");
    let error = error_of(row("5", "4", "[1]"), |spec| spec.block_tokens = 24);
    assert!(matches!(error, TraceError::BlockTokens { hash_tokens: 512, block_tokens: 24, .. }));
    // Without ids it is a trace without content.
    let plain = file("{\"timestamp\":5,\"input_length\":8,\"output_length\":4}\n");
    assert!(all(&TraceSpec::new(plain.path()))[0].content.is_none());
}
