//! `overbook calibrate`: measured tables in, a profile out, a scenario that runs on it.

use std::fmt::Write as _;
use std::path::Path;

use super::home::{Home, skip};

const HEADER: &str = "framework,version,device,op_name,kernel_source";
const ROW: &str = "VLLM,0.24.0,NVIDIA H100 80GB HBM3,op,kernel";

/// The rows of a table of the kernel study, behind its header.
fn rows(name: &str) -> Option<Vec<Vec<String>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/kernels").join(name);
    let text = String::from_utf8(zstd::decode_all(std::fs::File::open(path).ok()?).expect("zstd")).expect("text");
    Some(text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect())
}

/// Measured H100 rows in AIConfigurator's layout: bf16, head_dim 128.
pub(crate) fn tables(home: &Home, folder: &str) -> Option<()> {
    let matrices = rows("gemm/h100_sxm.csv.zst")?;
    std::fs::create_dir_all(home.path(folder)).expect("folder");
    let ms = |us: &str| us.parse::<f64>().expect("a time") / 1e3;
    let mut text = format!("{HEADER},gemm_dtype,m,n,k,latency\n");
    for row in matrices.iter().filter(|row| row[0] == "bf16") {
        writeln!(text, "{ROW},bfloat16,{},{},{},{}", row[3], row[1], row[2], ms(&row[4])).expect("text");
    }
    home.write(&format!("{folder}/gemm_perf.txt"), text);
    let header =
        "batch_size,isl,num_heads,num_key_value_heads,head_dim,beam_width,attn_dtype,kv_cache_dtype,step,latency";
    for (name, file, decode) in
        [("attn_decode", "generation_attention_perf.txt", true), ("attn_prefill", "context_attention_perf.txt", false)]
    {
        let mut text = format!("{HEADER},{header}\n");
        for row in rows(&format!("{name}/h100_sxm.csv.zst"))?.iter().filter(|row| row[0] == "128" && row[3] == "bf16") {
            let tokens: u64 = row[5].parse().expect("tokens");
            let (isl, step) = if decode { (1, tokens - 1) } else { (tokens, 0) };
            let (heads, kv_heads, batch, us) = (&row[1], &row[2], &row[4], ms(&row[6]));
            writeln!(text, "{ROW},{batch},{isl},{heads},{kv_heads},128,1,bfloat16,bfloat16,{step},{us}").expect("text");
        }
        home.write(&format!("{folder}/{file}"), text);
    }
    Some(())
}

#[test]
fn measured_tables_become_a_profile_that_a_scenario_runs_on() {
    let home = Home::new();
    if tables(&home, "tables").is_none() {
        return skip("measured_tables_become_a_profile_that_a_scenario_runs_on", "../shared/data/kernels is not here");
    }
    let ran = home.overbook("calibrate --import aiconfigurator tables --out p.yaml").ends(0);
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
    assert!(home.refused(["calibrate", "--import", "aiconfigurator", "tables", "--out", "p.yaml"]).contains("--force"));
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
