//! Prefill: who joins the next batch, with how many tokens (`_get_new_batch_prefill_raw`, `PrefillAdder`).

use super::budget::{More, Pass};
use super::{PromptBatch, SchedulePolicy, SglangV05, running_list};
use crate::kv::Seat;
use crate::serving::request::Phase;
use crate::serving::step::{Infeasible, Prefix, RequestView, StepBuilder};

impl SglangV05 {
    /// Requests that may join (rule 5): by the running list, and by those that hold memory.
    fn slots(&self, listed: usize, rows: usize, held: usize) -> usize {
        let most = self.spec.max_running_requests as usize;
        most.saturating_sub(listed).min((most + held).saturating_sub(rows))
    }

    /// Whether prefill waits until more may join at once (rule 4).
    pub(super) fn is_delayed(&self, step: &StepBuilder<'_>) -> bool {
        let least = self.spec.min_free_slots_delay.unwrap_or(0).min(self.spec.max_running_requests) as usize;
        let listed = running_list(step).count();
        least > 1 && listed > 0 && step.prefilling().is_empty() && self.slots(listed, step.running(), 0) < least
    }

    /// A step of prompts, if one can be made.
    pub(super) fn prefill(&mut self, step: &mut StepBuilder<'_>) -> Result<bool, Infeasible> {
        let list: Vec<RequestView> = running_list(step).collect();
        if self.spec.preempts() || list.is_empty() {
            self.full = false;
        }
        let going_on = step.prefilling().first().copied();
        if going_on.is_none() {
            if self.full || step.waiting() == 0 || self.is_delayed(step) {
                return Ok(false);
            }
            if self.slots(list.len(), step.running(), 0) == 0 && !self.spec.preempts() {
                self.full = true;
                return Ok(false);
            }
        }
        self.sort(step)?;
        let mixed = if self.spec.enable_mixed_chunk { list.len() as i64 } else { 0 };
        let expected: f64 = list.iter().fold(0.0, |sum, request| sum + self.offset(step, request));
        let mut pass = Pass {
            rows: step.running(),
            promised: mixed as f64 + expected,
            taken: mixed,
            input: i64::from(self.spec.max_prefill_tokens) - mixed,
            chunk: self.spec.chunked_prefill_size.map(|size| i64::from(size) - mixed),
            batch: Vec::new(),
            continues: going_on.is_some(),
            open: false,
            ends: None,
            list,
        };
        if let Some(seat) = going_on {
            self.go_on(step, &mut pass, seat);
        }
        self.fill(step, &mut pass)?;
        if pass.batch.is_empty() {
            return Ok(false);
        }
        self.run(step, &pass)?;
        Ok(true)
    }

    /// The next chunk of a prompt (rule 8): without a test, so that its memory comes free one day.
    fn go_on(&self, step: &StepBuilder<'_>, pass: &mut Pass, seat: Seat) {
        let request = step.view(seat);
        let rest = i64::from(request.target - request.computed);
        let chunk = pass.chunk.unwrap_or(i64::MAX);
        let bounded = chunk.min(pass.memory(step) as i64);
        let most = if bounded > 0 { bounded } else { chunk };
        let most = self.left_by_shorter(step, pass, rest).map_or(most, |left| left.min(most));
        if most <= 0 {
            return; // Decodes beside it use the chunk up; SGLang has no rule for that.
        }
        pass.open = rest > most;
        let output = if pass.open { 0 } else { Self::limit(step, &request).min(self.clip()) };
        pass.take(step.limits().block_tokens, seat, rest.min(most) as u32, output);
    }

    /// What shorter prompts in the queue leave of a chunk, if there are such and they are to go first (rule 12).
    fn left_by_shorter(&self, step: &StepBuilder<'_>, pass: &Pass, rest: i64) -> Option<i64> {
        let block = i64::from(step.limits().block_tokens);
        let chunk = pass.chunk.filter(|&chunk| chunk >= 2 * block)?;
        if self.spec.order() != SchedulePolicy::ShortestPrefillFirst {
            return None;
        }
        let mut reserved = 0;
        for request in step.queue() {
            let tokens = request.prompt_tokens + request.generated;
            let cached = self.note(request.seat).cached.min(tokens - 1);
            let work = i64::from(tokens - cached);
            let charge = (work + block - 1) / block * block;
            if work >= rest || reserved + charge > chunk - block {
                break;
            }
            reserved += charge;
        }
        (reserved > 0).then(|| (chunk - reserved) / block * block)
    }

