use overbook_sim::results::trust::{MeasuredRuns, Standing};

use super::files::COLUMNS;
use super::*;

#[expect(clippy::too_many_lines, reason = "every field of a plan, once")]
fn plan() -> Plan {
    let fleet = Fleet {
        shape: "h200, TP 1, apart".to_owned(),
        gpu: "h200".to_owned(),
        tensor_parallel: 1,
        decode_gpu: None,
        decode_tensor_parallel: None,
        replicas: "8 + 3".to_owned(),
        gpus: 11,
        servers: Some(2),
        power: Some(Power {
            gpus_mean_kw: 5.5,
            servers_mean_kw: 8.25,
            servers_peak_kw: 9.5,
            facility_mean_kw: Some(9.9),
            facility_peak_kw: Some(11.4),
        }),
        binds: Some(BINDS),
        usd_per_hour: Some(27.5),
        usd_per_month: Some(20075.0),
        usd_per_mtoken: Some(1.27),
        kept: vec!["TTFT p99 1.40 s ≤ 2 s".to_owned()],
        tokens_per_s_per_gpu: Some(545.0),
        tokens_per_s_per_user: Some(31.0),
    };
    let point = |factor: f64, ttft: f64| LoadPoint {
        factor,
        requests_per_s: 20.0 * factor,
        ttft_p50: Some(ttft / 2.0),
        ttft_p99: Some(ttft),
        tpot_p50: None,
        tpot_p99: None,
        kept: ttft <= 2.0,
    };
    let tried = |gpus: u32, nearest_to_bound: f64| Tried {
        shape: "h200, TP 1, <b>".to_owned(),
        replicas: gpus.to_string(),
        gpus,
        usd_per_hour: None,
        kw_mean: Some(f64::from(gpus)),
        nearest_to_bound,
        tokens_per_s_per_gpu: Some(500.0),
        tokens_per_s_per_user: Some(30.0),
        kept: nearest_to_bound <= 1.0,
    };
    Plan {
        title: "How many <GPUs>?".to_owned(),
        status: Status::Complete,
        sentence: "11 × h200 keep the promises.".to_owned(),
        answer: Some(fleet),
        too_close_to_call: false,
        promises: vec!["TTFT p99 ≤ 2 s".to_owned()],
        requests: vec![("Requests".to_owned(), "6,000 requests".to_owned())],
        stages: vec![Stage { name: "window".to_owned(), ruled_out: 3, text: "5 tried, 3 fail".to_owned() }],
        headroom: vec![Headroom {
            growth: "faster".to_owned(),
            twice: "twice the rate of arrivals".to_owned(),
            factor: 1.24,
            seeds_low: 1.2,
            seeds_high: 1.28,
            low: 1.18,
            high: 1.3,
            seeds: vec![1.2, 1.28],
        }],
        binding: "prefill compute".to_owned(),
        growth: vec![Grown {
            factor: 2.0,
            growth: "faster".to_owned(),
            replicas: None,
            gpus: None,
            usd_per_month: None,
        }],
        alternatives: vec![Alternative {
            shape: "h200, TP 2, together".to_owned(),
            replicas: "8".to_owned(),
            gpus: 16,
            usd_per_month: Some(29200.0),
            kw_peak: Some(14.5),
            binds: None,
            why: "dearer; 7 replicas: TPOT p99 51.3 ms > 50 ms".to_owned(),
        }],
        curve: vec![point(0.5, 0.4), point(1.0, 1.4), point(1.3, 2.6)],
        tried: vec![tried(10, 1.2), tried(11, 0.7)],
        trust: Some(Trust {
            standing: Standing::Validated,
            runs: Some(MeasuredRuns { confirmed: 3, of: 4, within: 0.1, error: 0.05 }),
        }),
        errors: vec![FigureError {
            figure: "TPOT".to_owned(),
            error: 0.025,
            runs: 37,
            text: "TPOT 2.5 % at the median of 37 runs of vllm on Hopper GPUs; nearer: 1 of vllm on h200, 23.7 %"
                .to_owned(),
            elsewhere: true,
            binds: true,
        }],
        assumptions: vec![("Model".to_owned(), "llama".to_owned())],
        settings: Vec::new(),
        start: vec!["vllm serve x".to_owned()],
        start_notes: Vec::new(),
        calibration: "catalog".to_owned(),
        command: "overbook plan x.yaml".to_owned(),
        plan_hash: "abc".to_owned(),
        tool: "overbook 0".to_owned(),
        uses: vec![
            Use { of: "KV memory".to_owned(), share: Some(0.73), text: "73 % at most".to_owned() },
            Use { of: "Power".to_owned(), share: None, text: "not weighed".to_owned() },
        ],
        sensitivity: vec![
            Sensitivity { of: "price of a GPU hour".to_owned(), less: 1.016, more: 1.524 },
            Sensitivity { of: "load".to_owned(), less: 1.5875, more: 1.0583 },
        ],
        split: Some(split()),
        run: Some(Box::new(crate::sample::report())),
        ledger: vec![
            row("h200, TP 2, together", (2, 7, 14), Some(1.026), "lost", "TPOT p99 51.3 ms > 50 ms"),
            row("h200, TP 2, together", (2, 8, 16), Some(0.9), "held", "dearer than the answer"),
            row(
                "h200, TP 1, together",
                (1, 14, 14),
                None,
                "lost",
                "TTFT p99 > 2 s: 60 of the first 900 requests miss it",
            ),
        ],
    }
}

