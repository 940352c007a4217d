//! Readings of what the lanes have done: at given moments, and whenever a lane goes to another operating point.

use crate::cost::OperatingPoint;
use crate::fleet::controller::{Action, Controller, Event, Tick, Topics};
use crate::fleet::devices::Reading;
use crate::fleet::kernel::Kernel;
use crate::fleet::{ClusterSpec, RunError};
use crate::time::Time;

#[derive(Debug)]
pub(super) struct Control {
    times: Vec<Time>,
}

impl Control {
    /// None where nothing is read.
    pub(super) fn new(spec: &ClusterSpec) -> Option<Control> {
        let times = spec.controllers.readings.clone();
        (!times.is_empty()).then_some(Control { times })
    }
}

fn read(replica: usize, lane: usize, point: OperatingPoint, kernel: &mut Kernel<'_>) {
    let (at, usage) = (kernel.now, kernel.usage(replica, lane));
    kernel.readings.push(Reading { at, replica: replica as u32, lane: lane as u32, point, usage });
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        Topics::TICKS.and(Topics::POINTS)
    }

    fn on(&mut self, event: Event<'_>, kernel: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        match event {
            Event::Start => self.times.iter().for_each(|&at| kernel.tick(at, Tick::Read)),
            Event::Tick(Tick::Read) => {
                for replica in 0..kernel.replicas.len() {
                    for lane in 0..kernel.lanes(replica) {
                        let point = kernel.point(replica, lane);
                        read(replica, lane, point, kernel);
                    }
                }
            }
            Event::Repointed { replica, lane, before } => read(replica, lane, before, kernel),
            _ => {}
        }
        Ok(Vec::new())
    }
}
