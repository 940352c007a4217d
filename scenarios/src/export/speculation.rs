//! The flags of speculative decoding.

use serde_json::json;

use crate::import::repository;
use crate::scenario::{DraftMethod, ModelChoice, Scenario, SpeculationSpec};

impl SpeculationSpec {
    /// The draft model as an engine names it: its repository, or what the scenario calls it.
    fn drafter(&self) -> Option<String> {
        self.model.as_ref().map(|model| match model {
            ModelChoice::Named(name) => repository(name).unwrap_or(name).to_owned(),
            ModelChoice::Inline(shape) => shape.name.clone(),
        })
    }

    /// What stands in place of the checkpoint of a head, which no catalog names.
    fn head(&self) -> Option<&'static str> {
        matches!(self.method, DraftMethod::Eagle | DraftMethod::Eagle3).then_some("EAGLE_HEAD")
    }
}

/// vLLM's `--speculative-config`.
pub(super) fn vllm(scenario: &Scenario) -> Option<String> {
    let speculation = scenario.engine.speculation.as_ref()?;
    let method = match speculation.method {
        DraftMethod::NGram => "ngram",
        DraftMethod::Eagle => "eagle",
        DraftMethod::Eagle3 => "eagle3",
        DraftMethod::Mtp => "mtp",
        DraftMethod::DraftModel => "draft_model",
    };
    let mut config = json!({ "method": method, "num_speculative_tokens": speculation.num_speculative_tokens });
    if let Some(model) = speculation.head().map(str::to_owned).or_else(|| speculation.drafter()) {
        config["model"] = json!(model);
    }
    Some(format!("'{config}'"))
}

/// SGLang's flags, one after the other. Its n-grams are trees, which no scenario has.
pub(super) fn sglang(scenario: &Scenario) -> Option<String> {
    let speculation = scenario.engine.speculation.as_ref()?;
    let algorithm = match speculation.method {
        DraftMethod::NGram => return None,
        DraftMethod::Eagle => "EAGLE",
        DraftMethod::Eagle3 => "EAGLE3",
        DraftMethod::Mtp => "NEXTN",
        DraftMethod::DraftModel => "STANDALONE",
    };
    let steps = speculation.num_speculative_tokens;
    let path = speculation.head().map(str::to_owned).or_else(|| speculation.drafter());
    let path = path.map_or_else(String::new, |path| format!(" --speculative-draft-model-path {path}"));
    Some(format!(
        "{algorithm}{path} --speculative-num-steps {steps} --speculative-eagle-topk 1 --speculative-num-draft-tokens {}",
        steps + 1
    ))
}

/// What the commands cannot say.
pub(super) fn notes(scenario: &Scenario) -> Vec<String> {
    let Some(speculation) = &scenario.engine.speculation else { return Vec::new() };
    let mut notes = vec!["how many drafts are accepted shows when the engine runs: `engine.speculation.acceptance` is not in the commands".to_owned()];
    if speculation.head().is_some() {
        notes.push("put the checkpoint of the EAGLE head in the place of `EAGLE_HEAD`".to_owned());
    }
    if speculation.method == DraftMethod::NGram {
        notes.push("SGLang's n-grams are trees of drafts: its command has none".to_owned());
    }
    notes
}
