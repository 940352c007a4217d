//! Measured steps as Parquet: what a calibration profile was fitted to.

use std::path::Path;

use overbook_sim::calibrate::steps::StepSample;

use super::table::Table;
use crate::ReportError;
use crate::columns::Column;

const KINDS: [&str; 4] = ["decode", "prefill", "mixed", "skew"];
/// Prefill parts of a step that have columns.
const PARTS: usize = 3;
const COLUMNS: usize = 13;

fn columns() -> [Column; COLUMNS] {
    [
        Column::word("kind", KINDS),
        Column::int("decode_seqs"),
        Column::long("decode_context"),
        Column::int("prefill_ends"),
        Column::int("prefill_tokens_1"),
        Column::int("prefill_past_1"),
        Column::int("prefill_tokens_2"),
        Column::int("prefill_past_2"),
        Column::int("prefill_tokens_3"),
        Column::int("prefill_past_3"),
        Column::long("device_ns"),
        Column::int("spread_ppm"),
        Column::int("repeats"),
    ]
}

/// Writes measured steps, one row each, in the order in which they were measured: shape, median time on the device, spread
/// (interquartile range ÷ median, in millionths), repeats.
///
/// # Errors
/// The file cannot be written.
pub fn write_step_samples(path: &Path, samples: &[StepSample]) -> Result<(), ReportError> {
    let mut table = Table::create(path, columns())?;
    for sample in samples {
        let [kind, seqs, context, ends, parts @ .., device, spread, repeats] = &mut table.columns;
        kind.push_word(KINDS.iter().position(|kind| *kind == sample.kind).unwrap_or_default());
        seqs.push_int(sample.decode_seqs);
        context.push_long(sample.decode_context);
        ends.push_int(sample.prefill_ends);
        for index in 0..PARTS {
            let part = sample.prefill.get(index);
            parts[2 * index].push_int(part.map_or(0, |part| part.tokens));
            parts[2 * index + 1].push_int(part.map_or(0, |part| part.past));
        }
        device.push_long((sample.device_us * 1e3).round() as u64);
        spread.push_int((sample.spread * 1e6).round() as u32);
        repeats.push_int(sample.repeats);
        table.row_is_complete()?;
    }
    table.finish(&[])?;
    Ok(())
}
