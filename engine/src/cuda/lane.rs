//! A lane: steps in order on a stream of their own, two of them in flight, with all that two need at once.

mod shrink;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CudaError;
use super::blas::Blas;
use super::driver::{Buffer, Event, Gpu, Pinned};
use super::executor::{Model, table_width};
use super::forward::{Pass, Product, Work, padded};
use super::kernels::{Dims, Kernels, Tables};
use super::partition::Partition;
use super::retained::{Landing, Notes, landings_of};
use super::step::{Counts, Drawn, Layout, Owners, Step, pieces};
use super::stream::{Graph, Stream};
use crate::executor::{Capacity, ExecutorError, Output, Seat, Sequence, TableChange, Tuning, Watch};
use crate::history::{Histories, Pending};

/// Decodes that a graph is recorded for; smaller batches fill up.
const BUCKETS: [u32; 16] = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256];
/// Positions of a step for which products are tuned, beside the buckets.
const TUNED_ROWS: [u32; 5] = [512, 1024, 2048, 4096, 8192];
/// Shapes that are timed before they are kept: a process that is killed loses no more.
const KEEP_EVERY: usize = 8;
/// Positions beyond which a step is long: the library has other kernels for it.
const LONG_STEP: u32 = 512;
/// Banned tokens of a step, for each of its sequences, for which there is room: the server takes up to 1,024 from a client, and adds
/// the tokenizer's own ends.
const BANS: u32 = 1088;

/// What one step in flight needs for itself.
#[derive(Debug)]
struct Slot {
    /// What the host writes of a step, and where it is copied to.
    written: Pinned,
    copied: Buffer,
    /// The tokens drawn, and where they are copied to.
    drawn: Buffer,
    read: Pinned,
    uploaded: Event,
    begun: Event,
    ended: Event,
}

/// A step that is out.
#[derive(Debug)]
struct Flight {
    slot: usize,
    draws: Vec<Pending>,
}

/// One lane.
pub(super) struct Lane {
    // Graphs and events go before the context that they were made in.
    graphs: BTreeMap<(u32, usize), Graph>,
    slots: [Slot; 2],
    compute: Partition,
    upload: Stream,
    blas: Blas,
    work: Work,
    /// Steps submitted so far.
    submitted: u64,
    out: VecDeque<Flight>,
    drawn: Drawn,
    /// Bytes of a step, and changes of block tables, for which there is room.
    room: (usize, u32),
    /// How large its steps are.
    capacity: Capacity,
    /// Block tables on the device, and whose each is.
    tables: Buffer,
    owners: Owners,
}

/// What a lane computes with and does not own.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) model: &'a Model,
    pub(super) kernels: &'a Kernels,
    pub(super) cache: &'a Buffer,
    /// Positions and notes of the tokens in it, where only some are kept.
    pub(super) notes: Option<&'a Notes>,
}

/// Positions and draws of the largest step, those that fill up a graph's included.
fn largest(capacity: &Capacity) -> (u32, u32) {
    let bucket = buckets(capacity).last().unwrap_or(0);
    (capacity.step_tokens.max(bucket), capacity.sequences.max(bucket))
}

/// Bytes of the largest step, and its changes of block tables.
fn room(capacity: &Capacity, retains: bool) -> (usize, u32) {
    let width = table_width(capacity);
    let (rows, draws) = largest(capacity);
    let tiles = draws + rows.div_ceil(overbook_kernels::cuda::PREFILL_TILE);
    let changes = rows.max(width) + draws;
    let counts = Counts { rows, decodes: 0, prompts: draws, tiles, draws };
    (Layout::new(counts, BANS * draws, retains).bytes(changes), changes)
}

