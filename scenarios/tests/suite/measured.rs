//! Conditions of measured runs as scenarios.

use std::fs;
use std::path::Path;

use overbook_scenarios::measured::{Constants, Gap, Imitation, MeasuredRun, Window};
use overbook_scenarios::scenario::MaxModelLen;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_test_groups::{in_clone, whole, whole_files};

const COLUMNS: &str = "run_id,set,engine,engine_version,model,weight_dtype,kv_dtype,gpu,max_num_seqs,max_num_batched_tokens,max_model_len,\
kv_tokens,kv_block_size,scheduler,tp,ep,dp,n_gpus,origin_repo,arrival_process,rate_rps,max_concurrency,n_requests,prompt_spec,output_spec,notes,req_per_s,e2e_mean_ms,\
ttft_p99_ms,spec_decode,has_requests";

/// A run of vLLM; `changes` replaces cells.
fn run(changes: &[(&str, &str)]) -> Result<Imitation, Gap> {
    let folder = tempfile::tempdir().unwrap();
    let cell = |column: &str| {
        let usual = match column {
            "run_id" => "one",
            "set" => "none",
            "engine" => "vllm",
            "engine_version" => "0.15.1",
            "model" => "meta-llama/Llama-3.1-8B",
            "weight_dtype" | "kv_dtype" => "bf16",
            "gpu" => "H100 80GB",
            "max_num_seqs" => "64",
            "max_num_batched_tokens" => "2048",
            "max_model_len" => "4096",
            "kv_tokens" => "100000",
            "kv_block_size" => "16",
            "arrival_process" => "constant interval",
            "rate_rps" => "5",
            "n_requests" => "20",
            "prompt_spec" => "random, exactly 512",
            "output_spec" => "64, ignore_eos",
            _ => "",
        };
        changes.iter().find(|(name, _)| *name == column).map_or(usual, |(_, value)| value)
    };
    let row: Vec<String> = COLUMNS.split(',').map(|column| format!("\"{}\"", cell(column))).collect();
    fs::write(folder.path().join("runs.csv"), format!("{COLUMNS}\n{}\n", row.join(","))).unwrap();
    let runs = MeasuredRun::read(folder.path()).unwrap();
    assert_eq!(runs.len(), 1);
    runs[0].scenario(&Constants::embedded())
}

/// A run whose scenario can be read back and resolved, as YAML.
fn text(changes: &[(&str, &str)]) -> String {
    let text = run(changes).unwrap().scenario.to_yaml();
    let study = super::resolve(&text).unwrap_or_else(|problems| panic!("{}\n{text}", problems.render(false)));
    assert_eq!(study.points().len(), 1);
    text
}

fn gap(changes: &[(&str, &str)]) -> String {
    run(changes).unwrap_err().to_string()
}

#[test]
fn what_a_run_says_is_what_is_simulated() {
    let imitation = run(&[]).unwrap();
    let scenario = imitation.scenario;
    let SchedulerSpec::Vllm(vllm) = &scenario.scheduler else { panic!("{:?}", scenario.scheduler) };
    assert_eq!((vllm.max_num_seqs, vllm.max_num_batched_tokens, vllm.async_scheduling), (64, 2048, true));
    assert_eq!(
        (scenario.engine.kv_tokens, scenario.engine.max_model_len),
        (Some(99_984), Some(MaxModelLen::Tokens(4096)))
    );
    assert!(imitation.assumptions.is_empty() && imitation.window == Window::Whole, "{:?}", imitation.assumptions);
    let yaml = text(&[]);
    for part in ["constant:", "rate: 5/s", "prompt: 512", "output: 64", "fixed: 64"] {
        assert!(yaml.contains(part), "{part}\n{yaml}");
    }
    let SchedulerSpec::Vllm(vllm) = run(&[("engine_version", "0.11.0")]).unwrap().scenario.scheduler else { panic!() };
    assert!(!vllm.async_scheduling, "not by default then");
    let v0 = run(&[("engine_version", "0.9.0 (V0 engine)")]).unwrap().scenario.scheduler;
    assert!(matches!(v0, SchedulerSpec::VllmV0(_)), "{v0:?}");
    let slora =
        [("engine", "s-lora (LightLLM fork)"), ("scheduler", "fcfs"), ("model", "huggyllama/llama-7b (dummy weights)")];
    let scenario = run(&slora).unwrap().scenario;
    assert!(matches!(scenario.scheduler, SchedulerSpec::LightllmMain(_)));
    assert_eq!(scenario.engine.max_model_len, Some(MaxModelLen::Tokens(2048)), "the model was made for no more");
}

