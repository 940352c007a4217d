//! Tokens drawn on the device beside those that the CPU engine draws.

use overbook_kernels::cuda::{self, Draw};
use overbook_kernels::reference::bf16::rounded;
use overbook_kernels::{reference, work};

use super::super::CudaError;
use super::super::stream::{Args, Grid};
use super::rig::{Noise, Rig, Shape};
use super::{KernelCheck, Scope};
use crate::executor::Sampling;
use crate::sample;

/// How logits lie: spread, wide, rounded to 16 bits (many are equal), all equal, mostly impossible, crowded with outliers; some or
/// all of them no numbers or infinite, as a fault elsewhere would make them.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Spread,
    Wide,
    Rounded,
    Equal,
    Impossible,
    Crowded,
    Broken,
    Lost,
}

const LIES: [Lie; 6] = [Lie::Spread, Lie::Wide, Lie::Rounded, Lie::Equal, Lie::Impossible, Lie::Crowded];

pub(super) fn check(rig: &Rig, scope: Scope, checks: &mut Vec<KernelCheck>) -> Result<(), CudaError> {
    if !scope.has("sample") {
        return Ok(());
    }
    for vocab in [1, 7, 1023, 2050, 5000, 32_000] {
        for lie in LIES {
            checks.push(draw(rig, vocab, lie, 8)?);
        }
    }
    for vocab in [1, 7, 2050, 5000] {
        checks.push(draw(rig, vocab, Lie::Broken, 24)?);
        checks.push(draw(rig, vocab, Lie::Lost, 12)?);
    }
    checks.push(draw(rig, 131_071, Lie::Spread, 2)?);
    checks.push(draw(rig, 262_144, Lie::Rounded, 2)?);
    Ok(())
}

fn logit(noise: &mut Noise, lie: Lie) -> f32 {
    let number = noise.number();
    match lie {
        Lie::Spread => number,
        Lie::Wide => 6.0 * number,
        Lie::Rounded => rounded(3.0 * number),
        Lie::Equal => 1.25,
        Lie::Impossible => {
            if noise.below(3) == 0 {
                noise.below(3) as f32
            } else {
                f32::NEG_INFINITY
            }
        }
        Lie::Crowded => match noise.below(100) {
            0 => 50.0 + number,
            1 => -1e4,
            _ => 1e-3 * number,
        },
        Lie::Broken => match noise.below(8) {
            0 | 1 => f32::NAN,
            2 => -f32::NAN,
            3 => f32::NEG_INFINITY,
            4 if noise.below(500) == 0 => f32::INFINITY,
            _ => number,
        },
        Lie::Lost => f32::NAN,
    }
}

/// How one row is drawn, and what is banned for it.
fn way(noise: &mut Noise, logits: &[f32], bans: &mut Vec<u32>) -> Draw {
    let vocab = logits.len();
    let start = bans.len();
    if vocab > 20 {
        for at in 0..noise.below(6) {
            // The likeliest first: a ban must be seen.
            let likeliest = || (0..vocab).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0);
            bans.push(if at == 0 { likeliest() } else { noise.below(vocab) } as u32);
        }
    }
    Draw {
        temperature: [0.0, 1.0, 0.3, 1.0, 100.0, 1.0][noise.below(6)],
        top_k: [0, 1, 40, vocab as u32 / 2, vocab as u32 + 5, 1500][noise.below(6)],
        top_p: [1.0, 1.0, 0.9, 0.5, 1e-9, 0.999][noise.below(6)],
        position: if noise.below(6) == 0 { cuda::PADDING } else { noise.below(5000) as u32 },
        seed: noise.bits(),
        bans_start: start as u32,
        bans_len: (bans.len() - start) as u32,
    }
}

fn draw(rig: &Rig, vocab: usize, lie: Lie, rows: usize) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(6 + vocab as u64);
    let (mut logits, mut bans, mut draws) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        let row: Vec<f32> = (0..vocab).map(|_| logit(&mut noise, lie)).collect();
        draws.push(way(&mut noise, &row, &mut bans));
        logits.extend(row);
    }
    // A list of nothing has an address all the same.
    bans.push(0);
    let (mut drawn, mut on_logits) = (rig.poison::<i32>(rows)?, rig.array(&logits)?);
    let bytes: Vec<u8> = draws.iter().flat_map(Draw::to_bytes).collect();
    let (on_draws, on_bans) = (rig.array(&bytes)?, rig.array(&bans)?);
    let args = Args::new().at(drawn.at()).at(on_logits.at()).at(on_draws.at()).at(on_bans.at()).int(vocab as u32);
    let kernel = rig.kernel("sample", Shape::ANY, 0)?;
    let grid = Grid { blocks: [rows as u32, 1, 1], threads: cuda::SAMPLE_THREADS, shared: 0 };
    // SAFETY: the arguments of `sample`, whose banned tokens are in the vocabulary.
    unsafe { rig.run(&kernel, grid, args)? };
    let tokens = rig.read(&mut drawn)?;
    let mut error: f64 = 0.0;
    for ((row, draw), token) in logits.chunks_exact_mut(vocab).zip(&draws).zip(tokens) {
        error = error.max(match lie {
            Lie::Broken | Lie::Lost => broken_distance(row, draw, &bans, token),
            _ => distance(row, draw, &bans, token),
        });
    }
    let same = rig.read(&mut on_logits)?.iter().zip(&logits).all(|(got, wanted)| got.to_bits() == wanted.to_bits());
    Ok(KernelCheck {
        kernel: "sample",
        case: format!("{rows} rows of {vocab}, {lie:?}"),
        error: rig.judge(if same { error } else { f64::INFINITY }),
        bound: vocab as f64 * f64::exp2(-45.0),
        work: work::sample(rows as u64, vocab as u64),
    })
}

/// 0 where the token is one of the vocabulary, and the first of the largest where the draw takes that; no number is none to be
/// larger than. Bans the row's tokens.
fn broken_distance(row: &mut [f32], draw: &Draw, bans: &[u32], token: i32) -> f64 {
    if draw.position == cuda::PADDING {
        return if token == -1 { 0.0 } else { f64::INFINITY };
    }
    for token in &bans[draw.bans_start as usize..][..draw.bans_len as usize] {
        row[*token as usize] = f32::NEG_INFINITY;
    }
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Where there is none, the first of all.
    let first = row.iter().position(|logit| *logit >= largest && largest > f32::NEG_INFINITY).unwrap_or(0);
    let right = if draw.temperature == 0.0 { token == first as i32 } else { (0..row.len() as i32).contains(&token) };
    if right { 0.0 } else { f64::INFINITY }
}

/// How far the draw would have to move to give this token, as far as is known; 0 where it is the CPU's. Bans the row's tokens.
fn distance(row: &mut [f32], draw: &Draw, bans: &[u32], token: i32) -> f64 {
    if draw.position == cuda::PADDING {
        return if token == -1 { 0.0 } else { f64::INFINITY };
    }
    let own = &bans[draw.bans_start as usize..][..draw.bans_len as usize];
    for token in own {
        row[*token as usize] = f32::NEG_INFINITY;
    }
    let Draw { temperature, top_k, top_p, seed, .. } = *draw;
    let wanted = sample::sample(row, &Sampling { temperature, top_k, top_p, seed }, draw.position);
    let Some(reference) = reference::sample(row, draw, &[]) else { return f64::INFINITY };
    // Another token than the CPU's is right where the draw falls on a border.
    let different = |token: i64| if token == i64::from(wanted) { 0.0 } else { reference.margin };
    different(i64::from(token)).max(different(i64::from(reference.token)))
}
