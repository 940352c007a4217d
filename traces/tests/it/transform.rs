//! Filters, limits, scaling and repetition.

use overbook_sim::units::Rate;
use overbook_sim::workload::arrival::{Arrival, Workload};
use overbook_traces::TraceSpec;

use overbook_test_groups::in_clone;

use crate::{BURSTGPT, VIDUR, all, drain, file};

fn times(arrivals: &[Arrival]) -> Vec<u64> {
    arrivals.iter().map(|arrival| arrival.at.0).collect()
}

fn prompts(arrivals: &[Arrival]) -> Vec<u32> {
    arrivals.iter().map(|arrival| arrival.prompt_tokens).collect()
}

const MIXED: &str = "\
10,ChatGPT,1,9,10,Conversation log
10,GPT-4,2,9,11,API log
12,ChatGPT,0,0,0,Conversation log
13,ChatGPT,3,9,12,API log
15,GPT-4,4,900,904,Conversation log
15.5,ChatGPT,500,9,509,Conversation log
";

#[test]
fn filter_then_skip_then_take_then_rebase() {
    let file = file(format!("{BURSTGPT}{MIXED}"));
    let mut spec = TraceSpec::new(file.path());
    assert_eq!(prompts(&all(&spec)), [1, 2, 3, 4, 500]);
    spec.keep.model = vec!["chatgpt".into()];
    assert_eq!(prompts(&all(&spec)), [1, 3, 500]);
    spec.skip = 1;
    let mut replay = spec.replay().expect("opens");
    let arrivals = drain(&mut replay).expect("reads");
    assert_eq!((prompts(&arrivals), times(&arrivals)), (vec![3, 500], vec![0, 2_500_000_000]));
    let counts = replay.counts();
    assert_eq!((counts.filtered, counts.failed, counts.skipped, counts.taken), (2, 1, 1, 2));
    assert_eq!(replay.classes(), ["ChatGPT/conversation", "ChatGPT/api"]);
    spec.requests = Some(1);
    assert_eq!(prompts(&all(&spec)), [3]);
    spec.keep.log_type = vec!["Conversation log".into()];
    assert_eq!(prompts(&all(&spec)), [500]);
    spec.keep.log_type = vec!["api".into()];
    (spec.skip, spec.keep.model) = (0, Vec::new());
    assert_eq!(prompts(&all(&spec)), [2]);
}

#[test]
fn classes_of_burstgpt_can_be_kept() {
    let file = file(format!("{BURSTGPT}{MIXED}"));
    let mut spec = TraceSpec::new(file.path());
    spec.keep.class = vec!["gpt-4/API".into(), "ChatGPT/conversation".into()];
    assert_eq!(prompts(&all(&spec)), [1, 2, 500]);
    spec.keep.model = vec!["GPT-4".into()];
    assert_eq!(prompts(&all(&spec)), [2]);
}

#[test]
fn rows_after_the_last_one_taken_are_not_read() {
    let file = file(format!("{BURSTGPT}{MIXED}broken"));
    let mut spec = TraceSpec::new(file.path());
    spec.requests = Some(5);
    assert_eq!(all(&spec).len(), 5);
}

#[test]
fn lengths_are_clipped() {
    let file = file(format!("{BURSTGPT}{MIXED}"));
    let mut spec = TraceSpec::new(file.path());
    (spec.max_prompt_tokens, spec.max_output_tokens) = (Some(3), Some(100));
    let arrivals = all(&spec);
    assert_eq!(prompts(&arrivals), [1, 2, 3, 3, 3]);
    assert_eq!(arrivals[3].output_tokens, 100);
}

#[test]
fn time_scale_divides_gaps() {
    let path = in_clone("burstgpt/burstgpt_1_first400.csv");
    let mut spec = TraceSpec::new(path);
    let plain = times(&all(&spec));
    spec.time_scale = Some(100.0);
    let fast = times(&all(&spec));
    assert!(plain.iter().zip(&fast).all(|(plain, fast)| *plain == fast * 100));
}

#[test]
fn rate_scales_to_the_mean() {
    let path = in_clone("azure/AzureLLMInferenceTrace_conv.csv.zst");
    let mut spec = TraceSpec::new(path);
    spec.rate = Some(Rate(40.0));
    spec.requests = Some(10_001);
    let arrivals = all(&spec);
    assert_eq!((arrivals.len(), arrivals[10_000].at.0), (10_001, 250_000_000_000));
    spec.repeat = 3;
    let thrice = times(&all(&spec));
    assert_eq!(thrice.len(), 30_003);
    // 30,002 gaps at 40/s.
    assert!(thrice[30_002].abs_diff(750_050_000_000) <= 2, "{}", thrice[30_002]);
}

#[test]
fn copies_follow_after_a_mean_gap() {
    let file = file(format!("{VIDUR}5,1,1\n6,1,1\n9,1,1\n"));
    let mut spec = TraceSpec::new(file.path());
    spec.repeat = 3;
    let seconds: Vec<u64> = times(&all(&spec)).iter().map(|ns| ns / 1_000_000_000).collect();
    assert_eq!(seconds, [0, 1, 4, 6, 7, 10, 12, 13, 16]);
    spec.requests = Some(2);
    let seconds: Vec<u64> = times(&all(&spec)).iter().map(|ns| ns / 1_000_000_000).collect();
    assert_eq!(seconds, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn classes_keep_their_numbers_in_every_copy() {
    let file = file(format!("{BURSTGPT}{MIXED}"));
    let mut spec = TraceSpec::new(file.path());
    spec.repeat = 4;
    let arrivals = all(&spec);
    let classes: Vec<u16> = arrivals.iter().map(|arrival| arrival.class.0).collect();
    assert_eq!(arrivals.len(), 20);
    assert!(classes.chunks(5).all(|copy| copy == [0, 1, 2, 3, 0]));
    assert!(arrivals.is_sorted_by_key(|arrival| arrival.at));
}

#[test]
fn a_file_that_changes_between_copies_is_noticed() {
    let file = file(format!("{VIDUR}5,1,1\n6,1,1\n9,1,1\n"));
    let mut spec = TraceSpec::new(file.path());
    spec.repeat = 2;
    let mut replay = spec.replay().expect("opens");
    for _ in 0..3 {
        replay.next_request().expect("reads");
    }
    std::fs::write(file.path(), format!("{VIDUR}5,1,1\n6,1,1\n8,1,1\n")).expect("written");
    let rest = drain(&mut replay).expect_err("changed").to_string();
    assert!(rest.contains("the file changed"), "{rest}");
}

#[test]
fn layout_quirks_do_not_matter() {
    let plain = file(format!("{VIDUR}5,1,2\n6,3,4\n"));
    let header = "\u{feff}index, Num_Decode_Tokens ,\"arrived_at\",num_prefill_tokens\r\n";
    let quirky = file(format!("{header}0,2.0,\"5.0\",1\r\n\r\n1,4,6e0,\"3\""));
    assert_eq!(all(&TraceSpec::new(plain.path())), all(&TraceSpec::new(quirky.path())));
}
