//! Preemptive batches: every step serves the first requests in the order of keys, running or waiting. Memory and places go by
//! rank, and a request that loses them is preempted.

use super::chunked::BatchSpec;
use super::victim::{PreemptionMode, watermark_blocks};
use super::{Needs, QueueOrder, StepTokens};
use crate::kv::Seat;
use crate::serving::request::Phase;
use crate::serving::step::{Infeasible, RequestView, StepBuilder};

/// What has become of a step by rank.
#[derive(Clone, Default, Debug)]
pub(crate) struct Turns {
    /// Requests with a part in it.
    pub(crate) served: Vec<Seat>,
    /// Requests that ran until now and have none: preempted, or left out with their memory kept.
    pub(crate) stopped: Vec<Seat>,
    /// It decodes the standing set and does nothing else.
    pub(crate) pure: bool,
}

/// A part in the step.
struct Turn {
    request: RequestView,
    tokens: u32,
}

/// What is left to give, and which request got what: by rank, tokens, places and blocks go to the first ones. But a prompt that was begun
/// keeps its blocks until it is computed, unless they can go to the host: the papers compute a prompt in one step, and over several
/// steps requests could otherwise drop each other's prompts for ever.
struct Division {
    /// Blocks of the pool that running requests hold, or that are free.
    capacity: u64,
    used: u64,
    /// Blocks promised to prompts that were begun and have not come up yet.
    promised: u64,
    tokens: u32,
    places: u32,
    turns: Vec<Turn>,
    /// Without a part in the step, but in memory.
    paused: Vec<Seat>,
    evicted: Vec<Seat>,
}

impl BatchSpec {
    /// What a scheduler needs whose batches go by rank: here the budget holds for decodes too.
    pub(crate) fn needs_by_rank(&self) -> Needs {
        let step_tokens = StepTokens::Fixed(self.max_num_batched_tokens);
        Needs { order: QueueOrder::Keyed, step_tokens, counts_slots: false, ..self.needs() }
    }

    /// Builds a step by rank.
    ///
    /// # Errors
    /// Never, unless the state is broken.
    pub(crate) fn plan_by_rank(&self, mode: PreemptionMode, step: &mut StepBuilder<'_>) -> Result<Turns, Infeasible> {
        let Division { turns, paused, mut evicted, .. } = self.divide(mode, step);
        // Prompts that were begun go to the host first: they count on its room.
        let (begun, decoding): (Vec<Seat>, Vec<Seat>) =
            evicted.iter().rev().partition(|&&seat| step.view(seat).phase == Phase::Prefill);
        for seat in begun.into_iter().chain(decoding) {
            mode.preempt(step, seat)?;
        }
        for turn in turns.iter().filter(|turn| turn.request.on_host > 0) {
            let head = step.look(turn.request.seat)?;
            step.swap_in(&head)?;
        }
        let mut pure = evicted.is_empty() && paused.is_empty();
        let all = !paused.iter().any(|&seat| step.view(seat).phase == Phase::Decode);
        if all {
            step.decode_all()?;
        }
        for turn in &turns {
            let seat = turn.request.seat;
            let fits = match step.view(seat).phase {
                Phase::Decode => all || step.decode(seat)?,
                Phase::Prefill => step.prefill(seat, turn.tokens)?,
                _ => {
                    let head = step.look(seat)?;
                    step.admit(&head, turn.tokens)?;
                    true
                }
            };
            if !fits {
                return Err(Infeasible(format!("request {} was given blocks that are not free", turn.request.id)));
            }
            pure &= turn.request.phase == Phase::Decode;
        }
        evicted.extend(paused);
        Ok(Turns { served: turns.iter().map(|turn| turn.request.seat).collect(), stopped: evicted, pure })
    }

