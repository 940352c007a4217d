//! A `vllm serve` command as a scenario.

use serde_json::{Value, json};

use super::served::{ImportedCommand, Part, Served};
use super::words::{CommandError, Grammar, count, share, shell_words, wrong};
use crate::scenario::EngineVersion;

/// Turns a `vllm serve` command into a scenario: shell words with quotes, flags with `=` or a space, `-` or `_`.
///
/// # Errors
/// It is no such command, the model is not in the catalog, or a flag asks for what is not modelled.
pub fn vllm_command(command: &str) -> Result<ImportedCommand, CommandError> {
    Ok(vllm_served(command)?.modelled()?.imported())
}

/// What a `vllm serve` command says, flag by flag.
///
/// # Errors
/// It is no such command, the model is not in the catalog, or a flag has a value that cannot be read.
pub fn vllm_served(command: &str) -> Result<Served, CommandError> {
    let words = shell_words(command)?;
    let (version, arguments) = arguments(&words)?;
    let (flags, bare) = GRAMMAR.flags(arguments)?;
    let mut draft =
        Draft { served: Served::new("vllm"), model: None, blocks: None, expert_parallel: false, speculative: None };
    if let Some(version) = version {
        draft.served.engine.insert("version".to_owned(), json!(version));
        draft.served.used.push((format!("image tag {version}"), "engine.version".to_owned()));
    }
    let mut bare = bare.into_iter();
    draft.model = bare.next();
    draft.served.notes.extend(bare.map(|word| format!("`{word}` was left out: not a flag")));
    for (flag, value) in flags {
        draft.take(&flag, value.as_deref())?;
    }
    draft.finish()
}

const GRAMMAR: Grammar = Grammar { switches: SWITCHES, valued: VALUED, harmless: HARMLESS, canonical };

/// Flags without a value.
const SWITCHES: &[&str] = &[
    "--async-scheduling",
    "--no-async-scheduling",
    "--enable-prefix-caching",
    "--no-enable-prefix-caching",
    "--enable-chunked-prefill",
    "--no-enable-chunked-prefill",
    "--enable-expert-parallel",
    "--disable-custom-all-reduce",
    "--enforce-eager",
    "--no-enforce-eager",
    "--trust-remote-code",
    "--disable-log-requests",
    "--disable-log-stats",
    "--enable-auto-tool-choice",
    "--enable-lora",
];

/// Flags with a value that mean something here.
const VALUED: &[&str] = &[
    "--block-size",
    "--cpu-offload-gb",
    "--data-parallel-size",
    "--decode-context-parallel-size",
    "--dtype",
    "--gpu-memory-utilization",
    "--kv-cache-dtype",
    "--kv-transfer-config",
    "--long-prefill-token-threshold",
    "--max-model-len",
    "--max-num-batched-tokens",
    "--max-num-seqs",
    "--model",
    "--num-gpu-blocks-override",
    "--pipeline-parallel-size",
    "--quantization",
    "--scheduling-policy",
    "--seed",
    "--speculative-config",
    "--speculative-model",
    "--tensor-parallel-size",
];

/// Flags that change neither schedule nor time.
const HARMLESS: &[&str] = &[
    "--host",
    "--port",
    "--api-key",
    "--served-model-name",
    "--trust-remote-code",
    "--disable-log-requests",
    "--disable-log-stats",
    "--enable-auto-tool-choice",
    "--tool-call-parser",
    "--reasoning-parser",
    "--chat-template",
    "--download-dir",
    "--tokenizer",
    "--tokenizer-mode",
    "--revision",
    "--load-format",
    "--uvicorn-log-level",
    "--distributed-executor-backend",
];

/// The long form with hyphens, as vLLM takes both.
fn canonical(flag: &str) -> String {
    match flag {
        "-tp" => "--tensor-parallel-size".to_owned(),
        "-pp" => "--pipeline-parallel-size".to_owned(),
        "-dp" => "--data-parallel-size".to_owned(),
        "-ep" => "--enable-expert-parallel".to_owned(),
        "-q" => "--quantization".to_owned(),
        "-sc" => "--speculative-config".to_owned(),
        long => long.replace('_', "-"),
    }
}

/// What the command says so far.
struct Draft {
    served: Served,
    model: Option<String>,
    blocks: Option<u64>,
    expert_parallel: bool,
    /// `--speculative-config`, which needs the model.
    speculative: Option<String>,
}

