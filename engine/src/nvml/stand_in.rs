//! A stand-in for a GPU's meter: draws by a power law what it is told that it does. Whatever is made with it is marked as emulated.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use overbook_sim::power::sustained::{fitting, settable};
use overbook_sim::power::{Activity, PowerLaw};

use super::{Facts, Reading, Source};

/// Draws by a law.
#[derive(Debug)]
pub struct StandIn {
    law: PowerLaw,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    doing: Activity,
    /// Up to when the energy is counted [J].
    at: Instant,
    joules: f64,
}

impl StandIn {
    /// Nothing runs yet.
    pub fn new(law: PowerLaw) -> StandIn {
        StandIn { law, state: Mutex::new(State { doing: Activity::IDLE, at: Instant::now(), joules: 0.0 }) }
    }

    /// The law.
    pub fn law(&self) -> &PowerLaw {
        &self.law
    }

    /// It does that from now on.
    pub fn tell(&self, doing: Activity) {
        self.counted().doing = doing;
    }

    /// What it does.
    pub fn doing(&self) -> Activity {
        self.counted().doing
    }

    /// The state, with its energy up to now.
    fn counted(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.joules += self.law.settled(&state.doing, None) * now.duration_since(state.at).as_secs_f64();
        state.at = now;
        state
    }
}

impl Source for StandIn {
    fn facts(&self) -> Facts {
        Facts {
            power_w_max: Some(self.law.limit(None)),
            sm_mhz_max: Some(self.law.spec().clock.max_mhz),
            emulated: true,
            ..Facts::default()
        }
    }

    fn read(&self, counted: bool) -> Reading {
        let state = self.counted();
        let (demand, limit) = (self.law.demand(&state.doing, 1.0), self.law.limit(None));
        let watts = self.law.settled(&state.doing, None);
        let spec = self.law.spec();
        let held = demand > limit;
        let mhz = if held { settable(spec, fitting(spec, demand, limit, 1.0)) } else { spec.clock.max_mhz };
        Reading {
            power_w: Some(watts),
            average_w: Some(watts),
            energy_mj: counted.then_some((state.joules * 1e3) as u64),
            sm_mhz: Some(mhz),
            reasons: Some(if held { ThrottleReasons::SW_POWER_CAP } else { ThrottleReasons::empty() }),
            ..Reading::default()
        }
    }
}
