//! A calibration profile from what was measured: fits, errors, hull and noise in one document.

use std::collections::BTreeMap;

use overbook_sim::calibrate::steps::{
    StepErrors, StepSample, errors_by_kind, fit_steps, grids, noise as spread, table,
};
use overbook_sim::calibrate::{
    Hardware, HullRange, Noise, ProfiledEngine, SampleFile, StepGrid, StepProfile, StepTable,
};
use overbook_sim::cost::Jitter;
use overbook_sim::cost::steps::StepForm;
use overbook_sim::cost::table::{Grid, TableError};
use overbook_sim::hardware::gpu::OriginKind;

use super::{Anchor, Calibration};
use crate::run::Pressure;

/// What a profile says beside its numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// The model, as the scenario calls it.
    pub model: String,
    /// The engine.
    pub engine: ProfiledEngine,
    /// The machine.
    pub hardware: Hardware,
    /// Day of the measurement.
    pub measured: String,
    /// The file of the measured steps.
    pub samples: SampleFile,
}

impl Calibration {
    /// The profile of these steps.
    ///
    /// # Errors
    /// The steps fill no grid.
    pub fn profile(&self, described: Described) -> Result<StepProfile, TableError> {
        let measured = &self.samples;
        let (form, form_errors) = fit_steps(measured);
        let (decode, prefill) = grids(measured)?;
        let mut interpolated = table(measured, self.host)?;
        // Its own points it has by definition.
        let others = measured.iter().filter(|sample| !matches!(sample.kind, "decode" | "prefill"));
        let Described { name, model, engine, hardware, measured: day, samples } = described;
        Ok(StepProfile {
            version: 1,
            name,
            kind: OriginKind::Measured,
            model,
            engine,
            hardware,
            measured: day,
            samples,
            noise: noise(measured, &self.anchors, self.pressure),
            anchors: self.anchors.iter().map(Anchor::time).collect(),
            hull: hull(measured),
            host: self.host,
            client_time: None,
            form: rounded(form),
            form_errors: form_errors.into_iter().map(short).collect(),
            table: Some(StepTable { decode: short_grid(&decode), prefill: short_grid(&prefill) }),
            table_errors: errors_by_kind(others, &mut interpolated).into_iter().map(short).collect(),
            jitter: Jitter::of(self.ratios.clone()),
            power: None,
            unidentified: Vec::new(),
        })
    }
}

/// A share in percent, with two digits.
fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 100.0
}

/// What cannot be distinguished, from the spread of repeats, the anchors, and what others took of the CPU.
pub(crate) fn noise(steps: &[StepSample], anchors: &[Anchor], pressure: Option<Pressure>) -> Noise {
    Noise {
        repeats_percent: percent(spread(steps)),
        drift_percent: anchors.iter().map(Anchor::drift).reduce(f64::max).map(percent),
        run_delay_percent: pressure.map(|pressure| percent(pressure.run_delay)),
        steal_percent: pressure.map(|pressure| percent(pressure.steal)),
    }
}

/// A grid with as many digits as were measured.
fn short_grid(grid: &Grid) -> StepGrid {
    let mut grid = StepGrid::of(grid);
    grid.device_us.iter_mut().flatten().for_each(|us| *us = (*us * 10.0).round() / 10.0);
    grid
}

/// Six digits are more than was measured.
pub(crate) fn rounded(mut form: StepForm) -> StepForm {
    let round = |value: &mut f64| *value = format!("{value:.5e}").parse().unwrap_or(*value);
    let numbers = [&mut form.step_us, &mut form.row_us, &mut form.chunk_us, &mut form.kv_ns, &mut form.pair_ns];
    numbers.into_iter().for_each(round);
    form.tokens.iter_mut().for_each(|slope| round(&mut slope.us));
    form
}

pub(crate) fn short(mut errors: StepErrors) -> StepErrors {
    for value in [&mut errors.mape_percent, &mut errors.p95_percent, &mut errors.bias_percent] {
        *value = (*value * 100.0).round() / 100.0;
    }
    errors
}

pub(crate) fn hull(samples: &[StepSample]) -> Vec<HullRange> {
    let range = |values: &mut dyn Iterator<Item = u64>| -> Option<[u64; 2]> {
        values.fold(None, |range, value| match range {
            None => Some([value, value]),
            Some([low, high]) => Some([value.min(low), value.max(high)]),
        })
    };
    let mut axes = BTreeMap::new();
    let seqs = samples.iter().map(|sample| u64::from(sample.decode_seqs)).filter(|&seqs| seqs > 0);
    let tokens = samples.iter().map(|sample| sample.shape().tokens());
    let mean = samples.iter().filter(|sample| sample.decode_seqs > 0);
    let mean = mean.map(|sample| sample.decode_context / u64::from(sample.decode_seqs));
    let parts = samples.iter().flat_map(|sample| &sample.prefill).map(|part| u64::from(part.past + part.tokens));
    let mut insert = |axis: &str, values: &mut dyn Iterator<Item = u64>| {
        if let Some(range) = range(values) {
            axes.insert(axis.to_owned(), range);
        }
    };
    insert("sequences", &mut { seqs });
    insert("tokens", &mut { tokens });
    insert("context", &mut mean.chain(parts));
    vec![HullRange { operation: "step".to_owned(), axes }]
}

#[cfg(test)]
pub(crate) mod tests;
