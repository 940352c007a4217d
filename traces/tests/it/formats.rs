//! What load generators, proxies and routers write: a small file of each, made here by hand after their own documentation.

use overbook_sim::time::Time;
use overbook_sim::units::Rate;
use overbook_sim::workload::arrival::{Arrival, Workload};
use overbook_traces::{ArrivalSpec, Columns, Format, LengthSpec, TimeUnit, TraceError, TraceSpec, Usage};

use crate::{all, drain, error_of, file, first_error};

/// Milliseconds, prompt and output.
type Request = (u64, u32, u32);

fn requests(arrivals: &[Arrival]) -> Vec<Request> {
    arrivals.iter().map(|a| (a.at.0 / 1_000_000, a.prompt_tokens, a.output_tokens)).collect()
}

/// The format of a file, its requests, and rows that are no requests and failed ones.
fn read(text: &str) -> (Format, Vec<Request>, (u64, u64)) {
    let file = file(text);
    let mut replay = TraceSpec::new(file.path()).replay().expect("opens");
    let arrivals = drain(&mut replay).expect("reads");
    let counts = replay.counts();
    (replay.format(), requests(&arrivals), (counts.no_request, counts.failed))
}

const AIPERF: &str = r#"{"metadata":{"x_correlation_id":"c0","request_start_ns":1764300000000000000,"benchmark_phase":"warmup"},"metrics":{"input_sequence_length":{"value":9,"unit":"tokens"},"output_sequence_length":{"value":9,"unit":"tokens"}},"error":null}
{"metadata":{"x_correlation_id":"c2","request_start_ns":1764300010250000000,"benchmark_phase":"profiling","was_cancelled":true},"metrics":{"error_request_count":{"value":1,"unit":"requests"}},"error":{"code":499,"message":"cut \"off\""}}
{"metadata":{"x_correlation_id":"c1","request_start_ns":1764300013000000000,"benchmark_phase":"profiling"},"metrics":{"input_sequence_length":{"value":700,"unit":"tokens"},"output_sequence_length":{"value":20.0,"unit":"tokens"}},"error":null}
{"metadata":{"x_correlation_id":"c1","request_start_ns":1764300010000000000,"benchmark_phase":"profiling"},"metrics":{"input_sequence_length":{"value":550,"unit":"tokens"},"output_sequence_length":{"value":193,"unit":"tokens"}},"error":null}
"#;

#[test]
fn aiperf() {
    // Written in order of completion; warm-up is no load, and what was cancelled has no lengths.
    let (format, found, others) = read(AIPERF);
    assert_eq!((format, found, others), (Format::Aiperf, vec![(0, 550, 193), (3000, 700, 20)], (1, 1)));
    let warm = AIPERF.lines().next().expect("warm-up");
    let error = error_of(format!("{warm}\n"), |_| {}).to_string();
    assert!(
        error.contains("no row is a request to an engine: of 1 `metadata.benchmark_phase` is not `profiling`"),
        "{error}"
    );
    let file = file(AIPERF);
    let sessions: Vec<_> = all(&TraceSpec::new(file.path())).iter().map(|a| a.session).collect();
    assert!(sessions[0].is_some() && sessions[0] == sessions[1]);
}

const VLLM: &str = r#"{"date": "20260901", "model_id": "m", "request_rate": 4.0, "max_concurrency": null, "completed": 3, "failed": 1,
 "input_lens": [10, 20, 30, 40], "output_lens": [1, 2, 0, 4], "ttfts": [0.1, 0.1, 0.0, 0.1], "itls": [[], [0.01], [], [0.01, 0.01, 0.02]],
 "start_times": [512.25, 512.0, 513.0, 514.5], "errors": ["", "", "Traceback: [\"boom\"]", ""], "generated_texts": ["a", "b", "", "d"]}"#;

