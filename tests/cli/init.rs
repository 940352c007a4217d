//! `overbook init`: from a server's command and a log to a scenario that runs.

use crate::cli::home::Home;

const LOG: &str = "created,model,usage_prompt_tokens,usage_completion_tokens,session
1764300005,meta-llama/Llama-3.1-8B-Instruct,120,30,a
1764300001,meta-llama/Llama-3.1-8B-Instruct,80,20,b
1764300007,meta-llama/Llama-3.1-8B-Instruct,NULL,20,b
1764300009,gpt-4o,900,10,
1764300011,meta-llama/Llama-3.1-8B-Instruct,0,0,a
1764300013,meta-llama/Llama-3.1-8B-Instruct,200,40,a
";

const VLLM: &str = "vllm serve meta-llama/Llama-3.1-8B-Instruct -tp 2 --max-num-seqs 64 --enforce-eager \
                    --gpu-memory-utilization=0.85 --port 8000 --new-flag 3 --max-model-len 8192";

fn init(home: &Home, args: &[&str]) -> crate::cli::home::Ran {
    home.run([&["init"], args].concat())
}

#[test]
fn a_command_and_a_log_become_a_scenario_that_runs() {
    let home = Home::new();
    home.write("log.csv", LOG);
    let ran = init(&home, &["--vllm", VLLM, "--gpu", "h100", "--log", "log.csv"]).ends(0);
    // Everything that was decided is said, with the option that decides otherwise.
    for part in [
        "log: 4 requests of 6 rows over 12 s",
        "unit of `created`: seconds since 1970, by their size (1764300013); otherwise `--unit ms`",
        "1 rows with empty cells: line 4",
        "1 rows without output tokens (failed, or nothing was generated): line 6",
        "time goes backwards",
        "gpt-4o (1): only meta-llama/Llama-3.1-8B-Instruct goes to this fleet; otherwise `--keep all`",
        "`--port 8000` was left out: it changes neither schedule nor time",
        "`--new-flag 3` was left out: it is not known to Overbook",
        "wrote scenario.yaml",
    ] {
        assert!(ran.err.contains(part), "`{part}` is missing in: {}", ran.err);
    }
    assert!(ran.out.contains("3 of 3 finished") && ran.out.contains("left out"), "{}", ran.out);
    assert!(ran.out.contains("vllm:time_to_first_token_seconds"), "{}", ran.out);
    let scenario = home.text("scenario.yaml");
    for line in [
        "    path: log.csv",
        "      arrival: created",
        "      prompt: usage_prompt_tokens",
        "      class: model",
        "    sort: true",
        "    leave_out: empty",
        "  tensor_parallel: 2",
        "  gpu_memory_utilization: 0.85",
        "  max_model_len: 8192",
        "  enforce_eager: true",
        "    max_num_seqs: 64",
        "gpu: h100",
        "# From --tensor-parallel-size 2.",
        "#   `--port 8000` was left out: it changes neither schedule nor time",
    ] {
        assert!(scenario.lines().any(|found| found == line), "`{line}` is missing in:\n{scenario}");
    }
    // The same figures again from the file, and the same file from the same input.
    let again = home.overbook("run scenario.yaml --out a").ends(0);
    let figures =
        |out: &str| out.lines().filter(|line| !line.starts_with("results:")).take(12).collect::<Vec<_>>().join("\n");
    assert_eq!(figures(&again.out), figures(&ran.out));
    home.overbook("check scenario.yaml").ends(0);
    init(&home, &["--vllm", VLLM, "--gpu", "h100", "--log", "log.csv", "--force", "--no-run"]).ends(0);
    assert_eq!(home.text("scenario.yaml"), scenario);
}

