//! Every quirk of the recorded data, and the test that meets it. Those without another home are met here.
//!
//! | file | quirk | test |
//! |---|---|---|
//! | BurstGPT v1 | whole seconds from midnight of day 0 | `real::burstgpt_v1`, `the_first_minutes_are_those_counted_by_others` |
//! | | ties in one second (92 % in a burst) | `ties_of_a_burst_are_spread_inside_their_seconds` |
//! | | a failed row has neither prompt nor response | `sessions::failures_are_dropped_or_kept_as_they_are`, `load::failures_get_sizes_of_their_class` |
//! | | 1.8 % of the whole file failed | `burstgpt_whole::failures_are_as_many_as_in_the_trace` |
//! | | two models, two log types, of very different lengths | `lengths_by_model_and_log_type`, `transform::classes_of_burstgpt_can_be_kept` |
//! | | a quiet head: the first nine days load nothing | `the_head_is_quiet`, `load::a_window_counts_from_the_first_row` |
//! | BurstGPT v1.2 | timestamps as float text, from day 225 on | `real::burstgpt_v1_2`, `number::tests::seconds_are_exact` |
//! | | two columns inserted after the first: by name, never by index | `real::burstgpt_v1_2` |
//! | | the session of API rows is empty | `sessions::burstgpt_sessions_are_those_of_the_file` |
//! | | elapsed time is cut to whole seconds, 7 % are 0 | `sessions::turns_think_times_and_latencies_of_burstgpt` |
//! | | a turn may be shorter than the one before, or change the model | `later_turns_may_be_shorter` |
//! | | no prefix identity | `later_turns_may_be_shorter` |
//! | API burst excerpt | `Source row` and `Relative timestamp` instead of `Timestamp` | `real::burstgpt_excerpt_with_relative_times` |
//! | Daily aggregate | requests and tokens of all rows | `the_aggregates_agree`, `burstgpt_whole::the_totals_are_those_of_the_trace` |
//! | Hourly aggregate | only non-empty hours; conversations count where their session began | `the_aggregates_agree`, `burstgpt_whole::the_hourly_profile_is_that_of_the_trace` |
//! | Minute aggregate | empty minutes absent, minutes of failures only are 0 | `the_first_minutes_are_those_counted_by_others` |
//! | Azure 2023 | seven decimals, no zone, no line end at the end | `azure_ends_without_a_line_end`, `datetime::tests::dates_count_from_1970` |
//! | Azure 2024, 2025 | a zone; further columns | `sessions::lines_of_other_tools` |
//! | Mooncake | milliseconds; batches every 3 s, 90 % ties | `mooncake_comes_in_batches`, `load::ties_are_spread_over_their_step` |
//! | | one id per 512 tokens, the last block partial | `mooncake::the_real_file`, `mooncake::blocks_are_cut_and_the_partial_one_is_cut_down` |
//! | | all prompts begin with the same block | `mooncake_comes_in_batches` |
//! | ServeGen rates | windows of 600 s, silent ones left out; upstream: no header, `t,0,0,,0,0` | `population::requests_per_window_and_client_are_those_of_the_file`, `population::servegens_own_folders_give_the_same_requests` |
//! | | scale and CV do not fit the rate | `population::gaps_have_the_shape_of_the_file` |
//! | | an idle client (m-mid has 108 of 109) | `an_idle_client_and_fields_that_no_request_has` |
//! | ServeGen lengths | windows of 6 h; rounded, to be normalised | `population::lengths_have_the_means_of_the_file` |
//! | | attachments of mm-image | `population::attachments_are_part_of_the_prompt` |
//! | | `reason_ratio` of deepseek-r1, with values that are no whole numbers | `an_idle_client_and_fields_that_no_request_has` |
//! | | outputs of 0 | `population::bad_files_say_where` |
//! | | the largest clients have no lengths | `population::clients_without_lengths_are_named_dropped_pooled_or_drawn` |
//! | packed files | plain Zstandard streams | `population::*`, `real::packed_files_read_like_plain_ones` |
//! | missing files | Git LFS pointers in their place | `broken::wrong_headers`, `population::servegens_own_folders_give_the_same_requests` |

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Rate};
use overbook_sim::workload::arrival::{Arrival, Workload};
use overbook_traces::{BURSTGPT_1_HOURLY, Failures, MissingLengths, PopulationSpec, TraceSpec, Window, burstiness};

