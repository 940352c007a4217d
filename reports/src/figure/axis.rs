//! Axes: where values lie, and which of them are named.

use crate::format;

/// One axis: a range, a scale and its named values.
#[derive(Clone, PartialEq, Debug)]
pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    /// Smallest value shown.
    pub from: f64,
    /// Largest value shown.
    pub to: f64,
    /// Whether equal distances are equal ratios.
    pub log: bool,
    /// Values with a name.
    pub ticks: Vec<(f64, String)>,
    /// A second row of names below the first: what it says, and where.
    pub below: Option<(String, Vec<(f64, String)>)>,
    /// How a value is written where a pointer reads it.
    pub shown: Shown,
}

/// How a value of an axis is written where a pointer reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// Three digits.
    Number,
    /// A time in the unit that fits; values are seconds.
    Seconds,
    /// In percent; values are shares.
    Share,
    /// In percent; values are percent.
    Percent,
    /// By the name of the nearest tick.
    Name,
    /// As a date and a time of day; values are seconds since the run began, which is so many seconds after 1970.
    Clock(i64),
}

/// The next step of 1, 2, 5, 10, … at or above `step`.
fn nice(step: f64) -> f64 {
    let decade = 10f64.powi(step.log10().floor() as i32);
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * decade >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * decade
}

/// Multiples of `step` from 0 through `to`.
fn multiples(step: f64, to: f64) -> impl Iterator<Item = f64> {
    (0..=(to / step + 1e-9) as u32).map(move |i| f64::from(i) * step)
}

impl Axis {
    /// From 0 to just above `to`, about five named values.
    pub fn linear(label: &str, to: f64) -> Axis {
        let to = if to > 0.0 && to.is_finite() { to } else { 1.0 };
        let step = nice(to / 5.0);
        let top = (to / step - 1e-9).ceil() * step;
        // All with the decimals that the step needs.
        let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
        let named = |v: f64| match decimals {
            0 => format::count(v),
            _ if v == 0.0 => "0".to_owned(),
            _ => format!("{v:.decimals$}"),
        };
        let ticks = multiples(step, top).map(|v| (v, named(v))).collect();
        Axis { label: label.to_owned(), from: 0.0, to: top, log: false, ticks, below: None, shown: Shown::Number }
    }

    /// Names side by side: the first at 0, the next at 1, and so on.
    pub fn names(label: &str, names: &[&str]) -> Axis {
        let ticks = (0u32..).map(f64::from).zip(names.iter().map(|&name| name.to_owned())).collect();
        // Half a place on both sides, so that no name is cut.
        Axis {
            label: label.to_owned(),
            from: -0.5,
            to: names.len() as f64 - 0.5,
            log: false,
            ticks,
            below: None,
            shown: Shown::Name,
        }
    }

    /// Whether it has names side by side: it begins half a place before the first.
    pub fn is_named(&self) -> bool {
        self.from < 0.0
    }

    /// 0 to 100 %; values are shares.
    pub fn share(label: &str) -> Axis {
        let ticks = (0..=4).map(|i| (f64::from(i) * 0.25, format!("{} %", 25 * i))).collect();
        Axis { label: label.to_owned(), from: 0.0, to: 1.0, log: false, ticks, below: None, shown: Shown::Share }
    }

    /// 0 to 100 % or, while all shares are small, to a value just above `most`.
    pub fn share_up_to(label: &str, most: f64) -> Axis {
        if most > 0.4 || most <= 0.0 {
            return Axis::share(label);
        }
        let percent = Axis::linear(label, most * 100.0);
        let ticks = percent.ticks.into_iter().map(|(value, text)| (value / 100.0, format!("{text} %"))).collect();
        Axis { to: percent.to / 100.0, ticks, ..Axis::share(label) }
    }

