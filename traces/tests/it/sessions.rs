//! Sessions, measured latencies and failed requests of recorded traces, and formats that bring them.

use std::collections::BTreeMap;
use std::fs;

use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, SessionId, Workload};
use overbook_traces::{
    ArrivalSpec, Columns, Failures, Format, GenerateSpec, LengthSpec, ScaleSpec, SessionSpec, TimeUnit, TraceSpec,
    burstiness,
};

use overbook_test_groups::in_clone;

use crate::{BURSTGPT, all, drain, error_of, file};

const V12: &str = "burstgpt/burstgpt_3_first400.csv";

/// Session (as numbers by appearance; `None` for no session) of each arrival.
fn sessions(arrivals: &[Arrival]) -> Vec<Option<usize>> {
    let mut seen: Vec<SessionId> = Vec::new();
    let mut number = |id: SessionId| {
        seen.iter().position(|&known| known == id).unwrap_or_else(|| {
            seen.push(id);
            seen.len() - 1
        })
    };
    arrivals.iter().map(|arrival| arrival.session.map(&mut number)).collect()
}

#[test]
fn burstgpt_sessions_are_those_of_the_file() {
    let path = in_clone(V12);
    let text = fs::read_to_string(&path).expect("reads");
    let mut names: Vec<&str> = Vec::new();
    let mut expected = Vec::new();
    for row in text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>()) {
        let (session, elapsed, log_type) = (row[1], row[2], row[7]);
        assert_eq!(session.is_empty(), log_type == "API log");
        if !session.is_empty() && !names.contains(&session) {
            names.push(session);
        }
        let elapsed = Span(elapsed.parse::<u64>().expect("whole seconds") * 1_000_000_000);
        expected.push((names.iter().position(|&name| name == session), Some(elapsed)));
    }
    let spec = TraceSpec { failures: Failures::Keep, ..TraceSpec::new(&path) };
    let arrivals = all(&spec);
    let got = sessions(&arrivals).into_iter().zip(arrivals.iter().map(|a| a.recorded_e2el));
    assert!(names.len() == 135 && got.eq(expected));
    // Copies are other users.
    let doubled = all(&TraceSpec { scale: Some(ScaleSpec::Multiply(2.0)), ..spec.clone() });
    let count = |arrivals: &[Arrival]| {
        arrivals.iter().filter_map(|a| a.session).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(count(&doubled), 270);
    assert_eq!(count(&all(&TraceSpec { repeat: 3, ..spec })), 405);
}

