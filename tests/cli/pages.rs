//! The snippets of the pages in `docs/` are valid.

use std::os::unix::fs::symlink;
use std::path::Path;

use overbook_test_groups::in_clone;

use super::home::Home;

/// Files that the pages name, and files of the clone that are like them.
const FILES: [(&str, &str); 3] = [
    ("BurstGPT_1.csv", "burstgpt/burstgpt_1_first400.csv"),
    ("client_rates.csv.zst", "servegen/client_rates.csv.zst"),
    ("length_pmfs.jsonl.zst", "servegen/length_pmfs.jsonl.zst"),
];

#[test]
fn every_snippet_is_a_workload() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = Home::new();
    home.write("workload.jsonl", "{\"input_toks\": 12, \"output_toks\": 3, \"arrival_time_ns\": 250}\n");
    home.write(
        "log.csv",
        "ts,in,out\n2026-03-02 09:00:05,10,5\n2026-03-02 09:00:01,10,NULL\n2026-03-02 09:00:03,10,5\n",
    );
    for (name, place) in FILES {
        symlink(in_clone(place), home.path(name)).expect("a link");
    }
    let page = std::fs::read_to_string(root.join("docs/traces.md")).expect("the page");
    let snippets: Vec<_> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(snippets.len() >= 4, "{snippets:?}");
    for snippet in snippets {
        home.write("page.yaml", format!("version: 1\nname: page\n{snippet}\nmodel: llama-3.1-8b\ngpu: h200\n"));
        assert!(home.overbook("check page.yaml").ends(0).out.contains("valid"), "{snippet}");
    }
}
