//! A `vllm serve` command as a scenario.

use serde_json::{Map, Value, json};

use super::hugging_face::catalog_name;
use crate::catalog::Catalog;
use crate::nearest::suggestion;
use crate::scenario::EngineVersion;
use crate::yaml;

/// Why a command gives no scenario.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// A quote is not closed.
    #[error("the command ends inside a quote")]
    Quote,
    /// Not a command that starts a vLLM server.
    #[error(
        "not a vLLM server: expected `vllm serve MODEL …` or `python -m vllm.entrypoints.openai.api_server --model MODEL …`"
    )]
    NotVllm,
    /// A word holds a variable, which the shell would have filled in.
    #[error(
        "`{0}` is a variable of the shell: put its value there, or let the shell do it with double quotes around the command"
    )]
    Variable(String),
    /// The beginning of several flags.
    #[error("`{flag}` could be {candidates}")]
    Ambiguous {
        /// What is written.
        flag: String,
        /// The flags.
        candidates: String,
    },
    /// No model is named.
    #[error("the command names no model")]
    NoModel,
    /// The model is not in the catalog.
    #[error("the catalog has no model `{model}`; {suggestion}; of another model, import its config.json")]
    Model {
        /// The model.
        model: String,
        /// `did you mean …?`, or all names.
        suggestion: String,
    },
    /// A flag needs a value, or has one that cannot be read.
    #[error("`{flag}`: {message}")]
    Value {
        /// The flag.
        flag: String,
        /// What is wrong.
        message: String,
    },
    /// A flag asks for what is not modelled, and leaving it out would change the result.
    #[error("`{flag}` is not modelled: {what}")]
    NotModelled {
        /// The flag.
        flag: String,
        /// What is missing.
        what: &'static str,
    },
}

/// A scenario made from a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportedCommand {
    /// The scenario's text. Workload and GPU are not in a serve command: placeholders, and noted.
    pub scenario: String,
    /// What was assumed or left out.
    pub notes: Vec<String>,
}

/// Turns a `vllm serve` command into a scenario: shell words with quotes, flags with `=` or a space, `-` or `_`.
///
/// # Errors
/// It is no such command, the model is not in the catalog, or a flag asks for what is not modelled.
pub fn vllm_command(command: &str) -> Result<ImportedCommand, CommandError> {
    let words = shell_words(command)?;
    let (version, arguments) = arguments(&words)?;
    if let Some(word) = arguments.iter().find(|word| word.contains('$')) {
        return Err(CommandError::Variable(word.clone()));
    }
    let mut rest = arguments.iter().map(String::as_str).peekable();
    let mut draft = Draft::default();
    if let Some(version) = version {
        draft.engine.insert("version".to_owned(), json!(version));
    }
    while let Some(word) = rest.next() {
        if !word.starts_with('-') {
            if draft.model.is_none() {
                draft.model = Some(word.to_owned());
            } else {
                draft.notes.push(format!("`{word}` was left out: not a flag"));
            }
            continue;
        }
        let (flag, mut value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (word, None),
        };
        let flag = whole(canonical(flag))?;
        if value.is_none() && !SWITCHES.contains(&flag.as_str()) && rest.peek().is_some_and(|next| is_value(next)) {
            value = rest.next();
        }
        draft.take(&flag, value)?;
    }
    draft.finish()
}

/// Flags without a value.
const SWITCHES: &[&str] = &[
    "--async-scheduling",
    "--no-async-scheduling",
    "--enable-prefix-caching",
    "--no-enable-prefix-caching",
    "--enable-chunked-prefill",
    "--no-enable-chunked-prefill",
    "--enable-expert-parallel",
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
        long => long.replace('_', "-"),
    }
}

/// The flag that a word is the beginning of, as Python's argparse takes it; the word itself if there is none.
fn whole(word: String) -> Result<String, CommandError> {
    let known = || SWITCHES.iter().chain(VALUED).chain(HARMLESS).copied();
    if known().any(|flag| flag == word) {
        return Ok(word);
    }
    let begun: Vec<&str> =
        if word.len() > 4 { known().filter(|flag| flag.starts_with(&word)).collect() } else { Vec::new() };
    match begun.as_slice() {
        [] => Ok(word),
        [flag] => Ok((*flag).to_owned()),
        several => Err(CommandError::Ambiguous { flag: word, candidates: several.join(" or ") }),
    }
}

/// Whether a word can be the value of the flag before it: anything but a flag; negative numbers are values.
fn is_value(word: &str) -> bool {
    !word.starts_with('-') || word.parse::<f64>().is_ok()
}

/// What the command says so far.
#[derive(Default)]
struct Draft {
    model: Option<String>,
    seed: Option<u64>,
    fleet: Map<String, Value>,
    engine: Map<String, Value>,
    vllm: Map<String, Value>,
    blocks: Option<u64>,
    expert_parallel: bool,
    notes: Vec<String>,
}

