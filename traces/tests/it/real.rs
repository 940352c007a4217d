//! Real files must give the figures that traces/data/README.md states for them.

use std::io::Write;

use overbook_sim::time::Time;
use overbook_sim::workload::arrival::Arrival;
use overbook_traces::{Counts, Format, TraceSpec};

use overbook_test_groups::in_clone;

use crate::{all, drain, file, unpacked};

/// Requests, prompt tokens, output tokens, last arrival [ns].
fn figures(arrivals: &[Arrival]) -> (usize, u64, u64, u64) {
    let sum = |tokens: fn(&Arrival) -> u32| arrivals.iter().map(|a| u64::from(tokens(a))).sum();
    assert_eq!(arrivals[0].at, Time::ZERO);
    assert!(arrivals.is_sorted_by_key(|a| a.at));
    let last = arrivals[arrivals.len() - 1].at.0;
    (arrivals.len(), sum(|a| a.prompt_tokens), sum(|a| a.output_tokens), last)
}

#[test]
fn burstgpt_v1() {
    let path = in_clone("burstgpt/burstgpt_1_first400.csv");
    let mut replay = TraceSpec::new(path).replay().expect("opens");
    assert_eq!(replay.format(), Format::BurstGpt);
    let arrivals = drain(&mut replay).expect("reads");
    assert_eq!(figures(&arrivals), (383, 208_189, 110_612, 37_269_000_000_000));
    let counts = Counts { rows: 400, failed: 17, dropped: 17, taken: 383, ..Counts::default() };
    assert_eq!(replay.counts(), counts);
    let classes = overbook_sim::workload::arrival::Workload::classes(&replay);
    assert_eq!(classes, ["ChatGPT/conversation", "GPT-4/conversation", "GPT-4/api"]);
    let of_class = |class: u16| arrivals.iter().filter(|a| a.class.0 == class).count();
    assert_eq!([of_class(0), of_class(1), of_class(2)], [306, 75, 2]);
}

#[test]
fn burstgpt_v1_2() {
    let path = in_clone("burstgpt/burstgpt_3_first400.csv");
    let mut replay = TraceSpec::new(path).replay().expect("opens");
    let arrivals = drain(&mut replay).expect("reads");
    assert_eq!(figures(&arrivals), (399, 246_941, 68_350, 41_453_000_000_000));
    assert_eq!(replay.counts().failed, 1);
    let (class, session, recorded_e2el) = (arrivals[0].class, arrivals[0].session, arrivals[0].recorded_e2el);
    let first = Arrival { class, session, recorded_e2el, ..Arrival::new(Time::ZERO, 906, 446) };
    assert_eq!(arrivals[0], first);
    let classes = overbook_sim::workload::arrival::Workload::classes(&replay);
    assert_eq!(classes, ["GPT-4/conversation", "ChatGPT/conversation", "GPT-4/api", "ChatGPT/api"]);
}

#[test]
fn burstgpt_excerpt_with_relative_times() {
    let path = in_clone("burstgpt/burstgpt_2_api_burst_excerpt.csv");
    let arrivals = all(&TraceSpec::new(path));
    assert_eq!(figures(&arrivals), (60, 14_552, 420, 113_000_000_000));
    let in_second = |s: u64| arrivals.iter().filter(|a| a.at.0 == s * 1_000_000_000).count();
    assert_eq!([0, 1, 2, 3, 4].map(in_second), [11, 10, 9, 12, 11]);
}

#[test]
fn azure_conversations() {
    let path = in_clone("azure/AzureLLMInferenceTrace_conv.csv.zst");
    let mut replay = TraceSpec::new(path).replay().expect("opens");
    assert_eq!(replay.format(), Format::Azure);
    let arrivals = drain(&mut replay).expect("reads");
    assert_eq!(figures(&arrivals), (19_366, 22_361_870, 4_088_665, 3_501_721_937_000));
    assert_eq!(overbook_sim::workload::arrival::Workload::classes(&replay), ["azure"]);
}

#[test]
fn vidur_rows() {
    let rows = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.1,374,44\n4.4144089999999995,396,109\n";
    let arrivals = all(&TraceSpec::new(file(rows).path()));
    assert_eq!(figures(&arrivals), (2, 770, 153, 4_314_409_000));
}

#[test]
fn packed_files_read_like_plain_ones() {
    let path = in_clone("azure/AzureLLMInferenceTrace_conv.csv.zst");
    let plain = unpacked(&path);
    let expected = all(&TraceSpec::new(file(&plain).path()));
    assert!(all(&TraceSpec::new(path)) == expected);
    let (head, tail) = plain.as_bytes().split_at(plain.len() / 3);
    let mut gzip = Vec::new();
    let mut frames = Vec::new();
    for part in [head, tail] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part).expect("packs");
        gzip.extend(encoder.finish().expect("packs"));
        frames.extend(zstd::encode_all(part, 1).expect("packs"));
    }
    for packed in [gzip, frames] {
        assert!(all(&TraceSpec::new(file(&packed).path())) == expected);
        let cut = file(&packed[..packed.len() - 9]);
        let mut workload = TraceSpec::new(cut.path()).open().expect("opens");
        let error = drain(&mut *workload).expect_err("cut off").to_string();
        assert!(error.contains("broken ") && error.contains("fetch the file again"), "{error}");
    }
}
