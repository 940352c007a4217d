//! Keys that stand elsewhere now: older scenarios read as before, with a note.

use std::borrow::Cow;

use crate::yaml::{Node, NodeKind, Span};

/// What stood beside the replicas of a fleet and is one of its controllers now.
const CONTROLLERS: [&str; 6] = ["disaggregation", "early_rejection", "router_view", "failures", "faults", "autoscale"];

/// The path at which a setting stands now.
pub(crate) fn canonical(path: &str) -> Cow<'_, str> {
    let below = path.split_once('.').filter(|(root, _)| root.trim() == "fleet").map(|(_, rest)| rest);
    let moved = below.filter(|rest| {
        let key = rest.split('.').next().unwrap_or(rest);
        CONTROLLERS.contains(&key.trim())
    });
    moved.map_or(Cow::Borrowed(path), |rest| Cow::Owned(format!("fleet.controllers.{rest}")))
}

/// What a reader of the scenario should know, if the path is an old one.
pub(crate) fn note(path: &str) -> Option<String> {
    let now = canonical(path);
    (now != path).then(|| format!("`{path}` is `{now}` now; the old key is still read"))
}

/// Moves keys to where they stand now. Returns notes.
///
/// # Errors
/// A setting stands at its old and its new place: the place of the old one, and a message.
pub(crate) fn move_keys(tree: &mut Node) -> Result<Vec<String>, (Span, String)> {
    let mut notes = Vec::new();
    // Once for each key, in a fixed order.
    for key in CONTROLLERS {
        let Some(fleet) = tree.value_mut("fleet") else { return Ok(notes) };
        if !matches!(fleet.kind, NodeKind::Map(_)) {
            return Ok(notes);
        }
        let Some(old) = fleet.take(key) else { continue };
        let (before, now) = (format!("fleet.{key}"), format!("fleet.controllers.{key}"));
        if fleet.entry("controllers").is_some_and(|controllers| controllers.value.entry(key).is_some()) {
            return Err((old.key_span, format!("`{before}` and `{now}` are the same setting; leave one of them out")));
        }
        notes.extend(note(&before));
        tree.set(&now, old.value, old.key_span).map_err(|error| (old.key_span, error.to_string()))?;
    }
    Ok(notes)
}
