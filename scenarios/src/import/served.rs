//! What a command that starts a server says, in the words of a scenario.

use serde_json::{Map, Value, json};

use super::hugging_face::catalog_name;
use super::words::{CommandError, wrong};
use crate::catalog::Catalog;
use crate::nearest::suggestion;
use crate::yaml;

/// A scenario made from a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportedCommand {
    /// The scenario's text. Workload and GPU are not in a serve command: placeholders, and noted.
    pub scenario: String,
    /// What was assumed or left out.
    pub notes: Vec<String>,
}

/// A part of a scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Fleet,
    Engine,
    Scheduler,
}

/// A server as a command starts it.
#[derive(Clone, PartialEq, Debug)]
pub struct Served {
    /// The model as the command names it.
    pub said: String,
    /// Its name in the catalog.
    pub model: String,
    /// Seed of the server.
    pub seed: Option<u64>,
    /// What the scenario's `fleet` says.
    pub fleet: Map<String, Value>,
    /// What its `engine` says.
    pub engine: Map<String, Value>,
    /// The scheduler's name: `vllm` or `sglang`.
    pub kind: &'static str,
    /// What the scheduler's settings are.
    pub scheduler: Map<String, Value>,
    /// Flags as they are written, each with the setting that it became.
    pub used: Vec<(String, String)>,
    /// What was assumed or left out, and why.
    pub notes: Vec<String>,
    /// Flags that would change the figures and are not modelled, each with what is missing.
    pub unmodelled: Vec<(String, String)>,
}

impl Served {
    pub(super) fn new(kind: &'static str) -> Served {
        Served {
            said: String::new(),
            model: String::new(),
            seed: None,
            fleet: Map::new(),
            engine: Map::new(),
            kind,
            scheduler: Map::new(),
            used: Vec::new(),
            notes: Vec::new(),
            unmodelled: Vec::new(),
        }
    }

    /// Takes a setting from a flag.
    pub(super) fn set(&mut self, flag: &str, value: Option<&str>, part: Part, key: &str, setting: Value) {
        let (map, place) = match part {
            Part::Fleet => (&mut self.fleet, format!("fleet.{key}")),
            Part::Engine => (&mut self.engine, format!("engine.{key}")),
            Part::Scheduler => (&mut self.scheduler, format!("scheduler.{}.{key}", self.kind)),
        };
        map.insert(key.to_owned(), setting);
        self.used.push((whole(flag, value), place));
    }

    pub(super) fn leave_out(&mut self, flag: &str, value: Option<&str>, why: &str) {
        self.notes.push(format!("`{}` was left out: {why}", whole(flag, value)));
    }

    pub(super) fn not_modelled(&mut self, flag: &str, value: Option<&str>, what: impl Into<String>) {
        self.unmodelled.push((whole(flag, value), what.into()));
    }

    /// Finds the model in the catalog. `known` is another name to look under, such as one given beside the command.
    pub(super) fn name_model(&mut self, said: Option<String>) -> Result<(), CommandError> {
        let said = said.ok_or(CommandError::NoModel)?;
        let (model, weights) = catalog_name(&said).ok_or_else(|| CommandError::Model {
            suggestion: suggestion(&said, Catalog::embedded().model_names()),
            model: said.clone(),
        })?;
        if let Some(weights) = weights.filter(|_| !self.engine.contains_key("weights")) {
            self.notes.push(format!("weights are taken as {weights}: that is how `{said}` is published"));
            self.engine.insert("weights".to_owned(), json!(weights));
        }
        (self.said, self.model) = (said, model.to_owned());
        Ok(())
    }

    pub(super) fn quantization(&mut self, flag: &str, method: &str) -> Result<(), CommandError> {
        let weights = match method {
            "fp8" | "w8a8_fp8" => "fp8",
            "awq" | "awq_marlin" | "gptq" | "gptq_marlin" => "int4",
            "mxfp4" => "mxfp4",
            _ => {
                let message = format!("`{method}`; known are fp8, awq, gptq (and their marlin kernels) and mxfp4");
                return Err(wrong(flag, &message));
            }
        };
        self.set(flag, Some(method), Part::Engine, "weights", json!(weights));
        Ok(())
    }

