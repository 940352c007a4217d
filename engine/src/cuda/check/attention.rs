//! Rotation with the write to the cache, and attention over it.

use overbook_kernels::work::{Before, Chunk, Heads};
use overbook_kernels::{Work, cuda, reference, work};

use super::super::CudaError;
use super::super::stream::{Args, Grid};
use super::rig::{Noise, ROUNDING, Rig, Shape, farthest, relative, widen};
use super::{KernelCheck, Scope};

/// Weights of values are rounded to 16 bits as results are; over a row most of it cancels.
const ATTENTION: f64 = 5e-3;
/// What block tables have behind a sequence's end.
const NO_BLOCK: i32 = i32::MAX;

/// Widths of heads, query heads for a KV head, tokens of a block, KV heads: with and without a power of two.
pub(super) const SHAPES: [(Shape, usize); 6] = [
    (Shape { dim: 128, group: 4, shift: 4 }, 2),
    (Shape { dim: 64, group: 1, shift: 0 }, 3),
    (Shape { dim: 96, group: 7, shift: 3 }, 1),
    (Shape { dim: 32, group: 8, shift: 8 }, 2),
    (Shape { dim: 128, group: 16, shift: 5 }, 1),
    (Shape { dim: 64, group: 7, shift: 4 }, 2),
];

pub(super) fn check(rig: &Rig, scope: Scope, checks: &mut Vec<KernelCheck>) -> Result<(), CudaError> {
    for (shape, kv_heads) in SHAPES.into_iter().take(scope.shapes) {
        if scope.has("rope_write") {
            for (bias, norms) in [(false, false), (true, false), (false, true), (true, true)] {
                checks.push(rope_write(rig, shape, kv_heads, Before { bias, norms })?);
            }
        }
        if scope.has("attend_decode") || scope.has("attend_merge") {
            // A length of 0 is a row that fills up.
            let lengths = [1, 2, 15, 16, 17, 33, 0, 64, 65, 129, 300];
            for splits in [1, 2, 5] {
                checks.push(decode(rig, shape, kv_heads, &lengths, splits)?);
            }
            // All splits have tokens, one has, none has, two have.
            checks.push(decode(rig, shape, kv_heads, &[2100, 3, 0, 70], cuda::ATTEND_SPLITS_MAX as usize)?);
        }
        if scope.has("attend_prefill") {
            checks.push(prefill(rig, shape, kv_heads, &[(0, 1), (0, 129), (37, 17), (200, 128), (63, 2)])?);
            checks.push(prefill(rig, shape, kv_heads, &[(5, 15), (0, 16), (64, 64), (130, 31), (127, 140)])?);
        }
    }
    Ok(())
}

/// Sequences in a cache.
pub(super) struct World {
    pub(super) shape: Shape,
    pub(super) kv_heads: usize,
    pub(super) tables: Vec<i32>,
    pub(super) table_width: usize,
    /// Full of what is no number but where sequences are.
    pub(super) keys: Vec<u16>,
    pub(super) values: Vec<u16>,
}

impl World {
    /// Sequences of some lengths, one in each row of the tables, their blocks all over the cache.
    pub(super) fn new(noise: &mut Noise, shape: Shape, kv_heads: usize, lengths: &[usize]) -> World {
        let block = 1_usize << shape.shift;
        let table_width = lengths.iter().max().map_or(1, |longest| longest.div_ceil(block)).max(1);
        let blocks = lengths.len() * table_width + 3;
        let token = kv_heads * shape.dim as usize;
        let order = noise.order(blocks);
        let mut tables = vec![NO_BLOCK; lengths.len() * table_width];
        let (mut keys, mut values) = (vec![u16::MAX; blocks * block * token], vec![u16::MAX; blocks * block * token]);
        for (row, length) in lengths.iter().enumerate() {
            for at in 0..length.div_ceil(block) {
                tables[row * table_width + at] = order[row * table_width + at];
            }
            for position in 0..*length {
                let slot = tables[row * table_width + position / block] as usize * block + position % block;
                keys[slot * token..][..token].copy_from_slice(&noise.halves(token, 1.0));
                values[slot * token..][..token].copy_from_slice(&noise.halves(token, 1.0));
            }
        }
        World { shape, kv_heads, tables, table_width, keys, values }
    }

