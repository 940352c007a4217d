//! The forward pass of one step: launches in order, without a wait among them.

use std::sync::Arc;

use overbook_kernels::cuda::attend_decode_splits;

use super::CudaError;
use super::blas::{Blas, Shape};
use super::driver::{Address, Buffer, Gpu};
use super::kernels::{Cache, Dims, Kernels, Rows, Tables};
use super::retained::{Notes, Weighs};
use super::step::Counts;
use super::stream::Stream;
use super::weights::Weights;

/// Rows up to which products have a shape for every multiple of 8, and beyond it of [`COARSE`]: fewer shapes to choose algorithms for.
const FINE_UP_TO: u32 = 256;
const COARSE: u32 = 64;

/// Rows that a product computes where so many are needed.
pub(super) fn padded(rows: u32) -> u32 {
    if rows <= 4 {
        rows
    } else if rows <= FINE_UP_TO {
        rows.next_multiple_of(8)
    } else {
        rows.next_multiple_of(COARSE)
    }
}

/// Activations of the largest step, and what attention needs beside them.
#[derive(Debug)]
pub(super) struct Work {
    /// Residual stream, `[row, hidden]`.
    x: Buffer,
    /// What the last product adds to it.
    delta: Buffer,
    /// The stream after a norm.
    normed: Buffer,
    /// `[row, heads + 2 kv_heads, dim]`.
    qkv: Buffer,
    /// `[row, heads, dim]`.
    attended: Buffer,
    /// `[row, 2 · inner]`.
    gate_up: Buffer,
    /// `[row, inner]`.
    inner: Buffer,
    /// Rows whose logits are needed, `[row, hidden]`.
    picked: Buffer,
    /// `[row, vocab]` in f32.
    logits: Buffer,
    /// Parts of split attention, and their largest scores and sums.
    partial: Buffer,
    stats: Buffer,
    /// Inside the networks of retention, `[row, width]` in f32, and largest product and sum of each query's weights, `[row, head, 2]`;
    /// where it needs them.
    gate: Option<Buffer>,
    heard: Option<Buffer>,
}

/// Bytes of each buffer, in the order of [`Work`].
fn sizes(dims: &Dims, rows: u32, draws: u32, sms: u32) -> [usize; 13] {
    let (rows, draws) = (padded(rows) as usize, padded(draws) as usize);
    let wide = |width: u32| rows * width as usize * 2;
    // Where there is more than one split, all parts are computed in one wave of two blocks per multiprocessor.
    let parts = (2 * sms * (dims.heads / dims.kv_heads)) as usize;
    let weighs = dims.retention.is_some_and(|retains| retains.weighs);
    [
        wide(dims.hidden),
        wide(dims.hidden),
        wide(dims.hidden),
        wide(dims.qkv()),
        wide(dims.queries()),
        wide(2 * dims.inner),
        wide(dims.inner),
        draws * dims.hidden as usize * 2,
        draws * dims.vocab as usize * 4,
        parts * dims.dim as usize * 4,
        parts * 8,
        rows * dims.gate() as usize * 4,
        if weighs { rows * dims.heads as usize * 8 } else { 0 },
    ]
}

impl Work {
    pub(super) fn new(gpu: &Arc<Gpu>, dims: &Dims, rows: u32, draws: u32) -> Result<Work, CudaError> {
        let sms = gpu.facts().multiprocessors;
        let [x, delta, normed, qkv, attended, gate_up, inner, picked, logits, partial, stats, gate, heard] =
            sizes(dims, rows, draws, sms);
        let buffer = |bytes: usize| Buffer::new(gpu, bytes);
        Ok(Work {
            x: buffer(x)?,
            delta: buffer(delta)?,
            normed: buffer(normed)?,
            qkv: buffer(qkv)?,
            attended: buffer(attended)?,
            gate_up: buffer(gate_up)?,
            inner: buffer(inner)?,
            picked: buffer(picked)?,
            logits: buffer(logits)?,
            partial: buffer(partial)?,
            stats: buffer(stats)?,
            gate: (gate > 0).then(|| buffer(gate)).transpose()?,
            heard: (heard > 0).then(|| buffer(heard)).transpose()?,
        })
    }

    /// Fills it with a small number: products of zeros, or of nothing in particular, take another time.
    pub(super) fn fill(&self, stream: &Stream) -> Result<(), CudaError> {
        let Work { x, delta, normed, qkv, attended, gate_up, inner, picked, logits, partial, stats, gate, heard } =
            self;
        let always = [x, delta, normed, qkv, attended, gate_up, inner, picked, logits, partial, stats];
        for buffer in always.into_iter().chain(gate).chain(heard) {
            // SAFETY: the whole of a buffer that lives as long as the lane, whose stream is waited for.
            unsafe { stream.fill(buffer.at(0), 0x3c, buffer.bytes())? };
        }
        Ok(())
    }

