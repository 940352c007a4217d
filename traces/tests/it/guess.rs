//! Logs that nobody has described: what is guessed of them, and what is said.

use std::io::Write as _;

use overbook_sim::units::Rate;
use overbook_traces::{ArrivalSpec, Clock, Format, Guess, Hints, LeaveOut, TimeUnit, TraceError};

use crate::{all, file};

fn guess(text: impl AsRef<[u8]>, hints: &Hints) -> Result<Guess, TraceError> {
    let file = file(text);
    let guess = Guess::of(file.path(), hints)?;
    // What was guessed is what plays.
    assert_eq!(all(&guess.trace).len() as u64, guess.counts.taken);
    Ok(guess)
}

fn said(guess: &Guess) -> String {
    let told =
        guess.choices.iter().map(|choice| format!("{} | {}", choice.taken, choice.instead.as_deref().unwrap_or("-")));
    told.collect::<Vec<_>>().join("\n")
}

const NESTED: &str = r#"{"created": 1764300009250, "response": {"model": "m1", "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 8}}}, "latency_ms": 800, "conversation_id": "c"}
{"created": 1764300001000, "response": {"model": "m2", "usage": {"prompt_tokens": 20, "completion_tokens": 4}}, "conversation_id": null}
{"created": 1764300002000, "error": "timeout", "response": {"model": "m1", "usage": null}}
{"created": 1764300003000, "response": {"model": "m1", "usage": {"prompt_tokens": 0, "completion_tokens": 0}}}
"#;

#[test]
fn nested_json_in_milliseconds_and_any_order() {
    let guess = guess(NESTED, &Hints::default()).expect("a log");
    let columns = guess.trace.columns.as_ref().expect("columns");
    assert_eq!(
        (columns.arrival.as_deref(), columns.prompt.as_str(), columns.output.as_str(), columns.unit),
        (Some("created"), "response.usage.prompt_tokens", "response.usage.completion_tokens", TimeUnit::Ms)
    );
    assert_eq!(
        (columns.class.as_deref(), columns.session.as_deref()),
        (Some("response.model"), Some("conversation_id"))
    );
    assert_eq!((guess.trace.sort, guess.trace.leave_out), (true, LeaveOut::Empty));
    assert_eq!(guess.classes, [("m2".to_owned(), 1), ("m1".to_owned(), 1)]);
    assert_eq!(
        (guess.left_out.empty.to_string(), guess.left_out.failed.to_string()),
        ("line 3".into(), "line 4".into())
    );
    assert_eq!((guess.counts.out_of_order, guess.counts.taken, guess.counts.empty), (3, 2, 1));
    assert!(
        said(&guess).contains("milliseconds since 1970, by their size (1764300009250) | --unit s"),
        "{}",
        said(&guess)
    );
    assert!((guess.lasts_s - 8.25).abs() < 1e-9);
    let faults: Vec<String> = guess.faults.iter().map(|fault| fault.lines.to_string()).collect();
    assert_eq!(faults, ["lines 2 and 4", "line 3"]);
}

#[test]
fn dates_semicolons_gzip_and_what_cannot_be_read() {
    let text = "Start Time;End Time;Input Tokens;Output Tokens;Customer\n\
                2026-03-02 09:00:05;2026-03-02 09:00:06;10;5;a\n\
                2026-03-02 09:00:07;2026-03-02 09:00:09;many;5;a\n\
                2026-03-02 09:00:09;2026-03-02 09:00:11;12;6;b\n";
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).expect("packed");
    let guess = guess(packed.finish().expect("packed"), &Hints::default()).expect("a log");
    let columns = guess.trace.columns.as_ref().expect("columns");
    assert_eq!((columns.arrival.as_deref(), columns.unit), (Some("Start Time"), TimeUnit::Datetime));
    assert_eq!((guess.clock, guess.trace.leave_out, guess.counts.taken), (Clock::Local, LeaveOut::Invalid, 2));
    assert_eq!(guess.left_out.invalid.to_string(), "line 3");
    assert!(said(&guess).contains("the dates have no zone"), "{}", said(&guess));
}