#[test]
fn vllm_bench_serve() {
    let expected = (Format::VllmBench, vec![(0, 20, 2), (250, 10, 1), (2500, 40, 4)], (0, 1));
    assert_eq!(read(VLLM), expected);
    let one_line = VLLM.replace('\n', "");
    assert_eq!(read(&one_line), expected, "as a JSON file in one line, and with --append-result");
    let error = error_of(format!("{one_line}\n{one_line}\n"), |_| {}).to_string();
    assert!(error.contains("the file holds 2 runs, each with its own clock"), "{error}");
    let without = error_of(one_line.replace("start_times", "begun"), |_| {});
    assert!(matches!(without, TraceError::NoTimes { .. }));
    assert!(
        without.to_string().contains("`start_times` of `vllm bench serve --save-detailed` is missing"),
        "{without}"
    );
    // A list that was cut off is no list that is not there.
    for (times, entries) in [("[512.25, 512.0]", 2), ("[]", 0)] {
        let short = one_line.replace("[512.25, 512.0, 513.0, 514.5]", times);
        let error = error_of(&short, |_| {}).to_string();
        assert!(error.contains(&format!("`start_times` has {entries} entries, other lists 4")), "{error}");
    }
}

#[test]
fn sglang_bench_serving_has_no_times() {
    let text = r#"{"backend": "sglang", "request_rate": 4.0, "max_concurrency": 8, "input_lens": [187, 632], "output_lens": [5, 62], "ttfts": [0.05, 0.05]}
"#;
    let error = error_of(text, |_| {}).to_string();
    for part in ["`sglang.bench_serving` does not write them", "have no times", "arrivals: { poisson: { rate: 4/s } }"]
    {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
    let file = file(text);
    let poisson = ArrivalSpec::Poisson { rate: Rate(4.0) };
    let drawn = |seed| {
        let spec = TraceSpec { arrivals: Some(poisson.clone()), ..TraceSpec::new(file.path()) };
        drain(&mut *spec.open_seeded(seed).expect("opens")).expect("reads")
    };
    let first = drawn(1);
    assert_eq!(first.iter().map(|a| (a.prompt_tokens, a.output_tokens)).collect::<Vec<_>>(), [(187, 5), (632, 62)]);
    assert!(first[0].at < first[1].at && first[0].at > Time(0));
    assert_eq!(first, drawn(1));
    assert_ne!(first[0].at, drawn(2)[0].at);
    // What goes by the file's times has none to go by.
    let clash = TraceSpec { arrivals: Some(poisson), sort: true, rate: Some(Rate(1.0)), ..TraceSpec::new(file.path()) };
    let keys: Vec<String> = clash.problems().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["sort", "rate"]);
}

#[test]
fn guidellm() {
    let request = |start: &str, prompt: &str, output: &str| {
        format!(
            r#"{{"type_": "generative_request_stats", "request_start_time": {start}, "request_latency": 1.5, "prompt_tokens": {prompt}, "output_tokens": {output}, "output_tokens_per_second": 5.5, "info": {{"timings": {{"request_start": {start}}}}}}}"#
        )
    };
    let (ok, late) = (request("1700000001.5", "100", "7"), request("1700000000.25", "50", "3"));
    let (cut, failed) = (request("1700000002.0", "60", "1"), request("1700000003.0", "null", "null"));
    let text = format!(
        "{{\n \"metadata\": {{\"version\": 1}},\n \"benchmarks\": [\n  {{\"requests\": {{\"successful\": [{ok}],\n \"incomplete\": [{cut}], \"errored\": [{failed}], \"total\": null}}}},\n  {{\"requests\": {{\"successful\": [{late}]}}}}\n ]\n}}\n"
    );
    let expected = (Format::Guidellm, vec![(0, 50, 3), (1250, 100, 7), (1750, 60, 1)], (0, 1));
    assert_eq!(read(&text), expected);
    assert_eq!(read(&text.replace('\n', "")), expected);
    // `total` has the same requests once more, or alone.
    let total = format!("\"total\": [{ok}, {cut}, {failed}]");
    assert_eq!(read(&text.replace("\"total\": null", &total)), expected);
    let alone = format!("{{\"benchmarks\": [{{\"requests\": {{\"successful\": null, {total}}}}}]}}");
    assert_eq!(read(&alone).1, [(0, 100, 7), (500, 60, 1)]);
    // Reports before 0.4 call the start otherwise.
    assert_eq!(read(&text.replace("request_start_time", "start_time")), expected);
}