    pub(super) fn kv(&mut self, flag: &str, dtype: &str) -> Result<(), CommandError> {
        let kv = match dtype {
            "auto" | "bfloat16" | "bf16" | "float16" => "bf16",
            "fp8" | "fp8_e4m3" | "fp8_e5m2" => "fp8",
            _ => return Err(wrong(flag, &format!("`{dtype}`; known are auto, bfloat16 and fp8"))),
        };
        self.set(flag, Some(dtype), Part::Engine, "kv", json!(kv));
        Ok(())
    }

    pub(super) fn dtype(&mut self, dtype: &str) -> Result<(), CommandError> {
        match dtype {
            "auto" | "bfloat16" => self.used.push((whole("--dtype", Some(dtype)), "engine.weights (bf16)".to_owned())),
            "half" | "float16" => self.notes.push(format!("`--dtype {dtype}` is taken as bf16: as fast and as large")),
            _ => return Err(wrong("--dtype", &format!("`{dtype}`; known are auto, bfloat16 and float16"))),
        }
        Ok(())
    }

    fn size(&self, key: &str) -> u64 {
        self.fleet.get(key).and_then(Value::as_u64).unwrap_or(1)
    }

    /// Whether the model has experts.
    pub(super) fn has_experts(&self) -> bool {
        Catalog::embedded().model(&self.model).is_ok_and(|spec| spec.moe.is_some())
    }

    /// Data parallelism whose members step together, as one group of so many GPUs. `flag` is what said so.
    pub(super) fn ranks_of(&mut self, flag: &str, gpus: u64) {
        let ranks = self.size("replicas");
        self.fleet.remove("replicas");
        self.fleet.insert("tensor_parallel".to_owned(), json!(gpus));
        self.set(flag, None, Part::Fleet, "dp_attention", json!(ranks));
    }

    /// Whole experts on each GPU, now that all flags are known; `exchange` is how tokens get to them, if not by an all-reduce.
    pub(super) fn spread_experts(&mut self, flag: &str, exchange: Option<&str>) {
        if self.size("tensor_parallel") == 1
            || Catalog::embedded().model(&self.model).is_ok_and(|spec| spec.moe.is_none())
        {
            self.leave_out(flag, None, "there is nothing to spread");
        } else {
            let spread = exchange.map_or_else(|| json!({}), |exchange| json!({ "exchange": exchange }));
            self.set(flag, None, Part::Fleet, "expert_parallel", spread);
        }
    }

    /// The scheduler as a scenario names it.
    pub fn scheduler(&self) -> Value {
        let mut of_kind = Map::new();
        of_kind.insert(self.kind.to_owned(), Value::Object(self.scheduler.clone()));
        Value::Object(of_kind)
    }

    /// The same, refused if the command asks for what is not modelled.
    pub(super) fn modelled(self) -> Result<Served, CommandError> {
        match self.unmodelled.first() {
            None => Ok(self),
            Some((flag, what)) => Err(CommandError::NotModelled { flag: flag.clone(), what: what.clone() }),
        }
    }

    /// A scenario with placeholders for GPU and workload.
    pub(super) fn imported(mut self) -> ImportedCommand {
        self.notes.push("a serve command does not say which GPU: `gpu: h100` is a placeholder".to_owned());
        self.notes.push("a serve command has no workload: Poisson arrivals at 10/s are a placeholder".to_owned());
        let scheduler = self.scheduler();
        let generate =
            json!({ "arrivals": { "poisson": { "rate": "10/s" } }, "lengths": "burstgpt", "requests": 1000 });
        let mut root = Map::new();
        root.insert("version".to_owned(), json!(1));
        root.insert("name".to_owned(), json!(self.model));
        root.insert("description".to_owned(), json!(format!("From a vllm serve command of {}", self.said)));
        root.extend(self.seed.map(|seed| ("seed".to_owned(), json!(seed))));
        root.insert("workload".to_owned(), json!({ "generate": generate }));
        root.insert("model".to_owned(), json!(self.model));
        root.insert("gpu".to_owned(), json!("h100"));
        for (key, part) in [("fleet", self.fleet), ("engine", self.engine)] {
            if !part.is_empty() {
                root.insert(key.to_owned(), Value::Object(part));
            }
        }
        root.insert("scheduler".to_owned(), scheduler);
        ImportedCommand { scenario: yaml::emit(&Value::Object(root)), notes: self.notes }
    }
}

/// A flag as it was written.
fn whole(flag: &str, value: Option<&str>) -> String {
    value.map_or_else(|| flag.to_owned(), |value| format!("{flag} {value}"))
}