#[test]
fn clients_of_every_kind() {
    text(&[("arrival_process", "poisson 4/s")]);
    assert!(text(&[("arrival_process", "burst (rate inf)")]).contains("count: 20"), "all at once");
    let closed = run(&[("arrival_process", "closed loop"), ("max_concurrency", "8"), ("n_requests", "")]).unwrap();
    assert!(closed.window == Window::Steady && !closed.scenario.workload.drain);
    assert_eq!(closed.scenario.workload.clients.unwrap().count, 8);
    let capped = text(&[("max_concurrency", "8")]);
    assert!(capped.contains("max_concurrency: 8"), "{capped}");
    let late = [("notes", "achieved send rate 3.1/s; ok"), ("req_per_s", "3"), ("e2e_mean_ms", "7000")];
    let late = run(&late).unwrap();
    assert_eq!(late.scenario.workload.max_concurrency, Some(21), "3/s for 7 s each");
    assert_eq!(late.assumptions.len(), 1);
    assert_eq!(run(&[("notes", "achieved send rate 4.99/s")]).unwrap().scenario.workload.max_concurrency, None);
}

#[test]
fn drawing_tokens_takes_time_where_the_client_leaves_it_to_the_server() {
    let sampling = |changes: &[(&str, &str)]| run(changes).unwrap().scenario.engine.host.unwrap().sampling.0.0;
    assert_eq!(sampling(&[]), 0);
    let bench = ("arrival_process", "constant interval (vllm bench serve)");
    // By the vocabulary, here of 128,256 words.
    let drawn = Constants::embedded().get("sampling.drawn_ns_per_1000_words");
    assert_eq!(sampling(&[bench]), (drawn * 128.256).round() as u64);
    assert_eq!(sampling(&[bench, ("engine_version", "0.6.3")]), 0, "it stated temperature 0 then");
    assert_eq!(sampling(&[bench, ("output_spec", "64, temperature 0, ignore_eos")]), 0);
}

#[test]
fn ranks_and_experts_are_those_of_the_run() {
    let moe = ("model", "Qwen/Qwen3-30B-A3B");
    let ranks = [("tp", "2"), ("dp", "4"), ("ep", "8"), ("n_gpus", "8")];
    let got = run(&[&[moe][..], &ranks].concat()).unwrap();
    let fleet = &got.scenario.fleet;
    assert_eq!((fleet.tensor_parallel, fleet.dp_attention, fleet.expert_parallel.is_some()), (8, 4, true));
    // vLLM's limits and pool are those of each rank.
    let SchedulerSpec::Vllm(spec) = &got.scenario.scheduler else { panic!("{:?}", got.scenario.scheduler) };
    assert_eq!((spec.max_num_seqs, spec.max_num_batched_tokens), (4 * 64, 4 * 2048));
    assert_eq!(got.scenario.engine.kv_tokens, Some(4 * 99_984));
    assert!(got.assumptions.iter().any(|note| note.contains("evenly loaded")), "{:?}", got.assumptions);
    let whole = run(&[moe, ("tp", "8"), ("ep", "8"), ("n_gpus", "8")]).unwrap().scenario.fleet;
    assert_eq!((whole.tensor_parallel, whole.dp_attention, whole.expert_parallel.is_some()), (8, 1, true));
    // Of a model without experts ranks are replicas.
    let dense = run(&[("dp", "4"), ("n_gpus", "4")]).unwrap().scenario;
    assert_eq!((dense.fleet.replicas, dense.fleet.tensor_parallel, dense.engine.kv_tokens), (4, 1, Some(99_984)));
    assert!(gap(&[moe, ("tp", "1"), ("ep", "8"), ("n_gpus", "8")]).contains("attention on 1 x 1 of its 8 GPUs"));
}

