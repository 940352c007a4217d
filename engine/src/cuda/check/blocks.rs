//! Block tables and moves of blocks.

use overbook_kernels::{cuda, reference, work};

use super::super::CudaError;
use super::super::stream::{Args, Grid};
use super::rig::{Noise, Rig, Shape, different};
use super::{KernelCheck, Scope};

/// Planes of the cache, and its blocks.
const PLANES: usize = 6;
const BLOCKS: usize = 11;
/// Numbers of a word of 16 bytes.
const WORD: usize = 8;

pub(super) fn check(rig: &Rig, scope: Scope, checks: &mut Vec<KernelCheck>) -> Result<(), CudaError> {
    if scope.has("update_tables") {
        checks.push(update_tables(rig)?);
    }
    if ["copy_blocks", "gather_blocks", "scatter_blocks"].iter().any(|kernel| scope.has(kernel)) {
        for words in [1, 8, 300] {
            moves(rig, words, checks)?;
        }
    }
    Ok(())
}

fn update_tables(rig: &Rig) -> Result<KernelCheck, CudaError> {
    let mut noise = Noise::new(4);
    let (rows, width, filled, count) = (5, 7, 20, 300);
    let mut tables: Vec<i32> = (0..rows * width).map(|_| noise.below(1000) as i32).collect();
    let places = noise.order((rows * width) as usize);
    let change = |at: usize| {
        let place = places[at % places.len()];
        if at < filled { [place / width, place % width, 1000 + at as i32] } else { [-1, -5, -7] }
    };
    let changes: Vec<[i32; 3]> = (0..count).map(change).collect();
    let (mut on_tables, on_changes) = (rig.array(&tables)?, rig.array(&changes.concat())?);
    let args = Args::new().at(on_tables.at()).at(on_changes.at()).int(count as u32).int(width as u32);
    let kernel = rig.kernel("update_tables", Shape::ANY, 0)?;
    let blocks = [(count as u32).div_ceil(cuda::BLOCKS_THREADS), 1, 1];
    // SAFETY: the arguments of `update_tables`, whose changes are inside or of no row.
    unsafe { rig.run(&kernel, Grid { blocks, threads: cuda::BLOCKS_THREADS, shared: 0 }, args)? };
    reference::update_tables(&mut tables, width as usize, &changes);
    Ok(KernelCheck {
        kernel: "update_tables",
        case: format!("{filled} changes of {count}"),
        error: rig.judge(different(&rig.read(&mut on_tables)?, &tables)),
        bound: 0.0,
        work: work::update_tables(count as u64),
    })
}

fn moves(rig: &Rig, words: usize, checks: &mut Vec<KernelCheck>) -> Result<(), CudaError> {
    let mut noise = Noise::new(5);
    let numbers = words * WORD;
    let mut cache = noise.halves(PLANES * BLOCKS * numbers, 1.0);
    let mut on_cache = rig.array(&cache)?;
    let grid =
        |count: usize| Grid { blocks: [count as u32, PLANES as u32, 1], threads: cuda::BLOCKS_THREADS, shared: 0 };
    let sizes = |args: Args| args.int(words as u32).int(BLOCKS as u32);
    let mut push = |kernel, count: usize, error| {
        let case = format!("{count} blocks of {words} words in {PLANES} planes");
        let work = work::move_blocks(count as u64, PLANES as u64, 16 * words as u64);
        checks.push(KernelCheck { kernel, case, error: rig.judge(error), bound: 0.0, work });
    };

    let pairs = [[3, 10], [3, 0], [7, 1]];
    let on_pairs = rig.array(&pairs.concat())?;
    let kernel = rig.kernel("copy_blocks", Shape::ANY, 0)?;
    // SAFETY: the arguments of `copy_blocks`, whose pairs are in the cache.
    unsafe { rig.run(&kernel, grid(pairs.len()), sizes(Args::new().at(on_cache.at()).at(on_pairs.at())))? };
    reference::copy_blocks(&mut cache, &pairs, numbers, BLOCKS);
    push("copy_blocks", pairs.len(), different(&rig.read(&mut on_cache)?, &cache));

    let list = [10, 0, 4];
    let (on_list, mut staging) = (rig.array(&list)?, rig.poison::<u16>(list.len() * PLANES * numbers)?);
    let kernel = rig.kernel("gather_blocks", Shape::ANY, 0)?;
    let args = sizes(Args::new().at(staging.at()).at(on_cache.at()).at(on_list.at()));
    // SAFETY: the arguments of `gather_blocks`, whose list is in the cache.
    unsafe { rig.run(&kernel, grid(list.len()), args)? };
    let gathered = reference::gather_blocks(&cache, &list, numbers, BLOCKS);
    push("gather_blocks", list.len(), different(&rig.read(&mut staging)?, &gathered));

    let mut other = vec![u16::MAX; cache.len()];
    let mut on_other = rig.array(&other)?;
    let kernel = rig.kernel("scatter_blocks", Shape::ANY, 0)?;
    let args = sizes(Args::new().at(on_other.at()).at(staging.at()).at(on_list.at()));
    // SAFETY: the arguments of `scatter_blocks`, whose list is in the cache.
    unsafe { rig.run(&kernel, grid(list.len()), args)? };
    reference::scatter_blocks(&mut other, &gathered, &list, numbers, BLOCKS);
    push("scatter_blocks", list.len(), different(&rig.read(&mut on_other)?, &other));
    Ok(())
}
