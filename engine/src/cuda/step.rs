//! A step in the words of the kernels, in one stretch of bytes that is copied to the device at once.

use overbook_kernels::cuda::{Draw, PREFILL_TILE, Part};

use super::driver::Address;
use super::kernels::Rows;
use super::retained::Landing;
use crate::executor::{ExecutorError, Seat, Sequence, TableChange};
use crate::history::{Histories, Pending};

/// How much of everything a step has. Graphs have fixed counts, and steps with fewer fill up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Counts {
    /// Positions.
    pub(super) rows: u32,
    /// Sequences of one position: the first rows.
    pub(super) decodes: u32,
    /// Sequences of several: the rows that follow.
    pub(super) prompts: u32,
    /// Tiles of their positions.
    pub(super) tiles: u32,
    /// Tokens drawn.
    pub(super) draws: u32,
}

impl Counts {
    /// A batch of so many decodes.
    pub(super) fn decodes(count: u32) -> Counts {
        Counts { rows: count, decodes: count, prompts: 0, tiles: 0, draws: count }
    }

    /// Sequences.
    pub(super) fn parts(&self) -> u32 {
        self.decodes + self.prompts
    }
}

/// Where the arrays of a step begin [bytes].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    inputs: usize,
    positions: usize,
    owners: usize,
    /// Where everything stays, the positions.
    slots: usize,
    tiles: usize,
    /// None, where everything stays.
    parts: Option<usize>,
    picks: usize,
    draws: usize,
    bans: usize,
    /// Behind the banned tokens, which have no fixed number: what has changed in block tables.
    changes: usize,
}

impl Layout {
    /// For steps of some counts; `retains`: sequences keep only some of their tokens.
    pub(super) fn new(counts: Counts, bans: u32, retains: bool) -> Layout {
        let rows = counts.rows as usize * 4;
        let (slots, end) = if retains { (3 * rows, 4 * rows) } else { (rows, 3 * rows) };
        let tiles = end.next_multiple_of(16);
        let parts_at = tiles + counts.tiles as usize * 16;
        let parts = retains.then_some(parts_at);
        let picks = parts_at + parts.map_or(0, |_| counts.parts() as usize * size_of::<Part>());
        let draws = (picks + counts.draws as usize * 4).next_multiple_of(16);
        let bans_at = draws + counts.draws as usize * size_of::<Draw>();
        let changes = bans_at + bans as usize * 4;
        let (positions, owners) = (rows, 2 * rows);
        Layout { inputs: 0, positions, owners, slots, tiles, parts, picks, draws, bans: bans_at, changes }
    }

    /// Bytes of a step with so many changes of block tables.
    pub(super) fn bytes(&self, changes: u32) -> usize {
        self.changes + changes as usize * 12
    }

    /// Where the changes of block tables begin.
    pub(super) fn changes(&self) -> usize {
        self.changes
    }

    /// The arrays of a step that was copied to an address.
    pub(super) fn at(&self, start: Address) -> Rows {
        let at = |byte: usize| start + byte as u64;
        Rows {
            inputs: at(self.inputs),
            positions: at(self.positions),
            owners: at(self.owners),
            slots: at(self.slots),
            tiles: at(self.tiles),
            picks: at(self.picks),
            draws: at(self.draws),
            bans: at(self.bans),
            parts: self.parts.map_or(0, at),
        }
    }
}

/// Which row of the device's block tables a sequence has, and how much of its table is there. More sequences may have blocks than
/// there are rows: those that have not been computed for the longest time give up theirs, and get their tables back when it is
/// their turn.
#[derive(Debug)]
pub(super) struct Owners {
    seats: Vec<Owner>,
    /// Whose each row is.
    rows: Vec<Option<Seat>>,
    free: Vec<u32>,
    batch: u64,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    row: u32,
    /// Entries of its table that are on the device.
    known: u32,
    /// Last batch that computed it.
    used: u64,
}

const NO_ROW: u32 = u32::MAX;

impl Owners {
    pub(super) fn new(rows: u32) -> Owners {
        Owners { seats: Vec::new(), rows: vec![None; rows as usize], free: (0..rows).rev().collect(), batch: 0 }
    }

