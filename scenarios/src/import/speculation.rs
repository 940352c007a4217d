//! Flags of speculative decoding: vLLM's `--speculative-config`, SGLang's `--speculative-*`.

use serde_json::{Map, Value, json};

use super::hugging_face::catalog_name;
use super::served::{Part, Served};
use super::words::{CommandError, count, wrong};
use crate::catalog::Catalog;

/// What stands for the acceptance that no command states.
const PLACEHOLDER: f64 = 0.7;

impl Served {
    /// Takes a drafter with so many tokens; how many of them are accepted is a placeholder.
    fn speculate(&mut self, flag: &str, value: Option<&str>, method: &str, tokens: u64, model: Option<&str>) {
        let mut setting = json!({ "method": method, "num_speculative_tokens": tokens, "acceptance": PLACEHOLDER });
        if let Some(model) = model {
            setting["model"] = json!(model);
        }
        self.set(flag, value, Part::Engine, "speculation", setting);
        self.notes.push(format!(
            "a command does not say how many drafts are accepted: `engine.speculation.acceptance: {PLACEHOLDER}` is a placeholder; take it \
             from the engine's log (vLLM: `vllm:spec_decode_num_accepted_tokens_per_pos`)"
        ));
    }

    /// vLLM's `--speculative-config`, a JSON object. The model is known.
    pub(super) fn speculative_config(&mut self, flag: &str, text: &str) -> Result<(), CommandError> {
        let config = configuration(text).map_err(|error| {
            let example = r#"'{"method": "mtp", "num_speculative_tokens": 1}'"#;
            wrong(flag, &format!("`{text}` is no JSON object ({error}); as {example}"))
        })?;
        let said = |key: &str| config.get(key).and_then(Value::as_str);
        let drafter = said("model");
        let Some(tokens) = config.get("num_speculative_tokens").and_then(Value::as_u64) else {
            let what = "speculative decoding without `num_speculative_tokens`: what the drafter's own file says is not known here";
            self.not_modelled(flag, Some(text), what);
            return Ok(());
        };
        let method = said("method").map_or_else(|| guessed(drafter), str::to_owned);
        let (method, model) = match method.as_str() {
            "ngram" | "[ngram]" | "ngram_gpu" => ("n-gram", None),
            "eagle" => ("eagle", None),
            "eagle3" => ("eagle3", None),
            name if name == "mtp" || name.ends_with("_mtp") => ("mtp", None),
            "draft_model" => {
                let Some((name, _)) = drafter.and_then(catalog_name) else {
                    let what = "the draft model is not in the catalog: write `engine.speculation.model` with its shape";
                    self.not_modelled(flag, Some(text), what);
                    return Ok(());
                };
                ("draft-model", Some(name))
            }
            other => {
                self.not_modelled(flag, Some(text), format!("the method `{other}` has no cost model"));
                return Ok(());
            }
        };
        let known = ["method", "model", "num_speculative_tokens"];
        for key in config.keys().filter(|key| !known.contains(&key.as_str())) {
            self.notes.push(format!(
                "`{key}` of `{flag}` was left out: drafts are as many in every step, and accepted as stated"
            ));
        }
        self.speculate(flag, Some(text), method, tokens, model);
        Ok(())
    }
}

/// The settings: JSON, or as vLLM's log prints them.
fn configuration(text: &str) -> Result<Map<String, Value>, serde_json::Error> {
    let Some(printed) = text.strip_prefix("SpeculativeConfig(").and_then(|rest| rest.strip_suffix(')')) else {
        return serde_json::from_str(text);
    };
    let pairs = printed.split(',').filter_map(|pair| pair.trim().split_once('='));
    let setting = |(key, value): (&str, &str)| {
        let key = if key == "num_spec_tokens" { "num_speculative_tokens" } else { key };
        let value = value.trim_matches(['\'', '"']);
        (key.to_owned(), value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number)))
    };
    Ok(pairs.map(setting).collect())
}

/// What vLLM takes a drafter for that is given without a method: by its name.
fn guessed(drafter: Option<&str>) -> String {
    let name = drafter.unwrap_or_default().to_lowercase();
    let method = match name.as_str() {
        "" => "mtp",
        "ngram" | "[ngram]" => "ngram",
        name if name.contains("eagle3") => "eagle3",
        name if name.contains("eagle-") => "eagle",
        name if name.contains("medusa") => "medusa",
        _ => "draft_model",
    };
    method.to_owned()
}

/// SGLang's flags, which say it together.
#[derive(Default)]
pub(super) struct SglangDrafts {
    algorithm: Option<String>,
    path: Option<String>,
    steps: Option<u64>,
    topk: Option<u64>,
    tokens: Option<u64>,
}

impl SglangDrafts {
    /// Takes a flag that begins with `--speculative`. Returns whether it is one of those that count.
    pub(super) fn take(&mut self, flag: &str, value: Option<&str>) -> Result<bool, CommandError> {
        let given = || value.ok_or_else(|| wrong(flag, "needs a value"));
        match flag {
            "--speculative-algorithm" => self.algorithm = Some(given()?.to_uppercase()),
            "--speculative-draft-model-path" => self.path = Some(given()?.to_owned()),
            "--speculative-num-steps" => self.steps = Some(count(flag, given()?)?),
            "--speculative-eagle-topk" => self.topk = Some(count(flag, given()?)?),
            "--speculative-num-draft-tokens" => self.tokens = Some(count(flag, given()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// All flags are known, and the model.
    pub(super) fn finish(self, served: &mut Served) {
        let flag = "--speculative-algorithm";
        let Some(algorithm) = &self.algorithm else { return };
        let value = Some(algorithm.as_str());
        let own = Catalog::embedded().model(&served.model).is_ok_and(|model| model.mla.is_some());
        let method = match algorithm.as_str() {
            "NEXTN" => "mtp",
            // DeepSeek's own prediction layer goes by EAGLE there.
            "EAGLE" if own && self.path.is_none() => "mtp",
            "EAGLE" => "eagle",
            "EAGLE3" => "eagle3",
            "STANDALONE" => "draft-model",
            other => {
                return served.not_modelled(flag, Some(other), "it verifies a tree of drafts, or has no cost model");
            }
        };
        let Some(steps) = self.steps else {
            let what = "say `--speculative-num-steps` and `--speculative-eagle-topk 1`: what SGLang takes by itself depends on the model, and is \
                        a tree for some";
            return served.not_modelled(flag, value, what);
        };
        if self.topk.is_some_and(|topk| topk != 1) || self.tokens.is_some_and(|tokens| tokens != steps + 1) {
            return served.not_modelled(
                flag,
                value,
                "it verifies a tree of drafts; chains have `--speculative-eagle-topk 1`",
            );
        }
        let model = self.path.as_deref().filter(|_| method == "draft-model").map(|path| (path, catalog_name(path)));
        let model = match model {
            Some((path, None)) => {
                let what = "the draft model is not in the catalog: write `engine.speculation.model` with its shape";
                return served.not_modelled("--speculative-draft-model-path", Some(path), what);
            }
            Some((_, Some((name, _)))) => Some(name),
            None if method == "draft-model" => return served.not_modelled(flag, value, "it names no draft model"),
            None => None,
        };
        served.speculate(flag, value, method, steps, model);
    }
}
