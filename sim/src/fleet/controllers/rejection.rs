//! Early rejection: requests that would not get what they are promised are refused where they arrive (Mooncake, FAST '25, §7).

use crate::cost::{COST_PER_NS, PrefillPart, StepShape};
use crate::fleet::RunError;
use crate::fleet::controller::{Action, Controller, Event, Placement, Topics};
use crate::fleet::kernel::Kernel;
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

/// Time on device and host of a step of prompts on a replica as it runs now [ns].
fn prompt_ns(at: usize, tokens: u32, past: u32, kernel: &mut Kernel<'_>) -> u64 {
    if tokens == 0 {
        return 0;
    }
    let prefill = &[PrefillPart { tokens, past }];
    let shape = StepShape { decode_seqs: 0, decode_context: 0, prefill, prefill_ends: 1 };
    let host = kernel.cost_of(at).step(&shape).host;
    (kernel.device_time(at, &shape) + host).0 / COST_PER_NS
}

#[derive(Debug)]
pub(super) struct Control {
    promises: EarlyRejection,
}

impl Control {
    pub(super) fn new(promises: EarlyRejection) -> Control {
        Control { promises }
    }
}

/// Whether the first token of a request is likely to come in time.
fn starts_in_time(at: usize, arrival: &Arrival, limit: Span, kernel: &mut Kernel<'_>) -> Result<bool, RunError> {
    kernel.settle(at)?;
    let replica = &kernel.replicas[at];
    let hit = replica.pool().lookup(RequestInfo::of(arrival).prefix).blocks;
    let limits = replica.limits;
    let cached = if limits.prefix_caching { hit * limits.block_tokens } else { 0 };
    let cached = cached.min(arrival.prompt_tokens.saturating_sub(1));
    let pending = u128::from(replica.pending_tokens());
    let own = prompt_ns(at, arrival.prompt_tokens - cached, cached, kernel);
    let queue = pending * u128::from(prompt_ns(at, STEP_TOKENS, 0, kernel)) / u128::from(STEP_TOKENS);
    let running = kernel.free_at(at).map_or(0, |end| end.since(kernel.now).0);
    Ok(u128::from(running) + u128::from(own) + queue <= u128::from(limit.0))
}

/// Whether the decode steps of a replica are likely to be short enough with the request in them.
fn decodes_in_time(at: usize, arrival: &Arrival, limit: Span, kernel: &mut Kernel<'_>) -> Result<bool, RunError> {
    kernel.settle(at)?;
    let replica = &kernel.replicas[at];
    let seqs = replica.running() + 1;
    let held = replica.pool().used() * u64::from(replica.limits.block_tokens);
    let context = held + u64::from(arrival.prompt_tokens);
    let shape = StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 };
    Ok(kernel.device_time(at, &shape).0 / COST_PER_NS <= limit.0)
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        Topics::PLACING
    }

    fn on(&mut self, _: Event<'_>, _: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        Ok(Vec::new())
    }

    fn place(
        &mut self,
        arrival: &mut Arrival,
        placement: &mut Placement,
        kernel: &mut Kernel<'_>,
    ) -> Result<(), RunError> {
        let Some(at) = placement.replica else { return Ok(()) };
        let EarlyRejection { ttft, tbt } = self.promises;
        let starts = ttft.map_or(Ok(true), |limit| starts_in_time(at, arrival, limit, kernel))?;
        let decodes_at = placement.decodes_at.unwrap_or(at);
        placement.refused =
            !(starts && tbt.map_or(Ok(true), |limit| decodes_in_time(decodes_at, arrival, limit, kernel))?);
        Ok(())
    }
}
