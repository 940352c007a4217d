//! A log of one's own, from `check` to the report: nothing of it is lost in silence.

use crate::cli::home::{Home, SMALL};

const LOG: &str = "ts,in,out
2026-03-02T23:30:05+02:00,10,5
2026-03-02T23:30:01+02:00,11,5
2026-03-02T23:30:07+02:00,NULL,5
2026-03-02T23:30:08+02:00,12,
2026-03-02T23:30:09+02:00,0,0
2026-03-02T23:30:11+02:00,12,7
";

fn scenario(trace: &str) -> String {
    let (head, rest) = SMALL.split_once("  generate:").expect("a workload");
    let (_, rest) = rest.split_once("model:").expect("a model");
    format!("{head}  trace: {{ path: log.csv, {trace} }}\nmodel:{rest}")
}

const COLUMNS: &str = "columns: { arrival: ts, prompt: in, output: out, unit: datetime }";

#[test]
fn check_tells_all_faults_of_a_log_at_once() {
    let home = Home::new();
    home.write("log.csv", LOG);
    home.write("log.yaml", scenario(COLUMNS));
    let err = home.overbook("check log.yaml").ends(2).err;
    for part in [
        "in all 6 rows of the trace:",
        "log.csv:3: column `ts`: time goes backwards",
        "log.csv:4: column `in`: expected a whole number of tokens, like 472, found `NULL`",
        "log.csv:5: column `out`:",
        "`leave_out: empty`",
        "`sort: true`",
    ] {
        assert!(err.contains(part), "`{part}` is missing in: {err}");
    }
    home.write("log.yaml", scenario(&format!("{COLUMNS}, sort: true, leave_out: empty")));
    let checked = home.overbook("check log.yaml").ends(0);
    assert!(checked.err.contains("3 taken, 2 with empty cells, 1 out of order and sorted"), "{checked:?}");
    assert!(checked.err.contains("of all 6 rows 3 are left out") && checked.out.contains("valid"), "{checked:?}");
}

#[test]
fn rows_that_are_left_out_are_named_everywhere() {
    let home = Home::new();
    home.write("log.csv", LOG);
    home.write("log.yaml", scenario(&format!("{COLUMNS}, sort: true, leave_out: empty")));
    let ran = home.overbook("run log.yaml --out a").ends(0);
    let told = "3 of 6 rows: 1 failed (no tokens), 2 with empty cells";
    assert!(ran.out.contains("3 of 3 finished") && ran.out.contains(&format!("  left out    {told}\n")), "{}", ran.out);
    assert!(home.text("a/report.html").contains(told));
    // What `sort` has moved stands beside it.
    let sorted = "1 of 6 rows was earlier than a row above it";
    assert!(ran.out.contains(&format!("  sorted      {sorted}\n")), "{}", ran.out);
    assert!(home.text("a/report.html").contains(&format!("Sorted: {sorted}.")));
    for file in ["a/summary.json", "a/manifest.json"] {
        let rows = &home.json(file)["trace_rows"];
        let named = ["read", "taken", "failed_left_out", "empty", "out_of_order"].map(|name| rows[name].as_u64());
        assert_eq!(named, [6, 3, 1, 2, 1].map(Some), "{file}: {rows}");
    }
    let study = home.overbook("compare log.yaml --over gpu=h100,mi300x --out b").ends(0);
    assert!(study.out.contains(&format!("Left out of the trace: {told}\n")), "{}", study.out);
    assert!(study.out.contains(&format!("Sorted: {sorted}\n")), "{}", study.out);
    assert!(home.text("b/report.html").contains(&format!("Sorted: {sorted}.")));
    assert_eq!(home.json("b/manifest.json")["trace_rows"], home.json("a/manifest.json")["trace_rows"]);
    // Points that play other rows say so themselves.
    home.overbook("compare log.yaml --over workload.trace.requests=1,2 --out d").ends(0);
    assert!(
        home.json("d/manifest.json")["trace_rows"].is_null()
            && !home.json("d/point-0001.summary.json")["trace_rows"].is_null()
    );
    // A generated workload has no rows.
    home.write("small.yaml", SMALL);
    let ran = home.overbook("run small.yaml --out c").ends(0);
    assert!(!ran.out.contains("left out") && home.json("c/summary.json")["trace_rows"].is_null(), "{}", ran.out);
}

