//! The start-up log of a vLLM server as a scenario: what the engine says of itself is taken as the truth, its KV pool above all.

use super::command::vllm_command;
use super::served::ImportedCommand;
use super::words::CommandError;

/// Why a log gives no scenario.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing in it is from a vLLM server.
    #[error("no start-up log of vLLM: no line has `non-default args: {{…}}` or `LLM engine (v…) with config: …`")]
    NotVllm,
    /// The server did not start.
    #[error("line {line}: the server did not start: {what}")]
    Failed {
        /// The line, from 1.
        line: usize,
        /// What it says.
        what: String,
    },
    /// The pool holds nothing.
    #[error("the log says that the KV cache holds {0} tokens, which is no pool")]
    Pool(u64),
    /// What it was started with gives no scenario.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Keys of the engine's configuration that are flags of the server under another name.
const CONFIG: [(&str, &str); 8] = [
    ("model", "model"),
    ("max_seq_len", "max-model-len"),
    ("tensor_parallel_size", "tensor-parallel-size"),
    ("pipeline_parallel_size", "pipeline-parallel-size"),
    ("quantization", "quantization"),
    ("enforce_eager", "enforce-eager"),
    ("kv_cache_dtype", "kv-cache-dtype"),
    ("speculative_config", "speculative-config"),
];

/// What a log has stated so far: flags and their values, later ones win.
#[derive(Default)]
struct Told {
    flags: Vec<(String, String)>,
    version: Option<String>,
    pool: Option<u64>,
    blocks: Option<u64>,
}

