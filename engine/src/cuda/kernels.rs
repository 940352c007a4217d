//! The kernels, compiled for a model, and how each is launched.

mod retain;

use std::path::Path;
use std::sync::Arc;

use overbook_kernels::cuda as source;

use super::CudaError;
use super::compile::{Compiler, Options};
use super::driver::{Address, Function, Gpu, Module};
use super::stream::{Args, Grid, Stream};
use crate::config::Config;

/// Sizes of a model as the kernels take them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Dims {
    /// Width of the residual stream.
    pub(super) hidden: u32,
    /// Width of the MLP.
    pub(super) inner: u32,
    /// Query heads.
    pub(super) heads: u32,
    /// Key and value heads.
    pub(super) kv_heads: u32,
    /// Width of one head.
    pub(super) dim: u32,
    /// Size of the vocabulary.
    pub(super) vocab: u32,
    /// Added to the mean square in norms.
    pub(super) epsilon: f32,
    /// log2 of the tokens per block.
    pub(super) block_shift: u32,
    /// What sequences need that keep only some of their tokens.
    pub(super) retention: Option<Retains>,
}

/// Sizes of what retention needs beside the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Retains {
    /// Width of its networks; 0: none.
    pub(super) gate: u32,
    /// Whether it looks at attention weights.
    pub(super) weighs: bool,
}

impl Dims {
    /// Those of a model with blocks of so many tokens.
    ///
    /// # Errors
    /// The kernels are not written for them.
    pub(super) fn of(config: &Config, block_tokens: u32) -> Result<Dims, CudaError> {
        let group = config.heads / config.kv_heads;
        let wrong = if !block_tokens.is_power_of_two() || block_tokens.trailing_zeros() > source::BLOCK_SHIFT_MAX {
            format!("blocks of {block_tokens} tokens; the CUDA kernels take powers of two up to 256")
        } else if !source::HEAD_DIMS.contains(&(config.head_dim as u32)) {
            format!("heads of width {}; the CUDA kernels take {:?}", config.head_dim, source::HEAD_DIMS)
        } else if group as u32 > source::GROUP_MAX {
            format!("{group} query heads per KV head; the CUDA kernels take up to {}", source::GROUP_MAX)
        } else if config.hidden as u32 > source::ADD_NORM_WIDTH_MAX {
            format!("a hidden size of {}; the CUDA kernels take up to {}", config.hidden, source::ADD_NORM_WIDTH_MAX)
        } else if config.vocab as u32 > source::SAMPLE_VOCAB_MAX {
            format!("a vocabulary of {}; the CUDA kernels take up to {}", config.vocab, source::SAMPLE_VOCAB_MAX)
        } else if !config.hidden.is_multiple_of(8) || !config.intermediate.is_multiple_of(8) {
            format!("sizes {} and {}; the CUDA kernels take multiples of 8", config.hidden, config.intermediate)
        } else {
            return Ok(Dims {
                hidden: config.hidden as u32,
                inner: config.intermediate as u32,
                heads: config.heads as u32,
                kv_heads: config.kv_heads as u32,
                dim: config.head_dim as u32,
                vocab: config.vocab as u32,
                epsilon: config.norm_eps,
                block_shift: block_tokens.trailing_zeros(),
                retention: None,
            });
        };
        Err(CudaError::Unfit(wrong))
    }

    /// Numbers of a row of queries, keys and values.
    pub(super) fn qkv(&self) -> u32 {
        (self.heads + 2 * self.kv_heads) * self.dim
    }

    /// Numbers of a row of queries.
    pub(super) fn queries(&self) -> u32 {
        self.heads * self.dim
    }

    /// Bytes of the keys, or of the values, of one slot in one layer.
    pub(super) fn slot_bytes(&self) -> usize {
        2 * (self.kv_heads * self.dim) as usize
    }

    /// Bytes of the positions, and as many of the notes, of one slot in one layer.
    pub(super) fn note_bytes(&self) -> usize {
        4 * self.kv_heads as usize
    }

    /// Width of the networks of retention; 0: there are none.
    pub(super) fn gate(&self) -> u32 {
        self.retention.map_or(0, |retains| retains.gate)
    }

    /// What the sources are compiled with.
    pub(super) fn defines(&self) -> Vec<(&'static str, u32)> {
        let group = self.heads / self.kv_heads;
        vec![("HEAD_DIM", self.dim), ("GROUP", group), ("BLOCK_SHIFT", self.block_shift), ("HIDDEN", self.hidden)]
    }
}

/// Block tables of all sequences: `[table row, width]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables {
    /// The first.
    pub(super) at: Address,
    /// Entries of each.
    pub(super) width: u32,
}