impl Draft {
    fn take(&mut self, flag: &str, value: Option<&str>) -> Result<(), CommandError> {
        let given = || value.ok_or_else(|| wrong(flag, "needs a value"));
        let number = || given().and_then(|text| count(flag, text));
        let set = |part: &mut Map<String, Value>, key: &str, value: Value| {
            part.insert(key.to_owned(), value);
        };
        match flag {
            "--model" => self.model = Some(given()?.to_owned()),
            "--seed" => self.seed = Some(number()?),
            "--tensor-parallel-size" => set(&mut self.fleet, "tensor_parallel", json!(number()?)),
            "--data-parallel-size" => set(&mut self.fleet, "replicas", json!(number()?)),
            "--max-model-len" if value == Some("auto") || value == Some("-1") => {
                set(&mut self.engine, "max_model_len", json!("auto"));
            }
            "--max-model-len" => set(&mut self.engine, "max_model_len", json!(number()?)),
            "--enforce-eager" | "--no-enforce-eager" => {
                set(&mut self.engine, "enforce_eager", json!(flag == "--enforce-eager"));
            }
            "--block-size" => set(&mut self.engine, "block_tokens", json!(number()?)),
            "--num-gpu-blocks-override" => self.blocks = Some(number()?),
            "--gpu-memory-utilization" => {
                let text = given()?;
                let share: f64 = text.parse().map_err(|_| wrong(flag, &format!("`{text}` is not a number")))?;
                set(&mut self.engine, "gpu_memory_utilization", json!(share));
            }
            "--max-num-seqs" | "--max-num-batched-tokens" | "--long-prefill-token-threshold" => {
                set(&mut self.vllm, &flag[2..].replace('-', "_"), json!(number()?));
            }
            "--scheduling-policy" => set(&mut self.vllm, "policy", json!(given()?)),
            "--async-scheduling" | "--enable-prefix-caching" | "--enable-chunked-prefill" => {
                let on = value.is_none_or(|value| !value.eq_ignore_ascii_case("false"));
                set(&mut self.vllm, &flag[2..].replace('-', "_"), json!(on));
            }
            "--no-async-scheduling" | "--no-enable-prefix-caching" | "--no-enable-chunked-prefill" => {
                set(&mut self.vllm, &flag[5..].replace('-', "_"), json!(false));
            }
            "--kv-cache-dtype" => self.kv(given()?)?,
            "--dtype" => self.dtype(given()?)?,
            "--quantization" => self.quantization(given()?)?,
            _ => self.other(flag, value)?,
        }
        Ok(())
    }

    fn kv(&mut self, dtype: &str) -> Result<(), CommandError> {
        let kv = match dtype {
            "auto" | "bfloat16" | "float16" => "bf16",
            "fp8" | "fp8_e4m3" | "fp8_e5m2" => "fp8",
            _ => return Err(wrong("--kv-cache-dtype", &format!("`{dtype}`; known are auto, bfloat16 and fp8"))),
        };
        self.engine.insert("kv".to_owned(), json!(kv));
        Ok(())
    }

    fn dtype(&mut self, dtype: &str) -> Result<(), CommandError> {
        match dtype {
            "auto" | "bfloat16" => {}
            "half" | "float16" => self.notes.push(format!("`--dtype {dtype}` is taken as bf16: as fast and as large")),
            _ => return Err(wrong("--dtype", &format!("`{dtype}`; known are auto, bfloat16 and float16"))),
        }
        Ok(())
    }

    fn quantization(&mut self, method: &str) -> Result<(), CommandError> {
        let weights = match method {
            "fp8" => "fp8",
            "awq" | "awq_marlin" | "gptq" | "gptq_marlin" => "int4",
            "mxfp4" => "mxfp4",
            _ => {
                let message = format!("`{method}`; known are fp8, awq, gptq (and their marlin kernels) and mxfp4");
                return Err(wrong("--quantization", &message));
            }
        };
        self.engine.insert("weights".to_owned(), json!(weights));
        Ok(())
    }

    /// Flags that have no place in a scenario: harmless, refused, or unknown and noted.
    fn other(&mut self, flag: &str, value: Option<&str>) -> Result<(), CommandError> {
        let whole = value.map_or_else(|| flag.to_owned(), |value| format!("{flag} {value}"));
        let what = match flag {
            "--pipeline-parallel-size" | "--decode-context-parallel-size" if value == Some("1") => return Ok(()),
            "--pipeline-parallel-size" => {
                "vLLM keeps as many steps in flight as there are stages; see `fleet.pipeline` for what can be simulated"
            }
            "--decode-context-parallel-size" => "decode context parallelism has no cost model",
            "--enable-expert-parallel" => {
                self.expert_parallel = true;
                return Ok(());
            }
            "--speculative-config" | "--speculative-model" => "speculative decoding changes what a step does",
            "--cpu-offload-gb" => "weights in the host's memory have no cost model",
            "--kv-transfer-config" => "disaggregated serving is not simulated",
            _ => {
                let why = match flag {
                    _ if HARMLESS.contains(&flag) => "it changes neither schedule nor time",
                    "--enable-lora" => "adapters are not modelled",
                    _ => "it is not known to Overbook",
                };
                self.notes.push(format!("`{whole}` was left out: {why}"));
                return Ok(());
            }
        };
        Err(CommandError::NotModelled { flag: whole, what })
    }