const BINDS: Binds = Binds { compute: 0.5, memory: 0.25, link: 0.05, host: 0.2 };

fn row(
    shape: &str,
    (tensor_parallel, replicas, gpus): (u32, u32, u32),
    nearest_to_bound: Option<f64>,
    outcome: &'static str,
    reason: &str,
) -> LedgerRow {
    LedgerRow {
        shape: shape.to_owned(),
        gpu: "h200".to_owned(),
        tensor_parallel,
        decode_gpu: None,
        decode_tensor_parallel: None,
        mode: "together".to_owned(),
        replicas: replicas.to_string(),
        fleets: 1,
        gpus: Some(gpus),
        servers: Some(gpus.div_ceil(8)),
        usd_per_hour: None,
        kw_mean: nearest_to_bound.map(|_| 12.5),
        kw_peak: nearest_to_bound.map(|_| 14.5),
        nearest_to_bound,
        binds: nearest_to_bound.map(|_| BINDS),
        stage: "window",
        outcome,
        reason: reason.to_owned(),
    }
}

fn split() -> Split {
    Split {
        hours: 4,
        hours_missed: 1,
        sides: vec![SplitSide {
            role: String::new(),
            gpu: "h200".to_owned(),
            reserved: 8,
            on_demand: 3,
            on_demand_hours: 0.25,
            usd_reserved: 2.0,
            usd_on_demand: 4.0,
            needed: vec![4, 8, 11, 8],
        }],
        usd_per_month: 13870.0,
        usd_per_month_reserved: 16060.0,
        usd_per_month_on_demand: 22630.0,
    }
}

