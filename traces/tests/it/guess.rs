//! Logs that nobody has described: what is guessed of them, and what is said.

use std::io::Write as _;

use overbook_traces::{Clock, Format, Guess, Hints, LeaveOut, TimeUnit, TraceError};

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
        (columns.arrival.as_str(), columns.prompt.as_str(), columns.output.as_str(), columns.unit),
        ("created", "response.usage.prompt_tokens", "response.usage.completion_tokens", TimeUnit::Ms)
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
    assert_eq!((columns.arrival.as_str(), columns.unit), ("Start Time", TimeUnit::Datetime));
    assert_eq!((guess.clock, guess.trace.leave_out, guess.counts.taken), (Clock::Local, LeaveOut::Invalid, 2));
    assert_eq!(guess.left_out.invalid.to_string(), "line 3");
    assert!(said(&guess).contains("the dates have no zone"), "{}", said(&guess));
}

#[test]
fn hints_win_and_ambiguities_are_said() {
    let text = "ts,created_at,input_tokens,prompt_tokens,output_tokens\n0,2026-03-02T09:00:05Z,1,2,3\n100,2026-03-02T09:00:06Z,1,2,3\n";
    let guessed = guess(text, &Hints::default()).expect("a log");
    let columns = guessed.trace.columns.as_ref().expect("columns");
    assert_eq!((columns.arrival.as_str(), columns.prompt.as_str()), ("ts", "prompt_tokens"));
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
    assert!(error("when,in,out\n").contains("no column seems to hold the arrival"));
    assert!(error("5,6,7\n8,9,10\n").contains("no column seems to hold"));
}
