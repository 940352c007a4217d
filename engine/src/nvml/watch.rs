//! A GPU watched for a while: samples with their times, and what they come to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use serde::{Deserialize, Serialize};

use super::{Reading, Source};

/// Time between two looks. Drivers renew most readings every 20 to 100 ms.
const EVERY: Duration = Duration::from_millis(20);
/// Of so many looks one asks for the counter of energy: a call takes up to some milliseconds.
const COUNTED_EVERY: usize = 2;
/// The counter of energy says nothing of less time [s].
const COUNTED: f64 = 0.05;

/// What it said over some time.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Window {
    /// How long it was watched [s].
    pub seconds: f64,
    /// Mean power by the counter of energy [W]. It counts in steps of some 20 to 100 ms.
    pub power_w: Option<f64>,
    /// Mean of the instantaneous readings [W].
    pub instant_w: Option<f64>,
    /// Mean of the averaged readings [W].
    #[serde(default)]
    pub average_w: Option<f64>,
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
    /// It was no GPU: these readings are made up.
    #[serde(default)]
    pub emulated: bool,
}

/// A GPU that is being watched.
pub struct Watch {
    stop: Arc<AtomicBool>,
    began: Instant,
    emulated: bool,
    thread: Option<JoinHandle<Vec<(Instant, Reading)>>>,
}

/// All that was seen.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Seen {
    /// How long it was watched [s].
    pub seconds: f64,
    /// Looks, by the seconds since the first moment.
    pub looks: Vec<(f64, Reading)>,
    /// It was no GPU.
    pub emulated: bool,
}

impl Watch {
    pub(super) fn new(source: Option<Arc<dyn Source>>) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let emulated = source.as_ref().is_some_and(|source| source.facts().emulated);
        let look = move || {
            let Some(source) = source else { return Vec::new() };
            let mut looks = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let counted = looks.len() % COUNTED_EVERY == 0;
                looks.push((Instant::now(), source.read(counted)));
                std::thread::park_timeout(EVERY);
            }
            looks.push((Instant::now(), source.read(true)));
            looks
        };
        Watch { stop, began: Instant::now(), emulated, thread: std::thread::Builder::new().spawn(look).ok() }
    }

    /// Its first moment.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Ends it; what it came to.
    pub fn end(self) -> Window {
        self.see().window(0.0)
    }

    /// Ends it; all that it saw.
    pub fn see(mut self) -> Seen {
        let seconds = self.began.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.thread.take().map(|thread| {
            thread.thread().unpark();
            thread.join().unwrap_or_default()
        });
        let since = |at: Instant| at.saturating_duration_since(self.began).as_secs_f64();
        let looks = looks.unwrap_or_default().into_iter().map(|(at, reading)| (since(at), reading)).collect();
        Seen { seconds, looks, emulated: self.emulated }
    }
}

impl Seen {
    /// Means, and the worst, of what was seen from a moment on [s]: readings that are means of a second need some time to settle.
    pub fn window(&self, from: f64) -> Window {
        let first = self.looks.iter().position(|(at, _)| *at >= from).unwrap_or(self.looks.len());
        let looks = &self.looks[first..];
        let mean = |of: &dyn Fn(&Reading) -> Option<f64>| {
            let seen: Vec<f64> = looks.iter().filter_map(|(_, reading)| of(reading)).collect();
            (!seen.is_empty()).then(|| seen.iter().sum::<f64>() / seen.len() as f64)
        };
        let reasons: Vec<ThrottleReasons> = looks.iter().filter_map(|(_, reading)| reading.reasons).collect();
        let named = |reasons: &ThrottleReasons| reasons.iter_names().map(|(name, _)| plain(name)).collect::<Vec<_>>();
        Window {
            seconds: (self.seconds - from).max(0.0),
            power_w: counted(looks).map(|(joules, time)| joules / time),
            instant_w: mean(&|reading| reading.power_w),
            average_w: mean(&|reading| reading.average_w),
            sm_mhz: mean(&|reading| reading.sm_mhz.map(f64::from)),
            sm_mhz_min: looks.iter().filter_map(|(_, reading)| reading.sm_mhz).min(),
            memory_mhz: mean(&|reading| reading.memory_mhz.map(f64::from)),
            temperature_c_max: looks.iter().filter_map(|(_, reading)| reading.temperature_c).max(),
            throttled: (!reasons.is_empty()).then(|| reasons.iter().flat_map(named).collect()),
            emulated: self.emulated,
        }
    }