/// What a step says of its rows: addresses of arrays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// Token of each, or which of the tokens drawn before it is.
    pub(super) inputs: Address,
    /// Its place in its sequence.
    pub(super) positions: Address,
    /// Slot of its sequence in which it lies; where everything stays, that is its place.
    pub(super) slots: Address,
    /// Row of its sequence's block table.
    pub(super) owners: Address,
    /// Tiles of `attend_prefill`.
    pub(super) tiles: Address,
    /// Rows whose logits are needed.
    pub(super) picks: Address,
    /// How their tokens are drawn.
    pub(super) draws: Address,
    /// Banned tokens of all.
    pub(super) bans: Address,
    /// Its sequences: those of one position, then the others. Nowhere if they keep everything.
    pub(super) parts: Address,
}

/// Keys and values of one layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cache {
    /// Keys, `[slot, kv head, dim]`.
    pub(super) keys: Address,
    /// Values, laid out as the keys.
    pub(super) values: Address,
}

/// All kernels of a model.
#[derive(Debug)]
pub(super) struct Kernels {
    dims: Dims,
    embed: Function,
    add_norm: Function,
    rope_write: Function,
    attend_decode: Function,
    attend_merge: Function,
    attend_prefill: Function,
    silu_mul: Function,
    sample: Function,
    update_tables: Function,
    retention: Option<retain::Retention>,
}

impl Kernels {
    /// Compiles and loads them.
    ///
    /// # Errors
    /// NVRTC is missing or cannot compile them, or the GPU cannot run them.
    pub(super) fn load(gpu: &Arc<Gpu>, dims: Dims, cache: Option<&Path>) -> Result<Kernels, CudaError> {
        let compiler = Compiler::find_for(gpu.facts().driver)?;
        let options = Options { sm: gpu.facts().sm, defines: dims.defines() };
        let mut modules = Vec::new();
        let needed = |name| dims.retention.is_some() || !source::RETENTION.contains(&name);
        for source in source::SOURCES.iter().filter(|source| needed(source.name)) {
            modules.push((source, module(gpu, &compiler, source, &options, cache)?));
        }
        let function = |name: &str, shared: u32| {
            let found = modules.iter().find(|(source, _)| source.kernels.contains(&name));
            let (_, module) = found.ok_or_else(|| CudaError::Compile(format!("no source has a kernel {name}")))?;
            module.function(name, shared)
        };
        Ok(Kernels {
            dims,
            embed: function("embed", 0)?,
            add_norm: function("add_norm", 0)?,
            rope_write: function("rope_write", 0)?,
            attend_decode: function("attend_decode", source::attend_decode_shared(dims.dim))?,
            attend_merge: function("attend_merge", 0)?,
            attend_prefill: function("attend_prefill", source::attend_prefill_shared(dims.dim))?,
            silu_mul: function("silu_mul", 0)?,
            sample: function("sample", 0)?,
            update_tables: function("update_tables", 0)?,
            retention: dims.retention.map(|_| retain::Retention::load(&function)).transpose()?,
        })
    }

    /// The model's sizes.
    pub(super) fn dims(&self) -> Dims {
        self.dims
    }
}

/// A source's kernels; one that was kept and cannot be loaded is compiled again.
fn module(
    gpu: &Arc<Gpu>,
    compiler: &Compiler,
    source: &source::Source,
    options: &Options,
    cache: Option<&Path>,
) -> Result<Arc<Module>, CudaError> {
    let image = compiler.compile(source, options, cache)?.image;
    match (Module::load(gpu, &image), cache) {
        (Err(_), Some(folder)) => {
            compiler.forget(source, options, folder);
            Module::load(gpu, &compiler.compile(source, options, cache)?.image)
        }
        (loaded, _) => loaded,
    }
}

const fn line(blocks: u32, threads: u32) -> Grid {
    Grid { blocks: [blocks, 1, 1], threads, shared: 0 }
}

