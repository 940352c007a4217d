//! Notes, attention that tokens get, scores from keys, and cuts.

use overbook_kernels::cuda::{Note, Part, Score};
use overbook_kernels::reference::{Kept, Network, log_sigmoid};
use overbook_kernels::{cuda, work};
use overbook_sim::counter;

use super::super::CudaError;
use super::super::stream::{Args, Grid};
use super::attention::{SHAPES, World};
use super::rig::{Array, Noise, Rig, Shape, different, widen};
use super::{KernelCheck, Scope};

/// Sums of many numbers in f32, and exponentials: of what is near zero, of this size.
const SUMS: f64 = 2e-4;
/// The same of a network's few numbers.
const NETWORK: f64 = 1e-4;

/// A sequence before a cut: slots before, new tokens, budget, tokens at the start and of the latest that stay.
type Sequence = (i32, i32, i32, i32, i32);

/// One goes, one of few, none, most of a prompt, all that there were before, and few of many.
const CUTS: [Sequence; 8] = [
    (20, 1, 20, 0, 0),
    (16, 1, 16, 2, 3),
    (5, 3, -1, 0, 0),
    (0, 300, 64, 4, 2),
    // More slots are filled anew than are listed at once.
    (600, 700, 600, 0, 0),
    (257, 7, 256, 0, 5),
    (0, 0, -1, 0, 0),
    (70, 0, 33, 1, 1),
];
/// Longer than a block's threads, and shorter; the last fills up.
const HEARD: [Sequence; 4] = [(130, 3, 0, 0, 0), (0, 20, 0, 0, 0), (7, 1, 0, 0, 0), (0, 0, -1, 0, 0)];

pub(super) fn check(rig: &Rig, scope: Scope, checks: &mut Vec<KernelCheck>) -> Result<(), CudaError> {
    for (shape, kv_heads) in SHAPES.into_iter().take(scope.shapes) {
        if scope.has("note_tokens") {
            for note in [Note::Nothing, Note::Random, Note::Norm, Note::Gate, Note::LogGate] {
                checks.push(note_tokens(rig, shape, kv_heads, note)?);
            }
        }
        if scope.has("weigh_queries") || scope.has("weigh_tokens") {
            checks.extend(weigh(rig, shape, kv_heads, false)?);
            checks.extend(weigh(rig, shape, kv_heads, true)?);
        }
        if scope.has("score_keys") {
            checks.push(score_keys(rig, shape, kv_heads)?);
        }
        if scope.has("cut_tokens") {
            for score in [Score::Position, Score::Note, Score::Age] {
                checks.push(cut_tokens(rig, shape, kv_heads, score)?);
            }
        }
    }
    Ok(())
}

/// Sequences whose slots hold tokens in no order, on the host and the device.
struct Case {
    world: World,
    parts: Vec<Part>,
    /// Of slots that are occupied; others hold what is no number.
    positions: Vec<i32>,
    notes: Vec<f32>,
}

impl Case {
    fn new(noise: &mut Noise, shape: Shape, kv_heads: usize, sequences: &[Sequence]) -> Case {
        let lengths: Vec<usize> = sequences.iter().map(|(kept, rows, ..)| (kept + rows) as usize).collect();
        let world = World::new(noise, shape, kv_heads, &lengths);
        let slots = world.keys.len() / shape.dim as usize;
        let (mut positions, mut notes) = (vec![-1; slots], vec![f32::from_bits(u32::MAX); slots]);
        let mut parts = Vec::new();
        let mut first_row = 2;
        for (owner, &(kept, rows, budget, first, latest)) in sequences.iter().enumerate() {
            // More positions than slots came before.
            let past = 2 * kept + 3;
            let live = kept + rows > 0;
            let owner = if live { owner as i32 } else { -1 };
            parts.push(Part { owner, kept, rows, first_row, budget, now: past + rows - 1, first, latest });
            first_row += rows;
            for head in 0..kv_heads {
                let old = noise.order(past as usize);
                let new = past..past + rows;
                for (slot, position) in old.into_iter().take(kept as usize).chain(new).enumerate() {
                    let at = at(&world, owner, slot, head);
                    positions[at] = position;
                    // Few values, so that some are the same; zeros of both signs among them.
                    notes[at] = (noise.below(9) as f32 - 4.0) * if noise.below(2) == 0 { 0.25 } else { -0.25 };
                }
            }
        }
        Case { world, parts, positions, notes }
    }

