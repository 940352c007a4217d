//! A place where servers stand.

use overbook_sim::hardware::gpu::Origin;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Price and carbon of the power at a place. A row names one with `fleet.row.site`; what `economics` states outranks it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteSpec {
    /// Name, for messages and reports.
    pub name: String,
    /// Power of the facility ÷ power of its servers.
    pub pue: SiteFigure,
    /// Carbon dioxide per energy drawn from the grid [g/kWh].
    pub carbon_g_per_kwh: SiteFigure,
    /// Price of energy [USD/kWh].
    pub price_usd_per_kwh: SiteFigure,
}

/// A number with its source.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteFigure {
    /// The number.
    pub value: f64,
    /// Where it comes from.
    pub origin: Origin,
}
