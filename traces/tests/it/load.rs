//! Windows, failures, and the named ways to change the load.

use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Rate};
use overbook_sim::workload::arrival::{Arrival, Workload};
use overbook_traces::{Columns, Failures, Format, ScaleSpec, TimeUnit, TraceError, TraceSpec, Window};

use overbook_test_groups::in_clone;

use crate::{BURSTGPT, VIDUR, all, drain, error_of, file};

const SECOND: u64 = 1_000_000_000;

fn seconds(s: u64) -> Duration {
    Duration(Span(s * SECOND))
}

fn times(arrivals: &[Arrival]) -> Vec<u64> {
    arrivals.iter().map(|arrival| arrival.at.0 / SECOND).collect()
}

fn prompts(arrivals: &[Arrival]) -> Vec<u32> {
    arrivals.iter().map(|arrival| arrival.prompt_tokens).collect()
}

/// One request at each of these seconds; the n-th has a prompt of n tokens.
fn at(seconds: &[u64]) -> String {
    let rows = seconds.iter().enumerate().map(|(n, s)| format!("{s},{},5\n", n + 1));
    VIDUR.to_owned() + &rows.collect::<String>()
}

#[test]
fn a_window_counts_from_the_first_row() {
    let file = file(at(&[100, 105, 110, 115, 120]) + "broken");
    let mut spec = TraceSpec::new(file.path());
    spec.window = Window { from: Some(seconds(5)), to: Some(seconds(15)) };
    let mut replay = spec.replay().expect("opens");
    let arrivals = drain(&mut replay).expect("reads");
    assert_eq!((prompts(&arrivals), times(&arrivals)), (vec![2, 3], vec![0, 5]));
    assert_eq!((replay.counts().outside, replay.counts().taken), (2, 2));
    (spec.skip, spec.requests) = (1, Some(1));
    assert_eq!(prompts(&all(&spec)), [3]);
    (spec.skip, spec.window) = (0, Window { from: Some(seconds(18)), to: Some(seconds(19)) });
    let error = spec.replay().err().expect("nothing there").to_string();
    assert!(error.contains("5 outside the window") && error.contains("`window` must hold rows"), "{error}");
    // A repeated window plays the same rows.
    (spec.requests, spec.window, spec.repeat) = (None, Window { from: Some(seconds(5)), to: Some(seconds(15)) }, 2);
    assert_eq!(prompts(&all(&spec)), [2, 3, 2, 3]);
}

#[test]
fn failures_get_sizes_of_their_class() {
    let path = in_clone("burstgpt/burstgpt_1_first400.csv");
    let kept = all(&TraceSpec::new(&path));
    let mut spec = TraceSpec { failures: Failures::Redraw, ..TraceSpec::new(&path) };
    let mut replay = spec.replay_seeded(1).expect("opens");
    let redrawn = drain(&mut replay).expect("reads");
    assert_eq!((kept.len(), redrawn.len(), replay.counts().failed, replay.counts().taken), (383, 400, 17, 400));
    let sizes = |arrivals: &[Arrival]| -> std::collections::HashSet<(u16, u32, u32)> {
        arrivals.iter().map(|a| (a.class.0, a.prompt_tokens, a.output_tokens)).collect()
    };
    assert_eq!(sizes(&redrawn), sizes(&kept));
    assert!(drain(&mut *spec.open_seeded(1).expect("opens")).expect("reads") == redrawn);
    assert!(drain(&mut *spec.open_seeded(2).expect("opens")).expect("reads") != redrawn);
    spec.repeat = 2;
    let twice = drain(&mut *spec.open_seeded(1).expect("opens")).expect("reads");
    assert_eq!(prompts(&twice[..400]), prompts(&twice[400..]));
    let file = file(format!("{BURSTGPT}1,GPT-4,0,0,0,API log\n2,ChatGPT,7,8,15,API log\n"));
    let other_class = all(&TraceSpec { failures: Failures::Redraw, ..TraceSpec::new(file.path()) });
    assert_eq!((other_class[0].prompt_tokens, other_class[0].output_tokens), (7, 8));
}

#[test]
fn compress_is_time_scale() {
    let file = file(at(&[0, 10, 30]));
    let spec = TraceSpec::new(file.path());
    let compressed = TraceSpec { scale: Some(ScaleSpec::Compress(10.0)), ..spec.clone() };
    assert_eq!(times(&all(&compressed)), [0, 1, 3]);
    assert!(all(&compressed) == all(&TraceSpec { time_scale: Some(10.0), ..spec }));
}

