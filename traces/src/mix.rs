//! Several classes of requests, each with lengths of its own.

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
}

/// Classes accepted.
const CLASSES_MAX: usize = 4096;

/// Everything that is wrong with the values, as (path below `prefix`, message).
pub(crate) fn problems(classes: &[ClassLengths], prefix: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !(1..=CLASSES_MAX).contains(&classes.len()) {
        problems.push((prefix.to_owned(), format!("name 1 to {CLASSES_MAX} classes")));
    }
    for (at, ClassLengths { class, share, prompt, output }) in classes.iter().enumerate() {
        let path = format!("{prefix}.{at}");
        if !(share.is_finite() && *share > 0.0) {
            problems.push((format!("{path}.share"), format!("is {share}; it must be above 0")));
        }
        if classes[..at].iter().any(|other| other.class == *class) {
            problems.push((format!("{path}.class"), format!("`{class}` is there already; a class stands once")));
        }
        problems.extend(prompt.problems(&format!("{path}.prompt")));
        problems.extend(output.problems(&format!("{path}.output")));
    }
    problems
}