#[test]
fn the_terminal_begins_with_the_answer_and_says_why_others_lost() {
    let text = plan().terminal();
    assert!(text.starts_with("11 × h200 keep the promises.\n"), "{text}");
    for part in [
        "holds until 1.24× (1.18 to 1.30), where 2× is twice the rate of arrivals",
        "TPOT p99 51.3 ms > 50 ms",
        "no fleet within the limit",
        "$29,200 a month",
        "validated: 3 of 4",
        "prefill compute",
    ] {
        assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(part), "{part}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 104), "{text}");
}

#[test]
fn the_page_has_the_figures_with_the_promise_and_the_knee() {
    let page = plan().html().expect("a page");
    assert!(page.contains("How many &#60;GPUs&#62;?") || page.contains("How many &lt;GPUs&gt;?"), "escaped");
    assert!(page.contains("holds until 1.24×") && page.contains(">TTFT p99 ≤ 2 s</text>"));
    for id in ["ttft-load", "cost-promise"] {
        assert!(page.contains(&format!("<figure id=\"{id}\">")), "{id}");
    }
    assert!(!page.contains("tpot-load"), "nothing to show");
    assert!(
        page.contains("$20,075") && page.contains("TPOT p99 51.3 ms &#62; 50 ms")
            || page.contains("51.3 ms &gt; 50 ms")
    );
}

#[test]
fn the_files_hold_numbers_and_the_ledger_quotes() {
    let plan = plan();
    let json: serde_json::Value = serde_json::from_str(&plan.json()).expect("JSON");
    assert_eq!(json["answer"]["usd_per_month"].as_f64(), Some(20075.0));
    assert_eq!(json["headroom"][0]["factor"].as_f64(), Some(1.24));
    assert_eq!(json["status"], "complete");
    let csv = plan.ledger_csv();
    assert_eq!(csv.lines().next(), Some(COLUMNS.trim_end()));
    let row = "\"h200, TP 2, together\",h200,2,,,together,7,1,14,2,,12.5,14.5,1.026,0.5,0.25,0.05,0.2,window,lost,TPOT p99 51.3 ms > 50 ms";
    assert_eq!(csv.lines().nth(1), Some(row));
}

#[test]
fn the_page_has_the_headroom_the_worst_minutes_and_what_the_price_hangs_on() {
    let page = plan().html().expect("a page");
    for there in [
        "--share:73.0%",
        "not weighed",
        "<h2>Worst minutes</h2>",
        "<figure id=\"first-tokens\">",
        "price of a GPU hour",
        // One bar for each hour, the fleets that were tried in watts, and the heat map with what failed.
        "<figure id=\"hours\">",
        "<figure id=\"watts-promise\">",
        "<figure id=\"user-watt\">",
        "<td class=\"missed\" style=\"--heat:35%\">1.03</td>",
        "<td class=\"missed\" style=\"--heat:60%\">miss</td>",
        "<th scope=\"row\">h200 TP 1, together</th>",
        "9.50 kW",
        "nearer: 1 of vllm on h200, 23.7 %",
    ] {
        assert!(page.contains(there), "{there}");
    }
    assert!(page.contains("h200, TP 1, \\u003cb>: 11 GPUs, replicas 11"), "a fleet under the pointer, escaped");
    let without = Plan { run: None, uses: Vec::new(), sensitivity: Vec::new(), ..plan() }.html().expect("a page");
    assert!(!without.contains("Worst minutes") && !without.contains("style=\"--share"));
}

#[test]
fn a_plan_is_written_as_text_and_tables() {
    let plan = plan();
    let text = plan.markdown();
    assert!(text.starts_with("# How many &lt;GPUs>?\n\n**11 × h200 keep the promises.**\n"), "{text}");
    for there in [
        "- faster: holds until 1.24×",
        "| h200, TP 2, together | 16 | 8 |",
        "servers: 8.25 kW on average, 9.50 kW at their peak",
        "facility: 9.90 kW on average",
        "8 reserved + 3 on demand for 25 % of the hours: $13,870 a month",
        "even the whole answer misses a promise",
        "arithmetic 50",
        "```sh\noverbook plan x.yaml\n```",
    ] {
        assert!(text.contains(there), "{there}: {text}");
    }
    assert_eq!(plan.load_csv().lines().nth(2), Some("1,20,0.7,1.4,,,true"));
    let file =
        parquet::file::reader::SerializedFileReader::new(bytes::Bytes::from(plan.ledger_parquet().expect("encodes")));
    let file = file.expect("a file");
    let schema = parquet::file::reader::FileReader::metadata(&file).file_metadata().schema_descr().clone();
    let names: Vec<String> = schema.columns().iter().map(|column| column.name().to_owned()).collect();
    assert_eq!(names.join(","), COLUMNS.trim_end(), "the columns of ledger.csv");
}
