//! An executor without a model: it computes nothing and checks everything.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use overbook_sim::counter::mix;
use overbook_sim::kv::retention::Keep;

use super::{
    Batch, Capacity, Copied, Executor, ExecutorError, Move, Output, Seat, Sequence, Slots, TableChange, TierCopy, cut,
};

/// Stands in for a device where serving code is tested. In place of keys and values it keeps, for every position, a hash of
/// all tokens up to it, and refuses a step that would attend to anything else than its own prefix.
#[derive(Debug)]
pub struct Rehearsal {
    capacity: Capacity,
    /// How long a step takes: this, and this much per position.
    base: Duration,
    per_token: Duration,
    /// By frame and offset.
    kv: Vec<u64>,
    /// The same of the host, by slot and offset.
    host: Vec<u64>,
    /// Tokens and blocks by seat.
    tokens: Vec<Option<Vec<u32>>>,
    tables: Vec<Vec<u32>>,
    /// Where sequences keep only some tokens: how many, and by seat the position in each slot and what is counted.
    keep: Option<Keep>,
    slots: Vec<(Slots, Vec<u32>)>,
    /// Whether KV is checked.
    checks: bool,
    /// Steps that are out, by lane: what they give, and when they begin and end.
    out: Vec<VecDeque<Output>>,
    /// When the last step of each lane ends.
    free: Vec<Instant>,
}

impl Rehearsal {
    /// An executor whose steps take `base`, and `per_token` more for every position computed.
    pub fn new(capacity: Capacity, base: Duration, per_token: Duration) -> Self {
        let [kv, host] = [capacity.blocks, capacity.host_blocks]
            .map(|blocks| vec![0; blocks as usize * capacity.block_tokens as usize]);
        let (out, free) = (vec![VecDeque::new(); capacity.lanes.count()], vec![Instant::now(); capacity.lanes.count()]);
        Rehearsal {
            capacity,
            base,
            per_token,
            kv,
            host,
            tokens: Vec::new(),
            tables: Vec::new(),
            keep: None,
            slots: Vec::new(),
            checks: true,
            out,
            free,
        }
    }

    /// One whose sequences keep only so many tokens, the latest ones.
    pub fn retaining(capacity: Capacity, base: Duration, per_token: Duration, keep: Keep) -> Self {
        Rehearsal { keep: Some(keep), ..Rehearsal::new(capacity, base, per_token) }
    }

    fn begin(&mut self, batch: &Batch) -> Result<(), ExecutorError> {
        for shrink in &batch.shrinks {
            let seat = shrink.seat;
            let of = self.keep.zip(self.slots.get_mut(seat as usize).filter(|(slots, _)| slots.computed > 0));
            let Some((keep, (slots, _))) = of else {
                return Err(ExecutorError(format!("the budget of seat {seat} shrinks, and it keeps everything")));
            };
            if let Some(budget) = slots.shrink(keep, shrink.budget) {
                self.cut(seat, budget)?;
            }
        }
        for &seat in &batch.ends {
            let known = self.tokens.get_mut(seat as usize).and_then(Option::take);
            known.ok_or_else(|| ExecutorError(format!("seat {seat} ends and never began")))?;
            if let (Some(keep), Some(slots)) = (self.keep, self.slots.get_mut(seat as usize)) {
                *slots = (Slots::new(keep), Vec::new());
            }
        }
        for begin in &batch.begins {
            let seat = begin.seat as usize;
            if self.tokens.len() <= seat {
                self.tokens.resize(seat + 1, None);
                self.tables.resize(seat + 1, Vec::new());
            }
            self.tables[seat].clear();
            if self.tokens[seat].replace(begin.prompt.clone()).is_some() {
                return Err(ExecutorError(format!("seat {seat} begins twice")));
            }
        }
        for TableChange { seat, from, blocks } in &batch.tables {
            let table = self.tables.get_mut(*seat as usize).filter(|table| *from as usize <= table.len());
            let table = table.ok_or_else(|| ExecutorError(format!("seat {seat} has no table up to block {from}")))?;
            table.truncate(*from as usize);
            table.extend_from_slice(blocks);
        }
        Ok(())
    }

    fn at(&self, seat: Seat, slot: usize) -> Result<usize, ExecutorError> {
        let block = self.capacity.block_tokens as usize;
        let frame = self.tables.get(seat as usize).and_then(|table| table.get(slot / block));
        let frame = frame.ok_or_else(|| ExecutorError(format!("seat {seat} has no block for position {slot}")))?;
        Ok(*frame as usize * block + slot % block)
    }

    /// Brings a sequence back to a budget: its oldest tokens go.
    fn cut(&mut self, seat: Seat, budget: u32) -> Result<(), ExecutorError> {
        let mut positions = std::mem::take(&mut self.slots[seat as usize].1);
        let scores: Vec<f32> = positions.iter().map(|position| *position as f32).collect();
        for Move { from, to } in cut(&scores, &positions, budget, |_| false) {
            let (from_at, to_at) = (self.at(seat, from as usize)?, self.at(seat, to as usize)?);
            self.kv[to_at] = self.kv[from_at];
            positions[to as usize] = positions[from as usize];
        }
        positions.truncate(budget as usize);
        self.slots[seat as usize].1 = positions;
        Ok(())
    }

