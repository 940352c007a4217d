//! A `python -m sglang.launch_server` command as a scenario (`server_args.py` of SGLang 0.5).

use serde_json::{Value, json};

use super::served::{Part, Served};
use super::speculation::SglangDrafts;
use super::words::{CommandError, Grammar, count, share, shell_words, wrong};

const GRAMMAR: Grammar = Grammar { switches: SWITCHES, valued: VALUED, harmless: HARMLESS, canonical };

/// Flags without a value.
const SWITCHES: &[&str] = &[
    "--disable-cuda-graph",
    "--disable-custom-all-reduce",
    "--disable-overlap-schedule",
    "--disable-priority-preemption",
    "--disable-radix-cache",
    "--enable-dp-attention",
    "--enable-hierarchical-cache",
    "--enable-lora",
    "--enable-metrics",
    "--enable-mixed-chunk",
    "--enable-priority-scheduling",
    "--enable-torch-compile",
    "--schedule-low-priority-values-first",
    "--skip-server-warmup",
    "--trust-remote-code",
];

/// Flags with a value that mean something here.
const VALUED: &[&str] = &[
    "--chunked-prefill-size",
    "--context-length",
    "--cpu-offload-gb",
    "--disaggregation-mode",
    "--dp-size",
    "--dtype",
    "--ep-size",
    "--kv-cache-dtype",
    "--max-prefill-tokens",
    "--max-running-requests",
    "--max-total-tokens",
    "--mem-fraction-static",
    "--min-free-slots-delay",
    "--model-path",
    "--moe-a2a-backend",
    "--page-size",
    "--pp-size",
    "--prefill-decode-interval",
    "--prefill-decode-interval-min-bs",
    "--prefill-max-requests",
    "--priority-scheduling-preemption-threshold",
    "--quantization",
    "--random-seed",
    "--retraction-policy",
    "--schedule-conservativeness",
    "--schedule-policy",
    "--speculative-algorithm",
    "--speculative-draft-model-path",
    "--speculative-eagle-topk",
    "--speculative-num-draft-tokens",
    "--speculative-num-steps",
    "--tp-size",
];

/// Flags that change neither schedule nor time.
const HARMLESS: &[&str] = &[
    "--api-key",
    "--chat-template",
    "--dist-init-addr",
    "--download-dir",
    "--enable-metrics",
    "--host",
    "--load-format",
    "--log-level",
    "--node-rank",
    "--port",
    "--reasoning-parser",
    "--revision",
    "--served-model-name",
    "--skip-server-warmup",
    "--tokenizer-mode",
    "--tokenizer-path",
    "--tool-call-parser",
    "--trust-remote-code",
];

/// The name that stands for a flag's others.
fn canonical(flag: &str) -> String {
    match flag {
        "--model" => "--model-path",
        "--tp" | "--tensor-parallel-size" => "--tp-size",
        "--dp" | "--data-parallel-size" => "--dp-size",
        "--pp" | "--pipeline-parallel-size" => "--pp-size",
        "--ep" | "--expert-parallel-size" => "--ep-size",
        "--enable-deepep-moe" => "--moe-a2a-backend",
        long => return long.replace('_', "-"),
    }
    .to_owned()
}

/// What a command that starts SGLang says, flag by flag.
///
/// # Errors
/// It is no such command, the model is not in the catalog, or a flag has a value that cannot be read.
pub fn sglang_served(command: &str) -> Result<Served, CommandError> {
    let words = shell_words(command)?;
    let (flags, bare) = GRAMMAR.flags(arguments(&words)?)?;
    let mut draft = Draft {
        served: Served::new("sglang"),
        model: None,
        experts: None,
        exchange: None,
        dp_attention: false,
        drafts: SglangDrafts::default(),
    };
    let mut bare = bare.into_iter();
    draft.model = bare.next();
    draft.served.notes.extend(bare.map(|word| format!("`{word}` was left out: not a flag")));
    for (flag, value) in flags {
        draft.take(&flag, value.as_deref())?;
    }
    draft.finish()
}

/// The words behind what starts the server.
fn arguments(words: &[String]) -> Result<&[String], CommandError> {
    let starts = |pair: &[String]| {
        let program = pair[0].rsplit('/').next().unwrap_or_default();
        (pair[0] == "-m" && pair[1] == "sglang.launch_server") || (program == "sglang" && pair[1] == "serve")
    };
    let at = words.windows(2).position(starts).ok_or(CommandError::NotSglang)?;
    Ok(&words[at + 2..])
}

struct Draft {
    served: Served,
    model: Option<String>,
    /// The size of the group that whole experts are spread over.
    experts: Option<u64>,
    exchange: Option<String>,
    /// Whether the members of data parallelism share one group of GPUs.
    dp_attention: bool,
    /// Flags of speculative decoding.
    drafts: SglangDrafts,
}

