//! No policy: full clocks, and the brake behind them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClockRange, Clocks, Delays, PowerPolicy, PowerPolicySettings, RowReading};
use crate::time::Time;

/// No settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoneSpec {}

impl PowerPolicySettings for NoneSpec {
    fn build(&self, clocks: ClockRange, _: Delays) -> Box<dyn PowerPolicy> {
        Box::new(Always(Clocks { low: clocks.max, high: clocks.max }))
    }
}

/// The same clocks whatever the meter says.
#[derive(Debug)]
pub(super) struct Always(pub(super) Clocks);

impl PowerPolicy for Always {
    fn hear(&mut self, _: RowReading, _: Time) -> Clocks {
        self.0
    }
}
