//! Several classes of requests, each with lengths of its own.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::dist::LengthDist;
use crate::error::Problem;

/// A class of requests and its part of the whole.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassLengths {
    /// Name of the class.
    pub class: String,
    /// Its share of the requests, relative to the sum of all shares.
    pub share: f64,
    /// Prompt length.
    pub prompt: LengthDist,
    /// Output length.
    pub output: LengthDist,
    /// Priority of its requests: smaller is more urgent (vLLM's convention). From 1 on it is low where power counts priorities.
    #[serde(default, skip_serializing_if = "is_plain")]
    pub priority: i32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_plain(priority: &i32) -> bool {
    *priority == 0
}

/// Classes accepted.
const CLASSES_MAX: usize = 4096;
/// Points of the tables of all classes together: some 200 MB. A curve has 2,073, a Zipf distribution two for each length.
const POINTS_MAX: usize = 1 << 23;

/// Everything that is wrong with the values, as (path below `prefix`, message).
pub(crate) fn problems(classes: &[ClassLengths], prefix: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !(1..=CLASSES_MAX).contains(&classes.len()) {
        problems.push((prefix.to_owned(), format!("name 1 to {CLASSES_MAX} classes")));
    }
    let points: usize = classes.iter().map(|class| class.prompt.size() + class.output.size()).sum();
    if points > POINTS_MAX {
        let what = "the tables of all classes together have";
        let help = "name fewer classes, or lower the `max` of `zipf`";
        problems
            .push((prefix.to_owned(), format!("is too much: {what} {points} points of at most {POINTS_MAX}; {help}")));
    }
    let mut names = BTreeSet::new();
    for (at, ClassLengths { class, share, prompt, output, priority: _ }) in classes.iter().enumerate() {
        let path = format!("{prefix}.{at}");
        // Their sum must be a number, too.
        if !(f64::MIN_POSITIVE..=1e12).contains(share) {
            problems.push((format!("{path}.share"), format!("is {share}; it must be above 0, and at most 1e12")));
        }
        if !names.insert(class) {
            problems.push((format!("{path}.class"), format!("`{class}` is there already; a class stands once")));
        }
        problems.extend(prompt.problems(&format!("{path}.prompt")));
        problems.extend(output.problems(&format!("{path}.output")));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_counted_before_they_are_made() {
        let dists = [
            LengthDist::Fixed(7),
            LengthDist::Quantiles(vec![(0.0, 1), (0.5, 3), (1.0, 9)]),
            LengthDist::LogNormal { median: 100, sigma: 1.0, max: 900 },
            LengthDist::Zipf { exponent: 1.1, max: 1023 },
            LengthDist::ParetoMixture {
                median: 9,
                sigma: 1.0,
                tail_share: 0.1,
                tail_min: 50,
                tail_alpha: 2.0,
                max: 900,
            },
        ];
        for dist in dists {
            assert_eq!(dist.points().len(), dist.size(), "{dist:?}");
        }
        let class = |number: usize| ClassLengths {
            class: format!("c{number}"),
            share: 1.0,
            prompt: LengthDist::Zipf { exponent: 1.0, max: 131_072 },
            output: LengthDist::Fixed(1),
            priority: 0,
        };
        let told = |count: usize| problems(&(0..count).map(class).collect::<Vec<_>>(), "classes");
        assert!(told(31).is_empty());
        let [(path, message)] = &told(32)[..] else { panic!("one problem") };
        assert!(path == "classes" && message.contains("8388672 points of at most 8388608"), "{message}");
    }
}
