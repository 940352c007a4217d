//! Blocks by content: one look into memory an operation.
//!
//! Open addressing with linear probing and entries of eight bytes, so that what is looked at lies in one cache line most of the
//! time. A table of a million blocks misses every cache; callers that have several contents in hand [`warm`](Table::warm) them
//! first, and the memory answers all of them at once.

/// No block.
const NONE: u32 = u32::MAX;
/// Entries of the smallest table, as a power of two.
const LEAST_BITS: u32 = 4;

/// An entry; empty if its block is [`NONE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slot {
    /// The upper half of the content's hash. Its leading bits are the place where the entry should be.
    tag: u32,
    block: u32,
}

const EMPTY: Slot = Slot { tag: 0, block: NONE };

/// Blocks by content. It does not store contents: callers say what a block holds.
///
/// Callers that know when a content goes [`insert`](Table::insert) and [`remove`](Table::remove). Others only
/// [`add`](Table::add): an entry whose block does not hold the content any more is void, and goes when the table is full.
#[derive(Clone, Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    /// 32 minus the bits of a place.
    shift: u32,
    /// Entries, void ones included.
    len: usize,
}

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

impl Table {
    pub(super) fn new() -> Table {
        Table { slots: vec![EMPTY; 1 << LEAST_BITS], shift: u32::BITS - LEAST_BITS, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All blocks, in no order that means anything.
    pub(super) fn blocks(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().filter(|slot| slot.block != NONE).map(|slot| slot.block)
    }

    /// Asks the memory for what the next operations on these contents look at.
    #[inline]
    pub(super) fn warm(&self, contents: impl Iterator<Item = u64>) {
        let touched = contents.fold(0, |sum, content| sum ^ self.slots[self.place(tag(content))].tag);
        std::hint::black_box(touched);
    }

    /// The block of a content. `holds` says whether a block has it.
    #[inline]
    pub(super) fn find(&self, content: u64, holds: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(content);
        let mut at = self.place(tag);
        loop {
            let slot = self.slots[at];
            if slot.block == NONE {
                return None;
            }
            if slot.tag == tag && holds(slot.block) {
                return Some(slot.block);
            }
            at = self.after(at);
        }
    }

    /// Whether the next content makes it grow: at most half of the slots have entries.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        (self.len + 1) * 2 > self.slots.len()
    }

    /// Adds a content that is not there.
    #[inline]
    pub(super) fn insert(&mut self, content: u64, block: u32) {
        if self.is_full() {
            self.grow();
        }
        self.len += 1;
        self.put(Slot { tag: tag(content), block });
    }

    /// Adds a content that is not there, beside entries that may be void. `all` are the `len` contents that are there, this one
    /// included, with their blocks.
    #[inline]
    pub(super) fn add(&mut self, content: u64, block: u32, len: usize, all: impl Iterator<Item = (u64, u32)>) {
        if self.is_full() {
            self.refill(len, all);
        } else {
            self.len += 1;
            self.put(Slot { tag: tag(content), block });
        }
    }

    /// Forgets what is void. At most a quarter is full then, so that this is rare.
    #[cold]
    pub(super) fn refill(&mut self, len: usize, all: impl Iterator<Item = (u64, u32)>) {
        let slots = (len * 4).next_power_of_two().max(1 << LEAST_BITS);
        self.slots.clear();
        self.slots.resize(slots, EMPTY);
        self.shift = u32::BITS - slots.trailing_zeros();
        self.len = len;
        for (content, block) in all {
            self.put(Slot { tag: tag(content), block });
        }
    }

    /// Gives a content another block; `false` if this one is not its block.
    pub(super) fn replace(&mut self, content: u64, block: u32, by: u32) -> bool {
        let slot = Slot { tag: tag(content), block };
        self.find_slot(slot).is_some_and(|at| {
            self.slots[at].block = by;
            true
        })
    }

    /// Removes a content; `false` if this is not its block.
    #[inline]
    pub(super) fn remove(&mut self, content: u64, block: u32) -> bool {
        let Some(mut hole) = self.find_slot(Slot { tag: tag(content), block }) else { return false };
        self.len -= 1;
        // What comes behind moves up as far as its own place.
        let mut at = hole;
        loop {
            at = self.after(at);
            let slot = self.slots[at];
            if slot.block == NONE {
                break;
            }
            let (from_place, from_hole) = (at.wrapping_sub(self.place(slot.tag)), at.wrapping_sub(hole));
            if from_place & self.mask() >= from_hole & self.mask() {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = EMPTY;
        true
    }

    #[inline]
    fn find_slot(&self, wanted: Slot) -> Option<usize> {
        let mut at = self.place(wanted.tag);
        loop {
            let slot = self.slots[at];
            if slot == wanted {
                return Some(at);
            }
            if slot.block == NONE {
                return None;
            }
            at = self.after(at);
        }
    }

    #[inline]
    fn put(&mut self, slot: Slot) {
        let mut at = self.place(slot.tag);
        while self.slots[at].block != NONE {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let twice = vec![EMPTY; self.slots.len() * 2];
        let before = std::mem::replace(&mut self.slots, twice);
        self.shift -= 1;
        for slot in before {
            if slot.block != NONE {
                self.put(slot);
            }
        }
    }

    #[inline]
    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    #[inline]
    fn place(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & self.mask()
    }
}

/// Content ids are dense or already mixed; the upper half of one multiplication spreads them over the table.
#[inline]
fn tag(content: u64) -> u32 {
    (content.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::draw;

    #[test]
    fn does_what_a_map_does() {
        let (mut table, mut map) = (Table::new(), std::collections::BTreeMap::new());
        let (mut contents, mut removed) = (vec![0; 400], 0);
        for i in 0..40_000 {
            // Four contents share a tag: this is the inverse of the factor of the hash.
            let which = draw(1, i) % 100;
            let content = ((which / 4) << 58 | (which % 4)).wrapping_mul(0xF1DE_83E1_9937_733D);
            assert_eq!(tag(content), (which as u32 / 4) << 26);
            let block = (draw(2, i) % 4) as u32 * 100 + which as u32;
            contents[block as usize] = content;
            let there = table.find(content, |block| contents[block as usize] == content);
            assert_eq!(there, map.get(&content).copied(), "at {i}");
            match (there, draw(3, i) % 3) {
                (None, _) => {
                    table.insert(content, block);
                    map.insert(content, block);
                }
                (Some(there), 0) => {
                    assert!(table.replace(content, there, block));
                    map.insert(content, block);
                }
                (Some(there), _) => {
                    assert!(!table.remove(content, there + 1000));
                    assert!(table.remove(content, there));
                    map.remove(&content);
                    removed += 1;
                }
            }
            assert_eq!(table.len(), map.len());
        }
        let mut blocks: Vec<u32> = table.blocks().collect();
        blocks.sort_unstable();
        let mut kept: Vec<u32> = map.into_values().collect();
        kept.sort_unstable();
        assert_eq!((blocks, removed > 1000), (kept, true));
    }
}
