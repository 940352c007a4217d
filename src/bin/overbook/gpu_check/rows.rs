//! What a check of a GPU writes down, a line each.

use overbook_engine::nvml::Window;
use overbook_sim::calibrate::steps::StepErrors;
use serde::{Deserialize, Serialize};

/// A line of a part's file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    /// What it belongs to: items are measured whole, and once.
    pub(crate) item: String,
    /// Since the part began [s].
    pub(crate) at_s: f64,
    #[serde(flatten)]
    pub(crate) row: Row,
}

/// What a line says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "kebab-case")]
pub(crate) enum Row {
    /// A launch beside its reference.
    Kernel(Kernel),
    /// A model beside another way to compute it.
    Whole(Whole),
    /// What the GPU can do at most.
    Ceiling(Ceiling),
    /// A model was loaded.
    Loaded(Loaded),
    /// A step.
    Cell(Cell),
    /// A profile was made.
    Profile(Profile),
    /// A load, for real and simulated.
    Load(Load),
    /// A step on a part of the GPU.
    Share(Share),
    /// Watts of a steady operating point.
    Steady(Steady),
    /// The power law that those make.
    Fitted(Fitted),
    /// Something cannot be had on this GPU, which is no fault.
    Skipped { why: String },
    /// There was no time for it, or it was interrupted.
    Left { why: String },
    /// It could not run.
    Failed { error: String },
    /// The part is at its end.
    Ended { complete: bool, seconds: f64 },
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    pub(crate) case: String,
    /// `None`: something was written that must not be, or the result is no number.
    pub(crate) error: Option<f64>,
    pub(crate) bound: f64,
    pub(crate) passed: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Whole {
    pub(crate) what: String,
    pub(crate) tokens: u64,
    pub(crate) ties: u64,
    pub(crate) wrong: u64,
    /// Largest distance of tied logits, and what still is a tie: shares of the logits' root mean square.
    pub(crate) tie: f64,
    pub(crate) tie_most: f64,
    /// Relative distance of the logits; where nothing may differ, how many do.
    pub(crate) error: Option<f64>,
    pub(crate) bound: f64,
    pub(crate) passed: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Ceiling {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    pub(crate) how: String,
    /// Whether the work was done as it should.
    pub(crate) passed: bool,
    pub(crate) gpu: Window,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) model: String,
    pub(crate) weight_bytes: u64,
    /// To make and copy its weights [s].
    pub(crate) load_s: f64,
    /// To compile, tune and record all for its steps [s].
    pub(crate) open_s: f64,
    pub(crate) kv_tokens: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) model: String,
    pub(crate) step: String,
    pub(crate) steps: u32,
    /// By the device's clock, steps one right after the other [µs].
    pub(crate) device_us: f64,
    /// The same as the host sees it, from end to end [µs].
    pub(crate) host_us: f64,
    /// Each step on its own: by the device's clock [µs].
    pub(crate) alone_us: f64,
    /// What the step must at least move and compute.
    pub(crate) bytes: u64,
    pub(crate) flop: u64,
    /// From the bandwidth of a copy and the product over ten seconds, measured beside it; and from the best of all rates [µs].
    pub(crate) floor_us: Option<f64>,
    pub(crate) floor_best_us: Option<f64>,
    /// What the floor is of the device's time [%], and what it should be at least.
    pub(crate) floor_percent: Option<f64>,
    pub(crate) bar_percent: Option<f64>,
    pub(crate) gpu: Window,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) model: String,
    pub(crate) file: String,
    pub(crate) shapes: u64,
    pub(crate) repeats_percent: f64,
    pub(crate) drift_percent: Option<f64>,
    pub(crate) host_base_us: f64,
    pub(crate) form_errors: Vec<StepErrors>,
    pub(crate) table_errors: Vec<StepErrors>,
    pub(crate) gpu: Window,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) name: String,
    /// Of the rate at which the simulator says that requests can be served.
    pub(crate) of_capacity: f64,
    pub(crate) rate: f64,
    pub(crate) requests: u64,
    /// Hashes of the plan and of the steps that were run.
    pub(crate) plan: String,
    pub(crate) run: String,
    /// Why it says nothing; empty if it does.
    pub(crate) void: Vec<String>,
    /// How much more time than in the profile the machine took for the same steps, in the median.
    pub(crate) slower: Option<f64>,
    /// Steps that the simulator's scheduler made otherwise: none may be.
    pub(crate) differences: u64,
    pub(crate) passed: bool,
    pub(crate) steps: Vec<StepErrors>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) gpu: Window,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) metric: String,
    pub(crate) measured: f64,
    pub(crate) simulated: f64,
    /// `None` if it was 0.
    pub(crate) error_percent: Option<f64>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) model: String,
    pub(crate) step: String,
    /// Of the multiprocessors.
    pub(crate) percent: u32,
    pub(crate) device_us: f64,
    pub(crate) gpu: Window,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Steady {
    pub(crate) what: String,
    /// From the end of a step to the end of the next, as the host sees it [µs].
    pub(crate) step_us: Option<f64>,
    /// Rates, as shares of the catalog's peaks: symbols d, w, u_c and u_m of the power law.
    pub(crate) busy: f64,
    pub(crate) resident: f64,
    pub(crate) compute: f64,
    pub(crate) memory: f64,
    /// Mean, by the counter of energy, or by the instantaneous readings where there is none.
    pub(crate) watts: Option<f64>,
    /// Mean SM clock over the highest.
    pub(crate) clock: Option<f64>,
    /// Mean watts of each whole second from the start on, by the instantaneous readings.
    pub(crate) by_second: Vec<Option<f64>>,
    pub(crate) gpu: Window,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Fitted {
    pub(crate) file: String,
    pub(crate) idle_w: f64,
    pub(crate) resident_w: f64,
    pub(crate) compute_w: f64,
    pub(crate) memory_w: f64,
    pub(crate) compute_exponent: f64,
    pub(crate) memory_exponent: f64,
    /// Points at full clock, and those below it, which say nothing of the coefficients.
    pub(crate) used: usize,
    pub(crate) held_down: usize,
    /// Errors of a third of the points, which was left out of the fit that they judge [%].
    pub(crate) held_out_mean_percent: f64,
    pub(crate) held_out_median_percent: f64,
    /// The watts are a stand-in's.
    pub(crate) emulated: bool,
}

impl Row {
    /// Whether it is a check that failed.
    pub(crate) fn is_wrong(&self) -> bool {
        match self {
            Row::Kernel(row) => !row.passed,
            Row::Whole(row) => !row.passed,
            Row::Ceiling(row) => !row.passed,
            Row::Load(row) => !row.passed,
            _ => false,
        }
    }
}

/// A number that JSON has a word for.
pub(crate) fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}
