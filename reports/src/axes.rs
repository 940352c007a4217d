//! Axes of studies: their names for people, and their values as numbers where they are quantities.

use std::str::FromStr;

use overbook_sim::units::{Bandwidth, Bytes, Duration, Flops, Rate, Watts};

/// Settings that people call by another name than the scenario's, by the end of their path: name, and unit where the value has none.
const NAMES: [(&str, &str, &str); 24] = [
    ("fleet.replicas", "Replicas", ""),
    ("tensor_parallel", "GPUs per copy of the model", ""),
    ("pipeline_parallel", "Pipeline stages", ""),
    ("gpu", "GPU", ""),
    ("model", "Model", ""),
    ("scheduler", "Scheduler", ""),
    ("router", "Router", ""),
    ("seed", "Seed", ""),
    ("study", "Study", ""),
    ("load", "Load", ""),
    ("rate", "Rate of requests", ""),
    ("engine.weights", "Number format of weights", ""),
    ("engine.kv", "Number format of KV", ""),
    ("engine.kv_memory", "KV memory", ""),
    ("max_model_len", "Longest context", "tokens"),
    ("max_num_seqs", "Sequences at once, at most", ""),
    ("max_num_batched_tokens", "Tokens of a step, at most", ""),
    ("eviction", "Eviction policy", ""),
    ("retention.tokens", "KV budget of a request", "tokens"),
    ("clients", "Clients", ""),
    ("requests", "Requests", ""),
    ("prompt", "Prompt", "tokens"),
    ("output", "Output", "tokens"),
    ("power.policy", "Power policy", ""),
];

/// Last parts of paths that say little without the part before.
const GENERAL: [&str; 16] = [
    "size", "factor", "share", "interval", "count", "max", "min", "limit", "bound", "kind", "policy", "name", "budget",
    "at", "value", "scale",
];

/// The words of a part of a path, with abbreviations as they are written.
fn words(part: &str) -> String {
    let word = |word: &str| match word {
        "kv" | "gpu" | "ttft" | "tpot" | "itl" | "slo" | "pue" | "id" => word.to_uppercase(),
        "gpus" => "GPUs".to_owned(),
        _ => word.to_owned(),
    };
    part.split(['_', '-']).map(word).collect::<Vec<_>>().join(" ")
}

fn ends_with(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// What a setting is called, and the unit of its values where they have none: `fleet.replicas` is "Replicas".
fn name_of(path: &str) -> (String, &'static str) {
    if let Some((_, name, unit)) = NAMES.iter().find(|(end, ..)| ends_with(path, end)) {
        return ((*name).to_owned(), unit);
    }
    let parts: Vec<&str> = path.split('.').collect();
    let last = parts.last().copied().unwrap_or(path);
    let name = match parts.as_slice() {
        [.., before, last] if GENERAL.contains(last) => format!("{} {}", words(before), words(last)),
        _ => words(last),
    };
    let mut chars = name.chars();
    let first = chars.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    (first + chars.as_str(), "")
}

/// Names of the axes for people; two that would be called the same are told apart by their paths.
pub(crate) fn names(paths: &[String]) -> Vec<String> {
    let names: Vec<String> = paths.iter().map(|path| name_of(path).0).collect();
    let twice = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
    names
        .iter()
        .zip(paths)
        .map(|(name, path)| if twice(name) { format!("{name} ({path})") } else { name.clone() })
        .collect()
}

/// An axis whose values are quantities: its numbers, and their unit as the scenario writes it (`/s`, `GB`); empty without one.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Quantities {
    pub(crate) numbers: Vec<f64>,
    pub(crate) unit: String,
}

impl Quantities {
    /// The values, if all are plain numbers, or all are quantities of one kind: in their common unit, else in the base unit.
    pub(crate) fn of<'v>(values: impl Iterator<Item = &'v str> + Clone) -> Option<Quantities> {
        let first = values.clone().next()?;
        let unit = unit_after(first);
        let known = unit.is_empty() || is_unit(first);
        if known && values.clone().all(|value| unit_after(value) == unit) {
            let numbers = values.map(number_before).collect::<Option<_>>()?;
            return Some(Quantities { numbers, unit: unit.to_owned() });
        }
        in_base_units(&values).map(|(numbers, unit)| Quantities { numbers, unit: unit.to_owned() })
    }

    /// What stands at the axis of a figure: `Rate of requests [requests/s]`.
    pub(crate) fn label(&self, name: &str, path: &str) -> String {
        let unit = match self.unit.as_str() {
            "" => name_of(path).1,
            "/s" if name == "Rate of requests" || name == "Load" => "requests/s",
            "x" => "times the trace's",
            unit => unit,
        };
        if unit.is_empty() { name.to_owned() } else { format!("{name} [{unit}]") }
    }
}

/// The head of a column of an axis, and its cells: numbers where all values are quantities, with the unit in the head: `workload.rate [/s]`.
pub(crate) fn column<'v>(path: &str, values: impl Iterator<Item = &'v str> + Clone) -> (String, Option<Vec<f64>>) {
    match Quantities::of(values) {
        Some(Quantities { numbers, unit }) if unit.is_empty() => (path.to_owned(), Some(numbers)),
        Some(Quantities { numbers, unit }) => (format!("{path} [{unit}]"), Some(numbers)),
        None => (path.to_owned(), None),
    }
}

