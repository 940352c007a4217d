//! What a GPU says of itself: power, energy, clocks, temperature, what holds its clocks back. Read, never set.
//!
//! NVIDIA's management library is looked for when it is asked for. Where it is not there, or does not have a reading, that reading is
//! `None`: "not read" is no error.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};
use serde::{Deserialize, Serialize};

/// `NVML_FI_DEV_POWER_INSTANT`: power of the board now, where the plain reading is the mean of a second [mW].
const POWER_INSTANT: u32 = 186;

/// Time between two looks of a watch.
const EVERY: Duration = Duration::from_millis(50);
/// The counter of energy says nothing of less time.
const COUNTED: f64 = 0.05;

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
}

/// What it says at one moment.
#[derive(Clone, PartialEq, Default, Debug)]
struct Reading {
    power_w: Option<f64>,
    energy_mj: Option<u64>,
    sm_mhz: Option<u32>,
    memory_mhz: Option<u32>,
    temperature_c: Option<u32>,
    reasons: Option<ThrottleReasons>,
}

/// What it said over some time.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Window {
    /// How long it was watched [s].
    pub seconds: f64,
    /// Mean power by the counter of energy [W]. It counts in steps of some 20 to 100 ms.
    pub power_w: Option<f64>,
    /// Mean of the instantaneous readings [W].
    pub instant_w: Option<f64>,
    /// Mean clock of the multiprocessors [MHz].
    pub sm_mhz: Option<f64>,
    /// Lowest of it [MHz].
    pub sm_mhz_min: Option<u32>,
    /// Mean clock of the memory [MHz].
    pub memory_mhz: Option<f64>,
    /// Highest temperature [°C].
    pub temperature_c_max: Option<u32>,
    /// What held clocks back at any look; empty if nothing did.
    pub throttled: Option<BTreeSet<String>>,
}

/// A GPU as the management library sees it.
#[derive(Clone)]
pub struct Meter {
    nvml: Option<Arc<Nvml>>,
    uuid: String,
}

impl Meter {
    /// The GPU of an id, `GPU-…`, as the driver gives it: the two libraries number GPUs differently.
    pub fn of(uuid: &str) -> Meter {
        Meter { nvml: Nvml::init().ok().map(Arc::new), uuid: uuid.to_owned() }
    }

    /// Whether anything can be read.
    pub fn reads(&self) -> bool {
        self.device().is_some()
    }