use overbook_test_groups::{in_clone, whole, whole_files};

use crate::{all, drain, unpacked};

const SECOND: u64 = 1_000_000_000;

/// Rows of a CSV file by column name.
fn rows(file: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(file).expect("reads");
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    lines.map(|fields| header.iter().cloned().zip(fields).collect()).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().expect("a number")
}

#[test]
fn ties_of_a_burst_are_spread_inside_their_seconds() {
    let path = in_clone("burstgpt/burstgpt_2_api_burst_excerpt.csv");
    let spec = TraceSpec { requests: Some(53), ..TraceSpec::new(path) };
    let ties = |arrivals: &[Arrival]| arrivals.windows(2).filter(|pair| pair[0].at == pair[1].at).count();
    let recorded = all(&spec);
    assert_eq!((ties(&recorded), recorded.len()), (48, 53), "92 % of the gaps");
    let spread = all(&TraceSpec { spread: Some(Duration(Span(SECOND))), ..spec });
    let in_second = |s: u64| spread.iter().filter(|a| a.at.0 / SECOND == s).count();
    assert_eq!((ties(&spread), [0, 1, 2, 3, 4].map(in_second)), (0, [11, 10, 9, 12, 11]));
}

#[test]
fn lengths_by_model_and_log_type() {
    /// Class, and mean request and response of its successes, as the data folder's README states them.
    type Stated<'a> = (&'a str, u32, u32);
    let stated: [(&str, &[Stated<'_>]); 3] = [
        ("1_first400", &[("ChatGPT/conversation", 543, 302), ("GPT-4/conversation", 535, 242), ("GPT-4/api", 930, 82)]),
        (
            "3_first400",
            &[
                ("ChatGPT/conversation", 400, 139),
                ("GPT-4/conversation", 1367, 279),
                ("ChatGPT/api", 11, 80),
                ("GPT-4/api", 271, 238),
            ],
        ),
        ("2_api_burst_excerpt", &[("ChatGPT/api", 243, 7)]),
    ];
    for (file, classes) in stated {
        let path = in_clone(&format!("burstgpt/burstgpt_{file}.csv"));
        for &(class, prompt, output) in classes {
            let mut spec = TraceSpec::new(&path);
            spec.keep.class = vec![class.to_owned()];
            let stats = burstiness(&mut *spec.open().expect("opens")).expect("reads");
            let means = [&stats.prompt_tokens, &stats.output_tokens].map(|tokens| tokens.mean().expect("some"));
            let near = means.iter().zip([prompt, output]).all(|(mean, stated)| (mean - f64::from(stated)).abs() <= 0.5);
            assert!(near, "{file} {class}: {means:?}");
        }
    }
}

/// Rates, peaks, gaps and ties, as the data folder's README states them.
#[test]
fn the_head_is_quiet() {
    let stated = [("1", 93.4, 4.56, 8.0, 161.0), ("3", 103.9, 2.87, 7.0, 155.0)];
    for (file, gap, cv, minute, hour) in stated {
        let path = in_clone(&format!("burstgpt/burstgpt_{file}_first400.csv"));
        let spec = TraceSpec { failures: Failures::Keep, ..TraceSpec::new(path) };
        let stats = burstiness(&mut *spec.open().expect("opens")).expect("reads");
        let mean_gap = 1.0 / stats.mean_rate().expect("a rate");
        assert!((mean_gap - gap).abs() < 0.1 && (stats.gap_cv - cv).abs() < 0.01, "{mean_gap} {}", stats.gap_cv);
        assert_eq!((stats.requests, stats.second.peak(), stats.ties), (400, 2, 4));
        // The README's cells may begin elsewhere.
        let near = |got: u64, stated: f64| (got as f64 / stated - 1.0).abs() < 0.15;
        assert!(near(stats.minute.peak(), minute) && near(stats.hour.peak(), hour), "{stats}");
    }
    // The first nine days hold 2 % of 61 days' requests; day 9 alone holds 10 %.
    let of = |days: std::ops::Range<usize>| -> u64 {
        BURSTGPT_1_HOURLY[days.start * 24..days.end * 24].iter().map(|&n| u64::from(n)).sum()
    };
    assert!(of(0..9) < 30_000 && of(9..10) > 140_000, "{} {}", of(0..9), of(9..10));
}

#[test]
fn later_turns_may_be_shorter() {
    let path = in_clone("burstgpt/burstgpt_3_first400.csv");
    let spec = TraceSpec { failures: Failures::Keep, ..TraceSpec::new(path) };
    let mut replay = spec.replay().expect("opens");
    let mut sessions: BTreeMap<_, Vec<Arrival>> = BTreeMap::new();
    while let Some(arrival) = replay.next_arrival().expect("reads") {
        // Nothing is assumed about shared prefixes.
        assert!(arrival.content.is_none());
        if let Some(session) = arrival.session {
            sessions.entry(session).or_default().push(arrival);
        }
    }
    let pairs = || sessions.values().flat_map(|turns| turns.windows(2));
    let shorter = pairs().filter(|pair| pair[1].prompt_tokens < pair[0].prompt_tokens).count();
    assert_eq!((shorter, pairs().count()), (39, 259), "15 % of the later turns");
    let changing = |turns: &&Vec<Arrival>| turns.iter().map(|a| a.class).collect::<BTreeSet<_>>().len() > 1;
    assert_eq!((sessions.values().filter(changing).count(), sessions.len()), (9, 135), "6.7 % of the sessions");
}

fn the_aggregates_agree() {
    let hours = rows(&in_clone("burstgpt/burstgpt_1_hourly.csv"));
    let days = rows(&whole("burstgpt/burstgpt_1_daily.csv"));
    assert_eq!((hours.len(), days.len()), (938, 61));
    let mut by_day = vec![0.0; 61];
    for row in &hours {
        by_day[number(row, "hour") as usize / 24] += number(row, "requests_by_session_start");
    }
    let daily: Vec<f64> = days.iter().map(|row| number(row, "requests")).collect();
    assert!(
        (by_day.iter().sum::<f64>() - 1_429_737.0).abs() < 0.5 && (daily.iter().sum::<f64>() - 1_429_737.0).abs() < 0.5
    );
    // Sessions that begin before midnight move a few requests to the day before.
    let moved: f64 = by_day.iter().zip(&daily).map(|(a, b)| (a - b).abs()).sum();
    assert!(moved > 0.0 && moved / 1_429_737.0 < 0.01, "{moved}");
    // The 85 requests of hour 0 are those of the first sessions, which last into hour 4.
    let slice = rows(&in_clone("burstgpt/burstgpt_1_first400.csv"));
    let in_hour = |h: f64| slice.iter().filter(|row| (number(row, "Timestamp") / 3600.0).floor() <= h).count();
    assert!(BURSTGPT_1_HOURLY[0] == 85 && in_hour(0.0) < 85, "{}", in_hour(0.0));
}

fn the_first_minutes_are_those_counted_by_others() {
    let path = in_clone("burstgpt/burstgpt_1_first400.csv");
    let minutes = rows(&whole("burstgpt/burstgpt_1_week1_minute.csv"));
    let spec = TraceSpec { failures: Failures::Keep, ..TraceSpec::new(path) };
    // The first row of the file is at 5 s; it arrives at 0.
    let mut tokens: BTreeMap<u64, u32> = BTreeMap::new();
    for arrival in all(&spec) {
        *tokens.entry((arrival.at.0 / SECOND + 5) / 60).or_default() += arrival.prompt_tokens + arrival.output_tokens;
    }
    // The slice ends in its last minute.
    let (last, _) = tokens.pop_last().expect("minutes");
    let counted = minutes.iter().map(|row| (number(row, "minute") as u64, number(row, "total_tokens_per_s")));
    let counted: BTreeMap<u64, f64> = counted.filter(|&(minute, _)| minute < last).collect();
    assert!(tokens.keys().eq(counted.keys()) && tokens.len() == 188, "{}", tokens.len());
    for ((minute, tokens), per_second) in tokens.iter().zip(counted.values()) {
        assert!((f64::from(*tokens) / 60.0 - per_second).abs() < 0.051, "minute {minute}: {tokens}, {per_second}");
    }
    assert_eq!(tokens.values().filter(|&&n| n == 0).count(), 4, "minutes that hold failures only");
}

#[test]
fn azure_ends_without_a_line_end() {
    let path = in_clone("azure/AzureLLMInferenceTrace_conv.csv.zst");
    let text = unpacked(&path);
    let line_ends = text.matches('\n').count();
    assert!(!text.ends_with('\n'));
    // As many rows as line ends: the header has one, the last row none.
    assert_eq!(all(&TraceSpec::new(path)).len(), line_ends);
}

#[test]
fn mooncake_comes_in_batches() {
    let path = in_clone("mooncake/conversation_trace.jsonl.zst");
    let arrivals = all(&TraceSpec::new(path));
    let times: BTreeSet<u64> = arrivals.iter().map(|a| a.at.0).collect();
    assert_eq!((arrivals.len(), times.len()), (12_031, 1_180));
    let first = |a: &Arrival| a.content.as_ref().and_then(|content| content.ids.first().copied());
    assert!(arrivals.iter().all(|a| first(a).is_none_or(|id| id == 0)));
    assert!(arrivals.iter().filter(|a| first(a).is_some()).count() > 12_000);
}

fn an_idle_client_and_fields_that_no_request_has() {
    let (rates, lengths) = (whole("servegen/client_rates.csv.zst"), whole("servegen/length_pmfs.jsonl.zst"));
    let mut spec = PopulationSpec::new(rates, lengths);
    let refused = |spec: &PopulationSpec| spec.population(1).err().expect("no lengths").to_string();
    spec.workload = Some("m-mid".to_owned());
    assert!(refused(&spec).contains("no lengths for 108 of 108 clients"), "{}", refused(&spec));
    spec.workload = Some("deepseek-r1".to_owned());
    let to = Some(Duration(Span(3_600 * SECOND)));
    (spec.window, spec.rate, spec.missing_lengths) =
        (Window { from: None, to }, Some(Rate(1.0)), MissingLengths::Error);
    let arrivals = drain(&mut *spec.open(1).expect("opens")).expect("generates");
    assert!((3_000..4_200).contains(&arrivals.len()), "{}", arrivals.len());
}

#[test]
fn the_tests_of_the_table_exist() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let own = include_str!("quirks.rs");
    let table = own.lines().take_while(|line| line.starts_with("//!"));
    let names = table.filter_map(|line| line.rsplit('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let mut checked = 0;
    for name in names.filter(|name| !name.ends_with("::*")) {
        let (module, test) = name.rsplit_once("::").unwrap_or(("quirks", name));
        let place = if module.ends_with("::tests") { "src" } else { "tests/it" };
        let file = format!("{folder}{place}/{}.rs", module.trim_end_matches("::tests"));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "{name} is not in {file}");
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

whole_files!(
    the_aggregates_agree,
    the_first_minutes_are_those_counted_by_others,
    an_idle_client_and_fields_that_no_request_has,
);
