//! Which GPUs of an answer to reserve, and which to take on demand.

use serde::Serialize;

use super::Plan;
use crate::figure::{Axis, Figure, Limit, Series, Style};
use crate::format::{Unit, count};

/// The cheapest split of a fleet into GPUs that are reserved for all hours and GPUs on demand, from what each hour of its requests needs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Split {
    /// Hours of the requests.
    pub hours: u64,
    /// Hours in which, by themselves, the whole answer misses a promise: they take all of it.
    pub hours_missed: u64,
    /// The replicas that are alike: one entry, or one for prompts and one for decodes.
    pub sides: Vec<SplitSide>,
    /// Dollars of a month of 730 such hours, with the split.
    pub usd_per_month: f64,
    /// The same with all GPUs reserved.
    pub usd_per_month_reserved: f64,
    /// The same with each hour's GPUs taken on demand.
    pub usd_per_month_on_demand: f64,
}

/// GPUs of one kind, reserved and on demand.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SplitSide {
    /// What they do: empty, `for prompts` or `that decode`.
    pub role: String,
    /// The GPU.
    pub gpu: String,
    /// GPUs that are reserved.
    pub reserved: u32,
    /// GPUs at most that are taken on demand beside them.
    pub on_demand: u32,
    /// Share of the hours in which any of those are taken.
    pub on_demand_hours: f64,
    /// Dollars per hour of a reserved GPU.
    pub usd_reserved: f64,
    /// Dollars per hour of a GPU on demand.
    pub usd_on_demand: f64,
    /// GPUs that each hour needs.
    pub needed: Vec<u32>,
}

impl SplitSide {
    fn told(&self) -> String {
        let role = if self.role.is_empty() { String::new() } else { format!(" {}", self.role) };
        if self.on_demand == 0 {
            return format!("{} reserved{role}", self.reserved);
        }
        let share = Unit::Share.short(self.on_demand_hours);
        format!("{} reserved + {} on demand for {share} of the hours{role}", self.reserved, self.on_demand)
    }
}

impl Split {
    /// `Cheapest as 12 reserved + 4 on demand for 31 % of the hours: $20,000 a month, …`.
    pub fn sentence(&self) -> String {
        let sides: Vec<String> = self.sides.iter().map(SplitSide::told).collect();
        format!(
            "Cheapest as {}: ${} a month by the {} hours of the requests; all reserved ${}, all on demand ${}.",
            sides.join(" and "),
            count(self.usd_per_month),
            count(self.hours as f64),
            count(self.usd_per_month_reserved),
            count(self.usd_per_month_on_demand)
        )
    }

    /// What it stands on.
    pub(super) fn note(&self) -> String {
        let missed = match self.hours_missed {
            0 => String::new(),
            1 => " In one hour, by itself, even the whole answer misses a promise: it takes all of it.".to_owned(),
            hours => format!(
                " In {hours} hours, by themselves, even the whole answer misses a promise: they take all of it."
            ),
        };
        format!(
            "Each hour's requests were simulated by themselves on fleets of the answer's shape, from empty, down to the fewest replicas that keep the \
             promises. GPUs on demand are paid by the hour, and are taken to be there and warm when their hour begins.{missed}"
        )
    }
}

/// GPUs that each hour needs, and those that are reserved.
pub(super) fn figure(plan: &Plan) -> Option<Figure> {
    let split = plan.split.as_ref().filter(|split| split.hours > 1)?;
    let mut series = Vec::new();
    let mut limits = Vec::new();
    for (at, side) in split.sides.iter().enumerate() {
        let role = if side.role.is_empty() { "needed".to_owned() } else { format!("needed {}", side.role) };
        let mut points: Vec<(f64, f64)> =
            side.needed.iter().enumerate().map(|(hour, gpus)| (hour as f64, f64::from(*gpus))).collect();
        points.extend(side.needed.last().map(|gpus| (split.hours as f64, f64::from(*gpus))));
        series.push(Series { label: role, color: at as u8 + 1, style: Style::Steps, points });
        let told = if side.role.is_empty() { String::new() } else { format!(" {}", side.role) };
        limits.push(Limit { y: f64::from(side.reserved), label: format!("reserved{told}: {}", side.reserved) });
    }
    let most = split.sides.iter().flat_map(|side| &side.needed).copied().max().unwrap_or(1);
    Some(Figure {
        id: "hours".to_owned(),
        title: "GPUs that each hour needs".to_owned(),
        description: split.sentence(),
        x: Axis::linear("hour of the requests", split.hours as f64),
        y: Axis::linear("GPUs", f64::from(most)),
        series,
        marks: Vec::new(),
        rug: None,
        shades: None,
        limits,
        notes: Vec::new(),
    })
}