    /// Follows a batch after the histories have; gives what the device must learn before it: row, column, block.
    pub(super) fn follow(
        &mut self,
        tables: &[TableChange],
        sequences: &[Sequence],
        histories: &Histories,
    ) -> Result<Vec<[u32; 3]>, ExecutorError> {
        self.batch += 1;
        for TableChange { seat, from, blocks } in tables {
            if *from == 0 && blocks.is_empty() {
                self.release(*seat);
            }
            if let Some(owner) = self.seats.get_mut(*seat as usize) {
                owner.known = owner.known.min(*from);
            }
        }
        for Sequence { seat, .. } in sequences {
            if self.seats.len() <= *seat as usize {
                self.seats.resize(*seat as usize + 1, Owner { row: NO_ROW, known: 0, used: 0 });
            }
            self.seats[*seat as usize].used = self.batch;
        }
        let mut changes = Vec::new();
        for Sequence { seat, .. } in sequences {
            if self.seats[*seat as usize].row == NO_ROW {
                self.take(*seat)?;
            }
            let owner = &mut self.seats[*seat as usize];
            let table = histories.table(*seat);
            let news = table.iter().zip(0..).skip(owner.known as usize);
            changes.extend(news.map(|(block, column)| [owner.row, column, *block]));
            owner.known = table.len() as u32;
        }
        Ok(changes)
    }

    fn take(&mut self, seat: Seat) -> Result<(), ExecutorError> {
        if self.free.is_empty() {
            let used = |seat: Seat| self.seats[seat as usize].used;
            let idle = self.rows.iter().flatten().copied().filter(|seat| used(*seat) < self.batch);
            let idle = idle.min_by_key(|seat| (used(*seat), *seat)).ok_or_else(|| {
                let rows = self.rows.len();
                ExecutorError(format!("more than {rows} sequences in a step: the executor was built for no more"))
            })?;
            self.release(idle);
        }
        let Some(row) = self.free.pop() else { return Ok(()) };
        self.rows[row as usize] = Some(seat);
        (self.seats[seat as usize].row, self.seats[seat as usize].known) = (row, 0);
        Ok(())
    }

    pub(super) fn release(&mut self, seat: Seat) {
        let Some(owner) = self.seats.get_mut(seat as usize).filter(|owner| owner.row != NO_ROW) else { return };
        self.rows[owner.row as usize] = None;
        self.free.push(owner.row);
        (owner.row, owner.known) = (NO_ROW, 0);
    }

    pub(super) fn row(&self, seat: Seat) -> u32 {
        self.seats.get(seat as usize).map_or(NO_ROW, |owner| owner.row)
    }
}

/// Which token of the step before a sequence drew: its index there, by seat.
#[derive(Default, Debug)]
pub(super) struct Drawn {
    by_seat: Vec<(u64, u32, u32)>,
}

impl Drawn {
    /// Step `number` draws token `index` for a position.
    pub(super) fn note(&mut self, number: u64, pending: Pending, index: u32) {
        let seat = pending.seat as usize;
        if self.by_seat.len() <= seat {
            self.by_seat.resize(seat + 1, (0, 0, 0));
        }
        self.by_seat[seat] = (number, pending.position, index);
    }

    /// Where the step with this number draws the token of a position, if it does.
    fn find(&self, number: u64, seat: Seat, position: u32) -> Option<u32> {
        let (step, at, index) = *self.by_seat.get(seat as usize)?;
        (step == number && at == position).then_some(index)
    }
}

/// Part of a batch that runs at once.
#[derive(Debug)]
pub(super) struct Step<'a> {
    sequences: &'a [Sequence],
    /// Where each lands.
    landings: &'a [Landing],
    /// Their order in the step: decodes first.
    order: Vec<u32>,
    pub(super) counts: Counts,
    /// Banned tokens.
    pub(super) bans: u32,
    pub(super) draws: Vec<Pending>,
}

