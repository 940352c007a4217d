//! `check-golden`: recorded schedules against ours, here with two schedules worked out by hand.

use overbook_test_groups::in_clone;

use super::home::Home;

/// Blocks of 4 tokens, nothing cached, vLLM's rules as in docs/schedulers.md.
fn workload(w: u64, num_blocks: u64, budget: u32, requests: &str) -> String {
    format!(
        "{{\"w\":{w},\"kind\":\"hand\",\"cfg\":{{\"mode\":\"sync\",\"policy\":\"fcfs\",\"arrival_time\":\"index\",\
         \"prefix_caching\":false,\"num_blocks\":{num_blocks},\"block_size\":4,\"max_model_len\":64,\
         \"max_num_batched_tokens\":{budget},\"max_num_scheduled_tokens\":null,\"max_num_seqs\":4,\
         \"max_num_active_seqs\":null,\"long_prefill_token_threshold\":0,\"long_prefill_token_threshold_adaptive\":false,\
         \"enable_chunked_prefill\":true,\"scheduler_reserve_full_isl\":true,\"watermark\":0.0,\
         \"prefill_schedule_interval\":1}},\"req\":{requests}}}\n"
    )
}

/// Two requests share a budget of 8 tokens; the second prompt goes in two chunks. Nothing is scarce.
///
/// Then, in a pool of 4 blocks: both prompts take 2 blocks; the second request needs a third one in step 1 and preempts
/// itself. It cannot come back (3 blocks for its 9 tokens) before the first one has ended in step 5.
const STEPS: [&str; 12] = [
    r#"{"w":0,"t":0,"a":[0,6,0,0,1,2,0,0],"q":[2,0,5,0],"e":[2,0,5,1]}"#,
    r#"{"w":0,"t":1,"s":[0,1,1,3],"q":[2,0,4,8],"e":[2,0,4,2]}"#,
    r#"{"w":0,"t":2,"s":[0,1,1,1],"q":[2,0,4,12],"f":[0,1],"e":[0,0,8,2]}"#,
    r#"{"w":0,"t":3,"q":[0,0,8,0],"e":[0,0,8,0]}"#,
    r#"{"w":1,"t":0,"a":[0,7,0,0,1,8,0,0],"q":[2,0,0,0],"e":[2,0,0,2]}"#,
    r#"{"w":1,"t":1,"s":[0,1],"p":[1],"q":[1,1,2,7],"e":[1,1,2,1]}"#,
    r#"{"w":1,"t":2,"s":[0,1],"q":[1,1,1,8],"e":[1,1,1,1]}"#,
    r#"{"w":1,"t":3,"s":[0,1],"q":[1,1,1,9],"e":[1,1,1,1]}"#,
    r#"{"w":1,"t":4,"s":[0,1],"q":[1,1,1,10],"e":[1,1,1,1]}"#,
    r#"{"w":1,"t":5,"s":[0,1],"q":[1,1,1,11],"f":[0],"e":[0,1,4,1]}"#,
    r#"{"w":1,"t":6,"a":[1,9,0,1],"q":[1,0,1,0],"f":[1],"e":[0,0,4,1]}"#,
    r#"{"w":1,"t":7,"q":[0,0,4,0],"e":[0,0,4,0]}"#,
];

fn workloads() -> String {
    workload(0, 9, 8, "[[0,6,3,0,[]],[0,5,2,0,[]]]") + &workload(1, 5, 32, "[[0,7,6,0,[]],[0,8,2,0,[]]]")
}

fn golden(workloads: &str, steps: &str) -> Home {
    let home = Home::new();
    home.write("workloads.jsonl", workloads);
    home.write("steps.jsonl", steps);
    home
}

fn steps() -> String {
    STEPS.join("\n") + "\n"
}

#[test]
fn schedules_worked_out_by_hand() {
    let home = golden(&workloads(), &steps());
    let ran = home.overbook("check-golden .").ends(0);
    assert_eq!(ran.out, "2 workloads, 12 lines equal, 0 workloads differ\n");
    // Packed, and with a blank line at the end.
    let packed = Home::new();
    packed.write("workloads.jsonl.zst", zstd::encode_all(workloads().as_bytes(), 3).expect("packed"));
    packed.write("steps.jsonl.zst", zstd::encode_all((steps() + "\n").as_bytes(), 3).expect("packed"));
    assert_eq!(packed.overbook("check-golden .").ends(0).out, ran.out);
}