#[test]
fn hints_win_and_ambiguities_are_said() {
    let text = "ts,created_at,input_tokens,prompt_tokens,output_tokens\n0,2026-03-02T09:00:05Z,1,2,3\n100,2026-03-02T09:00:06Z,1,2,3\n";
    let guessed = guess(text, &Hints::default()).expect("a log");
    let columns = guessed.trace.columns.as_ref().expect("columns");
    assert_eq!((columns.arrival.as_deref(), columns.prompt.as_str()), (Some("ts"), "prompt_tokens"));
    let told = said(&guessed);
    assert!(told.contains("prompt tokens: `prompt_tokens`, and not `input_tokens` | --prompt input_tokens"), "{told}");
    assert!(told.contains("arrival: `ts`, and not `created_at` | --arrival created_at"), "{told}");
    assert!(told.contains("milliseconds, for rows are 100 apart on average; nothing else tells | --unit s"), "{told}");
    let hints = Hints { prompt: Some("INPUT_tokens".into()), arrival: Some("created_at".into()), ..Hints::default() };
    let hinted = guess(text, &hints).expect("a log");
    let columns = hinted.trace.columns.as_ref().expect("columns");
    assert_eq!((columns.prompt.as_str(), columns.unit), ("input_tokens", TimeUnit::Datetime));
    let wrong = Hints { prompt: Some("tokens".into()), ..Hints::default() };
    let error = guess(text, &wrong).expect_err("no such column").to_string();
    assert!(error.contains("no column `tokens` (--prompt) among `ts,created_at"), "{error}");
}

#[test]
fn known_formats_are_known_and_others_refused() {
    let vidur = guess("arrived_at,num_prefill_tokens,num_decode_tokens\n0,1,1\n", &Hints::default()).expect("a log");
    assert_eq!((vidur.format, vidur.trace.columns.is_none()), (Format::Vidur, true));
    let error = |text: &str| guess(text, &Hints::default()).expect_err("no log").to_string();
    let told = error("when,in,latency\n1,2,3\n");
    assert!(
        told.contains("no column seems to hold the output tokens: when,in,latency; help: name it with `--output NAME`"),
        "{told}"
    );
    assert!(error("start_time,input_tokens,output_tokens,num_model_requests\n1,2,3,4\n").contains("sum of"));
    assert!(error("when,in,out\n").contains("the file has a header and no rows"));
    assert!(error("5,6,7\n8,9,10\n").contains("no column seems to hold"));
}

/// Rows of ten tokens each at these times.
fn at(times: &[&str]) -> String {
    times.iter().fold("ts,in,out\n".to_owned(), |text, time| format!("{text}\"{time}\",10,10\n"))
}

#[test]
fn one_odd_time_does_not_decide() {
    let mut times: Vec<String> = (0..40).map(|at| format!("17643000{at:02}.5")).collect();
    times[20] = "1764300020500".to_owned();
    let odd: Vec<&str> = times.iter().map(String::as_str).collect();
    let guessed = guess(at(&odd), &Hints::default()).expect("a log");
    assert_eq!((guessed.counts.taken, guessed.left_out.invalid.to_string()), (39, "line 22".into()));
    assert!((guessed.lasts_s - 39.0).abs() < 1e-9);
    let doubt = "column `ts`: 1 of 40 times are no seconds since 1970 as the others are: line 22, the first `1764300020500`; these rows are left out";
    assert_eq!(guessed.doubts, [doubt]);
    // Half of them in another unit, or one that reads as a time of 1970: nothing is guessed.
    for (from, line) in [(20, "line"), (39, "line 41")] {
        let times: Vec<String> = (0..40)
            .map(|at| if at < from { format!("17643000{at:02}500") } else { format!("17643000{at:02}") })
            .collect();
        let mixed: Vec<&str> = times.iter().map(String::as_str).collect();
        let error = guess(at(&mixed), &Hints::default()).expect_err("mixed").to_string();
        assert!(
            error.contains("are no milliseconds since 1970") || error.contains("are no seconds since 1970"),
            "{error}"
        );
        assert!(error.contains(line) && error.contains("`--unit`"), "{error}");
    }
    // Who names the unit is believed.
    let named = Hints { unit: Some(TimeUnit::S), ..Hints::default() };
    assert_eq!(guess(at(&odd), &named).expect("a log").counts.taken, 39);
}

#[test]
fn dates_of_other_programs() {
    let unit = |times: &[&str]| {
        let guessed = guess(at(times), &Hints::default()).map_err(|error| error.to_string())?;
        let unit = guessed.trace.columns.as_ref().map(|columns| columns.unit);
        Ok::<_, String>((unit.expect("columns"), guessed.lasts_s as u64, guessed.doubts.len()))
    };
    assert_eq!(unit(&["2026/11/28 10:00:00", "2026/11/28 10:01:30"]), Ok((TimeUnit::Datetime, 90, 0)));
    assert_eq!(unit(&["2026-11-28 10:00", "2026-11-28 10:02"]), Ok((TimeUnit::Datetime, 120, 1)));
    // One row that can have but one order tells it of all.
    assert_eq!(unit(&["12/11/2026 10:00:00", "13/11/2026 10:00:00"]), Ok((TimeUnit::Dmy, 86_400, 0)));
    assert_eq!(unit(&["11/12/2026, 9:00:00 AM", "11/13/2026, 9:00:01 PM"]), Ok((TimeUnit::Mdy, 129_601, 0)));
    let error = unit(&["03/02/2026 09:00:05", "03/02/2026 09:00:06"]).expect_err("either");
    for part in ["like `03/02/2026 09:00:05` could have the month first or the day", "`--unit mdy`", "`--unit dmy`"] {
        assert!(error.contains(part), "{error}");
    }
    let error = unit(&["13/02/2026 09:00:05", "03/14/2026 09:00:06"]).expect_err("both");
    assert!(error.contains("the month first in line 3 and the day first in line 2"), "{error}");
    let named = Hints { unit: Some(TimeUnit::Mdy), ..Hints::default() };
    assert_eq!(guess(at(&["03/02/2026 09:00:05", "03/03/2026 09:00:05"]), &named).expect("a log").counts.taken, 2);
}

