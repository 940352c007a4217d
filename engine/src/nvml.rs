//! What a GPU says of itself: power, energy, clocks, temperature, what holds its clocks back. Read, never set.
//!
//! NVIDIA's management library is looked for when it is asked for. Where it is not there, or does not have a reading, that reading is
//! `None`: "not read" is no error. [`Meter::stand_in`] takes its place where there is no GPU whose watts mean anything, and says so.

mod stand_in;
mod told;
mod watch;

use std::sync::Arc;

pub use stand_in::StandIn;
pub use told::Told;
pub use watch::{Seen, Watch, Window};

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};
use serde::{Deserialize, Serialize};

/// `NVML_FI_DEV_POWER_INSTANT`: power of the board now, where the plain reading is the mean of a second [mW].
const POWER_INSTANT: u32 = 186;

/// What the emulated driver calls its GPU.
const EMULATED: &str = "Emulated GPU";

/// What does not change while a program runs.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// The driver's version: `580.65.06`.
    pub driver: Option<String>,
    /// Whether the GPU is cut into instances.
    pub mig: Option<bool>,
    /// What its power is kept below [W].
    pub power_w_max: Option<f64>,
    /// Highest clock of the multiprocessors [MHz].
    pub sm_mhz_max: Option<u32>,
    /// Processes that compute on it, this one included.
    pub processes: Option<u32>,
    /// It is no GPU: what is read of it is made up.
    #[serde(default)]
    pub emulated: bool,
}

/// What it says at one moment.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Reading {
    /// Power now [W].
    pub power_w: Option<f64>,
    /// Power as the mean of a window, a second on most GPUs [W].
    pub average_w: Option<f64>,
    /// Energy since the driver was loaded [mJ].
    pub energy_mj: Option<u64>,
    /// Clock of the multiprocessors [MHz].
    pub sm_mhz: Option<u32>,
    /// Clock of the memory [MHz].
    pub memory_mhz: Option<u32>,
    /// Temperature [°C].
    pub temperature_c: Option<u32>,
    /// What holds clocks back.
    pub reasons: Option<ThrottleReasons>,
}

/// Where readings come from.
pub(crate) trait Source: Send + Sync {
    /// What does not change.
    fn facts(&self) -> Facts;
    /// What there is to say now; `counted`: the counter of energy, too, which takes its time.
    fn read(&self, counted: bool) -> Reading;
}

/// A GPU whose readings can be taken.
#[derive(Clone)]
pub struct Meter {
    source: Option<Arc<dyn Source>>,
}

impl Meter {
    /// The GPU of an id, `GPU-…`, as the driver gives it: the two libraries number GPUs differently.
    pub fn of(uuid: &str) -> Meter {
        let board = Nvml::init().ok().map(|nvml| Board { nvml, uuid: uuid.to_owned() });
        let board = board.filter(|board| board.device().is_some());
        Meter { source: board.map(|board| Arc::new(board) as Arc<dyn Source>) }
    }

    /// What draws by a law what it is told that it does, in place of a GPU.
    pub fn stand_in(instead: Arc<StandIn>) -> Meter {
        Meter { source: Some(instead) }
    }

    /// Nothing can be read.
    pub fn none() -> Meter {
        Meter { source: None }
    }

    /// Whether anything can be read.
    pub fn reads(&self) -> bool {
        self.source.is_some()
    }

    /// What it is set to.
    pub fn facts(&self) -> Facts {
        self.source.as_ref().map_or_else(Facts::default, |source| source.facts())
    }

    /// Watches the GPU, on a thread of its own, until it is asked what it saw.
    pub fn watch(&self) -> Watch {
        Watch::new(self.source.clone())
    }
}

/// A GPU as the management library sees it.
struct Board {
    nvml: Nvml,
    uuid: String,
}

impl Board {
    fn device(&self) -> Option<Device<'_>> {
        self.nvml.device_by_uuid(self.uuid.as_str()).ok()
    }
}

impl Source for Board {
    fn facts(&self) -> Facts {
        let device = self.device();
        let device = device.as_ref();
        Facts {
            driver: self.nvml.sys_driver_version().ok(),
            mig: device.and_then(|device| device.mig_mode().ok()).map(|mode| mode.current != 0),
            power_w_max: device.and_then(|device| device.enforced_power_limit().ok()).map(|mw| f64::from(mw) / 1e3),
            sm_mhz_max: device.and_then(|device| device.max_clock_info(Clock::SM).ok()),
            processes: device.and_then(|device| device.running_compute_processes_count().ok()),
            emulated: device.and_then(|device| device.name().ok()).is_some_and(|name| name == EMULATED),
        }
    }

    fn read(&self, counted: bool) -> Reading {
        let Some(device) = self.device() else { return Reading::default() };
        let instant = device.field_values_for(&[FieldId(POWER_INSTANT)]).ok();
        let instant = instant.and_then(|mut values| values.pop()?.ok()?.value.ok()).map(|value| number(&value));
        Reading {
            power_w: instant.map(|mw| mw / 1e3),
            average_w: device.power_usage().ok().map(|mw| f64::from(mw) / 1e3),
            energy_mj: counted.then(|| device.total_energy_consumption().ok()).flatten(),
            sm_mhz: device.clock_info(Clock::SM).ok(),
            memory_mhz: device.clock_info(Clock::Memory).ok(),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
            reasons: device.current_throttle_reasons().ok(),
        }
    }
}

fn number(value: &SampleValue) -> f64 {
    match value {
        SampleValue::U32(value) => f64::from(*value),
        SampleValue::U64(value) => *value as f64,
        SampleValue::I64(value) => *value as f64,
        SampleValue::F64(value) => *value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_nothing_is_read_and_nothing_fails() {
        let meter = Meter::none();
        assert!(!meter.reads());
        assert_eq!(meter.facts(), Facts::default());
        let window = meter.watch().end();
        assert_eq!(Window { seconds: 0.0, ..window }, Window::default());
    }
}
