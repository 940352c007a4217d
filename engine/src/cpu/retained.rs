//! Which tokens lie in the slots of a sequence, layer by layer and head by head, and when some go.
//!
//! All heads of a sequence have equally many slots, and new tokens land behind those that are occupied. What goes after a step leaves
//! its slot to a survivor that is beyond the budget ([`cut`](crate::executor::cut)), so that the occupied slots end at the budget.

use std::ops::Range;

use fearless_simd::Level;

use super::attention::{Heads, Query};
use super::cache;
use super::evict::{self, Job, Rows};
use crate::executor::{ExecutorError, Seat, Sequence, Shrink, Slots};
use crate::retention::{Place, Retention};

/// The slots of all sequences of a model.
pub(super) struct Retained {
    retention: Retention,
    heads: Heads,
    layers: usize,
    /// By seat.
    states: Vec<Option<State>>,
    /// Those of the step that is computed.
    parts: Vec<Part>,
}

/// One sequence.
struct State {
    slots: Slots,
    layers: Vec<LayerState>,
}

/// A sequence in one layer.
#[derive(Clone, Default)]
struct LayerState {
    heads: Vec<HeadState>,
    /// Its latest queries after rotation, `[window, heads, dim]`: that of position `p` at `p % window`.
    queries: Vec<f32>,
}

/// A sequence in one KV head.
#[derive(Clone, Default)]
pub(super) struct HeadState {
    /// By slot.
    pub(super) positions: Vec<u32>,
    /// By slot; empty if the policy has no notes.
    pub(super) notes: Vec<f32>,
    /// What the policy keeps.
    pub(super) memory: Vec<f32>,
}

/// A sequence in the step that is computed.
struct Part {
    seat: Seat,
    rows: Range<usize>,
    /// Positions computed before.
    past: u32,
    /// Slots occupied before.
    kept: u32,
    /// Slots to which it is brought back after the step.
    cut: Option<u32>,
}

impl Retained {
    pub(super) fn new(retention: Retention, heads: Heads, layers: usize) -> Retained {
        Retained { retention, heads, layers, states: Vec::new(), parts: Vec::new() }
    }

    pub(super) fn retention(&self) -> &Retention {
        &self.retention
    }

    fn state(&self, seat: Seat) -> Option<&State> {
        self.states.get(seat as usize)?.as_ref()
    }

    /// Slots that a sequence occupies while its part of a step is computed.
    ///
    /// # Errors
    /// It does not go on where it stopped.
    pub(super) fn slots(&self, sequence: &Sequence) -> Result<u64, ExecutorError> {
        Slots::during(self.state(sequence.seat).map(|state| &state.slots), sequence)
    }

    /// Begins a step.
    ///
    /// # Panics
    /// A sequence does not go on where it stopped.
    pub(super) fn begin(&mut self, sequences: &[Sequence]) {
        self.parts.clear();
        let keep = self.retention.keep();
        let mut end = 0;
        for sequence in sequences {
            let Sequence { seat, past, tokens, .. } = *sequence;
            self.slots(sequence).unwrap_or_else(|ExecutorError(why)| panic!("{why}"));
            if self.states.len() <= seat as usize {
                self.states.resize_with(seat as usize + 1, || None);
            }
            let state = &mut self.states[seat as usize];
            if past == 0 {
                let heads = vec![HeadState::default(); self.heads.kv];
                let layers = vec![LayerState { heads, queries: Vec::new() }; self.layers];
                *state = Some(State { slots: Slots::new(keep), layers });
            }
            let slots = state.as_ref().map_or(Slots::new(keep), |state| state.slots);
            let rows = end..end + tokens as usize;
            end = rows.end;
            self.parts.push(Part { seat, rows, past, kept: slots.kept, cut: slots.cut(keep, sequence) });
        }
    }

