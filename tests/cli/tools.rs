//! The smaller commands: reports of runs, traces, the catalog, imports.

use crate::cli::home::Home;

#[test]
fn runs_are_compared_and_written_for_other_tools() {
    let home = Home::small();
    home.overbook("run small.yaml --out a").ends(0);
    home.overbook("run small.yaml --set seed=7 --out b").ends(0);
    let compared = home.overbook("report a b --out cmp.html").ends(0);
    assert!(compared.out.contains("TTFT p99") && home.text("cmp.html").contains("</html>"));
    home.write("cmp.html", "mine");
    for command in ["report a b --out cmp.html", "report a --perfetto 0s..5s --out cmp.html"] {
        let refused = home.overbook(command).ends(2).err;
        assert!(refused.contains("cmp.html exists already; use --force"), "{refused}");
        assert_eq!(home.text("cmp.html"), "mine");
    }
    home.overbook("report a b --out cmp.html --force").ends(0);
    assert!(home.text("cmp.html").contains("</html>"));
    assert!(home.overbook("report a b --json").ends(0).json().is_object());
    let one = home.overbook("report a").ends(0);
    assert!(one.out.contains("TTFT p99") && one.out.contains("Scheduler: "), "{}", one.out);
    assert_eq!(home.overbook("report a --json").ends(0).json(), home.json("a/summary.json"));
    for tool in ["vllm", "guidellm", "aiperf"] {
        assert!(home.overbook(&format!("report a --as {tool}")).ends(0).json().is_object(), "{tool}");
    }
    home.overbook("report a --perfetto 0s..5s --out a.json").ends(0);
    assert!(home.json("a.json")["traceEvents"].as_array().is_some_and(|events| !events.is_empty()));
    home.overbook("report a --perfetto 0s..5s").ends(0);
    assert_eq!(home.bytes("a/trace.json.gz")[..2], [0x1f, 0x8b]);
}

#[test]
fn reports_refuse_what_they_cannot_do() {
    let home = Home::small();
    home.overbook("run small.yaml --out a").ends(0);
    for (command, word) in [
        ("report a --out x.html", "report.html"),
        ("report nowhere", "manifest.json"),
        ("report a --perfetto 5..6", "60s..90s"),
        ("report a --as fortune", "guidellm"),
        ("report a a --as vllm", "single run"),
    ] {
        assert!(home.overbook(command).ends(2).err.contains(word), "{command}");
    }
}

/// A CSV trace with its first request at time zero, in nanoseconds.
fn rebased(csv: &str) -> Vec<String> {
    let rows = csv.lines().skip(1).map(|line| line.split_once(',').expect("a comma"));
    let rows: Vec<(u64, &str)> =
        rows.map(|(at, rest)| (at.replace('.', "").parse().expect("nanoseconds"), rest)).collect();
    rows.iter().map(|(at, rest)| format!("{},{rest}", at - rows[0].0)).collect()
}

#[test]
fn a_trace_is_described_and_converted() {
    let home = Home::small();
    let stats = home.overbook("trace stats small.yaml").ends(0);
    assert!(stats.out.contains("index of dispersion 1 s"));
    home.overbook("trace convert small.yaml --out t.csv").ends(0);
    let again = home.overbook("trace stats t.csv").ends(0);
    let line = |text: &str, what: &str| text.lines().find(|line| line.starts_with(what)).map(str::to_owned);
    for what in ["requests", "prompt tokens", "output tokens"] {
        assert_eq!(line(&stats.out, what), line(&again.out, what));
    }
    for file in ["t.parquet", "t.jsonl"] {
        home.overbook(&format!("trace convert t.csv --out {file}")).ends(0);
        assert_eq!(home.overbook(&format!("trace stats {file}")).ends(0).out, again.out, "{file}");
    }
    home.overbook("trace convert t.parquet --out again.csv").ends(0);
    assert_eq!(rebased(&home.text("t.csv")), rebased(&home.text("again.csv")));
    assert!(
        home.refused(["trace", "convert", "t.csv", "--out", "t.xls"]).contains("must end in .csv, .jsonl or .parquet")
    );
    assert!(home.overbook("trace convert small.yaml --out t.csv").ends(2).err.contains("--force"));
    home.overbook("trace convert small.yaml --out t.csv --force").ends(0);
    assert!(home.overbook("trace stats nowhere.csv").ends(2).err.contains("nowhere.csv"));
    assert!(home.names("").iter().all(|name| !name.contains("partial")), "{:?}", home.names(""));
}

