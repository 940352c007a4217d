//! Copies of blocks between an executor's pool and the memory of the host below it.

use std::time::Duration;

use super::{Capacity, ExecutorError};

/// A copy of a block between the pool and the tier below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TierCopy {
    /// From the tier to the pool, and not down.
    pub up: bool,
    /// The block of the pool.
    pub frame: u32,
    /// The slot of the tier.
    pub slot: u32,
}

impl Capacity {
    /// Whether copies are between blocks and slots that there are.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check_copies(&self, copies: &[TierCopy]) -> Result<(), ExecutorError> {
        let (blocks, slots) = (self.blocks, self.host_blocks);
        match copies.iter().find(|copy| copy.frame >= blocks || copy.slot >= slots) {
            None => Ok(()),
            Some(TierCopy { frame, slot, .. }) => Err(ExecutorError(format!(
                "a copy between block {frame} of {blocks} and slot {slot} of {slots} of the host"
            ))),
        }
    }
}

/// What has been copied in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Moved {
    /// Bytes.
    pub bytes: u64,
    /// Time that the copies took, without what came before and after them.
    pub time: Duration,
}

impl Moved {
    /// Adds copies.
    pub fn add(&mut self, bytes: u64, time: Duration) {
        self.bytes += bytes;
        self.time += time;
    }

    /// Bytes per second; `None` where nothing was copied, or in no time.
    pub fn rate(&self) -> Option<f64> {
        (self.bytes > 0 && !self.time.is_zero()).then(|| self.bytes as f64 / self.time.as_secs_f64())
    }
}

/// What has been copied between a pool and the host, as measured.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Copied {
    /// From the host to the pool.
    pub up: Moved,
    /// From the pool to the host.
    pub down: Moved,
}

impl Copied {
    /// One of the directions.
    pub fn of(&mut self, up: bool) -> &mut Moved {
        if up { &mut self.up } else { &mut self.down }
    }
}
