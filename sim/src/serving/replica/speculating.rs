//! Drafts that were accepted: what sequences gain in a step beside the token that every step gives them.

use super::{Leak, Replica};
use crate::results::speculation::SpeculationFigures;
use crate::serving::request::Phase;
use crate::serving::speculation::{Acceptance, Speculation};

impl Replica {
    /// From now on drafts are accepted like that; `seed` is that of the draws. The replica's limits say how many drafts there are
    /// ([`Limits::drafts`]).
    ///
    /// [`Limits::drafts`]: super::Limits::drafts
    pub fn speculate(&mut self, acceptance: Acceptance, seed: u64) {
        self.speculation = Some(Box::new(Speculation { acceptance, seed, figures: SpeculationFigures::default() }));
    }

    /// What became of drafts, if there were any.
    pub fn speculation_figures(&self) -> Option<&SpeculationFigures> {
        self.speculation.as_ref().map(|speculation| &speculation.figures)
    }

    /// Draws for every member of the step just completed how many of its drafts were accepted, and gives it as many of them as its
    /// output has left. Members whose output ends with them go to those that have ended. Returns the tokens delivered.
    pub(super) fn accept_drafts(&mut self, lane: usize) -> u32 {
        if self.speculation.is_none() {
            return 0;
        }
        let delivered = self.give_drafts(lane);
        if delivered > 0 {
            self.leaks(Leak::Drafted);
        }
        delivered
    }

    fn give_drafts(&mut self, lane: usize) -> u32 {
        let Some(speculation) = &mut self.speculation else { return 0 };
        let lane = &mut self.lanes[lane];
        let drafted = self.limits.drafts.tokens;
        let mut delivered = 0;
        for at in 0..lane.running.len() {
            let seat = lane.running[at].seat;
            let request = &mut self.requests[seat as usize];
            // One that joined by this step, or was left out of it, has the clock after it.
            if request.phase != Phase::Decode || request.joined >= lane.done {
                continue;
            }
            let generated = lane.generated(request);
            let left = request.output - generated;
            let draw = speculation.acceptance.draw(speculation.seed, request.id, generated, request.class.0);
            let accepted = draw.min(drafted);
            let kept = accepted.min(left);
            speculation.figures.verified(drafted, accepted, kept);
            if kept == 0 {
                continue;
            }
            lane.step_out(request);
            request.generated += kept;
            request.kv.accept(kept, self.limits.block_tokens);
            self.computed_tokens += u64::from(kept);
            delivered += kept;
            if kept == left {
                // Its end is this one, whatever clocks the set has noted for it.
                request.phase = Phase::Draining;
                self.ended.push(seat);
            } else {
                lane.step_in(seat, request);
            }
        }
        delivered
    }
}
