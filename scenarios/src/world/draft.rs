//! Speculative decoding on the hardware of a point: what drafting costs, and the memory that a drafter takes.

use overbook_sim::cost::{Cost, CostModel, DraftPasses, Drafter, HostCost, Roofline, Speculative};
use overbook_sim::hardware::draft::DraftHead;
use overbook_sim::hardware::memory::{self, MemoryError, MemoryPlan};
use overbook_sim::hardware::model::{ModelSpec, Shard, WeightDtype};
use overbook_sim::hardware::parallel::Parallelism;
use overbook_sim::units::Bytes;

use super::WorldError;
use crate::catalog::Catalog;
use crate::point::Point;
use crate::scenario::{DraftMethod, ModelChoice, SpeculationSpec};

/// A drafter that has weights and keys and values of its own.
struct Draft {
    /// Its layers; of a head one.
    model: ModelSpec,
    shard: Shard,
    head: Option<DraftHead>,
    weights: WeightDtype,
    spread: Parallelism,
}

impl SpeculationSpec {
    /// The draft model, if there is one.
    ///
    /// # Errors
    /// It is not in the catalog, or its shape is wrong.
    pub(crate) fn draft_model(&self) -> Result<Option<ModelSpec>, String> {
        match &self.model {
            None => Ok(None),
            Some(ModelChoice::Named(name)) => {
                Catalog::embedded().model(name).map(Some).map_err(|error| error.to_string())
            }
            Some(ModelChoice::Inline(spec)) => {
                spec.validate().map(|()| Some(spec.as_ref().clone())).map_err(|error| error.to_string())
            }
        }
    }
}

impl Point {
    /// The drafter, if there is one with a model.
    ///
    /// # Errors
    /// Nothing is known of such a drafter, or it does not split over the GPUs of the replica.
    fn draft(&self) -> Result<Option<Draft>, WorldError> {
        let Some(speculation) = &self.scenario.engine.speculation else { return Ok(None) };
        let told = |message: String| WorldError::Draft { message };
        if self.model.recurrent.is_some() {
            let name = &self.model.name;
            return Err(told(format!(
                "{name} has layers with a state, and how rejected drafts leave it is not modelled"
            )));
        }
        let head = match speculation.method.head() {
            Some(kind) => Some(DraftHead::of(&self.model, kind).map_err(|error| told(error.to_string()))?),
            None => None,
        };
        let model = match &head {
            Some(head) => head.layer.clone(),
            None => match speculation.draft_model().map_err(told)? {
                Some(model) => model,
                None => return Ok(None),
            },
        };
        let whole = self.scenario.spread(self.topology.as_ref());
        let experts = whole.experts.filter(|_| model.moe.is_some());
        let spread = Parallelism { experts, ..whole };
        let exchange = experts.map(|experts| experts.exchange);
        let shard = model.shard_experts(spread.tensor, exchange).map_err(|error| told(error.to_string()))?;
        let own = speculation.method == DraftMethod::Mtp;
        let weights = if own { self.scenario.engine.weights } else { WeightDtype::Bf16 };
        Ok(Some(Draft { model, shard, head, weights, spread }))
    }

    /// What is left of the memory of a GPU for the pool when a drafter has its weights, and each block its keys and values too.
    ///
    /// # Errors
    /// Nothing is left, or the drafter is not known.
    pub(super) fn beside_draft(&self, plan: MemoryPlan) -> Result<MemoryPlan, WorldError> {
        let Some(draft) = self.draft()? else { return Ok(plan) };
        let layout = self.scenario.layout(&self.model);
        let bytes = match &draft.head {
            Some(head) => head.weight_bytes(&draft.shard, draft.weights).map_err(MemoryError::from)?,
            None => memory::weight_bytes(&draft.model, &draft.shard, draft.weights),
        };
        let token = memory::kv_bytes_per_token(&draft.model, &draft.shard, layout.kv);
        let weights = Bytes(plan.weights.0 + bytes);
        let block = Bytes(plan.block.0 + token * u64::from(layout.block_tokens.max(1)));
        let left = plan.budget.0.saturating_sub(weights.0).saturating_sub(plan.reserve.0);
        let blocks = left / block.0.max(1);
        if blocks == 0 {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let message = format!(
                "the drafter takes {:.1} GiB of each GPU beside the model's {:.1} GiB, and leaves no room for keys and values",
                gib(bytes),
                gib(plan.weights.0)
            );
            return Err(WorldError::Draft { message });
        }
        Ok(MemoryPlan { weights, block, blocks, ..plan })
    }

    /// What steps cost that verify drafts and draft the next ones, from what a plain step costs.
    ///
    /// # Errors
    /// No cost model for the drafter.
    pub(super) fn speculative(
        &self,
        speculation: &SpeculationSpec,
        plain: Roofline,
    ) -> Result<Box<dyn CostModel>, WorldError> {
        let drafts = speculation.num_speculative_tokens;
        let verify = plain.verifying(1 + drafts, 1 + drafts)?;
        let host = Cost::from_ns(speculation.draft_host.0.0 as f64);
        let Some(draft) = self.draft()? else {
            return Ok(Box::new(Speculative::new(verify, Drafter::Host { base: Cost(0), per_seq: host })));
        };
        let layout = self.scenario.layout(&self.model);
        let Draft { model, shard, head, weights, spread } = draft;
        let most = layout.max_batched_tokens;
        let pass = Roofline::new(&self.gpu, &model, spread, weights, layout.kv, HostCost::ZERO, most)?;
        let entry = head.map_or_else(Default::default, |head| head.entry(&shard));
        let passes = DraftPasses {
            first: pass.clone().verifying(1 + drafts, 1)?,
            next: pass,
            drafts,
            entry,
            gpu: self.gpu.clone(),
            weights: weights.outside_experts(),
            host,
        };
        Ok(Box::new(Speculative::new(verify, Drafter::Passes(Box::new(passes)))))
    }

    /// Whether its drafter is known and fits.
    pub(crate) fn check_draft(&self) -> Result<(), WorldError> {
        if self.scenario.engine.has_roofline() && self.scenario.engine.speculation.is_some() {
            self.cost().map(drop)?;
        }
        self.limits().map(drop)
    }
}
