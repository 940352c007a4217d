//! Copies of the host's arrays to device memory that is kept.

use std::sync::Arc;

use super::CudaError;
use super::driver::{Address, Buffer, Event, Gpu, Pinned};
use super::stream::Stream;
use crate::weights::bf16;

/// Bytes that are copied at once. The next ones are made meanwhile.
pub(super) const CHUNK: usize = 32 << 20;

/// Copies arrays, and keeps the memory that they go to.
pub(super) struct Uploader {
    gpu: Arc<Gpu>,
    stream: Stream,
    /// What is written while the other is copied.
    pinned: [(Pinned, Event); 2],
    turn: usize,
    buffers: Vec<Buffer>,
}

impl Uploader {
    /// # Errors
    /// There is no memory.
    pub(super) fn new(gpu: &Arc<Gpu>) -> Result<Uploader, CudaError> {
        let half = || Ok::<_, CudaError>((Pinned::new(gpu, CHUNK)?, Event::new(gpu)?));
        let (stream, pinned) = (Stream::new(gpu)?, [half()?, half()?]);
        Ok(Uploader { gpu: gpu.clone(), stream, pinned, turn: 0, buffers: Vec::new() })
    }

    /// Memory for so many bytes.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn buffer(&mut self, bytes: usize) -> Result<Address, CudaError> {
        let buffer = Buffer::new(&self.gpu, bytes)?;
        let at = buffer.at(0);
        self.buffers.push(buffer);
        Ok(at)
    }

    /// Numbers of 32 bits.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(super) fn words(&mut self, values: &[u32]) -> Result<Address, CudaError> {
        let at = self.buffer(values.len() * 4)?;
        for (index, values) in values.chunks(CHUNK / 4).enumerate() {
            self.copy(at + (index * CHUNK) as u64, values.len() * 4, |bytes| {
                let (bytes, _) = bytes.as_chunks_mut::<4>();
                bytes.iter_mut().zip(values).for_each(|(four, value)| *four = value.to_le_bytes());
            })?;
        }
        Ok(at)
    }

    /// Numbers in f32.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(super) fn floats(&mut self, values: &[f32]) -> Result<Address, CudaError> {
        let words: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        self.words(&words)
    }

    /// Numbers that become bf16.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(super) fn halves(&mut self, values: &[f32]) -> Result<Address, CudaError> {
        let at = self.buffer(values.len() * 2)?;
        for (index, values) in values.chunks(CHUNK / 2).enumerate() {
            self.copy(at + (index * CHUNK) as u64, values.len() * 2, |bytes| {
                let (bytes, _) = bytes.as_chunks_mut::<2>();
                let narrow = |(two, value): (&mut [u8; 2], &f32)| *two = (bf16(*value) as u16).to_le_bytes();
                bytes.iter_mut().zip(values).for_each(narrow);
            })?;
        }
        Ok(at)
    }

    /// Lets `write` fill pinned memory, and begins to copy so many bytes of it.
    ///
    /// # Errors
    /// The GPU is lost.
    pub(super) fn copy(&mut self, to: Address, bytes: usize, write: impl FnOnce(&mut [u8])) -> Result<(), CudaError> {
        let (pinned, copied) = &mut self.pinned[self.turn];
        self.turn = 1 - self.turn;
        // One that was never recorded is there.
        copied.wait()?;
        // SAFETY: the copy before from this memory is done.
        write(unsafe { &mut pinned.bytes_mut()[..bytes] });
        // SAFETY: the target was allocated for it and is kept; the source is not touched before the copy is done.
        unsafe { self.stream.upload(to, pinned, bytes)? };
        self.stream.record(copied)
    }

    /// Waits for all copies; the memory that they went to.
    ///
    /// # Errors
    /// The GPU is lost.
    pub(super) fn finish(self) -> Result<Vec<Buffer>, CudaError> {
        self.stream.finish()?;
        Ok(self.buffers)
    }
}
