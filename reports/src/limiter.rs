//! What the GPUs' own limiters did: a line on the terminal, an entry of `summary.json`. Empty where they are not simulated.

use overbook_sim::results::summary::Summary;

use crate::format::{Unit, number};
use crate::json::Json;

/// The line on the terminal: (heading, text).
pub(crate) fn line(summary: &Summary) -> Option<(&'static str, String)> {
    let figures = summary.limiter.as_deref()?;
    let clock = figures.mean_clock().map_or(String::new(), |mhz| format!(", clock {mhz:.0} MHz while it runs"));
    let limited = figures.limited_share().map_or(String::new(), |share| {
        format!(", held down by its limiter in {} of that time", Unit::Share.show(share))
    });
    let (mean, peak) = (number(figures.mean_watts()), number(figures.peak.as_watts_f64()));
    Some(("GPU power", format!("mean {mean} W a GPU, highest {peak} W{clock}{limited}")))
}

/// The entry of `summary.json`.
pub(crate) fn entry(summary: &Summary) -> Option<Json> {
    let figures = summary.limiter.as_deref()?;
    let float = |value: Option<f64>| value.map_or(Json::Null, Json::Float);
    let entries = [
        ("mean_w", Some(figures.mean_watts())),
        ("peak_w", Some(figures.peak.as_watts_f64())),
        ("clock_mhz", figures.mean_clock()),
        ("limited", figures.limited_share()),
    ];
    Some(Json::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), float(value))).collect()))
}