    pub(super) fn heads(&self) -> Heads {
        let kv = self.kv_heads as u64;
        Heads { query: kv * u64::from(self.shape.group), kv, dim: u64::from(self.shape.dim) }
    }

    pub(super) fn query_heads(&self) -> usize {
        self.kv_heads * self.shape.group as usize
    }

    /// Numbers of a row of queries, keys and values.
    pub(super) fn width(&self) -> usize {
        (self.query_heads() + 2 * self.kv_heads) * self.shape.dim as usize
    }

    pub(super) fn case(&self, what: &str) -> String {
        let Shape { dim, group, shift } = self.shape;
        format!("{} x {group} heads of {dim}, blocks of {}, {what}", self.kv_heads, 1 << shift)
    }

    pub(super) fn scale(&self) -> f32 {
        (self.shape.dim as f32).sqrt().recip()
    }

    /// What rows of queries attend to.
    fn wanted(&self, qkv: &[u16], positions: &[i32], owners: &[i32]) -> Vec<f32> {
        let (qkv, keys, values) = (widen(qkv), widen(&self.keys), widen(&self.values));
        let chunks = reference::PagedChunks {
            heads: self.query_heads(),
            kv_heads: self.kv_heads,
            head_dim: self.shape.dim as usize,
            block: 1 << self.shape.shift,
            qkv: &qkv,
            keys: &keys,
            values: &values,
            tables: &self.tables,
            table_width: self.table_width,
            positions,
            owners,
            scale: self.scale(),
        };
        chunks.run().unwrap_or_else(|error| panic!("the check itself is wrong: {error}"))
    }

    /// Distance of the worst head of all rows; infinite if a row without a sequence was written.
    fn distance(&self, got: &[u16], wanted: &[f32], owners: &[i32]) -> f64 {
        let dim = self.shape.dim as usize;
        let mut worst = 0.0;
        for (head, (got, wanted)) in got.chunks_exact(dim).zip(wanted.chunks_exact(dim)).enumerate() {
            let error = if owners[head / self.query_heads()] >= 0 {
                relative(got, wanted)
            } else if got.iter().all(|number| *number == u16::MAX) {
                0.0
            } else {
                f64::INFINITY
            };
            // What is no number stays.
            worst = if error <= worst { worst } else { error };
        }
        worst
    }
}