impl Lane {
    /// A lane for steps of this capacity.
    pub(super) fn new(
        gpu: &Arc<Gpu>,
        compute: Partition,
        blas: Blas,
        capacity: Capacity,
        dims: &Dims,
    ) -> Result<Lane, CudaError> {
        let width = table_width(&capacity);
        let room = room(&capacity, dims.retention.is_some());
        let (rows, draws) = largest(&capacity);
        let slot = || -> Result<Slot, CudaError> {
            Ok(Slot {
                written: Pinned::new(gpu, room.0)?,
                copied: Buffer::new(gpu, room.0)?,
                drawn: Buffer::new(gpu, draws as usize * 4)?,
                read: Pinned::new(gpu, draws as usize * 4)?,
                uploaded: Event::new(gpu)?,
                begun: Event::new(gpu)?,
                ended: Event::new(gpu)?,
            })
        };
        Ok(Lane {
            compute,
            upload: Stream::new(gpu)?,
            blas,
            work: Work::new(gpu, dims, rows, draws)?,
            slots: [slot()?, slot()?],
            graphs: BTreeMap::new(),
            submitted: 0,
            out: VecDeque::new(),
            drawn: Drawn::default(),
            room,
            capacity,
            tables: Buffer::new(gpu, capacity.sequences as usize * width as usize * 4)?,
            owners: Owners::new(capacity.sequences),
        })
    }

    /// Memory that a lane takes beside the workspace of its products [bytes].
    pub(super) fn bytes(dims: &Dims, capacity: &Capacity, sms: u32) -> u64 {
        let (rows, draws) = largest(capacity);
        Work::bytes(dims, rows, draws, sms)
            + 2 * (room(capacity, dims.retention.is_some()).0 as u64 + u64::from(draws) * 4)
            + u64::from(capacity.sequences) * u64::from(table_width(capacity)) * 4
    }

    /// Chooses the algorithms of all products. Those that are timed are handed to `keep` every [`KEEP_EVERY`] and at the end, whatever the end
    /// is; `watch` is asked before each shape.
    pub(super) fn tune(
        &mut self,
        shared: Shared,
        keep: &mut dyn FnMut(&Blas),
        watch: Watch<'_>,
    ) -> Result<(), CudaError> {
        let dims = shared.kernels.dims();
        let capacity = self.capacity;
        self.work.fill(&self.compute.stream)?;
        let rows = buckets(&capacity).chain(TUNED_ROWS.into_iter().filter(|rows| *rows <= capacity.step_tokens));
        let products = rows.flat_map(|rows| Product::all(&dims).map(move |product| (rows, product)));
        let shapes: Vec<(u32, Product)> =
            products.filter(|(rows, product)| *product != Product::Head || *rows <= largest(&capacity).1).collect();
        let mut kept = self.blas.tuned().len();
        let mut ended = Ok(());
        for (done, (rows, product)) in shapes.iter().enumerate() {
            let shape = product.shape(&dims, *rows);
            let times = !self.blas.tuned().contains_key(&shape);
            if !watch(Tuning { done, of: shapes.len(), times }) {
                ended = Err(CudaError::Interrupted);
                break;
            }
            let (x, y) = self.work.operands(*product);
            let weights = product.weights(&shared.model.weights, shared.notes);
            // SAFETY: the operands have room for the rows, which are no more than the largest step's; nothing else runs.
            if let Err(error) = unsafe { self.blas.tune(&self.compute.stream, shape, x, &weights, y) } {
                ended = Err(error);
                break;
            }
            if self.blas.tuned().len() >= kept + KEEP_EVERY {
                kept = self.blas.tuned().len();
                keep(&self.blas);
            }
        }
        if self.blas.tuned().len() > kept {
            keep(&self.blas);
        }
        if ended.is_ok() {
            watch(Tuning { done: shapes.len(), of: shapes.len(), times: false });
        }
        ended
    }

    /// Makes the plans of all products that steps of prompts may need. Those of long steps are also run: the library loads kernels
    /// when they are first used, and no step should wait for that.
    pub(super) fn prepare(&mut self, shared: Shared) -> Result<(), CudaError> {
        let dims = shared.kernels.dims();
        let most = padded(largest(&self.capacity).0);
        let mut rows = 1;
        while rows <= most {
            for product in Product::all(&dims).filter(|product| *product != Product::Head) {
                let shape = product.shape(&dims, rows);
                self.blas.prepare(shape)?;
                let (x, y) = self.work.operands(product);
                if most > LONG_STEP
                    && let Some(weights) = product.weights(&shared.model.weights, shared.notes).first()
                {
                    // SAFETY: the operands have room for the rows; nothing else runs.
                    unsafe { self.blas.multiply(&self.compute.stream, shape, x, *weights, y)? };
                }
            }
            rows = padded(rows) + 1;
        }
        self.compute.stream.finish()
    }