#[test]
fn inference_perf() {
    let text = r#"[
  {"start_time": 1393.75, "end_time": 1395.1, "request": "{\"max_tokens\": 2}", "response": "x",
   "info": {"request_metrics": {"text": {"input_tokens": 591}}, "response_metrics": {"output_tokens": 140, "output_token_times": [1393.8]}, "input_tokens": 591}, "error": null},
  {"start_time": 1393.25, "end_time": 1394, "request": "", "response": "", "info": {"request_metrics": {"text": {"input_tokens": 12}}, "response_metrics": null, "input_tokens": 12}, "error": {"error_type": "x", "error_msg": "}]"}},
  {"start_time": 1393.5, "end_time": 1394, "request": "", "response": "", "info": {"request_metrics": {"text": {"input_tokens": 7}}, "response_metrics": {"output_tokens": 3}, "input_tokens": 7}, "error": null}
]"#;
    assert_eq!(read(text), (Format::InferencePerf, vec![(0, 7, 3), (250, 591, 140)], (0, 1)));
    // Reports before multi-modal requests.
    let old = r#"[{"start_time": 1, "end_time": 2, "request": "", "response": "", "info": {"input_tokens": 591, "output_tokens": 140, "output_token_times": []}, "error": null}]"#;
    assert_eq!(read(old).1, [(0, 591, 140)]);
}

#[test]
fn litellm() {
    let csv = "request_id,call_type,startTime,endTime,prompt_tokens,completion_tokens,model,session_id,cache_hit\n\
               r1,acompletion,2025-06-01T10:00:02.500Z,2025-06-01T10:01:00Z,187,5,gpt-x,s,False\n\
               r0,acompletion,2025-06-01T10:00:00.000Z,2025-06-01T10:01:00Z,632,62,qwen,,False\n\
               r2,acompletion,2025-06-01T10:00:03Z,2025-06-01T10:00:03Z,632,62,qwen,,True\n\
               r3,acompletion,2025-06-01T10:00:04Z,2025-06-01T10:00:04Z,0,0,qwen,,\n";
    assert_eq!(read(csv), (Format::Litellm, vec![(0, 632, 62), (2500, 187, 5)], (1, 1)));
    let file = file(csv);
    let mut replay = TraceSpec::new(file.path()).replay().expect("opens");
    drain(&mut replay).expect("reads");
    assert_eq!(replay.classes(), ["qwen", "gpt-x"]);
    let left_out = TraceSpec::new(file.path()).inspect(9).expect("reads").left_out;
    assert_eq!(
        (left_out.no_request.to_string(), left_out.no_request_why),
        ("line 4".into(), "`cache_hit` is `True`".into())
    );
    assert!(replay.counts().to_string().ends_with("2 taken, 1 no requests to an engine, 1 out of order and sorted"));
    let json = r#"[{"startTime": "2025-06-01 10:00:00+02:00", "endTime": "2025-06-01 10:00:05", "prompt_tokens": 3, "completion_tokens": 4, "metadata": {"a": {"b": 1}}}]"#;
    assert_eq!(read(json).1, [(0, 3, 4)]);
}

#[test]
fn dynamo() {
    let text = r#"{"schema":"dynamo.request.trace.v1","event_type":"tool_end","event_time_unix_ms":1777312801500,"agent_context":{"session_id":"a"},"tool":{"tool_class":"web_search"}}
{"schema":"dynamo.request.trace.v1","event_type":"request_end","event_time_unix_ms":1777312802000,"agent_context":{"session_id":"a"},"request":{"request_id":"r1","model":"m","request_received_ms":1777312800500,"input_tokens":130,"output_tokens":16,"replay":{"trace_block_size":64,"input_length":130,"input_sequence_hashes":[14879255164371896291,27,99]}}}
{"schema":"dynamo.request.trace.v1","event_type":"request_end","event_time_unix_ms":1777312803000,"agent_context":{"session_id":"a"},"request":{"request_id":"r0","model":"m","request_received_ms":1777312800000,"input_tokens":64,"output_tokens":8,"replay":{"trace_block_size":64,"input_length":64,"input_sequence_hashes":[14879255164371896291]}}}
"#;
    assert_eq!(read(text), (Format::Dynamo, vec![(0, 64, 8), (500, 130, 16)], (1, 0)));
    let trace = file(text);
    let arrivals = all(&TraceSpec::new(trace.path()));
    let ids = |at: usize| &arrivals[at].content.as_ref().expect("contents").ids;
    // The third hash stands for two tokens, which fill no block.
    assert_eq!((ids(0).len(), ids(1).len(), ids(1)[..4] == ids(0)[..]), (4, 8, true));
    assert!(arrivals[0].session.is_some() && arrivals[0].session == arrivals[1].session);
    // Whether a record states its replay is its own affair: others have their tokens elsewhere.
    let mixed = text.replace(
        ",\"replay\":{\"trace_block_size\":64,\"input_length\":64,\"input_sequence_hashes\":[14879255164371896291]}",
        "",
    );
    assert_eq!(read(&mixed), (Format::Dynamo, vec![(0, 64, 8), (500, 130, 16)], (1, 0)));
    let short = text.replace("[14879255164371896291,27,99]", "[14879255164371896291,27]");
    assert!(first_error(&TraceSpec::new(file(short).path())).to_string().contains("one id for each block"));
}

