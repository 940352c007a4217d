//! A week of load: a rise and a fall each day, and quieter weekends.
//!
//! ```text
//! rate(t) = peak · day(t) · (weekend or 1)        day(t) = valley + (1 - valley) · (1 + cos(2π (t - peak_hour) / 24 h)) / 2
//! ```
//!
//! The shape of an interactive service's day (Azure's public traces of conversations: a valley of about a third of the peak).

use overbook_sim::time::{NS_PER_S, Span};
use overbook_sim::units::Rate;
use serde::{Deserialize, Serialize};

/// A rate that follows the hour and the day of the week; it starts on a Monday at midnight.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeekSpec {
    /// Mean requests per second at the highest hour of a working day.
    pub peak: Rate,
    /// Rate of the lowest hour ÷ that of the highest of the same day.
    #[serde(default = "third")]
    pub valley: f64,
    /// Rate at weekends ÷ rate on working days.
    #[serde(default = "one")]
    pub weekend: f64,
    /// Hour of the highest rate, 0 to 24.
    #[serde(default = "afternoon")]
    pub peak_hour: f64,
    /// Shape of the gaps, 1 is Poisson.
    #[serde(default = "one")]
    pub shape: f64,
}

fn third() -> f64 {
    1.0 / 3.0
}

fn one() -> f64 {
    1.0
}

fn afternoon() -> f64 {
    15.0
}

/// Windows of constant rate: short against the day.
pub(crate) const WINDOW: Span = Span(300 * NS_PER_S);

const WINDOWS_OF_DAY: u32 = 288;

impl WeekSpec {
    /// What is wrong, as (key, message).
    pub(crate) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut share = |key, value: f64| {
            if !(0.0..=1.0).contains(&value) {
                faults.push((key, format!("is {value}; it must be from 0 to 1")));
            }
        };
        share("valley", self.valley);
        share("weekend", self.weekend);
        if !(0.0..=24.0).contains(&self.peak_hour) {
            faults.push(("peak_hour", format!("is {}; it must be from 0 to 24", self.peak_hour)));
        }
        faults
    }

    /// The rate in each window of a week [requests/s], from Monday at midnight.
    pub(crate) fn rates(&self) -> Vec<f64> {
        let window = |number: u32| {
            let hour = (f64::from(number % WINDOWS_OF_DAY) + 0.5) * 24.0 / f64::from(WINDOWS_OF_DAY);
            let turn = ((hour - self.peak_hour) / 24.0 * std::f64::consts::TAU).cos();
            let day = self.valley + (1.0 - self.valley) * f64::midpoint(1.0, turn);
            self.peak.0 * day * if number / WINDOWS_OF_DAY < 5 { 1.0 } else { self.weekend }
        };
        (0..7 * WINDOWS_OF_DAY).map(window).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_rises_falls_and_rests() {
        let week = WeekSpec { peak: Rate(2.0), valley: 0.25, weekend: 0.5, peak_hour: 15.0, shape: 1.0 };
        let rates = week.rates();
        let at = |day: usize, hour: usize| rates[day * 288 + hour * 12];
        assert!((at(0, 15) - 2.0).abs() < 1e-3 && (at(4, 15) - 2.0).abs() < 1e-3);
        assert!((at(2, 3) - 0.5).abs() < 1e-3 && (at(6, 15) - 1.0).abs() < 1e-3);
        assert!(week.faults().is_empty());
        assert_eq!(WeekSpec { valley: 1.5, peak_hour: 25.0, ..week }.faults().len(), 2);
    }
}
