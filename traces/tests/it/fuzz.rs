//! No bytes may make the readers panic or hand out a request that breaks the contract.

use std::cell::RefCell;

use overbook_sim::time::Span;
use overbook_sim::units::Duration;
use overbook_traces::{Columns, Failures, Format, ScaleSpec, TOKENS_MAX, TimeUnit, TraceSpec};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::{AZURE, BURSTGPT, VIDUR, file};

const V1_2: &str = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n";

const MOONCAKE: &str = "\
{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [0, 1]}\n\
{\"timestamp\": 27.5, \"input_length\": 40, \"output_length\": 7, \"hash_ids\": [0]}\n\
{\"timestamp\": 3000, \"input_length\": 512, \"output_length\": 7, \"hash_ids\": [4]}\n";

const BAILIAN: &str = "\
{\"chat_id\": 1, \"parent_chat_id\": -1, \"timestamp\": 0.5, \"input_length\": 20, \"output_length\": 3, \"type\": \"text\", \"hash_ids\": [1, 2]}\n\
{\"chat_id\": 2, \"parent_chat_id\": 1, \"timestamp\": 2, \"input_length\": 0, \"output_length\": 0, \"type\": \"file\", \"hash_ids\": []}\n\
{\"chat_id\": 3, \"parent_chat_id\": 2, \"timestamp\": 61.25, \"input_length\": 40, \"output_length\": 3, \"type\": \"text\", \"hash_ids\": [1, 2, 3]}\n";

/// A good file of each format.
fn good() -> [String; 7] {
    [
        format!("{BURSTGPT}5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,0,0,0,API log\n45,GPT-4,7,8,15,API log\n"),
        format!("{V1_2}19440110.0,,43,GPT-4,906,446,1352,API log\n19440161.0,\"d5\",2,ChatGPT,36,29,65,API log\n"),
        format!("{AZURE}2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690+00:00,396,109"),
        MOONCAKE.to_owned(),
        MOONCAKE.replace("timestamp", "when").replace("}\n", ", \"who\": \"a \\\"b\\\" \\u00e9\", \"prio\": -1}\n"),
        BAILIAN.to_owned(),
        format!("{VIDUR}0.1,374,44\n4.4144089999999995,396,109\n1e3,5,6\n"),
    ]
}

/// How reading ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Refused when opened.
    Refused,
    /// Broke off after some requests.
    Broken,
    Complete,
}

/// Reads to the end or the first error; what comes out obeys the contract of a workload.
fn check(bytes: &[u8], format: Format, repeat: u64) -> End {
    let file = file(bytes);
    let mut spec = TraceSpec::new(file.path());
    (spec.format, spec.repeat) = (format, repeat);
    if format == Format::Columns || bytes.windows(4).any(|four| four == b"when") {
        spec.format = Format::Auto;
        spec.columns = Some(Columns {
            class: Some("who".into()),
            priority: Some("prio".into()),
            hash_ids: Some("hash_ids".into()),
            unit: TimeUnit::Ms,
            ..Columns::new("when", "input_length", "output_length")
        });
    }
    match repeat {
        2 => (spec.scale, spec.failures) = (Some(ScaleSpec::Multiply(1.5)), Failures::Redraw),
        3 => (spec.spread, spec.failures) = (Some(Duration(Span(1_000_000_007))), Failures::Keep),
        4 => {
            spec.repeat = 1;
            spec.scale = Some(ScaleSpec::Superpose { copies: 2, shift: Duration(Span(1_000_000)) });
        }
        _ => {}
    }
    let Ok(mut workload) = spec.open_seeded(repeat) else {
        return End::Refused;
    };
    let mut last = None;
    loop {
        let arrival = match workload.next_arrival() {
            Ok(Some(arrival)) => arrival,
            Ok(None) => return End::Complete,
            Err(error) => {
                assert!(error.to_string().contains("; help: "), "{error}");
                return End::Broken;
            }
        };
        let tokens = if arrival.failed_in_trace { 0..=0 } else { 1..=TOKENS_MAX };
        assert!(tokens.contains(&arrival.prompt_tokens) && tokens.contains(&arrival.output_tokens));
        assert!((arrival.class.0 as usize) < workload.classes().len());
        if let Some(content) = &arrival.content {
            assert!(content.ids.len() as u32 == arrival.prompt_tokens / content.block_tokens);
        }
        assert!(last.is_none_or(|last| last <= arrival.at));
        last = Some(arrival.at);
    }
}

fn format() -> impl Strategy<Value = Format> {
    prop::sample::select(vec![
        Format::Auto,
        Format::Auto,
        Format::BurstGpt,
        Format::Azure,
        Format::Vidur,
        Format::Mooncake,
        Format::Bailian,
        Format::Columns,
    ])
}

/// Bytes that matter to the readers more often than others.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(b",\"\n\r.-+eE:TZ 0123456789\0\xff{}[]\\un".to_vec()), any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in 0..3usize, format in format()) {
        let magic: &[u8] = [&b""[..], b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd"][magic];
        check(&[magic, &bytes].concat(), format, 1);
    }

    #[test]
    fn random_rows(header in 0..7usize, bytes in prop::collection::vec(byte(), 0..200)) {
        let good = &good()[header];
        let header = good.lines().next().unwrap_or_default();
        check(&[header.as_bytes(), b"\n", &bytes].concat(), Format::Auto, 1);
    }
}

#[derive(Clone, Copy, Debug)]
enum Edit {
    Replace(u8),
    Insert(u8),
    Remove,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![byte().prop_map(Edit::Replace), byte().prop_map(Edit::Insert), Just(Edit::Remove)]
}

/// Real rows with a few bytes changed. The test fails if the changes do not reach every kind of end often.
#[test]
fn mutated_rows() {
    let cases = 2_000;
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let edits = prop::collection::vec((any::<prop::sample::Index>(), edit()), 0..4);
    let reached = RefCell::new([0u32; 3]);
    let run = |(which, edits, repeat, packed): (usize, Vec<(prop::sample::Index, Edit)>, u64, bool)| {
        let mut bytes = good()[which].clone().into_bytes();
        if packed {
            bytes = zstd::encode_all(&bytes[..], 1).expect("packs");
        }
        for (at, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                Edit::Replace(byte) => bytes[at] = byte,
                Edit::Insert(byte) => bytes.insert(at, byte),
                Edit::Remove => drop(bytes.remove(at)),
            }
        }
        reached.borrow_mut()[check(&bytes, Format::Auto, repeat) as usize] += 1;
        Ok(())
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    runner.run(&(0..6usize, edits, 1..5u64, prop::bool::weighted(0.2)), run).expect("no panic");
    let reached = reached.into_inner();
    assert!(reached.iter().all(|&ends| ends > cases / 40), "refused, broken, complete: {reached:?}");
}

#[test]
fn the_unmutated_files_are_good() {
    for text in good() {
        assert_eq!(check(text.as_bytes(), Format::Auto, 1), End::Complete);
    }
}
