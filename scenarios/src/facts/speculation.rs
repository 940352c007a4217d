//! What a report says of speculative decoding.

use super::text;
use crate::point::Point;
use crate::scenario::{DraftMethod, SpeculationSpec};

/// What drafts, what is accepted, and what of it is charged.
pub(super) fn fact(point: &Point, speculation: &SpeculationSpec) -> String {
    let mean = 1.0 + speculation.acceptance().mean(0);
    let host = speculation.draft_host.0.0 > 0;
    let cost = match (point.scenario.engine.has_roofline(), speculation.method) {
        (false, _) => "what a step costs is given, drafts included",
        (true, DraftMethod::NGram) if host => "drafting takes the host's time alone",
        (true, DraftMethod::NGram) => "the host's time to look drafts up is NOT charged (`draft_host`)",
        (true, _) if host => "drafting is charged by the roofline, and its host time",
        (true, _) => "drafting is charged by the roofline; its host time is NOT (`draft_host`)",
    };
    format!(
        "{}; acceptance is stated, not known: {mean:.2} tokens a sequence and step in the mean, drawn for each; {cost}",
        text(speculation)
    )
}
