//! Operating points of lanes: commands on their way, changes, and what the lanes have done.

use super::Kernel;
use crate::cost::{Cost, OperatingPoint, Slowdown, StepShape, UNIT};
use crate::fleet::controller::Tick;
use crate::fleet::devices::{DeviceSpec, Usage};
use crate::fleet::outcome::RunError;
use crate::time::Span;

/// A command to lanes of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::fleet) struct PointCommand {
    pub(in crate::fleet) replica: usize,
    /// One lane; all without.
    pub(in crate::fleet) lane: Option<usize>,
    pub(in crate::fleet) point: OperatingPoint,
}

impl Kernel<'_> {
    /// How many lanes a replica has.
    pub(in crate::fleet) fn lanes(&self, at: usize) -> usize {
        self.lanes_of(at).len()
    }

    /// The point at which a lane of a replica runs.
    pub(in crate::fleet) fn point(&self, at: usize, lane: usize) -> OperatingPoint {
        self.drives[self.first_drive[at] + lane].point
    }

    /// What a lane of a replica has done by now. Nothing is settled, nothing changes.
    pub(in crate::fleet) fn usage(&self, at: usize, lane: usize) -> Usage {
        self.device(at);
        self.drives[self.first_drive[at] + lane].usage(self.now)
    }

    /// The GPUs of a replica.
    ///
    /// # Panics
    /// Nothing is known of them: a controller that asks must see to it that `ClusterSpec::devices` is filled.
    pub(in crate::fleet) fn device(&self, at: usize) -> &DeviceSpec {
        let device = self.devices.get(self.pools.of(at));
        device.expect("clocks and work need `ClusterSpec::devices`, one for each pool")
    }

    /// A command arrives after `delay`, whatever others do by then.
    pub(in crate::fleet) fn command(&mut self, command: PointCommand, delay: Span) {
        let free = self.commands.iter().position(Option::is_none).unwrap_or(self.commands.len());
        if free == self.commands.len() {
            self.commands.push(None);
        }
        self.commands[free] = Some(command);
        self.tick(self.now + delay, Tick::Point(free as u32));
    }

    /// The command that arrives now.
    pub(in crate::fleet) fn arrived(&mut self, number: u32) -> Option<PointCommand> {
        self.commands[number as usize].take()
    }

    /// A lane runs at another point from now on. Returns the one before if it is another.
    pub(in crate::fleet) fn set_point(
        &mut self,
        at: usize,
        lane: usize,
        point: OperatingPoint,
    ) -> Result<Option<OperatingPoint>, RunError> {
        assert!(lane < self.lanes(at), "replica {at} has {} lanes, not one of number {lane}", self.lanes(at));
        let slowdown = Slowdown::of(point, &self.device(at).clock);
        let number = self.first_drive[at] + lane;
        let before = std::mem::replace(&mut self.drives[number].point, point);
        if before == point {
            return Ok(None);
        }
        self.settle(at)?;
        let drive = &mut self.drives[number];
        let pace = Slowdown { whole: drive.pace.whole, ..slowdown };
        let repriced = drive.reprice(self.now, pace, &self.replicas[at], &mut self.sink);
        repriced.map_err(|stop| self.stop(at, stop))?;
        self.reschedule_all(at);
        Ok(Some(before))
    }

    /// What a step would take on the device of a replica at the clock of its first lane. How lanes divide the SMs does not count.
    pub(in crate::fleet) fn device_time(&mut self, at: usize, shape: &StepShape<'_>) -> Cost {
        let pace = Slowdown { whole: UNIT, ..self.drives[self.first_drive[at]].pace };
        let cost = self.cost_of(at);
        if pace == Slowdown::NONE { cost.step(shape).device } else { pace.reprice(&cost.parts(shape)) }
    }
}