#[test]
fn stats_name_the_columns_on_the_command_line() {
    let home = Home::new();
    home.write(
        "log.csv",
        LOG.lines()
            .filter(|line| !line.contains("NULL") && !line.ends_with(','))
            .skip(2)
            .fold("ts,in,out\n".to_owned(), |all, line| all + line + "\n"),
    );
    let columns = "arrival: ts, prompt: in, output: out, unit: datetime";
    let stats = home.run(["trace", "stats", "log.csv", "--columns", columns]).ends(0);
    assert!(stats.out.contains("requests") && stats.err.contains("left out of the trace: 1 of 3 rows"), "{stats:?}");
    let err = home.refused(["trace", "stats", "log.csv"]);
    assert!(err.contains("--columns"), "{err}");
    let err = home.refused(["trace", "stats", "log.csv", "--columns", "arival: ts"]);
    assert!(err.contains("arival"), "{err}");
    assert!(home.refused(["trace", "stats", "log.csv", "--seed", "4"]).contains("change a scenario"));
}

#[cfg(feature = "frames")]
#[test]
fn hours_are_those_of_the_files_clock() {
    let home = Home::new();
    home.write("log.csv", LOG);
    home.write("log.yaml", scenario(&format!("{COLUMNS}, sort: true, leave_out: empty")));
    let out = home.overbook("trace stats log.yaml --by hour-of-day").ends(0).out;
    assert!(out.contains("hour (+02:00)") && out.contains("23:00") && !out.contains("21:00"), "{out}");
}

/// Requests of four shared prefixes on a fleet that routes by prefix.
#[test]
fn a_converted_trace_gives_the_same_run() {
    let home = Home::new();
    let rows: Vec<String> = (0..120)
        .map(|n: u64| {
            let (at, shared) = (n * 150, 3 * (n * n % 4));
            let ids = format!("[{},{},{},{}]", shared, shared + 1, shared + 2, 1000 + n);
            format!("{{\"timestamp\":{at},\"input_length\":2048,\"output_length\":40,\"hash_ids\":{ids},\"session_id\":\"s{}\"}}\n", n % 7)
        })
        .collect();
    home.write("t.jsonl", rows.concat());
    let text = "version: 1\nname: t\nworkload: { trace: { path: t.jsonl } }\nmodel: llama-3.1-8b\ngpu: h100\nfleet: { replicas: 2 }\nscheduler: { vllm: {} }\n";
    home.write("t.yaml", text);
    let first = home.overbook("run t.yaml --out a").ends(0);
    assert!(home.json("a/summary.json")["prefix_hit_rate"].as_f64() > Some(0.5));
    for file in ["c.jsonl", "c.parquet"] {
        home.overbook(&format!("trace convert t.yaml --out {file}")).ends(0);
        let again = home.overbook(&format!("run t.yaml --set workload.trace.path={file} --out {file}.run")).ends(0);
        assert_eq!(again.digest(), first.digest(), "{file}");
        assert_eq!(
            home.json(&format!("{file}.run/summary.json"))["mean_ttft_ms"],
            home.json("a/summary.json")["mean_ttft_ms"]
        );
    }
    let err = home.refused(["trace", "convert", "t.yaml", "--out", "c.csv"]);
    assert!(err.contains("request 1 has ids,sessions") && err.contains("--drop ids,sessions"), "{err}");
    home.overbook("trace convert t.yaml --out c.csv --drop ids,sessions").ends(0);
}

/// Charts over time have the clock of the log, in the log's own zone, where it is played as fast as it was recorded.
#[test]
fn charts_over_time_have_the_clock_of_the_log() {
    let home = Home::new();
    home.write(
        "dated.csv",
        "ts,in,out\n2026-03-02T23:50:00+02:00,10,5\n2026-03-03T00:05:00+02:00,10,5\n2026-03-03T00:20:30+02:00,10,5\n",
    );
    let scenario = |more: &str| {
        format!(
            "version: 1\nname: dated\nworkload:\n  trace:\n    path: dated.csv\n    {COLUMNS}\n{more}model: llama-3.1-8b\ngpu: h200\n"
        )
    };
    home.write("dated.yaml", scenario(""));
    home.overbook("run dated.yaml --out a").ends(0);
    let page = home.text("a/report.html");
    assert!(page.contains("time of the trace, from 2026-03-02 23:50"), "the zone of the log");
    assert!(page.contains(">3 Mar</text>") && page.contains(">00:15</text>"), "midnight and quarters are named");
    assert!(page.contains("<h2>Worst minutes</h2>") && page.contains("<th scope=\"row\">2 Mar 23:50</th>"));
    home.write("fast.yaml", scenario("    time_scale: 10\n"));
    home.overbook("run fast.yaml --out b").ends(0);
    let page = home.text("b/report.html");
    assert!(
        page.contains("simulated time [") && !page.contains("time of the trace"),
        "ten times faster there is no such clock"
    );
}