#[test]
fn sums_of_requests_are_no_requests() {
    let csv = "start_time,end_time,model,num_model_requests,input_tokens,output_tokens\n1700000000,1700003600,gpt-x,100,50000,9000\n";
    let page = r#"{"object":"page","data":[{"object":"bucket","start_time":1746057600,"end_time":1746144000,"results":[{"object":"organization.usage.completions.result","input_tokens":1000,"output_tokens":750,"num_model_requests":7}]}],"has_more":false}"#;
    for text in [csv, page] {
        let error = error_of(text, |_| {}).to_string();
        assert!(error.contains("a row is the sum of `num_model_requests` requests"), "{error}");
    }
}

#[test]
fn sums_of_requests_become_a_profile() {
    let csv = "start_time,end_time,model,num_model_requests,input_tokens,output_tokens\n\
               1700007200,1700010800,b,36,7200,720\n\
               1700000000,1700003600,a,70,49990,9000\n\
               1700000000,1700003600,b,2,10,720\n\
               1700010800,1700014400,b,0,0,\n";
    let file = file(csv);
    assert!(Usage::is_in(file.path()).expect("opens"));
    let usage = Usage::read(file.path()).expect("reads");
    let rates: Vec<f64> = usage.rates.iter().map(|rate| rate.0).collect();
    assert_eq!((usage.requests, rates), (108, vec![0.02, 0.0, 0.01]));
    let workload = usage.workload();
    assert_eq!(workload.lengths, LengthSpec::Fixed { prompt: 530, output: 97 });
    assert!(workload.problems().is_empty(), "{:?}", workload.problems());
    let generated = drain(&mut *workload.open(1).expect("opens")).expect("generates");
    // Poisson: within four standard deviations of 108.
    assert!((67..=149).contains(&generated.len()), "{}", generated.len());
    let wrong = |text: &str, part: &str| {
        let broken = crate::file(text);
        let error = Usage::read(broken.path()).expect_err("no usage").to_string();
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    };
    wrong(&csv.replace("1700010800,b", "1700010801,b"), ":3: column `end_time`: expected the end of a window as long");
    wrong(&csv.replace("end_time", "end"), "lacks end_time");
    // Lengths that no request has are not cut to one that it may have.
    let head = "start_time,end_time,model,num_model_requests,input_tokens,output_tokens\n";
    wrong(&format!("{head}1700000000,1700003600,a,5,0,0\n"), "prompts have 0.000 tokens on average (0 of 5 requests)");
    wrong(&format!("{head}1700000000,1700003600,a,5,500,1\n"), "answers have 0.200 tokens on average");
    wrong(&format!("{head}1700000000,1700003600,a,5,150000000,500\n"), "prompts have 30000000.000 tokens on average");
    wrong(
        &format!("{head}1700000000,1700003600,a,1e15,1e15,1e15\n"),
        "a window of 3600 s has 1000000000000000 requests",
    );
    wrong(&csv.replace(",36,", ",x,"), ":2: column `num_model_requests`: expected a number");
}

