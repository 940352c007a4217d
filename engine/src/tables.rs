//! Block tables: which block of real memory holds which tokens of which sequence.
//!
//! The replica counts blocks; only those with cached content have a name there. Here every block is a *frame* of real memory.
//! Frames are given to a sequence when a step of its is submitted, which is never before the pool has counted them,
//! so that they cannot run out.

use overbook_sim::kv::blocks::{BlockMove, HashedBlock};

use crate::executor::Seat;

/// A sequence's block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    frame: u32,
    /// Whether its content is cacheable: it stays when the sequence goes.
    named: bool,
}

/// The frames of all sequences.
#[derive(Clone, Debug)]
pub struct BlockTables {
    free: Vec<u32>,
    /// By seat.
    tables: Vec<Vec<Entry>>,
    /// By the name of cached content.
    frames: Vec<Option<u32>>,
}

impl BlockTables {
    /// All of `blocks` frames free; the lowest is taken first.
    pub fn new(blocks: u32) -> Self {
        BlockTables { free: (0..blocks).rev().collect(), tables: Vec::new(), frames: Vec::new() }
    }

    /// Frames that no sequence holds and that cache nothing.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Follows what the pool has done.
    ///
    /// # Errors
    /// It has done what cannot be: a bug in the serving code or here.
    pub fn apply(&mut self, moves: &[BlockMove]) -> Result<(), String> {
        for &step in moves {
            match step {
                BlockMove::Shared { seat, block } => {
                    let frame = self.frame(block).ok_or("a shared block has no frame")?;
                    self.table_mut(seat).push(Entry { frame, named: true });
                }
                BlockMove::Named { seat, index, block } => {
                    self.grow(seat, index + 1)?;
                    let entry = &mut self.table_mut(seat)[index as usize];
                    entry.named = true;
                    let frame = entry.frame;
                    if self.frames.len() <= block.index() {
                        self.frames.resize(block.index() + 1, None);
                    }
                    if self.frames[block.index()].replace(frame).is_some() {
                        return Err("two blocks have one name".to_owned());
                    }
                }
                BlockMove::Dropped { block } => {
                    let frame = self.frames.get_mut(block.index()).and_then(Option::take);
                    self.free.push(frame.ok_or("a dropped block has no frame")?);
                }
                BlockMove::Released { seat } => {
                    let mut table = std::mem::take(self.table_mut(seat));
                    self.free.extend(table.iter().rev().filter(|entry| !entry.named).map(|entry| entry.frame));
                    table.clear();
                    *self.table_mut(seat) = table;
                }
            }
        }
        Ok(())
    }

    /// Writes the first `blocks` frames of a sequence to the end of `into`, with new ones as far as it lacks them. Returns
    /// where they begin, and how many they are.
    ///
    /// # Errors
    /// No frame is free: the pool has promised more than there is.
    pub fn place(&mut self, seat: Seat, blocks: u32, into: &mut Vec<u32>) -> Result<(u32, u32), String> {
        self.grow(seat, blocks)?;
        let start = into.len() as u32;
        into.extend(self.tables[seat as usize][..blocks as usize].iter().map(|entry| entry.frame));
        Ok((start, blocks))
    }

    fn frame(&self, block: HashedBlock) -> Option<u32> {
        self.frames.get(block.index()).copied().flatten()
    }

    fn table_mut(&mut self, seat: Seat) -> &mut Vec<Entry> {
        let index = seat as usize;
        if self.tables.len() <= index {
            self.tables.resize_with(index + 1, Vec::new);
        }
        &mut self.tables[index]
    }

    fn grow(&mut self, seat: Seat, blocks: u32) -> Result<(), String> {
        while self.table_mut(seat).len() < blocks as usize {
            let frame = self.free.pop().ok_or("no frame is free where the pool has counted one")?;
            self.table_mut(seat).push(Entry { frame, named: false });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use overbook_sim::kv::blocks::BlockPool;

    use super::*;

    #[test]
    fn frames_follow_names() {
        // Names come from a real pool: they are made nowhere else.
        let mut pool = BlockPool::new(4, 16);
        pool.take(2);
        let (a, b) = (pool.hash(1), pool.hash(2));
        let mut tables = BlockTables::new(4);
        let mut blocks = Vec::new();
        tables.apply(&[BlockMove::Named { seat: 0, index: 0, block: a }]).expect("legal");
        assert_eq!(tables.place(0, 2, &mut blocks), Ok((0, 2)));
        assert_eq!(blocks, [0, 1]);
        tables.apply(&[BlockMove::Released { seat: 0 }]).expect("legal");
        assert_eq!(tables.free(), 3, "the named one stays");
        tables.apply(&[BlockMove::Shared { seat: 1, block: a }]).expect("legal");
        tables.place(1, 2, &mut blocks).expect("frames are free");
        assert_eq!(blocks, [0, 1, 0, 1]);
        tables.apply(&[BlockMove::Released { seat: 1 }, BlockMove::Dropped { block: a }]).expect("legal");
        assert_eq!(tables.free(), 4);
        assert!(tables.apply(&[BlockMove::Shared { seat: 1, block: b }]).is_err());
        assert!(tables.apply(&[BlockMove::Dropped { block: a }]).is_err());
        assert!(tables.place(2, 5, &mut blocks).is_err());
    }
}