#[test]
fn a_flipped_number_is_shown_from_both_sides() {
    let home = golden(&workloads(), &steps().replace("[2,0,4,8]", "[2,0,4,9]"));
    let ran = home.overbook("check-golden .").ends(3);
    let recorded = STEPS[1].replace("[2,0,4,8]", "[2,0,4,9]");
    let told = format!("workload 0 (hand): first difference\n  recorded {recorded}\n  ours     {}\n", STEPS[1]);
    assert!(ran.out.starts_with(&told), "{}", ran.out);
    assert!(ran.out.ends_with("2 workloads, 9 lines equal, 1 workloads differ\n"), "{}", ran.out);
}

#[test]
fn schedules_that_are_too_short_or_too_long() {
    let without = |gone: usize| {
        let left: Vec<_> = STEPS.iter().enumerate().filter(|&(i, _)| i != gone).map(|(_, line)| *line).collect();
        left.join("\n")
    };
    for gone in [0, 3, 11] {
        let ran = golden(&workloads(), &without(gone)).overbook("check-golden .").ends(3);
        assert!(ran.out.contains("first difference") && ran.out.contains("  ours     {"), "{}", ran.out);
    }
    let longer = steps() + r#"{"w":1,"t":8,"q":[0,0,4,0],"e":[0,0,4,0]}"#;
    let ran = golden(&workloads(), &longer).overbook("check-golden .").ends(3);
    assert!(ran.out.contains("  ours     (end)"), "{}", ran.out);
}

fn refused(workloads: &str, steps: &str, told: &[&str]) {
    let ran = golden(workloads, steps).overbook("check-golden .").ends(2);
    assert!(told.iter().all(|told| ran.err.contains(told)), "{told:?}\n{}", ran.err);
}

#[test]
fn broken_lines() {
    refused(&(workloads() + "{\"w\":2\n"), &steps(), &["workloads.jsonl:3: not a workload"]);
    refused(&workloads(), &steps().replace(STEPS[5], "{\"w\":1,\"t\":1,"), &["steps.jsonl:6: not a step"]);
    refused(&workloads(), &steps().replace(STEPS[5], "what?"), &["steps.jsonl:6: not a step"]);
    refused("", "", &["workloads.jsonl:1: no workload in the file"]);
    refused(&workloads(), &(steps() + "{\"w\":7,\"t\":0}"), &["steps.jsonl:13: a step of no workload"]);
    let first = workload(0, 9, 8, "[[0,6,3,0,[]],[0,5,2,0,[]]]");
    refused(&first, &steps(), &["steps.jsonl:5: a step of no workload"]);
}

#[test]
fn workloads_that_no_engine_could_run() {
    let one = |num_blocks, budget, requests| workload(0, num_blocks, budget, requests);
    for (text, told) in [
        (one(0, 8, "[]"), "num_blocks"),
        (one(9, 0, "[]"), "max_num_batched_tokens"),
        (one(9, 8, "[]").replace("\"block_size\":4", "\"block_size\":0"), "block_size"),
        (one(9, 8, "[[0,0,1,0,[]]]"), "prompt token"),
        (one(9, 8, "[[5,1,1,0,[]],[0,1,1,0,[]]]"), "arrival step"),
        (one(9, 8, "[[0,4,4,0,[0,99999999999]]]"), "blocks are pairs"),
        (one(9, 8, "[[0,4,4,0,[18446744073709551615,2]]]"), "blocks are pairs"),
        (one(9, 8, "[[0,4,4,0,[1]]]"), "blocks are pairs"),
        (one(9, 8, "[]").replace("0.0", "7.5"), "watermark"),
        (one(9, 8, "[]").replace("fcfs", "lifo"), "unknown variant `lifo`"),
    ] {
        refused(&text, "", &["workloads.jsonl:1: not a workload", told]);
    }
}