impl<'a> Step<'a> {
    /// Counts what sequences need, which land where `landings` say.
    pub(super) fn new(sequences: &'a [Sequence], landings: &'a [Landing], histories: &Histories) -> Step<'a> {
        let (mut rows, mut tiles, mut bans) = (0, 0, 0);
        let mut draws = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            rows += sequence.tokens;
            if sequence.tokens > 1 {
                tiles += sequence.tokens.div_ceil(PREFILL_TILE);
            }
            if sequence.samples
                && let Some((pending, _, banned)) = histories.draw(sequence)
            {
                draws.push(pending);
                bans += banned.len() as u32;
            }
        }
        let of = |decodes: bool| (0..sequences.len()).filter(move |index| (sequences[*index].tokens == 1) == decodes);
        let order: Vec<u32> = of(true).chain(of(false)).map(|index| index as u32).collect();
        let decodes = of(true).count() as u32;
        let prompts = sequences.len() as u32 - decodes;
        let counts = Counts { rows, decodes, prompts, tiles, draws: draws.len() as u32 };
        Step { sequences, landings, order, counts, bans, draws }
    }

    /// Whether it is nothing but decodes, each of which draws a token or not.
    pub(super) fn is_decode(&self) -> bool {
        self.counts.decodes == self.counts.rows
    }

    /// Writes it as `layout` has it, with room for `counts`. `before` is the number of the step before it, whose tokens may not be
    /// there yet.
    pub(super) fn write(
        &self,
        bytes: &mut [u8],
        counts: Counts,
        layout: &Layout,
        histories: &Histories,
        owners: &Owners,
        (drawn, before): (&Drawn, u64),
    ) -> Result<(), ExecutorError> {
        let mut put = |array: usize, index: u32, value: u32| {
            bytes[array + index as usize * 4..][..4].copy_from_slice(&value.to_le_bytes());
        };
        let mut last_row = vec![0; self.sequences.len()];
        let (mut row, mut tile) = (0, 0);
        for (part, &index) in self.order.iter().enumerate() {
            let (sequence, landing) = (&self.sequences[index as usize], &self.landings[index as usize]);
            let Sequence { seat, past, tokens, .. } = *sequence;
            let known = histories.known(sequence, u64::from(landing.kept) + u64::from(tokens))?;
            let owner = owners.row(seat);
            if let Some(parts) = layout.parts {
                for (word, value) in landing.part(owner, row, sequence).words().into_iter().enumerate() {
                    put(parts, (8 * part + word) as u32, value as u32);
                }
            }
            for offset in 0..tokens {
                let position = past + offset;
                let input = match known.get(offset as usize) {
                    Some(token) => *token,
                    None => !drawn.find(before, seat, position).ok_or_else(|| {
                        ExecutorError(format!("sequence in seat {seat} lacks the input of a position"))
                    })?,
                };
                put(layout.inputs, row + offset, input);
                put(layout.positions, row + offset, position);
                put(layout.owners, row + offset, owner);
                if layout.parts.is_some() {
                    put(layout.slots, row + offset, landing.kept + offset);
                }
            }
            if tokens > 1 {
                for first in (0..tokens).step_by(PREFILL_TILE as usize) {
                    let count = PREFILL_TILE.min(tokens - first);
                    for (word, value) in (0..).zip([row + first, count, owner, landing.kept + first]) {
                        put(layout.tiles, 4 * tile + word, value);
                    }
                    tile += 1;
                }
            }
            row += tokens;
            last_row[index as usize] = row - 1;
        }
        for at in row..counts.rows {
            put(layout.inputs, at, 0);
            put(layout.positions, at, 0);
            put(layout.owners, at, u32::MAX);
        }
        for part in self.order.len() as u32..layout.parts.map_or(0, |_| counts.parts()) {
            for (word, value) in (0..).zip(Part::PADDING.words()) {
                put(layout.parts.unwrap_or(0), 8 * part + word, value as u32);
            }
        }
        self.write_draws(bytes, counts, layout, histories, &last_row);
        Ok(())
    }

    fn write_draws(&self, bytes: &mut [u8], counts: Counts, layout: &Layout, histories: &Histories, last_row: &[u32]) {
        let (mut index, mut bans) = (0, 0);
        let mut put = |index: usize, pick: u32, draw: Draw| {
            bytes[layout.picks + index * 4..][..4].copy_from_slice(&pick.to_le_bytes());
            bytes[layout.draws + index * size_of::<Draw>()..][..size_of::<Draw>()].copy_from_slice(&draw.to_bytes());
        };
        let mut banned_tokens: Vec<u32> = Vec::new();
        for (sequence, row) in self.sequences.iter().zip(last_row).filter(|(sequence, _)| sequence.samples) {
            let Some((pending, sampling, banned)) = histories.draw(sequence) else { continue };
            let draw = Draw {
                temperature: sampling.temperature,
                top_k: sampling.top_k,
                top_p: sampling.top_p,
                position: pending.position,
                seed: sampling.seed,
                bans_start: bans,
                bans_len: banned.len() as u32,
            };
            put(index, *row, draw);
            banned_tokens.extend_from_slice(banned);
            bans += banned.len() as u32;
            index += 1;
        }
        for index in index..counts.draws as usize {
            put(index, u32::MAX, Draw::PADDING);
        }
        for (word, token) in bytes[layout.bans..].chunks_exact_mut(4).zip(&banned_tokens) {
            word.copy_from_slice(&token.to_le_bytes());
        }
    }
}

/// Cuts a batch into parts of at most so many positions, in order: what comes later may read what came before.
pub(super) fn pieces(sequences: &[Sequence], most: u32) -> Vec<Vec<Sequence>> {
    let mut pieces = vec![Vec::new()];
    let mut room = most;
    for sequence in sequences {
        let mut rest = *sequence;
        while rest.tokens > room {
            if room > 0 {
                let part = Sequence { tokens: room, samples: false, ..rest };
                pieces.last_mut().unwrap_or(&mut Vec::new()).push(part);
                rest = Sequence { past: rest.past + room, tokens: rest.tokens - room, ..rest };
            }
            pieces.push(Vec::new());
            room = most;
        }
        room -= rest.tokens;
        pieces.last_mut().unwrap_or(&mut Vec::new()).push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests;
