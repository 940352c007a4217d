//! Blocks below the pool, in pinned memory of the host.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::CudaError;
use super::driver::{Buffer, Event, Gpu, Pinned};
use super::stream::Stream;
use crate::executor::{Capacity, Copied, TierCopy};
use crate::memory;

/// Copies of one direction, one after the other.
#[derive(Debug)]
struct Run {
    up: bool,
    bytes: u64,
    begun: Event,
    ended: Event,
}

/// Slots for blocks, `[slot, layer, keys and values]`: in each the parts of a block as they lie in the pool.
#[derive(Debug)]
pub(super) struct Host {
    slots: Pinned,
    /// Keys, or values, of a block in one layer [bytes].
    part: usize,
    /// Of a block: one for keys and one for values in every layer.
    parts: usize,
    /// Runs that may not be done.
    out: VecDeque<Run>,
    /// Events of runs that are done.
    spare: Vec<(Event, Event)>,
    copied: Copied,
}

impl Host {
    /// As many slots as the capacity has, each for a block of so many bytes in so many parts.
    ///
    /// # Errors
    /// There is not enough memory of the host, or the driver cannot pin it.
    pub(super) fn new(gpu: &Arc<Gpu>, capacity: &Capacity, block_bytes: u64, parts: usize) -> Result<Host, CudaError> {
        let bytes = block_bytes * u64::from(capacity.host_blocks);
        let refused = |free| CudaError::Unfit(memory::refused(bytes, free).0);
        memory::take(bytes).map_err(|free| refused(Some(free)))?;
        let size = usize::try_from(bytes).map_err(|_| refused(None))?;
        let slots = Pinned::new(gpu, size)?;
        let part = block_bytes as usize / parts;
        Ok(Host { slots, part, parts, out: VecDeque::new(), spare: Vec::new(), copied: Copied::default() })
    }

    /// Puts copies between a pool and the slots on a stream.
    ///
    /// # Safety
    /// Blocks and slots are there, the pool lives until the stream has been waited for, and all that uses these blocks or slots is on
    /// the stream, or waits for it.
    ///
    /// # Errors
    /// Earlier work has failed.
    pub(super) unsafe fn copy(&mut self, stream: &Stream, pool: &Buffer, copies: &[TierCopy]) -> Result<(), CudaError> {
        self.collect(false)?;
        for run in copies.chunk_by(|a, b| a.up == b.up) {
            let (begun, ended) = match self.spare.pop() {
                Some(events) => events,
                None => (Event::new(stream.gpu())?, Event::new(stream.gpu())?),
            };
            stream.record(&begun)?;
            for copy in run {
                // SAFETY: the caller vouches for it.
                unsafe { self.block(stream, pool, *copy)? };
            }
            stream.record(&ended)?;
            let bytes = (run.len() * self.parts * self.part) as u64;
            self.out.push_back(Run { up: run[0].up, bytes, begun, ended });
        }
        Ok(())
    }

    /// Puts the parts of one block on a stream.
    ///
    /// # Safety
    /// As [`Host::copy`].
    unsafe fn block(&self, stream: &Stream, pool: &Buffer, copy: TierCopy) -> Result<(), CudaError> {
        let TierCopy { up, frame, slot } = copy;
        let stride = pool.bytes() / self.parts;
        for index in 0..self.parts {
            let above = pool.at(index * stride + frame as usize * self.part);
            let below = self.slots.at((slot as usize * self.parts + index) * self.part, self.part);
            // SAFETY: both ends are as long as a part; the caller vouches for who uses them.
            unsafe { if up { stream.raise(above, below, self.part)? } else { stream.lower(below, above, self.part)? } }
        }
        Ok(())
    }

    /// Takes in what runs took that are done; if asked to, waits for all.
    fn collect(&mut self, all: bool) -> Result<(), CudaError> {
        while let Some(run) = self.out.front() {
            if all {
                run.ended.wait()?;
            } else if !run.ended.is_there()? {
                break;
            }
            let took = Duration::from_nanos(run.ended.since(&run.begun)?);
            self.copied.of(run.up).add(run.bytes, took);
            self.spare.extend(self.out.pop_front().map(|run| (run.begun, run.ended)));
        }
        Ok(())
    }

    /// What was copied.
    ///
    /// # Errors
    /// A copy has failed.
    pub(super) fn copied(&mut self) -> Result<Copied, CudaError> {
        self.collect(true)?;
        Ok(self.copied)
    }
}
