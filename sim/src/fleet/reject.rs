//! Early rejection: requests that would not get what they are promised are refused where they arrive (Mooncake, FAST '25, §7).

use super::Cluster;
use super::pools::Costs;
use crate::cost::{COST_PER_NS, CostModel, PrefillPart, StepShape};
use crate::fleet::drive::Books;
use crate::fleet::outcome::RunError;
use crate::results::rows::Recorder;
use crate::routers::RequestInfo;
use crate::time::Span;
use crate::workload::arrival::Arrival;

/// Promises that a request must be likely to get, or it is refused on arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EarlyRejection {
    /// Time to first token at most: the step that runs at the replica, what waits there, and the request's own prompt less its cached prefix.
    pub ttft: Option<Span>,
    /// Length of a decode step at most, with the request in it, as full as the decoding replica is now.
    pub tbt: Option<Span>,
}

/// Prompt tokens of the step by which the speed of prompts is judged.
const STEP_TOKENS: u32 = 8192;

/// Time on device and host of a step of prompts [ns].
fn prompt_ns(cost: &mut dyn CostModel, tokens: u32, past: u32) -> u64 {
    if tokens == 0 {
        return 0;
    }
    let prefill = &[PrefillPart { tokens, past }];
    let step = cost.step(&StepShape { decode_seqs: 0, decode_context: 0, prefill, prefill_ends: 1 });
    (step.device + step.host).0 / COST_PER_NS
}

impl Cluster {
    /// Whether a request that arrives at a replica is likely to get what must be promised.
    pub(super) fn keeps_promises<R: Recorder>(
        &mut self,
        at: usize,
        arrival: &Arrival,
        costs: &mut Costs<'_>,
        books: &mut Books<'_, R>,
    ) -> Result<bool, RunError> {
        let Some(EarlyRejection { ttft, tbt }) = self.spec.early_rejection else { return Ok(true) };
        if let Some(limit) = ttft {
            self.settle(at, books)?;
            let replica = &self.replicas[at];
            let hit = replica.pool().lookup(RequestInfo::of(arrival).prefix).blocks;
            let limits = replica.limits;
            let cached = if limits.prefix_caching { hit * limits.block_tokens } else { 0 };
            let cached = cached.min(arrival.prompt_tokens.saturating_sub(1));
            let cost = self.cost_of(at, costs);
            let own = prompt_ns(cost, arrival.prompt_tokens - cached, cached);
            let pending = u128::from(replica.pending_tokens());
            let queue = pending * u128::from(prompt_ns(cost, STEP_TOKENS, 0)) / u128::from(STEP_TOKENS);
            let running = self.drives[self.first_drive[at]].free_at().map_or(0, |end| end.since(self.now).0);
            if u128::from(running) + u128::from(own) + queue > u128::from(limit.0) {
                return Ok(false);
            }
        }
        if let Some(limit) = tbt {
            let decodes = self.decodes_at(at);
            self.settle(decodes, books)?;
            let replica = &self.replicas[decodes];
            let seqs = replica.running() + 1;
            let held = replica.pool().used() * u64::from(replica.limits.block_tokens);
            let context = held + u64::from(arrival.prompt_tokens);
            let step = self.cost_of(decodes, costs).decode(seqs, context);
            let ns = (u128::from(step.base.0) + u128::from(step.per_context.0) * u128::from(context))
                / u128::from(COST_PER_NS);
            return Ok(ns <= u128::from(limit.0));
        }
        Ok(true)
    }
}