    /// Goes through the queue (rule 7).
    fn fill(&mut self, step: &mut StepBuilder<'_>, pass: &mut Pass) -> Result<(), Infeasible> {
        // Those that are preempted in this pass wait for the next one.
        for _ in 0..step.waiting() {
            if pass.more(step) == More::NoTokens {
                break;
            }
            let held = usize::from(pass.continues);
            if pass.batch.len() >= self.slots(pass.list.len(), pass.rows, held) {
                self.full = true;
            }
            let Some(request) = step.queue().next() else { break };
            if self.full && !(self.spec.preempts() && self.displace(step, pass, &request)?) {
                break;
            }
            let tokens = request.prompt_tokens + request.generated;
            let prefix = step.look_up(request.seat, tokens - 1)?;
            let note = &mut self.notes[request.seat as usize];
            (note.looked, note.cached) = (tokens, prefix.cached);
            match self.add(step, pass, &prefix)? {
                More::Yes => {}
                More::NoMemory => {
                    self.full = !pass.batch.is_empty() || !pass.list.is_empty();
                    break;
                }
                More::NoTokens => break,
            }
        }
        Ok(())
    }

    /// Admits a candidate if it fits (rules 9, 10 and 24), and says whether more may be added.
    fn add(&self, step: &mut StepBuilder<'_>, pass: &mut Pass, prefix: &Prefix) -> Result<More, Infeasible> {
        if self.spec.prefill_max_requests.is_some_and(|most| pass.batch.len() >= most as usize) {
            return Ok(More::NoTokens);
        }
        let foreseen = prefix.request.ignores_eos && !self.spec.enable_radix_cache;
        let rest = prefix.tokens - prefix.cached;
        let tokens = if foreseen {
            self.test_foreseen(step, pass, &prefix.request, rest)
        } else {
            self.test(step, pass, prefix, rest)
        };
        let tokens = match tokens {
            Ok(tokens) => tokens,
            Err(refused) => return Ok(refused),
        };
        step.admit_cached(prefix)?;
        let unfinished = tokens < rest;
        pass.open |= unfinished;
        let output = if unfinished { 0 } else { Self::limit(step, &prefix.request).min(self.clip()) };
        pass.take(step.limits().block_tokens, prefix.request.seat, tokens, output);
        Ok(pass.more(step))
    }

    /// The test of rule 9: tokens that the candidate computes, or why it is refused.
    fn test(&self, step: &StepBuilder<'_>, pass: &Pass, prefix: &Prefix, rest: u32) -> Result<u32, More> {
        let block_tokens = step.limits().block_tokens;
        let block = i64::from(block_tokens);
        let left = Self::limit(step, &prefix.request) - i64::from(prefix.request.generated);
        let total = i64::from(rest) + left.max(0).min(self.clip()) + block;
        // What it finds cached cannot be evicted for it.
        let revived = (step.revived(prefix) * u64::from(block_tokens)) as i64;
        if total as f64 >= pass.memory_but(step, revived) {
            return Err(More::NoMemory);
        }
        let blocks = i64::from(rest.next_multiple_of(block_tokens));
        let Some(chunk) = pass.chunk else {
            let crowded = !pass.batch.is_empty() && blocks >= pass.input;
            return if crowded { Err(More::NoTokens) } else { Ok(rest) };
        };
        if blocks <= chunk {
            return Ok(rest);
        }
        let shortest = self.spec.order() == SchedulePolicy::ShortestPrefillFirst;
        let tokens = chunk / block * block;
        if (shortest && pass.open) || tokens <= 0 { Err(More::NoTokens) } else { Ok(tokens as u32) }
    }

