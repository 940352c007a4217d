//! Fits of whole steps: what an engine took for steps of known shape, and the forms that say so.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::median;
use super::nnls::nnls;
use crate::cost::steps::{Slope, StepForm, Steps, prefill_pairs};
use crate::cost::table::{Grid, Table, TableError};
use crate::cost::{CostModel, HostCost, PrefillPart, StepShape};

/// A measured step.
#[derive(Clone, PartialEq, Debug)]
pub struct StepSample {
    /// Which part of the plan it belongs to: `decode`, `prefill`, `mixed`, `skew`, `anchor`.
    pub kind: &'static str,
    /// Sequences that decode.
    pub decode_seqs: u32,
    /// KV tokens they attend to.
    pub decode_context: u64,
    /// Prefill parts.
    pub prefill: Vec<PrefillPart>,
    /// Prefills that end.
    pub prefill_ends: u32,
    /// Median time on the device [µs].
    pub device_us: f64,
    /// Spread of its repeats: interquartile range ÷ median.
    pub spread: f64,
    /// Repeats.
    pub repeats: u32,
}

impl StepSample {
    /// Its shape.
    pub fn shape(&self) -> StepShape<'_> {
        StepShape {
            decode_seqs: self.decode_seqs,
            decode_context: self.decode_context,
            prefill: &self.prefill,
            prefill_ends: self.prefill_ends,
        }
    }
}

/// The median over the samples of the spread of their repeats: smaller differences are not significant.
pub fn noise(samples: &[StepSample]) -> f64 {
    median(&mut samples.iter().map(|sample| sample.spread).collect::<Vec<f64>>())
}

/// Errors of predicted step times.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepErrors {
    /// Which steps.
    pub of: String,
    /// How many.
    pub steps: u64,
    /// Mean of `|predicted / measured − 1|` [%].
    pub mape_percent: f64,
    /// 95th percentile of the same [%], nearest rank.
    pub p95_percent: f64,
    /// `Σ predicted / Σ measured − 1` [%].
    pub bias_percent: f64,
}

impl StepErrors {
    /// Errors of pairs (predicted, measured) in any one unit.
    pub fn new(of: &str, pairs: &[(f64, f64)]) -> Self {
        let mut errors: Vec<f64> = pairs.iter().map(|(p, m)| (p / m - 1.0).abs() * 100.0).collect();
        errors.sort_by(f64::total_cmp);
        let count = errors.len().max(1);
        let rank = ((count as f64 * 0.95).ceil() as usize).clamp(1, count) - 1;
        let (predicted, measured) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        StepErrors {
            of: of.to_owned(),
            steps: errors.len() as u64,
            mape_percent: errors.iter().sum::<f64>() / count as f64,
            p95_percent: errors.get(rank).copied().unwrap_or(0.0),
            bias_percent: if measured > 0.0 { (predicted / measured - 1.0) * 100.0 } else { 0.0 },
        }
    }
}

/// Every how many-th sample is held out.
const HELD_OUT: usize = 5;

/// Where slopes begin, as far as there are steps of so many tokens. The first token is part of every step.
const KNOTS: [u32; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// The form with the slopes that the samples identify, all zero.
pub(super) fn empty_form<'a>(samples: impl Iterator<Item = &'a StepSample>) -> StepForm {
    let most = samples.map(|sample| sample.shape().tokens()).max().unwrap_or(0);
    let knots = KNOTS.iter().filter(|&&knot| u64::from(knot) < most.max(1));
    StepForm { tokens: knots.map(|&from| Slope { from, us: 0.0 }).collect(), ..StepForm::default() }
}

/// What the form's coefficients are multiplied by, for a sample whose time is one: a step of a millisecond counts as much as
/// one of a second.
pub(super) fn row(form: &StepForm, sample: &StepSample) -> Vec<f64> {
    let shape = sample.shape();
    let rows = f64::from(shape.decode_seqs + shape.prefill_ends);
    let mut row = vec![
        1.0,
        rows,
        shape.prefill.len() as f64,
        shape.decode_context as f64 * 1e-3,
        prefill_pairs(&shape) as f64 * 1e-3,
    ];
    row.extend(form.segments(shape.tokens()).map(|n| n as f64));
    for value in &mut row {
        *value /= sample.device_us;
    }
    row
}