#[test]
fn columns_name_what_is_nested() {
    let text = "{\"ts\":0,\"error\":null}\n{\"ts\":1,\"usage\":{\"in\":5,\"out\":{\"n\":6}},\"who\":{\"id\":\"a\"}}\n{\"ts\":2,\"usage\":{\"in\":7,\"out\":{\"n\":8}}}\n";
    let columns = Columns { session: Some("who.id".into()), ..Columns::new("ts", "usage.in", "usage.out.n") };
    let read = |columns: Columns, text: &str| {
        let file = file(text);
        let spec = TraceSpec {
            columns: Some(columns),
            leave_out: overbook_traces::LeaveOut::Empty,
            ..TraceSpec::new(file.path())
        };
        let mut replay = spec.replay().map_err(|error| error.to_string())?;
        let arrivals = drain(&mut replay).map_err(|error| error.to_string())?;
        Ok::<_, String>((requests(&arrivals), arrivals[0].session.is_some(), replay.counts().empty))
    };
    assert_eq!(read(columns.clone(), text), Ok((vec![(0, 5, 6), (1000, 7, 8)], true, 1)));
    let error = read(Columns { prompt: "usage.input".into(), ..columns }, text).expect_err("no such key");
    assert!(error.contains("no column `usage.input`") && error.contains("usage.in,usage.out.n"), "{error}");
    // A name with a point in it is itself before it is a path.
    let literal = "{\"gen_ai.usage.in\":3,\"gen_ai\":{\"usage\":{\"in\":4}},\"t\":0,\"out\":1}\n";
    assert_eq!(read(Columns::new("t", "gen_ai.usage.in", "out"), literal).expect("reads").0, [(0, 3, 1)]);
}

#[test]
fn requests_in_lists_inside_of_records() {
    let aibrix = "{\"timestamp\": 0, \"requests\": [{\"in\": 5, \"out\": 6, \"text\": \"\\\"\"}, {\"in\": 7, \"out\": 8}]}\n{\"timestamp\": 1500, \"requests\": [{\"in\": 9, \"out\": 1}]}\n";
    let spec = |file: &std::path::Path, records: &str| {
        let columns =
            Columns { unit: TimeUnit::Ms, records: Some(records.into()), ..Columns::new("timestamp", "in", "out") };
        TraceSpec { columns: Some(columns), ..TraceSpec::new(file) }
    };
    let lines = file(aibrix);
    assert_eq!(requests(&all(&spec(lines.path(), "requests"))), [(0, 5, 6), (0, 7, 8), (1500, 9, 1)]);
    let two = TraceSpec { repeat: 2, ..spec(lines.path(), "requests") };
    assert_eq!(all(&two).len(), 6);
    let error = first_error(&spec(lines.path(), "reqs")).to_string();
    assert!(error.contains("no record in `reqs`"), "{error}");
    let nested = file("{\"runs\": [{\"timestamp\": 3, \"in\": 1, \"out\": 1}], \"more\": [{\"x\": 1}]}\n");
    assert_eq!(requests(&all(&spec(nested.path(), "runs.0"))), [(0, 1, 1)]);
    let document = file("{\n\"runs\": [{\"timestamp\": 3, \"in\": 1, \"out\": 1}],\n\"more\": [{\"x\": 1}]\n}\n");
    let plain = TraceSpec { columns: Some(Columns::new("timestamp", "in", "out")), ..TraceSpec::new(document.path()) };
    let error = first_error(&plain).to_string();
    assert!(error.contains("several lists of records: runs, more") && error.contains("columns.records"), "{error}");
}

#[test]
fn a_broken_document_says_where() {
    let says = |text: &str, part: &str| {
        let error = error_of(text, |_| {}).to_string();
        assert!(error.contains(part) && error.contains("; help: "), "`{part}` is missing in: {error}");
    };
    says("[{\"timestamp\": 0},\n {\"timestamp\": 1}\n", ":3:1: expected");
    says("{\n\"a\": 1,\n\"b\": 2\n}\n", "no list of requests at its top");
    says("[]", "an empty list holds no requests");
    says("[1, 2]", "no record in the list");
    says("[{\"timestamp\" 0}]", ":1:15: expected `:` after a key");
    says("[{\"timestamp\": 0}]", "unknown header `timestamp`");
}

#[test]
fn semicolons_and_tabs_separate_as_well() {
    for separator in [";", "\t"] {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n".replace(',', separator);
        assert_eq!(read(&text).1, [(0, 374, 44)], "{separator:?}");
    }
}
