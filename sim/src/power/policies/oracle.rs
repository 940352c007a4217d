//! POLCA's ladder without its delays: what waiting for telemetry and commands costs is the difference to it.

use super::polca::PolcaSpec;
use super::{ClockRange, Delays, PowerPolicy, PowerPolicySettings};
use crate::check::Check;
use crate::time::Span;

/// The settings of POLCA.
#[derive(Debug)]
pub(super) struct Oracle(pub(super) PolcaSpec);

impl PowerPolicySettings for Oracle {
    fn check(&self, check: &mut Check<'_>, clocks: ClockRange) {
        self.0.check(check, clocks);
    }

    fn build(&self, clocks: ClockRange, delays: Delays) -> Box<dyn PowerPolicy> {
        self.0.build(clocks, delays)
    }

    /// Only that power is read once a period remains.
    fn delays(&self, row: Delays) -> Delays {
        Delays { telemetry: Span::ZERO, command: Span::ZERO, brake: Span::ZERO, ..row }
    }
}
