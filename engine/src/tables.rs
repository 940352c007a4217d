//! Block tables: which block of real memory holds which tokens of which sequence.
//!
//! The replica counts blocks; only those with cached content have a name there. Here every block is a *frame* of real memory.
//! Frames are given to a sequence when a step of its is submitted, which is never before the pool has counted them,
//! so that they cannot run out.

use overbook_sim::kv::blocks::{BlockMove, HashedBlock};

use crate::executor::{Seat, TableChange, TierCopy};

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
    /// Entries of each that the executor knows.
    told: Vec<u32>,
    /// Seats whose blocks are gone, which the executor does not know yet.
    released: Vec<Seat>,
    /// By the name of cached content.
    frames: Vec<Option<u32>>,
    /// Copies to be made before the next step, in this order.
    copies: Vec<TierCopy>,
    /// What sequences (seat, blocks) keep after the step planned last, which has the others still.
    cuts: Vec<(Seat, u32)>,
}

impl BlockTables {
    /// All of `blocks` frames free; the lowest is taken first.
    pub fn new(blocks: u32) -> Self {
        BlockTables {
            free: (0..blocks).rev().collect(),
            tables: Vec::new(),
            told: Vec::new(),
            released: Vec::new(),
            frames: Vec::new(),
            copies: Vec::new(),
            cuts: Vec::new(),
        }
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
        for (seat, blocks) in std::mem::take(&mut self.cuts) {
            self.cut(seat, blocks)?;
        }
        for &step in moves {
            match step {
                BlockMove::Cut { seat, blocks } => self.cuts.push((seat, blocks)),
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
                BlockMove::Stored { block, slot } => {
                    let frame = self.frame(block).ok_or("a block that is stored has no frame")?;
                    self.copies.push(TierCopy { up: false, frame, slot });
                }
                BlockMove::Loaded { seat, index, slot } => {
                    self.grow(seat, index + 1)?;
                    let frame = self.table_mut(seat)[index as usize].frame;
                    self.copies.push(TierCopy { up: true, frame, slot });
                }
                BlockMove::Merged { seat, index, block } => {
                    let frame = self.frame(block).ok_or("a merged block has no frame")?;
                    self.grow(seat, index + 1)?;
                    let entry = &mut self.table_mut(seat)[index as usize];
                    if entry.named {
                        return Err("a cached block was merged into another".to_owned());
                    }
                    let own = std::mem::replace(entry, Entry { frame, named: true }).frame;
                    self.free.push(own);
                    let told = &mut self.told[seat as usize];
                    *told = index.min(*told);
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
                    if std::mem::take(&mut self.told[seat as usize]) > 0 {
                        self.released.push(seat);
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives a sequence new frames as far as it has fewer than `blocks`. Returns those that the executor does not know yet, and
    /// takes it that it will.
    ///
    /// # Errors
    /// No frame is free: the pool has promised more than there is.
    pub fn place(&mut self, seat: Seat, blocks: u32) -> Result<Option<TableChange>, String> {
        self.grow(seat, blocks)?;
        let from = self.told[seat as usize];
        if from >= blocks {
            return Ok(None);
        }
        self.told[seat as usize] = blocks;
        let news = &self.tables[seat as usize][from as usize..blocks as usize];
        Ok(Some(TableChange { seat, from, blocks: news.iter().map(|entry| entry.frame).collect() }))
    }

    /// Seats whose blocks have gone since the last call.
    pub fn take_released(&mut self) -> Vec<Seat> {
        std::mem::take(&mut self.released)
    }

    /// Copies between the pool and the tier below it since the last call, in the order in which they are to be made.
    pub fn take_copies(&mut self) -> Vec<TierCopy> {
        std::mem::take(&mut self.copies)
    }

    fn cut(&mut self, seat: Seat, blocks: u32) -> Result<(), String> {
        let table = self.table_mut(seat);
        if table.len() < blocks as usize {
            return Err("a sequence keeps more blocks than it has".to_owned());
        }
        let gone = table.split_off(blocks as usize);
        if gone.iter().any(|entry| entry.named) {
            return Err("a cached block was cut from a sequence".to_owned());
        }
        self.free.extend(gone.iter().rev().map(|entry| entry.frame));
        let told = &mut self.told[seat as usize];
        *told = blocks.min(*told);
        Ok(())
    }

    fn frame(&self, block: HashedBlock) -> Option<u32> {
        self.frames.get(block.index()).copied().flatten()
    }

    fn table_mut(&mut self, seat: Seat) -> &mut Vec<Entry> {
        let index = seat as usize;
        if self.tables.len() <= index {
            self.tables.resize_with(index + 1, Vec::new);
            self.told.resize(index + 1, 0);
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
        let news = |seat, from, blocks: &[u32]| Ok(Some(TableChange { seat, from, blocks: blocks.to_vec() }));
        tables.apply(&[BlockMove::Named { seat: 0, index: 0, block: a }]).expect("legal");
        assert_eq!(tables.place(0, 1), news(0, 0, &[0]));
        assert_eq!(tables.place(0, 2), news(0, 1, &[1]));
        assert_eq!(tables.place(0, 2), Ok(None), "told once");
        tables.apply(&[BlockMove::Released { seat: 0 }]).expect("legal");
        assert_eq!(tables.free(), 3, "the named one stays");
        assert_eq!((tables.take_released(), tables.take_released()), (vec![0], vec![]));
        tables.apply(&[BlockMove::Shared { seat: 1, block: a }]).expect("legal");
        assert_eq!(tables.place(1, 2), news(1, 0, &[0, 1]));
        tables.apply(&[BlockMove::Released { seat: 1 }, BlockMove::Dropped { block: a }]).expect("legal");
        assert_eq!(tables.free(), 4);
        assert!(tables.apply(&[BlockMove::Shared { seat: 1, block: b }]).is_err());
        assert!(tables.apply(&[BlockMove::Dropped { block: a }]).is_err());
        assert!(tables.place(2, 5).is_err());
    }

    #[test]
    fn a_merged_block_goes_on_in_the_cached_one() {
        let mut pool = BlockPool::new(4, 16);
        pool.take(2);
        let (a, b) = (pool.hash(1), pool.hash(2));
        let mut tables = BlockTables::new(4);
        tables.apply(&[BlockMove::Named { seat: 0, index: 0, block: a }]).expect("legal");
        let told = |seat, from, blocks: &[u32]| Ok(Some(TableChange { seat, from, blocks: blocks.to_vec() }));
        assert_eq!(tables.place(1, 2), told(1, 0, &[1, 2]));
        tables.apply(&[BlockMove::Merged { seat: 1, index: 0, block: a }]).expect("legal");
        assert_eq!((tables.free(), tables.place(1, 2)), (2, told(1, 0, &[0, 2])), "its own is free, and it is told");
        assert!(
            tables.apply(&[BlockMove::Merged { seat: 1, index: 0, block: a }]).is_err(),
            "it is not its own any more"
        );
        assert!(tables.apply(&[BlockMove::Merged { seat: 1, index: 1, block: b }]).is_err(), "nothing is cached there");
    }
}
