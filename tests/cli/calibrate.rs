//! `overbook calibrate`: measured tables in, a profile out, a scenario that runs on it.

use overbook_test_groups::in_clone;

use super::home::Home;

#[test]
fn measured_tables_become_a_profile_that_a_scenario_runs_on() {
    let home = Home::new();
    let tables = in_clone("kernels/h100_sxm/vllm/0.24.0");
    let import = ["calibrate", "--import", "aiconfigurator", &tables.to_string_lossy(), "--out", "p.yaml"];
    let ran = home.run(import).ends(0);
    // Half of the shapes was held out; errors as the study has them (its §2.1, §2.4, §2.5).
    let percent = |operation: &str| {
        let line = ran.out.lines().find(|line| line.starts_with(operation)).expect("a line");
        let figures: Vec<f64> =
            line[operation.len()..].split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(figures[0] > 500.0 && figures[1] > 400.0, "{line}");
        (figures[2], figures[3])
    };
    for (operation, median, p90) in [
        ("matmul bf16", 6.0, 15.0),
        ("decode attention bf16, head_dim 128", 5.0, 16.0),
        ("prefill attention bf16, head_dim 128", 8.0, 24.0),
    ] {
        let got = percent(operation);
        assert!(got.0 <= median && got.1 <= p90, "{operation}: {got:?}");
    }
    assert!(ran.out.contains("stays the catalog's: all-reduce, all-to-all, small kernels, experts"), "{}", ran.out);
    let profile = home.text("p.yaml");
    for told in ["kind: imported", "licence: \"Apache-2.0, NVIDIA", "engine: VLLM 0.24.0", "hull:", "held_out:"] {
        assert!(profile.contains(told), "{told}\n{profile}");
    }
    // Nothing half-written, nothing replaced without asking.
    assert!(home.refused(import).contains("--force"));
    assert!(home.names("").iter().all(|name| !name.contains("partial")));
    // The scenario: the same step as the catalog's own fit to these rows, within both fits' differences.
    let text = "version: 1\nname: t\n\
                workload: { generate: { arrivals: { poisson: { rate: 8/s } }, lengths: burstgpt, requests: 300 } }\n\
                model: llama-2-7b\ngpu: h100\nengine: { cost: { profile: { path: p.yaml } } }\n";
    home.write("t.yaml", text);
    home.write("c.yaml", text.replace("engine: { cost: { profile: { path: p.yaml } } }\n", ""));
    let ran = home.overbook("run t.yaml --out t").ends(0);
    let told = ran.out.replace('\n', " ");
    assert!(
        told.contains("imported profile AIConfigurator NVIDIA H100 80GB HBM3 (VLLM 0.24.0), EXTRAPOLATED"),
        "{told}"
    );
    // No rows of 32 KV heads in the decode tables.
    let json = |run: &str| home.json(&format!("{run}/summary.json"));
    let status = |run: &str| json(run)["calibration"].as_str().expect("text").to_owned();
    assert!(status("t").contains("EXTRAPOLATED: decode attention bf16, head_dim 128: kv_heads 32 (measured 1 to 8)"));
    assert!(
        status("t").contains("from the catalog: all-reduce, all-to-all, small kernels, experts; inferred: host time")
    );
    home.overbook("run c.yaml --out c").ends(0);
    let p50 = |run: &str| json(run)["p50_tpot_ms"].as_f64().expect("tpot");
    let ratio = p50("t") / p50("c");
    assert!((0.95..1.05).contains(&ratio), "{ratio}");
    let inside = text.replace("llama-2-7b", "llama-3-8b");
    home.write("i.yaml", inside);
    home.overbook("run i.yaml --out i").ends(0);
    // Its head of 128,256 rows is larger than the largest matrix measured, and nothing else is outside.
    let wanted = "(VLLM 0.24.0), EXTRAPOLATED: matmul bf16: n 128256 (measured 128 to 65536); from the catalog";
    assert!(status("i").contains(wanted), "{}", status("i"));
}

#[test]
fn what_is_not_for_the_way_of_measuring_is_refused() {
    let home = Home::small();
    for (args, says) in [
        ("", "add --on cpu, --on cuda or --url URL"),
        ("--on cpu --budget 5min", "'--budget <TIME>'"),
        ("--on cpu --vocab 9", "--vocab is for a server"),
        ("--on cpu --gpu h100", "'--gpu <NAME>'"),
        ("--import vidur --seed 3", "'--seed <N>'"),
        ("--import vidur --set seed=3", "'--set <PATH=VALUE>'"),
        ("--url http://127.0.0.1:1 --repeat-for 1s", "'--repeat-for <TIME>'"),
        ("--url http://127.0.0.1:1 --threads 2", "--weights and --threads are for --on"),
        ("--budget 5min", "--url <URL>"),
    ] {
        let told = home.refused(format!("calibrate small.yaml --out p.yaml {args}").split_whitespace());
        assert!(told.contains(says), "{args}: {told}");
    }
}

#[test]
fn folders_and_profiles_that_are_none() {
    let home = Home::small();
    let calibrate = |tool: &str, folder: &str| home.refused(["calibrate", "--import", tool, folder]);
    assert!(calibrate("aiconfigurator", ".").contains("no table of AIConfigurator in it"));
    assert!(calibrate("vidur", ".").contains("looked for compute/GPU/ORGANISATION/MODEL/mlp.csv"));
    assert!(calibrate("aiconfigurator", "nowhere").contains("cannot read nowhere"));
    assert!(calibrate("frob", ".").contains("[possible values: aiconfigurator, vidur]"));
    home.write("s.yaml", home.text("small.yaml") + "engine: { cost: { profile: { path: p.yaml } } }\n");
    assert!(home.refused(["check", "s.yaml"]).contains("there is no file `"));
    home.write("p.yaml", "version: 1\nname: x\nkind: guessed\n");
    let err = home.refused(["check", "s.yaml"]);
    assert!(err.contains("p.yaml:3:7") && err.contains("unknown name `guessed`"), "{err}");
    assert!(err.contains("missing key `gpu`") && err.contains("s.yaml"), "{err}");
}
