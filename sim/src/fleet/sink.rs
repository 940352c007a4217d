//! Where the figures of a run go.

use crate::power::figures::LimiterFigures;
use crate::results::rows::Recorder;
use crate::results::summary::{Outages, PowerSummary, Slo, Tally};
use crate::results::timeline::Timeline;

/// The one sink of a run. Rows of steps are made only if the recorder wants them.
pub(crate) struct Sink<'a> {
    pub(crate) tally: Tally,
    pub(crate) timeline: Timeline,
    pub(crate) outages: Outages,
    /// What the row has drawn, once the run is over.
    pub(crate) power: Option<Box<PowerSummary>>,
    /// What the GPUs' own limiters did, once the run is over.
    pub(crate) limiter: Option<Box<LimiterFigures>>,
    pub(crate) recorder: &'a mut dyn Recorder,
    pub(crate) wants_steps: bool,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(slo: Slo, recorder: &'a mut dyn Recorder) -> Sink<'a> {
        let wants_steps = recorder.wants_steps();
        Sink {
            tally: Tally::new(slo),
            timeline: Timeline::default(),
            outages: Outages::default(),
            power: None,
            limiter: None,
            recorder,
            wants_steps,
        }
    }
}
