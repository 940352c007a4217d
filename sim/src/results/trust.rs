//! How far the figures of a run are to be trusted: by how many measured runs of real engines, and where it leaves them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a run stands against the measured runs that are comparable with it: those of its scheduler on its kind of GPU.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Trust {
    /// Inside of what was measured, beyond it, or nothing comparable was measured.
    pub standing: Standing,
    /// The comparable runs, all of them; none stand behind a prior.
    pub runs: Option<MeasuredRuns>,
}

/// On which side of the measured runs a run lies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Inside what comparable measured runs span, and most of them were met.
    Validated,
    /// Outside: by what, in words.
    Extrapolated(Vec<String>),
    /// No measured run is comparable: the figures are those of the model alone. Why, in words.
    Prior(String),
}

/// Measured runs that were simulated, and how far off the simulation was.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct MeasuredRuns {
    /// Runs whose error is at most `within`.
    pub confirmed: u32,
    /// All comparable runs.
    pub of: u32,
    /// Largest error of a confirmed run, as a share.
    pub within: f64,
    /// Median error of all comparable runs, confirmed or not, as a share. A run's error is the median over its main figures.
    pub error: f64,
}

impl Trust {
    /// Nothing comparable was measured.
    pub fn prior(why: impl Into<String>) -> Trust {
        Trust { standing: Standing::Prior(why.into()), runs: None }
    }
}

impl Standing {
    /// `validated`, `extrapolated` or `prior`.
    pub fn name(&self) -> &'static str {
        match self {
            Standing::Validated => "validated",
            Standing::Extrapolated(_) => "extrapolated",
            Standing::Prior(_) => "prior",
        }
    }

    /// By what a run is extrapolated, or why there is only a prior; empty if it is validated.
    pub fn why(&self) -> String {
        match self {
            Standing::Validated => String::new(),
            Standing::Extrapolated(by) => by.join("; "),
            Standing::Prior(why) => why.clone(),
        }
    }
}

/// One line: `validated: 26 of 30 runs within 10 %, median error 3.9 %`.
impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.standing.name())?;
        match &self.standing {
            Standing::Validated => {}
            Standing::Extrapolated(by) => write!(f, " by {}", by.join("; "))?,
            Standing::Prior(why) => return write!(f, ": {why}"),
        }
        let Some(MeasuredRuns { confirmed, of, within, error }) = self.runs else { return Ok(()) };
        let (within, error) = (within * 100.0, error * 100.0);
        write!(f, ": {confirmed} of {of} measured runs within {within:.0} %, median error {error:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_how_many_and_how_far() {
        let runs = Some(MeasuredRuns { confirmed: 26, of: 30, within: 0.1, error: 0.039 });
        let told = |standing| Trust { standing, runs }.to_string();
        assert_eq!(told(Standing::Validated), "validated: 26 of 30 measured runs within 10 %, median error 3.9 %");
        assert_eq!(
            told(Standing::Extrapolated(vec!["a".into(), "b".into()])),
            "extrapolated by a; b: 26 of 30 measured runs within 10 %, median error 3.9 %"
        );
        assert_eq!(Trust::prior("nothing").to_string(), "prior: nothing");
    }
}