impl Told {
    fn flag(&mut self, name: &str, value: &str) {
        if value != "None" {
            self.flags.retain(|(known, _)| known != name);
            self.flags.push((name.to_owned(), value.trim_matches(['\'', '"']).to_owned()));
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.flags.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn read(&mut self, line: &str) {
        if let Some(args) =
            line.split_once("non-default args: {").map(|(_, rest)| rest.trim_end().trim_end_matches('}'))
        {
            for pair in split(args) {
                if let Some((key, value)) = pair.split_once(':') {
                    let key = key.trim().trim_matches('\'');
                    let key = if key == "model_tag" { "model" } else { key };
                    self.flag(&key.replace('_', "-"), value.trim());
                }
            }
        }
        if let Some((before, config)) = line.split_once(" with config: ") {
            let version = before.rsplit_once("(v").and_then(|(_, version)| version.strip_suffix(')'));
            self.version = version.map(str::to_owned).or(self.version.take());
            let pairs = split(config);
            for (key, flag) in CONFIG {
                let value = pairs.iter().find_map(|pair| pair.trim().strip_prefix(key)?.strip_prefix('='));
                if let Some(value) = value.filter(|_| self.value(flag).is_none()) {
                    self.flag(flag, value);
                }
            }
        }
        if let Some((_, version)) = line.split_once("vLLM API server version ") {
            self.version = version.split_whitespace().next().map(|version| version.trim_start_matches('v').to_owned());
        }
        let number = |text: &str| -> Option<u64> {
            let digits: String =
                text.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
            digits.parse().ok()
        };
        let after = |mark: &str| line.split_once(mark).and_then(|(_, rest)| number(rest));
        self.pool = after("GPU KV cache size: ").or(self.pool);
        self.blocks = after("# GPU blocks: ").or(self.blocks);
        if let Some(tokens) = after("Chunked prefill is enabled with max_num_batched_tokens=") {
            self.flag("max-num-batched-tokens", &tokens.to_string());
        }
        if line.contains("Asynchronous scheduling is enabled") {
            self.flag("async-scheduling", "True");
        }
    }

    fn block_tokens(&self) -> u64 {
        self.value("block-size").and_then(|size| size.parse().ok()).filter(|size| *size > 0).unwrap_or(16)
    }

    /// The command that the log stands for.
    fn command(&self) -> String {
        let mut command = "vllm serve".to_owned();
        let blocks = self.blocks.or(self.pool.map(|tokens| tokens / self.block_tokens()));
        let pool = blocks.map(|blocks| ("num-gpu-blocks-override".to_owned(), blocks.to_string()));
        let flags = self.flags.iter().filter(|(name, _)| name != "num-gpu-blocks-override").chain(&pool);
        for (name, value) in flags {
            let words = match value.as_str() {
                "True" => format!(" --{name}"),
                "False" if name.starts_with("enable-") => format!(" --no-{name}"),
                "False" => String::new(),
                _ => format!(" --{name} '{}'", value.replace('\'', "\"")),
            };
            command.push_str(&words);
        }
        command
    }
}

/// Reads the start-up log of a `vllm serve`.
///
/// # Errors
/// It is no such log, the server did not start, or it was started with what is not modelled.
pub fn vllm_log(log: &str) -> Result<ImportedCommand, LogError> {
    let mut told = Told::default();
    for (number, line) in log.lines().enumerate() {
        let failed = [
            "failed to start",
            "ValueError: To serve at least one request",
            "No available memory for the cache blocks",
        ];
        if let Some(mark) = failed.iter().find(|mark| line.contains(**mark)) {
            let what = line.split_once(mark).map_or(line, |(_, rest)| rest);
            return Err(LogError::Failed { line: number + 1, what: format!("{mark}{what}") });
        }
        told.read(line);
    }
    if told.value("model").is_none() {
        return Err(LogError::NotVllm);
    }
    if let Some(tokens) = told.pool.filter(|tokens| *tokens < 2 * told.block_tokens()) {
        return Err(LogError::Pool(tokens));
    }
    let mut imported = vllm_command(&told.command())?;
    if told.pool.is_none() && told.blocks.is_none() {
        imported.notes.push("the log has no `GPU KV cache size`: the pool is what the memory model leaves".to_owned());
    }
    if let Some(version) = &told.version {
        let numbers = version.split('.').take(2).collect::<Vec<_>>().join(".");
        let line = format!("engine:\n  version: '{numbers}'\n");
        if imported.scenario.contains("\nengine:\n") {
            imported.scenario = imported.scenario.replacen("engine:\n", &line, 1);
        } else {
            imported.scenario.push_str(&line);
        }
    }
    Ok(imported)
}

/// Splits at commas outside of quotes and brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0i32, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (_, Some(open)) => quote = Some(open).filter(|open| *open != c),
            ('\'' | '"', None) => quote = Some(c),
            ('{' | '[' | '(', None) => depth += 1,
            ('}' | ']' | ')', None) => depth -= 1,
            (',', None) if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Source;
    use crate::scenario::{EngineVersion, MaxModelLen};

    const LOG: &str = "\
(APIServer pid=1) INFO 08-19 14:58:10 [api_server.py:1882] vLLM API server version 0.10.2
(APIServer pid=1) INFO 08-19 14:58:10 [utils.py:328] non-default args: {'model_tag': 'Qwen/Qwen3-8B', 'model': 'Qwen/Qwen3-8B', 'max_num_seqs': 64, 'enable_prefix_caching': False, 'served_model_name': ['a', 'b'], 'override_generation_config': {'temperature': 0.6, 'top_k': 20}}
(EngineCore_0 pid=9) INFO 08-19 14:58:17 [scheduler.py:222] Chunked prefill is enabled with max_num_batched_tokens=2048.
(EngineCore_0 pid=9) INFO 08-19 14:58:23 [core.py:75] Initializing a V1 LLM engine (v0.10.2) with config: model='Qwen/Qwen3-8B', speculative_config=None, dtype=torch.bfloat16, max_seq_len=32768, tensor_parallel_size=2, pipeline_parallel_size=1, quantization=fp8, enforce_eager=False, kv_cache_dtype=auto
(EngineCore_0 pid=9) INFO 08-19 14:58:40 [kv_cache_utils.py:849] GPU KV cache size: 922,496 tokens
";

    #[test]
    fn what_the_engine_says_is_the_truth() {
        let imported = vllm_log(LOG).expect("a log");
        let study = Source::from_text("log", &imported.scenario).resolve().expect("a scenario");
        let scenario = &study.points()[0].scenario;
        assert_eq!(scenario.engine.kv_tokens, Some(922_496 - 16), "less the null block");
        assert_eq!(scenario.engine.version.as_ref().map(EngineVersion::numbers), Some((0, 10)));
        assert_eq!(scenario.engine.max_model_len.and_then(MaxModelLen::tokens), Some(32_768));
        assert_eq!(scenario.fleet.tensor_parallel, 2);
        let yaml = scenario.to_yaml();
        for part in [
            "weights: fp8",
            "max_num_seqs: 64",
            "max_num_batched_tokens: 2048",
            "async_scheduling: false",
            "enable_prefix_caching: false",
        ] {
            assert!(yaml.contains(part), "{part} in\n{yaml}");
        }
    }

    #[test]
    fn a_server_that_did_not_start_is_told_of() {
        let log = format!("{LOG}(EngineCore_0 pid=9) ERROR 08-20 [core.py:700] EngineCore failed to start.\n");
        assert_eq!(vllm_log(&log).unwrap_err().to_string(), "line 6: the server did not start: failed to start.");
        assert_eq!(vllm_log("hello\n").unwrap_err(), LogError::NotVllm);
        let drafts = LOG.replace("speculative_config=None", "speculative_config={'method': 'eagle3'}");
        assert!(vllm_log(&drafts).unwrap_err().to_string().contains("speculative decoding"));
    }
}