#[test]
fn the_catalog_lists_shows_and_suggests() {
    let home = Home::new();
    let list = home.overbook("catalog list").ends(0);
    assert!(list.out.contains("h200") && list.out.contains("deepseek-v3"));
    assert!(home.overbook("catalog show h200").ends(0).out.contains("source:"));
    assert!(list.out.contains("server  dgx-h100") && list.out.contains("link    nvlink4"));
    let shown = home.overbook("catalog show dgx-h100").ends(0);
    assert!(shown.out.contains("watts: 10200W") && shown.out.contains("kind: datasheet"), "{}", shown.out);
    assert!(home.overbook("catalog show us-average").ends(0).out.contains("eGRID2022"));
    assert!(home.overbook("catalog show h20").ends(2).err.contains("did you mean `h200`"));
}

#[test]
fn a_serve_command_becomes_a_scenario_and_back() {
    let home = Home::new();
    let imported = home.run(["import", "vllm", "vllm serve Qwen/Qwen3-8B -tp 2 --max-num-seqs=64"]).ends(0);
    home.write("qwen.yaml", &imported.out);
    home.overbook("check qwen.yaml").ends(0);
    let flags = home.overbook("serve-flags qwen.yaml").ends(0);
    assert!(flags.out.contains("--tensor-parallel-size 2") && flags.out.contains("--max-num-seqs 64"));
    assert!(home.run(["import", "vllm", "vllm serve foo/bar"]).ends(2).err.contains("qwen3-8b"));
    assert!(home.overbook("import config nowhere.json").ends(2).err.contains("nowhere.json"));
}

#[test]
fn completions_and_the_manual_page_are_made() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.overbook(&format!("completions {shell}")).ends(0).out.contains("overbook"));
    }
    assert!(home.overbook("man").ends(0).out.contains(".TH overbook 1"));
}

#[test]
fn studies_are_put_together() {
    let home = Home::small();
    let study = "sweep: { axes: { fleet.replicas: [1, 2] } }\n";
    home.write("study.yaml", format!("{}{study}", home.text("small.yaml")));
    home.overbook("run study.yaml --out before").ends(0);
    home.overbook("run study.yaml --out after --set workload.generate.requests=200").ends(0);
    let ran = home.overbook("report before after --out both.html").ends(0);
    let lines: Vec<&str> = ran.out.lines().collect();
    let header = "fleet.replicas  study";
    assert!(lines[0].starts_with(header) && lines[5..7].concat().starts_with(header), "{}", ran.out);
    assert!(
        lines[1].starts_with("1               before") && lines[2].starts_with("1               after"),
        "{}",
        ran.out
    );
    assert!(home.text("both.html").contains("Study = after"), "a curve per study");
    home.overbook("report before after --out both.csv --json").ends(0).json();
    assert_eq!(home.text("both.csv").lines().count(), 5);
    assert!(home.overbook("report before after --out both.csv").ends(2).err.contains("use --force"));
    // A study alone is shown as it was.
    let alone = home.overbook("report before").ends(0);
    assert!(alone.out.starts_with("fleet.replicas  goodput") && alone.out.contains("\nTrust\n  1: "), "{}", alone.out);
    home.overbook("run small.yaml --out single").ends(0);
    assert!(home.refused(["report", "before", "single"]).contains("either studies or runs"));
    assert!(home.refused(["report", "before", "--as", "vllm"]).contains("single run"));
}
