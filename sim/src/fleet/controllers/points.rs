//! Operating points set at given moments.

use crate::cost::OperatingPoint;
use crate::fleet::controller::{Action, Controller, Event, Topics};
use crate::fleet::kernel::Kernel;
use crate::fleet::{ClusterSpec, RunError};
use crate::time::Time;

/// Replicas run at another clock, or on another share of their SMs, from a moment on. A failure does not change it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PointChange {
    /// When.
    pub at: Time,
    /// Which.
    pub replicas: Vec<u32>,
    /// One of their lanes; all without.
    pub lane: Option<u32>,
    /// At which point they run from then on.
    pub point: OperatingPoint,
}

#[derive(Debug)]
pub(super) struct Control {
    changes: Vec<PointChange>,
}

impl Control {
    /// None where all points stay.
    ///
    /// # Panics
    /// There is no such replica.
    pub(super) fn new(spec: &ClusterSpec, replicas: u32) -> Option<Control> {
        let changes = spec.controllers.points.clone();
        let unknown = changes.iter().flat_map(|change| &change.replicas).find(|&&replica| replica >= replicas);
        assert_eq!(
            unknown, None,
            "a point is set on a replica that there is not: they are numbered from 0 to {replicas} - 1"
        );
        (!changes.is_empty()).then_some(Control { changes })
    }
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        // The start is heard by all that hear anything.
        Topics::POINTS
    }

    fn on(&mut self, event: Event<'_>, _: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        let Event::Start = event else { return Ok(Vec::new()) };
        let mut actions = Vec::new();
        for PointChange { at, replicas, lane, point } in &self.changes {
            let lane = lane.map(|lane| lane as usize);
            for &replica in replicas {
                let (replica, delay) = (replica as usize, at.since(Time::ZERO));
                actions.push(Action::SetPoint { replica, lane, point: *point, delay });
            }
        }
        Ok(actions)
    }
}