    fn device(&self) -> Option<Device<'_>> {
        self.nvml.as_ref()?.device_by_uuid(self.uuid.as_str()).ok()
    }

    /// What it is set to.
    pub fn facts(&self) -> Facts {
        let device = self.device();
        let device = device.as_ref();
        Facts {
            driver: self.nvml.as_ref().and_then(|nvml| nvml.sys_driver_version().ok()),
            mig: device.and_then(|device| device.mig_mode().ok()).map(|mode| mode.current != 0),
            power_w_max: device.and_then(|device| device.enforced_power_limit().ok()).map(|mw| f64::from(mw) / 1e3),
            sm_mhz_max: device.and_then(|device| device.max_clock_info(Clock::SM).ok()),
            processes: device.and_then(|device| device.running_compute_processes_count().ok()),
        }
    }

    fn read(&self) -> Reading {
        let Some(device) = self.device() else { return Reading::default() };
        let instant = device.field_values_for(&[FieldId(POWER_INSTANT)]).ok();
        let instant = instant.and_then(|mut values| values.pop()?.ok()?.value.ok()).map(|value| number(&value));
        Reading {
            power_w: instant.map(|mw| mw / 1e3),
            energy_mj: device.total_energy_consumption().ok(),
            sm_mhz: device.clock_info(Clock::SM).ok(),
            memory_mhz: device.clock_info(Clock::Memory).ok(),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
            reasons: device.current_throttle_reasons().ok(),
        }
    }

    /// Watches the GPU, on a thread of its own, until it is asked what it saw.
    pub fn watch(&self) -> Watch {
        let (stop, meter) = (Arc::new(AtomicBool::new(false)), self.clone());
        let stopped = stop.clone();
        let look = move || {
            let mut looks = Vec::new();
            while meter.nvml.is_some() && !stopped.load(Ordering::Relaxed) {
                looks.push((Instant::now(), meter.read()));
                std::thread::park_timeout(EVERY);
            }
            looks.extend(meter.nvml.is_some().then(|| (Instant::now(), meter.read())));
            looks
        };
        Watch { stop, began: Instant::now(), thread: std::thread::Builder::new().spawn(look).ok() }
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

/// A GPU that is being watched.
pub struct Watch {
    stop: Arc<AtomicBool>,
    began: Instant,
    thread: Option<JoinHandle<Vec<(Instant, Reading)>>>,
}

impl Watch {
    /// Ends it; what it saw.
    pub fn end(mut self) -> Window {
        let seconds = self.began.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.thread.take().map(|thread| {
            thread.thread().unpark();
            thread.join().unwrap_or_default()
        });
        Window { seconds, ..window(&looks.unwrap_or_default()) }
    }
}

/// Means, and the worst, of what was seen.
fn window(looks: &[(Instant, Reading)]) -> Window {
    let mean = |of: &dyn Fn(&Reading) -> Option<f64>| {
        let seen: Vec<f64> = looks.iter().filter_map(|(_, reading)| of(reading)).collect();
        (!seen.is_empty()).then(|| seen.iter().sum::<f64>() / seen.len() as f64)
    };
    // The counter stands still between its steps: from its first step to its last.
    let mut counts: Vec<(Instant, u64)> = looks.iter().filter_map(|(at, seen)| Some((*at, seen.energy_mj?))).collect();
    counts.dedup_by_key(|(_, count)| *count);
    let steps = counts.get(1..).filter(|steps| steps.len() > 1).unwrap_or(&counts);
    let power = steps.first().zip(steps.last()).and_then(|(first, last)| {
        let (time, energy) = ((last.0 - first.0).as_secs_f64(), last.1.checked_sub(first.1)?);
        (time > COUNTED).then(|| energy as f64 / 1e3 / time)
    });
    let reasons: Vec<ThrottleReasons> = looks.iter().filter_map(|(_, reading)| reading.reasons).collect();
    let named = |reasons: &ThrottleReasons| reasons.iter_names().map(|(name, _)| plain(name)).collect::<Vec<_>>();
    Window {
        seconds: 0.0,
        power_w: power,
        instant_w: mean(&|reading| reading.power_w),
        sm_mhz: mean(&|reading| reading.sm_mhz.map(f64::from)),
        sm_mhz_min: looks.iter().filter_map(|(_, reading)| reading.sm_mhz).min(),
        memory_mhz: mean(&|reading| reading.memory_mhz.map(f64::from)),
        temperature_c_max: looks.iter().filter_map(|(_, reading)| reading.temperature_c).max(),
        throttled: (!reasons.is_empty()).then(|| reasons.iter().flat_map(named).collect()),
    }
}

/// `SW_POWER_CAP` as people read it.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn without_the_library_nothing_is_read_and_nothing_fails() {
        let meter = Meter { nvml: None, uuid: "GPU-0".to_owned() };
        assert!(!meter.reads());
        assert_eq!(meter.facts(), Facts::default());
        let window = meter.watch().end();
        assert_eq!(Window { seconds: 0.0, ..window }, Window::default());
    }

    #[test]
    fn power_is_that_of_whole_steps_of_the_counter_and_reasons_add_up() {
        let began = Instant::now();
        let look = |ms: u64, energy_mj, sm_mhz, reasons| {
            let reading = Reading { energy_mj: Some(energy_mj), sm_mhz: Some(sm_mhz), ..Reading::default() };
            (began + Duration::from_millis(ms), Reading { reasons: Some(reasons), ..reading })
        };
        let none = ThrottleReasons::empty();
        let seen = [
            look(0, 1000, 1900, none),
            // 90 ms after the first look came a step: it counts from here on.
            look(90, 21_000, 1900, ThrottleReasons::SW_POWER_CAP),
            look(150, 21_000, 1500, none),
            look(190, 51_000, 1500, none),
        ];
        let window = window(&seen);
        assert!((window.power_w.unwrap() - 300.0).abs() < 1e-6, "{window:?}");
        assert_eq!(window.sm_mhz_min, Some(1500));
        assert_eq!(window.throttled.unwrap().into_iter().collect::<Vec<_>>(), ["sw power cap"]);
    }
}
