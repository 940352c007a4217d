//! Steps in bytes, and rows of block tables.

use super::*;
use crate::executor::{Bans, Batch, Begin, Capacity, Sampling};

#[test]
fn a_batch_is_cut_where_the_device_is_full() {
    let part = |seat, past, tokens, samples| Sequence { seat, past, tokens, samples };
    let batch = [part(0, 5, 1, true), part(1, 0, 10, true), part(2, 3, 2, true)];
    assert_eq!(pieces(&batch, 13), [batch.to_vec()]);
    let cut = [
        vec![part(0, 5, 1, true), part(1, 0, 3, false)],
        vec![part(1, 3, 4, false)],
        vec![part(1, 7, 3, true), part(2, 3, 1, false)],
        vec![part(2, 4, 1, true)],
    ];
    assert_eq!(pieces(&batch, 4), cut);
}

#[test]
fn decodes_come_first_and_tokens_that_are_out_are_referred_to() {
    let capacity = Capacity::unbounded(64, 16, 512, 1000);
    let mut histories = Histories::new(capacity);
    let begin = |seat, len: u32| Begin {
        seat,
        prompt: (0..len).collect(),
        sampling: Sampling { seed: 7, ..Sampling::GREEDY },
        bans: Bans { tokens: vec![9, 8], until: if seat == 1 { 300 } else { 0 } },
    };
    let change =
        |seat: u32, blocks: u32| TableChange { seat, from: 0, blocks: (0..blocks).map(|b| b + seat).collect() };
    let batch = Batch {
        begins: vec![begin(0, 200), begin(1, 3)],
        tables: vec![change(0, 13), change(1, 1)],
        ..Batch::default()
    };
    histories.update(&[], batch.begins, &batch.tables).expect("legal");
    let mut owners = Owners::new(2);
    // Seat 1 has drawn the token of position 3 in step 6, which is out; seat 0 computes 140 positions of its prompt.
    let mut drawn = Drawn::default();
    let before = [Sequence { seat: 1, past: 2, tokens: 1, samples: true }];
    drawn.note(6, histories.draw(&before[0]).expect("known").0, 4);
    let sequences = [
        Sequence { seat: 0, past: 10, tokens: 140, samples: false },
        Sequence { seat: 1, past: 3, tokens: 1, samples: true },
    ];
    let changes = owners.follow(&batch.tables, &sequences, &histories).expect("rows are free");
    assert_eq!((changes.len(), changes[13]), (14, [1, 0, 1]));
    let landings = sequences.each_ref().map(Landing::whole);
    let step = Step::new(&sequences, &landings, &histories);
    let counts = Counts { rows: 141, decodes: 1, prompts: 1, tiles: 2, draws: 1 };
    assert_eq!((step.counts, step.bans, step.is_decode()), (counts, 2, false));
    let layout = Layout::new(counts, step.bans, false);
    let mut bytes = vec![0xff; layout.bytes(0)];
    step.write(&mut bytes, counts, &layout, &histories, &owners, (&drawn, 6)).expect("all inputs are known");
    let word =
        |at: usize, index: usize| i32::from_le_bytes(bytes[at + 4 * index..][..4].try_into().expect("four bytes"));
    assert_eq!((word(layout.inputs, 0), word(layout.positions, 0), word(layout.owners, 0)), (-1 - 4, 3, 1));
    assert_eq!((word(layout.inputs, 1), word(layout.positions, 1), word(layout.owners, 1)), (10, 10, 0));
    let tile = |tile: usize| [0, 1, 2, 3].map(|at| word(layout.tiles, 4 * tile + at));
    assert_eq!((tile(0), tile(1)), ([1, 128, 0, 10], [129, 12, 0, 138]));
    assert_eq!((word(layout.picks, 0), word(layout.bans, 0), word(layout.bans, 1)), (0, 9, 8));
    let late = step.write(&mut bytes, counts, &layout, &histories, &owners, (&drawn, 7));
    assert_eq!(late.expect_err("not in that step").to_string(), "sequence in seat 1 lacks the input of a position");
}
#[test]
fn rows_are_shared_by_more_sequences_than_there_are() {
    let mut histories = Histories::new(Capacity::unbounded(64, 16, 512, 100));
    let begin = |seat| Begin { seat, prompt: vec![1; 20], sampling: Sampling::GREEDY, bans: Bans::default() };
    let change = |seat: u32, from: u32, blocks: &[u32]| TableChange { seat, from, blocks: blocks.to_vec() };
    let tables = [change(0, 0, &[5, 6]), change(1, 0, &[7]), change(2, 0, &[8])];
    histories.update(&[], vec![begin(0), begin(1), begin(2)], &tables).expect("legal");
    let mut owners = Owners::new(2);
    let part = |seat| Sequence { seat, past: 0, tokens: 1, samples: true };
    let news = owners.follow(&tables, &[part(0), part(1)], &histories);
    assert_eq!(news.expect("two rows"), [[0, 0, 5], [0, 1, 6], [1, 0, 7]]);
    // Seat 0 gives up its row, and gets another one and its whole table when it is computed again.
    assert_eq!(owners.follow(&[], &[part(2), part(1)], &histories).expect("a row"), [[0, 0, 8]]);
    assert_eq!(owners.follow(&[], &[part(0)], &histories).expect("a row"), [[1, 0, 5], [1, 1, 6]]);
    // What changes in a table is told once; one that is gone is told anew.
    let more = [change(0, 1, &[9, 10])];
    histories.update(&[], Vec::new(), &more).expect("legal");
    assert_eq!(owners.follow(&more, &[part(0)], &histories).expect("its row"), [[1, 1, 9], [1, 2, 10]]);
    let gone = [change(0, 0, &[]), change(0, 0, &[3])];
    histories.update(&[], Vec::new(), &gone).expect("legal");
    assert_eq!(owners.follow(&gone, &[part(0)], &histories).expect("a row"), [[1, 0, 3]]);
    assert!(owners.follow(&[], &[part(0), part(1), part(2)], &histories).is_err(), "two rows");
}
