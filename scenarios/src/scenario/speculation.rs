//! Speculative decoding: what drafts, how many tokens, and which share of them is accepted.

use std::borrow::Cow;
use std::fmt;

use overbook_sim::check::Check;
use overbook_sim::hardware::draft::DraftHeadKind;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::serving::speculation::{Acceptance, DRAFTS_MAX, Drafts};
use overbook_sim::time::Span;
use overbook_sim::units::Duration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{CostSpec, ModelChoice, Scenario};

/// Speculative decoding, under the names of vLLM's `--speculative-config`. A step verifies the drafts of every sequence at once; how
/// many are accepted is drawn for each sequence and step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeculationSpec {
    /// What drafts tokens.
    pub method: DraftMethod,
    /// Tokens drafted for a sequence in each step, 1 to 16 (SGLang's `--speculative-num-steps`).
    #[schemars(range(min = 1, max = 16))]
    pub num_speculative_tokens: u32,
    /// Probability that a draft is accepted if those before it were, 0 to 1: one for all positions, or one for each. No engine states
    /// it beforehand: it depends on the model, the drafter and the text. vLLM logs it, and counts it in
    /// `vllm:spec_decode_num_accepted_tokens_per_pos`.
    pub acceptance: AcceptanceSpec,
    /// The draft model of `draft-model`: a name in the catalog, or its shape. Its weights are bf16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelChoice>,
    /// Host time that drafting adds to every step: for each pass of a draft model or head, with `n-gram` for each sequence. By default
    /// none, as nobody has published it.
    #[serde(default = "no_time", skip_serializing_if = "is_no_time")]
    pub draft_host: Duration,
}

const fn no_time() -> Duration {
    Duration(Span::ZERO)
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_no_time(time: &Duration) -> bool {
    time.0 == Span::ZERO
}

/// What drafts tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DraftMethod {
    /// The words that followed the last ones before, in the same text: no model, only host time.
    #[serde(alias = "ngram")]
    NGram,
    /// An EAGLE head: one dense layer over the model's last hidden state. Models without experts.
    Eagle,
    /// An EAGLE-3 head: one dense layer over hidden states of three layers, with an own vocabulary of 32,000. Models without experts.
    Eagle3,
    /// Multi-token prediction: one layer as the model's last, experts included, applied for each draft. Its weights are the model's.
    Mtp,
    /// A smaller model of its own (vLLM's `draft_model`, SGLang's `STANDALONE`).
    #[serde(alias = "draft_model")]
    DraftModel,
}

impl DraftMethod {
    /// The head of the model that drafts, if one does.
    pub fn head(self) -> Option<DraftHeadKind> {
        match self {
            DraftMethod::Eagle => Some(DraftHeadKind::Eagle),
            DraftMethod::Eagle3 => Some(DraftHeadKind::Eagle3),
            DraftMethod::Mtp => Some(DraftHeadKind::Mtp),
            DraftMethod::NGram | DraftMethod::DraftModel => None,
        }
    }
}

/// Probabilities by position.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum AcceptanceSpec {
    /// The same at every position.
    All(f64),
    /// One for each.
    ByPosition(Vec<f64>),
}

/// Decides by what is written, so that errors keep their place.
struct Reader;

impl<'de> de::Visitor<'de> for Reader {
    type Value = AcceptanceSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a probability, or a list with one for each position")
    }

    fn visit_f64<E: de::Error>(self, share: f64) -> Result<AcceptanceSpec, E> {
        Ok(AcceptanceSpec::All(share))
    }

    fn visit_u64<E: de::Error>(self, share: u64) -> Result<AcceptanceSpec, E> {
        Ok(AcceptanceSpec::All(share as f64))
    }

    fn visit_i64<E: de::Error>(self, share: i64) -> Result<AcceptanceSpec, E> {
        Ok(AcceptanceSpec::All(share as f64))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<AcceptanceSpec, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(AcceptanceSpec::ByPosition)
    }
}

impl<'de> Deserialize<'de> for AcceptanceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AcceptanceSpec, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for AcceptanceSpec {
    fn schema_name() -> Cow<'static, str> {
        "AcceptanceSpec".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let share = json_schema!({ "type": "number", "minimum": 0, "maximum": 1 });
        json_schema!({
            "description": "Probabilities that a draft is accepted if those before it were: one for all positions, or one for each.",
            "anyOf": [share, { "type": "array", "minItems": 1, "maxItems": 16, "items": share }]
        })
    }
}

