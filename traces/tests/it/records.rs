//! Records of separated fields with line breaks in quotes (RFC 4180).

use overbook_traces::{Columns, LeaveOut, TraceError, TraceSpec};

use crate::{all, error_of, file};

fn spec(path: &std::path::Path) -> TraceSpec {
    TraceSpec { columns: Some(Columns::new("ts", "in", "out")), ..TraceSpec::new(path) }
}

/// Seconds, prompt and output.
fn requests(spec: &TraceSpec) -> Vec<(u64, u32, u32)> {
    all(spec).iter().map(|a| (a.at.0 / 1_000_000_000, a.prompt_tokens, a.output_tokens)).collect()
}

#[test]
fn a_text_of_several_lines_is_one_row() {
    // What stands in the prompt looks like rows, and is none.
    for line_end in ["\n", "\r\n"] {
        let rows = [
            "ts,in,out,\"the",
            "prompt\"",
            "0,10,1,\"two",
            "1,7,7,x\"",
            "5,20,2,\"say \"\"hi\"\",",
            "",
            "bye\"",
            "6,30,3,plain",
        ];
        let text = rows.join(line_end);
        let trace = file(&text);
        assert_eq!(requests(&spec(trace.path())), [(0, 10, 1), (5, 20, 2), (6, 30, 3)], "{line_end:?}");
        // The line of a row is its first one.
        let broken = file(text.replace("6,30,3", "6,x,3").replace("5,20", "5,y"));
        let faults = spec(broken.path()).inspect(99).expect("reads").faults;
        assert_eq!(faults[0].lines.to_string(), "lines 5 and 8");
    }
}

#[test]
fn a_quote_that_is_not_closed_takes_one_line() {
    let text = "ts,in,out,prompt\n0,10,1,\"open\n1,20,2,5\" pipe\n2,30,3,x\n3,40,4,\"a\"b\n4,50,5,\"end\n";
    let error = error_of(text, |spec| spec.columns = Some(Columns::new("ts", "in", "out")));
    assert!(matches!(error, TraceError::OpenQuote { line: 2, .. }), "{error}");
    let trace = file(text);
    let lenient = TraceSpec { leave_out: LeaveOut::Invalid, ..spec(trace.path()) };
    assert_eq!(requests(&lenient), [(0, 20, 2), (1, 30, 3), (2, 40, 4)]);
    assert_eq!(lenient.inspect(99).expect("reads").left_out.invalid.to_string(), "lines 2 and 6");
}

#[test]
fn a_text_may_be_longer_than_a_block() {
    let long = "word,\n".repeat(200_000);
    let text = format!("ts,prompt,in,out\n0,\"{long}\",10,1\n1,\"{}\",20,2\n2,x,30,3\n", long.replace('\n', " "));
    let trace = file(text);
    assert_eq!(requests(&spec(trace.path())), [(0, 10, 1), (1, 20, 2), (2, 30, 3)]);
    // An open quote does not hide what follows, however much that is.
    let rows: Vec<String> = (1..400_000).map(|at| format!("{at},1,1,some words and some more of them\n")).collect();
    let trace = file(format!("ts,in,out,prompt\n0,1,1,\"open\n{}", rows.concat()));
    let counts =
        TraceSpec { leave_out: LeaveOut::Invalid, ..spec(trace.path()) }.inspect(u64::MAX).expect("reads").counts;
    assert_eq!((counts.invalid, counts.taken), (1, 399_999));
}