    /// The case as the reference has it.
    fn kept(&self) -> Kept<'_> {
        let World { shape, kv_heads, tables, table_width, keys, values } = &self.world;
        Kept {
            heads: self.world.query_heads(),
            kv_heads: *kv_heads,
            head_dim: shape.dim as usize,
            block_shift: shape.shift,
            tables,
            table_width: *table_width,
            positions: self.positions.clone(),
            notes: self.notes.clone(),
            keys: widen(keys),
            values: widen(values),
        }
    }

    fn live(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.owner >= 0)
    }

    fn parts(&self, rig: &Rig) -> Result<Array<i32>, CudaError> {
        let words: Vec<i32> = self.parts.iter().flat_map(Part::words).collect();
        rig.array(&words)
    }

    /// Rows of the step: two of nobody, then those of the parts. Owners and slots of each.
    fn rows(&self) -> (Vec<i32>, Vec<i32>) {
        let (mut owners, mut slots) = (vec![-1; 2], vec![0; 2]);
        for part in &self.parts {
            owners.extend(vec![part.owner; part.rows as usize]);
            slots.extend(part.kept..part.kept + part.rows);
        }
        (owners, slots)
    }
}

/// Where a slot has its position and note.
fn at(world: &World, owner: i32, slot: usize, head: usize) -> usize {
    let block = world.tables[owner as usize * world.table_width + (slot >> world.shape.shift)] as usize;
    ((block << world.shape.shift) + slot % (1 << world.shape.shift)) * world.kv_heads + head
}

/// Largest difference of two numbers, relative to the one that is wanted and a little more. What is no number must stay it.
fn apart(got: &[f32], wanted: &[f32], least: f64) -> f64 {
    assert_eq!(got.len(), wanted.len(), "numbers to compare");
    let distance = |(got, wanted): (&f32, &f32)| {
        if got.to_bits() == wanted.to_bits() {
            return 0.0;
        }
        (f64::from(*got) - f64::from(*wanted)).abs() / (f64::from(*wanted).abs() + least)
    };
    got.iter().zip(wanted).map(distance).fold(0.0, |worst, next| if next <= worst { worst } else { next })
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn grid(blocks: [usize; 3], threads: u32) -> Grid {
    Grid { blocks: blocks.map(|count| count as u32), threads, shared: 0 }
}

fn note_tokens(rig: &Rig, shape: Shape, kv_heads: usize, note: Note) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(20);
    let case = Case::new(&mut noise, shape, kv_heads, &[(9, 2, 0, 0, 0), (0, 40, 0, 0, 0), (0, 0, -1, 0, 0)]);
    let (owners, slots) = case.rows();
    let positions: Vec<i32> = (0..owners.len()).map(|_| noise.below(5000) as i32).collect();
    let width = 40;
    let inner = noise.floats(owners.len() * width, 3.0, 0.0);
    let (b1, b2) = (noise.floats(width, 1.0, 0.0), noise.floats(kv_heads, 1.0, 2.0));
    let w2 = noise.floats(kv_heads * width, 0.3, 0.0);
    let draws: Vec<u64> = (0..kv_heads).map(|_| noise.bits()).collect();
    let (mut on_positions, mut on_notes) = (rig.array(&case.positions)?, rig.array(&case.notes)?);
    let (keys, tables) = (rig.array(&case.world.keys)?, rig.array(&case.world.tables)?);
    let (row_positions, row_slots, row_owners) = (rig.array(&positions)?, rig.array(&slots)?, rig.array(&owners)?);
    let (on_draws, on_inner) = (rig.array(&draws)?, rig.array(&inner)?);
    let (on_b1, on_w2, on_b2) = (rig.array(&b1)?, rig.array(&w2)?, rig.array(&b2)?);
    let args = Args::new().at(on_positions.at()).at(on_notes.at()).at(keys.at()).at(tables.at());
    let args = args.int(case.world.table_width as u32).at(row_positions.at()).at(row_slots.at()).at(row_owners.at());
    let args = args.int(kv_heads as u32).int(note as u32).at(on_draws.at()).at(on_inner.at());
    let args = args.at(on_b1.at()).at(on_w2.at()).at(on_b2.at()).int(width as u32);
    let kernel = rig.kernel("note_tokens", shape, 0)?;
    // SAFETY: the arguments of `note_tokens`; slots have blocks.
    unsafe { rig.run(&kernel, grid([owners.len(), 1, 1], cuda::NOTE_TOKENS_THREADS), args)? };
    let mut wanted = case.kept();
    let network = Network { b1: &b1, w2: &w2, b2: &b2 };
    for (row, owner) in owners.iter().enumerate().filter(|(_, owner)| **owner >= 0) {
        let given = network.run(&inner[row * width..][..width]);
        wanted.note(*owner, slots[row] as usize, positions[row], |kept, head, at| match note {
            Note::Nothing => 0.0,
            Note::Random => (counter::draw(draws[head], positions[row] as u64) >> 40) as f32,
            Note::Norm => kept.norm(at),
            Note::Gate => given[head],
            Note::LogGate => log_sigmoid(given[head]),
        });
    }
    let strays = different(&rig.read(&mut on_positions)?, &wanted.positions);
    let error = apart(&rig.read(&mut on_notes)?, &wanted.notes, 1e-2);
    let live = owners.iter().filter(|owner| **owner >= 0).count() as u64;
    let gates = matches!(note, Note::Gate | Note::LogGate);
    let (key, width) = (if note == Note::Norm { shape.dim } else { 0 }, if gates { width as u64 } else { 0 });
    Ok(KernelCheck {
        kernel: "note_tokens",
        case: case.world.case(&format!("{note:?}")),
        error: rig.judge(if strays > 0.0 { f64::INFINITY } else { error }),
        bound: if gates {
            NETWORK
        } else if note == Note::Norm {
            1e-5
        } else {
            0.0
        },
        work: work::note_tokens(live, kv_heads as u64, u64::from(key), width),
    })
}

