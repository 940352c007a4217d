//! How much load keeps the promise.

use super::Study;
use super::chart::line_of;
use crate::axes::{number_before, unit_after};

/// A point on its line: where it lies on the first axis, as a number and as written, and whether it keeps the promise.
type Place<'s> = (f64, &'s str, bool);

impl Study {
    /// Along the first axis, if it is numeric, and for each combination of the others: the highest value up to which every
    /// point keeps the promise; `None` if the lowest breaks it. Empty where nothing is promised.
    pub fn kept(&self) -> Vec<(String, Option<String>)> {
        let first: Vec<&str> =
            self.points.iter().filter_map(|point| point.coordinates.first()).map(String::as_str).collect();
        let alike = first.iter().all(|place| unit_after(place) == unit_after(first[0]));
        let varied = first.iter().any(|place| *place != first[0]);
        if !alike || !varied || self.points.iter().any(|point| point.kept.is_none()) {
            return Vec::new();
        }
        let mut lines: Vec<(String, Vec<Place<'_>>)> = Vec::new();
        for point in &self.points {
            let (place, kept) = (point.coordinates[0].as_str(), point.kept == Some(true));
            let Some(number) = number_before(place) else { return Vec::new() };
            let label = line_of(self, point, 0);
            let at = lines.iter().position(|(line, _)| *line == label).unwrap_or_else(|| {
                lines.push((label, Vec::new()));
                lines.len() - 1
            });
            lines[at].1.push((number, place, kept));
        }
        let highest = |mut points: Vec<Place<'_>>| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points.into_iter().take_while(|point| point.2).last().map(|(_, place, _)| place.to_owned())
        };
        lines.into_iter().map(|(line, points)| (line, highest(points))).collect()
    }
}
