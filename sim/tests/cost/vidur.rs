//! Vidur's lookup cost against its own tables and logs.

use overbook_sim::cost::vidur::{Vidur, VidurError};
use overbook_sim::cost::{CostModel, PrefillPart, StepShape};

use overbook_test_groups::in_clone;

use crate::text;

fn file(name: &str) -> String {
    text(&in_clone(&format!("peers/vidur-{name}.csv.zst")))
}

fn vidur() -> Vidur {
    let [ops, decode, prefill] = ["op-token-tables", "attn-decode-table", "attn-prefill-table"].map(file);
    Vidur::from_csv(&ops, &decode, &prefill, 32).unwrap()
}

fn step_ns(cost: &mut Vidur, prefill: &[PrefillPart], decode_seqs: u32, decode_context: u64) -> u64 {
    let shape = StepShape { decode_seqs, decode_context, prefill, prefill_ends: 0 };
    cost.step(&shape).device.as_ns_f64() as u64
}

#[test]
fn one_prompt_alone() {
    let mut cost = vidur();
    assert_eq!(step_ns(&mut cost, &[PrefillPart { tokens: 374, past: 0 }], 0, 0), 27_074_432);
}

/// The grid was written before rounding, the tables after: 32 layers × half a nanosecond (decode) or five (prefill)
/// apart.
#[test]
fn the_cost_grid_comes_back() {
    let (mut cost, grid) = (vidur(), file("cost-grid"));
    let mut exact = 0;
    let rows = grid.lines().skip(1);
    let total = rows.clone().count();
    for row in rows {
        let cells: Vec<f64> = row.split(',').map(|cell| cell.parse().unwrap()).collect();
        let [tokens, past, seqs, mean] = [0, 1, 2, 3].map(|i| cells[i] as u32);
        let part = [PrefillPart { tokens, past }];
        let prefill = if tokens == 0 { &part[..0] } else { &part[..] };
        let got = step_ns(&mut cost, prefill, seqs, u64::from(seqs * mean));
        let wanted = (cells[4] * 1e6).round() as u64;
        let rounding = 17 + if tokens > 0 { 160 } else { 0 };
        assert!(got.abs_diff(wanted) <= rounding, "{row}: {got}");
        exact += usize::from(got.abs_diff(wanted) <= 1);
    }
    eprintln!("vidur cost grid: {total} rows within 0.2 us, {exact} of them within 1 ns");
    assert!(total > 9_000 && exact > 1_500);
}

/// The first request of the log is alone for its first 20 iterations: 374 prompt tokens, then one token at a time.
#[test]
fn the_first_batches_of_the_log_come_back() {
    let (mut cost, log) = (vidur(), file("batches-1k-q4"));
    for (index, row) in log.lines().skip(1).take(20).enumerate() {
        let cells: Vec<f64> = row.split(',').map(|cell| cell.parse().unwrap()).collect();
        let wanted = ((cells[1] - cells[0]) * 1e9).round() as u64;
        let got = match index {
            0 => step_ns(&mut cost, &[PrefillPart { tokens: 374, past: 0 }], 0, 0),
            _ => step_ns(&mut cost, &[], 1, 374 + index as u64),
        };
        assert!(got.abs_diff(wanted) <= 1, "iteration {index}: {got} {wanted}");
    }
}

#[test]
fn decode_is_constant_up_to_its_breakpoint() {
    let mut cost = vidur();
    for seqs in [1u32, 3, 29, 128] {
        let mut context = u64::from(seqs);
        while context < u64::from(seqs) * 5_000 {
            let affine = cost.decode(seqs, context);
            assert_eq!(affine.per_context.0, 0);
            for inside in [context, affine.valid_below - 1] {
                assert_eq!(cost.decode(seqs, inside), affine);
                assert_eq!(step_ns(&mut cost, &[], seqs, inside), affine.base.as_ns_f64() as u64);
            }
            assert!(affine.valid_below > context);
            context = affine.valid_below;
        }
    }
}

#[test]
fn broken_tables_are_refused() {
    let good = ("t,a\n8,0.1\n16,0.2\n", "d,c,ms\n1,0,0.1\n1,64,0.1\n", "p,c,ms\n0,1,0.1\n");
    assert!(Vidur::from_csv(good.0, good.1, good.2, 1).is_ok());
    let error = |ops, decode| Vidur::from_csv(ops, decode, good.2, 1).unwrap_err();
    assert!(matches!(error("t,a\n8,x\n", good.1), VidurError::Row { line: 2, .. }));
    assert!(matches!(error("t,a\n9,0.1\n", good.1), VidurError::Key { key: 9, .. }));
    assert!(matches!(error("t,a\n8,0.1\n24,0.1\n", good.1), VidurError::Missing { .. }));
    assert!(matches!(error("t,a\n", good.1), VidurError::Missing { .. }));
    assert!(matches!(error(good.0, "d,c,ms\n1,0,0.1\n2,64,0.1\n"), VidurError::Missing { .. }));
}