fn rope_write(rig: &Rig, shape: Shape, kv_heads: usize, before: Before) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(7);
    let lengths = [40, 300, 1, 17, 0];
    let world = World::new(&mut noise, shape, kv_heads, &lengths);
    let (heads, width, dim) = (world.query_heads(), world.width(), shape.dim as usize);
    // Two rows of one sequence, and one without; 31 and 255 are the last of their blocks.
    let (slots, owners) = ([31, 0, 16, 299, 255, 7], [0, 2, 3, 1, 1, -1]);
    // One of them is further in its sequence than it has slots.
    let positions = [31, 0, 260, 299, 255, 7];
    let mut qkv = noise.halves(owners.len() * width, 1.0);
    let (bias, query_norm) = (noise.floats(width, 1.0, 0.0), noise.floats(dim, 0.2, 1.0));
    let key_norm = noise.floats(dim, 0.2, 1.0);
    let (sin, cos): (Vec<f32>, Vec<f32>) = (0..300 * dim / 2).map(|_| noise.number().sin_cos()).unzip();
    let epsilon = 1e-5;
    let (mut on_qkv, on_bias) = (rig.array(&qkv)?, rig.array(&bias)?);
    let (on_query_norm, on_key_norm) = (rig.array(&query_norm)?, rig.array(&key_norm)?);
    let (on_cos, on_sin, on_tables) = (rig.array(&cos)?, rig.array(&sin)?, rig.array(&world.tables)?);
    let (on_positions, on_slots, on_owners) = (rig.array(&positions)?, rig.array(&slots)?, rig.array(&owners)?);
    let (mut keys, mut values) = (rig.array(&world.keys)?, rig.array(&world.values)?);
    let given = |given: bool, address| if given { address } else { 0 };
    let args = Args::new().at(on_qkv.at()).at(given(before.bias, on_bias.at()));
    let args = args.at(given(before.norms, on_query_norm.at())).at(given(before.norms, on_key_norm.at()));
    let args = args.at(on_cos.at()).at(on_sin.at()).at(on_positions.at()).at(on_slots.at()).at(on_owners.at());
    let args = args.at(on_tables.at());
    let args = args.int(world.table_width as u32).at(keys.at()).at(values.at());
    let args = args.int(heads as u32).int(kv_heads as u32).float(epsilon);
    let kernel = rig.kernel("rope_write", shape, 0)?;
    let share = cuda::rope_write_share((heads + 2 * kv_heads) as u32, shape.dim);
    let grid = Grid { blocks: [owners.len() as u32, share, 1], threads: cuda::ROPE_WRITE_THREADS, shared: 0 };
    // SAFETY: the arguments of `rope_write`; positions have blocks and angles.
    unsafe { rig.run(&kernel, grid, args)? };
    let launch = reference::RopeWrite {
        heads,
        kv_heads,
        bias: before.bias.then_some(&bias),
        norms: before.norms.then_some((&query_norm, &key_norm)),
        epsilon,
        cos: &cos,
        sin: &sin,
        positions: &positions,
        slots: &slots,
        owners: &owners,
        tables: &world.tables,
        table_width: world.table_width,
        block_shift: shape.shift,
    };
    let (mut rows, mut all_keys, mut all_values) = (widen(&qkv), widen(&world.keys), widen(&world.values));
    launch.run(&mut rows, &mut all_keys, &mut all_values);
    qkv = rig.read(&mut on_qkv)?;
    let caches = [(rig.read(&mut keys)?, all_keys), (rig.read(&mut values)?, all_values)];
    let mut error = farthest(&qkv, &rows, 0.01);
    for (got, wanted) in caches {
        // Slots of nobody are no numbers, before and after.
        let strays = got.iter().zip(&wanted).any(|(got, wanted)| wanted.is_nan() && *got != u16::MAX);
        let (got, wanted): (Vec<u16>, Vec<f32>) =
            got.iter().zip(&wanted).filter(|(_, wanted)| !wanted.is_nan()).unzip();
        let worst = if strays { f64::INFINITY } else { farthest(&got, &wanted, 0.01) };
        error = if worst <= error { error } else { worst };
    }
    let what = format!("bias {}, norms {}", before.bias, before.norms);
    let work = work::rope_write(owners.len() as u64, world.heads(), before);
    Ok(KernelCheck { kernel: "rope_write", case: world.case(&what), error: rig.judge(error), bound: ROUNDING, work })
}

fn decode(
    rig: &Rig,
    shape: Shape,
    kv_heads: usize,
    lengths: &[usize],
    splits: usize,
) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(8);
    let rows = lengths.len();
    // Rows are not in the order of the tables.
    let row_of = |row: usize| row * 3 % rows;
    let mut by_table = vec![0; rows];
    (0..rows).for_each(|row| by_table[row_of(row)] = lengths[row]);
    let world = World::new(&mut noise, shape, kv_heads, &by_table);
    let (heads, dim) = (world.query_heads(), shape.dim as usize);
    let owners: Vec<i32> = (0..rows).map(|row| if lengths[row] == 0 { -1 } else { row_of(row) as i32 }).collect();
    let positions: Vec<i32> = lengths.iter().map(|length| *length as i32 - 1).collect();
    let qkv = noise.halves(rows * world.width(), 2.0);
    let mut out = rig.poison::<u16>(rows * heads * dim)?;
    let mut partial = rig.poison::<f32>(rows * heads * splits * dim)?;
    let mut stats = rig.poison::<f32>(rows * heads * splits * 2)?;
    let (on_qkv, keys, values) = (rig.array(&qkv)?, rig.array(&world.keys)?, rig.array(&world.values)?);
    let (tables, on_positions, on_owners) = (rig.array(&world.tables)?, rig.array(&positions)?, rig.array(&owners)?);
    let args = Args::new().at(out.at()).at(partial.at()).at(stats.at()).at(on_qkv.at()).at(keys.at()).at(values.at());
    let args = args.at(tables.at()).int(world.table_width as u32).at(on_positions.at()).at(on_owners.at());
    let args = args.int(heads as u32).int(kv_heads as u32).int(splits as u32).float(world.scale());
    let shared = cuda::attend_decode_shared(shape.dim);
    let kernel = rig.kernel("attend_decode", shape, shared)?;
    let blocks = [splits as u32, kv_heads as u32, rows as u32];
    // SAFETY: the arguments of `attend_decode`; positions have blocks.
    unsafe { rig.run(&kernel, Grid { blocks, threads: cuda::ATTEND_DECODE_THREADS, shared }, args)? };
    if splits > 1 {
        let kernel = rig.kernel("attend_merge", shape, 0)?;
        let args = Args::new().at(out.at()).at(partial.at()).at(stats.at()).at(on_owners.at());
        let grid = Grid { blocks: [heads as u32, rows as u32, 1], threads: cuda::ATTEND_MERGE_THREADS, shared: 0 };
        // SAFETY: the arguments of `attend_merge`.
        unsafe { rig.run(&kernel, grid, args.int(heads as u32).int(splits as u32))? };
    }
    let wanted = world.wanted(&qkv, &positions, &owners);
    let error = world.distance(&rig.read(&mut out)?, &wanted, &owners);
    // Only for what lies beside them.
    let _ = (rig.read(&mut partial)?, rig.read(&mut stats)?);
    let live = lengths.iter().filter(|length| **length > 0).map(|length| *length as u64);
    let merge = if splits > 1 {
        work::attend_merge(live.clone().count() as u64, world.heads(), splits as u64)
    } else {
        Work::default()
    };
    Ok(KernelCheck {
        kernel: "attend_decode",
        case: world.case(&format!("{rows} rows, {splits} splits")),
        error: rig.judge(error),
        bound: ATTENTION,
        work: work::paged_decode_attention(world.heads(), 2, live) + merge,
    })
}