    /// Bytes that it takes.
    pub(super) fn bytes(dims: &Dims, rows: u32, draws: u32, sms: u32) -> u64 {
        sizes(dims, rows, draws, sms).iter().map(|bytes| *bytes as u64).sum()
    }

    /// Input and output of each kind of product, for tuning.
    pub(super) fn operands(&self, product: Product) -> (Address, Address) {
        match product {
            Product::Qkv => (self.normed.at(0), self.qkv.at(0)),
            Product::Output => (self.attended.at(0), self.delta.at(0)),
            Product::GateUp => (self.normed.at(0), self.gate_up.at(0)),
            Product::Down => (self.inner.at(0), self.delta.at(0)),
            Product::Head => (self.picked.at(0), self.logits.at(0)),
            Product::Gate => (self.normed.at(0), self.gate()),
        }
    }

    fn gate(&self) -> Address {
        self.gate.as_ref().map_or(0, |buffer| buffer.at(0))
    }
}

/// Products of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Product {
    Qkv,
    Output,
    GateUp,
    Down,
    Head,
    /// The first layer of retention's networks.
    Gate,
}

impl Product {
    const ALL: [Product; 6] =
        [Product::Qkv, Product::Output, Product::GateUp, Product::Down, Product::Head, Product::Gate];

    /// Those that a model has.
    pub(super) fn all(dims: &Dims) -> impl Iterator<Item = Product> + use<> {
        let gates = dims.gate() > 0;
        Product::ALL.into_iter().filter(move |product| *product != Product::Gate || gates)
    }

    /// Its shape for so many rows.
    pub(super) fn shape(self, dims: &Dims, rows: u32) -> Shape {
        let (inputs, outputs) = match self {
            Product::Qkv => (dims.hidden, dims.qkv()),
            Product::Output => (dims.queries(), dims.hidden),
            Product::GateUp => (dims.hidden, 2 * dims.inner),
            Product::Down => (dims.inner, dims.hidden),
            Product::Head => (dims.hidden, dims.vocab),
            Product::Gate => (dims.hidden, dims.gate()),
        };
        Shape { rows: padded(rows), inputs, outputs, wide: matches!(self, Product::Head | Product::Gate) }
    }

    /// The weights that it multiplies with: of every layer, or the head's.
    pub(super) fn weights(self, weights: &Weights, notes: Option<&Notes>) -> Vec<Address> {
        let layers = weights.layers.iter();
        match self {
            Product::Qkv => layers.map(|layer| layer.qkv).collect(),
            Product::Output => layers.map(|layer| layer.output).collect(),
            Product::GateUp => layers.map(|layer| layer.gate_up).collect(),
            Product::Down => layers.map(|layer| layer.down).collect(),
            Product::Head => vec![weights.head],
            Product::Gate => notes.map_or_else(Vec::new, |notes| notes.of.first_layers()),
        }
    }
}

/// What a pass computes with.
pub(super) struct Pass<'a> {
    pub(super) stream: &'a Stream,
    pub(super) kernels: &'a Kernels,
    pub(super) weights: &'a Weights,
    pub(super) work: &'a Work,
    pub(super) blas: &'a mut Blas,
    pub(super) tables: Tables,
    /// Keys and values of all layers, one after the other.
    pub(super) cache: &'a Buffer,
    /// Positions and notes of the tokens in it, where only some are kept.
    pub(super) notes: Option<&'a Notes>,
    /// Multiprocessors that the stream may use.
    pub(super) multiprocessors: u32,
}

