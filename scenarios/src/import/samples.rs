//! What tools' tables have in common: rows, and which of two tables of the same thing counts.

use std::path::PathBuf;

use overbook_sim::calibrate::{CollectiveRow, ExpertsRow, Samples};
use overbook_sim::hardware::model::WeightDtype;

use super::tables::{Cells, Table, TablesError};

/// What was read of a tool's tables.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) tool: &'static str,
    pub(super) licence: &'static str,
    /// As the tables call it; empty: they do not say.
    pub(super) device: String,
    pub(super) engine: String,
    pub(super) tables: Vec<PathBuf>,
    pub(super) samples: Samples,
    /// fp8 experts with a scale per block, beside those with one per tensor.
    pub(super) block_scaled: Vec<ExpertsRow>,
    /// NCCL's own all-reduce, for want of the engine's.
    pub(super) nccl_all_reduce: Vec<CollectiveRow>,
    pub(super) notes: Vec<String>,
}

impl Measured {
    pub(super) fn new(tool: &'static str, licence: &'static str) -> Measured {
        Measured {
            tool,
            licence,
            device: String::new(),
            engine: String::new(),
            tables: Vec::new(),
            samples: Samples::default(),
            block_scaled: Vec::new(),
            nccl_all_reduce: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes device and engine from a row that names them; all rows must be of one device.
    pub(super) fn seen(&mut self, table: &Table, row: Cells<'_>) -> Result<(), TablesError> {
        if table.has("device") {
            let device = row.text("device")?;
            if self.device.is_empty() {
                device.clone_into(&mut self.device);
            } else if self.device != device {
                let message =
                    format!("the tables are of {} and of {device}; name the folder of one system", self.device);
                return Err(TablesError::Mixed(message));
            }
        }
        if table.has("framework") && table.has("version") {
            let engine = format!("{} {}", row.text("framework")?, row.text("version")?);
            if !self.engine.split(", ").any(|known| known == engine) {
                let comma = if self.engine.is_empty() { "" } else { ", " };
                self.engine = format!("{}{comma}{engine}", self.engine);
            }
        }
        Ok(())
    }

    /// Decides between tables of the same thing: the faster of two fp8 kernels, balanced routing before skewed, the engine's
    /// all-reduce before NCCL's.
    pub(super) fn balance(&mut self) {
        let samples = &mut self.samples;
        let key =
            |row: &ExpertsRow| (row.hidden, row.width, row.experts, row.tensor, row.spread, row.balanced, row.tokens);
        let fp8: Vec<&ExpertsRow> = samples.experts.iter().filter(|row| row.dtype == WeightDtype::Fp8).collect();
        let pairs = self
            .block_scaled
            .iter()
            .filter_map(|block| fp8.iter().find(|row| key(row) == key(block)).map(|row| (block.us, row.us)));
        let (block_us, tensor_us) = pairs.fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        if !self.block_scaled.is_empty() && (fp8.is_empty() || block_us < tensor_us) {
            samples.experts.retain(|row| row.dtype != WeightDtype::Fp8);
            samples.experts.append(&mut self.block_scaled);
            self.notes
                .push("moe_perf: of two fp8 kernels the one with a scale per block was faster and taken".to_owned());
        }
        for dtype in [WeightDtype::Bf16, WeightDtype::Fp8] {
            let of = |row: &ExpertsRow| row.dtype == dtype;
            if samples.experts.iter().any(|row| of(row) && row.balanced) {
                samples.experts.retain(|row| !of(row) || row.balanced);
            } else if samples.experts.iter().any(of) {
                self.notes.push(format!("moe_perf: {dtype} experts have skewed routing only, taken as random"));
            }
        }
        let known: Vec<u32> = samples.all_reduce.iter().map(|row| row.gpus).collect();
        samples.all_reduce.extend(self.nccl_all_reduce.iter().filter(|row| !known.contains(&row.gpus)));
    }
}