    /// Records the graphs. One step runs before, so that all kernels are loaded and all plans are made.
    pub(super) fn record(&mut self, shared: Shared) -> Result<(), CudaError> {
        for bucket in buckets(&self.capacity) {
            for slot in 0..2 {
                let counts = Counts::decodes(bucket);
                let layout = Layout::new(counts, 0, shared.notes.is_some());
                let rows = layout.at(self.slots[slot].copied.at(0));
                // All ones: no owner, no pick, no draw.
                // SAFETY: the buffer lives, and the stream is waited for.
                unsafe { self.compute.stream.fill(self.slots[slot].copied.at(0), 0xff, layout.bytes(0))? };
                // Inputs and positions are read whether there is an owner or not.
                // SAFETY: as above.
                unsafe { self.compute.stream.fill(rows.inputs, 0, bucket as usize * 8)? };
                self.pass(shared, slot, counts, &layout, 0)?;
                self.compute.stream.finish()?;
                let tables = self.tables();
                let Lane { compute, blas, work, slots, .. } = self;
                let drew = slots[1 - slot].drawn.at(0);
                let drawn = slots[slot].drawn.at(0);
                let graph = compute.stream.capture(|| {
                    let mut pass = pass(compute, blas, work, shared, tables);
                    // SAFETY: what is recorded reads the arrays of this slot, which is what they are written for before each
                    // replay; the buffers live as long as the lane.
                    unsafe { pass.run(counts, &rows, drew, drawn) }
                })?;
                self.graphs.insert((bucket, slot), graph);
            }
        }
        Ok(())
    }

    /// Launches a step whose arrays are in a slot; its tokens go behind the first `from` of the slot.
    fn pass(
        &mut self,
        shared: Shared,
        slot: usize,
        counts: Counts,
        layout: &Layout,
        from: usize,
    ) -> Result<(), CudaError> {
        let tables = self.tables();
        let Lane { compute, blas, work, slots, .. } = self;
        let rows = layout.at(slots[slot].copied.at(0));
        let (drew, drawn) = (slots[1 - slot].drawn.at(0), slots[slot].drawn.at(4 * from));
        let mut pass = pass(compute, blas, work, shared, tables);
        // SAFETY: the arrays were written for these counts from histories and owners, which name rows and blocks that there are; the
        // buffers live as long as the lane, whose stream is waited for before they go.
        unsafe { pass.run(counts, &rows, drew, drawn) }
    }