/// Fits a form to samples by relative least squares.
pub fn fit_form<'a>(samples: impl Iterator<Item = &'a StepSample> + Clone) -> StepForm {
    let empty = empty_form(samples.clone());
    let rows: Vec<Vec<f64>> = samples.map(|sample| row(&empty, sample)).collect();
    let found = nnls(&rows, &vec![1.0; rows.len()]);
    let mut form = empty;
    if let [step, row, chunk, kv, pair, slopes @ ..] = found.as_slice() {
        (form.step_us, form.row_us, form.chunk_us, form.kv_ns, form.pair_ns) = (*step, *row, *chunk, *kv, *pair);
        form.tokens.iter_mut().zip(slopes).for_each(|(slope, us)| slope.us = *us);
    }
    form
}

/// The form fitted to all samples, and its errors on every fifth of each kind when fitted without them.
pub fn fit_steps(samples: &[StepSample]) -> (StepForm, Vec<StepErrors>) {
    let held = |index: usize| index % HELD_OUT == HELD_OUT - 1;
    let kept = samples.iter().enumerate().filter(|(index, _)| !held(*index)).map(|(_, sample)| sample);
    let mut model = Steps::new(fit_form(kept), HostCost::ZERO);
    let left = samples.iter().enumerate().filter(|(index, _)| held(*index)).map(|(_, sample)| sample);
    (fit_form(samples.iter()), errors_by_kind(left, &mut model))
}

/// Errors of a model on samples, by kind and over all.
pub fn errors_by_kind<'a>(samples: impl Iterator<Item = &'a StepSample>, model: &mut dyn CostModel) -> Vec<StepErrors> {
    let mut kinds: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    let mut all = Vec::new();
    for sample in samples {
        let pair = (model.step(&sample.shape()).device.as_ns_f64() / 1e3, sample.device_us);
        kinds.entry(sample.kind).or_default().push(pair);
        all.push(pair);
    }
    let mut errors: Vec<StepErrors> = kinds.iter().map(|(kind, pairs)| StepErrors::new(kind, pairs)).collect();
    errors.push(StepErrors::new("all", &all));
    errors
}

/// The grids of a table: decode by sequences and mean context, prefill of one sequence by tokens and past. Corners that the
/// pool or the longest sequence has no room for go on as the row's last two points do.
///
/// # Errors
/// There are no samples of one of the two.
pub fn grids(samples: &[StepSample]) -> Result<(Grid, Grid), TableError> {
    let decode = samples.iter().filter(|sample| sample.kind == "decode").map(|sample| {
        let mean = sample.decode_context / u64::from(sample.decode_seqs.max(1));
        ((sample.decode_seqs, mean as u32), sample.device_us)
    });
    let prefill = samples.iter().filter(|sample| sample.kind == "prefill" && sample.prefill.len() == 1);
    let prefill = prefill.map(|sample| ((sample.prefill[0].tokens, sample.prefill[0].past), sample.device_us));
    let (decode, prefill) = (grid(decode), grid(prefill));
    decode.check("decode")?;
    prefill.check("prefill")?;
    Ok((decode, prefill))
}

fn grid(points: impl Iterator<Item = ((u32, u32), f64)>) -> Grid {
    let points: BTreeMap<(u32, u32), f64> = points.collect();
    let mut columns: Vec<u32> = points.keys().map(|at| at.1).collect();
    columns.sort_unstable();
    columns.dedup();
    let mut rows: Vec<u32> = points.keys().map(|at| at.0).collect();
    rows.dedup();
    let at = |row: u32, column: u32| {
        let measured = |&at: &u32| Some((f64::from(at), *points.get(&(row, at))?));
        points.get(&(row, column)).copied().or_else(|| {
            let before: Vec<(f64, f64)> = columns.iter().filter(|&&at| at < column).filter_map(measured).collect();
            let [.., (x0, y0), (x1, y1)] = before.as_slice() else { return None };
            Some(y1 + (y1 - y0).max(0.0) * (f64::from(column) - x1) / (x1 - x0))
        })
    };
    // What no row can be asked for is left out.
    let mut kept = columns.clone();
    kept.retain(|&column| rows.iter().all(|&row| at(row, column).is_some()));
    let device_us = rows.iter().flat_map(|&row| kept.iter().filter_map(move |&column| at(row, column)));
    let device_us = device_us.collect();
    Grid { rows, columns: kept, device_us }
}

/// Host time per step from pairs (sequences, host time [µs]): a floor and a slope, none negative.
pub fn fit_host(pairs: &[(u64, f64)]) -> HostCost {
    use crate::time::Span;
    use crate::units::Duration;
    let rows: Vec<Vec<f64>> = pairs.iter().map(|(seqs, _)| vec![1.0, *seqs as f64]).collect();
    let targets: Vec<f64> = pairs.iter().map(|(_, us)| *us).collect();
    let found = nnls(&rows, &targets);
    let span = |us: f64| Duration(Span((us * 1e3).round() as u64));
    HostCost {
        base: span(found.first().copied().unwrap_or(0.0)),
        per_seq: span(found.get(1).copied().unwrap_or(0.0)),
        ..HostCost::ZERO
    }
}