#[test]
fn why_nothing_can_be_read_is_said() {
    let error = |text: &str, hints: &Hints| guess(text, hints).expect_err("no log").to_string();
    let none = Hints::default();
    let arrival = error(&at(&["half past nine", "ten"]), &none);
    for part in
        [":2: no column seems to hold the arrival: `ts` comes nearest, but has `half past nine`", "`--arrival NAME`"]
    {
        assert!(arrival.contains(part), "{arrival}");
    }
    let comma = error(&at(&["1764579600,5", "1764579601,5"]), &none);
    assert!(comma.contains("`1764579600,5`; help: the numbers have a decimal comma"), "{comma}");
    let thousands = error("ts,in,out\n1.5,\"1,200\",300\n2.5,\"2,300\",400\n", &none);
    assert!(
        thousands.contains("`in` comes nearest, but has `1,200`; help: the numbers have separators of thousands"),
        "{thousands}"
    );
    let empty = error("ts,in,out\n,1,2\n,3,4\n", &none);
    assert!(empty.contains("all cells of `ts` are empty"), "{empty}");
    // A column that was named, or its unit: the fault of its rows.
    let named = Hints { arrival: Some("ts".into()), unit: Some(TimeUnit::Datetime), ..Hints::default() };
    let error = error(&at(&["1764579600", "1764579601"]), &named);
    for part in ["no request is left: 2 of 2 rows are like", ":2: column `ts`", "this is a number: name its unit"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn sizes_in_bytes_are_not_taken() {
    let text = "timestamp,request_length,response_length\n1764579600,655,12160\n1764579601,1440,2720\n";
    let error = guess(text, &Hints::default()).expect_err("bytes").to_string();
    for part in ["`request_length` comes nearest, but has `655`", "bytes or characters", "`--prompt NAME`"] {
        assert!(error.contains(part), "{error}");
    }
    let named =
        Hints { prompt: Some("request_length".into()), output: Some("response_length".into()), ..Hints::default() };
    assert_eq!(guess(text, &named).expect("a log").counts.taken, 2);
}

#[test]
fn arrivals_may_be_drawn_with_and_without_times() {
    let drawn = Hints { arrivals: Some(ArrivalSpec::Poisson { rate: Rate(5.0) }), ..Hints::default() };
    let without = guess("in,out\n131,152\n288,34\n", &drawn).expect("a log");
    assert_eq!((without.counts.taken, without.replaced), (2, false));
    assert_eq!(without.trace.columns.as_ref().and_then(|columns| columns.arrival.clone()), None);
    let with = guess(at(&["1764579601", "1764579600"]), &drawn).expect("a log");
    assert_eq!((with.counts.taken, with.replaced, with.trace.sort), (2, true, false));
    assert!(said(&with).contains("arrivals: drawn, in place of the times of the log"), "{}", said(&with));
    let error = guess("in,out\n131,152\n", &Hints::default()).expect_err("no times").to_string();
    assert!(error.contains("`--arrival NAME`") && error.contains("`--rate 2/s`"), "{error}");
    // A scenario without the column must say when requests arrive.
    let silent = overbook_traces::TraceSpec { arrivals: None, ..without.trace };
    assert_eq!(silent.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["columns.arrival"]);
}

#[test]
fn a_log_that_is_nearly_all_one_gap_is_doubted() {
    let row = |day: &str, second: u32| format!("{day}T10:00:{second:02}Z,100,20\n");
    let day: String = (0..20).map(|second| row("2026-11-28", second)).collect();
    let log = |last: &str| format!("time,prompt_tokens,output_tokens\n{day}{}", row(last, 30));
    assert_eq!(guess(log("2026-11-28"), &Hints::default()).expect("a log").doubts, Vec::<String>::new());
    let doubts = guess(log("2126-11-28"), &Hints::default()).expect("a log").doubts;
    assert!(doubts.len() == 1 && doubts[0].starts_with("no request for 36524 days before request 21: "), "{doubts:?}");
}