    /// Puts a batch on the streams.
    pub(super) fn submit(
        &mut self,
        sequences: &[Sequence],
        landings: &[Landing],
        changes: &[[u32; 3]],
        histories: &Histories,
        shared: Shared,
    ) -> Result<(), ExecutorError> {
        let capacity = self.capacity;
        if self.out.len() == 2 {
            return Err(ExecutorError("a third step is submitted while two are out".to_owned()));
        }
        if sequences.len() > capacity.sequences as usize {
            let (got, most) = (sequences.len(), capacity.sequences);
            return Err(ExecutorError(format!("{got} sequences in a step: the executor was built for {most}")));
        }
        let slot = (self.submitted % 2) as usize;
        self.submitted += 1;
        let (mut draws, mut begun) = (Vec::with_capacity(sequences.len()), false);
        // What does not fit beside the step comes before it.
        let (early, changes) = changes.split_at(changes.len() - changes.len().min(self.room.1 as usize));
        for early in early.chunks(self.room.1 as usize) {
            self.piece(slot, &Step::new(&[], &[], histories), early, histories, shared, (0, !begun))?;
            begun = true;
            self.compute.stream.finish()?;
        }
        let parts;
        let whole = [sequences.to_vec()];
        let positions: u64 = sequences.iter().map(|sequence| u64::from(sequence.tokens)).sum();
        let cut: &[Vec<Sequence>] = if positions > u64::from(capacity.step_tokens) {
            parts = pieces(sequences, capacity.step_tokens);
            &parts
        } else {
            &whole
        };
        for (index, sequences) in cut.iter().enumerate() {
            if index > 0 {
                // The arrays of the part before are still read.
                self.compute.stream.finish()?;
            }
            let parts;
            let own = if cut.len() == 1 {
                landings
            } else {
                parts = landings_of(sequences, &whole[0], landings);
                &parts
            };
            let step = Step::new(sequences, own, histories);
            let changes = if index == 0 { changes } else { &[] };
            self.piece(slot, &step, changes, histories, shared, (draws.len(), !begun))?;
            begun = true;
            draws.extend(step.draws);
        }
        for (index, pending) in draws.iter().enumerate() {
            self.drawn.note(self.submitted, *pending, index as u32);
        }
        let Slot { drawn, read, ended, .. } = &mut self.slots[slot];
        if !draws.is_empty() {
            // SAFETY: the step before that used this slot was given back, and nothing reads the memory before `ended`.
            unsafe { self.compute.stream.download(read, drawn.at(0), draws.len() * 4)? };
        }
        self.compute.stream.record(ended)?;
        self.out.push_back(Flight { slot, draws });
        Ok(())
    }

    /// Writes, copies and launches one part of a batch: its tokens go behind the first `from`, and the `first` part begins the step.
    fn piece(
        &mut self,
        slot: usize,
        step: &Step,
        changes: &[[u32; 3]],
        histories: &Histories,
        shared: Shared,
        (from, first): (usize, bool),
    ) -> Result<(), ExecutorError> {
        let bucket = self.bucket(step).filter(|_| from == 0);
        let counts = bucket.map_or(step.counts, Counts::decodes);
        let layout = Layout::new(counts, step.bans, shared.notes.is_some());
        let bytes = layout.bytes(changes.len() as u32);
        if bytes > self.room.0 {
            return Err(ExecutorError(format!("more than {BANS} banned tokens for each sequence of a step")));
        }
        let before = self.submitted - 1;
        let Slot { written, copied, uploaded, begun, .. } = &mut self.slots[slot];
        // SAFETY: the step before that used this slot was given back, and parts of this one before it are done.
        let to = unsafe { written.bytes_mut() };
        step.write(to, counts, &layout, histories, &self.owners, (&self.drawn, before))?;
        for (to, change) in to[layout.changes()..].chunks_exact_mut(12).zip(changes) {
            to.chunks_exact_mut(4).zip(change).for_each(|(four, word)| four.copy_from_slice(&word.to_le_bytes()));
        }
        // SAFETY: nothing writes to the memory before the step is given back or waited for; the buffer is as large.
        unsafe { self.upload.upload(copied.at(0), written, bytes)? };
        self.upload.record(uploaded)?;
        self.compute.stream.wait_for(uploaded)?;
        if first {
            // Before it a device with nothing to do waits for the host, which is the host's time.
            self.compute.stream.record(begun)?;
        }
        if !changes.is_empty() {
            let tables = Tables { at: self.tables.at(0), width: table_width(&self.capacity) };
            let at = copied.at(layout.changes());
            // SAFETY: the changes are in the buffer and name rows and columns of the tables.
            unsafe { shared.kernels.update_tables(&self.compute.stream, tables, at, changes.len() as u32)? };
        }
        if let Some(graph) = bucket.and_then(|bucket| self.graphs.get(&(bucket, slot))) {
            // SAFETY: the arrays of the slot are those of a batch of this bucket; all buffers live as long as the lane.
            unsafe { self.compute.stream.replay(graph)? };
        } else if counts.rows > 0 {
            self.pass(shared, slot, counts, &layout, from)?;
        }
        Ok(())
    }

