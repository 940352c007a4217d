//! Budgets that are lowered between two steps.

use super::{Lane, Shared, Tables, pass, table_width};
use crate::cuda::retained::Landing;
use crate::executor::{ExecutorError, Sequence};
use crate::history::Histories;

impl Lane {
    /// Lets go what a sequence has beyond its new budget, while its blocks are still those that it had. Rare: the host waits for it.
    pub(in crate::cuda) fn shrink(
        &mut self,
        sequence: &Sequence,
        landing: &Landing,
        histories: &Histories,
        shared: Shared,
    ) -> Result<(), ExecutorError> {
        if self.out.len() == 2 {
            return Err(ExecutorError("a budget is lowered while two steps are out".to_owned()));
        }
        let changes = self.owners.follow(&[], std::slice::from_ref(sequence), histories)?;
        let part = landing.part(self.owners.row(sequence.seat), 0, sequence).to_bytes();
        let tables = Tables { at: self.tables.at(0), width: table_width(&self.capacity) };
        let Lane { compute, blas, work, slots, upload, submitted, .. } = self;
        let slot = &mut slots[(*submitted % 2) as usize];
        // SAFETY: the step before that used this slot was given back.
        let to = unsafe { slot.written.bytes_mut() };
        to[..part.len()].copy_from_slice(&part);
        for (to, word) in to[part.len()..].chunks_exact_mut(4).zip(changes.as_flattened()) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let bytes = part.len() + changes.len() * 12;
        // SAFETY: nothing writes to the memory before the stream is waited for, and a table's changes have room in the buffer.
        unsafe { upload.upload(slot.copied.at(0), &slot.written, bytes)? };
        upload.record(&slot.uploaded)?;
        compute.stream.wait_for(&slot.uploaded)?;
        if !changes.is_empty() {
            let (at, count) = (slot.copied.at(part.len()), changes.len() as u32);
            // SAFETY: the changes are in the buffer and name rows and columns of the tables.
            unsafe { shared.kernels.update_tables(&compute.stream, tables, at, count)? };
        }
        let at = slot.copied.at(0);
        // SAFETY: the part is in the buffer and names a row of the tables whose blocks hold its slots; all buffers live as long as the lane.
        unsafe { pass(compute, blas, work, shared, tables).shrink(1, at)? };
        Ok(compute.stream.finish()?)
    }
}