    /// The positions of a sequence's tokens by slot, those of the step last. `None`: each lies in the slot of its number.
    fn land(&mut self, sequence: &Sequence) -> Result<Option<Vec<u32>>, ExecutorError> {
        let Some(keep) = self.keep else { return Ok(None) };
        let Sequence { seat, past, tokens, .. } = *sequence;
        let at = seat as usize;
        if self.slots.len() <= at {
            self.slots.resize(at + 1, (Slots::new(keep), Vec::new()));
        }
        if past == 0 {
            self.slots[at] = (Slots::new(keep), Vec::new());
        }
        Slots::during(Some(&self.slots[at].0), sequence)?;
        self.slots[at].1.extend(past..past + tokens);
        Ok(Some(self.slots[at].1.clone()))
    }

    /// Ends a sequence's part of a step.
    fn leave(&mut self, sequence: &Sequence) -> Result<(), ExecutorError> {
        let Some(keep) = self.keep else { return Ok(()) };
        let (slots, _) = &mut self.slots[sequence.seat as usize];
        let cut = slots.cut(keep, sequence);
        slots.advance(sequence, cut);
        cut.map_or(Ok(()), |budget| self.cut(sequence.seat, budget))
    }

    /// Hashes of the prefixes of a sequence, as far as the step goes.
    fn prefixes(&self, sequence: &Sequence) -> Result<Vec<u64>, ExecutorError> {
        let tokens = self.tokens.get(sequence.seat as usize).and_then(Option::as_ref);
        let tokens = tokens.ok_or_else(|| ExecutorError(format!("seat {} never began", sequence.seat)))?;
        let end = (sequence.past + sequence.tokens) as usize;
        if end > tokens.len() {
            return Err(ExecutorError(format!("seat {} has {} tokens, not {end}", sequence.seat, tokens.len())));
        }
        let chain = tokens[..end].iter().scan(0, |state, &token| {
            *state = mix(*state, u64::from(token) + 1);
            Some(*state)
        });
        Ok(chain.collect())
    }

    fn compute(&mut self, batch: &Batch) -> Result<Vec<(Seat, u32)>, ExecutorError> {
        self.begin(batch)?;
        let mut chains = Vec::new();
        for sequence in &batch.sequences {
            let chain = self.prefixes(sequence)?;
            let positions = self.land(sequence)?.unwrap_or_else(|| (0..chain.len() as u32).collect());
            let new = positions.len() - sequence.tokens as usize..positions.len();
            for slot in new {
                let at = self.at(sequence.seat, slot)?;
                self.kv[at] = chain[positions[slot] as usize];
            }
            chains.push((chain, positions));
        }
        let mut drawn = Vec::new();
        for (sequence, (chain, positions)) in batch.sequences.iter().zip(&chains) {
            for (slot, &position) in positions.iter().enumerate() {
                if self.checks && self.kv[self.at(sequence.seat, slot)?] != chain[position as usize] {
                    let (seat, past) = (sequence.seat, sequence.past);
                    return Err(ExecutorError(format!("seat {seat} has other KV at {position} (past {past})")));
                }
            }
            let last = *chain.last().ok_or_else(|| ExecutorError("a sequence without tokens".into()))?;
            if sequence.samples {
                drawn.push((sequence.seat, (last % u64::from(self.capacity.vocab)) as u32));
            }
        }
        for sequence in &batch.sequences {
            self.leave(sequence)?;
        }
        for (sequence, &(_, token)) in batch.sequences.iter().filter(|s| s.samples).zip(&drawn) {
            if let Some(Some(tokens)) = self.tokens.get_mut(sequence.seat as usize)
                && tokens.len() == (sequence.past + sequence.tokens) as usize
            {
                tokens.push(token);
            }
        }
        Ok(drawn)
    }
}

impl Executor for Rehearsal {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn submit(&mut self, lane: usize, batch: Batch) -> Result<(), ExecutorError> {
        let tokens = self.compute(&batch)?;
        let free = self.free.get_mut(lane).ok_or_else(|| ExecutorError(format!("there is no lane {lane}")))?;
        let start = Instant::now().max(*free);
        // Its own account of the time is exact, however long a thread sleeps.
        let end = start + self.base + self.per_token * batch.tokens() as u32;
        *free = end;
        self.out[lane].push_back(Output { tokens, start, end });
        Ok(())
    }

    fn copy(&mut self, copies: &[TierCopy]) -> Result<(), ExecutorError> {
        self.capacity.check_copies(copies)?;
        let tokens = self.capacity.block_tokens as usize;
        for &TierCopy { up, frame, slot } in copies {
            let [frame, slot] = [frame, slot].map(|at| at as usize * tokens..(at as usize + 1) * tokens);
            if up {
                self.kv[frame].copy_from_slice(&self.host[slot]);
            } else {
                self.host[slot].copy_from_slice(&self.kv[frame]);
            }
        }
        Ok(())
    }

    /// Nothing is measured: its copies are of hashes.
    fn copied(&mut self) -> Result<Copied, ExecutorError> {
        Ok(Copied::default())
    }

    fn give_contexts(&mut self) -> Result<(), ExecutorError> {
        self.checks = false;
        Ok(())
    }

    fn ready(&mut self, lane: usize) -> Result<bool, ExecutorError> {
        let oldest = self.out.get(lane).and_then(VecDeque::front).ok_or_else(none_out)?;
        Ok(Instant::now() >= oldest.end)
    }

    fn wait(&mut self, lane: usize) -> Result<Output, ExecutorError> {
        let oldest = self.out.get_mut(lane).and_then(VecDeque::pop_front).ok_or_else(none_out)?;
        let left = oldest.end.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
        Ok(oldest)
    }
}

fn none_out() -> ExecutorError {
    ExecutorError("no step is out".into())
}