impl Draft {
    fn take(&mut self, flag: &str, value: Option<&str>) -> Result<(), CommandError> {
        let given = || value.ok_or_else(|| wrong(flag, "needs a value"));
        let number = || given().and_then(|text| count(flag, text)).map(|number| json!(number));
        let served = &mut self.served;
        let mut set = |part, key: &str, setting: Value| served.set(flag, value, part, key, setting);
        match flag {
            "--model" => self.model = Some(given()?.to_owned()),
            "--seed" => {
                served.seed = Some(count(flag, given()?)?);
                served.used.push((format!("{flag} {}", given()?), "seed".to_owned()));
            }
            "--tensor-parallel-size" => set(Part::Fleet, "tensor_parallel", number()?),
            "--data-parallel-size" => set(Part::Fleet, "replicas", number()?),
            "--max-model-len" if value == Some("auto") || value == Some("-1") => {
                set(Part::Engine, "max_model_len", json!("auto"));
            }
            "--max-model-len" => set(Part::Engine, "max_model_len", number()?),
            "--enforce-eager" | "--no-enforce-eager" => {
                set(Part::Engine, "enforce_eager", json!(flag == "--enforce-eager"));
            }
            "--disable-custom-all-reduce" => set(Part::Engine, "disable_custom_all_reduce", json!(true)),
            "--block-size" => set(Part::Engine, "block_tokens", number()?),
            "--num-gpu-blocks-override" => self.blocks = Some(count(flag, given()?)?),
            "--gpu-memory-utilization" => {
                set(Part::Engine, "gpu_memory_utilization", json!(share(flag, given()?)?));
            }
            "--max-num-seqs" | "--max-num-batched-tokens" | "--long-prefill-token-threshold" => {
                set(Part::Scheduler, &flag[2..].replace('-', "_"), number()?);
            }
            "--scheduling-policy" => set(Part::Scheduler, "policy", json!(given()?)),
            "--async-scheduling" | "--enable-prefix-caching" | "--enable-chunked-prefill" => {
                let on = value.is_none_or(|value| !value.eq_ignore_ascii_case("false"));
                set(Part::Scheduler, &flag[2..].replace('-', "_"), json!(on));
            }
            "--no-async-scheduling" | "--no-enable-prefix-caching" | "--no-enable-chunked-prefill" => {
                set(Part::Scheduler, &flag[5..].replace('-', "_"), json!(false));
            }
            "--speculative-config" => self.speculative = Some(given()?.to_owned()),
            "--kv-cache-dtype" => served.kv(flag, given()?)?,
            "--dtype" => served.dtype(given()?)?,
            "--quantization" => served.quantization(flag, given()?)?,
            _ => self.other(flag, value),
        }
        Ok(())
    }

    /// Flags that have no place in a scenario: harmless, not modelled, or unknown and noted.
    fn other(&mut self, flag: &str, value: Option<&str>) {
        let what = match flag {
            "--pipeline-parallel-size" | "--decode-context-parallel-size" if value == Some("1") => {
                return self.served.used.push((format!("{flag} 1"), "one group, as by default".to_owned()));
            }
            "--pipeline-parallel-size" => {
                "vLLM keeps as many steps in flight as there are stages; see `fleet.pipeline` for what can be simulated"
            }
            "--decode-context-parallel-size" => "decode context parallelism has no cost model",
            "--enable-expert-parallel" => {
                self.expert_parallel = true;
                return;
            }
            "--speculative-model" => {
                "of vLLM v0, whose speculative decoding is another; now it is `--speculative-config`"
            }
            "--cpu-offload-gb" => "weights in the host's memory have no cost model",
            "--kv-transfer-config" => "disaggregated serving is not simulated",
            _ => {
                let why = match flag {
                    _ if HARMLESS.contains(&flag) => "it changes neither schedule nor time",
                    "--enable-lora" => "adapters are not modelled",
                    _ => "it is not known to Overbook",
                };
                return self.served.leave_out(flag, value, why);
            }
        };
        self.served.not_modelled(flag, value, what);
    }

    fn finish(self) -> Result<Served, CommandError> {
        let Draft { mut served, model, blocks, expert_parallel, speculative } = self;
        served.name_model(model)?;
        if let Some(config) = speculative {
            served.speculative_config("--speculative-config", &config)?;
        }
        // One block is vLLM's null block, which holds nothing.
        if let Some(blocks) = blocks {
            let block = served.engine.get("block_tokens").and_then(Value::as_u64).unwrap_or(16);
            let tokens = blocks.saturating_sub(1).max(1).saturating_mul(block);
            served.set(
                "--num-gpu-blocks-override",
                Some(&blocks.to_string()),
                Part::Engine,
                "kv_tokens",
                json!(tokens),
            );
        }
        let size = |served: &Served, key: &str| served.fleet.get(key).and_then(Value::as_u64).unwrap_or(1);
        let ranks = size(&served, "replicas");
        // Of a model without experts the members are independent replicas.
        if ranks > 1 && served.has_experts() {
            let gpus = ranks * size(&served, "tensor_parallel");
            served.ranks_of("--data-parallel-size", gpus);
            for key in ["max_num_seqs", "max_num_batched_tokens"] {
                if let Some(limit) = served.scheduler.get(key).and_then(Value::as_u64) {
                    served.scheduler.insert(key.to_owned(), json!(limit * ranks));
                    served.notes.push(format!("`{key}` is that of all {ranks} ranks together: {}", limit * ranks));
                }
            }
            if let Some(tokens) = served.engine.get("kv_tokens").and_then(Value::as_u64) {
                served.engine.insert("kv_tokens".to_owned(), json!(tokens * ranks));
            }
        }
        if expert_parallel {
            served.spread_experts("--enable-expert-parallel", None);
        }
        Ok(served)
    }
}

/// The words behind `vllm serve`, behind the module that starts the server, or behind the image of vLLM's container; and the version
/// that the image's tag names.
fn arguments(words: &[String]) -> Result<(Option<&str>, &[String]), CommandError> {
    let server = |pair: &[String]| {
        let program = pair[0].rsplit('/').next().unwrap_or_default();
        (program == "vllm" && pair[1] == "serve")
            || (pair[0] == "-m" && pair[1].starts_with("vllm.entrypoints.") && pair[1].ends_with("api_server"))
    };
    if let Some(at) = words.windows(2).position(server) {
        return Ok((None, &words[at + 2..]));
    }
    let image = |word: &String| word.split([':', '@']).next().is_some_and(|image| image.ends_with("vllm/vllm-openai"));
    let at = words.iter().position(image).ok_or(CommandError::NotVllm)?;
    let tag = words[at].split_once(':').map(|(_, tag)| tag);
    let versioned = |tag: &&str| tag.parse::<EngineVersion>().is_ok();
    Ok((tag.filter(versioned), &words[at + 1..]))
}