impl Draft {
    fn take(&mut self, flag: &str, value: Option<&str>) -> Result<(), CommandError> {
        let given = || value.ok_or_else(|| wrong(flag, "needs a value"));
        let number = || given().and_then(|text| count(flag, text)).map(|number| json!(number));
        let served = &mut self.served;
        let mut set = |part, key: &str, setting: Value| served.set(flag, value, part, key, setting);
        let same = || flag[2..].replace('-', "_");
        match flag {
            "--model-path" => self.model = Some(given()?.to_owned()),
            "--random-seed" => {
                served.seed = Some(count(flag, given()?)?);
                served.used.push((format!("{flag} {}", given()?), "seed".to_owned()));
            }
            "--tp-size" => set(Part::Fleet, "tensor_parallel", number()?),
            "--dp-size" => set(Part::Fleet, "replicas", number()?),
            "--ep-size" => self.experts = Some(count(flag, given()?)?),
            "--moe-a2a-backend" => self.exchange = Some(value.unwrap_or("deepep").to_owned()),
            "--context-length" => set(Part::Engine, "max_model_len", number()?),
            "--mem-fraction-static" => set(Part::Engine, "gpu_memory_utilization", json!(share(flag, given()?)?)),
            "--max-total-tokens" => set(Part::Engine, "kv_tokens", number()?),
            "--page-size" => set(Part::Engine, "block_tokens", number()?),
            "--disable-custom-all-reduce" => set(Part::Engine, "disable_custom_all_reduce", json!(true)),
            "--disable-cuda-graph" => set(Part::Engine, "enforce_eager", json!(true)),
            "--chunked-prefill-size" if value == Some("-1") => {
                set(Part::Scheduler, "chunked_prefill_size", Value::Null);
            }
            "--max-running-requests"
            | "--chunked-prefill-size"
            | "--max-prefill-tokens"
            | "--prefill-max-requests"
            | "--prefill-decode-interval"
            | "--prefill-decode-interval-min-bs"
            | "--min-free-slots-delay"
            | "--priority-scheduling-preemption-threshold" => set(Part::Scheduler, &same(), number()?),
            "--schedule-conservativeness" => set(Part::Scheduler, &same(), json!(share(flag, given()?)?)),
            "--schedule-policy" | "--retraction-policy" => set(Part::Scheduler, &same(), json!(given()?)),
            "--enable-mixed-chunk"
            | "--enable-priority-scheduling"
            | "--schedule-low-priority-values-first"
            | "--disable-priority-preemption" => set(Part::Scheduler, &same(), json!(true)),
            "--disable-radix-cache" => set(Part::Scheduler, "enable_radix_cache", json!(false)),
            "--disable-overlap-schedule" => set(Part::Scheduler, "enable_overlap_schedule", json!(false)),
            "--kv-cache-dtype" => served.kv(flag, given()?)?,
            "--dtype" => served.dtype(given()?)?,
            "--quantization" => served.quantization(flag, given()?)?,
            _ if self.drafts.take(flag, value)? => {}
            _ => self.other(flag, value),
        }
        Ok(())
    }

    /// Flags that have no place in a scenario: harmless, not modelled, or unknown and noted.
    fn other(&mut self, flag: &str, value: Option<&str>) {
        let what = match flag {
            "--pp-size" if value == Some("1") => {
                return self.served.used.push((format!("{flag} 1"), "one group, as by default".to_owned()));
            }
            "--pp-size" => "SGLang keeps several steps in flight; see `fleet.pipeline` for what can be simulated",
            "--enable-dp-attention" => {
                self.dp_attention = true;
                return;
            }
            "--enable-hierarchical-cache" => {
                "its tiers have other rules than `engine.prefix_cache`, which can state tiers below the GPUs"
            }
            "--cpu-offload-gb" => "weights in the host's memory have no cost model",
            "--disaggregation-mode" => {
                "the command starts one side of a split fleet; see `fleet.controllers.disaggregation`"
            }
            _ if flag.starts_with("--speculative") => "it changes what drafts are, and has no cost model",
            _ => {
                let why = match flag {
                    _ if HARMLESS.contains(&flag) => "it changes neither schedule nor time",
                    "--enable-lora" | "--lora-paths" => "adapters are not modelled",
                    "--attention-backend" | "--sampling-backend" | "--enable-torch-compile" => {
                        "step costs are those of the engine's default kernels"
                    }
                    _ => "it is not known to Overbook",
                };
                return self.served.leave_out(flag, value, why);
            }
        };
        self.served.not_modelled(flag, value, what);
    }

    fn finish(self) -> Result<Served, CommandError> {
        let Draft { mut served, model, experts, exchange, dp_attention, drafts } = self;
        served.name_model(model)?;
        drafts.finish(&mut served);
        if !served.engine.contains_key("block_tokens") {
            let note = "SGLang's pages hold 1 token by default; blocks of 16 are taken, as everywhere: prefixes that end inside a \
                        block are cut there (`--page-size` says otherwise)";
            served.notes.push(note.to_owned());
        }
        // The rules of SGLang's present release; those of 0.4.4 are the scenario's default.
        served.scheduler.insert("version".to_owned(), json!("0.5.23"));
        served.notes.push(
            "SGLang's rules are taken as those of 0.5.23; `scheduler.sglang.version` knows 0.4.4 as well".to_owned(),
        );
        let exchange = match exchange.as_deref() {
            None | Some("none") => None,
            Some("deepep") => Some("all-to-all"),
            Some(other) => {
                served.not_modelled("--moe-a2a-backend", Some(other), "only deepep has a cost model");
                None
            }
        };
        let number = |key: &str| served.fleet.get(key).and_then(Value::as_u64).unwrap_or(1);
        let (ranks, gpus) = (number("replicas"), number("tensor_parallel"));
        if dp_attention && ranks > 1 {
            // SGLang's `--tp-size` counts the GPUs of all ranks, its limits their sum.
            served.ranks_of("--enable-dp-attention", gpus);
        } else if dp_attention {
            served.leave_out("--enable-dp-attention", None, "`--dp-size` is 1");
        }
        if experts.is_some_and(|size| size > 1) || exchange.is_some() {
            served.spread_experts("--ep-size", exchange);
        }
        Ok(served)
    }
}