    /// `--enable-expert-parallel`, now that all flags are known.
    fn spread_experts(&mut self, model: &str) -> Result<(), CommandError> {
        let size = |key: &str| self.fleet.get(key).and_then(Value::as_u64).unwrap_or(1);
        let flag = "--enable-expert-parallel";
        if !self.expert_parallel {
            return Ok(());
        }
        if size("replicas") > 1 {
            let what = "with data parallelism attention goes by requests and experts are spread over all its members, \
                        which step together";
            return Err(CommandError::NotModelled { flag: flag.to_owned(), what });
        }
        if size("tensor_parallel") == 1 || Catalog::embedded().model(model).is_ok_and(|spec| spec.moe.is_none()) {
            self.notes.push(format!("`{flag}` was left out: there is nothing to spread"));
        } else {
            self.fleet.insert("expert_parallel".to_owned(), json!({}));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ImportedCommand, CommandError> {
        let said = self.model.take().ok_or(CommandError::NoModel)?;
        let (model, weights) = catalog_name(&said).ok_or_else(|| CommandError::Model {
            suggestion: suggestion(&said, Catalog::embedded().model_names()),
            model: said.clone(),
        })?;
        if let Some(weights) = weights.filter(|_| !self.engine.contains_key("weights")) {
            self.notes.push(format!("weights are taken as {weights}: that is how `{said}` is published"));
            self.engine.insert("weights".to_owned(), json!(weights));
        }
        // One block is vLLM's null block, which holds nothing.
        if let Some(blocks) = self.blocks {
            let block = self.engine.get("block_tokens").and_then(Value::as_u64).unwrap_or(16);
            self.engine.insert("kv_tokens".to_owned(), json!(blocks.saturating_sub(1).max(1).saturating_mul(block)));
        }
        self.spread_experts(model)?;
        self.notes.push("a serve command does not say which GPU: `gpu: h100` is a placeholder".to_owned());
        self.notes.push("a serve command has no workload: Poisson arrivals at 10/s are a placeholder".to_owned());
        let generate =
            json!({ "arrivals": { "poisson": { "rate": "10/s" } }, "lengths": "burstgpt", "requests": 1000 });
        let mut root = Map::new();
        root.insert("version".to_owned(), json!(1));
        root.insert("name".to_owned(), json!(model));
        root.insert("description".to_owned(), json!(format!("From a vllm serve command of {said}")));
        root.extend(self.seed.map(|seed| ("seed".to_owned(), json!(seed))));
        root.insert("workload".to_owned(), json!({ "generate": generate }));
        root.insert("model".to_owned(), json!(model));
        root.insert("gpu".to_owned(), json!("h100"));
        for (key, part) in [("fleet", self.fleet), ("engine", self.engine)] {
            if !part.is_empty() {
                root.insert(key.to_owned(), Value::Object(part));
            }
        }
        root.insert("scheduler".to_owned(), json!({ "vllm": self.vllm }));
        Ok(ImportedCommand { scenario: yaml::emit(&Value::Object(root)), notes: self.notes })
    }
}

fn wrong(flag: &str, message: &str) -> CommandError {
    CommandError::Value { flag: flag.to_owned(), message: message.to_owned() }
}

/// A whole number as vLLM reads it: `8192`, `8k` (8000), `8K` (8192), `1.5k`, and so with m, M.
fn count(flag: &str, text: &str) -> Result<u64, CommandError> {
    let (digits, unit) = match text.chars().last() {
        Some('k') => (&text[..text.len() - 1], 1e3),
        Some('K') => (&text[..text.len() - 1], 1024.0),
        Some('m') => (&text[..text.len() - 1], 1e6),
        Some('M') => (&text[..text.len() - 1], 1_048_576.0),
        _ => (text, 1.0),
    };
    let number = digits.parse::<f64>().ok().map(|number| number * unit);
    let whole = number.filter(|number| number.fract() == 0.0 && (0.0..=4_294_967_295.0).contains(number));
    whole.map(|number| number as u64).ok_or_else(|| wrong(flag, &format!("`{text}` is not a whole number")))
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

/// Splits a command as a POSIX shell does: blanks, quotes, backslashes (also at line ends). Nothing is expanded.
fn shell_words(command: &str) -> Result<Vec<String>, CommandError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(CommandError::Quote);
    }
    words.extend(word);
    Ok(words)
}
