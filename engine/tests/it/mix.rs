//! One small run that meets what kernels and steps can get wrong: prompts whose lengths lie around the edges of tiles and blocks,
//! whole and in chunks, beside decodes, in scattered blocks, with two steps out and then with one.

use overbook_engine::executor::{Bans, Batch, Begin, Capacity, Executor, Lanes, Sampling, Sequence, TableChange};

/// A sequence: the step in which it begins, the chunks of its prompt, and how its tokens are drawn.
struct Member {
    start: u32,
    chunks: &'static [u32],
    sampling: Sampling,
}

const DRAWN: Sampling = Sampling { temperature: 1.0, seed: 11, ..Sampling::GREEDY };

/// Blocks have 16 tokens or another power of two, tiles of prompts 64 tokens and 128 queries, tiles of decodes 16 tokens.
const MEMBERS: [Member; 5] = [
    Member { start: 0, chunks: &[17], sampling: Sampling::GREEDY },
    // Two tiles of queries, the second with two; then a decode over several splits.
    Member { start: 0, chunks: &[130], sampling: Sampling::GREEDY },
    // Decodes go over the edge of a tile and of a block.
    Member { start: 1, chunks: &[63], sampling: Sampling::GREEDY },
    Member { start: 1, chunks: &[41, 1, 54], sampling: Sampling::GREEDY },
    Member { start: 3, chunks: &[15], sampling: DRAWN },
];

/// Sequences that run.
pub(crate) const SEQUENCES: u32 = MEMBERS.len() as u32;
/// From the fifth on they are nothing but decodes.
const STEPS: u32 = 10;
/// From this step on each is alone: nothing that came before gives the copy of a step time to be early.
const ALONE: u32 = 7;
/// Longest sequence [tokens].
const LONGEST: u32 = 160;

/// Room for the run, with blocks of so many tokens.
pub(crate) fn capacity(vocab: usize, block_tokens: u32) -> Capacity {
    Capacity {
        blocks: SEQUENCES * LONGEST.div_ceil(block_tokens),
        block_tokens,
        max_model_len: LONGEST,
        vocab: vocab as u32,
        step_tokens: 160,
        sequences: SEQUENCES,
        lanes: Lanes::One,
        host_blocks: 0,
    }
}

/// The block of a sequence in which some of its tokens lie: neighbours of a sequence are no neighbours in the cache.
fn block(capacity: &Capacity, seat: u32, index: u32) -> u32 {
    let own = capacity.blocks / SEQUENCES;
    let place = (seat * own + index) * 7;
    // Each once: 7 divides no number of blocks that the tests have.
    assert!(!capacity.blocks.is_multiple_of(7));
    (place + 3) % capacity.blocks
}

/// Positions before a step and in it, and whether the step draws. None: the sequence has not begun.
fn part(member: &Member, step: u32) -> Option<(u32, u32, bool)> {
    let at = step.checked_sub(member.start)? as usize;
    let past = member.chunks[..at.min(member.chunks.len())].iter().sum();
    match member.chunks.get(at) {
        Some(tokens) => Some((past, *tokens, at + 1 == member.chunks.len())),
        None => Some((past + (at - member.chunks.len()) as u32, 1, true)),
    }
}

fn batch(capacity: &Capacity, step: u32, vocab: u32) -> Batch {
    let mut batch = Batch::default();
    for (seat, member) in (0..).zip(&MEMBERS) {
        let Some((past, tokens, samples)) = part(member, step) else { continue };
        if past == 0 {
            let len = member.chunks.iter().sum();
            let prompt = (0..len).map(|i: u32| (i * i * 7 + i * 31 + seat * 57 + 3) % vocab).collect();
            batch.begins.push(Begin { seat, prompt, sampling: member.sampling, bans: Bans::default() });
        }
        let (from, to) = (past.div_ceil(capacity.block_tokens), (past + tokens).div_ceil(capacity.block_tokens));
        if from < to {
            let blocks = (from..to).map(|index| block(capacity, seat, index)).collect();
            batch.tables.push(TableChange { seat, from, blocks });
        }
        batch.sequences.push(Sequence { seat, past, tokens, samples });
    }
    batch
}

/// The tokens drawn in each step, with their sequences.
pub(crate) fn run(executor: &mut dyn Executor) -> Vec<Vec<(u32, u32)>> {
    let capacity = executor.capacity();
    let mut drawn = Vec::new();
    let mut out = 0;
    for step in 0..STEPS {
        executor.submit(0, batch(&capacity, step, capacity.vocab)).expect("submits");
        out += 1;
        let most = u32::from(step + 1 < ALONE);
        while out > most {
            drawn.push(executor.wait(0).expect("computes").tokens);
            out -= 1;
        }
    }
    drawn
}

/// Whether a sequence draws the likeliest tokens.
pub(crate) fn is_greedy(seat: u32) -> bool {
    MEMBERS[seat as usize].sampling == Sampling::GREEDY
}