impl SpeculationSpec {
    /// What a replica of a scheduler must know to plan.
    pub fn drafts(&self, scheduler: &SchedulerSpec) -> Drafts {
        let tokens = self.num_speculative_tokens;
        let of_vllm = matches!(scheduler, SchedulerSpec::Vllm(_));
        let model_writes = self.method != DraftMethod::NGram;
        Drafts {
            tokens,
            // vLLM keeps slots for what a drafter writes beside those of the drafts that it verifies; SGLang's are the same slots.
            lookahead: if of_vllm && model_writes { tokens } else { 0 },
            // Neither engine plans ahead of a look-up on the host.
            overlaps: scheduler.needs().depth > 1 && model_writes,
        }
    }

    /// Probabilities by position.
    pub fn by_position(&self) -> Vec<f64> {
        match &self.acceptance {
            AcceptanceSpec::All(share) => vec![*share; self.num_speculative_tokens as usize],
            AcceptanceSpec::ByPosition(shares) => shares.clone(),
        }
    }

    /// How many are accepted.
    pub fn acceptance(&self) -> Acceptance {
        Acceptance::new(&[self.by_position()])
    }

    /// The rules on it, and what it cannot be combined with.
    pub(super) fn check(&self, scenario: &Scenario, check: &mut Check<'_>) {
        let tokens = self.num_speculative_tokens;
        let whole = scenario.speculation_refused();
        check.that(whole.is_none(), "speculation", whole.unwrap_or_default());
        let mut check = check.below("speculation");
        let told = format!(
            "is {tokens}; a step verifies 1 to {DRAFTS_MAX} drafts of a sequence: leave `speculation` out for none"
        );
        check.that((1..=DRAFTS_MAX).contains(&tokens), "num_speculative_tokens", told);
        let shares = match &self.acceptance {
            AcceptanceSpec::All(share) => std::slice::from_ref(share),
            AcceptanceSpec::ByPosition(shares) => {
                let told = format!(
                    "has {} probabilities for {tokens} drafts; give one for each (num_speculative_tokens), or one for all",
                    shares.len()
                );
                check.that(shares.len() == tokens as usize, "acceptance", told);
                shares
            }
        };
        if let Some(wrong) = shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
            check.that(false, "acceptance", format!("is {wrong}; a probability from 0 to 1, as 0.7"));
        }
        let is_model = self.method == DraftMethod::DraftModel;
        let told = if is_model {
            "is missing: which model drafts? A name of the catalog, as `llama-3.2-1b`"
        } else {
            "is for `method: draft-model` alone: the others have no model of their own"
        };
        check.that(self.model.is_some() == is_model, "model", told);
    }
}

impl Scenario {
    /// Why speculation cannot be combined with what else the scenario says, if it cannot.
    fn speculation_refused(&self) -> Option<String> {
        let needs = self.scheduler.needs();
        let name = self.scheduler.name();
        if !needs.speculates {
            return Some(match &self.scheduler {
                SchedulerSpec::Sglang(_) => {
                    "cannot be combined with `enable_mixed_chunk`: SGLang verifies no drafts beside prompts".to_owned()
                }
                _ => {
                    format!("is known for the schedulers vllm and sglang; {name} counts one token a sequence and step")
                }
            });
        }
        let budget = needs.step_tokens.at(u32::MAX);
        let tokens = self.engine.speculation.as_ref().map_or(0, |speculation| speculation.num_speculative_tokens);
        if let SchedulerSpec::Vllm(spec) = &self.scheduler {
            let scheduled = spec.max_num_scheduled_tokens.unwrap_or(budget).min(budget);
            if u64::from(scheduled) < 1 + u64::from(tokens) {
                return Some(format!(
                    "verifies {} tokens of a sequence, more than the {scheduled} of a step",
                    tokens + 1
                ));
            }
        }
        let told = if self.engine.retention.is_some() {
            "cannot be combined with `engine.retention`: what a request keeps while drafts are verified is not defined"
        } else if self.fleet.controllers.disaggregation.is_some() {
            "cannot be combined with `disaggregation`: drafts on replicas that only decode are not modelled"
        } else if self.fleet.dp_attention > 1 {
            "cannot be combined with `fleet.dp_attention`: how ranks draft is not modelled"
        } else if self.fleet.stages() > 1 {
            "cannot be combined with a pipeline: which stage drafts is not modelled"
        } else if self.engine.enforce_eager {
            "cannot be combined with `enforce_eager`: launches of draft passes are not known"
        } else if self.fleet.row.is_some() || self.power.is_some() || self.fleet.limiter.is_some() {
            "cannot be combined with `power`, `fleet.row` or `fleet.limiter`: the work of drafts is not counted"
        } else if matches!(self.engine.cost, CostSpec::Table(_) | CostSpec::Steps(_)) {
            "cannot be combined with measured steps (`table`, `steps`): they were measured without drafts; use `roofline`, or `constant` \
             with the time of a step and its drafts"
        } else if !self.fleet.pools.is_empty() {
            "cannot be combined with `fleet.pools`: pools with drafts are not modelled"
        } else {
            return None;
        };
        Some(told.to_owned())
    }
}