/// # Safety
/// For each of them: addresses are of arrays as the kernel's source describes them, in buffers that live until it has run.
impl Kernels {
    /// `x[row] = table[token of the row]`.
    ///
    /// # Safety
    /// As above.
    pub(super) unsafe fn embed(
        &self,
        stream: &Stream,
        rows: u32,
        x: Address,
        table: Address,
        inputs: Address,
        drawn: Address,
    ) -> Result<(), CudaError> {
        let args = Args::new().at(x).at(table).at(inputs).at(drawn).int(self.dims.hidden);
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.embed, line(rows, source::EMBED_THREADS), args) }
    }

    /// `x += delta; out = norm(x) · weight`, or only rows `picks` of it.
    ///
    /// # Safety
    /// As above.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub(super) unsafe fn add_norm(
        &self,
        stream: &Stream,
        rows: u32,
        x: Address,
        delta: Address,
        weight: Address,
        out: Address,
        picks: Address,
    ) -> Result<(), CudaError> {
        let args = Args::new().at(x).at(delta).at(weight).at(out).at(picks);
        let args = args.int(self.dims.hidden).float(self.dims.epsilon);
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.add_norm, line(rows, source::ADD_NORM_THREADS), args) }
    }

    /// Biases, norms and rotation of queries and keys; keys and values to the cache.
    ///
    /// # Safety
    /// As above.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub(super) unsafe fn rope_write(
        &self,
        stream: &Stream,
        count: u32,
        qkv: Address,
        layer: &super::weights::Layer,
        (cos, sin): (Address, Address),
        rows: &Rows,
        tables: Tables,
        cache: Cache,
    ) -> Result<(), CudaError> {
        let args = Args::new().at(qkv).at(layer.qkv_bias).at(layer.query_norm).at(layer.key_norm).at(cos).at(sin);
        let args = args.at(rows.positions).at(rows.slots).at(rows.owners).at(tables.at).int(tables.width);
        let args = args.at(cache.keys).at(cache.values).int(self.dims.heads).int(self.dims.kv_heads);
        let args = args.float(self.dims.epsilon);
        let share = source::rope_write_share(self.dims.heads + 2 * self.dims.kv_heads, self.dims.dim);
        let grid = Grid { blocks: [count, share, 1], threads: source::ROPE_WRITE_THREADS, shared: 0 };
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.rope_write, grid, args) }
    }

    /// Attention of the first `count` rows, one position each.
    ///
    /// # Safety
    /// As above.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub(super) unsafe fn attend_decode(
        &self,
        stream: &Stream,
        (count, splits): (u32, u32),
        out: Address,
        (partial, stats): (Address, Address),
        qkv: Address,
        cache: Cache,
        tables: Tables,
        rows: &Rows,
    ) -> Result<(), CudaError> {
        let Dims { heads, kv_heads, dim, .. } = self.dims;
        let args = Args::new().at(out).at(partial).at(stats).at(qkv).at(cache.keys).at(cache.values);
        let args = args.at(tables.at).int(tables.width).at(rows.slots).at(rows.owners);
        let args = args.int(heads).int(kv_heads).int(splits).float((dim as f32).sqrt().recip());
        let shared = source::attend_decode_shared(dim);
        let grid = Grid { blocks: [splits, kv_heads, count], threads: source::ATTEND_DECODE_THREADS, shared };
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.attend_decode, grid, args)? };
        if splits == 1 {
            return Ok(());
        }
        let args = Args::new().at(out).at(partial).at(stats).at(rows.owners).int(heads).int(splits);
        let grid = Grid { blocks: [heads, count, 1], threads: source::ATTEND_MERGE_THREADS, shared: 0 };
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.attend_merge, grid, args) }
    }

    /// Attention of chunks of prompts.
    ///
    /// # Safety
    /// As above.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub(super) unsafe fn attend_prefill(
        &self,
        stream: &Stream,
        tiles: u32,
        out: Address,
        qkv: Address,
        cache: Cache,
        tables: Tables,
        rows: &Rows,
    ) -> Result<(), CudaError> {
        let Dims { heads, kv_heads, dim, .. } = self.dims;
        let args = Args::new().at(out).at(qkv).at(cache.keys).at(cache.values).at(tables.at).int(tables.width);
        let args = args.at(rows.tiles).int(heads).int(kv_heads).float((dim as f32).sqrt().recip());
        let shared = source::attend_prefill_shared(dim);
        let grid = Grid { blocks: [tiles, heads, 1], threads: source::ATTEND_PREFILL_THREADS, shared };
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.attend_prefill, grid, args) }
    }

    /// `out = silu(gate) · up`.
    ///
    /// # Safety
    /// As above.
    pub(super) unsafe fn silu_mul(
        &self,
        stream: &Stream,
        rows: u32,
        out: Address,
        gate_up: Address,
    ) -> Result<(), CudaError> {
        let args = Args::new().at(out).at(gate_up).int(self.dims.inner);
        let blocks = [rows, source::silu_mul_share(self.dims.inner), 1];
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.silu_mul, Grid { blocks, threads: source::SILU_MUL_THREADS, shared: 0 }, args) }
    }

    /// Draws a token from each row of logits.
    ///
    /// # Safety
    /// As above.
    pub(super) unsafe fn sample(
        &self,
        stream: &Stream,
        count: u32,
        drawn: Address,
        logits: Address,
        rows: &Rows,
    ) -> Result<(), CudaError> {
        let args = Args::new().at(drawn).at(logits).at(rows.draws).at(rows.bans).int(self.dims.vocab);
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.sample, line(count, source::SAMPLE_THREADS), args) }
    }

    /// Changes block tables.
    ///
    /// # Safety
    /// As above.
    pub(super) unsafe fn update_tables(
        &self,
        stream: &Stream,
        tables: Tables,
        changes: Address,
        count: u32,
    ) -> Result<(), CudaError> {
        let args = Args::new().at(tables.at).at(changes).int(count).int(tables.width);
        let grid = line(count.div_ceil(source::BLOCKS_THREADS), source::BLOCKS_THREADS);
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.update_tables, grid, args) }
    }
}
