//! Launches of the kernels of retention.

use overbook_kernels::cuda as source;

use super::super::CudaError;
use super::super::driver::{Address, Function};
use super::super::retained::{LayerNotes, Method};
use super::super::stream::{Args, Grid, Stream};
use super::{Cache, Kernels, Rows, Tables};

/// Blocks of `weigh_tokens` that share the slots of a part.
const WEIGH_SHARE: u32 = 8;

/// The kernels of retention.
#[derive(Debug)]
pub(super) struct Retention {
    note_tokens: Function,
    score_keys: Function,
    cut_tokens: Function,
    weigh_queries: Function,
    weigh_tokens: Function,
}

impl Retention {
    /// Finds them.
    ///
    /// # Errors
    /// They were not compiled.
    pub(super) fn load(function: &dyn Fn(&str, u32) -> Result<Function, CudaError>) -> Result<Retention, CudaError> {
        Ok(Retention {
            note_tokens: function("note_tokens", 0)?,
            score_keys: function("score_keys", 0)?,
            cut_tokens: function("cut_tokens", 0)?,
            weigh_queries: function("weigh_queries", 0)?,
            weigh_tokens: function("weigh_tokens", 0)?,
        })
    }
}

fn grid(x: u32, y: u32, z: u32, threads: u32) -> Grid {
    Grid { blocks: [x, y, z], threads, shared: 0 }
}

/// # Safety
/// For each of them: addresses are of arrays as the kernel's source describes them, in buffers that live until it has run.
impl Kernels {
    fn retention(&self) -> Result<&Retention, CudaError> {
        let missing = || CudaError::Unfit("the kernels of retention were not compiled".to_owned());
        self.retention.as_ref().ok_or_else(missing)
    }

    /// Notes the tokens of so many rows. `inner`: what the first layer of the networks gives.
    ///
    /// # Safety
    /// As above.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub(in super::super) unsafe fn note_tokens(
        &self,
        stream: &Stream,
        count: u32,
        method: Method,
        notes: &LayerNotes,
        cache: Cache,
        tables: Tables,
        rows: &Rows,
        inner: Address,
    ) -> Result<(), CudaError> {
        let args = Args::new().at(notes.positions).at(notes.notes).at(cache.keys).at(tables.at).int(tables.width);
        let args = args.at(rows.positions).at(rows.slots).at(rows.owners).int(self.dims.kv_heads);
        let args = args.int(method.note as u32).at(notes.draws).at(inner);
        let args = args.at(notes.gate.b1).at(notes.gate.w2).at(notes.gate.b2).int(self.dims.gate());
        let grid = grid(count, 1, 1, source::NOTE_TOKENS_THREADS);
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.retention()?.note_tokens, grid, args) }
    }

    /// Adds up the attention that tokens get from all rows, or, with `latest`, takes that of the last row of each part.
    ///
    /// # Safety
    /// As above.
    #[expect(clippy::too_many_arguments, reason = "the kernels'")]
    pub(in super::super) unsafe fn weigh(
        &self,
        stream: &Stream,
        (count, parts): (u32, u32),
        latest: bool,
        notes: &LayerNotes,
        stats: Address,
        qkv: Address,
        cache: Cache,
        tables: Tables,
        rows: &Rows,
    ) -> Result<(), CudaError> {
        let (kv_heads, scale) = (self.dims.kv_heads, (self.dims.dim as f32).sqrt().recip());
        let args = Args::new().at(stats).at(qkv).at(cache.keys).at(tables.at).int(tables.width);
        let args = args.at(rows.slots).at(rows.owners).at(rows.parts).int(u32::from(latest)).int(kv_heads);
        let queries = grid(if latest { parts } else { count }, kv_heads, 1, source::WEIGH_THREADS);
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.retention()?.weigh_queries, queries, args.float(scale))? };
        let args = Args::new().at(notes.notes).at(stats).at(qkv).at(cache.keys).at(tables.at).int(tables.width);
        let args = args.at(rows.parts).int(u32::from(latest)).int(kv_heads).float(scale);
        let tokens = grid(WEIGH_SHARE, if latest { 1 } else { kv_heads }, parts, source::WEIGH_THREADS);
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.retention()?.weigh_tokens, tokens, args) }
    }

    /// Brings the heads of so many parts back to their budgets.
    ///
    /// # Safety
    /// As above.
    #[expect(clippy::too_many_arguments, reason = "the kernels'")]
    pub(in super::super) unsafe fn cut_tokens(
        &self,
        stream: &Stream,
        count: u32,
        method: Method,
        layer: usize,
        notes: &LayerNotes,
        cache: Cache,
        tables: Tables,
        parts: Address,
    ) -> Result<(), CudaError> {
        let kv_heads = self.dims.kv_heads;
        if method.keys {
            let args = Args::new().at(notes.notes).at(cache.keys).at(tables.at).int(tables.width).at(parts);
            let grid = grid(count, kv_heads, 1, source::SCORE_KEYS_THREADS);
            // SAFETY: as the caller vouches.
            unsafe { stream.launch(&self.retention()?.score_keys, grid, args.int(kv_heads))? };
        }
        let args = Args::new().at(notes.positions).at(notes.notes).at(cache.keys).at(cache.values);
        let args = args.at(tables.at).int(tables.width).at(parts).int(kv_heads).int(method.score(layer) as u32);
        let grid = grid(count, kv_heads, 1, source::CUT_TOKENS_THREADS);
        // SAFETY: as the caller vouches.
        unsafe { stream.launch(&self.retention()?.cut_tokens, grid, args) }
    }
}