fn weigh(rig: &Rig, shape: Shape, kv_heads: usize, latest: bool) -> Result<[KernelCheck; 2], CudaError> {
    let mut noise = Noise::new(21);
    let case = Case::new(&mut noise, shape, kv_heads, &HEARD);
    let World { table_width, .. } = case.world;
    let (heads, dim) = (case.world.query_heads(), shape.dim as usize);
    let (owners, slots) = case.rows();
    let qkv = noise.halves(owners.len() * case.world.width(), 1.0);
    let scale = case.world.scale();
    let mut notes = rig.array(&case.notes)?;
    let mut stats = rig.poison::<f32>(owners.len() * heads * 2)?;
    let (on_qkv, keys, tables) = (rig.array(&qkv)?, rig.array(&case.world.keys)?, rig.array(&case.world.tables)?);
    let (row_slots, row_owners, parts) = (rig.array(&slots)?, rig.array(&owners)?, case.parts(rig)?);
    let args = Args::new().at(stats.at()).at(on_qkv.at()).at(keys.at()).at(tables.at()).int(table_width as u32);
    let args = args.at(row_slots.at()).at(row_owners.at()).at(parts.at()).int(u32::from(latest));
    let kernel = rig.kernel("weigh_queries", shape, 0)?;
    let blocks = [if latest { case.parts.len() } else { owners.len() }, kv_heads, 1];
    // SAFETY: the arguments of `weigh_queries`; slots have blocks.
    unsafe { rig.run(&kernel, grid(blocks, cuda::WEIGH_THREADS), args.int(kv_heads as u32).float(scale))? };
    let args = Args::new().at(notes.at()).at(stats.at()).at(on_qkv.at()).at(keys.at()).at(tables.at());
    let args = args.int(table_width as u32).at(parts.at()).int(u32::from(latest)).int(kv_heads as u32).float(scale);
    let kernel = rig.kernel("weigh_tokens", shape, 0)?;
    let blocks = [2, if latest { 1 } else { kv_heads }, case.parts.len()];
    // SAFETY: the arguments of `weigh_tokens`, behind `weigh_queries`.
    unsafe { rig.run(&kernel, grid(blocks, cuda::WEIGH_THREADS), args)? };
    // The sums of what was weighed: rows whose queries were looked at, and no others.
    let mut wanted = case.kept();
    let rows_of = |part: &Part| if latest { part.rows - 1..part.rows } else { 0..part.rows };
    let seen: Vec<usize> =
        case.live().flat_map(|part| rows_of(part).map(|row| (part.first_row + row) as usize)).collect();
    let got = rig.read(&mut stats)?;
    let wide = widen(&qkv);
    let mut error: f64 = 0.0;
    for (row, stats) in got.chunks_exact(heads * 2).enumerate() {
        if !seen.contains(&row) {
            error = if stats.iter().all(|x| x.to_bits() == u32::MAX) { error } else { f64::INFINITY };
            continue;
        }
        let queries = &wide[row * case.world.width()..][..heads * dim];
        let sums = log_sums(&wanted, owners[row], slots[row] as usize + 1, queries, scale);
        let sums_got = stats.chunks_exact(2).map(|pair| f64::from(pair[0]) + f64::from(pair[1]).log2());
        error = sums_got
            .zip(sums)
            .map(|(a, b)| (a - b).abs())
            .fold(error, |worst, next| if next <= worst { worst } else { next });
    }
    let queries = rig.judge(error);
    case.parts.iter().filter(|part| part.owner >= 0).for_each(|part| wanted.weigh(part, &wide, scale, latest));
    let error = apart(&rig.read(&mut notes)?, &wanted.notes, 1e-2);
    let what = case.world.case(if latest { "the last query" } else { "all queries" });
    let pairs = case.live().flat_map(|part| rows_of(part).map(|row| (part.kept + row + 1) as u64)).sum();
    let held: u64 = case.live().map(|part| part.slots() as u64).sum();
    let shape = case.world.heads();
    let check = |kernel, error, out| KernelCheck {
        kernel,
        case: what.clone(),
        error,
        bound: SUMS,
        work: work::weigh(shape, pairs, held, out),
    };
    let sums = 2 * seen.len() as u64 * heads as u64;
    Ok([check("weigh_queries", queries, sums), check("weigh_tokens", rig.judge(error), held * kv_heads as u64)])
}