#[test]
fn what_cannot_be_simulated_is_named() {
    for (change, told) in [
        (("model", "acme/unknown"), "no model `acme/unknown`"),
        (("gpu", "TPU v5"), "no GPU `TPU v5`"),
        (("spec_decode", "eagle3 k=4"), "speculative decoding"),
        (("weight_dtype", "nvfp4"), "weights in nvfp4"),
        (("engine", "mystery"), "the engine `mystery`"),
        (("prompt_spec", "lm-arena prompts (lengths not published here)"), "prompt lengths were not published"),
        (("arrival_process", "saturating"), "prompt lengths were not published"),
        (("rate_rps", ""), "arrival rate"),
    ] {
        assert!(gap(&[change]).contains(told), "{change:?}: {}", gap(&[change]));
    }
}

/// A steady full batch of ML.ENERGY's: `changes` on top.
fn full_batch(changes: &[(&'static str, &'static str)]) -> Result<Imitation, Gap> {
    let usual = [
        ("arrival_process", "saturating (all requests offered; batch held at max_num_seqs in steady state)"),
        ("prompt_spec", "gpqa prompts (lengths not published here)"),
        ("output_spec", "mean 3000.5 (histogram in origin models/*.json)"),
        ("origin_repo", "ml-energy/leaderboard"),
        ("max_model_len", ""),
        ("rate_rps", ""),
        ("n_requests", ""),
    ];
    run(&[changes, &usual].concat())
}

/// Lengths of the workload of a run, as it is generated with many seeds: mean prompt, mean output, requests.
fn lengths(imitation: &Imitation) -> (f64, f64, f64) {
    let spec = imitation.scenario.workload.generate.clone().unwrap();
    let mut requests = Vec::new();
    let seeds = 30;
    for seed in 0..seeds {
        let mut generator = spec.generator(seed).unwrap();
        requests.extend(std::iter::from_fn(|| generator.next_request().unwrap()));
    }
    let count = requests.len() as f64;
    let mean = |of: fn(&overbook_sim::workload::arrival::Arrival) -> u32| {
        requests.iter().map(|request| f64::from(of(request))).sum::<f64>() / count
    };
    (mean(|request| request.prompt_tokens), mean(|request| request.output_tokens), count / seeds as f64)
}

/// Prompts as long as others counted them, outputs of the mean that the run states, and as many as its client sent.
#[test]
fn a_public_data_set_has_known_lengths() {
    for (name, seqs, prompt, output, passes, unique) in [
        ("lm-arena-chat", "512", 674.0, "700", 1.0, 1024.0),
        ("lm-arena-chat", "1024", 674.0, "700", 2.0, 1024.0),
        ("gpqa", "64", 233.0, "3000", 1.0, 198.0),
        ("gpqa", "512", 233.0, "3000", 3.0, 198.0),
        ("sourcegraph-fim", "256", 1374.0, "120", 1.0, 1024.0),
    ] {
        let (spec, mean) =
            (format!("{name} prompts (lengths not published here)"), format!("mean {output} (histogram)"));
        let (spec, mean) = (spec.leak() as &'static str, mean.leak() as &'static str);
        let changes = [("prompt_spec", spec), ("output_spec", mean), ("max_num_seqs", seqs)];
        let imitation = full_batch(&changes).unwrap();
        assert_eq!(imitation.window, Window::FullBatch { seqs: seqs.parse().unwrap() });
        assert_eq!(imitation.assumed_prompt, Some(prompt as u32));
        let (prompts, outputs, count) = lengths(&imitation);
        assert!((count - passes * unique).abs() < 1e-9, "{name} {seqs}: {count}");
        assert!((prompts / prompt - 1.0).abs() < 0.06, "{name}: {prompts}");
        assert!((outputs / output.parse::<f64>().unwrap() - 1.0).abs() < 0.05, "{name}: {outputs}");
    }
    assert!(full_batch(&[("prompt_spec", "my own prompts")]).unwrap_err().to_string().contains("not published"));
    assert!(full_batch(&[("output_spec", "natural")]).unwrap_err().to_string().contains("output lengths"));
}