#[test]
fn superposed_copies_wrap_around() {
    // A span of 35 s is a period of 40 s.
    let file = file(at(&[0, 5, 12, 35]));
    let superpose = |copies, shift| {
        let scale = Some(ScaleSpec::Superpose { copies, shift: seconds(shift) });
        TraceSpec { scale, ..TraceSpec::new(file.path()) }
    };
    let arrivals = all(&superpose(2, 10));
    let played: Vec<(u64, u32)> = arrivals.iter().map(|a| (a.at.0 / SECOND, a.prompt_tokens)).collect();
    assert_eq!(played, [(0, 1), (2, 3), (5, 2), (12, 3), (25, 4), (30, 1), (35, 4), (35, 2)]);
    assert!(all(&superpose(1, 10)) == all(&TraceSpec::new(file.path())));
    assert_eq!(all(&superpose(4, 10)).len(), 16);
    let error = superpose(5, 10).replay().err().expect("too short");
    assert!(matches!(error, TraceError::TooShort { copies: 5, .. }), "{error}");
    assert!(superpose(2, 86_400).replay().is_err());
}

#[test]
fn superposed_copies_double_the_load_of_a_trace_that_is_no_whole_number_of_shifts() {
    // A request a second for 243 s; two shifts of two minutes would be three with an empty end.
    let file = file(at(&(0..=243).collect::<Vec<_>>()));
    let scale = Some(ScaleSpec::Superpose { copies: 2, shift: seconds(120) });
    let arrivals = all(&TraceSpec { scale, ..TraceSpec::new(file.path()) });
    let times: Vec<u64> = arrivals.iter().map(|arrival| arrival.at.0 / SECOND).collect();
    assert_eq!(times, (0..=243).flat_map(|second| [second, second]).collect::<Vec<_>>());
}

#[test]
fn superposed_copies_share_their_classes() {
    let rows = "0,A,1,1,2,API log\n10,B,2,1,3,API log\n19,A,3,1,4,API log\n";
    let file = file(format!("{BURSTGPT}{rows}"));
    let scale = Some(ScaleSpec::Superpose { copies: 2, shift: seconds(10) });
    let mut replay = TraceSpec { scale, ..TraceSpec::new(file.path()) }.replay().expect("opens");
    let arrivals = drain(&mut replay).expect("reads");
    let named: Vec<(u32, &str)> =
        arrivals.iter().map(|a| (a.prompt_tokens, replay.classes()[usize::from(a.class.0)].as_str())).collect();
    let expected = [(1, "A/api"), (2, "B/api"), (3, "A/api"), (2, "B/api"), (1, "A/api"), (3, "A/api")];
    assert_eq!(named, expected);
}

#[test]
fn multiplied_requests_stay_in_their_second() {
    let path = in_clone("azure/AzureLLMInferenceTrace_conv.csv.zst");
    let spec = TraceSpec::new(path);
    let per_second = |arrivals: &[Arrival]| {
        let mut counts = vec![0u32; 3_502];
        for a in arrivals {
            counts[(a.at.0 / SECOND) as usize] += 1;
        }
        counts
    };
    let plain = all(&spec);
    let three = all(&TraceSpec { scale: Some(ScaleSpec::Multiply(3.0)), ..spec.clone() });
    assert!(three.is_sorted_by_key(|a| a.at));
    let tripled: Vec<u32> = per_second(&plain).iter().map(|n| n * 3).collect();
    assert_eq!(per_second(&three), tripled);
    for (factor, tolerance) in [(0.25, 0.05), (1.5, 0.01), (2.75, 0.01)] {
        let scaled = all(&TraceSpec { scale: Some(ScaleSpec::Multiply(factor)), ..spec.clone() });
        let got = scaled.len() as f64 / plain.len() as f64;
        assert!((got / factor - 1.0).abs() < tolerance, "{factor}: {got}");
        assert!(scaled.is_sorted_by_key(|a| a.at));
    }
    let to = all(&TraceSpec { scale: Some(ScaleSpec::MultiplyTo(Rate(11.06))), ..spec });
    assert!((to.len() as f64 / plain.len() as f64 - 2.0).abs() < 0.02);
}

#[test]
fn ties_are_spread_over_their_step() {
    let path = in_clone("mooncake/conversation_trace.jsonl.zst");
    let spec = TraceSpec { spread: Some(seconds(3)), ..TraceSpec::new(path) };
    let arrivals = all(&spec);
    assert!(arrivals.len() == 12_031 && arrivals.is_sorted_by_key(|a| a.at));
    let ties = arrivals.windows(2).filter(|w| w[0].at == w[1].at).count();
    assert_eq!(ties, 0);
    // Batches come every 3 s, give or take some milliseconds; no two of them fall into one step.
    let mut steps = vec![0; 1_180];
    for a in &arrivals {
        steps[(a.at.0 / (3 * SECOND)) as usize] += 1;
    }
    assert!(steps.iter().all(|&n| n > 0), "{steps:?}");
}