/// The figures that the data folder's README states.
#[test]
fn turns_think_times_and_latencies_of_burstgpt() {
    let path = in_clone(V12);
    let spec = TraceSpec { failures: Failures::Keep, ..TraceSpec::new(path) };
    let stats = burstiness(&mut *spec.open().expect("opens")).expect("reads");
    let turns = &stats.sessions.turns;
    assert_eq!((stats.requests, stats.failed, turns.count(), turns.sum()), (400, 1, 135, 394));
    assert_eq!((turns.quantile(0.5), turns.quantile(0.9), turns.max()), (Some(2), Some(5), Some(24)));
    let near = |got: Option<f64>, expected: f64| {
        let got = got.expect("some") / 1e3;
        assert!((got / expected - 1.0).abs() < 0.01, "{got} for {expected}");
    };
    let quantile = |times: &overbook_sim::results::histogram::Histogram, p| times.quantile(p).map(|ms| ms as f64);
    let (gaps, think) = (&stats.sessions.gap_ms, &stats.sessions.think_ms);
    assert_eq!((gaps.count(), think.count(), gaps.max()), (259, 259, Some(8_888_000)));
    near(gaps.mean(), 536.0);
    near(quantile(gaps, 0.5), 123.0);
    near(think.mean(), 529.0);
    near(quantile(think, 0.5), 116.0);
    // The README interpolates between two turns, 1,356 s and 1,396 s.
    assert!((1_350_000.0..1_400_000.0).contains(&quantile(think, 0.9).expect("some")), "{:?}", quantile(think, 0.9));
    let text = stats.to_string();
    for line in ["135 of mean 2.92 turns, p50 2, p90 5, max 24", "failed in the trace", "1 (0.2 %)", "recorded latency"]
    {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    // 7.0 % of the rows say 0 s: cut off, not missing.
    let zero = all(&spec).iter().filter(|a| a.recorded_e2el == Some(Span(0))).count();
    assert!((27..=29).contains(&zero), "{zero}");
}

#[test]
fn failures_are_dropped_or_kept_as_they_are() {
    let path = in_clone("burstgpt/burstgpt_1_first400.csv");
    let dropped = all(&TraceSpec::new(&path));
    let spec = TraceSpec { failures: Failures::Keep, ..TraceSpec::new(&path) };
    let mut replay = spec.replay().expect("opens");
    let kept = drain(&mut replay).expect("reads");
    assert_eq!((kept.len(), replay.counts().failed, replay.counts().taken), (400, 17, 400));
    // In every failed row of the slices the prompt is 0 as well.
    let (failed, rest): (Vec<_>, Vec<_>) = kept.into_iter().partition(|a| a.failed_in_trace);
    assert!(failed.len() == 17 && failed.iter().all(|a| (a.prompt_tokens, a.output_tokens) == (0, 0)));
    let same = |a: &Arrival, b: &Arrival| (a.prompt_tokens, a.output_tokens) == (b.prompt_tokens, b.output_tokens);
    assert!(rest.len() == 383 && rest.iter().zip(&dropped).all(|(a, b)| same(a, b)));
    // With `keep` the first row counts even if it failed; lengths of failed rows do not.
    let file = file(format!("{BURSTGPT}5,A,0,0,0,API log\n7,A,10,2,12,API log\n"));
    let spec = TraceSpec { failures: Failures::Keep, max_prompt_tokens: Some(4), ..TraceSpec::new(file.path()) };
    let arrivals = all(&spec);
    assert_eq!(arrivals[0], Arrival { class: arrivals[1].class, ..Arrival::failed(Time(0)) });
    assert_eq!((arrivals[1].at.0, arrivals[1].prompt_tokens), (2_000_000_000, 4));
    let stats = burstiness(&mut *spec.open().expect("opens")).expect("reads");
    assert_eq!((stats.requests, stats.failed, stats.prompt_tokens.count()), (2, 1, 1));
}

/// One line each of the layouts that others write, as their documentation or source shows them.
#[test]
fn lines_of_other_tools() {
    let read = |text: &str, columns: Option<Columns>| {
        let file = file(text);
        let mut replay = TraceSpec { columns, ..TraceSpec::new(file.path()) }.replay().expect(text);
        let arrivals = drain(&mut replay).expect(text);
        (replay.format(), replay.classes().to_vec(), arrivals)
    };
    // AIPerf's fixed schedules: Mooncake's keys, and a session.
    let aiperf = "{\"timestamp\": 0, \"input_length\": 300, \"output_length\": 40, \"hash_ids\": [123], \"session_id\": \"a\"}\n\
                  {\"timestamp\": 500, \"input_length\": 30, \"output_length\": 4, \"hash_ids\": [7], \"session_id\": \"b\"}\n\
                  {\"timestamp\": 900, \"input_length\": 600, \"output_length\": 4, \"hash_ids\": [123, 9], \"session_id\": \"a\"}\n";
    let (format, _, arrivals) = read(aiperf, None);
    assert_eq!((format, sessions(&arrivals)), (Format::Mooncake, vec![Some(0), Some(1), Some(0)]));
    assert_eq!((arrivals[1].at.0, arrivals[2].content.as_ref().expect("ids").ids.len()), (500_000_000, 600 / 16));
    // Qwen-Bailian: the same keys in seconds, with blocks of 16 tokens and turns that name the one before.
    let ids = |n: u32| (0..n).map(|id| id.to_string()).collect::<Vec<_>>().join(", ");
    let turn = |chat: i64, parent: i64, at: &str, input: u32, kind: &str| {
        format!(
            "{{\"chat_id\": {chat}, \"parent_chat_id\": {parent}, \"timestamp\": {at}, \"input_length\": {input}, \
             \"output_length\": 132, \"type\": \"{kind}\", \"turn\": 1, \"hash_ids\": [{}]}}\n",
            ids(input.div_ceil(16))
        )
    };
    let bailian = turn(159, -1, "61.114", 521, "text")
        + &turn(160, -1, "61.5", 20, "search")
        + &turn(161, 159, "70.0", 700, "text")
        + &turn(162, 161, "80.0", 800, "text")
        + &turn(163, 12, "81", 16, "file");
    let (format, classes, arrivals) = read(&bailian, None);
    assert_eq!((format, classes), (Format::Bailian, ["text", "search", "file"].map(str::to_owned).to_vec()));
    assert_eq!(sessions(&arrivals), [Some(0), Some(1), Some(0), Some(0), Some(2)]);
    assert_eq!((arrivals[1].at.0, arrivals[0].content.as_ref().expect("ids").ids.len()), (386_000_000, 521 / 16));
    // vidur, with all of its columns.
    let vidur = "arrived_at,num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n0.5,374,44,418,8.5\n";
    let (format, _, arrivals) = read(vidur, None);
    assert_eq!((format, arrivals[0].prompt_tokens, arrivals[0].output_tokens), (Format::Vidur, 374, 44));
    // LLMServingSim, by its keys.
    let sim = "{\"input_toks\": 12, \"output_toks\": 3, \"arrival_time_ns\": 250, \"input_tok_ids\": [1, 2]}\n\
               {\"input_toks\": 13, \"output_toks\": 3, \"arrival_time_ns\": 1250, \"input_tok_ids\": []}\n";
    let columns = Columns { unit: TimeUnit::Ns, ..Columns::new("arrival_time_ns", "input_toks", "output_toks") };
    let (format, _, arrivals) = read(sim, Some(columns));
    assert_eq!((format, arrivals[1].at.0, arrivals[1].prompt_tokens), (Format::Columns, 1_000, 13));
    // Azure 2024 writes a zone; Azure 2025 inserts the number of images.
    let (format, _, arrivals) = read(
        "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15 00:00:00.000001+00:00,0,50,9\n\
         2024-10-15 00:00:01+00:00,2,60,9\n",
        None,
    );
    assert_eq!((format, arrivals[1].at.0), (Format::Azure, 999_999_000));
    // A column of sessions in any CSV.
    let columns = Columns { session: Some("user".to_owned()), ..Columns::new("t", "in", "out") };
    let (_, _, arrivals) = read("t,in,out,user\n0,1,1,x\n1,1,1,\n2,1,1,x\n", Some(columns));
    assert_eq!(sessions(&arrivals), [Some(0), None, Some(0)]);
}

#[test]
fn what_other_tools_write_and_cannot_be_read_is_refused() {
    let says = |text: &str, part: &str| {
        let error = error_of(text, |_| {}).to_string();
        assert!(error.contains(part) && error.contains("; help: "), "`{part}` is missing in: {error}");
    };
    // AIPerf's later turns have a delay and no time; its text needs a tokenizer.
    says(
        "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 4}\n{\"delay\": 5, \"input_length\": 5, \"output_length\": 4}\n",
        ":2: column `timestamp`: expected a time",
    );
    says("{\"timestamp\": 0, \"text_input\": \"hi\", \"output_length\": 4}\n", "unknown header `timestamp,text_input");
    // LLMServingSim's agentic workloads and ShareGPT have no lengths.
    says("{\"session_id\": 1, \"arrival_time_ns\": 0, \"sub_requests\": []}\n", "unknown header");
    says("[{\"id\": \"a\", \"conversations\": []}]\n", "unknown header `id,conversations`");
    let file = file("t,in,out\n0,1,1\n");
    let columns = Columns { parent: Some("p".to_owned()), ..Columns::new("t", "in", "out") };
    let spec = TraceSpec { columns: Some(columns), ..TraceSpec::new(file.path()) };
    assert_eq!(spec.problems()[0].0, "columns.parent");
    let columns = Columns { session: Some("user".to_owned()), ..Columns::new("t", "in", "out") };
    let error = TraceSpec { columns: Some(columns), ..spec }.replay().err().expect("no such column");
    assert!(error.to_string().contains("no column `user` (`columns.session`) among `t,in,out`"), "{error}");
    let mut bailian = TraceSpec { format: Format::Bailian, ..TraceSpec::new(file.path()) };
    let error = bailian.replay().err().expect("other columns").to_string();
    assert!(error.contains("lacks chat_id, parent_chat_id"), "{error}");
    bailian.keep.model = vec!["x".to_owned()];
    assert_eq!(bailian.problems()[0].0, "keep");
}

#[test]
fn generated_sessions_have_their_numbers() {
    let spec = GenerateSpec {
        arrivals: ArrivalSpec::Poisson { rate: overbook_sim::units::Rate(1.0) },
        lengths: LengthSpec::Fixed { prompt: 100, output: 40 },
        sessions: Some(SessionSpec::default()),
        repeats: None,
        transcripts: None,
        requests: Some(5_000),
        duration: None,
    };
    let arrivals = drain(&mut *spec.open(5).expect("opens")).expect("generates");
    let mut contents: BTreeMap<SessionId, u64> = BTreeMap::new();
    for arrival in &arrivals {
        // The first block of a session's content is its own.
        let first = arrival.content.as_ref().expect("content").ids[0];
        let session = arrival.session.expect("a session");
        assert_eq!(*contents.entry(session).or_insert(first), first);
    }
    let firsts: std::collections::BTreeSet<u64> = contents.values().copied().collect();
    assert!(firsts.len() == contents.len() && contents.len() > 1_000, "{}", contents.len());
}
