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

/// `did you mean …?`, or the list of what there is. A model is never mistaken for one of another size: where no name is within an
/// edit, all of its family and size are named.
pub(crate) fn suggestion<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str> + Clone) -> String {
    let size = size(name);
    let of_size: Vec<&str> =
        candidates.clone().into_iter().filter(|other| size.is_none() || self::size(other) == size).collect();
    let near = nearest(name, of_size.iter().copied());
    let is_family = |other: &&str| size.is_some() && family(other) == family(name);
    let alike: Vec<&str> = of_size.iter().copied().filter(is_family).collect();
    let told = match near {
        Some(near) if alike.len() < 2 || distance(&fold(name), &fold(near)) < 2 => vec![near],
        _ => alike,
    };
    match told.split_last() {
        Some((last, [])) => format!("did you mean `{last}`?"),
        Some((last, before)) => format!("did you mean `{}` or `{last}`?", before.join("`, `")),
        None => {
            let all: Vec<String> = candidates.into_iter().map(|name| format!("`{name}`")).collect();
            format!("expected one of {}", all.join(", "))
        }
    }
}

/// The size in the name of a model: `70b` of `llama-3.1-70b`, `8x7b` of `mixtral-8x7b`, also where nothing stands between it and the
/// family, as in `llama70b`.
fn size(name: &str) -> Option<String> {
    let sizes = |glued: bool| {
        let size = move |part: &str| {
            let number = part.strip_suffix(['b', 'm'])?;
            let before = number.trim_end_matches(|c: char| c.is_ascii_digit() || ".x".contains(c));
            let size = part[before.len()..].trim_start_matches(['x', '.']);
            let letters = before.chars().all(|c| c.is_ascii_alphabetic()) && before.len() > 2;
            (size.len() > 1 && (before.is_empty() || glued && letters)).then(|| size.to_owned())
        };
        name.to_lowercase().split(['-', '_', ' ', ':', '/']).find_map(size)
    };
    sizes(false).or_else(|| sizes(true))
}

/// The letters that the name of a model begins with: `qwen` of `Qwen2.5-7B`.
fn family(name: &str) -> String {
    name.to_lowercase().chars().take_while(char::is_ascii_alphabetic).collect()
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

    #[test]
    fn a_model_is_not_mistaken_for_one_of_another_size() {
        let models =
            ["llama-2-70b", "llama-3-70b", "llama-3.1-8b", "llama-7b", "mixtral-8x7b", "qwen3-30b-a3b", "qwen3-32b"];
        for (name, told) in [
            ("llama-70b", "did you mean `llama-2-70b` or `llama-3-70b`?"),
            ("llama70b", "did you mean `llama-2-70b` or `llama-3-70b`?"),
            ("llama8b", "did you mean `llama-3.1-8b`?"),
            ("Mixtral8x7B", "did you mean `mixtral-8x7b`?"),
            ("Llama3-70B", "did you mean `llama-3-70b`?"),
            ("llama-3.1-8B-instruct", "did you mean `llama-3.1-8b`?"),
            ("llama-8b", "did you mean `llama-3.1-8b`?"),
            ("qwen-32b", "did you mean `qwen3-32b`?"),
            ("qwen3-30b", "did you mean `qwen3-30b-a3b`?"),
            ("mixtral-8x7", "did you mean `mixtral-8x7b`?"),
        ] {
            assert_eq!(suggestion(name, models), told, "{name}");
        }
        assert!(suggestion("mistral-24b", models).starts_with("expected one of"), "none has this size");
        assert!(suggestion("llama13b", models).starts_with("expected one of"));
        assert!(suggestion("llama-13b", models).starts_with("expected one of"));
    }
}
