//! What planned steps cost, and for how many of them the same price holds.

use super::super::sink::Sink;
use super::{Drive, Stop, StopReason};
use crate::cost::{COST_PER_NS, Cost, CostModel, StepCost, StepShape};
use crate::partitioners::UNIT;
use crate::serving::replica::{PlannedStep, Repeats, Replica};
use crate::time::Time;

/// Longest jump: bounds the arithmetic, and a lane never needs more.
const JUMP_MAX: u64 = 1 << 20;

/// Price of a planned step: the first lasts `first`, each repetition `growth` more, at most `most` in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Price {
    pub(super) first: Cost,
    pub(super) growth: Cost,
    /// Part of the first that is host time before the device begins.
    pub(super) host: Cost,
    pub(super) most: u64,
    /// What ends the price after `most` steps.
    pub(super) limit: StopReason,
}

/// `cost · to / from`.
fn scale(cost: u64, to: u64, from: u64) -> Cost {
    Cost(u64::try_from(u128::from(cost) * u128::from(to) / u128::from(from)).unwrap_or(u64::MAX))
}

impl Drive {
    /// How many steps to jump over: the least that any rule allows.
    pub(super) fn jump_length(&mut self, price: Price, wake: Option<u64>, replica: &mut Replica) -> u64 {
        if price.most <= 1 {
            return 1;
        }
        let Repeats { leave, cut, blocks } = replica.repeats_possible(self.lane);
        let rules = [
            (price.most, price.limit),
            (wake.unwrap_or(u64::MAX), StopReason::Horizon),
            (leave.saturating_add(1), StopReason::Leave),
            (cut.saturating_add(1), StopReason::Cut),
            (blocks.saturating_add(1), StopReason::Blocks),
        ];
        let (steps, reason) = rules.into_iter().min_by_key(|r| r.0).unwrap_or((1, StopReason::Horizon));
        self.effort.stops[reason as usize] += 1;
        steps + self.planted(reason)
    }

    fn scaled(&self, device: Cost) -> Cost {
        let device = if self.scale == UNIT { device } else { scale(device.0, self.scale, UNIT) };
        self.apart.map_or(device, |ratio| Cost((device.0 as f64 * ratio).round() as u64))
    }

    /// The device is faster or slower from now on: the step in flight keeps what it has done, the rest takes its part longer.
    /// Only where one step at a time is in flight, and the lane is settled and cut.
    pub(crate) fn rescale(
        &mut self,
        now: Time,
        factor: u64,
        replica: &Replica,
        sink: &mut Sink<'_>,
    ) -> Result<(), Stop> {
        let before = std::mem::replace(&mut self.scale, factor);
        if before == factor {
            return Ok(());
        }
        let Some(mut segment) = self.segments.pop_back() else { return Ok(()) };
        assert!(self.segments.is_empty() && segment.unfinished() == 1, "law 13: one step in flight when rates change");
        let (step, length) = (segment.done, segment.cost_of(segment.done).0);
        let mut rest = segment.clone();
        (rest.start, rest.remainder) = (segment.end_of(step), segment.remainder_after(step));
        let passed = u128::from(now.since(rest.start).0) * u128::from(COST_PER_NS);
        let passed = (passed as u64).saturating_sub(rest.remainder);
        let kept = passed.max(segment.host.0).min(length);
        rest.first = Cost(kept) + scale(length - kept, factor, before);
        (rest.growth, rest.host) = (Cost(0), Cost(segment.host.0.saturating_sub(passed)));
        (rest.steps, rest.planned, rest.done) = (1, 1, 0);
        if step > 0 {
            rest.row.start = rest.start;
            rest.row.decode_context += step * segment.growing;
            rest.row.used_blocks = replica.pool().used();
            segment.steps = step;
            self.finish_segment(segment, sink)?;
        }
        self.segments.push_back(rest);
        Ok(())
    }

    /// What the planned step costs after the copies that it waits for, and how often the same affine price holds at most.
    pub(super) fn price(&self, step: &PlannedStep, idle: bool, copies: Cost, cost: &mut dyn CostModel) -> Price {
        let (seqs, context) = (step.decode_seqs, step.decode_context);
        let serial = self.depth == 1 || idle;
        if !step.parts.is_empty() || !step.all_members || seqs == 0 || copies > Cost(0) {
            let shape = StepShape {
                decode_seqs: seqs,
                decode_context: context,
                prefill: &step.parts,
                prefill_ends: step.prefill_ends,
            };
            let StepCost { device, host } = cost.step(&shape);
            let device = self.scaled(device) + copies;
            let first = if serial { device + host } else { device.max(host) };
            return Price { first, growth: Cost(0), host, most: 1, limit: StopReason::Horizon };
        }
        let mut decode = cost.decode(seqs, context);
        decode.base = self.scaled(decode.base);
        decode.per_context = self.scaled(decode.per_context);
        let (device, host) = (decode.base + decode.per_context * context, decode.host);
        let growing = u64::from(step.growing);
        let slope = decode.per_context * growing;
        let mut most =
            if self.jumps && self.apart.is_none() { step.horizon.repeats.saturating_add(1).min(JUMP_MAX) } else { 1 };
        let mut limit = StopReason::Horizon;
        if decode.valid_below != u64::MAX && growing > 0 {
            let to_break = (decode.valid_below - context).div_ceil(growing);
            if to_break < most {
                (most, limit) = (to_break, StopReason::CostBreak);
            }
        }
        if serial {
            // A deep lane that was idle pays the host once; from then on it hides behind the device.
            let most = if self.depth > 1 { 1 } else { most };
            return Price { first: device + host, growth: slope, host, most, limit };
        }
        if device >= host {
            return Price { first: device, growth: slope, host: Cost(0), most, limit };
        }
        // The host is the bottleneck until the device's time has grown past it.
        let crossing = if slope == Cost(0) { u64::MAX } else { (host.0 - device.0).div_ceil(slope.0) };
        if crossing < most {
            (most, limit) = (crossing, StopReason::HostCrossing);
        }
        Price { first: host, growth: Cost(0), host: Cost(0), most, limit }
    }
}