/// A table of the samples' grids, with their host times.
///
/// # Errors
/// As [`grids`].
pub fn table(samples: &[StepSample], host: HostCost) -> Result<Table, TableError> {
    let (decode, prefill) = grids(samples)?;
    Table::new(&decode, &prefill, host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: &'static str, seqs: u32, mean: u64, prefill: &[(u32, u32)], ends: u32) -> StepSample {
        let prefill: Vec<PrefillPart> = prefill.iter().map(|&(tokens, past)| PrefillPart { tokens, past }).collect();
        let mut sample = StepSample {
            kind,
            decode_seqs: seqs,
            decode_context: mean * u64::from(seqs),
            prefill,
            prefill_ends: ends,
            device_us: 0.0,
            spread: 0.0,
            repeats: 1,
        };
        let mut truth = Steps::new(truth(), HostCost::ZERO);
        sample.device_us = truth.step(&sample.shape()).device.as_ns_f64() / 1e3;
        sample
    }

    fn truth() -> StepForm {
        let tokens = vec![Slope { from: 0, us: 0.0 }, Slope { from: 8, us: 300.0 }, Slope { from: 64, us: 200.0 }];
        StepForm { step_us: 20_000.0, tokens, row_us: 150.0, chunk_us: 40.0, kv_ns: 800.0, pair_ns: 30.0 }
    }

    fn samples() -> Vec<StepSample> {
        let mut samples = Vec::new();
        for seqs in [1, 2, 4, 8, 16, 32] {
            samples.extend([16, 128, 1024].map(|mean| sample("decode", seqs, mean, &[], 0)));
        }
        for tokens in [1, 16, 64, 256, 512] {
            samples.extend([0, 512].map(|past| sample("prefill", 0, 0, &[(tokens, past)], 1)));
        }
        for (seqs, tokens) in [(4, 32), (16, 128), (8, 256), (32, 64)] {
            samples.push(sample("mixed", seqs, 200, &[(tokens, 64), (tokens / 2, 0)], 1));
        }
        samples
    }

    #[test]
    fn a_form_is_found_again() {
        let (form, errors) = fit_steps(&samples());
        let all = errors.last().expect("errors over all");
        assert!(all.p95_percent < 0.2, "{errors:?}");
        assert!((form.kv_ns / 800.0 - 1.0).abs() < 0.01 && (form.pair_ns / 30.0 - 1.0).abs() < 0.01, "{form:?}");
        assert!(form.tokens.iter().all(|slope| slope.us >= 0.0));
    }

    #[test]
    fn a_table_gives_its_points_back() {
        let samples = samples();
        let mut table = table(&samples, HostCost::ZERO).expect("full grids");
        let grid = samples.iter().filter(|sample| sample.kind == "decode");
        let errors = errors_by_kind(grid, &mut table);
        assert!(errors[0].p95_percent < 0.1, "{errors:?}");
    }

    #[test]
    fn corners_without_room_go_on_as_their_row_does() {
        let mut samples = samples();
        // 32 sequences of 1,024 tokens did not fit.
        samples.retain(|sample| !(sample.kind == "decode" && sample.decode_context == 32 * 1024));
        let (decode, _) = grids(&samples).expect("grids");
        assert_eq!(decode.columns, [16, 128, 1024]);
        let [.., short, long, corner] = decode.device_us.as_slice() else { panic!("no row") };
        let truth = long + (long - short) * f64::from(1024 - 128) / f64::from(128 - 16);
        assert!((corner - truth).abs() < 1e-6, "{corner}, not {truth}");
    }

    #[test]
    fn errors_by_hand() {
        let errors = StepErrors::new("x", &[(110.0, 100.0), (190.0, 200.0)]);
        assert!((errors.mape_percent - 7.5).abs() < 1e-9 && (errors.p95_percent - 10.0).abs() < 1e-9);
        assert!(errors.bias_percent.abs() < 1e-9);
    }

    #[test]
    fn host_time_is_a_floor_and_a_slope() {
        let host = fit_host(&[(1, 52.0), (10, 70.0), (100, 250.0)]);
        assert_eq!((host.base.0.0, host.per_seq.0.0), (50_000, 2_000));
    }
}