/// Chunks are of so many positions behind so many.
fn prefill(rig: &Rig, shape: Shape, kv_heads: usize, chunks: &[(usize, usize)]) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(9);
    let lengths: Vec<usize> = chunks.iter().map(|(past, tokens)| past + tokens).collect();
    let world = World::new(&mut noise, shape, kv_heads, &lengths);
    let (heads, dim, tile) = (world.query_heads(), shape.dim as usize, cuda::PREFILL_TILE as usize);
    // Three rows before the chunks belong to others.
    let (mut positions, mut owners, mut tiles) = (vec![0; 3], vec![-1; 3], Vec::new());
    for (owner, (past, tokens)) in chunks.iter().enumerate() {
        for start in (0..*tokens).step_by(tile) {
            let count = tile.min(tokens - start);
            tiles.extend([owners.len() + start, count, owner, past + start].map(|number| number as i32));
        }
        positions.extend((*past..past + tokens).map(|position| position as i32));
        owners.extend(vec![owner as i32; *tokens]);
    }
    // A tile of nothing.
    tiles.extend([-1, 0, -1, -1]);
    let qkv = noise.halves(owners.len() * world.width(), 2.0);
    let mut out = rig.poison::<u16>(owners.len() * heads * dim)?;
    let (on_qkv, keys, values) = (rig.array(&qkv)?, rig.array(&world.keys)?, rig.array(&world.values)?);
    let (tables, on_tiles) = (rig.array(&world.tables)?, rig.array(&tiles)?);
    let args = Args::new().at(out.at()).at(on_qkv.at()).at(keys.at()).at(values.at()).at(tables.at());
    let args = args.int(world.table_width as u32).at(on_tiles.at()).int(heads as u32).int(kv_heads as u32);
    let shared = cuda::attend_prefill_shared(shape.dim);
    let kernel = rig.kernel("attend_prefill", shape, shared)?;
    let blocks = [tiles.len() as u32 / 4, heads as u32, 1];
    let grid = Grid { blocks, threads: cuda::ATTEND_PREFILL_THREADS, shared };
    // SAFETY: the arguments of `attend_prefill`; positions have blocks.
    unsafe { rig.run(&kernel, grid, args.float(world.scale()))? };
    let wanted = world.wanted(&qkv, &positions, &owners);
    let error = world.distance(&rig.read(&mut out)?, &wanted, &owners);
    let chunk = |(past, tokens): &(usize, usize)| Chunk { tokens: *tokens as u64, past: *past as u64 };
    Ok(KernelCheck {
        kernel: "attend_prefill",
        case: world.case(&format!("chunks {chunks:?}")),
        error: rig.judge(error),
        bound: ATTENTION,
        work: work::prefill_attention(world.heads(), 2, chunks.iter().map(chunk)),
    })
}