/// For each query head, log2 of the sum of e to the power of its products.
fn log_sums(kept: &Kept, owner: i32, count: usize, queries: &[f32], scale: f32) -> Vec<f64> {
    let group = kept.heads / kept.kv_heads;
    let of_head = |(head, query): (usize, &[f32])| {
        let product = |slot: usize| {
            let key = &kept.keys[kept.at(owner, slot, head / group) * kept.head_dim..][..kept.head_dim];
            let dot: f64 = key.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            dot * f64::from(scale)
        };
        (0..count).map(|slot| product(slot).exp()).sum::<f64>().log2()
    };
    queries.chunks_exact(kept.head_dim).enumerate().map(of_head).collect()
}

fn score_keys(rig: &Rig, shape: Shape, kv_heads: usize) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(22);
    let case = Case::new(&mut noise, shape, kv_heads, &CUTS);
    let mut notes = rig.array(&case.notes)?;
    let (keys, tables, parts) = (rig.array(&case.world.keys)?, rig.array(&case.world.tables)?, case.parts(rig)?);
    let args = Args::new().at(notes.at()).at(keys.at()).at(tables.at()).int(case.world.table_width as u32);
    let kernel = rig.kernel("score_keys", shape, 0)?;
    let blocks = grid([case.parts.len(), kv_heads, 1], cuda::SCORE_KEYS_THREADS);
    // SAFETY: the arguments of `score_keys`; slots have blocks.
    unsafe { rig.run(&kernel, blocks, args.at(parts.at()).int(kv_heads as u32))? };
    let mut wanted = case.kept();
    let cut: Vec<&Part> = case.live().filter(|part| part.budget >= 0).collect();
    for part in &cut {
        wanted.score_keys(part);
    }
    let slots: u64 = cut.iter().map(|part| part.slots() as u64).sum();
    Ok(KernelCheck {
        kernel: "score_keys",
        case: case.world.case("keys unlike the others"),
        error: rig.judge(apart(&rig.read(&mut notes)?, &wanted.notes, 1.0)),
        bound: 1e-5,
        work: work::score_keys(slots, kv_heads as u64, u64::from(shape.dim)),
    })
}

fn cut_tokens(rig: &Rig, shape: Shape, kv_heads: usize, score: Score) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(23);
    let case = Case::new(&mut noise, shape, kv_heads, &CUTS);
    let (mut positions, mut notes) = (rig.array(&case.positions)?, rig.array(&case.notes)?);
    let (mut keys, mut values) = (rig.array(&case.world.keys)?, rig.array(&case.world.values)?);
    let (tables, parts) = (rig.array(&case.world.tables)?, case.parts(rig)?);
    let args = Args::new().at(positions.at()).at(notes.at()).at(keys.at()).at(values.at()).at(tables.at());
    let args = args.int(case.world.table_width as u32).at(parts.at()).int(kv_heads as u32).int(score as u32);
    let kernel = rig.kernel("cut_tokens", shape, 0)?;
    // SAFETY: the arguments of `cut_tokens`; slots have blocks.
    unsafe { rig.run(&kernel, grid([case.parts.len(), kv_heads, 1], cuda::CUT_TOKENS_THREADS), args)? };
    let mut wanted = case.kept();
    let cut: Vec<&Part> = case.live().filter(|part| part.budget >= 0).collect();
    let moves: usize = cut.iter().map(|part| wanted.cut(part, score)).sum();
    // Nothing is computed but which: not a bit may differ, and what goes stays where it lies.
    let mut error = different(&rig.read(&mut positions)?, &wanted.positions);
    error += different(&bits(&rig.read(&mut notes)?), &bits(&wanted.notes));
    for (got, wanted) in [(rig.read(&mut keys)?, &wanted.keys), (rig.read(&mut values)?, &wanted.values)] {
        error += different(&bits(&widen(&got)), &bits(wanted));
    }
    let slots: u64 = cut.iter().map(|part| part.slots() as u64).sum();
    Ok(KernelCheck {
        kernel: "cut_tokens",
        case: case.world.case(&format!("{score:?}, {moves} moves")),
        error: rig.judge(error),
        bound: 0.0,
        work: work::cut_tokens(slots, kv_heads as u64, moves as u64, u64::from(shape.dim)),
    })
}