    /// The test of rule 10, for a request whose end is known: memory is followed to the end of all requests.
    fn test_foreseen(
        &self,
        step: &StepBuilder<'_>,
        pass: &mut Pass,
        request: &RequestView,
        rest: u32,
    ) -> Result<u32, More> {
        let block_tokens = step.limits().block_tokens;
        let blocks = i64::from(rest.next_multiple_of(block_tokens)) + i64::from(block_tokens);
        if blocks > pass.now(step) || blocks as f64 > pass.memory(step) {
            return Err(More::NoMemory);
        }
        let end = |request: &RequestView| {
            let share = if request.ignores_eos { 1.0 } else { self.ratio.current() };
            let left = Self::limit(step, request) as f64 * share - f64::from(request.generated);
            (left > 0.0).then_some((left, request.prompt_tokens + request.generated))
        };
        if let Some(ends) = &mut pass.ends {
            if let Some(new) = end(request) {
                // One that ends last of all comes before the last one.
                let last = ends.len().saturating_sub(1);
                let at = ends.iter().position(|other| new.0 <= other.0).unwrap_or(last);
                ends.insert(at, new);
            }
        } else {
            let members = pass.batch.iter().map(|&(seat, _)| step.view(seat));
            let all = [*request].into_iter().chain(pass.list.iter().copied()).chain(members);
            let mut ends: Vec<(f64, u32)> = all.filter_map(|request| end(&request)).collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            pass.ends = Some(ends);
        }
        let now = pass.now(step) - blocks;
        let ends = pass.ends.as_deref().unwrap_or_default();
        let mut freed = 0;
        for (at, &(left, held)) in ends.iter().enumerate() {
            let there = (ends.len() - at) as f64;
            if (now + freed) as f64 - left * there <= there {
                return Err(More::NoMemory);
            }
            freed += i64::from(held);
        }
        match pass.chunk {
            Some(chunk) if i64::from(rest) > chunk => {
                if chunk <= 0 {
                    Err(More::NoTokens)
                } else {
                    Ok(chunk as u32)
                }
            }
            _ => Ok(rest),
        }
    }

    /// Allocates the batch (rule 11); in mixed mode the running list decodes beside it if it fits (rule 15).
    fn run(&mut self, step: &mut StepBuilder<'_>, pass: &Pass) -> Result<(), Infeasible> {
        let block_tokens = step.limits().block_tokens;
        let mut tokens: u64 = pass.batch.iter().map(|&(_, tokens)| u64::from(tokens)).sum();
        let spare = if block_tokens > 1 { pass.batch.len() as u64 } else { 0 };
        step.make_room(tokens.div_ceil(u64::from(block_tokens)) + spare);
        for &(seat, tokens) in &pass.batch {
            if !step.prefill(seat, tokens)? {
                let id = step.view(seat).id;
                return Err(Infeasible(format!(
                    "SGLang 0.5.23 stops here (\"Prefill out of memory\"): {} blocks are free for {tokens} tokens of request {id}, \
                     whose prompt was begun when there were more; a larger schedule_conservativeness or clip_max_new_tokens admits \
                     less",
                    step.free_blocks()
                )));
            }
        }
        let batch = pass.batch.iter().map(|&(seat, _)| seat);
        let seats = |phase| pass.list.iter().filter(move |request| request.phase == phase).map(|request| request.seat);
        self.listed = pass.list.len();
        let mut order: Vec<Seat> = Vec::with_capacity(step.running());
        if self.spec.enable_mixed_chunk && !pass.list.is_empty() {
            let members = step.members() as usize;
            self.full &= members == pass.list.len();
            order.extend(seats(Phase::Draining));
            if members > 0 && step.make_room(step.member_blocks()) {
                step.decode_all()?;
                order.extend(batch.chain(seats(Phase::Decode)));
                self.listed = 0;
                self.inherited = 0;
                tokens += members as u64;
            } else {
                order.extend(seats(Phase::Decode).chain(batch));
                self.listed = members;
            }
        } else {
            order.extend(pass.list.iter().map(|request| request.seat).chain(batch));
        }
        self.processed += tokens;
        self.batch = Some(PromptBatch { tokens, open: pass.open });
        step.line_up(&order)
    }
}
