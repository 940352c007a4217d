//! `overbook calibrate --url`: a server is probed as a program of its own, and a scenario runs on what was found.

use super::home::{Home, Ran};
use super::serve::{Served, TINY};

/// Small enough for a test, with prompts of several steps.
const LIMITS: &str = "--set scheduler.vllm.max_num_seqs=4 --set scheduler.vllm.max_num_batched_tokens=64 \
                      --set engine.max_model_len=256";

#[test]
fn a_running_server_becomes_a_profile_that_a_scenario_runs_on() {
    let home = Home::new();
    let served = Served::start(&home, &format!("--api-key sesame {LIMITS}"));
    let url = served.url.clone();
    let with_key = |args: &str| {
        let mut command = home.command(args.split_whitespace());
        command.env("OPENAI_API_KEY", "sesame");
        Ran::of(&command.output().expect("the program starts"))
    };
    let args = format!("calibrate tiny.yaml {LIMITS} --url {url} --budget 20s --out p.yaml");
    let ran = with_key(&args).ends(0);
    for told in [
        "tiny, overbook ",
        "closed form, steps held out",
        "client: ",
        "cannot be identified:",
        "overbook replay tiny.yaml",
    ] {
        assert!(ran.out.contains(told), "{told}\n{}", ran.out);
    }
    assert!(ran.out.contains("the server counted ") && !ran.out.contains("sesame"), "{}", ran.out);
    let profile = home.text("p.yaml");
    for told in ["kind: inferred", "client_time: ", "model: Overbook Tiny", "block_tokens: 16", "unidentified:"] {
        assert!(profile.contains(told), "{told}\n{profile}");
    }
    assert!(!profile.contains("table"), "there is no grid to interpolate in");
    assert!(home.refused(args.split_whitespace()).contains("--force"));
    // The engine's own clock is in the server's histograms, and it plans as the scenario says.
    assert!(ran.out.contains("client time is by the server's own histograms"), "{}", ran.out);
    assert!(!ran.out.contains("no anchors") && profile.contains("1 sequence at 16 tokens"), "{profile}");
    // The same server, judged by what a client hears of it.
    let cost = r#"--set engine.cost={"steps":{"path":"p.yaml"}}"#;
    let args = format!("validate tiny.yaml {LIMITS} {cost} --url {url} --repeats 1 --out judged");
    let ran = with_key(&args).ends(0);
    assert!(ran.err.contains("workload.client_time is the profile's, "), "{}", ran.err);
    for told in [
        "inconclusive",
        "client_e2el_mean",
        "client_ttft_mean",
        "the profile's anchors took",
        "tells its client no watts",
    ] {
        assert!(ran.out.contains(told), "{told}\n{}", ran.out);
    }
    assert!(!ran.out.contains("replayed 0 steps") && !home.text("judged/manifest.json").contains("sesame"));
    served.terminate();
    assert_eq!(served.end().0, Some(0));
    // It is what a scenario's costs come from.
    let cost = "engine.cost={ steps: { path: p.yaml } }";
    let run = ["run", "tiny.yaml", "--set", cost, "--out", "run"];
    let ran = home.run(run).ends(0);
    assert!(ran.out.replace('\n', " ").contains("inferred on overbook "), "{}", ran.out);
    assert!(home.json("run/summary.json")["p50_tpot_ms"].as_f64().is_some_and(|tpot| tpot > 0.0));
}

#[test]
fn servers_that_cannot_be_probed_leave_nothing() {
    let home = Home::new();
    home.write("tiny.yaml", TINY);
    let told = |args: &str, code: i32, text: &str| {
        let ran = home.overbook(args);
        assert!(ran.code == code && ran.err.contains(text), "{args}: {} {}", ran.code, ran.err);
    };
    told("calibrate tiny.yaml --url http://127.0.0.1:1 --out p.yaml", 1, "cannot connect");
    told("calibrate tiny.yaml --url https://a --out p.yaml", 2, "https is not supported");
    told("calibrate tiny.yaml --url http://127.0.0.1:1", 2, "--out NAME.yaml");
    told("calibrate tiny.yaml --url http://127.0.0.1:1 --on cpu --out p.yaml", 2, "cannot be used with");
    told("calibrate tiny.yaml --budget 1min --out p.yaml", 2, "--url");
    told("calibrate tiny.yaml --on cpu --model m --out p.yaml", 2, "--model is for a server");
    told("calibrate tiny.yaml --url http://127.0.0.1:1 --extra-body [1] --out p.yaml", 2, "expected one JSON object");
    let greedy = r#"calibrate tiny.yaml --url http://127.0.0.1:1 --extra-body {"temperature":0} --out p.yaml"#;
    told(greedy, 2, "set workload.temperature in the scenario");
    told(
        "validate tiny.yaml --url http://127.0.0.1:1",
        2,
        "overbook calibrate tiny.yaml --url http://127.0.0.1:1 --out steps.yaml",
    );
    told("validate tiny.yaml --url http://127.0.0.1:1 --on cpu", 2, "cannot be used with");
    let served = Served::start(&home, "");
    told(&format!("calibrate tiny.yaml --url {} --budget 1ms --out p.yaml", served.url), 2, "allow more time");
    let small = "--set engine.kv_tokens=64 --set engine.max_model_len=32";
    told(&format!("calibrate tiny.yaml {small} --url {} --out p.yaml", served.url), 2, "no room for probes");
    served.terminate();
    served.end();
    assert!(home.names("").iter().all(|name| !name.starts_with("p.")), "{:?}", home.names(""));
}
