//! `overbook compare`: policies side by side, under several loads.

use super::home::{Home, SMALL};

/// Steps of 10 ms whatever they hold, and a promise that the higher loads break where few requests run at once.
fn home() -> Home {
    let home = Home::new();
    let engine = "gpu: h200\nengine: { cost: { constant: { device: 10ms } } }\nslo: { ttft_p99: 200ms }";
    home.write("small.yaml", SMALL.replace("gpu: h200", engine));
    home
}

#[test]
fn policies_under_several_loads() {
    let home = home();
    let over = "--over scheduler=vllm,static --load 2/s,10/s,100/s";
    let ran = home.overbook(&format!("compare small.yaml {over} --out a --quiet")).ends(0);
    let csv = home.text("a/study.csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("workload.generate.arrivals.poisson.rate [/s],scheduler,goodput_fraction,"), "{csv}");
    let places: Vec<String> = lines[1..].iter().map(|l| l.split(',').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(places, ["2 vllm", "2 static", "10 vllm", "10 static", "100 vllm", "100 static"], "numbers as numbers");
    for name in ["ttft_p90", "tpot_p99", "kv_usage_mean", "preemptions", "recompute_tax", "request_goodput"] {
        assert!(lines[0].split(',').any(|column| column == name), "{name}: {}", lines[0]);
    }
    assert!(
        ran.out.contains("keeps the promise\n  Scheduler = vllm    100/s\n  Scheduler = static  none of these"),
        "{}",
        ran.out
    );
    let page = home.text("a/report.html");
    assert!(
        page.contains("<th scope=\"row\" class=\"left\">Scheduler = vllm</th><td>100/s</td>"),
        "what keeps the promise"
    );
    assert!(page.matches("<figure").count() >= 15 && page.contains("Scheduler = static"), "a figure per metric");
    assert!(page.contains("overbook compare small.yaml --over scheduler=vllm,static --load 2/s,10/s,100/s"));
    // The same requests at every point (common random numbers), and so what vLLM makes of them is what a run makes.
    home.overbook("run small.yaml --set workload.generate.arrivals.poisson.rate=100/s --json --out b --quiet").ends(0);
    let json = home.overbook(&format!("compare small.yaml {over} --json --out c --quiet")).ends(0).json();
    assert_eq!(json[4]["coordinates"]["workload.generate.arrivals.poisson.rate"], "100/s");
    assert_eq!(json[4]["summary"]["mean_ttft_ms"], home.json("b/summary.json")["mean_ttft_ms"]);
    assert_ne!(json[4]["summary"]["mean_ttft_ms"], json[5]["summary"]["mean_ttft_ms"]);
}

#[test]
fn what_the_scenario_sets_is_kept() {
    let home = home();
    // SMALL sets max_num_seqs: 64.
    let ran =
        home.overbook("compare small.yaml --over scheduler=vllm,orca --over fleet.replicas=1,2 --dry-run").ends(0);
    assert_eq!(ran.out.matches("max_num_seqs: 64").count(), 2, "{}", ran.out);
    let named =
        ["compare", "small.yaml", "--over", "scheduler={few: {vllm: {max_num_seqs: 4}}, many: vllm}", "--dry-run"];
    assert!(home.run(named).ends(0).out.contains("max_num_seqs: 4\n"));
    let one = ["compare", "small.yaml", "--over", "scheduler={orca: {max_batch_size: 4}}, vllm", "--dry-run"];
    assert!(home.run(one).ends(0).out.contains("max_batch_size: 4"));
}

#[test]
fn loads_of_every_kind() {
    let home = home();
    let rates = |changes: &[&str], load: &str, wanted: &[&str]| {
        let mut args = vec!["compare", "small.yaml", "--over", "seed=1", "--dry-run", "--load", load];
        for change in changes {
            args.extend(["--set", change]);
        }
        let ran = home.run(args).ends(0);
        for text in wanted {
            assert!(ran.out.contains(text), "{text}: {}", ran.out);
        }
    };
    rates(&[], "0.5x,2x", &["rate: 5/s", "rate: 20/s"]);
    rates(&["workload.generate.arrivals={gamma: {rate: 4/s, shape: 0.5}}"], "3/s", &["rate: 3/s"]);
    let profile = "workload.generate.arrivals={profile: {window: 1min, rates: [1/s, 3/s]}}";
    rates(&[profile], "4/s,2x", &["rates: [2/s, 6/s]"]);
    rates(&["workload.generate.arrivals={burstgpt: {hours: 2}}"], "7/s", &["mean_rate: 7/s"]);
    rates(&["workload.clients={count: 8}"], "16,0.5x", &["count: 16", "count: 4"]);
    home.write("trace.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,5\n1,10,5\n");
    let trace = ["workload={trace: {path: trace.csv}}"];
    rates(&trace, "2x,3/s", &["compress: 2", "multiply-to: 3/s"]);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let home = home();
    let refused = |args: &str| home.refused(format!("compare small.yaml {args}").split_whitespace());
    for (args, told) in [
        ("", "--over <PATH=VALUES>"),
        ("--over scheduler", "--over scheduler: expected PATH=VALUES"),
        ("--over scheduler=vllm,vllm", "`vllm` is there twice"),
        ("--over scheduler=vllm --over scheduler.vllm.max_num_seqs=1,2", "`scheduler` is swept already, and one would"),
        ("--over scheduler=vlm", "unknown"),
        ("--over seed=1,2 --load fast", "--load fast: "),
        ("--over seed=1,2 --load 0x", "a factor must be above 0"),
        ("--over seed=1,2 --load 2/s --set workload.clients.count=8", "a number of clients"),
        ("--over workload.generate.arrivals=burstgpt --load 2/s", "one would overwrite the other"),
        ("--over seed=1,2 --load 2x --set workload.generate.arrivals=burstgpt", "is not set; give rates"),
    ] {
        let err = refused(args);
        assert!(err.contains(told), "{args}: {err}");
    }
}

/// A point that is refused when the others have been run leaves their results.
#[test]
fn a_late_refusal_keeps_what_is_finished() {
    let home = Home::new();
    let head = "arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,10\n1,100,10\n";
    home.write("whole.csv", head);
    home.write("broken.csv", format!("{head}2,oops,10\n"));
    home.write(
        "x.yaml",
        "version: 1\nname: x\nworkload: { trace: { path: whole.csv } }\nmodel: llama-3.1-8b\ngpu: h200\n",
    );
    let ran = home.overbook("compare x.yaml --over workload.trace.path=whole.csv,broken.csv --out a").ends(2);
    assert!(
        ran.err.contains("error: point 2 (workload.trace.path=broken.csv)") && ran.err.contains("broken.csv:4"),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains("the results are those of the other points") && ran.out.contains("results: a"),
        "{}",
        ran.err
    );
    let csv = home.text("a/study.csv");
    let rows: Vec<&str> = csv.lines().collect();
    assert!(rows[1].starts_with("whole.csv,") && rows[1].contains(",extrapolated,"), "{csv}");
    assert!(rows[2].starts_with("broken.csv,,") && !rows[2].contains("extrapolated"), "{csv}");
    assert_eq!(home.json("a/manifest.json")["status"], "failed");
    assert_eq!(home.json("a/point-0000.summary.json")["completed"], 2);
    // Nothing is kept where nothing was run.
    home.overbook("compare x.yaml --over workload.trace.path=broken.csv --out b").ends(2);
    assert_eq!(home.names("").join(" "), "a broken.csv whole.csv x.yaml");
}