    /// Energy by the counter over all the time that was watched [J]: its rate between its first step and its last, times the time.
    pub fn joules(&self) -> Option<f64> {
        counted(&self.looks).map(|(joules, time)| joules / time * self.seconds)
    }

    /// What was seen between two moments [s], as if it had been watched for that time alone.
    #[must_use]
    pub fn between(&self, from: f64, until: f64) -> Seen {
        let until = until.min(self.seconds);
        let within = self.looks.iter().filter(|(at, _)| (from..=until).contains(at));
        let looks = within.map(|(at, reading)| (at - from, reading.clone())).collect();
        Seen { seconds: (until - from).max(0.0), looks, emulated: self.emulated }
    }

    /// Mean watts of the instantaneous readings in each whole second. Without such readings the last averaged one of each second, which is the mean
    /// of a second on all GPUs but the A100.
    pub fn by_second(&self) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0_u32, None); self.seconds as usize];
        for (at, reading) in &self.looks {
            let Some(sum) = sums.get_mut(*at as usize) else { continue };
            if let Some(watts) = reading.power_w {
                *sum = (sum.0 + watts, sum.1 + 1, sum.2);
            }
            sum.2 = reading.average_w.or(sum.2);
        }
        sums.into_iter().map(|(sum, count, last)| if count > 0 { Some(sum / f64::from(count)) } else { last }).collect()
    }
}

/// Energy and time between two steps of the counter [J, s], which stands still between its steps: from its first step to its last.
fn counted(looks: &[(f64, Reading)]) -> Option<(f64, f64)> {
    let mut counts: Vec<(f64, u64)> = looks.iter().filter_map(|(at, seen)| Some((*at, seen.energy_mj?))).collect();
    counts.dedup_by_key(|(_, count)| *count);
    let steps = counts.get(1..).filter(|steps| steps.len() > 1).unwrap_or(&counts);
    let (first, last) = steps.first().zip(steps.last())?;
    let (time, energy) = (last.0 - first.0, last.1.checked_sub(first.1)?);
    (time > COUNTED).then(|| (energy as f64 / 1e3, time))
}

/// `SW_POWER_CAP` as people read it.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn seen() -> Seen {
        let look = |ms: u32, energy_mj, sm_mhz, reasons| {
            let reading = Reading { energy_mj: Some(energy_mj), sm_mhz: Some(sm_mhz), ..Reading::default() };
            (f64::from(ms) / 1e3, Reading { reasons: Some(reasons), ..reading })
        };
        let none = ThrottleReasons::empty();
        let looks = vec![
            look(0, 1000, 1900, none),
            // 90 ms after the first look came a step: it counts from here on.
            look(90, 21_000, 1900, ThrottleReasons::SW_POWER_CAP),
            look(150, 21_000, 1500, none),
            look(190, 51_000, 1500, none),
        ];
        Seen { seconds: 0.2, looks, emulated: false }
    }

    #[test]
    fn power_is_that_of_whole_steps_of_the_counter_and_reasons_add_up() {
        let window = seen().window(0.0);
        assert!((window.power_w.unwrap() - 300.0).abs() < 1e-6, "{window:?}");
        assert_eq!(window.sm_mhz_min, Some(1500));
        assert_eq!(window.throttled.unwrap().into_iter().collect::<Vec<_>>(), ["sw power cap"]);
        assert!((seen().joules().unwrap() - 60.0).abs() < 1e-6);
        let late = seen().window(0.1);
        assert_eq!((late.sm_mhz, late.throttled.unwrap().len(), late.power_w), (Some(1500.0), 0, None));
    }

    #[test]
    fn seconds_are_means_of_their_looks() {
        let look = |ms: u32, watts: f64| (f64::from(ms) / 1e3, Reading { power_w: Some(watts), ..Reading::default() });
        let looks = vec![look(0, 100.0), look(600, 300.0), look(2100, 500.0), look(3050, 900.0)];
        let seen = Seen { seconds: 3.1, looks, emulated: false };
        assert_eq!(seen.by_second(), [Some(200.0), None, Some(500.0)]);
        let part = seen.between(0.5, 2.2);
        assert_eq!((part.by_second(), part.looks.len()), (vec![Some(300.0)], 2));
        let average =
            |ms: u32, watts: f64| (f64::from(ms) / 1e3, Reading { average_w: Some(watts), ..Reading::default() });
        let seen = Seen { looks: vec![average(0, 100.0), average(900, 300.0), average(1500, 200.0)], ..seen };
        assert_eq!(seen.by_second(), [Some(300.0), Some(200.0), None]);
    }
}