    fn divide(&self, mode: PreemptionMode, step: &StepBuilder<'_>) -> Division {
        let mut running: Vec<RequestView> = (0..step.running()).map(|at| step.running_at(at)).collect();
        running.sort_unstable_by_key(|r| rank(step, r));
        let held = running.iter().map(|r| step.blocks_for(r.computed));
        let mut left = Division {
            capacity: step.free_blocks() + held.sum::<u64>(),
            used: 0,
            promised: 0,
            tokens: self.max_num_batched_tokens,
            places: self.max_num_seqs,
            turns: Vec::new(),
            paused: Vec::new(),
            evicted: Vec::new(),
        };
        let keeps = begun_prompts(mode, step, &running);
        left.promised = keeps.iter().map(|&seat| whole_blocks(step, &step.view(seat))).sum();
        let kept = watermark_blocks(step, self.watermark);
        let mut waiting = step.queue().peekable();
        let (mut turnless, mut blocked) = (Vec::new(), false);
        for request in running {
            // A waiting request that does not fit lets no other pass.
            while !blocked && left.goes_on() {
                let Some(next) = waiting.next_if(|w| rank(step, w) < rank(step, &request)) else { break };
                blocked = !left.give(step, next, kept);
            }
            let promised = if keeps.contains(&request.seat) { whole_blocks(step, &request) } else { 0 };
            if !left.goes_on() {
                turnless.push((request, promised));
                continue;
            }
            left.promised -= promised;
            if !left.give(step, request, 0) {
                left.evicted.push(request.seat);
            }
        }
        while !blocked && left.goes_on() {
            let Some(next) = waiting.next() else { break };
            blocked = !left.give(step, next, kept);
        }
        for (request, promised) in turnless {
            left.promised -= promised;
            let list = if left.takes(whole_blocks(step, &request)) { &mut left.paused } else { &mut left.evicted };
            list.push(request.seat);
        }
        left
    }
}

/// The running requests whose prompts were begun and would be lost: the host has no room for them. The last ones go there first.
fn begun_prompts(mode: PreemptionMode, step: &StepBuilder<'_>, running: &[RequestView]) -> Vec<Seat> {
    let host = if mode == PreemptionMode::Swap { step.limits().swap.blocks } else { 0 };
    let mut room = host.saturating_sub(step.swapped_blocks());
    let mut keeps = Vec::new();
    for request in running.iter().rev().filter(|r| r.phase == Phase::Prefill) {
        let held = step.blocks_for(request.computed);
        if held <= room {
            room -= held;
        } else {
            keeps.push(request.seat);
        }
    }
    keeps
}

impl Division {
    fn goes_on(&self) -> bool {
        self.tokens > 0 && self.places > 0
    }

    /// Takes blocks, if there are so many.
    fn takes(&mut self, blocks: u64) -> bool {
        let fits = self.used + self.promised + blocks <= self.capacity;
        self.used += if fits { blocks } else { 0 };
        fits
    }

    /// Gives a request its part in the step, if its blocks fit and leave `kept` beside those of others.
    fn give(&mut self, step: &StepBuilder<'_>, request: RequestView, kept: u64) -> bool {
        let blocks = whole_blocks(step, &request);
        let taken = self.used + self.promised;
        let kept = if taken == 0 { 0 } else { kept };
        if taken + blocks + kept > self.capacity || !self.takes(blocks) {
            return false;
        }
        let tokens = prefill_left(&request).clamp(1, self.tokens);
        self.tokens -= tokens;
        self.places -= 1;
        self.turns.push(Turn { request, tokens });
        true
    }
}

/// Prompt tokens that a request must compute before it decodes.
fn prefill_left(request: &RequestView) -> u32 {
    match request.phase {
        Phase::Prefill => request.target - request.computed,
        Phase::Waiting if request.on_host > 0 => request.target.saturating_sub(request.on_host),
        Phase::Waiting => request.prompt_tokens + request.generated,
        _ => 0,
    }
}

/// Blocks that a request holds once its prompt is computed, or once it has decoded in this step.
fn whole_blocks(step: &StepBuilder<'_>, request: &RequestView) -> u64 {
    let present = if request.phase == Phase::Waiting { request.on_host } else { request.computed };
    let left = prefill_left(request);
    step.blocks_for(present + left.max(1))
}

fn rank(step: &StepBuilder<'_>, request: &RequestView) -> (u64, u64, u64) {
    (step.key(request.seat), request.arrival_key, request.id)
}