#[test]
fn a_folder_that_is_none() {
    let home = Home::new();
    for folder in ["nowhere", "."] {
        let err = home.refused(["check-golden", folder]);
        assert!(err.contains("workloads.jsonl") && err.contains("a folder of golden schedules holds"), "{err}");
    }
    home.write("workloads.jsonl.zst", "not packed at all");
    home.write("steps.jsonl", "");
    let err = home.refused(["check-golden", "."]);
    assert!(err.contains("workloads.jsonl.zst:1: "), "{err}");
}

#[test]
fn the_recorded_schedules_of_sglang() {
    let folder = in_clone("sglang-golden");
    let ran = Home::new().run(["check-golden".as_ref(), folder.as_os_str()]).ends(0);
    assert_eq!(ran.out, "17 workloads, 11393 lines equal, 0 workloads differ\n");
}

/// Two requests in a pool of 64 tokens without cache: the second one's prompt goes in two chunks, of which the first ends on a page.
const SGLANG: &str = r#"{"w":0,"kind":"hand","cfg":{"page_size":4,"schedule_policy":"fcfs","chunked_prefill_size":16,"max_prefill_tokens":64,
"enable_mixed_chunk":false,"schedule_conservativeness":1.0,"radix_cache":false,"overlap":false,"enable_priority_scheduling":false,
"schedule_low_priority_values_first":false,"disable_priority_preemption":false,"priority_scheduling_preemption_threshold":10,
"retraction_policy":"length","prefill_max_requests":null,"prefill_decode_interval":null,"prefill_decode_interval_min_bs":1,
"min_free_slots_delay":null,"radix_eviction_policy":"lru","max_running_requests":4,"max_total_tokens":64,"context_len":64,
"clip_max_new_tokens":4096},"req":[[0,[[0,6]],2,0,0],[0,[[1,10]],1,0,0]]}"#;

const SGLANG_STEPS: [&str; 4] = [
    r#"{"w":0,"t":0,"m":"x","x":[0,0,6,0,1,0,8,0],"n":0.7,"q":[0,0,48,0,0,0,1],"e":[48,0,0,1]}"#,
    r#"{"w":0,"t":1,"m":"x","x":[1,8,2,2],"n":0.7,"q":[1,0,44,0,0,0,-1],"f":[1],"e":[56,0,0,2]}"#,
    r#"{"w":0,"t":2,"m":"d","d":[0],"n":0.6989966666666666,"q":[1,0,56,0,0,0,-1],"f":[0],"e":[64,0,0,3]}"#,
    r#"{"w":0,"t":3,"n":0.6989966666666666,"q":[0,0,64,0,0,0,-1],"i":1,"e":[64,0,0,3]}"#,
];

#[test]
fn a_schedule_of_sglang_worked_out_by_hand() {
    let (workload, steps) = (SGLANG.replace('\n', ""), SGLANG_STEPS.join("\n"));
    let ran = golden(&workload, &steps).overbook("check-golden .").ends(0);
    assert_eq!(ran.out, "1 workloads, 4 lines equal, 0 workloads differ\n");
    let ran = golden(&workload, &steps.replace("[1,8,2,2]", "[1,8,2,0]")).overbook("check-golden .").ends(3);
    let told = format!("workload 0 (hand): first difference\n  recorded {}\n", SGLANG_STEPS[1].replace("2,2]", "2,0]"));
    assert!(ran.out.starts_with(&told), "{}", ran.out);
    for (bad, told) in [
        (workload.replace("[[0,6]]", "[]"), "a prompt that fits"),
        (workload.replace("[[0,6]]", "[[0,60]]"), "a prompt that fits"),
        (workload.replace("\"page_size\":4", "\"page_size\":0"), "page_size"),
        (workload.replace("\"lru\"", "\"mru\""), "unknown variant `mru`"),
        (workload.replace("fcfs", "random"), "unknown variant `random`"),
    ] {
        refused(&bad, "", &["workloads.jsonl:1: not a workload", told]);
    }
}

#[test]
fn the_recorded_schedules_of_vllm() {
    let folder = in_clone("vllm-golden");
    let ran = Home::new().run(["check-golden".as_ref(), folder.as_os_str()]).ends(0);
    assert_eq!(ran.out, "175 workloads, 300900 lines equal, 0 workloads differ\n");
}
