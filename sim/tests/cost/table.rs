//! The table form: exact on its lines, affine between them, smoothed where a measurement is noisy.

use overbook_sim::cost::table::{Grid, Table, TableError};
use overbook_sim::cost::{Cost, CostModel, HostCost, PrefillPart, StepShape};

use crate::Draw;

fn decode_grid() -> Grid {
    Grid {
        rows: vec![1, 8, 64],
        columns: vec![128, 1024, 4096],
        device_us: vec![4000.0, 4010.0, 4050.0, 4100.0, 4200.0, 4600.0, 4800.0, 5600.0, 8700.0],
    }
}

fn prefill_grid() -> Grid {
    Grid { rows: vec![64, 512, 2048], columns: vec![0, 4096], device_us: vec![5e3, 5.2e3, 1e4, 1.1e4, 4e4, 4.4e4] }
}

fn table() -> Table {
    Table::new(&decode_grid(), &prefill_grid(), HostCost::ZERO).unwrap()
}

fn decode(table: &mut Table, seqs: u32, context: u64) -> u64 {
    let shape = StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 };
    table.step(&shape).device.0
}

fn prefill_us(table: &mut Table, parts: &[PrefillPart], decode_seqs: u32) -> f64 {
    let decode_context = u64::from(decode_seqs) * 128;
    let shape = StepShape { decode_seqs, decode_context, prefill: parts, prefill_ends: 0 };
    table.step(&shape).device.as_ns_f64() / 1e3
}

#[test]
fn grid_points_come_back_exactly() {
    let (mut table, grid) = (table(), decode_grid());
    for (i, seqs) in grid.rows.iter().enumerate() {
        for (j, context) in grid.columns.iter().enumerate() {
            let got = decode(&mut table, *seqs, u64::from(seqs * context));
            let wanted = Cost::from_us(grid.device_us[i * 3 + j]).0;
            // The last line is met from the left, whose slope is rounded down once per token.
            assert!(wanted - got <= u64::from(seqs * context), "{seqs} {context}");
            assert!(j == 2 || got == wanted);
        }
    }
    assert_eq!(prefill_us(&mut table, &[PrefillPart { tokens: 512, past: 4096 }], 0), 1.1e4);
}

#[test]
fn decode_agrees_with_step_and_names_its_next_line() {
    let (mut table, mut draw) = (table(), Draw(4));
    let mut lines = 0;
    for _ in 0..20_000 {
        let seqs = draw.log(200) as u32;
        let context = u64::from(seqs) * draw.log(10_000);
        let affine = table.decode(seqs, context);
        assert!(context < affine.valid_below);
        assert_eq!(decode(&mut table, seqs, context), affine.base.0 + affine.per_context.0 * context);
        if affine.valid_below != u64::MAX {
            lines += 1;
            let last = affine.valid_below - 1;
            assert_eq!(table.decode(seqs, last), affine);
            assert_ne!(table.decode(seqs, last + 1).valid_below, affine.valid_below);
            assert_eq!(decode(&mut table, seqs, last), affine.base.0 + affine.per_context.0 * last);
        }
        assert!(decode(&mut table, seqs, context) <= decode(&mut table, seqs, context + u64::from(seqs)));
        assert!(decode(&mut table, seqs, context) <= decode(&mut table, seqs + 1, context + 10_000));
    }
    assert!(lines > 1_000, "{lines}");
}

#[test]
fn noise_is_smoothed() {
    let noisy =
        Grid { rows: vec![1, 2], columns: vec![100, 200, 400], device_us: vec![100.0, 90.0, 500.0, 80.0, 95.0, 120.0] };
    let mut table = Table::new(&noisy, &prefill_grid(), HostCost::ZERO).unwrap();
    let us = |table: &mut Table, seqs, context| (decode(table, seqs, context) as f64 / (1 << 20) as f64 / 1e3).round();
    // 90 is lifted to 100, 500 is capped to 90 × 400 / 200, and the second row is lifted to the first.
    assert_eq!([us(&mut table, 1, 100), us(&mut table, 1, 200), us(&mut table, 1, 400)], [100.0, 100.0, 180.0]);
    assert_eq!([us(&mut table, 2, 200), us(&mut table, 2, 400), us(&mut table, 2, 800)], [100.0, 100.0, 180.0]);
}

#[test]
fn outside_the_grid() {
    let mut table = table();
    assert!(decode(&mut table, 128, 128 * 1024) >= 2 * decode(&mut table, 64, 64 * 1024) - 128 * 1024);
    let [near, far] = [4096, 8192].map(|context| decode(&mut table, 1, context) as f64 / (1 << 20) as f64);
    assert!((far - near - 40_000.0 * 4096.0 / 3072.0).abs() < 10.0);
    assert_eq!(prefill_us(&mut table, &[PrefillPart { tokens: 4096, past: 0 }], 0), 8e4);
    assert_eq!(prefill_us(&mut table, &[PrefillPart { tokens: 1, past: 0 }], 0), 5e3);
}

#[test]
fn mixed_steps_stream_the_weights_once() {
    let mut table = table();
    let part = PrefillPart { tokens: 504, past: 0 };
    let alone = prefill_us(&mut table, &[part], 0);
    let mixed = prefill_us(&mut table, &[part], 8);
    assert!(mixed > alone && mixed < alone + 200.0, "{alone} {mixed}");
    // Two prompts of half the length attend to half the pairs.
    let halves = [PrefillPart { tokens: 1024, past: 0 }; 2];
    assert!(prefill_us(&mut table, &halves, 0) <= prefill_us(&mut table, &[PrefillPart { tokens: 2048, past: 0 }], 0));
}

#[test]
fn bad_grids_are_refused() {
    let refuse = |change: fn(&mut Grid)| {
        let mut grid = decode_grid();
        change(&mut grid);
        Table::new(&grid, &prefill_grid(), HostCost::ZERO).unwrap_err()
    };
    assert!(matches!(refuse(|g| g.rows.clear()), TableError::Empty { .. }));
    assert!(matches!(refuse(|g| g.rows[0] = 0), TableError::Order { line: 0, .. }));
    assert!(matches!(refuse(|g| g.columns[2] = 1024), TableError::Order { line: 2, .. }));
    assert!(matches!(refuse(|g| g.device_us.truncate(8)), TableError::Size { got: 8, wanted: 9, .. }));
    assert!(matches!(refuse(|g| g.device_us[3] = -1.0), TableError::Time { index: 3, .. }));
    assert!(matches!(refuse(|g| g.device_us[3] = f64::NAN), TableError::Time { .. }));
}