    /// What a step of decodes fills up to. Without graphs too: how many parts attention is split into, and so the order of its sums,
    /// depends on the number of rows.
    fn bucket(&self, step: &Step) -> Option<u32> {
        let fits = step.is_decode() && step.counts.rows > 0 && step.counts.draws == step.counts.rows;
        let least = BUCKETS.into_iter().find(|bucket| *bucket >= step.counts.rows)?;
        (fits && buckets(&self.capacity).any(|bucket| bucket == least)).then_some(least)
    }

    /// Whether the oldest step is done.
    pub(super) fn ready(&self) -> Result<bool, ExecutorError> {
        let flight = self.out.front().ok_or_else(none_out)?;
        Ok(self.slots[flight.slot].ended.is_there()?)
    }

    /// Waits for the oldest step.
    pub(super) fn wait(&mut self, histories: &mut Histories) -> Result<Output, ExecutorError> {
        let Flight { slot, draws } = self.out.pop_front().ok_or_else(none_out)?;
        let Slot { begun, ended, read, .. } = &self.slots[slot];
        ended.wait()?;
        let end = Instant::now();
        let start = end.checked_sub(Duration::from_nanos(ended.since(begun)?)).unwrap_or(end);
        // SAFETY: the copy was done before `ended`.
        let bytes = unsafe { read.bytes() };
        let drawn = bytes.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(*four));
        let tokens =
            draws.into_iter().zip(drawn).map(|(pending, token)| (pending.seat, histories.take(pending, token)));
        Ok(Output { tokens: tokens.collect(), start, end })
    }

    /// Logits that the last step has drawn from, `[draw, vocab]`, so many numbers of them: for checks. Nothing is out.
    pub(super) fn logits(&self, numbers: usize) -> Result<Vec<f32>, CudaError> {
        let mut read = Pinned::new(self.upload.gpu(), 4 * numbers)?;
        // SAFETY: nothing else uses the memory before the stream is waited for; the draws' logits are in the buffer.
        unsafe { self.compute.stream.download(&mut read, self.work.operands(Product::Head).1, 4 * numbers)? };
        self.compute.stream.finish()?;
        // SAFETY: the copy is done.
        let words = unsafe { read.bytes() }.as_chunks::<4>().0;
        Ok(words.iter().take(numbers).map(|four| f32::from_le_bytes(*four)).collect())
    }

    /// Follows a batch of its own, after the histories have; gives what its block tables must learn.
    pub(super) fn follow(
        &mut self,
        tables: &[TableChange],
        sequences: &[Sequence],
        histories: &Histories,
    ) -> Result<Vec<[u32; 3]>, ExecutorError> {
        self.owners.follow(tables, sequences, histories)
    }

    /// A sequence has ended, or another lane's batch has changed its table.
    pub(super) fn forget(&mut self, seat: Seat) {
        self.owners.release(seat);
    }

    /// Where its kernels run, in order.
    pub(super) fn stream(&self) -> &Stream {
        &self.compute.stream
    }

    fn tables(&self) -> Tables {
        Tables { at: self.tables.at(0), width: table_width(&self.capacity) }
    }

    /// Waits for all that is out, whatever comes of it.
    pub(super) fn drain(&self) {
        let _ = self.upload.finish();
        let _ = self.compute.stream.finish();
    }
}

fn none_out() -> ExecutorError {
    ExecutorError("waited for a step, and none is out".to_owned())
}

fn pass<'a>(
    compute: &'a Partition,
    blas: &'a mut Blas,
    work: &'a Work,
    shared: Shared<'a>,
    tables: Tables,
) -> Pass<'a> {
    Pass {
        stream: &compute.stream,
        kernels: shared.kernels,
        weights: &shared.model.weights,
        work,
        blas,
        tables,
        cache: shared.cache,
        notes: shared.notes,
        multiprocessors: compute.multiprocessors,
    }
}

/// Buckets up to the first that holds all sequences.
fn buckets(capacity: &Capacity) -> impl Iterator<Item = u32> + use<> {
    let most = capacity.sequences.min(capacity.step_tokens);
    let last = BUCKETS.into_iter().find(|bucket| *bucket >= most).unwrap_or(u32::MAX);
    BUCKETS.into_iter().filter(move |bucket| *bucket <= last)
}
