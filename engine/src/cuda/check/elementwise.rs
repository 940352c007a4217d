//! Embedding, norms, gates.

use overbook_kernels::{cuda, reference, work};

use super::super::CudaError;
use super::super::stream::{Args, Grid};
use super::rig::{Noise, ROUNDING, Rig, Shape, different, farthest, narrow, widen};
use super::{KernelCheck, Scope};

pub(super) fn check(rig: &Rig, scope: Scope, checks: &mut Vec<KernelCheck>) -> Result<(), CudaError> {
    if scope.has("embed") {
        for (rows, width) in [(1, 8), (17, 1032), (129, 64)] {
            checks.push(embed(rig, rows, width)?);
        }
    }
    if scope.has("add_norm") {
        for (rows, width) in [(1, 8), (15, 64), (3, 2040), (2, 4096), (1, 16384)] {
            for (delta, pick) in [(false, false), (true, false), (false, true), (true, true)] {
                for known in [false, true] {
                    checks.push(add_norm(rig, (rows, width), delta, pick, known)?);
                }
            }
        }
    }
    if scope.has("silu_mul") {
        for (rows, inner, share) in [(1, 8, 1), (16, 24, 2), (3, 5000, 1), (1, 5000, 3)] {
            checks.push(silu_mul(rig, rows, inner, share)?);
        }
    }
    Ok(())
}

fn line(rows: usize, threads: u32) -> Grid {
    Grid { blocks: [rows as u32, 1, 1], threads, shared: 0 }
}

fn embed(rig: &Rig, rows: usize, width: usize) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(1);
    let table = noise.halves(50 * width, 1.0);
    let inputs: Vec<i32> = (0..rows)
        .map(|_| if noise.below(2) == 0 { noise.below(50) as i32 } else { -1 - noise.below(4) as i32 })
        .collect();
    let drawn: Vec<i32> = (0..4).map(|_| noise.below(50) as i32).collect();
    let mut x = rig.poison::<u16>(rows * width)?;
    let (on_table, on_inputs, on_drawn) = (rig.array(&table)?, rig.array(&inputs)?, rig.array(&drawn)?);
    let args = Args::new().at(x.at()).at(on_table.at()).at(on_inputs.at()).at(on_drawn.at()).int(width as u32);
    let kernel = rig.kernel("embed", Shape::ANY, 0)?;
    // SAFETY: the arguments of `embed`, whose tokens are all in the table.
    unsafe { rig.run(&kernel, line(rows, cuda::EMBED_THREADS), args)? };
    let wanted = reference::embed(&table, width, &inputs, &drawn);
    Ok(KernelCheck {
        kernel: "embed",
        case: format!("{rows} rows of {width}"),
        error: rig.judge(different(&rig.read(&mut x)?, &wanted)),
        bound: 0.0,
        work: work::embed(rows as u64, width as u64),
    })
}

/// `known`: the kernel is compiled for the width.
fn add_norm(
    rig: &Rig,
    (rows, width): (usize, usize),
    adds: bool,
    picks: bool,
    known: bool,
) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(2);
    let epsilon = 1e-5;
    // Two rows more than are asked for.
    let (x, delta) = (noise.halves((rows + 2) * width, 1.0), noise.halves((rows + 2) * width, 0.5));
    let weight = noise.floats(width, 0.2, 1.0);
    let mut pick: Vec<i32> = (0..rows).map(|_| noise.below(rows + 2) as i32).collect();
    if rows > 1 {
        pick[1] = -1;
    }
    let (mut on_x, on_delta, on_weight) = (rig.array(&x)?, rig.array(&delta)?, rig.array(&weight)?);
    let (mut out, on_pick) = (rig.poison::<u16>(rows * width)?, rig.array(&pick)?);
    let args = Args::new().at(on_x.at()).at(if adds { on_delta.at() } else { 0 }).at(on_weight.at()).at(out.at());
    let args = args.at(if picks { on_pick.at() } else { 0 }).int(width as u32).float(epsilon);
    let kernel = rig.kernel_for("add_norm", Shape::ANY, 0, known.then_some(width as u32))?;
    // SAFETY: the arguments of `add_norm`; picked rows are rows of the stream.
    unsafe { rig.run(&kernel, line(rows, cuda::ADD_NORM_THREADS), args)? };
    let (mut stream, delta) = (widen(&x), widen(&delta));
    let pick = picks.then_some(&pick[..]);
    let wanted = reference::add_norm(&mut stream, adds.then_some(&delta[..]), &weight, pick, rows, epsilon);
    let stays = different(&rig.read(&mut on_x)?, &narrow(&stream));
    let error = farthest(&rig.read(&mut out)?, &wanted, 1e-3);
    let more = format!("{}{}", if picks { ", picked" } else { "" }, if known { ", compiled for them" } else { "" });
    Ok(KernelCheck {
        kernel: "add_norm",
        case: format!("{rows} rows of {width}{}{more}", if adds { ", a sum" } else { "" }),
        error: rig.judge(if stays > 0.0 { f64::INFINITY } else { error }),
        bound: ROUNDING,
        work: work::add_norm(rows as u64, width as u64, adds),
    })
}

fn silu_mul(rig: &Rig, rows: usize, inner: usize, share: u32) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(3);
    let mut gate_up = noise.halves(2 * rows * inner, 4.0);
    gate_up[..2].copy_from_slice(&narrow(&[-100.0, 100.0]));
    let (mut out, on_gate_up) = (rig.poison::<u16>(rows * inner)?, rig.array(&gate_up)?);
    let args = Args::new().at(out.at()).at(on_gate_up.at()).int(inner as u32);
    let kernel = rig.kernel("silu_mul", Shape::ANY, 0)?;
    let grid = Grid { blocks: [rows as u32, share, 1], threads: cuda::SILU_MUL_THREADS, shared: 0 };
    // SAFETY: the arguments of `silu_mul`.
    unsafe { rig.run(&kernel, grid, args)? };
    let wanted = reference::silu_mul(&widen(&gate_up), inner);
    Ok(KernelCheck {
        kernel: "silu_mul",
        case: format!("{rows} rows of {inner}, {share} blocks each"),
        error: rig.judge(farthest(&rig.read(&mut out)?, &wanted, 1e-6)),
        bound: ROUNDING,
        work: work::silu_mul(rows as u64, inner as u64),
    })
}
