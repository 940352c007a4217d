//! A heap of blocks by a key that may change: the smallest key is on top.

use super::Block;

/// What blocks are ordered by: the first number, then the second.
pub(super) type Key = [u64; 2];

/// Children of a node. Four: half the levels of two, and they lie side by side in memory.
const ARITY: usize = 4;
const NOWHERE: u32 = u32::MAX;

/// A heap in which every block knows its place, so that it can be moved or taken out.
#[derive(Clone, Debug, Default)]
pub(super) struct Heap {
    entries: Vec<(Key, Block)>,
    /// Where each block lies in `entries`.
    places: Vec<u32>,
}

impl Heap {
    pub(super) fn contains(&self, block: Block) -> bool {
        self.places.get(block as usize).is_some_and(|&place| place != NOWHERE)
    }

    /// Puts a block in, or gives it another key.
    pub(super) fn set(&mut self, block: Block, key: Key) {
        let at = block as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, NOWHERE);
        }
        let place = self.places[at];
        if place == NOWHERE {
            self.entries.push((key, block));
            self.up(self.entries.len() - 1);
            return;
        }
        let place = place as usize;
        let before = std::mem::replace(&mut self.entries[place].0, key);
        if key < before { self.up(place) } else { self.down(place) }
    }

    /// Gives a block that is in the heap another key; others are left alone.
    pub(super) fn change(&mut self, block: Block, key: Key) {
        if self.contains(block) {
            self.set(block, key);
        }
    }

    /// Takes a block out, if it is in.
    pub(super) fn remove(&mut self, block: Block) {
        if !self.contains(block) {
            return;
        }
        let place = std::mem::replace(&mut self.places[block as usize], NOWHERE) as usize;
        let Some(last) = self.entries.pop().filter(|last| last.1 != block) else { return };
        let before = std::mem::replace(&mut self.entries[place], last);
        if last.0 < before.0 { self.up(place) } else { self.down(place) }
    }

    /// Takes out the block with the smallest key.
    pub(super) fn pop(&mut self) -> Option<(Key, Block)> {
        let &top = self.entries.first()?;
        self.remove(top.1);
        Some(top)
    }

    fn up(&mut self, mut place: usize) {
        let moved = self.entries[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            let above = self.entries[parent];
            if above.0 <= moved.0 {
                break;
            }
            self.entries[place] = above;
            self.places[above.1 as usize] = place as u32;
            place = parent;
        }
        self.entries[place] = moved;
        self.places[moved.1 as usize] = place as u32;
    }

    fn down(&mut self, mut place: usize) {
        let moved = self.entries[place];
        loop {
            let first = place * ARITY + 1;
            let children = first..(first + ARITY).min(self.entries.len());
            let Some(least) = children.min_by_key(|&child| self.entries[child].0) else { break };
            let below = self.entries[least];
            if moved.0 <= below.0 {
                break;
            }
            self.entries[place] = below;
            self.places[below.1 as usize] = place as u32;
            place = least;
        }
        self.entries[place] = moved;
        self.places[moved.1 as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::draw;

    #[test]
    fn gives_what_a_sorted_list_gives() {
        let (mut heap, mut list) = (Heap::default(), Vec::<(Key, Block)>::new());
        for i in 0..20_000 {
            let (what, block, key) = (draw(1, i) % 4, (draw(2, i) % 64) as Block, [draw(3, i) % 16, i]);
            match what {
                0 | 1 => {
                    heap.set(block, key);
                    list.retain(|entry| entry.1 != block);
                    list.push((key, block));
                }
                2 => {
                    heap.remove(block);
                    list.retain(|entry| entry.1 != block);
                }
                _ => {
                    let least = list.iter().copied().min();
                    list.retain(|&entry| Some(entry) != least);
                    assert_eq!(heap.pop(), least, "at {i}");
                }
            }
            assert_eq!(heap.contains(block), list.iter().any(|entry| entry.1 == block));
        }
    }
}