    /// The rows of the step: where each lies, and what it attends to.
    pub(super) fn queries<'a>(&self, tables: &[&'a [u32]]) -> Vec<Query<'a>> {
        let rows = self.parts.iter().zip(tables).flat_map(|(part, table)| {
            let (slot, position) = (part.kept as usize, part.past as usize);
            (0..part.rows.len()).map(move |row| Query { table, context: slot + row + 1, position: position + row })
        });
        rows.collect()
    }

    /// Takes in the tokens that a layer has computed and stored, and throws away what goes.
    pub(super) fn follow(
        &mut self,
        level: Level,
        layer: usize,
        cache: &mut cache::Layer,
        tables: &[&[u32]],
        rows: &Rows<'_>,
    ) {
        let parts = std::mem::take(&mut self.parts);
        let mut states: Vec<LayerState> = parts.iter().map(|part| self.take(part.seat, layer)).collect();
        let window = self.window();
        let mut jobs = Vec::with_capacity(states.len() * self.heads.kv);
        for ((state, part), table) in states.iter_mut().zip(&parts).zip(tables) {
            state.see(rows, part, window);
            let end = part.past + part.rows.len() as u32;
            let (jobs_of, rows) = (self.jobs(state, part.seat, layer, table, end - 1, part.cut), &part.rows);
            jobs.extend(jobs_of.map(|job| Job { rows: rows.clone(), past: part.past, ..job }));
        }
        evict::run(level, &self.retention, self.heads, cache, rows, &mut jobs);
        drop(jobs);
        for (state, part) in states.into_iter().zip(&parts) {
            self.give_back(part.seat, layer, state);
        }
        self.parts = parts;
    }

    /// How many of the latest queries are kept.
    fn window(&self) -> u32 {
        match self.retention.needed().attention {
            u32::MAX => 0,
            window => window,
        }
    }

    fn take(&mut self, seat: Seat, layer: usize) -> LayerState {
        let state = self.states.get_mut(seat as usize).and_then(Option::as_mut);
        state.map_or_else(LayerState::default, |state| std::mem::take(&mut state.layers[layer]))
    }

    fn give_back(&mut self, seat: Seat, layer: usize, state: LayerState) {
        if let Some(Some(whole)) = self.states.get_mut(seat as usize) {
            whole.layers[layer] = state;
        }
    }

    /// The heads of a sequence in a layer, with no new tokens.
    fn jobs<'a>(
        &self,
        state: &'a mut LayerState,
        seat: Seat,
        layer: usize,
        table: &'a [u32],
        now: u32,
        cut: Option<u32>,
    ) -> impl Iterator<Item = Job<'a>> + use<'a> {
        let LayerState { heads, queries } = state;
        let (queries, protected) = (&queries[..], self.retention.protects(cut.unwrap_or(0)));
        heads.iter_mut().enumerate().map(move |(head, state)| Job {
            place: Place { seat, layer, head },
            table,
            queries,
            state,
            rows: 0..0,
            past: 0,
            now,
            cut,
            protected,
            scores: Vec::new(),
        })
    }

    /// Ends the step.
    pub(super) fn finish(&mut self, sequences: &[Sequence]) {
        for (part, sequence) in self.parts.drain(..).zip(sequences) {
            if let Some(Some(state)) = self.states.get_mut(part.seat as usize) {
                state.slots.advance(sequence, part.cut);
            }
        }
    }

    /// Forgets a sequence.
    pub(super) fn forget(&mut self, seat: Seat) {
        if let Some(state) = self.states.get_mut(seat as usize) {
            *state = None;
        }
    }

    /// Lowers the budget of a sequence.
    ///
    /// # Errors
    /// It has computed nothing, or the policy protects more.
    pub(super) fn shrink(
        &mut self,
        level: Level,
        pool: &mut [cache::Layer],
        table: &[u32],
        shrink: Shrink,
    ) -> Result<(), ExecutorError> {
        let Shrink { seat, budget } = shrink;
        self.retention.takes(budget)?;
        let Some(Some(state)) = self.states.get_mut(seat as usize) else {
            return Err(ExecutorError(format!("the budget of seat {seat} shrinks, and nothing of it is computed")));
        };
        let Some(budget) = state.slots.shrink(self.retention.keep(), budget) else { return Ok(()) };
        let now = state.slots.computed - 1;
        for (layer, cache) in pool.iter_mut().enumerate() {
            let mut state = self.take(seat, layer);
            let mut jobs: Vec<Job> = self.jobs(&mut state, seat, layer, table, now, Some(budget)).collect();
            evict::run(level, &self.retention, self.heads, cache, &Rows::default(), &mut jobs);
            drop(jobs);
            self.give_back(seat, layer, state);
        }
        Ok(())
    }

    /// Gives the tokens of a head other slots: slot `i` gets what slot `order[i]` had.
    #[cfg(test)]
    pub(super) fn permute(&mut self, cache: &mut cache::Layer, table: &[u32], place: Place, order: &[usize]) {
        let mut state = self.take(place.seat, place.layer);
        let head = &mut state.heads[place.head];
        head.positions = order.iter().map(|from| head.positions[*from]).collect();
        if !head.notes.is_empty() {
            head.notes = order.iter().map(|from| head.notes[*from]).collect();
        }
        // By way of slots behind those that are occupied.
        let count = order.len();
        order.iter().enumerate().for_each(|(to, from)| cache.copy(table, place.head, *from, count + to));
        (0..count).for_each(|slot| cache.copy(table, place.head, count + slot, slot));
        self.give_back(place.seat, place.layer, state);
    }

    /// Positions of the tokens of a head, by slot.
    pub(super) fn kept(&self, place: Place) -> Option<&[u32]> {
        let layer = self.state(place.seat)?.layers.get(place.layer)?;
        layer.heads.get(place.head).map(|head| &head.positions[..])
    }
}

impl LayerState {
    /// Keeps the latest queries.
    fn see(&mut self, rows: &Rows<'_>, part: &Part, window: u32) {
        if window == 0 {
            return;
        }
        let width = rows.query_width;
        self.queries.resize(window as usize * width, 0.0);
        let first = part.rows.len().saturating_sub(window as usize);
        for (offset, row) in part.rows.clone().enumerate().skip(first) {
            let at = (part.past as usize + offset) % window as usize * width;
            self.queries[at..at + width].copy_from_slice(rows.queries(row));
        }
    }
}