/// ML.ENERGY's `tp 1, ep n` is a tensor-parallel group of n GPUs whose experts are spread by number; its client draws tokens.
#[test]
fn the_conditions_of_a_full_batch() {
    let moe = ("model", "Qwen/Qwen3-30B-A3B-Instruct-2507");
    let scenario = full_batch(&[moe, ("tp", "1"), ("ep", "2"), ("dp", "1")]).unwrap().scenario;
    assert_eq!((scenario.fleet.tensor_parallel, scenario.fleet.expert_parallel.is_some()), (2, true));
    assert!(scenario.engine.host.unwrap().sampling.0.0 > 0);
    let ranks = full_batch(&[moe, ("tp", "1"), ("ep", "8"), ("dp", "8")]).unwrap().scenario.fleet;
    assert_eq!((ranks.tensor_parallel, ranks.dp_attention, ranks.expert_parallel.is_some()), (8, 8, true));
}

/// Those of the clone: all but the seven with speculative decoding are scenarios.
#[test]
fn the_runs_of_the_clone_read() {
    every_run_reads(&in_clone("measured"), 27, 20);
}

fn the_published_runs_read() {
    every_run_reads(&whole("measured"), 722, 600);
}

/// Every run of a folder is either a scenario that resolves, or a gap or refusal with words.
fn every_run_reads(folder: &Path, count: usize, least: usize) {
    let runs = MeasuredRun::read(folder).unwrap();
    let scenarios: Vec<_> = runs.iter().filter_map(|run| run.scenario(&Constants::embedded()).ok()).collect();
    assert_eq!(runs.len(), count);
    assert!(scenarios.len() >= least, "{} of {count}", scenarios.len());
    for imitation in &scenarios {
        let text = imitation.scenario.to_yaml();
        if let Err(problems) = super::resolve(&text) {
            assert!(!problems.list().is_empty(), "{text}");
        }
    }
    let one = runs.iter().find(|run| run.id() == "lss-rtx4090-llama-3.1-8b").unwrap();
    assert!((one.figure("ttft_mean").unwrap() - 65.4566).abs() < 1e-9, "seconds");
    assert_eq!(one.ttft_by_arrival().map(|points| points.len()), Some(300));
}

/// What is fitted of GPUs stands in the catalog too, so that a kept scenario gives the same figures.
#[test]
fn constants_read_and_agree_with_the_catalog() {
    let constants = Constants::embedded();
    assert_eq!(Constants::parse(&constants.to_yaml()), Ok(constants.clone()));
    for name in ["a10g", "rtx-4090", "h100-64", "h100"] {
        let gpu = overbook_scenarios::Catalog::embedded().gpu(name).unwrap();
        let mut fitted = gpu.clone();
        constants.apply(name, &mut fitted);
        assert_eq!(gpu, fitted, "{name}: put the constants of constants.yaml into its file");
        Constants::start().apply(name, &mut fitted);
        assert_eq!(gpu != fitted, name != "h100", "{name}");
    }
    let error = |text: &str| Constants::parse(text).unwrap_err().to_string();
    assert!(error("host.s-lora.base_us: x").contains("name: number"));
    assert!(error("host.slora.base_us: 1").contains("`host.slora.base_us` is none of them"));
    assert!(error("host.s-lora.base_us: 1").contains("is missing"));
}

/// Fair orders over S-LoRA's batches, and what is not simulated.
#[test]
fn orders_over_slora_batches() {
    let with = |order: &str| {
        let slora = [("engine", "s-lora (LightLLM fork)"), ("scheduler", order), ("model", "huggyllama/llama-7b")];
        run(&slora).map(|imitation| match imitation.scenario.scheduler {
            SchedulerSpec::LightllmMain(spec) => spec.fair,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(with("fcfs"), Ok(None));
    let fair = |order| with(order).unwrap().map(|fair| (fair.lift, fair.foreseen));
    assert_eq!(fair("vtc (fair, token counter)"), Some((true, false)));
    assert_eq!(fair("vtc with oracle length"), Some((true, true)));
    assert_eq!(fair("least counter first"), Some((false, false)));
    assert!(with("per-client rate limit with abort").unwrap_err().to_string().contains("per-client rate limit"));
}

whole_files!(the_published_runs_read);
