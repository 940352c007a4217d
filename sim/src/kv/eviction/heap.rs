//! A heap of blocks by a key that may change: the smallest key is on top.
//!
//! Most keys only grow: a block that is used again goes later. So a block's entry stays where it is until it comes to the top, and is
//! put right there; a use costs one look into memory. A key that shrinks gets a second entry, and the first is void.

use super::Block;

/// What blocks are ordered by.
pub(super) type Key = u128;

/// A key: the first number, then the second.
pub(super) fn key(first: u64, second: u64) -> Key {
    (u128::from(first) << 64) | u128::from(second)
}

/// The first number of a key.
pub(super) fn first(key: Key) -> u64 {
    (key >> 64) as u64
}

/// The second number of a key.
pub(super) fn second(key: Key) -> u64 {
    key as u64
}

/// Children of a node. Four: half the levels of two, and they lie side by side in memory.
const ARITY: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The halves apart: 24 bytes, and not 32.
    first: u64,
    second: u64,
    block: Block,
}

impl Entry {
    fn new(of: Key, block: Block) -> Entry {
        Entry { first: first(of), second: second(of), block }
    }

    fn key(&self) -> Key {
        key(self.first, self.second)
    }
}

/// What is known of a block.
#[derive(Clone, Copy, Default, Debug)]
struct State {
    key: Key,
    /// Key of its entry, if it has one that is not void.
    entry: Key,
    has_entry: bool,
    is_in: bool,
}

/// Blocks by their keys. All keys are different.
#[derive(Clone, Debug, Default)]
pub(super) struct Heap {
    entries: Vec<Entry>,
    states: Vec<State>,
    /// Blocks that are in.
    blocks: usize,
}

impl Heap {
    pub(super) fn contains(&self, block: Block) -> bool {
        self.states.get(block as usize).is_some_and(|state| state.is_in)
    }

    /// Puts a block in, or gives it another key.
    pub(super) fn set(&mut self, block: Block, key: Key) {
        let at = block as usize;
        if at >= self.states.len() {
            self.states.resize(at + 1, State::default());
        }
        let state = &mut self.states[at];
        self.blocks += usize::from(!state.is_in);
        (state.is_in, state.key) = (true, key);
        if state.has_entry && state.entry <= key {
            return;
        }
        (state.has_entry, state.entry) = (true, key);
        self.entries.push(Entry::new(key, block));
        self.up(self.entries.len() - 1);
        if self.entries.len() > 2 * self.blocks + 64 {
            self.tidy();
        }
    }

    /// Gives a block that is in the heap another key; others are left alone.
    pub(super) fn change(&mut self, block: Block, key: Key) {
        if self.contains(block) {
            self.set(block, key);
        }
    }

    /// Takes a block out, if it is in.
    pub(super) fn remove(&mut self, block: Block) {
        if self.contains(block) {
            self.states[block as usize].is_in = false;
            self.blocks -= 1;
        }
    }

    /// Takes out the block with the smallest key.
    pub(super) fn pop(&mut self) -> Option<(Key, Block)> {
        loop {
            let top = *self.entries.first()?;
            let state = &mut self.states[top.block as usize];
            let void = !state.has_entry || state.entry != top.key();
            if !void && state.is_in && state.key != state.entry {
                // It was used since: to its place.
                state.entry = state.key;
                self.entries[0] = Entry::new(state.key, top.block);
                self.down();
                continue;
            }
            let last = self.entries.pop()?;
            if !self.entries.is_empty() {
                self.entries[0] = last;
                self.down();
            }
            if void {
                continue;
            }
            let state = &mut self.states[top.block as usize];
            state.has_entry = false;
            if std::mem::take(&mut state.is_in) {
                self.blocks -= 1;
                return Some((top.key(), top.block));
            }
        }
    }

    /// One entry for every block that is in, with its key.
    fn tidy(&mut self) {
        let states = &mut self.states;
        self.entries.retain_mut(|entry| {
            let state = &mut states[entry.block as usize];
            if !state.has_entry || state.entry != entry.key() {
                return false;
            }
            state.has_entry = state.is_in;
            state.entry = state.key;
            *entry = Entry::new(state.key, entry.block);
            state.is_in
        });
        // What is sorted is a heap.
        self.entries.sort_unstable_by_key(Entry::key);
    }

    fn up(&mut self, mut place: usize) {
        let moved = self.entries[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.entries[parent].key() <= moved.key() {
                break;
            }
            self.entries[place] = self.entries[parent];
            place = parent;
        }
        self.entries[place] = moved;
    }

    /// Moves the top down to its place.
    fn down(&mut self) {
        let moved = self.entries[0];
        let mut place = 0;
        loop {
            let first = place * ARITY + 1;
            let Some(children) = self.entries.get(first..(first + ARITY).min(self.entries.len())) else { break };
            let Some(least) = (0..children.len()).min_by_key(|&child| children[child].key()) else { break };
            if moved.key() <= children[least].key() {
                break;
            }
            self.entries[place] = children[least];
            place = first + least;
        }
        self.entries[place] = moved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::draw;

    #[test]
    fn gives_what_a_sorted_list_gives() {
        let (mut heap, mut list, mut tidied) = (Heap::default(), Vec::<(Key, Block)>::new(), 0);
        for i in 0..20_000 {
            let (what, block, key) = (draw(1, i) % 9, (draw(2, i) % 64) as Block, key(draw(3, i) % 16, i));
            let before = heap.entries.len();
            match what {
                0..=4 => {
                    heap.set(block, key);
                    list.retain(|entry| entry.1 != block);
                    list.push((key, block));
                }
                5..=7 => {
                    heap.remove(block);
                    list.retain(|entry| entry.1 != block);
                }
                _ => {
                    let least = list.iter().copied().min();
                    list.retain(|&entry| Some(entry) != least);
                    assert_eq!(heap.pop(), least, "at {i}");
                }
            }
            tidied += usize::from(what <= 4 && heap.entries.len() < before);
            assert_eq!(heap.contains(block), list.iter().any(|entry| entry.1 == block));
            assert_eq!(heap.blocks, list.len());
            assert!(heap.entries.len() <= 2 * 64 + 64, "entries pile up");
        }
        assert!(tidied > 10, "{tidied}");
    }
}
