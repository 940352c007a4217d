//! What planned steps cost, and for how many of them the same price holds.

use super::{Drive, StopReason};
use crate::cost::{Cost, DecodeParts, Parts, StepCost, StepShape};
use crate::fleet::devices::Pricing;
use crate::fleet::segment::{Metered, Timing};
use crate::power::work::Work;
use crate::serving::replica::{PlannedStep, Repeats, Replica};

/// Longest jump: bounds the arithmetic, and a lane never needs more.
const JUMP_MAX: u64 = 1 << 20;

/// Price of a planned step: the first lasts `first`, each repetition `growth` more, at most `most` in all.
#[derive(Clone, Debug)]
pub(super) struct Price {
    pub(super) first: Cost,
    pub(super) growth: Cost,
    pub(super) timing: Timing,
    pub(super) most: u64,
    /// What ends the price after `most` steps.
    pub(super) limit: StopReason,
    pub(super) metered: Option<Box<Metered>>,
}

impl Drive {
    /// How many steps to jump over: the least that any rule allows.
    pub(super) fn jump_length(
        &mut self,
        (most, limit): (u64, StopReason),
        wake: Option<u64>,
        replica: &mut Replica,
    ) -> u64 {
        if most <= 1 {
            return 1;
        }
        let Repeats { leave, cut, blocks } = replica.repeats_possible(self.lane);
        let rules = [
            (most, limit),
            (wake.unwrap_or(u64::MAX), StopReason::Horizon),
            (leave.saturating_add(1), StopReason::Leave),
            (cut.saturating_add(1), StopReason::Cut),
            (blocks.saturating_add(1), StopReason::Blocks),
        ];
        let (steps, reason) = rules.into_iter().min_by_key(|r| r.0).unwrap_or((1, StopReason::Horizon));
        self.effort.stops[reason as usize] += 1;
        steps + self.planted(reason)
    }

    /// Time on the device of these parts at the lane's pace; where steps lie apart, of this one.
    fn paced(&self, parts: &Parts) -> Cost {
        let device = self.pace.reprice(parts);
        self.apart.map_or(device, |ratio| Cost((device.0 as f64 * ratio).round() as u64))
    }

    /// What the planned step costs after the copies that it waits for, and how often the same affine price holds at most.
    pub(super) fn price(&self, step: &PlannedStep, idle: bool, copies: Cost, pricing: &mut Pricing<'_>) -> Price {
        let pure = step.parts.is_empty() && step.all_members && step.decode_seqs > 0 && copies == Cost(0);
        let serial = (self.depth == 1 && !self.overlaps) || idle;
        if pure { self.price_decodes(step, serial, pricing) } else { self.price_step(step, serial, copies, pricing) }
    }

    /// One step of any shape.
    fn price_step(&self, step: &PlannedStep, serial: bool, copies: Cost, pricing: &mut Pricing<'_>) -> Price {
        let shape = StepShape {
            decode_seqs: step.decode_seqs,
            decode_context: step.decode_context,
            prefill: &step.parts,
            prefill_ends: step.prefill_ends,
        };
        let (StepCost { device, host }, parts) = if pricing.device.is_some() {
            pricing.cost.step_in_parts(&shape)
        } else {
            let cost = pricing.cost.step(&shape);
            (cost, Parts::host(cost.device))
        };
        let metered = pricing.device.map(|gpu| {
            assert_eq!(parts.whole, device, "a cost model's parts are of another step: {shape:?}");
            let by_context = DecodeParts { base: parts, per_context: Parts::default() };
            Metered::new(by_context, 0, gpu.work.of(&shape), Work::default())
        });
        let device = self.paced(&parts);
        let (lead, floor) = if serial { (host + copies, Cost(0)) } else { (copies, host) };
        let timing = Timing { lead, device, growth: Cost(0), floor };
        Price { first: timing.length(), growth: Cost(0), timing, most: 1, limit: StopReason::Horizon, metered }
    }

    /// Steps in which only members of the standing set decode.
    fn price_decodes(&self, step: &PlannedStep, serial: bool, pricing: &mut Pricing<'_>) -> Price {
        let (seqs, context, growing) = (step.decode_seqs, step.decode_context, u64::from(step.growing));
        let (decode, parts) = if pricing.device.is_some() {
            pricing.cost.decode_in_parts(seqs, context)
        } else {
            let decode = pricing.cost.decode(seqs, context);
            (decode, DecodeParts::all(decode, Parts::host))
        };
        let metered = pricing.device.map(|gpu| {
            let whole = (parts.base.whole, parts.per_context.whole);
            assert_eq!(whole, (decode.base, decode.per_context), "a cost model's parts are of other decodes");
            let work = gpu.work.decode(seqs);
            Metered::new(parts, context, work.base + work.per_context * context, work.per_context * growing)
        });
        let per_context = self.paced(&parts.per_context);
        let (device, host) = (self.paced(&parts.base) + per_context * context, decode.host);
        let slope = per_context * growing;
        let mut most =
            if self.jumps && self.apart.is_none() { step.horizon.repeats.saturating_add(1).min(JUMP_MAX) } else { 1 };
        let mut limit = StopReason::Horizon;
        if decode.valid_below != u64::MAX && growing > 0 {
            let to_break = (decode.valid_below - context).div_ceil(growing);
            if to_break < most {
                (most, limit) = (to_break, StopReason::CostBreak);
            }
        }
        let (lead, floor) = if serial { (host, Cost(0)) } else { (Cost(0), host) };
        let timing = Timing { lead, device, growth: slope, floor };
        let mut price = Price { first: timing.length(), growth: slope, timing, most, limit, metered };
        if serial {
            // A deep lane that was idle pays the host once; from then on it hides behind the device.
            price.most = if self.depth > 1 { 1 } else { most };
        } else if device < host {
            // The host is the bottleneck until the device's time has grown past it.
            price.growth = Cost(0);
            let crossing = if slope == Cost(0) { u64::MAX } else { (host.0 - device.0).div_ceil(slope.0) };
            if crossing < most {
                (price.most, price.limit) = (crossing, StopReason::HostCrossing);
            }
        }
        price
    }
}
