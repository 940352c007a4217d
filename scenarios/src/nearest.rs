//! The name a user probably meant.

/// The candidate closest to `name`, if one is close enough to be worth asking about.
pub(crate) fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let folded = fold(name);
    let limit = (folded.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min_by(|&(a, x), &(b, y)| a.cmp(&b).then_with(|| likeness(&folded, y).total_cmp(&likeness(&folded, x))))
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, or the list of what there is.
pub(crate) fn suggestion<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str> + Clone) -> String {
    if let Some(near) = nearest(name, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<String> = candidates.into_iter().map(|name| format!("`{name}`")).collect();
    format!("expected one of {}", all.join(", "))
}

/// Edits between two names; a name that contains the other in full counts as one edit.
fn distance(name: &str, candidate: &str) -> usize {
    let edits = strsim::damerau_levenshtein(name, candidate);
    let contained = name.len() >= 4 && (candidate.contains(name) || name.contains(candidate) && candidate.len() >= 4);
    if contained { edits.min(1) } else { edits }
}

/// Decides between candidates of the same distance: a common beginning counts most.
fn likeness(name: &str, candidate: &str) -> f64 {
    strsim::jaro_winkler(name, &fold(candidate))
}

fn fold(name: &str) -> String {
    name.to_lowercase().replace(['_', ' ', '.'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_only_about_close_names() {
        let names = ["replicas", "tensor_parallel", "router"];
        assert_eq!(nearest("replcas", names), Some("replicas"));
        assert_eq!(nearest("Tensor-Parallel", names), Some("tensor_parallel"));
        assert_eq!(nearest("parallel", names), Some("tensor_parallel"));
        assert_eq!(nearest("gpu", names), None);
        assert_eq!(suggestion("x", ["a1", "b1"]), "expected one of `a1`, `b1`");
    }
}
