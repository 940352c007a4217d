//! A stand-in for a GPU's meter: draws by a power law what it is told that it does. Whatever is made with it is marked as emulated.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use overbook_sim::counter::draw;
use overbook_sim::power::sustained::{fitting, settable};
use overbook_sim::power::{Activity, PowerLaw};

use super::{Facts, Reading, Source};

/// Draws by a law.
#[derive(Debug)]
pub struct StandIn {
    law: PowerLaw,
    /// By how much a step draws more or less than the law, and a reading says more or less, at most [share].
    noise: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    doing: Activity,
    /// Steps that were begun and have not ended: what they draw is known at their end.
    running: u32,
    /// What the last step drew beside the law [share], and how often chance was asked.
    apart: f64,
    drawn: u64,
    /// Up to when the energy is counted [J].
    at: Instant,
    joules: f64,
}

impl StandIn {
    /// Nothing runs yet.
    pub fn new(law: PowerLaw) -> StandIn {
        let state = State { doing: Activity::IDLE, running: 0, apart: 0.0, drawn: 0, at: Instant::now(), joules: 0.0 };
        StandIn { law, noise: 0.0, state: Mutex::new(state) }
    }

    /// Steps and readings lie apart by up to that share, evenly spread: as boards and meters do.
    #[must_use]
    pub fn with_noise(self, noise: f64) -> StandIn {
        StandIn { noise, ..self }
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

    /// A step begins, behind those that run.
    pub fn begin(&self) {
        self.counted().running += 1;
    }

    /// The oldest step that runs has ended. `rates` says what it did, given the time since it began or the step before it ended [s].
    pub fn end(&self, rates: impl FnOnce(f64) -> Activity) {
        let mut state = self.lock();
        let now = Instant::now();
        let seconds = now.duration_since(state.at).as_secs_f64();
        state.at = now;
        if seconds > 0.0 {
            state.apart = self.chance(&mut state);
            state.doing = rates(seconds);
            state.joules += self.watts(&state) * seconds;
        }
        state.running = state.running.saturating_sub(1);
        if state.running == 0 {
            (state.doing, state.apart) = (Activity::IDLE, 0.0);
        }
    }

    fn watts(&self, state: &State) -> f64 {
        let idle = self.law.spec().idle.0;
        let above = self.law.demand(&state.doing, 1.0) - idle;
        (idle + above * (1.0 + state.apart)).min(self.law.limit(None))
    }

    /// A share within the noise.
    fn chance(&self, state: &mut State) -> f64 {
        state.drawn += 1;
        let share = (draw(0x3EED, state.drawn) >> 11) as f64 / (1_u64 << 53) as f64;
        self.noise * (2.0 * share - 1.0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, with its energy up to now; up to the end of the last step where one runs.
    fn counted(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.running == 0 {
            let now = Instant::now();
            state.joules += self.watts(&state) * now.duration_since(state.at).as_secs_f64();
            state.at = now;
        }
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
        let mut state = self.counted();
        let (demand, limit) = (self.law.demand(&state.doing, 1.0), self.law.limit(None));
        let watts = self.watts(&state) * (1.0 + self.chance(&mut state));
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