/// Path and unit of a head that [`column`] has made.
pub(crate) fn path_and_unit(head: &str) -> (&str, &str) {
    head.strip_suffix(']').and_then(|head| head.rsplit_once(" [")).unwrap_or((head, ""))
}

fn number_length(value: &str) -> usize {
    let bytes = value.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(0);
    if end > 0 && bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    // `2e-3` is a number, `2e` is none.
    if end > 0 && matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = bytes.get(end + 1 + sign..).map_or(0, |_| digits(end + 1 + sign));
        end += if exponent > 0 { 1 + sign + exponent } else { 0 };
    }
    end
}

/// The number at the start of a value: 4 of `4/s`. `None` if there is none.
pub(crate) fn number_before(value: &str) -> Option<f64> {
    value[..number_length(value)].parse().ok().filter(|number: &f64| number.is_finite())
}

/// What follows the number: `/s` of `4/s`.
pub(crate) fn unit_after(value: &str) -> &str {
    value[number_length(value)..].trim_start()
}

/// Whether a value is a quantity of some kind, or a multiple (`2x`).
fn is_unit(value: &str) -> bool {
    unit_after(value) == "x" || in_base_units(&std::iter::once(value)).is_some()
}

fn in_base_units<'v>(values: &(impl Iterator<Item = &'v str> + Clone)) -> Option<(Vec<f64>, &'static str)> {
    fn all<'v, Q: FromStr>(values: impl Iterator<Item = &'v str>, number: impl Fn(Q) -> f64) -> Option<Vec<f64>> {
        values.map(|value| value.parse().ok().map(&number)).collect()
    }
    let of = || values.clone();
    all(of(), |rate: Rate| rate.0)
        .map(|numbers| (numbers, "/s"))
        .or_else(|| all(of(), |time: Duration| time.0.as_secs_f64()).map(|numbers| (numbers, "s")))
        .or_else(|| all(of(), |size: Bytes| size.0 as f64).map(|numbers| (numbers, "B")))
        .or_else(|| all(of(), |speed: Bandwidth| speed.0).map(|numbers| (numbers, "B/s")))
        .or_else(|| all(of(), |power: Watts| power.0).map(|numbers| (numbers, "W")))
        .or_else(|| all(of(), |speed: Flops| speed.0).map(|numbers| (numbers, "FLOP/s")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantities(values: &[&str]) -> Option<(Vec<f64>, String)> {
        Quantities::of(values.iter().copied()).map(|found| (found.numbers, found.unit))
    }

    #[test]
    fn quantities_are_numbers_in_their_common_unit() {
        let some = |numbers: &[f64], unit: &str| Some((numbers.to_vec(), unit.to_owned()));
        assert_eq!(quantities(&["2/s", "0.5/s"]), some(&[2.0, 0.5], "/s"));
        assert_eq!(quantities(&["250ms", "1s"]), some(&[0.25, 1.0], "s"));
        assert_eq!(quantities(&["8GB", "64GB"]), some(&[8.0, 64.0], "GB"));
        assert_eq!(quantities(&["1", "4"]), some(&[1.0, 4.0], ""));
        assert_eq!(quantities(&["1x", "2x"]), some(&[1.0, 2.0], "x"));
        for words in
            [&["h100", "h200"][..], &["4/s", "fast"], &["8b", "70b"], &["1", "2/s"], &["inf", "1"], &["true"], &[]]
        {
            assert_eq!(quantities(words), None, "{words:?}");
        }
    }

    #[test]
    fn the_head_of_a_column_has_the_unit_and_gives_it_back() {
        let (head, numbers) = column("workload.rate", ["2/s", "4/s"].into_iter());
        assert_eq!((head.as_str(), numbers), ("workload.rate [/s]", Some(vec![2.0, 4.0])));
        assert_eq!(path_and_unit(&head), ("workload.rate", "/s"));
        assert_eq!(path_and_unit("fleet.replicas"), ("fleet.replicas", ""));
        assert_eq!(column("router", ["a", "b"].into_iter()), ("router".to_owned(), None));
    }

    #[test]
    fn axes_are_called_as_people_call_them() {
        let of = |paths: &[&str]| names(&paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["fleet.replicas", "workload.trace.rate"]), ["Replicas", "Rate of requests"]);
        assert_eq!(of(&["a.kv_blocks", "tiers.size", "b.burst-length"]), ["KV blocks", "Tiers size", "Burst length"]);
        assert_eq!(of(&["a.prompt", "b.prompt"]), ["Prompt (a.prompt)", "Prompt (b.prompt)"]);
        let label = |values: &[&str], path: &str| {
            let found = Quantities::of(values.iter().copied()).expect("quantities");
            found.label(&name_of(path).0, path)
        };
        assert_eq!(label(&["2/s"], "workload.rate"), "Rate of requests [requests/s]");
        assert_eq!(label(&["2"], "fleet.replicas"), "Replicas");
        assert_eq!(label(&["4096"], "engine.max_model_len"), "Longest context [tokens]");
    }
}