impl Pass<'_> {
    /// Puts a step on the stream: its rows' tokens, some of which the step before `drew`, and where those that it draws go.
    ///
    /// # Safety
    /// The arrays of `rows` are in device memory when it runs, as the counts say, and name rows of the tables and blocks of the cache
    /// that there are. All buffers live until it has run, and no other pass uses `work` and `blas` at the same time.
    pub(super) unsafe fn run(
        &mut self,
        counts: Counts,
        rows: &Rows,
        drew: Address,
        drawn: Address,
    ) -> Result<(), CudaError> {
        let Pass { stream, kernels, weights, work, .. } = *self;
        let (x, delta, normed) = (work.x.at(0), work.delta.at(0), work.normed.at(0));
        // SAFETY: as the caller vouches; the buffers of `work` are as large as the largest step.
        unsafe {
            kernels.embed(stream, counts.rows, x, weights.embedding, rows.inputs, drew)?;
            let mut before = 0;
            for (index, layer) in weights.layers.iter().enumerate() {
                kernels.add_norm(stream, counts.rows, x, before, layer.input_norm, normed, 0)?;
                self.multiply(Product::Qkv, counts.rows, layer.qkv)?;
                let (qkv, cache, angles) = (work.qkv.at(0), self.layer_cache(index), (weights.cos, weights.sin));
                kernels.rope_write(stream, counts.rows, qkv, layer, angles, rows, self.tables, cache)?;
                self.note(index, counts, rows, cache)?;
                self.attend(counts, rows, cache)?;
                self.cut(index, counts, rows, cache)?;
                self.multiply(Product::Output, counts.rows, layer.output)?;
                kernels.add_norm(stream, counts.rows, x, delta, layer.mlp_norm, normed, 0)?;
                self.multiply(Product::GateUp, counts.rows, layer.gate_up)?;
                kernels.silu_mul(stream, counts.rows, work.inner.at(0), work.gate_up.at(0))?;
                self.multiply(Product::Down, counts.rows, layer.down)?;
                before = delta;
            }
            if counts.draws == 0 {
                return Ok(());
            }
            kernels.add_norm(stream, counts.draws, x, before, weights.norm, work.picked.at(0), rows.picks)?;
            self.multiply(Product::Head, counts.draws, weights.head)?;
            kernels.sample(stream, counts.draws, drawn, work.logits.at(0), rows)
        }
    }

    /// # Safety
    /// As [`Pass::run`].
    unsafe fn attend(&self, counts: Counts, rows: &Rows, cache: Cache) -> Result<(), CudaError> {
        let Pass { stream, kernels, work, tables, .. } = *self;
        let (out, qkv) = (work.attended.at(0), work.qkv.at(0));
        // SAFETY: as the caller vouches.
        unsafe {
            if counts.decodes > 0 {
                let splits = attend_decode_splits(counts.decodes, kernels.dims().kv_heads, self.multiprocessors);
                let parts = (work.partial.at(0), work.stats.at(0));
                kernels.attend_decode(stream, (counts.decodes, splits), out, parts, qkv, cache, tables, rows)?;
            }
            if counts.tiles > 0 {
                kernels.attend_prefill(stream, counts.tiles, out, qkv, cache, tables, rows)?;
            }
        }
        Ok(())
    }

    /// Notes the new tokens of a layer.
    ///
    /// # Safety
    /// As [`Pass::run`].
    unsafe fn note(&mut self, layer: usize, counts: Counts, rows: &Rows, cache: Cache) -> Result<(), CudaError> {
        let Some(notes) = self.notes else { return Ok(()) };
        let (at, method, inner) = (notes.layer(layer), notes.of.method(), self.work.gate());
        // SAFETY: as the caller vouches.
        unsafe {
            if inner != 0 {
                self.multiply(Product::Gate, counts.rows, at.gate.w1)?;
            }
            self.kernels.note_tokens(self.stream, counts.rows, method, &at, cache, self.tables, rows, inner)
        }
    }

    /// Scores the tokens of a layer, and lets go what goes.
    ///
    /// # Safety
    /// As [`Pass::run`].
    unsafe fn cut(&self, layer: usize, counts: Counts, rows: &Rows, cache: Cache) -> Result<(), CudaError> {
        let Pass { stream, kernels, work, tables, .. } = *self;
        let Some(notes) = self.notes else { return Ok(()) };
        let (at, method, parts) = (notes.layer(layer), notes.of.method(), counts.parts());
        // SAFETY: as the caller vouches.
        unsafe {
            if let Some(heard) = &work.heard {
                let (heard, latest, shape) = (heard.at(0), method.weighs == Weighs::Latest, (counts.rows, parts));
                kernels.weigh(stream, shape, latest, &at, heard, work.qkv.at(0), cache, tables, rows)?;
            }
            kernels.cut_tokens(stream, parts, method, layer, &at, cache, tables, rows.parts)
        }
    }

    /// Lets go what goes of parts that compute nothing, in all layers.
    ///
    /// # Safety
    /// As [`Pass::run`], of so many parts.
    pub(super) unsafe fn shrink(&self, count: u32, parts: Address) -> Result<(), CudaError> {
        let Some(notes) = self.notes else { return Ok(()) };
        let method = notes.of.method();
        for layer in 0..self.weights.layers.len() {
            let (at, cache) = (notes.layer(layer), self.layer_cache(layer));
            // SAFETY: as the caller vouches.
            unsafe { self.kernels.cut_tokens(self.stream, count, method, layer, &at, cache, self.tables, parts)? };
        }
        Ok(())
    }

    /// # Safety
    /// As [`Pass::run`].
    unsafe fn multiply(&mut self, product: Product, rows: u32, weights: Address) -> Result<(), CudaError> {
        let shape = product.shape(&self.kernels.dims(), rows);
        let (x, y) = self.work.operands(product);
        // SAFETY: the operands have room for the padded rows; the rest as the caller vouches.
        unsafe { self.blas.multiply(self.stream, shape, x, weights, y) }
    }

    fn layer_cache(&self, layer: usize) -> Cache {
        let half = self.cache.bytes() / self.weights.layers.len() / 2;
        Cache { keys: self.cache.at(2 * layer * half), values: self.cache.at((2 * layer + 1) * half) }
    }
}