    /// Simulated time from 0 to `to` [s], named in seconds, minutes, hours or days.
    pub fn time(to: f64) -> Axis {
        let to = if to > 0.0 { to } else { 1.0 };
        let (unit, seconds) = match to {
            t if t <= 180.0 => ("s", 1.0),
            t if t <= 10_800.0 => ("min", 60.0),
            t if t <= 4.0 * 86_400.0 => ("h", 3600.0),
            _ => ("days", 86_400.0),
        };
        let rough = to / seconds / 8.0;
        // Hours and minutes are read in sixes and quarters as well.
        let step = match unit {
            "min" if rough > 10.0 => [15.0, 20.0, 30.0].into_iter().find(|&s| s >= rough).unwrap_or(30.0),
            "h" if rough > 2.0 => [3.0, 6.0, 12.0].into_iter().find(|&s| s >= rough).unwrap_or(12.0),
            _ => nice(rough),
        };
        let ticks = multiples(step, to / seconds).map(|v| (v * seconds, plain(v))).collect();
        Axis {
            label: format!("simulated time [{unit}]"),
            from: 0.0,
            to,
            log: false,
            ticks,
            below: None,
            shown: Shown::Seconds,
        }
    }

    /// Time of day from a moment, so many seconds after 1970, until `to` [s] later. Named are whole seconds, minutes, hours or days of that
    /// clock, and the date where a day begins.
    pub fn clock(zero: i64, to: f64) -> Axis {
        const STEPS: [i64; 20] = [
            1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800,
            604_800,
        ];
        let to = if to > 0.0 { to } else { 1.0 };
        let step = STEPS.into_iter().find(|&step| to <= 9.0 * step as f64).unwrap_or((to / 8.0) as i64);
        let first = zero.div_euclid(step) * step;
        let named = |at: i64| {
            let moment = format::Moment::of(at);
            match step {
                _ if at.rem_euclid(86_400) == 0 => moment.day(),
                s if s < 60 => moment.time(),
                _ => moment.minute(),
            }
        };
        let places = (0..).map(|n| first + n * step).skip_while(|&at| at < zero);
        let places = places.take_while(|&at| (at - zero) as f64 <= to);
        let ticks = places.map(|at| ((at - zero) as f64, named(at))).collect();
        let from = format::Moment::of(zero);
        let label = format!("time of the trace, from {} {}", from.date(), from.minute());
        Axis { label, from: 0.0, to, log: false, ticks, below: None, shown: Shown::Clock(zero) }
    }

    /// Times from `from` to `to` [s] on a logarithmic scale, decades (or 1-2-5 of them) named.
    pub fn log_time(label: &str, from: f64, to: f64) -> Axis {
        let from = from.max(1e-9);
        let to = to.max(from * 1.01);
        let (low, high) = ((from.log10() + 1e-9).floor() as i32, (to.log10() - 1e-9).ceil() as i32);
        let factors: &[f64] = if high - low <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        // Ends at the named value below and above, so that the curve does not touch the frame by chance.
        let all: Vec<f64> =
            (low..=high).flat_map(|decade| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(decade))).collect();
        let below = all.iter().rev().find(|&&v| v <= from * (1.0 + 1e-9)).copied().unwrap_or(from);
        let above = all.iter().find(|&&v| v >= to * (1.0 - 1e-9)).copied().unwrap_or(to);
        let named = (low..=high).flat_map(|decade| factors.iter().map(move |f| f * 10f64.powi(decade)));
        let inside = named.filter(|v| (below * (1.0 - 1e-9)..=above * (1.0 + 1e-9)).contains(v));
        let ticks = inside.map(|v| (v, plain_seconds(v))).collect();
        Axis { label: label.to_owned(), from: below, to: above, log: true, ticks, below: None, shown: Shown::Seconds }
    }

    /// The same axis, whose values a pointer reads in another way.
    #[must_use]
    pub fn shown(self, shown: Shown) -> Axis {
        Axis { shown, ..self }
    }

    /// Where a value lies between the ends: 0 to 1, clamped.
    pub fn place(&self, value: f64) -> f64 {
        let place = if self.log {
            (value.max(f64::MIN_POSITIVE) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        place.clamp(0.0, 1.0)
    }
}

/// A round number without zeros behind: 0.5, 1.5, 30.
fn plain(value: f64) -> String {
    let text = format::number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A round time without decimals: `50 ms`, `2 s`, `1,000 s`.
fn plain_seconds(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v < 0.999e-6 => (v * 1e9, "ns"),
        v if v < 0.999e-3 => (v * 1e6, "µs"),
        v if v < 0.999 => (v * 1e3, "ms"),
        v => (v, "s"),
    };
    format!("{} {unit}", format::count(scaled))
}