#[test]
fn any_columns() {
    let rows = "when;x,in,out,tenant,prio\n,,,,\n";
    let error = error_of(rows, |spec| spec.columns = Some(Columns::new("when", "in", "out"))).to_string();
    assert!(error.contains("no column `when` (`columns.arrival`) among `when;x,in,out,tenant,prio`"), "{error}");
    let csv = "id,When,in,out,tenant,prio\n1,5.5,10,2,blue,-1\n2,7,0,0,red,0\n3,8,30,4,\"re,d\",2\n4,9,40,5,blue,0\n";
    let file_csv = file(csv);
    let columns = Columns {
        class: Some("tenant".into()),
        priority: Some("prio".into()),
        unit: TimeUnit::Ms,
        ..Columns::new("when", "in", "out")
    };
    let mut spec = TraceSpec { columns: Some(columns), ..TraceSpec::new(file_csv.path()) };
    let mut replay = spec.replay().expect("opens");
    assert_eq!(replay.format(), Format::Columns);
    let arrivals = drain(&mut replay).expect("reads");
    let got: Vec<_> = arrivals.iter().map(|a| (a.at.0, a.prompt_tokens, a.class.0, a.priority)).collect();
    assert_eq!(got, [(0, 10, 0, -1), (2_500_000, 30, 2, 2), (3_500_000, 40, 0, 0)]);
    assert_eq!(replay.classes(), ["blue", "red", "re,d"]);
    assert_eq!(replay.counts().failed, 1);
    spec.keep.class = vec!["Blue".into()];
    assert_eq!(prompts(&all(&spec)), [10, 40]);
    spec.keep.class = vec!["green".into()];
    let error = spec.replay().err().expect("none").to_string();
    assert!(error.contains("blue, red, re,d"), "{error}");
    // The same as JSON lines, with a date.
    let json = "{\"t\":\"2024-05-10T00:00:00Z\",\"u\":{\"in\":1},\"in\":10,\"out\":2,\"tenant\":\"bl\\u0075e\"}\n\
                {\"tenant\":null,\"t\":\"2024-05-10 00:00:01.5+00:00\",\"in\":11.0,\"out\":2,\"u\":[]}\n";
    let file_json = file(json);
    let columns = Columns { class: Some("tenant".into()), unit: TimeUnit::Datetime, ..Columns::new("t", "in", "out") };
    let mut replay = TraceSpec { columns: Some(columns), ..TraceSpec::new(file_json.path()) }.replay().expect("opens");
    let arrivals = drain(&mut replay).expect("reads");
    assert_eq!((arrivals[1].at.0, prompts(&arrivals)), (1_500_000_000, vec![10, 11]));
    assert_eq!(replay.classes(), ["blue", "(none)"]);
}

#[test]
fn problems_name_their_place() {
    let paths = |change: &dyn Fn(&mut TraceSpec)| {
        let mut spec = TraceSpec::new("a.csv");
        change(&mut spec);
        assert!(matches!(spec.replay(), Err(TraceError::Spec(_) | TraceError::Open { .. })));
        spec.problems().into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert_eq!(paths(&|spec| spec.scale = Some(ScaleSpec::Compress(0.0))), ["scale.compress"]);
    assert_eq!(paths(&|spec| spec.scale = Some(ScaleSpec::Multiply(f64::NAN))), ["scale.multiply"]);
    assert_eq!(paths(&|spec| spec.scale = Some(ScaleSpec::MultiplyTo(Rate(0.0)))), ["scale.multiply-to"]);
    let superpose = |copies, shift| Some(ScaleSpec::Superpose { copies, shift: seconds(shift) });
    assert_eq!(paths(&|spec| spec.scale = superpose(0, 0)), ["scale.superpose.copies", "scale.superpose.shift"]);
    assert_eq!(paths(&|spec| (spec.scale, spec.repeat) = (superpose(2, 1), 2)), ["repeat"]);
    assert_eq!(paths(&|spec| (spec.scale, spec.rate) = (Some(ScaleSpec::Multiply(2.0)), Some(Rate(1.0)))), ["scale"]);
    assert_eq!(paths(&|spec| spec.spread = Some(seconds(0))), ["spread"]);
    let window = Window { from: Some(seconds(2)), to: Some(seconds(2)) };
    assert_eq!(paths(&|spec| spec.window = window), ["window.to"]);
    assert_eq!(paths(&|spec| spec.format = Format::Columns), ["columns"]);
    assert_eq!(paths(&|spec| (spec.format, spec.block_tokens) = (Format::Mooncake, 24)), ["block_tokens"]);
    assert_eq!(paths(&|spec| spec.block_tokens = 0), ["block_tokens"]);
    let columns = |spec: &mut TraceSpec| spec.columns = Some(Columns { hash_tokens: 0, ..Columns::new("", "in", "o") });
    assert_eq!(paths(&columns), ["columns.arrival", "columns.hash_tokens"]);
    let both = |spec: &mut TraceSpec| {
        columns(spec);
        spec.columns = Some(Columns::new("t", "in", "out"));
        spec.format = Format::Azure;
        spec.keep.class = vec!["a".into()];
    };
    assert_eq!(paths(&both), ["keep", "keep.class", "columns"]);
}