#[test]
fn nothing_is_overwritten_and_bad_input_is_refused() {
    let home = Home::new();
    home.write("log.csv", LOG);
    home.write("scenario.yaml", "mine");
    let refused = |args: &[&str]| home.refused([&["init"], args].concat());
    let exists = refused(&["--model", "llama-3.1-8b", "--gpu", "h100", "--log", "log.csv"]);
    assert!(exists.contains("scenario.yaml exists already; use --force"), "{exists}");
    assert_eq!(home.text("scenario.yaml"), "mine");
    let out = ["--out", "b.yaml"];
    assert!(refused(&[&["--gpu", "h1000", "--model", "llama-3.1-8b"], &out[..]].concat()).contains("h1000"));
    assert!(refused(&[&["--gpu", "h100"], &out[..]].concat()).contains("which model?"));
    let unknown = refused(&[&["--gpu", "h100", "--vllm", "vllm serve me/my-model"], &out[..]].concat());
    assert!(unknown.contains("no model `me/my-model`") && unknown.contains("`--model NAME`"), "{unknown}");
    let gone = refused(&[&["--gpu", "h100", "--model", "llama-3.1-8b", "--log", "gone.csv"], &out[..]].concat());
    assert!(gone.contains("gone.csv: cannot open"), "{gone}");
    home.write("odd.csv", "when,in\n1,2\n");
    let odd = refused(&[&["--gpu", "h100", "--model", "llama-3.1-8b", "--log", "odd.csv"], &out[..]].concat());
    assert!(odd.contains("`--output NAME`"), "{odd}");
}

#[test]
fn what_is_not_modelled_is_written_down() {
    let home = Home::new();
    let command = "vllm serve me/tuned --speculative-config '{\"method\": \"ngram\"}' --seed 7";
    let ran = init(&home, &["--vllm", command, "--model", "qwen3-8b", "--gpu", "h100", "--no-run", "--out", "s.yaml"])
        .ends(0);
    assert!(ran.err.contains("warning: `--speculative-config") && ran.err.contains("placeholder"), "{}", ran.err);
    let scenario = home.text("s.yaml");
    assert!(scenario.contains("# NOT in this scenario") && scenario.contains("seed: 7"), "{scenario}");
    home.overbook("check s.yaml").ends(0);
}

#[test]
fn sglangs_command_and_a_benchmark_without_times() {
    let home = Home::new();
    home.write("bench.jsonl", "{\"request_rate\": 4.0, \"input_lens\": [187, 632, 90], \"output_lens\": [5, 62, 7]}\n");
    let command = "python3 -m sglang.launch_server --model-path Qwen/Qwen3-8B --tp 2 --mem-fraction-static 0.8 \
                   --chunked-prefill-size 4096 --schedule-policy lpm --disable-radix-cache --host 0.0.0.0";
    let given = ["--sglang", command, "--gpu", "h100", "--log", "bench.jsonl"];
    let err = home.refused([&["init"], &given[..]].concat());
    assert!(err.contains("have no times") && err.contains("overbook init --rate 4/s"), "{err}");
    let ran = init(&home, &[&given[..], &["--rate", "4/s"]].concat()).ends(0);
    assert!(ran.out.contains("3 of 3 finished"), "{}", ran.out);
    let scenario = home.text("scenario.yaml");
    for part in [
        "  sglang:\n",
        "chunked_prefill_size: 4096",
        "schedule_policy: lpm",
        "enable_radix_cache: false",
        "tensor_parallel: 2",
        "gpu_memory_utilization: 0.8",
        "poisson",
    ] {
        assert!(scenario.contains(part), "`{part}` is missing in:\n{scenario}");
    }
}

#[test]
fn an_export_of_usage_becomes_a_rate_by_the_hour() {
    let home = Home::new();
    home.write(
        "usage.csv",
        "start_time,end_time,model,num_model_requests,input_tokens,output_tokens\n1700000000,1700003600,x,100,50000,9000\n1700003600,1700007200,x,200,100000,18000\n",
    );
    let ran = init(&home, &["--model", "qwen3-8b", "--gpu", "h100", "--log", "usage.csv"]).ends(0);
    assert!(
        ran.err.contains("300 requests in 2 windows of 1h") && ran.err.contains("500 and 90 tokens"),
        "{}",
        ran.err
    );
    let scenario = home.text("scenario.yaml");
    assert!(scenario.contains("profile:") && scenario.contains("prompt: 500"), "{scenario}");
    home.overbook("check scenario.yaml").ends(0);
}
